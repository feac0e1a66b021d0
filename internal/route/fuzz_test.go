package route_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"kerbpass/internal/route"
)

var seeds = []string{
	"", ".", "github.com", "GitHub.COM.", "*.corp.com", ".corp.com:8080", "[::1]:80", "::ffff:127.0.0.1", "fe80::1%eth0",
	"10.0.0.0/8", "10.1", "10.*", "127.1", "0x7f.1", "bücher.example", "BÜCHER.example", "straße.de", "xn--.de", "my_host.corp",
	"git\u200bhub.com", "git\u00adhub.com", `"a.example", 'b.example'`, "a;b c|d", "https://u:p@h.example:1/p?q#f", `e.org\@g.com`,
	"１２７。0．0｡1", "ｇithub。com", "\xff", "a\x00b", "intranet.", "*", "[", "]", "[]", ":", "::", "@", "//", "1.2.3.4.",
}

// canonicalText fails unless s is what ParseHost promises: lower-case ASCII
// without anything that a header or a list could trip over.
func canonicalText(t *testing.T, s string) {
	t.Helper()
	if i := strings.IndexFunc(s, func(r rune) bool {
		return !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.:", r))
	}); i >= 0 || s == "" {
		t.Errorf("%+q is not canonical ASCII", s)
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := route.ParseHost(s)
		if err != nil {
			if h != (route.Host{}) {
				t.Errorf("%q: got %q beside an error", s, h)
			}
			return
		}
		canonicalText(t, h.String())
		if again, err := route.ParseHost(h.String()); err != nil || again != h {
			t.Errorf("%q: %q parses to %q, %v", s, h, again, err)
		}
		if a, ok := h.Addr(); ok && (a.Zone() != "" || a.String() != h.String()) {
			t.Errorf("%q: address %s with text %q", s, a, h)
		}
	})
}

func FuzzCheckEntry(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		entry, err := route.CheckEntry(s)
		var bad *route.EntryError
		if errors.As(err, &bad) {
			if bad.Reason == "" || bad.Entry != strings.TrimSpace(s) {
				t.Errorf("%q: got %#v", s, bad)
			}
			for _, hint := range bad.Suggestion {
				if again, err := route.CheckEntry(hint); err != nil || again != hint {
					t.Errorf("%q: suggestion %q becomes %q, %v", s, hint, again, err)
				}
			}
			return
		}
		canonicalText(t, entry)
		if again, err := route.CheckEntry(entry); err != nil || again != entry {
			t.Errorf("%q: entry %q becomes %q, %v", s, entry, again, err)
		}
		h, err := route.ParseHost(entry)
		if err != nil {
			t.Fatalf("%q: entry %q is no host: %v", s, entry, err)
		}
		e, errs := route.ParseExact([]string{s})
		if got, ok := e.Match(h); !ok || got != entry || len(errs) != 0 {
			t.Errorf("%q: its own host %q does not match (%v)", s, h, errs)
		}
		if below, err := route.ParseHost("x." + entry); err == nil {
			if _, ok := e.Match(below); ok {
				t.Errorf("%q covers the subdomain %q", s, below)
			}
		}
	})
}

func FuzzSuffix(f *testing.F) {
	for _, s := range seeds {
		f.Add(s, "a.corp.com", uint16(80))
		f.Add("corp.com,*.a.example:80,"+s, s, uint16(443))
	}
	f.Fuzz(func(t *testing.T, list, host string, port uint16) {
		s, bad := route.ParseSuffix(list)
		for i := range bad {
			if bad[i].Reason == "" || bad[i].Error() == "" {
				t.Errorf("%q: %#v has no reason", list, bad[i])
			}
			for _, hint := range bad[i].Suggestion {
				if _, errs := route.ParseSuffix(hint); len(errs) > 0 {
					t.Errorf("%q: suggestion %q is refused: %v", list, hint, &errs[0])
				}
			}
			if slices.Contains(s.Entries(), bad[i].Entry) {
				t.Errorf("%q: entry %q is kept and reported", list, bad[i].Entry)
			}
		}
		h, err := route.ParseHost(host)
		if err != nil {
			return
		}
		table := &route.Table{Suffix: s, Upstream: "http://proxy.example:8080"}
		if e := table.Explain(h, port); e.Reason == "" || e.Nearest != "" && !slices.Contains(s.Entries(), e.Nearest) {
			t.Errorf("%q, %q: got %+v", list, host, e)
		}
		entry, ok := s.Match(h, port)
		if !ok {
			return
		}
		// The entry that is given as the reason decides the same on its own.
		if alone, errs := route.ParseSuffix(entry); len(errs) > 0 {
			t.Errorf("%q: entry %q is refused on its own", list, entry)
		} else if again, ok := alone.Match(h, port); !ok || again != entry {
			t.Errorf("%q: entry %q does not match %q on its own", list, entry, h)
		}
	})
}
