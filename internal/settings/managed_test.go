package settings_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"kerbpass/internal/settings"
)

// law is a policy that a test changes.
type law struct{ settings.Managed }

func (l *law) read() settings.Managed { return l.Managed }

// problems returns texts and hints of those that are the organisation's.
func problems(snap *settings.Snapshot) string {
	var all []string
	for _, p := range snap.Problems {
		if p.Source == settings.SourcePolicy {
			all = append(all, p.String())
		}
	}
	return strings.Join(all, "\n")
}

// A preset is weaker than the file and stronger than the system; what is locked
// is stronger than everything.
func TestLockedAndPreset(t *testing.T) {
	everything := map[string]any{"upstream": []any{"http://org"}, "pac": "org", "no_proxy": "org", "bypass.exact": []any{"org"}, "kerberos.enabled": false,
		"kerberos.remind_before": "2h", "access.allow_users": []any{"org"}}
	file := "upstream = [\"http://file\"]\npac = \"file\"\nno_proxy = [\"file\"]\n[bypass]\nexact = [\"file\"]\n[kerberos]\nenabled = true\nremind_before = \"3h\"\n[access]\nallow_users = [\"file\"]\n"
	cfg := settings.Config{
		Flags:     map[string]any{"upstream": "http://flag", "bypass.exact": "flag", "kerberos.enabled": true, "pac": "flag"},
		LookupEnv: env("HTTPS_PROXY", "http://env", "NO_PROXY", "env", "JAATO_NO_PROXY", "env", "JAATO_KERBEROS_PROXY", "yes"),
		System:    func() []string { return []string{"http://system"} },
	}
	organisation := func(s *settings.Snapshot) settings.Values {
		v := s.Values
		v.Upstream, v.PAC, v.NoProxy, v.BypassExact, v.KerberosEnabled = []string{"http://org"}, "org", []string{"org"}, []string{"org"}, false
		v.KerberosRemindBefore, v.AllowUsers = 2*60*60*1e9, []string{"org"}
		return v
	}

	cfg.Policy = locked(everything)
	s := open(t, file, cfg)
	snap := s.Snapshot()
	if want := organisation(snap); !reflect.DeepEqual(snap.Values, want) {
		t.Errorf("locked: got %+v\nwant %+v", snap.Values, want)
	}
	for key := range everything {
		if o := snap.Origins[key]; o != (settings.Origin{Source: settings.SourcePolicy, Name: "policy.toml", Locked: true}) {
			t.Errorf("locked %s: got %+v", key, o)
		}
		d := snap.Describe()[key]
		if d.Source != "policy" || !d.Locked {
			t.Errorf("locked %s is described as %+v", key, d)
		}
		want := key + " is set by your organisation (policy.toml)"
		for _, err := range []error{snap.Refused(key), s.Edit(func(e *settings.Edit) error { return e.Set(key, everything[key]) }), s.Edit(unset(key))} {
			if !errors.Is(err, settings.ErrLocked) || err.Error() != want {
				t.Errorf("got %v, want %s", err, want)
			}
		}
	}
	if err := snap.Refused("ui.language"); err != nil {
		t.Errorf("a setting that nobody locks: %v", err)
	}
	if got := read(t, s.Path()); got != file {
		t.Errorf("the file was changed: %s", got)
	}

	cfg.Policy = func() settings.Managed { return settings.Managed{Preset: ruled(everything)} }
	snap = open(t, file, cfg).Snapshot()
	if strings.Join(snap.Upstream, "") != "http://flag" || strings.Join(snap.NoProxy, "") != "env" || snap.KerberosRemindBefore.Hours() != 3 || snap.AllowUsers[0] != "file" {
		t.Errorf("preset below flags, environment and file: got %+v", snap.Values)
	}
	cfg.Flags, cfg.LookupEnv = nil, nil
	s = open(t, "", cfg)
	if snap = s.Snapshot(); !reflect.DeepEqual(snap.Values, organisation(snap)) {
		t.Errorf("preset alone: got %+v", snap.Values)
	}
	for key := range everything {
		if o := snap.Origins[key]; o != (settings.Origin{Source: settings.SourcePolicy, Name: "policy.toml"}) {
			t.Errorf("preset %s: got %+v", key, o)
		}
	}
	// Who adds to a list that is preset does not lose the rest of it.
	if err := s.Edit(func(e *settings.Edit) error {
		return errors.Join(e.Add("bypass.exact", "mine"), e.Remove("access.allow_users", "org"), e.Set("kerberos.enabled", true))
	}); err != nil {
		t.Fatal(err)
	}
	snap = s.Snapshot()
	if got := strings.Join(snap.BypassExact, " "); got != "org mine" || len(snap.AllowUsers) != 0 || !snap.KerberosEnabled || snap.Origins["bypass.exact"].Source != settings.SourceFile {
		t.Errorf("edited: got %q, %v, %v", got, snap.AllowUsers, snap.KerberosEnabled)
	}
}

