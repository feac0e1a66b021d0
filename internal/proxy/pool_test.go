package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// together is an upstream that answers only when n requests are there, so that
// as many connections are in use at once.
func together(t *testing.T, n int) *pt.Server {
	var mu sync.Mutex
	waiting, all := 0, make(chan struct{})
	return pt.Serve(t, func(c *pt.Conn) {
		for {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			mu.Lock()
			mine := all
			if waiting++; waiting == n {
				waiting, all = 0, make(chan struct{})
				close(mine)
			}
			mu.Unlock()
			<-mine
			c.Send(pt.OK)
		}
	})
}

// The pool holds as many connections as are in use at once: however many that
// are, a steady load opens no more.
func TestPoolGrowsWithDemand(t *testing.T) {
	const n = 300
	srv := together(t, n)
	auth := &pt.Auth{}
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(srv.Addr), Auth: auth, MaxConns: 1000})
	clients := make([]*pt.Client, n)
	for i := range clients {
		clients[i] = pt.Dial(t, addr)
	}
	for round := range 4 {
		var wg sync.WaitGroup
		for _, c := range clients {
			wg.Go(func() {
				if resp, _ := c.Get("http://a.test/"); resp.StatusCode != 200 {
					t.Errorf("round %d: got %d", round, resp.StatusCode)
				}
			})
		}
		wg.Wait()
		if got := srv.Conns(); got != n || auth.Made() != n {
			t.Fatalf("round %d: %d connections, %d tokens; want %d", round, got, auth.Made(), n)
		}
		if got := s.Idle(); got != n {
			t.Errorf("round %d: %d idle, want %d", round, got, n)
		}
	}
}

// It is bounded by what may be open at all.
func TestPoolIsBounded(t *testing.T) {
	const n = 40
	srv := together(t, n)
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(srv.Addr), Auth: &pt.Auth{}, MaxConns: n})
	var wg sync.WaitGroup
	for range n {
		c := pt.Dial(t, addr)
		wg.Go(func() { c.Get("http://a.test/") })
	}
	wg.Wait()
	if got := s.Idle(); got != n/2 {
		t.Errorf("%d idle, want half of %d", got, n)
	}
}

// What is idle for too long, or has been closed by the other side, goes; what
// has just been used stays.
func TestPoolSweep(t *testing.T) {
	srv := together(t, 3)
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(srv.Addr), Auth: &pt.Auth{}, PoolIdle: time.Hour})
	var wg sync.WaitGroup
	for range 3 {
		c := pt.Dial(t, addr)
		wg.Go(func() { c.Get("http://a.test/") })
	}
	wg.Wait()
	s.SweepPool()
	if got := s.Idle(); got != 3 {
		t.Errorf("%d idle after a look at once, want 3", got)
	}
	s.Age(20 * time.Minute)
	s.SweepPool()
	if got := s.Idle(); got != 3 {
		t.Errorf("%d idle after 20 minutes, want 3", got)
	}
	srv.DropAll()
	until(t, "the end of closed connections", func() bool { s.SweepPool(); return s.Idle() == 0 })
}

func TestPoolAges(t *testing.T) {
	srv := together(t, 3)
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(srv.Addr), Auth: &pt.Auth{}, PoolIdle: time.Hour})
	var wg sync.WaitGroup
	for range 3 {
		c := pt.Dial(t, addr)
		wg.Go(func() { c.Get("http://a.test/") })
	}
	wg.Wait()
	s.Age(61 * time.Minute)
	s.SweepPool()
	if got := s.Idle(); got != 0 {
		t.Errorf("%d idle after an hour, want none", got)
	}
}

