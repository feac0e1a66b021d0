//go:build linux && amd64

package proxy_test

import (
	"regexp"
	"strings"
	"testing"

	"kerbpass/internal/testenv"
)

// The benchmarks run once each: they work there; their numbers mean nothing.
func TestOnWindows(t *testing.T) {
	benchmarks := []string{"BenchmarkRequestHead", "BenchmarkPoolParallel", "BenchmarkGet64", "BenchmarkTunnel", "BenchmarkMoveWord"}
	out := testenv.GoTestInWine(t, ".", nil, "^(TestTunnelMovesAsAPlainRelay|TestMove.*|TestF3.*|TestF4.*|TestF7.*|TestWaitHoldsNoBuffer)$",
		"-test.bench=^("+strings.Join(benchmarks, "|")+")$", "-test.benchtime=1x")
	for _, name := range benchmarks {
		if !regexp.MustCompile(`(?m)^` + name + `\b.* ns/op`).MatchString(out) {
			t.Errorf("%s has no result:\n%s", name, out)
		}
	}
}
