//go:build linux

package peer_test

import (
	"bufio"
	"context"
	"net"
	"strings"
	"testing"

	"kerbpass/internal/testenv"
)

func TestOnWindows(t *testing.T) {
	testenv.GoTestInWine(t, ".", nil, "^Test")
}

// A Linux program is nobody to a Windows server: it has no process id there.
func TestWindowsRefusesLinuxClient(t *testing.T) {
	w := testenv.Wine(t)
	exe := w.GoTestBuild(t, ".")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := w.Command(ctx, exe)
	cmd.Env = append(cmd.Env, "CHILD=check")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed, or done
	})
	said := bufio.NewReader(out)
	c, err := net.Dial("tcp", line(t, said))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := line(t, said); !strings.Contains(got, "is not known: no process holds") {
		t.Errorf("got %q, want a refusal", got)
	}
}