// Out of descriptors, idle connections make room for one that is needed.
func TestPoolShedsForADial(t *testing.T) {
	srv := pt.Negotiating(t, pt.Any())
	var refusals atomic.Int64 // that are still to come
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(srv.Addr), Auth: &pt.Auth{},
		Dial: func(ctx context.Context, network, a string) (net.Conn, error) {
			if refusals.Add(-1) >= 0 {
				return nil, &net.OpError{Op: "dial", Err: syscall.EMFILE}
			}
			return (&net.Dialer{}).DialContext(ctx, network, a)
		}})
	c := pt.Dial(t, addr)
	if resp, _ := c.Get("http://a.test/"); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	if s.Idle() != 1 {
		t.Fatalf("%d idle, want 1", s.Idle())
	}
	refusals.Store(1)
	resp, _ := pt.Dial(t, addr).Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	if resp.StatusCode != 200 || s.Idle() != 0 {
		t.Errorf("got %d with %d idle, want a tunnel and none", resp.StatusCode, s.Idle())
	}
	refusals.Store(2)
	if resp, _ := pt.Dial(t, addr).Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"); resp.StatusCode != 503 {
		t.Errorf("with no room made: got %d, want 503", resp.StatusCode)
	}
}

// noted is a connection that notes its deadlines.
type noted struct {
	net.Conn
	mu          sync.Mutex // guards what follows
	read, write time.Time
	moved       int
}

func (c *noted) set(read, write bool, t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.moved++; read {
		c.read = t
	}
	if write {
		c.write = t
	}
}

func (c *noted) SetDeadline(t time.Time) error {
	c.set(true, true, t)
	return c.Conn.SetDeadline(t)
}

func (c *noted) SetReadDeadline(t time.Time) error {
	c.set(true, false, t)
	return c.Conn.SetReadDeadline(t)
}

func (c *noted) SetWriteDeadline(t time.Time) error {
	c.set(false, true, t)
	return c.Conn.SetWriteDeadline(t)
}

// A deadline that stood for one answer, shorter than a connection may be idle,
// is gone when the connection is, or carries a tunnel.
func TestDeadlinesDoNotLinger(t *testing.T) {
	srv := pt.Negotiating(t, pt.Any())
	conns := make(chan *noted, 9)
	_, addr := pt.Start(t, proxy.Config{
		Router: pt.Via(srv.Addr), Auth: &pt.Auth{}, AnswerTimeout: 50 * time.Second, PoolIdle: time.Minute,
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			n := &noted{Conn: c}
			conns <- n
			return n, err
		},
	})
	check := func(what string, u *noted, moved int) {
		t.Helper()
		u.mu.Lock()
		defer u.mu.Unlock()
		if !u.read.IsZero() || !u.write.IsZero() {
			t.Errorf("%s: ends in %v and %v", what, time.Until(u.read), time.Until(u.write))
		}
		if u.moved < moved {
			t.Errorf("%s: deadlines were moved %d times, want one set and lifted each time", what, u.moved)
		}
	}
	c := pt.Dial(t, addr)
	var u *noted
	for i := range 4 {
		if resp, _ := c.Get("http://a.test/"); resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
		if i == 0 {
			u = <-conns
		}
		check("pooled", u, 2*(i+1))
	}
	if n := srv.Conns(); n != 1 {
		t.Errorf("%d upstream connections, want 1", n)
	}
	c = pt.Dial(t, addr)
	c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	fmt.Fprint(c, "hello")
	if _, err := io.ReadFull(c.R, make([]byte, 5)); err != nil {
		t.Errorf("the tunnel ended: %v", err)
	}
	check("tunnel", <-conns, 2)
}

// raceDetector reports whether this program was built with it.
func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// A plain request on a kept-alive connection allocates nothing in the proxy:
// head read, decided, sent on a pooled connection, answer passed on, observed.
// Client and upstream here allocate nothing either.
func TestRequestAllocatesNothing(t *testing.T) {
	for name, router := range map[string]proxy.Router{"upstream": viaFixed(answering(t)), "direct": directFixed(answering(t))} {
		t.Run(name, func(t *testing.T) {
			_, addr := pt.Start(t, proxy.Config{Router: router, Auth: &pt.Auth{}, Spares: 4})
			k := newBenchClient(t, addr, "origin.test")
			for range 10 {
				k.get(t)
			}
			most := 0.0
			if raceDetector() {
				most = 2 // it makes pools forget
			}
			if n := testing.AllocsPerRun(500, func() { k.get(t) }); n > most {
				t.Errorf("%v allocations per request, want none", n)
			}
		})
	}
}
