package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
)

// Linux's sock_diag messages (linux/netlink.h, linux/inet_diag.h), encoded and
// decoded without a system call so that they are tested on every system.
// Headers are in the machine's byte order, addresses and ports in network
// order.
const (
	afInet  = 2
	afInet6 = 10

	nlHeaderLen   = 16
	nlError       = 2
	nlDone        = 3
	nlRequest     = 1 // flag; without NLM_F_DUMP the kernel looks up one socket
	sockDiag      = 20
	diagReqLen    = 56 // struct inet_diag_req_v2
	diagMsgLen    = 72 // struct inet_diag_msg
	protocolTCP   = 6
	anyCookieHalf = 0xffffffff
)

// A socket is what Linux knows about the peer's end of a connection.
type socket struct {
	uid   uint32
	inode uint64 // names it in /proc/PID/fd
}

// A diagErrno is the kernel's answer in an NLMSG_ERROR message.
type diagErrno int32

// errNoEntry is ENOENT: no such socket, or no module that could look it up.
const errNoEntry = diagErrno(2)

func (e diagErrno) Error() string { return fmt.Sprintf("sock_diag answers error %d", int32(e)) }

// answered reports whether err is nil or something the kernel said.
func answered(err error) bool {
	var errno diagErrno
	return err == nil || errors.Is(err, ErrNotFound) || errors.As(err, &errno)
}

// A diagQuestion is one request in the kernel's own layout.
type diagQuestion [nlHeaderLen + diagReqLen]byte

// diagRequest asks for the one socket that is bound to client and connected to
// server. Both addresses are of the same family, IPv4 not mapped.
func diagRequest(seq uint32, client, server netip.AddrPort) []byte {
	var q diagQuestion
	return q.fill(seq, client, server)
}

// fill is diagRequest in the memory of q.
func (q *diagQuestion) fill(seq uint32, client, server netip.AddrPort) []byte {
	clear(q[:])
	b := q[:]
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], sockDiag)
	binary.NativeEndian.PutUint16(b[6:], nlRequest)
	binary.NativeEndian.PutUint32(b[8:], seq)

	req := b[nlHeaderLen:]
	req[0] = afInet6
	if client.Addr().Is4() {
		req[0] = afInet // finds AF_INET6 sockets with mapped addresses as well
	}
	req[1] = protocolTCP
	binary.NativeEndian.PutUint32(req[4:], 0xffffffff) // all states
	binary.BigEndian.PutUint16(req[8:], client.Port())
	binary.BigEndian.PutUint16(req[10:], server.Port())
	putDiagAddr(req[12:28], client.Addr())
	putDiagAddr(req[28:44], server.Addr())
	binary.NativeEndian.PutUint32(req[48:], anyCookieHalf)
	binary.NativeEndian.PutUint32(req[52:], anyCookieHalf)
	return b
}

func putDiagAddr(b []byte, a netip.Addr) {
	if a.Is4() {
		a4 := a.As4()
		copy(b, a4[:])
		return
	}
	a16 := a.As16()
	copy(b, a16[:])
}

// parseDiag finds the answer to request seq in one datagram. done is false
// when the datagram holds none, only left-overs of an earlier request.
func parseDiag(b []byte, seq uint32, client, server netip.AddrPort) (s socket, done bool, err error) {
	for len(b) > 0 {
		if len(b) < nlHeaderLen {
			return socket{}, true, fmt.Errorf("sock_diag: header of %d bytes", len(b))
		}
		size := int(binary.NativeEndian.Uint32(b))
		if size < nlHeaderLen || size > len(b) {
			return socket{}, true, fmt.Errorf("sock_diag: message of %d bytes in %d", size, len(b))
		}
		kind, gotSeq, body := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:]), b[nlHeaderLen:size]
		b = b[min(len(b), (size+3)&^3):]
		if gotSeq != seq {
			continue
		}
		switch kind {
		case nlError:
			if len(body) < 4 {
				return socket{}, true, fmt.Errorf("sock_diag: error of %d bytes", len(body))
			}
			if errno := -int32(binary.NativeEndian.Uint32(body)); errno != 0 {
				return socket{}, true, diagErrno(errno)
			}
		case nlDone:
			return socket{}, true, ErrNotFound
		case sockDiag:
			if len(body) < diagMsgLen {
				return socket{}, true, fmt.Errorf("sock_diag: answer of %d bytes", len(body))
			}
			s, err := parseDiagSocket(body, client, server)
			return s, true, err
		}
	}
	return socket{}, false, nil
}

// parseDiagSocket reads a struct inet_diag_msg. It compares the whole 4-tuple,
// because the kernel answers with a listener on the port where it finds no
// connection.
func parseDiagSocket(m []byte, client, server netip.AddrPort) (socket, error) {
	src := diagAddr(m[0], m[8:24], m[4:6])
	dst := diagAddr(m[0], m[24:40], m[6:8])
	s := socket{binary.NativeEndian.Uint32(m[64:]), uint64(binary.NativeEndian.Uint32(m[68:]))}
	if src != client || dst != server || !held(m[1], s.inode) {
		return socket{}, ErrNotFound
	}
	return s, nil
}

func diagAddr(family byte, addr, port []byte) netip.AddrPort {
	var a netip.Addr
	switch family {
	case afInet:
		a = netip.AddrFrom4([4]byte(addr))
	case afInet6:
		a = netip.AddrFrom16([16]byte(addr)).Unmap()
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

// held reports whether a process holds a socket in this TCP state that has
// been connected. Sockets without an inode have been closed and show user 0
// whoever had them. A socket that is still connecting proves nothing about the
// connection we have accepted: its owner may only have picked the same port.
func held(state byte, inode uint64) bool {
	switch state {
	case 1, 4, 5, 8, 9, 11: // ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING
		return inode != 0
	}
	return false
}
