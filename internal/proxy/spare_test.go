package proxy_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// spareWorld is a proxy that keeps spares for an upstream:
//
//	client ── proxy ──(spares)── up
type spareWorld struct {
	t    *testing.T
	s    *proxy.Server
	addr string
	up   *proxy.Upstream
	srv  *pt.Server
	auth *pt.Auth
	rec  *pt.Recorder
	skew atomic.Int64
	d    atomic.Pointer[proxy.Decision]
}

func newSpareWorld(t *testing.T, srv *pt.Server) *spareWorld {
	w := &spareWorld{t: t, srv: srv, up: pt.UpstreamAt(srv.Addr), auth: &pt.Auth{}, rec: &pt.Recorder{}}
	w.d.Store(&proxy.Decision{Route: proxy.RouteProxy, Rule: "default", Host: "a.test", Port: 443, Upstream: w.up, Kerberos: true, Preemptive: true})
	w.s, w.addr = pt.Start(t, proxy.Config{
		Router: proxy.RouterFunc(func(context.Context, string, uint16) (proxy.Decision, error) { return *w.d.Load(), nil }),
		Auth:   w.auth, Observer: w.rec, Spares: 4,
	})
	w.s.SetNow(func() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) })
	return w
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// tunnel opens a tunnel, proves that it carries bytes, and closes it.
func (w *spareWorld) tunnel() {
	w.t.Helper()
	c := pt.Dial(w.t, w.addr)
	resp, _ := c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	if resp.StatusCode != 200 {
		w.t.Fatalf("got %d, want a tunnel", resp.StatusCode)
	}
	fmt.Fprint(c, "hello")
	got := make([]byte, 5)
	if _, err := c.R.Read(got); err != nil || string(got) != "hello" {
		w.t.Fatalf("echo: got %q, %v", got, err)
	}
	c.Close()
}

func (w *spareWorld) ready() int { n, _ := w.s.Spare(w.up); return n }

// settled waits until spares are there and none is under way. The upstream
// hears of a connection later than who opened it; each has its token.
func (w *spareWorld) settled() {
	w.t.Helper()
	until(w.t, "a spare", func() bool {
		return w.s.Making(w.up) == 0 && w.ready() > 0 && (w.srv == nil || w.srv.Conns() >= w.auth.Made())
	})
}

// warm makes the scheme known and spares ready.
func (w *spareWorld) warm() {
	w.t.Helper()
	w.tunnel()
	w.tunnel()
	w.settled()
}

func (w *spareWorld) last() pt.Head { h := w.srv.Heads(); return h[len(h)-1] }

// With a spare, a tunnel costs one trip: its CONNECT goes out at once, with a
// token that was there, on a connection that was there.
func TestSpareMakesATunnelOneTrip(t *testing.T) {
	w := newSpareWorld(t, pt.Negotiating(t, pt.Any()))
	w.tunnel()
	if n := w.ready(); n != 0 || w.srv.Conns() != 1 {
		t.Fatalf("spares before the scheme is known: %d, connections %d", n, w.srv.Conns())
	}
	w.tunnel()
	w.settled()
	conns, made := w.srv.Conns(), w.auth.Made()
	w.tunnel()
	h := w.last()
	var n int
	fmt.Sscanf(h.Token(), "token-%d", &n)
	if h.Conn > conns || n == 0 || n > made {
		t.Errorf("CONNECT on connection %d with token %d, want one of the %d and %d that were there", h.Conn, n, conns, made)
	}
	for _, e := range w.rec.Auths() {
		if e.Result != proxy.AuthAccepted || e.TokenBytes == 0 || e.Upstream.URL != w.up.URL {
			t.Errorf("authentication event: %+v", e)
		}
	}
	if n := len(w.rec.Auths()); n != 3 {
		t.Errorf("authentication events: got %d, want one per tunnel", n)
	}
}

// A token belongs to the connection it was made for, and is sent once; there
// are never more spares than are allowed, and none is wasted on the way.
func TestSparesAreUsedOnceAndBounded(t *testing.T) {
	w := newSpareWorld(t, pt.Negotiating(t, pt.Any()))
	w.warm()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 10 {
				c := pt.Dial(t, w.addr)
				resp, _ := c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
				if resp.StatusCode != 200 {
					t.Errorf("got %d", resp.StatusCode)
				}
				if n := w.ready(); n > 4 {
					t.Errorf("%d spares, want at most 4", n)
				}
				c.Close()
			}
		})
	}
	wg.Wait()
	until(t, "quiet", func() bool { return w.s.Making(w.up) == 0 })
	tokens, conns := map[string]bool{}, map[int]bool{}
	for _, h := range w.srv.Heads() {
		if tokens[h.Token()] || conns[h.Conn] || h.Token() == "" {
			t.Fatalf("token %q on connection %d came twice, or not at all", h.Token(), h.Conn)
		}
		tokens[h.Token()], conns[h.Conn] = true, true
	}
	if len(tokens) != 82 || w.srv.Conns() > 82+4 {
		t.Errorf("%d tunnels on %d connections, want 82 on at most 86", len(tokens), w.srv.Conns())
	}
}

