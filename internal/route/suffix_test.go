package route_test

import (
	_ "embed"
	"slices"
	"strings"
	"testing"

	"kerbpass/internal/route"
)

//go:embed testdata/no_proxy.tsv
var noProxyVectors string

// Each row goes through the whole decision, since two of them rest on the
// loopback rule, and through the matcher.
func TestNoProxyVectors(t *testing.T) {
	rows := 0
	for line := range strings.Lines(noProxyVectors) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		col := strings.Split(line, "\t")
		if len(col) != 4 {
			t.Fatalf("row %q has %d columns, want 4", line, len(col))
		}
		rows++
		id, list, url, want := col[0], col[1], col[2], col[3]
		s, _ := route.ParseSuffix(list)
		table := route.Table{Suffix: s, Upstream: "http://proxy.example:8080"}

		got := "E"
		if h, port, err := target(url); err == nil {
			d := table.Decide(h, port)
			got = map[route.Route]string{route.Direct: "D", route.Proxy: "P"}[d.Route]
			entry, ok := s.Match(h, port)
			if !h.IsLoopback() && ok != (want == "D") {
				t.Errorf("%s: Match of %q in %q: got %q, %v", id, url, list, entry, ok)
			}
			if ok && !slices.Contains(s.Entries(), entry) {
				t.Errorf("%s: entry %q is not in the list %q", id, entry, list)
			}
		}
		if got != want {
			t.Errorf("%s: %q with list %q: got %s, want %s", id, url, list, got, want)
		}
	}
	if rows < 40 {
		t.Errorf("%d vectors, want at least 40", rows)
	}
}

