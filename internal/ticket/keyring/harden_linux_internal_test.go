//go:build linux

package keyring

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// The change is for the life of a process, so the test has one of its own.
func TestHarden(t *testing.T) {
	const inside = "KERBPASS_KEYRING_HARDEN"
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHarden$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
			t.Errorf("in its own process: %v\n%s", err, out)
		}
		return
	}
	if err := harden(); err != nil {
		t.Fatal(err)
	}
	if dumpable, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_GET_DUMPABLE, 0, 0); dumpable != 0 || errno != 0 {
		t.Errorf("dumpable is %d, %v, want 0", dumpable, errno)
	}
	var core syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &core); err != nil || core != (syscall.Rlimit{}) {
		t.Errorf("core limit is %v, %v, want 0", core, err)
	}
}
