package route_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"kerbpass/internal/route"
)

// The numbers are those of the product's rules for the exact list. A refused
// entry is one that must be reported, with the suggestions given.
func TestExactVectors(t *testing.T) {
	type outcome string
	const (
		yes, no, badTarget outcome = "match", "no match", "bad target"
	)
	tests := []struct {
		id, list string
		want     outcome
		targets  []string
	}{
		{"E01", "github.com", yes, []string{"https://github.com/"}},
		{"E02", "github.com", no, []string{"https://api.github.com/"}},
		{"E03", "github.com", no, []string{"https://evil-github.com/"}},
		{"E04", "corp.com", no, []string{"https://malicious-corp.com/", "https://corp.com.evil.org/"}},
		{"E08", "GitHub.COM", yes, []string{"https://github.com/", "https://GITHUB.com/"}},
		{"E10", " github.com , api.github.com", yes, []string{"https://github.com/", "https://api.github.com/"}},
		{"E13", "github.com\napi.github.com\r\n", yes, []string{"https://github.com/", "https://api.github.com/"}},
		{"E15", "github.com,,api.github.com,", yes, []string{"https://api.github.com/"}},
		{"E16", ",", no, []string{"https://github.com/"}},
		{"E16", " \n\t ", no, []string{"https://github.com/"}},
		{"E20", "github.com", yes, []string{"https://github.com./"}},
		{"E20", "github.com.", yes, []string{"https://github.com/"}},
		{"E22", "intranet", no, []string{"http://intranet./"}},
		{"E22", "intranet.", no, []string{"http://intranet/"}},
		{"E23", "github.com", yes, []string{"https://github.com:443/", "https://github.com:8443/", "https://github.com:/"}},
		{"E26", "127.0.0.1", yes, []string{"http://127.0.0.1:8080/"}},
		{"E28", "127.0.0.1", no, []string{"http://[::ffff:127.0.0.1]/"}},
		{"E28", "::ffff:127.0.0.1", no, []string{"http://127.0.0.1/"}},
		{"E29", "localhost", no, []string{"http://127.0.0.1/", "http://[::1]/"}},
		{"E31", "::1", yes, []string{"http://[::1]/"}},
		{"E32", "[::1]", yes, []string{"http://[::1]/", "http://[0:0::1]:80/"}},
		{"E34", "2001:DB8::1", yes, []string{"http://[2001:db8::1]/"}},
		{"E36", "github.com", yes, []string{"https://user:pw@github.com/"}},
		{"E38", "github.com", yes, []string{"https://evil.org@github.com/"}},
		{"E38", "github.com", no, []string{"https://github.com@evil.org/"}},
		{"E39", "github.com", badTarget, []string{`https://evil.org\@github.com/`}},
		{"E40", "github.com", no, []string{"https://evil.org/@github.com", "https://evil.org?@github.com", "https://evil.org#@github.com"}},
		{"E42", "github.com", badTarget, []string{"https://git\thub.com/", "https://git\nhub.com/", "https://github.com\n/"}},
		{"E43", "github.com", badTarget, []string{" https://github.com/"}},
		{"E45", "github.com", no, []string{"https://gіthub.com/"}}, // Cyrillic і
		{"E46", "bücher.example", yes, []string{"https://xn--bcher-kva.example/", "https://XN--BCHER-KVA.example/"}},
		{"E48", "BÜCHER.example", yes, []string{"https://bücher.example/"}},
		{"E49", "straße.de", no, []string{"https://strasse.de/"}},
		{"E51", "my_host.corp", yes, []string{"http://my_host.corp/"}},
		{"E52", "github.com", yes, []string{"github.com:443"}},
		{"E53", "github.com", badTarget, []string{"//github.com/"}},
		{"E54", "github.com", badTarget, []string{"https://github.com:abc/", "https://github.com:99999/"}},
	}
	for _, tt := range tests {
		e := mustExact(t, tt.list)
		for _, url := range tt.targets {
			got := badTarget
			if h, _, err := target(url); err == nil {
				got = no
				if entry, ok := e.Match(h); ok {
					got = yes
					if entry != h.String() || !slices.Contains(e.Entries(), entry) {
						t.Errorf("%s: got entry %q for %q", tt.id, entry, h)
					}
				}
			}
			if got != tt.want {
				t.Errorf("%s: %q against list %q: got %s, want %s", tt.id, url, tt.list, got, tt.want)
			}
		}
	}
}

