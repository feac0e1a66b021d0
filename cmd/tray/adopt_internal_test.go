package main

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"kerbpass/internal/settings"
)

// Whatever changes the service that tokens are for ends what was authenticated,
// or made in advance, for the one before; nothing else does.
func TestAdoptedServiceStartsAfresh(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(s *settings.Snapshot)
		afresh bool
	}{
		{"nothing", func(*settings.Snapshot) {}, false},
		{"suffix list", func(s *settings.Snapshot) { s.NoProxy = []string{"other.test"} }, false},
		{"name of the service", func(s *settings.Snapshot) { s.KerberosSPN = "HTTP/other.test" }, true},
		{"aliases", func(s *settings.Snapshot) { s.KerberosCanonicalize = "cname" }, true},
		{"switch", func(s *settings.Snapshot) { s.KerberosEnabled = false }, true},
		{"upstream", func(s *settings.Snapshot) { s.Upstream = []string{"http://other.test:3128"} }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(t.TempDir(), "none"))
			store, err := settings.Open(settings.Config{Path: filepath.Join(t.TempDir(), "config.toml"), Flags: map[string]any{
				"listen": []string{"127.0.0.1:0"}, "upstream": []string{"http://proxy.test:3128"},
			}})
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			a, err := newApp(appConfig{store: store, log: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			defer a.closeListeners()
			defer func() { a.now.Load().peers.Close() }()
			snap := *store.Snapshot()
			tt.change(&snap)
			if err := a.adopt(&snap); err != nil {
				t.Fatal(err)
			}
			if got := strings.Contains(log.String(), "starting afresh"); got != tt.afresh {
				t.Errorf("started afresh: %v, want %v\n%s", got, tt.afresh, &log)
			}
		})
	}
}
