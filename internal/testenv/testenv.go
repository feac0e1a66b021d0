// Package testenv holds what every room's tests ask of the machine: tools that
// must be there, goroutines that must be gone, and text that must not carry a
// secret. Only tests and test-support rooms import it.
package testenv

import (
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Missing ends the test: as a skip on a laptop, as a failure where CI=true,
// because a layer that silently did not run proves nothing.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("missing in CI: "+format, args...)
	}
	t.Skipf("skipped layer: "+format, args...)
}

// Tool returns the path of a program, looking in the sbin folders too, or ends
// the test with [Missing]. KERBPASS_BARE=1 makes every program missing, to show
// that the rest passes on a machine with Go only.
func Tool(t testing.TB, name string) string {
	t.Helper()
	if os.Getenv("KERBPASS_BARE") != "" {
		Missing(t, "program %s", name)
	}
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	for _, dir := range []string{"/usr/sbin/", "/sbin/", "/usr/lib/squid/", "/usr/libexec/sssd/"} {
		if st, err := os.Stat(dir + name); err == nil && st.Mode()&0o111 != 0 {
			return dir + name
		}
	}
	Missing(t, "program %s", name)
	return ""
}

// Root ends the test with [Missing] unless it runs as root.
func Root(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		Missing(t, "root privileges")
	}
}

// NoLeaks registers a check that every goroutine started from now on is gone
// when the test and its clean-ups have ended. Call it first.
func NoLeaks(t testing.TB) {
	t.Helper()
	before := goroutines()
	t.Cleanup(func() {
		var left []string
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			left = left[:0]
			for id, stack := range goroutines() {
				if _, old := before[id]; !old && !ignored(stack) {
					left = append(left, stack)
				}
			}
			if len(left) == 0 {
				return
			}
		}
		t.Errorf("%d goroutines left behind:\n\n%s", len(left), strings.Join(left, "\n\n"))
	})
}

func ignored(stack string) bool {
	return strings.Contains(stack, "testing.(*T).Run") || strings.Contains(stack, "testing.tRunner.func") ||
		strings.Contains(stack, "runtime.ensureSigM") || strings.Contains(stack, "os/signal.loop")
}

func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	all := map[string]string{}
	for _, g := range strings.Split(string(buf), "\n\n") {
		id, _, _ := strings.Cut(strings.TrimPrefix(g, "goroutine "), " ")
		all[id] = g
	}
	return all
}

// secrets are the shapes that must never reach a log, a page or a report:
// SPNEGO and raw Kerberos tokens in base64 (both start with an ASN.1
// application tag, so with YI or YH), credentials behind a scheme, and
// userinfo in a URL.
var secrets = regexp.MustCompile(`(?:Negotiate|NTLM|Basic)\s+[A-Za-z0-9+/]{16,}|\bY[A-Za-z0-9+/]{100,}|\w+://[^\s/@:]+:[^\s/@]+@`)

// Secret returns the first token, credential or userinfo found in text, or "".
// The words given are looked for literally (passwords of the test world).
func Secret(text string, words ...string) string {
	for _, w := range words {
		if w != "" && strings.Contains(text, w) {
			return w
		}
	}
	return secrets.FindString(text)
}

// FreePort returns a loopback TCP port that was free a moment ago, for
// programs that cannot be told to take port 0.
func FreePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
