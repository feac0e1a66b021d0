package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

func socksAt(addr string) *proxy.Upstream {
	up := pt.UpstreamAt(addr)
	up.URL, up.SOCKS = "socks5://"+addr, true
	return up
}

// over is a Router whose hops are tried in order; target, when it is not "", is
// what every host means to the proxy itself.
func over(target string, hops ...*proxy.Upstream) proxy.RouterFunc {
	return func(_ context.Context, host string, port uint16) (proxy.Decision, error) {
		d := proxy.Decision{Route: proxy.RouteProxy, Host: host, Port: port, Upstream: hops[0], Fallbacks: hops[1:], Kerberos: true, Preemptive: true}
		if target != "" {
			a := pt.UpstreamAt(target)
			d.Host, d.Port = a.Host, a.Port
		}
		if hops[0] == proxy.DirectHop {
			d.Route, d.Upstream = proxy.RouteDirect, nil
		}
		return d, nil
	}
}

// hopOrigin answers both plain requests and what comes through tunnels.
func hopOrigin(t *testing.T) *pt.Server { return pt.Answering(t, pt.OK) }

func TestHopsThroughSOCKS(t *testing.T) {
	pt.Leaks(t)
	origin := hopOrigin(t)
	socks := pt.SOCKS(t, func(string) (string, byte) { return origin.Addr, 0 })
	rec, auth := &pt.Recorder{}, &pt.Auth{}
	_, addr := pt.Start(t, proxy.Config{Router: over("", socksAt(socks.Addr)), Auth: auth, Observer: rec})
	c := pt.Dial(t, addr)
	for range 2 { // the second over the pooled connection
		if resp, _ := c.Get("http://a.test/x"); resp.StatusCode != 200 {
			t.Fatalf("GET: got %d", resp.StatusCode)
		}
	}
	if resp, _ := c.Get("http://b.test:8080/y"); resp.StatusCode != 200 {
		t.Errorf("GET of another host: got %d", resp.StatusCode)
	}
	if resp, _, err := pt.Dial(t, addr).Tunnel("c.test:443", "GET /z HTTP/1.1\r\nHost: c.test\r\n\r\n"); err != nil || resp.StatusCode != 200 {
		t.Errorf("CONNECT: got %v, %v", resp, err)
	}
	pt.Dial(t, addr).Tunnel("[::1]:443", "GET /6 HTTP/1.1\r\nHost: c.test\r\n\r\n")
	pt.Dial(t, addr).Tunnel("192.0.2.1:443", "GET /4 HTTP/1.1\r\nHost: c.test\r\n\r\n")
	want := []string{"name a.test:80", "name b.test:8080", "name c.test:443", "ip [::1]:443", "ip 192.0.2.1:443"}
	if got := socks.Targets(); !slices.Equal(got, want) {
		t.Errorf("the SOCKS proxy was asked for %q, want %q", got, want)
	}
	var targets []string
	for _, h := range origin.Heads() {
		targets = append(targets, h.Target())
		if h.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("the origin saw credentials: %s", h.Line)
		}
	}
	if want := []string{"/x", "/x", "/y", "/z", "/6", "/4"}; !slices.Equal(targets, want) {
		t.Errorf("the origin was asked for %q, want %q", targets, want)
	}
	if auth.Made() != 0 {
		t.Errorf("%d tokens were made for a SOCKS proxy", auth.Made())
	}
	if ev := rec.Events()[0]; ev.Upstream != "socks5://"+socks.Addr || ev.Route != proxy.RouteProxy {
		t.Errorf("the event says %s, %s", ev.Route, ev.Upstream)
	}
}

// An origin behind a SOCKS proxy must not get the client's or our credentials.
func TestHopsSOCKSOriginsAsking(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Answering(t, pt.Need407)
	socks := pt.SOCKS(t, func(string) (string, byte) { return origin.Addr, 0 })
	auth := &pt.Auth{}
	_, addr := pt.Start(t, proxy.Config{Router: over("", socksAt(socks.Addr)), Auth: auth})
	if resp, _ := pt.Dial(t, addr).Get("http://a.test/"); resp.StatusCode != 502 || pt.Cause(resp) != "destination_unreachable" {
		t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
	}
	if auth.Made() != 0 {
		t.Error("a token was made")
	}
}

