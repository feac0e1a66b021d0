//go:build unix

package proxy

import (
	"crypto/tls"
	"net"
	"syscall"
)

// peeker looks into a connection's socket; it is made once per connection.
type peeker struct {
	raw    syscall.RawConn
	look   func(fd uintptr) bool
	silent bool
}

// alive looks, without waiting and without taking anything, whether an idle
// connection is still open and silent. An answer that nobody asked for makes
// it as useless as an end.
func alive(u *upConn) bool {
	if u.rd.err != nil || len(u.rd.buffered()) > 0 {
		return false
	}
	p := &u.peek
	if p.raw == nil {
		c := u.Conn
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		tc, ok := c.(*net.TCPConn)
		if !ok {
			return true
		}
		raw, err := tc.SyscallConn()
		if err != nil {
			return false
		}
		p.raw = raw
		p.look = func(fd uintptr) bool {
			var b [1]byte
			_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			p.silent = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
			return true
		}
	}
	p.silent = false
	return p.raw.Read(p.look) == nil && p.silent
}

// maybeAlive reports whether a connection is worth a request that can be sent
// again.
func maybeAlive(u *upConn) bool { return alive(u) }
