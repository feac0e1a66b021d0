package peer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
)

var (
	client4 = netip.MustParseAddrPort("127.0.0.1:40000")
	server4 = netip.MustParseAddrPort("127.0.0.1:5372")
	client6 = netip.MustParseAddrPort("[::1]:40000")
	server6 = netip.MustParseAddrPort("[::1]:5372")
)

// diagSocket builds what the kernel sends: a struct inet_diag_msg in a message.
func diagSocket(seq uint32, family, state byte, src, dst netip.AddrPort, uid, inode uint32) []byte {
	m := make([]byte, diagMsgLen)
	m[0], m[1] = family, state
	binary.BigEndian.PutUint16(m[4:], src.Port())
	binary.BigEndian.PutUint16(m[6:], dst.Port())
	for at, a := range map[int]netip.AddrPort{8: src, 24: dst} {
		b16 := a.Addr().As16()
		if family == afInet {
			copy(m[at:], b16[12:])
		} else {
			copy(m[at:], b16[:])
		}
	}
	binary.NativeEndian.PutUint32(m[64:], uid)
	binary.NativeEndian.PutUint32(m[68:], inode)
	return message(seq, sockDiag, m)
}

func message(seq uint32, kind uint16, body []byte) []byte {
	h := make([]byte, nlHeaderLen)
	binary.NativeEndian.PutUint32(h, uint32(nlHeaderLen+len(body)))
	binary.NativeEndian.PutUint16(h[4:], kind)
	binary.NativeEndian.PutUint32(h[8:], seq)
	return append(h, body...)
}

func errno(seq uint32, n int32) []byte {
	return message(seq, nlError, binary.NativeEndian.AppendUint32(nil, uint32(-n)))
}

func TestParseDiag(t *testing.T) {
	const seq, listen = 7, 10
	good := diagSocket(seq, afInet, 1, client4, server4, 1001, 99)
	other := netip.MustParseAddrPort("127.0.0.1:40001")
	var zero netip.AddrPort = netip.MustParseAddrPort("0.0.0.0:0")
	broken := errors.New("any error that is not an answer")

	for _, tt := range []struct {
		name string
		in   []byte
		v6   bool
		uid  uint32
		open bool // no answer in this datagram
		err  error
	}{
		{name: "IPv4", in: good, uid: 1001},
		{name: "IPv6", in: diagSocket(seq, afInet6, 1, client6, server6, 1001, 99), v6: true, uid: 1001},
		{name: "mapped on an IPv6 socket", in: diagSocket(seq, afInet6, 1, client4, server4, 1001, 99), uid: 1001},
		{name: "half closed by a living process", in: diagSocket(seq, afInet, 5, client4, server4, 1001, 99), uid: 1001},
		{name: "orphan", in: diagSocket(seq, afInet, 5, client4, server4, 0, 0), err: ErrNotFound},
		{name: "TIME_WAIT", in: diagSocket(seq, afInet, 6, client4, server4, 0, 0), err: ErrNotFound},
		{name: "still connecting", in: diagSocket(seq, afInet, 2, client4, server4, 1001, 99), err: ErrNotFound},
		{name: "listener on the port", in: diagSocket(seq, afInet, listen, client4, zero, 1001, 99), err: ErrNotFound},
		{name: "listener, state set aside", in: diagSocket(seq, afInet, 1, client4, zero, 1001, 99), err: ErrNotFound},
		{name: "other client port", in: diagSocket(seq, afInet, 1, other, server4, 1001, 99), err: ErrNotFound},
		{name: "other server port", in: diagSocket(seq, afInet, 1, client4, other, 1001, 99), err: ErrNotFound},
		{name: "the server's own end", in: diagSocket(seq, afInet, 1, server4, client4, 1001, 99), err: ErrNotFound},
		{name: "unknown family", in: diagSocket(seq, 99, 1, client4, server4, 1001, 99), err: ErrNotFound},
		{name: "no entry", in: errno(seq, 2), err: errNoEntry},
		{name: "not permitted", in: errno(seq, 1), err: diagErrno(1)},
		{name: "acknowledgement, then answer", in: append(errno(seq, 0), good...), uid: 1001},
		{name: "end of a dump", in: message(seq, nlDone, make([]byte, 4)), err: ErrNotFound},
		{name: "answer to an older question", in: diagSocket(seq-1, afInet, 1, client4, server4, 1001, 99), open: true},
		{name: "older error, then answer", in: append(errno(seq-1, 2), good...), uid: 1001},
		{name: "nothing", in: nil, open: true},
		{name: "header cut", in: good[:15], err: broken},
		{name: "body cut", in: good[:len(good)-1], err: broken},
		{name: "short answer", in: message(seq, sockDiag, make([]byte, 71)), err: broken},
		{name: "short error", in: message(seq, nlError, make([]byte, 3)), err: broken},
		{name: "length zero", in: make([]byte, 32), err: broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, server := client4, server4
			if tt.v6 {
				client, server = client6, server6
			}
			s, done, err := parseDiag(tt.in, seq, client, server)
			if done == tt.open || s.uid != tt.uid {
				t.Errorf("got uid %d, done %v, want %d, %v", s.uid, done, tt.uid, !tt.open)
			}
			if found := tt.uid != 0; found && s.inode != 99 || !found && s.inode != 0 {
				t.Errorf("got inode %d", s.inode)
			}
			if tt.err == broken {
				if answered(err) {
					t.Errorf("got %v, want an error that reopens the socket", err)
				}
			} else if !errors.Is(err, tt.err) {
				t.Errorf("got error %v, want %v", err, tt.err)
			}
		})
	}
}

// The layout as the kernel's headers define it, byte by byte.
func TestDiagRequest(t *testing.T) {
	want := message(7, sockDiag, []byte{
		2, 6, 0, 0, 255, 255, 255, 255, // AF_INET, TCP, no extensions, all states
		0x9c, 0x40, 0x14, 0xfc, // ports 40000 and 5372
		127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, // any interface, any cookie
	})
	binary.NativeEndian.PutUint16(want[6:], 1) // NLM_F_REQUEST alone: no dump
	if got := diagRequest(7, client4, server4); !bytes.Equal(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
	six := diagRequest(7, client6, server6)[nlHeaderLen:]
	if six[0] != afInet6 || six[27] != 1 || six[43] != 1 {
		t.Errorf("::1 was encoded as %v", six)
	}
}

func FuzzParseDiag(f *testing.F) {
	f.Add(diagSocket(7, afInet, 1, client4, server4, 1001, 99))
	f.Add(append(errno(6, 2), errno(7, 1)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, done, err := parseDiag(bytes.Clone(b), 7, client4, server4)
		if err == nil && done && !bytes.Contains(b, binary.NativeEndian.AppendUint32(nil, s.uid)) {
			t.Errorf("user %d is not in the answer", s.uid)
		}
	})
}
