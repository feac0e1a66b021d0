//go:build darwin

package peer

import (
	"fmt"
	"log/slog"
	"net/netip"

	"golang.org/x/sys/unix"
)

// table asks the system for all its TCP sockets, every time: it has no
// question about a single one.
type table struct{}

func newTable(*slog.Logger) table { return table{} }

func (table) prepare() {}

func (table) close() error { return nil }

// owner describes the socket bound to client, connected to server.
func (table) owner(client, server netip.AddrPort) (owner, error) {
	all, err := pcbs()
	if err != nil {
		return owner{}, err
	}
	p, err := connectedPCB(all, client, server)
	if err != nil {
		return owner{}, err
	}
	return owner{user: uidUser(p.uid), key: uint64(p.pid)}, nil
}

func pcbs() ([]pcb, error) {
	b, err := unix.SysctlRaw("net.inet.tcp.pcblist_n")
	if err != nil {
		return nil, fmt.Errorf("list of TCP sockets: %w", err)
	}
	return parsePCBList(b)
}
