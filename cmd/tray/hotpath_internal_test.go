package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kerbpass/internal/peer"
	"kerbpass/internal/proxy"
	"kerbpass/internal/settings"
)

// hotApp is an app as the request path sees it, with so many entries on both
// bypass lists.
func hotApp(t testing.TB, entries int) *app {
	t.Helper()
	var exact, suffix []string
	for i := range entries {
		exact = append(exact, fmt.Sprintf("host%d.corp.example", i))
		suffix = append(suffix, fmt.Sprintf("zone%d.example", i))
	}
	store, err := settings.Open(settings.Config{Path: filepath.Join(t.TempDir(), "config.toml"), Flags: map[string]any{
		"upstream": []string{"http://proxy.corp.example:8080"}, "bypass.exact": exact, "no_proxy": suffix}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	a := &app{cfg: appConfig{store: store}, log: slog.New(slog.DiscardHandler), listeners: []net.Listener{l}}
	a.state, a.doors = newState(a), openDoors(store.Snapshot(), a.log)
	a.tickets = newTickets(a.log, nil, a.changed, a.reminded)
	if err := a.adopt(store.Snapshot()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.now.Load().peers.Close() })
	return a
}

var hotHosts = []struct {
	host string
	rule string
}{
	{"localhost", "loopback"}, {"127.0.0.1", "loopback"}, {"host7.corp.example", "exact"}, {"a.b.zone7.example", "suffix"},
	{"www.some-long-host-name.elsewhere.org", "default"}, {"10.1.2.3", "default"}, {"2001:db8::1", "default"},
}

func TestRouteAllocatesNothing(t *testing.T) {
	a := hotApp(t, 10)
	for _, hot := range hotHosts {
		if n := testing.AllocsPerRun(200, func() {
			if d, err := a.route(t.Context(), hot.host, 443); err != nil || d.Rule != hot.rule {
				t.Errorf("%s: got %s, %v, want %s", hot.host, d.Rule, err, hot.rule)
			}
		}); n != 0 {
			t.Errorf("%s: got %v allocations, want none", hot.host, n)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	for _, entries := range []int{10, 10_000} {
		a := hotApp(b, entries)
		for _, hot := range hotHosts {
			b.Run(fmt.Sprintf("%s/entries=%d", hot.host, entries), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					a.route(b.Context(), hot.host, 443)
				}
			})
		}
	}
}

// typicalEvent comes from a client whose program is known.
func typicalEvent(s *state) proxy.Event {
	s.clients.accepted(port(5372), port(40000))
	s.clients.settle(<-s.clients.waiting, peer.Identity{PID: 1, Program: "curl"})
	return proxy.Event{Time: time.Now(), Local: port(5372), Remote: port(40000), Method: "GET", Host: "web.corp.example", Port: 80,
		Route: proxy.RouteProxy, Rule: "default", Upstream: "http://proxy.corp.example:8080", Status: 200, Down: 1024, Took: time.Millisecond}
}

// Also while somebody follows the activity and after the way has been broken.
func TestObservingAllocatesNothing(t *testing.T) {
	a := hotApp(t, 10)
	e := typicalEvent(a.state)
	a.state.Request(proxy.Event{Time: e.Time, Route: proxy.RouteProxy, Cause: proxy.CauseUpstreamUnreachable})
	if why, when := a.state.path.error(); why == nil || why.Cause != proxy.CauseUpstreamUnreachable || !when.Equal(e.Time) {
		t.Fatalf("got %v at %v, want a broken path", why, when)
	}
	e.Time = e.Time.Add(time.Millisecond)
	a.state.Request(e)
	if why, _ := a.state.path.error(); why != nil {
		t.Errorf("got %v after a request that worked", why)
	}
	if n := testing.AllocsPerRun(2000, func() { e.Time = e.Time.Add(1); a.state.Request(e) }); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
	if got := a.state.clients.ring.Since(2001, 1); len(got) != 1 || got[0].Program != "curl" || got[0].PID != 1 || got[0].Host != e.Host {
		t.Errorf("got %+v", got)
	}
}

func BenchmarkRequest(b *testing.B) {
	a := hotApp(b, 10)
	e := typicalEvent(a.state)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			a.state.Request(e)
		}
	})
}

// The latest request decides, in whatever order their ends are told, and two at
// once leave what the later one met.
func TestPathIsOfTheLatestRequest(t *testing.T) {
	at := func(n int) time.Time { return started.Add(time.Duration(n) * time.Second) }
	var s state
	s.app = &app{log: slog.New(slog.DiscardHandler)}
	s.clients = newClients(nil)
	tell := func(n int, c proxy.Cause) {
		s.Request(proxy.Event{Time: at(n), Route: proxy.RouteProxy, Cause: c})
	}
	for i, step := range []struct {
		at    int
		cause proxy.Cause
		want  proxy.Cause
	}{
		{5, "", ""},
		{4, proxy.CauseTimeout, ""},             // says nothing about the path
		{4, proxy.CauseUpstreamUnreachable, ""}, // began before one that got through
		{6, proxy.CauseUpstreamUnreachable, proxy.CauseUpstreamUnreachable},
		{5, "", proxy.CauseUpstreamUnreachable},
		{7, proxy.CauseNoTicket, proxy.CauseNoTicket},
		{8, "", ""},
	} {
		tell(step.at, step.cause)
		why, when := s.path.error()
		if (why == nil) != (step.want == "") || why != nil && (why.Cause != step.want || !when.Equal(at(step.at)) && step.cause != "") {
			t.Errorf("step %d: got %v at %v, want %q", i, why, when, step.want)
		}
	}
	for n := 10; n < 3000; n += 2 {
		var both sync.WaitGroup
		both.Go(func() { tell(n, proxy.CauseUpstreamUnreachable) })
		both.Go(func() { tell(n+1, "") })
		both.Wait()
		if why, _ := s.path.error(); why != nil {
			t.Fatalf("the later one got through, and the path counts as broken: %v", why)
		}
	}
}

// Whoever comes while the search has no share of the processor left is named
// when it has again.
func TestNamedAfterABusyTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		c := newClients(func(_, remote netip.AddrPort) (peer.Identity, error) {
			if asked++; asked < 4 {
				return peer.Identity{}, peer.ErrBusy
			}
			return peer.Identity{PID: 7, Program: "curl"}, nil
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.run(ctx) }()
		c.accepted(port(5372), port(1))
		c.add(entryOf(&proxy.Event{Host: "h"}), port(1))
		if e := c.ring.Wait(t.Context(), 0); len(e) != 1 || e[0].Program != "curl" || asked != 4 {
			t.Errorf("got %+v after %d questions", e, asked)
		}
		c.identify = func(_, _ netip.AddrPort) (peer.Identity, error) { return peer.Identity{}, peer.ErrBusy }
		c.accepted(port(5372), port(2))
		synctest.Wait()
		stop()
		if err := <-ended; err != nil || !errors.Is(peer.ErrBusy, peer.ErrNotFound) {
			t.Error(err)
		}
	})
}