// A rule that cannot be understood is never taken for none: the last good one
// counts, and where there was none no token is sent.
func TestBrokenPolicy(t *testing.T) {
	broken := settings.Managed{Broken: true, Problems: []settings.Problem{{File: "/etc/p", Line: 3, Column: 1, Text: "no TOML", Hint: "Correct the file"}}}
	good := settings.Managed{Locked: ruled(map[string]any{"kerberos.enabled": true, "upstream": []any{"http://org"}}), Preset: ruled(map[string]any{"pac": "auto"})}

	l := &law{broken}
	s := open(t, "upstream = [\"http://mine\"]\n", settings.Config{Policy: l.read, Flags: map[string]any{"kerberos.enabled": true}})
	withheld := func(name string) {
		t.Helper()
		snap := s.Snapshot()
		if !snap.Withheld || snap.KerberosEnabled || snap.Origins["kerberos.enabled"] != (settings.Origin{Source: settings.SourcePolicy, Name: name, Locked: true}) ||
			!strings.Contains(problems(snap), "until then no token is sent to any proxy.") {
			t.Errorf("got withheld %v, kerberos %v by %+v\n%s", snap.Withheld, snap.KerberosEnabled, snap.Origins["kerberos.enabled"], problems(snap))
		}
	}
	withheld("/etc/p")
	if err := s.Edit(set("kerberos.enabled", true)); !errors.Is(err, settings.ErrLocked) {
		t.Errorf("the switch: got %v", err)
	}
	// What can be understood counts nevertheless.
	l.Managed.Locked = ruled(map[string]any{"ui.language": "de"})
	s.Reload()
	withheld("/etc/p")
	if s.Snapshot().Language != "de" {
		t.Error("a rule from a good file does not count beside a broken one")
	}

	l.Managed = good
	s.Reload()
	kept := func() {
		t.Helper()
		if snap := s.Snapshot(); snap.Withheld || !snap.KerberosEnabled || strings.Join(snap.Upstream, "") != "http://org" || snap.PAC != "auto" {
			t.Errorf("got %+v", snap)
		}
	}
	kept()
	if got := problems(s.Snapshot()); got != "" {
		t.Errorf("mended, and yet %s", got)
	}
	l.Managed = broken
	for range 2 { // the second time as well
		s.Reload()
		kept()
		if got := problems(s.Snapshot()); got != "/etc/p:3:1: no TOML. Correct the file; until then the last good policy counts." {
			t.Errorf("got %s", got)
		}
	}
	// A warning is no reason.
	l.Managed = settings.Managed{Problems: []settings.Problem{{File: "/etc/p", Text: "this policy is ignored", Hint: "Give it to root", Warning: true}}}
	s.Reload()
	if snap := s.Snapshot(); snap.Withheld || strings.Join(snap.Upstream, "") != "http://mine" || problems(snap) != "/etc/p: this policy is ignored. Give it to root." {
		t.Errorf("got %+v", snap)
	}
}

