package web

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
)

// maxConns bounds open connections; a browser uses six for one address.
const maxConns = 64

// guard is a listener that hands out only connections of allowed users, and no
// more than maxConns at a time. The rest is closed before a byte is read.
type guard struct {
	net.Listener
	peer  func(local, remote netip.AddrPort) error
	log   *slog.Logger
	slots chan struct{} // capacity maxConns; each open connection holds one
}

func newGuard(l net.Listener, c *Config) *guard {
	return &guard{l, c.Peer, c.Log, make(chan struct{}, maxConns)}
}

// Accept implements [net.Listener].
func (g *guard) Accept() (net.Conn, error) {
	for {
		c, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g.admits(c) {
			return &conn{Conn: c, free: sync.OnceFunc(func() { <-g.slots })}, nil
		}
		c.Close()
	}
}

// admits takes a slot when it returns true.
func (g *guard) admits(c net.Conn) bool {
	if err := g.peer(addrOf(c.LocalAddr()), addrOf(c.RemoteAddr())); err != nil {
		g.log.Warn("connection to the settings page refused", "err", err)
		return false
	}
	select {
	case g.slots <- struct{}{}:
		return true
	default:
		g.log.Warn("too many connections to the settings page")
		return false
	}
}

func addrOf(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// conn gives its slot back when it is closed.
type conn struct {
	net.Conn
	free func()
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.free()
	return c.Conn.Close()
}
