//go:build !linux

package peer

import (
	"errors"
	"fmt"
	"net/netip"
)

// Owner is answered on Linux only, so far.
func Owner(addr netip.AddrPort) (pid int, program string, err error) {
	return 0, "", fmt.Errorf("listener on %v: %w", addr, errors.ErrUnsupported)
}