func TestCheckEntryRefuses(t *testing.T) {
	tests := []struct {
		id, entry, word string // word: from the reason
		suggest         []string
	}{
		{"E06", ".corp.com", "leading dot", []string{"corp.com"}},
		{"E07", "*.corp.com", "wildcard", []string{"corp.com"}},
		{"E07", "*", "wildcard", nil},
		{"E07", "corp.*", "wildcard", nil},
		{"E11", "github.com api.github.com", "several", []string{"github.com", "api.github.com"}},
		{"E11", "github.com;api.github.com | GitHub.com", "several", []string{"github.com", "api.github.com"}},
		{"E11", "github.com,api.github.com", "several", []string{"github.com", "api.github.com"}},
		{"E17", `"github.com"`, "quotation", []string{"github.com"}},
		{"E17", `'github.com`, "quotation", []string{"github.com"}},
		{"E17", "“github.com”", "quotation", []string{"github.com"}},
		{"", "github.com、api.github.com", "several", []string{"github.com", "api.github.com"}},
		{"E17", `"a.example", "b.example"`, "quotation", []string{"a.example", "b.example"}},
		{"E19", "\u200bgithub.com", "U+200B", []string{"github.com"}},
		{"E19", "git\u00adhub.com", "U+00AD", []string{"github.com"}},
		{"E19", "\ufeffgithub.com", "U+FEFF", []string{"github.com"}},
		{"E19", "git\u200dhub.com", "U+200D", []string{"github.com"}},
		{"E25", "https://github.com", "URL", []string{"github.com"}},
		{"E25", "https://user:pw@GitHub.com:8443/a?b#c", "URL", []string{"github.com"}},
		{"E25", "https://[::1]:8443/", "URL", []string{"::1"}},
		{"E25", "//github.com", "URL", []string{"github.com"}},
		{"E25", "github.com/", "path", []string{"github.com"}},
		{"E25", "github.com/a/b", "path", []string{"github.com"}},
		{"E30", "10.0.0.0/8", "block", nil},
		{"E30", "10.0.0.0/99", "block", nil},
		{"E30", "2001:db8::/32", "block", nil},
		{"", "10.0.0.0/8 github.com", "several", []string{"github.com"}},
		{"", "github.com:8443", "port", []string{"github.com"}},
		{"", "[::1]:8443", "port", []string{"::1"}},
		{"", "github.com:", "IPv6", []string{"github.com"}},
		{"", "[127.0.0.1]", "brackets", []string{"127.0.0.1"}},
		{"", "[github.com]", "brackets", []string{"github.com"}},
		{"", "[::1", "does not occur", nil},
		{"", "[]", "does not occur", nil},
		{"", "alice@github.com", "user name", []string{"github.com"}},
		{"", "https://a@evil.org@github.com/", "URL", []string{"github.com"}},
		{"", `evil.org\@github.com`, "backslash", nil},
		{"", "fe80::1%eth0", "zone", []string{"fe80::1"}},
		{"", "git%68ub.com", "%", nil},
		{"", "127.1", "number", nil},
		{"", "github.com\x00", "U+0000", nil},
		{"", "git\xffhub.com", "UTF-8", nil},
		{"", "github..com", "empty", nil},
		{"", strings.Repeat("a", 64) + ".de", "63", nil},
		{"", " ", "empty", nil},
	}
	for _, tt := range tests {
		got, err := route.CheckEntry(tt.entry)
		var bad *route.EntryError
		if !errors.As(err, &bad) {
			t.Errorf("%s: CheckEntry(%q): got %q, %v; want an EntryError", tt.id, tt.entry, got, err)
			continue
		}
		if got != "" || bad.Entry != strings.TrimSpace(tt.entry) || !strings.Contains(bad.Reason, tt.word) {
			t.Errorf("%s: CheckEntry(%q): got %q, %#v; want a reason with %q", tt.id, tt.entry, got, bad, tt.word)
		}
		if !slices.Equal(bad.Suggestion, tt.suggest) {
			t.Errorf("%s: CheckEntry(%q): got suggestions %q, want %q", tt.id, tt.entry, bad.Suggestion, tt.suggest)
		}
		if e, all := route.ParseExact([]string{tt.entry}); e.Len() != 0 || len(all) != 1 && strings.TrimSpace(tt.entry) != "" {
			t.Errorf("%s: ParseExact(%q): got entries %q and %d errors, want none and 1", tt.id, tt.entry, e.Entries(), len(all))
		}
	}
}

