//go:build linux

package peer_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kerbpass/internal/peer"
)

// Without a descriptor left, connections are checked as before, and naming
// their programs fails without harm. In a child, which the test's own files do
// not get in the way of.
func TestOutOfDescriptors(t *testing.T) {
	if os.Getenv("EXHAUST") == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^TestOutOfDescriptors$", "-test.v")
		cmd.Env = append(os.Environ(), "EXHAUST=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	_, server := dial(t, listen(t, "tcp", "127.0.0.1:0"))
	c := checker(t)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = min(limit.Cur, 128)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var held []int
	for {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		held = append(held, fd)
	}
	local, remote := ends(server)
	for range 3 {
		if err := c.Allowed(local, remote); err != nil {
			t.Errorf("got %v, want allowed", err)
		}
	}
	if id, err := c.Identify(local, remote); !errors.Is(err, peer.ErrNotFound) || id.PID != 0 || id.UID != uint32(os.Geteuid()) {
		t.Errorf("got %+v, %v, want the user only", id, err)
	}
	for _, fd := range held {
		unix.Close(fd)
	}
	if id, err := identify(c, local, remote); err != nil || id.PID != os.Getpid() {
		t.Errorf("afterwards: got %+v, %v, want this process", id, err)
	}
}
