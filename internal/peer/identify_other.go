//go:build !linux && !windows && !darwin

package peer

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
)

// finder stands in where processes cannot be found by their sockets.
type finder struct{}

func newFinder([]User) *finder { return nil }

func (*finder) process(owner, func() bool) (pid int, program string, err error) {
	return 0, "", fmt.Errorf("processes by their sockets on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func listener(netip.AddrPort) (pid int, program string, err error) {
	return 0, "", fmt.Errorf("programs by their ports on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
