package route_test

import (
	"fmt"
	"strings"
	"testing"

	"kerbpass/internal/route"
)

// longTable has n entries of each kind.
func longTable(t testing.TB, n int) *route.Table {
	var exact, suffix []string
	for i := range n {
		exact = append(exact, fmt.Sprintf("host%d.corp.example", i))
		suffix = append(suffix, fmt.Sprintf("zone%d.example", i), fmt.Sprintf("*.port%d.example:8443", i),
			fmt.Sprintf("10.%d.%d.0/24", i/250, i%250), fmt.Sprintf("192.0.%d.%d", i/250, i%250))
	}
	return &route.Table{
		Exact: mustExact(t, strings.Join(exact, ",")), ExactSource: "settings",
		Suffix: mustSuffix(t, strings.Join(suffix, ",")), SuffixSource: "settings",
		Self:     func(h route.Host, port uint16) bool { return port == 5372 && h.IsLoopback() },
		Upstream: "http://proxy.example:8080", UpstreamSource: "settings",
	}
}

// hotHosts come as well-behaved clients send them, one for each way through.
var hotHosts = []struct {
	name, host string
	rule       route.Rule
}{
	{"loopback", "localhost", route.RuleLoopback},
	{"exact", "host7.corp.example", route.RuleExact},
	{"suffix", "a.b.c.zone7.example", route.RuleSuffix},
	{"default", "www.some-long-host-name.elsewhere.org", route.RuleDefault},
	{"ipv4", "10.0.7.9", route.RuleSuffix},
	{"ipv6", "2001:db8::7", route.RuleDefault},
}

func TestDecisionDoesNotAllocate(t *testing.T) {
	table := longTable(t, 10)
	for _, hot := range hotHosts {
		if d := table.Decide(mustHost(t, hot.host), 443); d.Rule != hot.rule {
			t.Fatalf("%s: got rule %s, want %s", hot.name, d.Rule, hot.rule)
		}
		if n := testing.AllocsPerRun(200, func() {
			h, err := route.ParseHost(hot.host)
			if err != nil || table.Decide(h, 443).Rule != hot.rule {
				t.Error(hot.name)
			}
		}); n != 0 {
			t.Errorf("%s: got %v allocations for a canonical host, want 0", hot.name, n)
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		table := longTable(b, n)
		for _, hot := range hotHosts {
			b.Run(fmt.Sprintf("%s/entries=%d", hot.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					h, err := route.ParseHost(hot.host)
					if err != nil || table.Decide(h, 443).Rule != hot.rule {
						b.Fatal(hot.host)
					}
				}
			})
		}
	}
}

func BenchmarkParseHost(b *testing.B) {
	for _, s := range []string{"www.github.com", "WWW.GitHub.com.", "10.1.2.3", "2001:DB8::0:1", "bücher.example"} {
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := route.ParseHost(s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkParseLists(b *testing.B) {
	names := make([]string, 10_000)
	for i := range names {
		names[i] = fmt.Sprintf("host%d.corp.example", i)
	}
	list := strings.Join(names, ",")
	b.Run("exact", func(b *testing.B) {
		for b.Loop() {
			route.ParseExact(names)
		}
	})
	b.Run("suffix", func(b *testing.B) {
		for b.Loop() {
			route.ParseSuffix(list)
		}
	})
}