func TestHopsSOCKSRefusals(t *testing.T) {
	pt.Leaks(t)
	for _, x := range []struct {
		name   string
		script func(c *pt.Conn)
		cause  string // alone
		again  bool   // with another upstream behind it, that one is used
	}{
		{"silent end", func(*pt.Conn) {}, "upstream_unreachable", true},
		{"not SOCKS", func(c *pt.Conn) { c.Send("HTTP/1.1 400 Bad Request\r\n\r\n") }, "upstream_unreachable", true},
		{"login", func(c *pt.Conn) { c.R.Discard(3); c.Write([]byte{5, 0xff}) }, "upstream_unreachable", true},
		{"end inside the reply", func(c *pt.Conn) { c.R.Discard(3); c.Write([]byte{5, 0, 5, 0, 0}) }, "upstream_unreachable", true},
		{"bad address type", func(c *pt.Conn) { c.R.Discard(3); c.Write([]byte{5, 0, 5, 0, 0, 9, 9}); c.R.Discard(13) }, "upstream_unreachable", true},
		{"refused", func(c *pt.Conn) { c.R.Discard(3); c.Write([]byte{5, 0, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0}); c.R.Discard(13) }, "destination_unreachable", true},
		{"by its rules", func(c *pt.Conn) { c.R.Discard(3); c.Write([]byte{5, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0}); c.R.Discard(13) }, "policy", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			socks, second := pt.Serve(t, x.script), pt.Negotiating(t, pt.Any())
			_, addr := pt.Start(t, proxy.Config{Router: over("", socksAt(socks.Addr)), Auth: &pt.Auth{}})
			if resp, _ := pt.Dial(t, addr).Do("CONNECT", connectA); pt.Cause(resp) != x.cause {
				t.Errorf("alone: got %d %s, want %s", resp.StatusCode, pt.Cause(resp), x.cause)
			}
			_, addr = pt.Start(t, proxy.Config{Router: over("", socksAt(socks.Addr), pt.UpstreamAt(second.Addr)), Auth: &pt.Auth{}})
			for range 2 {
				resp, _ := pt.Dial(t, addr).Do("CONNECT", connectA)
				if x.again != (resp.StatusCode == 200) {
					t.Errorf("with another one: CONNECT got %d %s", resp.StatusCode, pt.Cause(resp))
				}
			}
		})
	}
}

// A SOCKS proxy that says nothing costs the time of a dial, not for ever.
func TestHopsSOCKSSilence(t *testing.T) {
	pt.Leaks(t)
	socks := pt.Serve(t, func(c *pt.Conn) { c.R.ReadByte(); c.R.Peek(1 << 10) })
	origin := hopOrigin(t)
	_, addr := pt.Start(t, proxy.Config{Router: over(origin.Addr, socksAt(socks.Addr), proxy.DirectHop), Auth: &pt.Auth{}, DialTimeout: 200 * time.Millisecond})
	if resp, _ := pt.Dial(t, addr).Get("http://a.test/"); resp.StatusCode != 200 {
		t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
	}
	socks.DropAll()
}

