//go:build !linux && !windows && !darwin

package peer

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
)

// table stands in where TCP peers cannot be named.
type table struct{}

func newTable(*slog.Logger) table { return table{} }

func (table) owner(_, _ netip.AddrPort) (owner, error) {
	return owner{}, fmt.Errorf("same-user check of TCP connections on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func (table) prepare() {}

func (table) close() error { return nil }
