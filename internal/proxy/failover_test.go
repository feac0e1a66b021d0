package proxy_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// several is a Router over upstreams in order of preference.
func several(addrs ...string) proxy.RouterFunc {
	var ups []*proxy.Upstream
	for _, a := range addrs {
		ups = append(ups, pt.UpstreamAt(a))
	}
	return func(_ context.Context, host string, port uint16) (proxy.Decision, error) {
		return proxy.Decision{Route: proxy.RouteProxy, Host: host, Port: port, Upstream: ups[0], Fallbacks: ups[1:], Kerberos: true, Preemptive: true}, nil
	}
}

// deadAddr refuses connections, and belongs to nobody else meanwhile: it is the
// near end of a connection.
func deadAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.LocalAddr().String()
}

const connectA = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"

func TestFailoverToTheNextUpstream(t *testing.T) {
	pt.Leaks(t)
	second := pt.Negotiating(t, pt.Any())
	dead := deadAddr(t)
	rec := &pt.Recorder{}
	auth := &pt.Auth{}
	_, addr := pt.Start(t, proxy.Config{Router: several(dead, second.Addr), Auth: auth, Observer: rec})
	if resp, _ := pt.Dial(t, addr).Get("http://a.test/"); resp.StatusCode != 200 {
		t.Errorf("GET: got %d", resp.StatusCode)
	}
	if resp, _ := pt.Dial(t, addr).Do("CONNECT", connectA); resp.StatusCode != 200 {
		t.Errorf("CONNECT: got %d", resp.StatusCode)
	}
	body := strings.Repeat("b", 1000)
	if resp, _ := pt.Dial(t, addr).Do("POST", "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"+body); resp.StatusCode != 200 {
		t.Errorf("POST: got %d", resp.StatusCode)
	}
	if ev := rec.Events(); ev[0].Upstream != "http://"+second.Addr {
		t.Errorf("the event names %s", ev[0].Upstream)
	}
	if auth.Made() != 2 {
		t.Errorf("%d tokens for two connections: one was made for an upstream that could not be reached", auth.Made())
	}
}

func TestFailoverWhenAllAreDown(t *testing.T) {
	pt.Leaks(t)
	one, two := deadAddr(t), deadAddr(t)
	_, addr := pt.Start(t, proxy.Config{Router: several(one, two), Auth: &pt.Auth{}})
	for range 2 { // resting ones are tried all the same
		if resp, _ := pt.Dial(t, addr).Get("http://a.test/"); resp.StatusCode != 502 || pt.Cause(resp) != "upstream_unreachable" {
			t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
		}
	}
}

func TestFailoverOnConnectGatewayErrors(t *testing.T) {
	pt.Leaks(t)
	for _, status := range []string{"502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout", "403 Forbidden", "500 Internal Server Error"} {
		first := pt.Serve(t, func(c *pt.Conn) {
			for {
				if _, err := c.ReadHead(); err != nil {
					return
				}
				c.Send("HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", status)
			}
		})
		second := pt.Negotiating(t, pt.Any())
		_, addr := pt.Start(t, proxy.Config{Router: several(first.Addr, second.Addr), Auth: &pt.Auth{}})
		resp, _ := pt.Dial(t, addr).Do("CONNECT", connectA)
		again := status[0] == '5' && status[:3] != "500"
		if again && (resp.StatusCode != 200 || second.Conns() != 1) || !again && (resp.Status != status || second.Conns() != 0) {
			t.Errorf("%s: got %s, %d connections to the second", status, resp.Status, second.Conns())
		}
		// A plain request may have been carried out: its answer stands.
		if resp, _ := pt.Dial(t, addr).Get("http://a.test/"); resp.Status != status {
			t.Errorf("GET with %s: got %s", status, resp.Status)
		}
		// Each saw tokens of its own.
		seen := map[string]string{}
		for name, s := range map[string]*pt.Server{"first": first, "second": second} {
			for _, h := range s.Heads() {
				if other, ok := seen[h.Token()]; ok && h.Token() != "" {
					t.Errorf("a token of %s went to %s too", other, name)
				}
				seen[h.Token()] = name
			}
		}
	}
}

func TestFailoverComesBackAtOnceAfterForget(t *testing.T) {
	pt.Leaks(t)
	second := pt.Negotiating(t, pt.Any())
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	firstAddr := free.Addr().String()
	free.Close()
	s, addr := pt.Start(t, proxy.Config{Router: several(firstAddr, second.Addr), Auth: &pt.Auth{}})
	connect := func() {
		t.Helper()
		if resp, _ := pt.Dial(t, addr).Do("CONNECT", connectA); resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	connect()
	l, err := net.Listen("tcp", firstAddr)
	if err != nil {
		t.Fatalf("the port was taken meanwhile: %v", err)
	}
	defer l.Close()
	accepted := make(chan struct{}, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- struct{}{}
			c.Close()
		}
	}()
	s.Forget()
	pt.Dial(t, addr).Do("CONNECT", connectA)
	select {
	case <-accepted:
	case <-time.After(10 * time.Second):
		t.Error("the preferred upstream was not tried after the network changed")
	}
}

// The guard: a refusing upstream sees two tokens of a ticket and no more, and
// everything else goes on.
func TestLockoutGuard(t *testing.T) {
	pt.Leaks(t)
	up := pt.Serve(t, func(c *pt.Conn) {
		for {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			c.Send(pt.Need407)
		}
	})
	origin := pt.Serve(t, func(c *pt.Conn) {
		for {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			c.Send(pt.OK)
		}
	})
	via, direct := pt.Via(up.Addr), pt.Direct()
	auth := &pt.Auth{}
	s, addr := pt.Start(t, proxy.Config{Auth: auth, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
		if h == "127.0.0.1" {
			return direct(ctx, h, p)
		}
		return via(ctx, h, p)
	})})
	tokens := func() (n int) {
		for _, h := range up.Heads() {
			if h.Token() != "" {
				n++
			}
		}
		return n
	}
	fifty := func() {
		t.Helper()
		for i := range 50 {
			raw, method := "GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n", "GET"
			if i%2 == 1 {
				raw, method = connectA, "CONNECT"
			}
			if resp, _ := pt.Dial(t, addr).Do(method, raw); resp.StatusCode != 502 || pt.Cause(resp) != "token_refused" {
				t.Fatalf("got %d %s", resp.StatusCode, pt.Cause(resp))
			}
		}
		if resp, _ := pt.Dial(t, addr).Get("http://" + origin.Addr + "/"); resp.StatusCode != 200 {
			t.Errorf("bypassed traffic meanwhile: got %d", resp.StatusCode)
		}
	}
	fifty()
	if n := tokens(); n != 2 {
		t.Errorf("the upstream saw %d tokens in fifty requests, want 2", n)
	}
	auth.Now.Add(1) // a new ticket
	fifty()
	if n := tokens(); n != 4 {
		t.Errorf("after a new ticket: %d tokens, want 4", n)
	}
	s.Forget() // the network has changed, or the user asked
	fifty()
	if n := tokens(); n != 6 {
		t.Errorf("after Forget: %d tokens, want 6", n)
	}
}

func TestTraceIsNotSentWithCredentials(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	if resp, _ := pt.Dial(t, addr).Do("TRACE", "TRACE http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 403 || pt.Cause(resp) != "policy" || up.Conns() != 0 {
		t.Errorf("got %d %s, %d connections", resp.StatusCode, pt.Cause(resp), up.Conns())
	}
	if resp, _ := pt.Dial(t, addr).Do("TRACE", "TRACE http://a.test/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("Max-Forwards 0: got %d", resp.StatusCode)
	}
}
