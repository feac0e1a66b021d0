package proxy

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"
)

const (
	requestHead  = "GET http://origin.test/bytes/1024 HTTP/1.1\r\nHost: origin.test\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\nAccept-Language: de,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\nProxy-Connection: keep-alive\r\nCookie: a=b; c=d\r\n\r\n"
	responseHead = "HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 20:55:35 GMT\r\nServer: x\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: 1024\r\nCache-Control: max-age=60\r\nVary: Accept-Encoding\r\nConnection: keep-alive\r\n\r\n"
)

var benchDecision = Decision{Route: RouteProxy, Upstream: &Upstream{}, Host: "origin.test", Port: 80}

// Parsing a request head and writing the one to send on.
func BenchmarkRequestHead(b *testing.B) {
	var r request
	var out []byte
	head := []byte(requestHead)
	b.ReportAllocs()
	for b.Loop() {
		if err := parseRequest(head, &r); err != nil {
			b.Fatal(err)
		}
		out = r.appendHead(out[:0], &benchDecision, "kerbpass")
	}
}

// Parsing a response head and writing the one for the client.
func BenchmarkResponseHead(b *testing.B) {
	var r response
	var out []byte
	head := []byte(responseHead)
	b.ReportAllocs()
	for b.Loop() {
		if err := parseResponse(head, "GET", &r); err != nil {
			b.Fatal(err)
		}
		out = r.appendHead(out[:0], "GET", "kerbpass", false, false)
	}
}

// Heads are parsed and written without allocating.
func TestHeadsAllocateNothing(t *testing.T) {
	var req request
	var resp response
	var out []byte
	rh, ph := []byte(requestHead), []byte(responseHead)
	if n := testing.AllocsPerRun(100, func() {
		if parseRequest(rh, &req) != nil || parseResponse(ph, "GET", &resp) != nil {
			t.Fatal("not parsed")
		}
		out = req.appendHead(out[:0], &benchDecision, "kerbpass")
		out = resp.appendHead(out[:0], "GET", "kerbpass", false, false)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// Taking a connection from the pool and giving it back, from many goroutines,
// the look at the socket included.
func BenchmarkPoolParallel(b *testing.B) {
	s, err := New(Config{Router: RouterFunc(nil), Peer: PeerFunc(func(_, _ netip.AddrPort) error { return nil })})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(io.Discard, c); c.Close() }()
		}
	}()
	key := placeKey{url: "http://up.test:8080"}
	for range 64 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		u := &upConn{Conn: c, s: s, key: key}
		u.rd.c = c
		s.track(c)
		s.put(u)
	}
	defer s.pool.close()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if u := s.get(key, true, time.Now()); u != nil {
				s.put(u)
			}
		}
	})
}