// Every kind of hop takes over from every other, for plain requests, bodies and
// tunnels, and each speaks in its own way.
func TestHopsTakeOver(t *testing.T) {
	pt.Leaks(t)
	kinds := []string{"http", "socks", "noauth", "direct"}
	for _, bad := range kinds {
		for _, good := range kinds {
			if bad == good {
				continue
			}
			t.Run(bad+" to "+good, func(t *testing.T) {
				origin := hopOrigin(t)
				negotiating := pt.Negotiating(t, pt.Any())
				open := pt.Serve(t, func(c *pt.Conn) { // a proxy that asks for nothing
					h, err := c.ReadHead()
					for ; err == nil; h, err = c.ReadHead() {
						if h.Method() == "CONNECT" {
							c.Send("HTTP/1.1 200 OK\r\n\r\n")
							continue
						}
						c.ReadBody(h)
						c.Send(pt.OK)
					}
				})
				socks := pt.SOCKS(t, func(string) (string, byte) { return origin.Addr, 0 })
				dead := deadAddr(t)
				hop := func(kind string, works bool) *proxy.Upstream {
					at := func(s *pt.Server) string {
						if works {
							return s.Addr
						}
						return dead
					}
					switch kind {
					case "http":
						return pt.UpstreamAt(at(negotiating))
					case "socks":
						return socksAt(at(socks.Server))
					case "noauth":
						up := pt.UpstreamAt(at(open))
						up.NoAuth = true
						return up
					}
					return proxy.DirectHop
				}
				target := dead
				if good == "direct" {
					target = origin.Addr
				}
				rec, auth := &pt.Recorder{}, &pt.Auth{}
				_, addr := pt.Start(t, proxy.Config{Router: over(target, hop(bad, false), hop(good, true)), Auth: auth, Observer: rec})
				for range 2 {
					if resp, _ := pt.Dial(t, addr).Get("http://a.test/"); resp.StatusCode != 200 {
						t.Errorf("GET: got %d %s", resp.StatusCode, pt.Cause(resp))
					}
					if resp, _ := pt.Dial(t, addr).Do("POST", "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"+strings.Repeat("b", 1000)); resp.StatusCode != 200 {
						t.Errorf("POST: got %d %s", resp.StatusCode, pt.Cause(resp))
					}
					if resp, _ := pt.Dial(t, addr).Do("CONNECT", connectA); resp.StatusCode != 200 {
						t.Errorf("CONNECT: got %d %s", resp.StatusCode, pt.Cause(resp))
					}
				}
				if want := good == "http"; want != (auth.Made() > 0) {
					t.Errorf("%d tokens were made", auth.Made())
				}
				for _, ev := range rec.Events() {
					if want := hop(good, true); good == "direct" && (ev.Route != proxy.RouteDirect || ev.Upstream != "") || good != "direct" && (ev.Route != proxy.RouteProxy || ev.Upstream != want.URL) {
						t.Errorf("the event says %s, %q", ev.Route, ev.Upstream)
					}
				}
				for _, h := range origin.Heads() {
					if h.Header.Get("Proxy-Authorization") != "" || !strings.HasPrefix(h.Target(), "/") {
						t.Errorf("the origin saw %q", h.Raw)
					}
				}
				for _, h := range append(negotiating.Heads(), open.Heads()...) {
					if h.Method() != "CONNECT" && !strings.HasPrefix(h.Target(), "http://") {
						t.Errorf("a proxy saw %q", h.Raw)
					}
				}
				for _, h := range open.Heads() {
					if h.Header.Get("Proxy-Authorization") != "" {
						t.Errorf("who is not on the list saw %q", h.Raw)
					}
				}
			})
		}
	}
}

// A target that cannot be reached directly says nothing about the next one: the
// direct way goes first again.
func TestHopsDirectDoesNotRest(t *testing.T) {
	pt.Leaks(t)
	origin, second := hopOrigin(t), pt.Negotiating(t, pt.Any())
	dead := deadAddr(t)
	bad, good := over(dead, proxy.DirectHop, pt.UpstreamAt(second.Addr)), over(origin.Addr, proxy.DirectHop, pt.UpstreamAt(second.Addr))
	_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
		if h == "bad.test" {
			return bad(ctx, h, p)
		}
		return good(ctx, h, p)
	})})
	for range 3 {
		pt.Dial(t, addr).Get("http://bad.test/")
	}
	n := len(second.Heads())
	pt.Dial(t, addr).Get("http://good.test/")
	if n != 3 || len(second.Heads()) != 3 || len(origin.Heads()) != 1 {
		t.Errorf("the second one saw %d requests, then %d; the origin %d", n, len(second.Heads()), len(origin.Heads()))
	}
}

// An upstream that could not be reached goes last for a while, SOCKS as well.
func TestHopsRest(t *testing.T) {
	pt.Leaks(t)
	second := pt.Negotiating(t, pt.Any())
	dials := map[string]int{}
	first := socksAt(deadAddr(t))
	turn := make(chan struct{}, 1)
	_, addr := pt.Start(t, proxy.Config{Router: over("", first, pt.UpstreamAt(second.Addr)), Auth: &pt.Auth{},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			turn <- struct{}{}
			dials[addr]++
			<-turn
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		}})
	start := time.Now()
	for range 5 {
		pt.Dial(t, addr).Do("CONNECT", connectA)
	}
	turn <- struct{}{}
	n := dials[fmt.Sprintf("%s:%d", first.Host, first.Port)]
	<-turn
	// One second of rest after the first failure, then two: no more than that
	// many fit into the time that it took.
	if most := 1 + int(time.Since(start)/time.Second); n > most || n == 0 {
		t.Errorf("%d dials of an upstream that is down, at most %d expected", n, most)
	}
}

