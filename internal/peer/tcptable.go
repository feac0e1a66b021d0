package peer

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Windows' tables of TCP sockets (iphlpapi.h), decoded without a system call
// so that they are tested on every system. A table is a count and as many
// rows; numbers are little-endian, addresses and ports in network order.

// A rowLayout says where the fields of a row begin.
type rowLayout struct {
	size, addrLen                                int
	state, laddr, lport, raddr, rport, processID int
}

var (
	// MIB_TCPROW_OWNER_PID
	rowIPv4 = rowLayout{size: 24, addrLen: 4, state: 0, laddr: 4, lport: 8, raddr: 12, rport: 16, processID: 20}
	// MIB_TCP6ROW_OWNER_PID, with the scope of each address behind it
	rowIPv6 = rowLayout{size: 56, addrLen: 16, laddr: 0, lport: 20, raddr: 24, rport: 44, state: 48, processID: 52}
)

// A tcpRow is one socket.
type tcpRow struct {
	state         uint32
	local, remote netip.AddrPort // IPv4 not mapped
	pid           uint32
}

// parseTCPTable returns the rows of a table. A table that is shorter than its
// count says is an error, because the missing rows may be the ones that count.
func parseTCPTable(b []byte, layout rowLayout) ([]tcpRow, error) {
	if len(b) < 4 {
		return nil, fmt.Errorf("table of TCP sockets has %d bytes", len(b))
	}
	count := uint64(binary.LittleEndian.Uint32(b))
	b = b[4:]
	if count > uint64(len(b)/layout.size) {
		return nil, fmt.Errorf("table of TCP sockets has %d bytes for %d rows", len(b), count)
	}
	rows := make([]tcpRow, count)
	for i := range rows {
		rows[i] = layout.parse(b[i*layout.size:])
	}
	return rows, nil
}

func (l rowLayout) parse(b []byte) tcpRow {
	addr := func(at, port int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(b[at : at+l.addrLen]) // 4 or 16 bytes always are one
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(b[port:]))
	}
	return tcpRow{
		state:  binary.LittleEndian.Uint32(b[l.state:]),
		local:  addr(l.laddr, l.lport),
		remote: addr(l.raddr, l.rport),
		pid:    binary.LittleEndian.Uint32(b[l.processID:]),
	}
}

// heldBy returns the process that holds the socket bound to client and
// connected to server.
func heldBy(rows []tcpRow, client, server netip.AddrPort) (pid uint32, err error) {
	for _, r := range rows {
		if r.local == client && r.remote == server && r.isHeld() {
			return r.pid, nil
		}
	}
	return 0, ErrNotFound
}

// isHeld is [held] for Windows. Process 0 stands for none, under Wine for every
// program that is not Windows'.
func (r tcpRow) isHeld() bool {
	switch r.state {
	case 5, 6, 7, 8, 9, 10: // ESTAB, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, CLOSING, LAST_ACK
		return r.pid != 0
	}
	return false
}

// listenerIn returns the process that listens on addr, or on every address
// with that port.
func listenerIn(rows []tcpRow, addr netip.AddrPort) (pid uint32, err error) {
	const listening = 2
	for _, r := range rows {
		if r.state == listening && r.pid != 0 && covers(r.local, addr) {
			return r.pid, nil
		}
	}
	return 0, ErrNotFound
}
