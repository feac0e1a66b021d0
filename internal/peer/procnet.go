package peer

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// findInProc returns the socket bound to client and connected to
// server in the text of /proc/net/tcp or /proc/net/tcp6. A line that cannot be
// read is passed over: at worst the peer is not found, and denied.
func findInProc(r io.Reader, client, server netip.AddrPort) (socket, error) {
	lines := bufio.NewScanner(r)
	port := fmt.Appendf(nil, ":%04X ", client.Port())
	for lines.Scan() {
		if !bytes.Contains(lines.Bytes(), port) {
			continue // nearly all of a busy machine's thousands
		}
		if s, ok := parseProcLine(lines.Text(), client, server); ok {
			return s, nil
		}
	}
	if err := lines.Err(); err != nil {
		return socket{}, fmt.Errorf("socket table: %w", err)
	}
	return socket{}, ErrNotFound
}

// parseProcLine reads one line: sl, local, remote, state, queues, timer,
// retransmits, uid, timeout, inode, and more that is of no interest.
func parseProcLine(line string, client, server netip.AddrPort) (s socket, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 || parseProcAddr(f[1]) != client || parseProcAddr(f[2]) != server {
		return socket{}, false
	}
	state, err1 := strconv.ParseUint(f[3], 16, 8)
	id, err2 := strconv.ParseUint(f[7], 10, 32)
	inode, err3 := strconv.ParseUint(f[9], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || !held(byte(state), inode) {
		return socket{}, false
	}
	return socket{uint32(id), inode}, true
}

// parseProcAddr reads "0100007F:1F90". The kernel prints an address as 32-bit
// words in the machine's byte order, so each one is turned round on its own.
// What it cannot read is the zero AddrPort, which equals no real one.
func parseProcAddr(s string) netip.AddrPort {
	host, port, _ := strings.Cut(s, ":")
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}
	}
	b, err := hex.DecodeString(host)
	if err != nil || len(b)%4 != 0 {
		return netip.AddrPort{}
	}
	for w := b; len(w) > 0; w = w[4:] {
		binary.NativeEndian.PutUint32(w, binary.BigEndian.Uint32(w))
	}
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(p))
}

// listenerInode returns the inode of a listening socket in one line of
// /proc/net/tcp or tcp6 if it has addr, or any address with that port.
func listenerInode(line string, addr netip.AddrPort) (inode string, ok bool) {
	const listening = "0A"
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != listening {
		return "", false
	}
	return f[9], covers(parseProcAddr(f[1]), addr)
}
