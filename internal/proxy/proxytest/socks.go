package proxytest

import (
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"
)

// SOCKSServer is a SOCKS5 server that wants no login. What it was asked for is
// in Targets: "name a.test:80" or "ip 127.0.0.1:80".
type SOCKSServer struct {
	*Server
	mu      sync.Mutex // guards targets
	targets []string
}

// Targets is what was asked for so far.
func (s *SOCKSServer) Targets() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.targets...)
}

// SOCKS starts one. Whatever it is asked for, it connects to the address that
// to gives for it, or replies with to's code where that is not zero.
func SOCKS(t testing.TB, to func(host string) (addr string, code byte)) *SOCKSServer {
	s := &SOCKSServer{}
	s.Server = Serve(t, func(c *Conn) { s.serve(c, to) })
	return s
}

func (s *SOCKSServer) serve(c *Conn, to func(host string) (string, byte)) {
	b := make([]byte, 512)
	read := func(n int) []byte {
		if _, err := io.ReadFull(c.R, b[:n]); err != nil {
			return nil
		}
		return b[:n]
	}
	if h := read(2); h == nil || h[0] != 5 || read(int(h[1])) == nil {
		return
	}
	c.Write([]byte{5, 0})
	h := read(4)
	if h == nil || h[1] != 1 {
		return
	}
	kind, host := "ip", ""
	switch h[3] {
	case 1:
		host = net.IP(read(4)).String()
	case 4:
		host = net.IP(read(16)).String()
	case 3:
		kind = "name"
		if n := read(1); n != nil {
			host = string(read(int(n[0])))
		}
	}
	p := read(2)
	if p == nil {
		return
	}
	s.mu.Lock()
	s.targets = append(s.targets, kind+" "+net.JoinHostPort(host, strconv.Itoa(int(binary.BigEndian.Uint16(p)))))
	s.mu.Unlock()
	addr, code := to(host)
	var far net.Conn
	if code == 0 {
		var err error
		if far, err = net.Dial("tcp", addr); err != nil {
			code = 5
		}
	}
	// A name as the bound address: the longest form of a reply.
	c.Write(append([]byte{5, code, 0, 3, 5}, "bound\x00\x00"...))
	if code != 0 {
		return
	}
	defer far.Close()
	back := make(chan struct{})
	go func() {
		defer close(back)
		io.Copy(c.Conn, far)
		c.Conn.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(far, c.R)
	far.(*net.TCPConn).CloseWrite()
	<-back
}