// A spare's token is at most 30 seconds old when it is sent.
func TestC2SpareIsNotSentOld(t *testing.T) {
	w := newSpareWorld(t, pt.Negotiating(t, pt.Any()))
	w.warm()
	conns := w.srv.Conns()
	w.skew.Store(int64(29 * time.Second))
	w.tunnel()
	if h := w.last(); h.Conn > conns {
		t.Errorf("a spare of 29 s was not used: connection %d of %d", h.Conn, conns)
	}
	w.settled()
	conns, made := w.srv.Conns(), w.auth.Made()
	w.skew.Add(int64(31 * time.Second))
	w.tunnel()
	var n int
	if fmt.Sscanf(w.last().Token(), "token-%d", &n); n <= made || w.last().Conn <= conns {
		t.Errorf("a token of 31 s was sent: %d of %d", n, made)
	}
}

// When nobody asks, nothing is kept.
func TestNoSparesWhileIdle(t *testing.T) {
	w := newSpareWorld(t, pt.Negotiating(t, pt.Any()))
	w.warm()
	if _, timed := w.s.Spare(w.up); !timed {
		t.Error("nothing will come to close the spares")
	}
	w.skew.Store(int64(25 * time.Second))
	w.s.ExpireSpares(w.up)
	if n, timed := w.s.Spare(w.up); n != 0 || timed {
		t.Errorf("after 25 s: %d spares, timer %v; want none", n, timed)
	}
	if n := w.auth.Open(); n != 0 {
		t.Errorf("%d exchanges left open", n)
	}
	made := w.auth.Made()
	w.s.ExpireSpares(w.up)
	if w.s.Making(w.up) != 0 || w.auth.Made() != made {
		t.Error("spares are made while nobody asks")
	}
}

// Whatever makes pooled connections unfit makes spares unfit.
func TestG3SparesEndWithTheTicket(t *testing.T) {
	for name, change := range map[string]func(w *spareWorld){
		"flush":  func(w *spareWorld) { w.s.Flush() },
		"forget": func(w *spareWorld) { w.s.Forget() },
		"epoch":  func(w *spareWorld) { w.auth.Now.Add(1) },
		"switch off": func(w *spareWorld) {
			d := *w.d.Load()
			d.Kerberos = false
			w.d.Store(&d)
			c := pt.Dial(w.t, w.addr)
			c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
			if h := w.last(); h.Token() != "" {
				w.t.Errorf("a token was sent with the switch off: %q", h.Token())
			}
			if n := w.ready(); n != 0 {
				w.t.Errorf("%d spares with the switch off", n)
			}
			d.Kerberos = true
			w.d.Store(&d)
		},
		"only when challenged": func(w *spareWorld) {
			d := *w.d.Load()
			d.Preemptive = false
			w.d.Store(&d)
			w.tunnel()
			heads := w.srv.Heads()
			if h := heads[len(heads)-2]; h.Token() != "" {
				w.t.Errorf("a token was sent unasked: %q", h.Token())
			}
			d.Preemptive = true
			w.d.Store(&d)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newSpareWorld(t, pt.Negotiating(t, pt.Any()))
			w.warm()
			made := w.auth.Made()
			change(w)
			w.tunnel()
			var n int
			if fmt.Sscanf(w.last().Token(), "token-%d", &n); n <= made {
				t.Errorf("token %d of before was sent", n)
			}
			until(t, "quiet", func() bool { return w.s.Making(w.up) == 0 })
			if open := w.auth.Open(); open != w.ready() {
				t.Errorf("%d exchanges open for %d spares", open, w.ready())
			}
		})
	}
}

// An upstream that closes connections nobody speaks on costs no request
// anything, and is not hammered.
func TestSparesThatDoNotLast(t *testing.T) {
	var closing atomic.Int64 // up to this connection, none is served
	srv := pt.Serve(t, func(c *pt.Conn) {
		if _, err := c.ReadHead(); err != nil || int64(c.N) <= closing.Load() {
			return
		}
		c.Send("HTTP/1.1 200 OK\r\n\r\n")
		b := make([]byte, 5)
		n, _ := c.R.Read(b)
		c.Write(b[:n])
	})
	w := newSpareWorld(t, srv)
	w.warm()
	for range 5 {
		// They look alive until they are used.
		closing.Store(int64(srv.Conns()))
		before := w.auth.Made()
		w.tunnel()
		var n int
		if fmt.Sscanf(w.last().Token(), "token-%d", &n); n <= before {
			t.Errorf("the tunnel stands on a spare that was closed: token %d", n)
		}
	}
	if n := srv.Conns(); n > 2+4+5+4 {
		t.Errorf("%d connections for 7 tunnels: the upstream is hammered", n)
	}
}

// Spares that are dead when they are looked at are passed over.
func TestG6DeadSparesArePassedOver(t *testing.T) {
	w := newSpareWorld(t, pt.Negotiating(t, pt.Any()))
	for range 3 {
		w.warm()
		w.srv.DropAll()
		w.skew.Add(int64(time.Minute)) // past the pause after a loss
		w.tunnel()
	}
}

