//go:build unix

package proxy

import (
	"crypto/tls"
	"net"
	"syscall"
)

// alive looks, without waiting and without taking anything, whether an idle
// connection is still open and silent. An answer that nobody asked for makes
// it as useless as an end.
func alive(u *upConn) bool {
	c := u.Conn
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	tc, ok := c.(*net.TCPConn)
	if !ok || u.rd.err != nil {
		return u.rd.err == nil
	}
	raw, err := tc.SyscallConn()
	if err != nil {
		return false
	}
	silent := false
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		silent = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && silent
}