func TestSuffixMatch(t *testing.T) {
	tests := []struct {
		list, target, want string // want: the entry, "" for none
	}{
		// Subdomains only, and label boundaries.
		{"*.corp.com", "corp.com", ""},
		{"*.corp.com", "a.b.corp.com", "*.corp.com"},
		{"*.corp.com", "malicious-corp.com", ""},
		{".corp.com", "corp.com", ".corp.com"},
		{"corp.com", "com", ""},
		{"corp", "a.corp", "corp"},
		// Trailing dots, on either side, single labels included.
		{"corp", "corp.", "corp"},
		{"corp.", "corp", "corp."},
		{".corp.com.", "a.corp.com.", ".corp.com."},
		{"*.corp.", "a.corp", "*.corp."},
		// Ports, the default one of the scheme included.
		{"corp.com:443", "https://corp.com/", "corp.com:443"},
		{"corp.com:443", "http://corp.com/", ""},
		{"corp.com:80", "http://corp.com/", "corp.com:80"},
		{".corp.com:8080", "a.corp.com:8080", ".corp.com:8080"},
		{".corp.com:8080", "corp.com:8080", ".corp.com:8080"},
		{"*.corp.com:8080", "corp.com:8080", ""},
		{"*.corp.com:8080", "a.corp.com:8080", "*.corp.com:8080"},
		{"10.1.2.3:8080", "10.1.2.3:8080", "10.1.2.3:8080"},
		{"10.1.2.3:8080", "10.1.2.3", ""},
		{"[2001:db8::1]:8080", "[2001:db8::1]:8080", "[2001:db8::1]:8080"},
		{"[2001:db8::1]:8080", "[2001:db8::1]", ""},
		// Addresses by value, IPv4-mapped kept apart, never by name rules.
		{"2001:DB8:0::1", "[2001:db8::1]", "2001:DB8:0::1"},
		{"10.1.2.3", "[::ffff:10.1.2.3]", ""},
		{"10.1.2.3:80", "[::ffff:10.1.2.3]", ""},
		{"::ffff:10.1.2.3", "10.1.2.3", ""},
		{"10.0.0.0/8", "[::ffff:10.1.2.3]", ""},
		{"::ffff:10.0.0.0/104", "[::ffff:10.1.2.3]", "::ffff:10.0.0.0/104"},
		{"::ffff:10.0.0.0/104", "10.1.2.3", ""},
		{"10.1.2.3/8", "10.200.0.1", "10.1.2.3/8"},
		{"2001:db8::/32", "[2001:db8:1::1]", "2001:db8::/32"},
		{"2001:db8::/32", "[2001:db9::1]", ""},
		{"0.0.0.0/0", "8.8.8.8", "0.0.0.0/0"},
		{"0.0.0.0/0", "[2001:db8::1]", ""},
		{"0.0.0.0/0,::/0", "corp.com", ""},
		{"10.0.0.0/8", "10.0.0.0.example", ""},
		// Everything, also addresses and inside a list.
		{"a.org,*", "[2001:db8::1]", "*"},
		{"*", "intranet.", "*"},
		// The most specific entry is the answer.
		{"*,com,corp.com,a.corp.com", "a.corp.com", "a.corp.com"},
		{"corp.com,corp.com:80", "corp.com", "corp.com:80"},
		{"10.0.0.0/8,10.1.0.0/16,10.1.2.0/24", "10.1.9.9", "10.1.0.0/16"},
		{"10.0.0.0/8,10.1.2.3", "10.1.2.3", "10.1.2.3"},
		{".corp.com,corp.com", "corp.com", ".corp.com"},
		{"*.corp.com,corp.com", "a.corp.com", "*.corp.com"},
		{"*.corp.com,corp.com", "corp.com", "corp.com"},
		// International names on both sides.
		{".bücher.example", "a.xn--bcher-kva.example", ".bücher.example"},
		{"*.BÜCHER.example:80", "a.bücher.example", "*.BÜCHER.example:80"},
	}
	for _, tt := range tests {
		h, port, err := target(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := mustSuffix(t, tt.list).Match(h, port); got != tt.want || ok != (tt.want != "") {
			t.Errorf("%q in %q: got %q, %v; want %q", tt.target, tt.list, got, ok, tt.want)
		}
	}
}

func TestSuffixReportsWhatNeverMatches(t *testing.T) {
	tests := []struct {
		entry, word string
		suggest     []string
	}{
		{"http://corp.com", "URL", []string{"corp.com"}},
		{"https://corp.com:8443/x", "URL", []string{"corp.com:8443"}},
		{"https://[::1]:8443/x", "URL", []string{"[::1]:8443"}},
		{"corp.com/x", "path", []string{"corp.com"}},
		{"alice@corp.com", "user name", []string{"corp.com"}},
		{"corp.*", "*", nil},
		{"*corp.com", "*", []string{"corp.com"}},
		{"a.*.corp.com", "*", nil},
		{"*:8080", "*", nil},
		{"*.", "no host", nil},
		{".", "no host", nil},
		{"..corp.com", "empty", []string{".corp.com"}},
		{"10.1", "number", []string{"10.1.0.0/16"}},
		{"10.1.", "number", []string{"10.1.0.0/16"}},
		{"10.", "number", []string{"10.0.0.0/8"}},
		{"10.*", "*", []string{"10.0.0.0/8"}},
		{"10.1.2.*", "*", []string{"10.1.2.0/24"}},
		{"10", "number", nil},
		{"10.300", "number", nil},
		{".10.1.2.3", "below", []string{"10.1.2.3"}},
		{"10.0.0.0/33", "block", nil},
		{"[2001:db8::]/32", "block", nil},
		{"10.0.0.0/8:80", "port", nil},
		{"a.org;corp.com", "several", []string{"a.org", "corp.com"}},
		{"a.org|corp.com", "several", []string{"a.org", "corp.com"}},
		{"a.org corp.com", "several", []string{"a.org", "corp.com"}},
		{"a.org\ncorp.com", "several", []string{"a.org", "corp.com"}},
		{`"corp.com"`, "quotation", []string{"corp.com"}},
		{"corp.com:", "port", []string{"corp.com"}},
		{"corp.com:http", "port", nil},
		{"corp.com:0", "port", nil},
		{"corp.com:65536", "port", nil},
		{"fe80::1%eth0", "zone", []string{"fe80::1"}},
		{"[corp.com]", "brackets", []string{"corp.com"}},
		{"\u200bcorp.com", "U+200B", []string{"corp.com"}},
	}
	for _, tt := range tests {
		s, bad := route.ParseSuffix(tt.entry + ",good.example, " + tt.entry)
		if len(bad) != 1 || bad[0].Entry != tt.entry || !strings.Contains(bad[0].Reason, tt.word) {
			t.Errorf("%q: got %#v, want it reported once with %q", tt.entry, bad, tt.word)
			continue
		}
		if !slices.Equal(bad[0].Suggestion, tt.suggest) {
			t.Errorf("%q: got suggestions %q, want %q", tt.entry, bad[0].Suggestion, tt.suggest)
		}
		if got := s.Entries(); !slices.Equal(got, []string{"good.example"}) || s.Len() != 1 {
			t.Errorf("%q: got entries %q, want only the good one", tt.entry, got)
		}
	}
}
