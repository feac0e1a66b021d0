//go:build darwin

package peer

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// finder names processes that are known already.
type finder struct{}

func newFinder([]User) *finder { return nil }

func (*finder) process(o owner, _ func() bool) (pid int, program string, err error) {
	return named(int(o.key))
}

func listener(addr netip.AddrPort) (pid int, program string, err error) {
	all, err := pcbs()
	if err != nil {
		return 0, "", err
	}
	p, err := listeningPCB(all, addr)
	if err != nil {
		return 0, "", err
	}
	return named(p.pid)
}

// named adds the short name of a process to its id.
func named(pid int) (int, string, error) {
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return 0, "", fmt.Errorf("process %d: %w: %w", pid, ErrNotFound, err)
	}
	return pid, unix.ByteSliceToString(info.Proc.P_comm[:]), nil
}