// A spare that cannot be made fails nothing, and is tried again ever more
// rarely.
func TestSparesThatCannotBeMade(t *testing.T) {
	srv := pt.Negotiating(t, pt.Any())
	var refused atomic.Int64
	w := &spareWorld{t: t, srv: srv, up: pt.UpstreamAt(srv.Addr), auth: &pt.Auth{}, rec: &pt.Recorder{}}
	w.s, w.addr = pt.Start(t, proxy.Config{
		Router: pt.Via(srv.Addr), Auth: w.auth, Spares: 4,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			// A request's dial stands in connectTunnel, a spare's does not.
			if !strings.Contains(string(debug.Stack()), "connectTunnel") {
				refused.Add(1)
				return nil, errors.New("not today")
			}
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
	})
	for range 12 {
		w.tunnel()
		until(t, "quiet", func() bool { return w.s.Making(w.up) == 0 })
	}
	if n := refused.Load(); n == 0 || n > 8 {
		t.Errorf("%d dials for spares, want a few", n)
	}
}

// A POST never goes out on a spare: it could not be sent again.
func TestE6NoSpareForAPost(t *testing.T) {
	w := newSpareWorld(t, pt.Negotiating(t, pt.Any()))
	w.warm()
	made := w.auth.Made()
	c := pt.Dial(t, w.addr)
	if resp, _ := c.Do("POST", "POST http://a.test:443/ HTTP/1.1\r\nHost: a.test:443\r\nContent-Length: 2\r\n\r\nhi"); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	var n int
	if fmt.Sscanf(w.last().Token(), "token-%d", &n); n <= made {
		t.Errorf("token %d was made in advance", n)
	}
}

// Spares to an upstream over TLS look alive too: nothing the handshake leaves
// behind is taken for an answer.
func TestSparesOverTLS(t *testing.T) {
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c, rw, _ := w.(http.Hijacker).Hijack()
		defer c.Close()
		io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
		io.Copy(c, rw)
	}))
	up.StartTLS()
	defer up.Close()
	port := uint16(up.Listener.Addr().(*net.TCPAddr).Port)
	roots := x509.NewCertPool()
	roots.AddCert(up.Certificate())
	u := &proxy.Upstream{URL: fmt.Sprintf("https://127.0.0.1:%d", port), TLS: true, Host: "127.0.0.1", Port: port}
	w := &spareWorld{t: t, up: u, auth: &pt.Auth{}}
	w.s, w.addr = pt.Start(t, proxy.Config{
		Router: fixed(proxy.Decision{Route: proxy.RouteProxy, Host: "a.test", Port: 443, Upstream: u, Kerberos: true, Preemptive: true}),
		Auth:   w.auth, Spares: 4, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
	})
	w.warm()
	before := w.ready()
	w.s.SetNow(func() time.Time { return time.Now().Add(time.Second) })
	if n := w.s.Lost(u); n != 0 {
		t.Fatalf("%d spares lost before one was used", n)
	}
	w.tunnel()
	if n := w.s.Lost(u); n != 0 || before == 0 {
		t.Errorf("%d of %d spares were taken for dead", n, before)
	}
}

// Spares do not add to the tokens that an upstream may refuse.
func TestD6RefusedSpares(t *testing.T) {
	var refuse atomic.Bool
	fresh := pt.Any()
	w := newSpareWorld(t, pt.Negotiating(t, func(tok string) bool { return !refuse.Load() && fresh(tok) }))
	w.warm()
	refuse.Store(true)
	before := len(w.srv.Heads())
	for range 3 {
		c := pt.Dial(t, w.addr)
		resp, _ := c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
		if resp.StatusCode != 502 || pt.Cause(resp) != "token_refused" {
			t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
		}
	}
	if n := len(w.srv.Heads()) - before; n != 2 {
		t.Errorf("the upstream saw %d tokens, want 2 for all", n)
	}
}

// A spare that was of use is a connection like any other: its end says nothing
// about spares.
func TestEndOfAUsedSpareIsNoLoss(t *testing.T) {
	var drop atomic.Bool
	srv := pt.Serve(t, func(c *pt.Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if h.Method() == "CONNECT" {
				c.Send("HTTP/1.1 200 OK\r\n\r\n")
				io.CopyN(c, c.R, 5)
				return
			}
			if h.Token() == "" && drop.CompareAndSwap(true, false) {
				return
			}
			c.Send(pt.OK)
		}
	})
	w := newSpareWorld(t, srv)
	w.warm()
	made := w.auth.Made()
	c := pt.Dial(t, w.addr)
	get := func() {
		t.Helper()
		if resp, _ := c.Get("http://a.test:443/"); resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	get()
	var n int
	if fmt.Sscanf(w.last().Token(), "token-%d", &n); n == 0 || n > made {
		t.Fatalf("token %d of %d: no spare was used", n, made)
	}
	drop.Store(true)
	get()
	if drop.Load() || w.s.Lost(w.up) != 0 {
		t.Errorf("dropped: %v; spares lost: %d", !drop.Load(), w.s.Lost(w.up))
	}
}
