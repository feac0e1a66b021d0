package main

import (
	"testing"

	"kerbpass/internal/settings"
)

// A script counts unless the upstream comes from a stronger place; what a policy
// presets is weaker than the file, what it locks stronger than all.
func TestChoosePAC(t *testing.T) {
	const script = "http://pac.test/proxy.pac"
	file, env := settings.Origin{Source: settings.SourceFile}, settings.Origin{Source: settings.SourceEnv}
	locked, preset := settings.Origin{Source: settings.SourcePolicy, Locked: true}, settings.Origin{Source: settings.SourcePolicy}
	for _, tt := range []struct {
		name          string
		pac, upstream settings.Origin
		counts        bool
	}{
		{"both in the file", file, file, true},
		{"upstream in the environment", file, env, false},
		{"script locked, upstream in the environment", locked, env, true},
		{"script preset, upstream in the file", preset, file, false},
		{"script in the file, upstream preset", file, preset, true},
		{"both preset", preset, preset, true},
		{"upstream locked", file, locked, false},
	} {
		snap := &settings.Snapshot{Values: settings.Values{PAC: script, Upstream: []string{"http://proxy.test:8080"}},
			Origins: map[string]settings.Origin{"pac": tt.pac, "upstream": tt.upstream}}
		if place, _ := choosePAC(snap, nil, "/c/config.toml"); (place == script) != tt.counts {
			t.Errorf("%s: got %q, want it to count: %v", tt.name, place, tt.counts)
		}
	}
}

// The doctor's own proxy opens none of the doors that the settings name.
func TestFlagsOfOpenNoDoors(t *testing.T) {
	described := map[string]settings.Described{
		"upstream":        {Value: []string{"http://proxy.test:8080"}},
		"tunnel":          {Value: []string{"127.0.0.1:2222=git.test:22"}},
		"socks.listen":    {Value: []string{"127.0.0.1:1080"}},
		"gateway.enabled": {Value: true},
		"gateway.listen":  {Value: []string{"172.17.0.1:5380"}},
	}
	values := flagsOf(described)
	if len(values) != 2 || values["upstream"] == nil || values["listen"] == nil {
		t.Errorf("got %v, want upstream and an own listener only", values)
	}
}