func TestUnusableRule(t *testing.T) {
	self := func(url string, _ []string) bool { return url == "http://self" }
	for _, tt := range []struct {
		name  string
		key   string
		value any
		good  any
		want  string // what counts after good
	}{
		{"wrong type", "kerberos.enabled", "yes", true, "true"},
		{"unknown type", "kerberos.preemptive", nil, true, "true"},
		{"a table", "pac.x", int64(1), nil, ""},
		{"no choice", "kerberos.renew", "always", "ask", "ask"},
		{"a number", "kerberos.remind_before", int64(30), "1h", "1h"},
		{"an upstream with a password", "upstream", []any{"http://a:b@p"}, []any{"http://p"}, "[http://p]"},
		{"an upstream that is ourselves", "upstream", []any{"http://self"}, []any{"http://p"}, "[http://p]"},
		{"no upstream", "upstream", []any{}, []any{"http://p"}, "[http://p]"},
		{"no port is left, which would mean every one", "access.connect_ports", []any{"https"}, []any{"443"}, "[443]"},
		{"a list of numbers", "access.connect_ports", []any{int64(443)}, []any{"443"}, "[443]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := settings.Config{SelfUpstream: self, System: func() []string { return []string{"http://system"} },
				LookupEnv: env("HTTPS_PROXY", "http://env"), Flags: map[string]any{"kerberos.enabled": true}}
			bad := settings.Managed{Locked: ruled(map[string]any{tt.key: tt.value})}
			l := &law{bad}
			cfg.Policy = l.read
			s := open(t, "upstream = [\"http://file\"]\n", cfg)
			snap := s.Snapshot()
			if !snap.Withheld || snap.KerberosEnabled || !strings.Contains(problems(snap), "policy.toml") || !strings.Contains(problems(snap), "no token is sent") {
				t.Errorf("got withheld %v, problems %s", snap.Withheld, problems(snap))
			}
			if o := snap.Origins[tt.key]; strings.Contains(tt.key, "upstream") && (len(snap.Upstream) > 0 || !o.Locked || o.Source != settings.SourcePolicy) {
				t.Errorf("a weaker source spoke: %v from %+v", snap.Upstream, o)
			}
			if tt.good == nil {
				return
			}
			l.Managed = settings.Managed{Locked: ruled(map[string]any{tt.key: tt.good})}
			s.Reload()
			l.Managed = bad
			for range 2 {
				s.Reload()
				snap = s.Snapshot()
				if d := snap.Describe()[tt.key]; snap.Withheld || asText(d.Value) != tt.want || !d.Locked || !strings.Contains(problems(snap), "had before counts") {
					t.Errorf("got %+v, withheld %v, problems %s", d, snap.Withheld, problems(snap))
				}
			}
			// A preset is only ignored.
			l.Managed = settings.Managed{Preset: bad.Locked}
			s = open(t, "", cfg)
			if snap = s.Snapshot(); snap.Withheld || problems(snap) == "" && tt.key != "upstream" && tt.key != "kerberos.enabled" {
				t.Errorf("as a preset: withheld %v, problems %s", snap.Withheld, problems(snap))
			}
		})
	}
	// Where a preset cannot be used, the system speaks.
	s := open(t, "", settings.Config{System: func() []string { return []string{"http://system"} },
		Policy: func() settings.Managed {
			return settings.Managed{Preset: ruled(map[string]any{"upstream": []any{"ftp://x"}})}
		}})
	if snap := s.Snapshot(); strings.Join(snap.Upstream, " ") != "http://system" || snap.Withheld || !strings.Contains(problems(snap), "until then it is ignored") {
		t.Errorf("got %v, problems %s", snap.Upstream, problems(snap))
	}
	// Of a list the good entries count, as everywhere.
	s = open(t, "", settings.Config{Policy: locked(map[string]any{"access.connect_ports": []any{"443", "https"}})})
	if snap := s.Snapshot(); snap.Withheld || strings.Join(snap.ConnectPorts, " ") != "443" || problems(snap) == "" {
		t.Errorf("got %v, withheld %v, problems %s", snap.ConnectPorts, snap.Withheld, problems(snap))
	}
	// What only a newer version knows is said and stops nothing.
	s = open(t, "", settings.Config{Policy: locked(map[string]any{"kerberos.enable": true, "future": int64(1)})})
	if snap := s.Snapshot(); snap.Withheld || !strings.Contains(problems(snap), "Perhaps kerberos.enabled is meant.") || strings.Count(problems(snap), "has no effect") != 2 {
		t.Errorf("got withheld %v, problems %s", snap.Withheld, problems(snap))
	}
}

func asText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case bool:
		return map[bool]string{true: "true", false: "false"}[v]
	case []string:
		return "[" + strings.Join(v, " ") + "]"
	}
	return "?"
}
