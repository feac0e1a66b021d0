package route_test

import (
	"strings"
	"testing"

	"kerbpass/internal/route"
)

func TestDecide(t *testing.T) {
	table := &route.Table{
		Exact: mustExact(t, "git.corp.com,both.corp.com,10.1.2.3,localhost"), ExactSource: "settings",
		Suffix: mustSuffix(t, "both.corp.com,.intern,10.0.0.0/8,svc.example:8443"), SuffixSource: "NO_PROXY",
		Self: func(h route.Host, port uint16) bool {
			return port == 5372 && (h.IsLoopback() || h.String() == "192.0.2.7")
		},
		Upstream: "http://proxy.corp.com:8080", UpstreamSource: "HTTPS_PROXY",
	}
	noUpstream := *table
	noUpstream.Upstream = ""
	loopbackOnly := *table
	loopbackOnly.Self = nil

	const direct, proxy, refused = route.Direct, route.Proxy, route.Refused
	tests := []struct {
		name   string
		table  *route.Table
		target string
		want   route.Decision // Host and Port are filled in from target
	}{
		{"loopback name", table, "localhost:3000", route.Decision{Route: direct, Rule: route.RuleLoopback, Entry: "localhost", Source: "built in"}},
		{"below localhost", table, "app.localhost", route.Decision{Route: direct, Rule: route.RuleLoopback, Entry: "*.localhost", Source: "built in"}},
		{"loopback block", table, "127.9.9.9", route.Decision{Route: direct, Rule: route.RuleLoopback, Entry: "127.0.0.0/8", Source: "built in"}},
		{"loopback IPv6", table, "[::1]", route.Decision{Route: direct, Rule: route.RuleLoopback, Entry: "::1", Source: "built in"}},
		{"loopback, mapped", table, "[::ffff:127.0.0.1]", route.Decision{Route: direct, Rule: route.RuleLoopback, Entry: "::ffff:127.0.0.0/104", Source: "built in"}},
		{"loopback without upstream", &noUpstream, "localhost", route.Decision{Route: direct, Rule: route.RuleLoopback, Entry: "localhost", Source: "built in"}},
		{"own listener", table, "localhost:5372", route.Decision{Route: refused, Rule: route.RuleLoopback, Loop: true}},
		{"own listener by address", table, "[::1]:5372", route.Decision{Route: refused, Rule: route.RuleLoopback, Loop: true}},
		{"own listener of a gateway", table, "192.0.2.7:5372", route.Decision{Route: refused, Rule: route.RuleLoopback, Loop: true}},
		{"nil Self", &loopbackOnly, "localhost:5372", route.Decision{Route: direct, Rule: route.RuleLoopback, Entry: "localhost", Source: "built in"}},
		{"exact", table, "https://GIT.corp.com./", route.Decision{Route: direct, Rule: route.RuleExact, Entry: "git.corp.com", Source: "settings"}},
		{"exact before suffix", table, "both.corp.com", route.Decision{Route: direct, Rule: route.RuleExact, Entry: "both.corp.com", Source: "settings"}},
		{"exact address before block", table, "10.1.2.3", route.Decision{Route: direct, Rule: route.RuleExact, Entry: "10.1.2.3", Source: "settings"}},
		{"suffix", table, "wiki.intern", route.Decision{Route: direct, Rule: route.RuleSuffix, Entry: ".intern", Source: "NO_PROXY"}},
		{"suffix block", table, "10.1.2.4", route.Decision{Route: direct, Rule: route.RuleSuffix, Entry: "10.0.0.0/8", Source: "NO_PROXY"}},
		{"suffix port", table, "svc.example:8443", route.Decision{Route: direct, Rule: route.RuleSuffix, Entry: "svc.example:8443", Source: "NO_PROXY"}},
		{"suffix, other port", table, "svc.example", route.Decision{Route: proxy, Rule: route.RuleDefault, Source: "HTTPS_PROXY"}},
		{"unlisted", table, "evil-git.corp.com", route.Decision{Route: proxy, Rule: route.RuleDefault, Source: "HTTPS_PROXY"}},
		{"listed without upstream", &noUpstream, "git.corp.com", route.Decision{Route: direct, Rule: route.RuleExact, Entry: "git.corp.com", Source: "settings"}},
		{"unlisted without upstream", &noUpstream, "evil-git.corp.com", route.Decision{Route: refused, Rule: route.RuleDefault}},
		{"zero table", new(route.Table), "github.com", route.Decision{Route: refused, Rule: route.RuleDefault}},
		{"zero table, loopback", new(route.Table), "127.0.0.1", route.Decision{Route: direct, Rule: route.RuleLoopback, Entry: "127.0.0.0/8", Source: "built in"}},
	}
	for _, tt := range tests {
		h, port, err := target(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		tt.want.Host, tt.want.Port = h, port
		if got := tt.table.Decide(h, port); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
		if got := tt.table.Explain(h, port); got.Decision != tt.want || got.Reason == "" {
			t.Errorf("%s: Explain got %+v, want the same decision and a reason", tt.name, got)
		}
	}
}

// A Host that nobody parsed must not slip through a list that has "*".
func TestDecideRefusesTheZeroHost(t *testing.T) {
	table := &route.Table{
		Exact: mustExact(t, "a.example"), Suffix: mustSuffix(t, "*"), Upstream: "http://proxy.example:8080",
		Self: func(route.Host, uint16) bool { return true },
	}
	want := route.Decision{Route: route.Refused, Rule: route.RuleDefault, Port: 80}
	if got := table.Decide(route.Host{}, 80); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := table.Explain(route.Host{}, 80); got.Decision != want || got.Nearest != "" {
		t.Errorf("Explain got %+v, want %+v and nothing near", got, want)
	}
}

func TestExplain(t *testing.T) {
	tests := []struct {
		exact, suffix, target string
		nearest               string
		words                 string // all of them, separated by |, occur in the reason
	}{
		{"github.com", "", "https://api.github.com", "github.com", "exact entries do not cover subdomains|api.github.com is another name"},
		{"api.github.com", "", "https://github.com", "api.github.com", "does not stand for the domain"},
		{"github.com", "", "evil-github.com", "github.com", "only ends in the same letters as github.com"},
		{"", "corp.com", "malicious-corp.com", "corp.com", "malicious-corp.com only ends in the same letters as corp.com"},
		{"", "*.corp.com:8080", "malicious-corp.com", "*.corp.com:8080", "only ends in the same letters"},
		{"corp.com", "", "corp.com.evil.org", "corp.com", "only begins like corp.com"},
		{"github.com", "", "gіthub.com", "github.com", "gіthub.com (xn--gthub-n2e.com) differs from github.com in one character"},
		{"github.com", "", "githb.com", "github.com", "one character"},
		{"github.com", "", "gtihub.com", "github.com", "one character"},
		{"intranet", "", "intranet.", "intranet", "skips the search domains"},
		{"10.1.2.3", "", "[::ffff:10.1.2.3]", "10.1.2.3", "IPv4 and IPv6 are kept apart"},
		{"", "10.1.2.3", "[::ffff:10.1.2.3]", "10.1.2.3", "IPv4 and IPv6 are kept apart"},
		{"", "10.0.0.0/8", "[::ffff:10.1.2.3]", "10.0.0.0/8", "block of IPv4 addresses"},
		{"", "corp.com:8080", "https://corp.com", "corp.com:8080", "is for port 8080|is for port 443"},
		{"", "corp.com:8080", "a.corp.com", "corp.com:8080", "is for port 8080"},
		{"", "10.1.2.3:8080", "10.1.2.3", "10.1.2.3:8080", "is for port 8080"},
		{"", "*.corp.com", "corp.com", "*.corp.com", "only the names below corp.com"},
		{"", "a.corp.com", "corp.com", "a.corp.com", "not corp.com above it"},
		// The closest one is named, not the first.
		{"com,corp.com", "", "a.corp.com", "corp.com", "subdomains"},
		{"b.example,evil-corp.com.example,corp.com", "x-corp.com", "api.corp.com", "corp.com", "subdomains"},
		// Nothing near.
		{"github.com,a.de", "*.corp.com,10.0.0.0/8", "b.de", "", "No list names b.de"},
		{"github.com", "corp.com", "192.0.2.1", "", "No list names 192.0.2.1"},
		{"", "", "example.org", "", "http://proxy.example:8080 (HTTPS_PROXY), with Kerberos"},
		// Decided by a list.
		{"github.com", "", "github.com", "", "github.com is on the exact list (settings)"},
		{"", ".corp.com", "a.corp.com", "", `".corp.com" of the suffix list (NO_PROXY) covers a.corp.com on port 80`},
		{"", "", "localhost", "", "this computer"},
		{"", "", "localhost:5372", "", "own listener|circles"},
	}
	for _, tt := range tests {
		table := &route.Table{
			Exact: mustExact(t, tt.exact), ExactSource: "settings",
			Suffix: mustSuffix(t, tt.suffix), SuffixSource: "NO_PROXY",
			Self:     func(h route.Host, port uint16) bool { return h.IsLoopback() && port == 5372 },
			Upstream: "http://alice:s3cret@proxy.example:8080", UpstreamSource: "HTTPS_PROXY", Kerberos: true,
		}
		h, port, err := target(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		got := table.Explain(h, port)
		if got.Nearest != tt.nearest {
			t.Errorf("%s with %q and %q: got nearest %q, want %q", tt.target, tt.exact, tt.suffix, got.Nearest, tt.nearest)
		}
		for word := range strings.SplitSeq(tt.words, "|") {
			if !strings.Contains(got.Reason, word) {
				t.Errorf("%s with %q and %q: got %q, want %q in it", tt.target, tt.exact, tt.suffix, got.Reason, word)
			}
		}
		if strings.Contains(got.Reason, "s3cret") || strings.Contains(got.Reason, "alice") {
			t.Errorf("%s: the reason %q shows who logs in at the upstream", tt.target, got.Reason)
		}
	}
}

func TestExplainWithoutUpstream(t *testing.T) {
	table := &route.Table{Exact: mustExact(t, "github.com")}
	got := table.Explain(mustHost(t, "api.github.com"), 443)
	if got.Route != route.Refused || got.Nearest != "github.com" || !strings.Contains(got.Reason, "never goes direct") {
		t.Errorf("got %+v, want a refusal that names github.com", got)
	}
}

func TestExplainHidesUserinfoWithoutScheme(t *testing.T) {
	table := &route.Table{Upstream: "alice:s3cret@proxy.example:8080"}
	got := table.Explain(mustHost(t, "example.org"), 80).Reason
	if !strings.Contains(got, "through proxy.example:8080, without Kerberos") || strings.Contains(got, "s3cret") {
		t.Errorf("got %q, want the upstream without its userinfo", got)
	}
}
