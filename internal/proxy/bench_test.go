package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"

	"kerbpass/internal/proxy"
	"kerbpass/internal/proxy/proxytest"
)

// answering is a server that costs as little as a server can: it answers each
// head with the same bytes, and echoes behind a CONNECT.
func answering(b testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	page := append([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n"), make([]byte, 1024)...)
	serve := func(c net.Conn) {
		defer func() {
			mu.Lock()
			delete(open, c)
			mu.Unlock()
			c.Close()
		}()
		buf := make([]byte, 4096)
		n := 0
		for {
			m, err := c.Read(buf[n:])
			if err != nil {
				return
			}
			if n += m; !bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) {
				continue
			}
			if buf[0] == 'C' {
				c.Write([]byte("HTTP/1.1 200 OK\r\n\r\n"))
				io.Copy(c, c)
				return
			}
			n = 0
			if _, err := c.Write(page); err != nil {
				return
			}
		}
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			wg.Go(func() { serve(c) })
		}
	})
	b.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// benchClient is a kept-alive client that allocates nothing per request.
type benchClient struct {
	c   net.Conn
	req []byte
	buf []byte
}

func newBenchClient(b testing.TB, addr, target string) *benchClient {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return &benchClient{c, []byte("GET http://" + target + "/bytes/1024 HTTP/1.1\r\nHost: " + target + "\r\nUser-Agent: bench\r\nAccept: */*\r\nProxy-Connection: Keep-Alive\r\n\r\n"), make([]byte, 4096)}
}

// get asks once and reads the whole answer, whose body has 1,024 bytes.
func (k *benchClient) get(b testing.TB) {
	if _, err := k.c.Write(k.req); err != nil {
		b.Fatal(err)
	}
	for n := 0; ; {
		m, err := k.c.Read(k.buf[n:])
		if err != nil {
			b.Fatal(err)
		}
		n += m
		if i := bytes.Index(k.buf[:n], []byte("\r\n\r\n")); i >= 0 && n >= i+4+1024 {
			if !bytes.HasPrefix(k.buf, []byte("HTTP/1.1 200 ")) {
				b.Fatalf("got %q", k.buf[:i])
			}
			return
		}
	}
}

// fixed is a Router that gives the same answer for every request.
func fixed(d proxy.Decision) proxy.RouterFunc {
	return func(context.Context, string, uint16) (proxy.Decision, error) { return d, nil }
}

func viaFixed(up string) proxy.RouterFunc {
	return fixed(proxy.Decision{Route: proxy.RouteProxy, Rule: "default", Host: "origin.test", Port: 80, Upstream: proxytest.UpstreamAt(up), Kerberos: true, Preemptive: true})
}

func directFixed(origin string) proxy.RouterFunc {
	a := netip.MustParseAddrPort(origin)
	return fixed(proxy.Decision{Route: proxy.RouteDirect, Rule: "exact", Entry: "127.0.0.1", Host: a.Addr().String(), Port: a.Port()})
}

func benchmarkGet(b *testing.B, r proxy.Router, conns int) {
	_, addr := proxytest.Start(b, proxy.Config{Router: r, Auth: &proxytest.Auth{}})
	clients := make([]*benchClient, conns)
	for i := range clients {
		clients[i] = newBenchClient(b, addr, "origin.test")
		clients[i].get(b)
	}
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, k := range clients {
		n := b.N / conns
		if i < b.N%conns {
			n++
		}
		wg.Go(func() {
			for range n {
				k.get(b)
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}

// A kept-alive GET through an upstream, the client's and the upstream's own
// work included.
func BenchmarkGet(b *testing.B)      { benchmarkGet(b, viaFixed(answering(b)), 1) }
func BenchmarkGet64(b *testing.B)    { benchmarkGet(b, viaFixed(answering(b)), 64) }
func BenchmarkGet512(b *testing.B)   { benchmarkGet(b, viaFixed(answering(b)), 512) }
func BenchmarkBypass64(b *testing.B) { benchmarkGet(b, directFixed(answering(b)), 64) }

// A new tunnel with a token of its own: connect, CONNECT, 16 bytes there and
// back, close.
func BenchmarkTunnel(b *testing.B) {
	_, addr := proxytest.Start(b, proxy.Config{Router: viaFixed(answering(b)), Auth: &proxytest.Auth{}})
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		io.WriteString(c, "CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\r\n")
		br := bufio.NewReaderSize(c, 256)
		resp, err := http.ReadResponse(br, &http.Request{Method: "CONNECT"})
		if err != nil || resp.StatusCode != 200 {
			b.Fatal(resp, err)
		}
		var echo [16]byte
		c.Write(echo[:])
		if _, err := io.ReadFull(br, echo[:]); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