func TestCheckEntryAccepts(t *testing.T) {
	for in, want := range map[string]string{
		" GitHub.com. ": "github.com", "[2001:DB8:0::1]": "2001:db8::1", "intranet.": "intranet.",
		"BÜCHER.example": "xn--bcher-kva.example", "\u00a0github.com\t": "github.com", "localhost": "localhost",
	} {
		if got, err := route.CheckEntry(in); got != want || err != nil {
			t.Errorf("CheckEntry(%q): got %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestEntryErrorText(t *testing.T) {
	_, err := route.CheckEntry("a.example\tb.example\u202e")
	if got := err.Error(); !strings.Contains(got, "; try a.example, b.example") || strings.ContainsAny(got, "\t\u202e") {
		t.Errorf("got %q, want the suggestions and no raw control character", got)
	}
}

func TestParseExactKeepsTheGoodOnes(t *testing.T) {
	e, bad := route.ParseExact([]string{"b.example", "*.corp.com", "", "A.example", "a.example.", "10.0.0.0/8", "b.example"})
	if got, want := e.Entries(), []string{"b.example", "a.example"}; !slices.Equal(got, want) || e.Len() != 2 {
		t.Errorf("got entries %q (Len %d), want %q", got, e.Len(), want)
	}
	if len(bad) != 2 || bad[0].Entry != "*.corp.com" || bad[1].Entry != "10.0.0.0/8" {
		t.Errorf("got errors %v, want one for the wildcard and one for the block", bad)
	}
	e.Entries()[0] = "changed"
	if e.Entries()[0] != "b.example" {
		t.Error("Entries hands out its own slice")
	}
}

func TestNilAndZeroListsAreEmpty(t *testing.T) {
	h := mustHost(t, "github.com")
	var e *route.Exact
	var s *route.Suffix
	if _, ok := e.Match(h); ok || e.Len() != 0 || e.Entries() != nil {
		t.Error("a nil Exact is not empty")
	}
	if _, ok := s.Match(h, 80); ok || s.Len() != 0 || s.Entries() != nil {
		t.Error("a nil Suffix is not empty")
	}
	if _, ok := new(route.Exact).Match(h); ok {
		t.Error("the zero Exact matches")
	}
	if _, ok := new(route.Suffix).Match(h, 80); ok {
		t.Error("the zero Suffix matches")
	}
}

func TestSplitList(t *testing.T) {
	got := route.SplitList(" a.example ,\r\n\n b.example c.example,,;\n\u00a0d.example")
	want := []string{"a.example", "b.example c.example", ";", "d.example"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, empty := range []string{"", ",", " , \n ,"} {
		if got := route.SplitList(empty); len(got) != 0 {
			t.Errorf("SplitList(%q): got %q, want nothing", empty, got)
		}
	}
}

// E57. That the time does not grow is for the benchmarks; here: all are found.
func TestLongList(t *testing.T) {
	var list []string
	for i := range 10_000 {
		list = append(list, fmt.Sprintf("host%d.corp.example", i))
	}
	e := mustExact(t, strings.Join(list, "\n"))
	s := mustSuffix(t, strings.Join(list, ","))
	for _, name := range list {
		h := mustHost(t, name)
		if entry, ok := e.Match(h); !ok || entry != name {
			t.Fatalf("exact: got %q, %v for %s", entry, ok, name)
		}
		if entry, ok := s.Match(mustHost(t, "www."+name), 80); !ok || entry != name {
			t.Fatalf("suffix: got %q, %v for %s", entry, ok, name)
		}
	}
	if _, ok := e.Match(mustHost(t, "host10000.corp.example")); ok || e.Len() != 10_000 {
		t.Errorf("got a match outside the list, or Len %d", e.Len())
	}
}