func TestHopsNotOnTheList(t *testing.T) {
	pt.Leaks(t)
	up := pt.Answering(t, pt.Need407)
	for _, preemptive := range []bool{true, false} {
		auth, rec := &pt.Auth{}, &pt.Recorder{}
		_, addr := pt.Start(t, proxy.Config{Auth: auth, Observer: rec, Spares: 4, Router: proxy.RouterFunc(func(_ context.Context, h string, p uint16) (proxy.Decision, error) {
			hop := pt.UpstreamAt(up.Addr)
			hop.NoAuth = true
			return proxy.Decision{Route: proxy.RouteProxy, Host: h, Port: p, Upstream: hop, Kerberos: true, Preemptive: preemptive}, nil
		})})
		for _, do := range []func() (*http.Response, string){
			func() (*http.Response, string) { return pt.Dial(t, addr).Get("http://a.test/") },
			func() (*http.Response, string) { return pt.Dial(t, addr).Do("CONNECT", connectA) },
			func() (*http.Response, string) {
				return pt.Dial(t, addr).Do("POST", "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nb")
			},
		} {
			resp, body := do()
			if resp.StatusCode != 502 || pt.Cause(resp) != "upstream_not_allowed" || !strings.Contains(body, " to kerberos.upstreams") {
				t.Errorf("got %d %s: %s", resp.StatusCode, pt.Cause(resp), body)
			}
		}
		if auth.Made() != 0 {
			t.Errorf("%d tokens were made", auth.Made())
		}
	}
	for _, h := range up.Heads() {
		if h.Header.Get("Proxy-Authorization") != "" {
			t.Errorf("it saw %q", h.Raw)
		}
	}
}

// A connection that was authenticated while the proxy was on the list is not
// used once it is not.
func TestHopsTakenOffTheList(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	on, off := pt.UpstreamAt(up.Addr), pt.UpstreamAt(up.Addr)
	off.NoAuth = true
	_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
		if h == "off.test" {
			return over("", off)(ctx, h, p)
		}
		return over("", on)(ctx, h, p)
	})})
	c := pt.Dial(t, addr)
	if resp, _ := c.Get("http://on.test/"); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	if resp, _ := c.Get("http://off.test/"); pt.Cause(resp) != "upstream_not_allowed" {
		t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
	}
}

// TRACE would come back with the credentials of whichever hop is used.
func TestHopsNoTrace(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	_, addr := pt.Start(t, proxy.Config{Router: over(deadAddr(t), proxy.DirectHop, pt.UpstreamAt(up.Addr)), Auth: &pt.Auth{}})
	if resp, _ := pt.Dial(t, addr).Do("TRACE", "TRACE http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n"); pt.Cause(resp) != "policy" || up.Conns() != 0 {
		t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
	}
}

// Bytes right behind the reply of a SOCKS proxy are the target's.
func TestHopsSOCKSBytesBehindTheReply(t *testing.T) {
	pt.Leaks(t)
	socks := pt.Serve(t, func(c *pt.Conn) {
		c.R.Discard(3)
		c.Write([]byte{5, 0})
		c.R.Discard(4 + 1 + len("a.test") + 2)
		c.Write(append([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0}, "first words\n"...))
		c.R.ReadByte()
	})
	_, addr := pt.Start(t, proxy.Config{Router: over("", socksAt(socks.Addr))})
	c := pt.Dial(t, addr)
	if resp, _ := c.Do("CONNECT", connectA); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	if line, err := bufio.NewReader(c.R).ReadString('\n'); line != "first words\n" {
		t.Errorf("got %q, %v", line, err)
	}
}

// tunnels says of every request whether a tunnel was asked for.
type tunnels struct {
	proxy.RouterFunc
	seen chan bool
}

func (r tunnels) Route(ctx context.Context, host string, port uint16) (proxy.Decision, error) {
	r.seen <- false
	return r.RouterFunc(ctx, host, port)
}

func (r tunnels) RouteTunnel(ctx context.Context, host string, port uint16) (proxy.Decision, error) {
	r.seen <- true
	return r.RouterFunc(ctx, host, port)
}

func TestTunnelsAreRoutedAsSuch(t *testing.T) {
	origin := hopOrigin(t)
	r := tunnels{over(origin.Addr, proxy.DirectHop), make(chan bool, 2)}
	_, addr := pt.Start(t, proxy.Config{Router: r})
	if resp, _ := pt.Dial(t, addr).Get("http://a.test:443/"); resp.StatusCode != 200 || <-r.seen {
		t.Errorf("a plain request, whatever its port: got %d, or routed as a tunnel", resp.StatusCode)
	}
	resp, _, err := pt.Dial(t, addr).Tunnel("a.test:80", "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if err != nil || resp.StatusCode != 200 || !<-r.seen {
		t.Errorf("a tunnel, whatever its port: got %v, %v, or routed as a plain request", resp, err)
	}
}
