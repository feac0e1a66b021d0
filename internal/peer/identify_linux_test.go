//go:build linux

package peer_test

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/peer"
	"kerbpass/internal/testenv"
)

// identify asks again where searching has had its share, as on a machine with
// very many processes and descriptors.
func identify(c *peer.Checker, local, remote netip.AddrPort) (id peer.Identity, err error) {
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		id, err = c.Identify(local, remote)
		if !errors.Is(err, peer.ErrBusy) || time.Now().After(deadline) {
			return id, err
		}
	}
}

func TestIdentify(t *testing.T) {
	own, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			l := listen(t, "tcp", addr)
			c := checker(t)
			want := func(conn net.Conn, pid int, program string) {
				t.Helper()
				local, remote := ends(conn)
				got, err := identify(c, local, remote)
				if want := (peer.Identity{UID: uint32(os.Geteuid()), PID: pid, Program: program}); err != nil || got != want {
					t.Errorf("got %+v, %v, want %+v", got, err, want)
				}
			}
			client, mine := dial(t, l)
			pid, other := child(t, l)
			want(mine, os.Getpid(), strings.TrimSpace(string(own)))
			want(other, pid, "exe")
			want(mine, os.Getpid(), strings.TrimSpace(string(own)))
			_, more := dial(t, l)
			want(more, os.Getpid(), strings.TrimSpace(string(own)))

			client.Close()
			local, remote := ends(mine)
			if id, err := c.Identify(local, remote); !errors.Is(err, peer.ErrNotFound) || id != (peer.Identity{}) {
				t.Errorf("closed: got %+v, %v, want not found", id, err)
			}
		})
	}
}

// child connects to l from a process of its own.
func child(t *testing.T, l net.Listener) (pid int, server net.Conn) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CHILD=tcp", "CHILD_ADDR="+l.Addr().String(), "GORACE=atexit_sleep_ms=0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	if got := line(t, bufio.NewReader(out)); got != "true <nil>" {
		t.Fatalf("child could not connect: %s", got)
	}
	return cmd.Process.Pid, accept(t, l)
}

// Other users' processes are looked at only where those users are allowed.
func TestIdentifyOtherUser(t *testing.T) {
	testenv.Root(t)
	local, remote := ends(connectAs(t, 1001, listen(t, "tcp", "127.0.0.1:0")))
	if id, err := checker(t).Identify(local, remote); !errors.Is(err, peer.ErrNotFound) || id != (peer.Identity{UID: 1001}) {
		t.Errorf("not allowed: got %+v, %v, want the user only", id, err)
	}
	id, err := checker(t, "1001").Identify(local, remote)
	if err != nil || id.UID != 1001 || id.PID == 0 || id.PID == os.Getpid() || id.Program != "exe" {
		t.Errorf("allowed: got %+v, %v, want user 1001 and exe", id, err)
	}
}

func BenchmarkIdentify(b *testing.B) {
	l := listen(b, "tcp", "127.0.0.1:0")
	c := checker(b)
	_, server := dial(b, l)
	local, remote := ends(server)
	for b.Loop() {
		if _, err := c.Identify(local, remote); err != nil {
			b.Fatal(err)
		}
	}
}
