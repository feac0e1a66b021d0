//go:build linux

package proxy

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
)

// Connections that live get keep-alive probes, and only once; nothing comes
// back when there are none.
func TestKeepAliveForWhatLives(t *testing.T) {
	s, err := New(Config{Router: RouterFunc(nil), Peer: PeerFunc(func(_, _ netip.AddrPort) error { return nil })})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var c [2]*net.TCPConn
	for i := range c {
		d, err := s.dialer.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c[i] = d.(*net.TCPConn)
		defer d.Close()
		s.track(d)
	}
	on := func(c *net.TCPConn) (v int) {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) { v, _ = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE) })
		return v
	}
	if on(c[0]) != 0 || s.keeper == nil {
		t.Fatal("keep-alive is on from the start, or nobody will come to switch it on")
	}
	s.keeper.Stop() // its turn comes by hand
	s.untrack(c[1])
	if s.young != 1 {
		t.Errorf("%d young connections, want 1", s.young)
	}
	s.keepAlive()
	if on(c[0]) == 0 || s.young != 0 || s.keeper != nil {
		t.Errorf("keep-alive %d, %d young, timer %v", on(c[0]), s.young, s.keeper)
	}
}
