package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"kerbpass/internal/activity"
	"kerbpass/internal/control"
	"kerbpass/internal/peer"
	"kerbpass/internal/proxy"
	"kerbpass/internal/settings"
	"kerbpass/internal/testenv"
)

func TestActivityRow(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for _, tt := range []struct {
		in   activityEntry
		want string
	}{
		{activityEntry{Program: "firefox", PID: 4711, Method: "CONNECT", Host: "web.corp.example", Port: 443, Route: "proxy", Rule: "default",
			Upstream: "http://proxy.corp.example:8080", Status: 200, Result: "ok", Up: 1234, Down: 56_789_012, MS: 65_432},
			"05:06:07  firefox(4711)         CONNECT web.corp.example:443                proxy default                 ok 200                        1.2k     57M    65432"},
		{activityEntry{Program: "git", PID: 7, Method: "GET", Host: "2001:db8::1", Port: 80, Route: "direct", Rule: "exact", Entry: "2001:db8::1",
			Status: 304, Result: "ok", MS: 3},
			"05:06:07  git(7)                GET     [2001:db8::1]:80                    direct exact 2001:db8::1      ok 304                           0       0        3"},
		{activityEntry{Method: "POST", Host: "web.corp.example", Port: 80, Route: "proxy", Rule: "default", Status: 502, Result: "failed", Cause: "no_ticket", Up: 999, Down: 1000},
			"05:06:07  -                     POST    web.corp.example:80                 proxy default                 no_ticket 502                  999    1.0k        0"},
		{activityEntry{Program: "evil\n\x1b[2Jname", PID: 9, Method: "GE\x9bT\u202e", Status: 400, Result: "refused", Cause: "bad_request"},
			"05:06:07  evil??[2Jname(9)      GE\ufffdT?   -                                                                 bad_request 400                  0       0        0"},
		{activityEntry{Program: "curl", PID: 1, Method: "GET", Host: "a.test", Port: 80, Route: "proxy", Rule: "default", Result: "aborted"},
			"05:06:07  curl(1)               GET     a.test:80                           proxy default                 aborted                          0       0        0"},
	} {
		tt.in.Time = at
		if got := tt.in.row(time.UTC); got != tt.want {
			t.Errorf("got\n%s\nwant\n%s", got, tt.want)
		}
	}
	if want := "TIME      PROGRAM               REQUEST                                     ROUTE                         RESULT                          UP    DOWN       MS"; activityHead != want {
		t.Errorf("got\n%s\nwant\n%s", activityHead, want)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0", 999: "999", 1000: "1.0k", 9949: "9.9k", 9950: "10k", 999_499: "999k", 999_500: "1.0M", 1_500_000_000: "1.5G",
		1 << 62: "4.6E", 1<<63 - 1: "9.2E",
	} {
		if got := size(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestResult(t *testing.T) {
	for _, tt := range []struct {
		in   proxy.Event
		want string
	}{
		{proxy.Event{Route: proxy.RouteProxy, Status: 200}, "ok"},
		{proxy.Event{Route: proxy.RouteDirect, Status: 503}, "ok"}, // the origin's own answer
		{proxy.Event{Route: proxy.RouteProxy, Err: io.ErrUnexpectedEOF}, "aborted"},
		{proxy.Event{Route: proxy.RouteProxy, Cause: proxy.CauseNoTicket, Err: io.EOF}, "failed"},
		{proxy.Event{Route: proxy.RouteRefused, Cause: proxy.CauseUpstreamUnreachable}, "refused"},
		{proxy.Event{Route: proxy.RouteProxy, Cause: proxy.CauseLoop}, "refused"},
		{proxy.Event{Cause: proxy.CauseBadRequest}, "refused"},
		{proxy.Event{Cause: proxy.CauseNotYourUser}, "refused"},
	} {
		if got := result(&tt.in); got != tt.want {
			t.Errorf("%+v: got %s, want %s", tt.in, got, tt.want)
		}
	}
}

func port(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(n))
}

// named are the entries of a ring as "host program".
func named(r *activity.Ring) string {
	var all []string
	for _, e := range r.Since(0, activity.Size) {
		all = append(all, fmt.Sprintf("%s %s/%d", e.Host, e.Program, e.PID))
	}
	return strings.Join(all, ", ")
}

func TestClientsAreNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan peer.Identity)
		c := newClients(func(local, remote netip.AddrPort) (peer.Identity, error) {
			if local != port(5372) {
				t.Errorf("asked about %v to %v", remote, local)
			}
			if id := <-answer; id.PID != 0 {
				return id, nil
			}
			return peer.Identity{UID: 5}, peer.ErrNotFound
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.run(ctx) }()
		add := func(host string, p int) { c.add(activity.Entry{Host: host}, port(p)) }
		want := func(want string) {
			t.Helper()
			synctest.Wait()
			if got := named(&c.ring); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}

		c.add(activity.Entry{Host: "a"}, netip.AddrPort{})
		want("a /0") // a connection nobody told us of
		c.accepted(port(5372), netip.MustParseAddrPort("[::ffff:127.0.0.1]:1"))
		c.accepted(port(5372), port(2))
		add("b", 1)
		add("c", 2)
		want("a /0") // the others wait for their names
		answer <- peer.Identity{PID: 11, Program: "curl"}
		want("a /0, b curl/11")
		add("d", 1)
		want("a /0, b curl/11, d curl/11")
		answer <- peer.Identity{}
		want("a /0, b curl/11, d curl/11, c /0")

		// Another program gets the same port; the old name must not stick.
		c.accepted(port(5372), port(1))
		add("e", 1)
		want("a /0, b curl/11, d curl/11, c /0")
		answer <- peer.Identity{PID: 12, Program: "wget"}
		want("a /0, b curl/11, d curl/11, c /0, e wget/12")

		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if c.ring.Wait(t.Context(), c.ring.Last()) != nil {
			t.Error("a wait after the end got something")
		}
	})
}

// Nothing that the proxy calls waits, however many connections come and
// however long identifying takes.
func TestClientsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		asked := 0
		c := newClients(func(local, remote netip.AddrPort) (peer.Identity, error) {
			<-release
			asked++
			return peer.Identity{PID: int(remote.Port()), Program: "p"}, nil
		})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- c.run(ctx) }()
		c.accepted(port(5372), port(1))
		synctest.Wait() // it is being identified
		const more = maxClients + 10
		for i := range more {
			c.accepted(port(5372), port(2+i))
		}
		known := 0
		for p := range 1 << 16 {
			if at := c.latest(uint16(p)); at != nil && at.Load() != nil {
				known++
			}
		}
		if known != maxClients {
			t.Errorf("%d connections are known, want %d", known, maxClients)
		}
		last := 2 + more - 1
		c.add(activity.Entry{Host: "evicted"}, port(1))
		c.add(activity.Entry{Host: "unnamed"}, port(last))
		if got := named(&c.ring); got != "evicted /0, unnamed /0" {
			t.Errorf("got %s", got)
		}
		// One of those that wait gets more requests than it may hold.
		c.accepted(port(5372), port(60000))
		<-c.waiting
		n := &client{local: port(5372), remote: port(60001)}
		c.latest(n.remote.Port()).Store(n)
		for range maxHeld + 1 {
			c.add(activity.Entry{Host: "many"}, n.remote)
		}
		if len(n.held) != maxHeld || c.ring.Last() != 3 {
			t.Errorf("%d are held, %d are not, want %d and the rest", len(n.held), c.ring.Last()-2, maxHeld)
		}
		close(release)
		synctest.Wait()
		if asked != maxWaiting { // the first, and the queue but the one taken out
			t.Errorf("%d were asked about, want %d", asked, maxWaiting)
		}
		stop()
		<-ended
	})
}

// The real thing: a connection of this process, over the real look-up.
func TestAcceptedNamesThisProcess(t *testing.T) {
	if runtime.GOOS != "linux" {
		testenv.Missing(t, "programs behind connections on %s", runtime.GOOS)
	}
	testenv.NoLeaks(t)
	peers, err := peer.New(peer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer peers.Close()
	a := &app{}
	a.state = newState(a)
	a.now.Store(&policy{peers: peers})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.state.clients.run(ctx) }()
	defer func() { stop(); <-ended }()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	local, remote := conn.RemoteAddr().(*net.TCPAddr).AddrPort(), conn.LocalAddr().(*net.TCPAddr).AddrPort()
	a.state.Accepted(local, remote)
	a.state.clients.add(activity.Entry{Host: "h"}, remote)
	wait, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got := a.state.clients.ring.Wait(wait, 0)
	pid, program, err := peer.Owner(l.Addr().(*net.TCPAddr).AddrPort())
	if err != nil || len(got) != 1 || got[0].PID != pid || got[0].Program != program {
		t.Errorf("got %+v, want %s, process %d (%v)", got, program, pid, err)
	}
}

// helperWith serves the control channel of a helper that has seen requests.
func helperWith(t *testing.T, u *user) *activity.Ring {
	t.Helper()
	store, err := settings.Open(settings.Config{Path: u.config()})
	if err != nil {
		t.Fatal(err)
	}
	a := &app{cfg: appConfig{store: store}}
	a.state = newState(a)
	path, err := control.Path(func(k string) (string, bool) { v, ok := u.env[k]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(path)
	if err != nil {
		testenv.Missing(t, "control channel: %v", err)
	}
	srv, err := control.New(control.Config{Allow: sameUser, Handler: a.handler()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- runAll(ctx, a.state.clients.run, func(ctx context.Context) error { return srv.Serve(ctx, l) })
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return &a.state.clients.ring
}

func TestActivityCommand(t *testing.T) {
	testenv.NoLeaks(t)
	u := newUser(t)
	for _, args := range [][]string{{"activity"}, {"activity", "--follow"}, {"activity", "--json"}} {
		if _, errs, code := u.run(args...); code != exitNotRunning || !strings.Contains(errs, "not running") {
			t.Errorf("%v without a helper: got %d %s, want %d", args, code, errs, exitNotRunning)
		}
	}
	ring := helperWith(t, u)
	if out, errs, code := u.run("activity", "--json"); out != "[]\n" || code != 0 {
		t.Errorf("empty: got %d %q %s", code, out, errs)
	}
	at := time.Date(2026, 3, 4, 5, 6, 7, 890_123_456, time.FixedZone("", 3600))
	for i := range 7 {
		ring.Add(activity.Entry{Time: at, Program: "curl", PID: 5, Method: "GET", Host: fmt.Sprintf("h%d.test", i), Port: 80, Route: "direct", Rule: "exact",
			Entry: "h.test", Status: 200, Result: "ok", Up: 1, Down: 2, Took: 3 * time.Second})
	}
	out, errs, code := u.run("activity", "--json", "--limit", "2")
	var got []map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 || len(got) != 2 {
		t.Fatalf("got %d %s %s, want two entries", code, out, errs)
	}
	want := `{"cause":"","down":2,"entry":"h.test","host":"h6.test","method":"GET","ms":3000,"pid":5,"port":80,"program":"curl","result":"ok","route":"direct","rule":"exact","seq":7,"status":200,"time":"2026-03-04T04:06:07.89Z","up":1,"upstream":""}`
	if b, _ := json.Marshal(got[1]); string(b) != want {
		t.Errorf("got\n%s\nwant\n%s", b, want)
	}
	if out, _, code := u.run("activity"); code != 0 || strings.Count(out, "\n") != 8 || !strings.HasPrefix(out, activityHead+"\n") || !strings.Contains(out, " h0.test:80 ") {
		t.Errorf("got %d\n%s", code, out)
	}
	for _, limit := range []string{"-1", "1001", "x"} {
		if _, errs, code := u.run("activity", "--limit", limit); code != exitUsage || errs == "" {
			t.Errorf("--limit %s: got %d %q, want %d", limit, code, errs, exitUsage)
		}
	}
}

func TestActivityFollow(t *testing.T) {
	testenv.NoLeaks(t)
	u := newUser(t)
	ring := helperWith(t, u)
	for i := range 5 {
		ring.Add(activity.Entry{Host: fmt.Sprintf("old%d", i)})
	}
	for _, args := range []string{"activity -f --limit 2", "activity --follow --json --limit 2", "activity --follow --limit 0"} {
		t.Run(args, func(t *testing.T) {
			r, w := io.Pipe()
			var errs strings.Builder
			c := &cli{args: append([]string{"--config", u.config()}, strings.Fields(args)...), out: w, err: &errs,
				lookupEnv: func(k string) (string, bool) { v, ok := u.env[k]; return v, ok }}
			ctx, interrupt := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				err := c.run(ctx)
				w.CloseWithError(err)
				ended <- err
			}()
			lines := bufio.NewScanner(r)
			want := func(host string) {
				t.Helper()
				if !lines.Scan() || !strings.Contains(lines.Text(), host) {
					t.Fatalf("got %q, %v, want %s", lines.Text(), lines.Err(), host)
				}
				if e := (activityEntry{}); strings.Contains(args, "json") && (json.Unmarshal(lines.Bytes(), &e) != nil || e.Host != host) {
					t.Errorf("%q is not one object", lines.Text())
				}
			}
			if !strings.Contains(args, "json") {
				want("PROGRAM")
			}
			if strings.Contains(args, "2") {
				for _, e := range ring.Since(ring.Last()-2, 2) {
					want(e.Host)
				}
			} else if err := untilWaiting(); err != nil {
				t.Fatal(err) // or what follows would come before the first look
			}
			for i := range 3 {
				host := fmt.Sprintf("new%d-%d", i, ring.Last())
				ring.Add(activity.Entry{Host: host})
				want(host)
			}
			interrupt()
			if err := <-ended; err != nil {
				t.Errorf("interrupted: got %v, want no error", err)
			}
			if errs.Len() > 0 {
				t.Errorf("standard error: %s", &errs)
			}
		})
	}
}

func TestServeActivity(t *testing.T) {
	testenv.NoLeaks(t)
	u := newUser(t)
	ring := helperWith(t, u)
	path, err := control.Path(func(k string) (string, bool) { v, ok := u.env[k]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	cl := control.NewClient(path, sameUser)
	get := func(query string) (string, error) {
		q, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		var page activityPage
		err = cl.Get(t.Context(), "/v1/activity", q, &page)
		s := fmt.Sprint("next ", page.Next, ":")
		for _, e := range page.Entries {
			s += fmt.Sprint(" ", e.Seq)
		}
		return s, err
	}
	want := func(query, want string) {
		t.Helper()
		if got, err := get(query); got != want || err != nil {
			t.Errorf("%s: got %s, %v, want %s", query, got, err, want)
		}
	}
	want("", "next 0:")
	want("after=0&wait=1", "next 0:")
	answer := make(chan string, 1)
	go func() {
		s, err := get("after=0&wait=30&max=1")
		answer <- fmt.Sprint(s, err)
	}()
	if err := untilWaiting(); err != nil {
		t.Fatal(err)
	}
	ring.Add(activity.Entry{})
	if got := <-answer; got != "next 1: 1<nil>" {
		t.Errorf("the long poll answers %s", got)
	}
	for range 4 {
		ring.Add(activity.Entry{})
	}
	want("", "next 5: 1 2 3 4 5")
	want("max=2", "next 5: 4 5")
	want("max=0", "next 5:")
	want("max=9999999", "next 5: 1 2 3 4 5")
	want("after=2", "next 5: 3 4 5")
	want("after=2&max=2&wait=30", "next 4: 3 4")
	want("after=5", "next 5:")
	want("after=77&wait=30", "next 5: 1 2 3 4 5") // a number of the helper before this one
	for _, query := range []string{"after=-1", "after=x", "wait=1.5", "max="} {
		_, err := get(query)
		name, _, _ := strings.Cut(query, "=")
		var remote *control.RemoteError
		if !errors.As(err, &remote) || remote.Status != http.StatusBadRequest || !strings.Contains(remote.Message, name+" is not a number") {
			t.Errorf("%s: got %v, want 400", query, err)
		}
	}
}

// untilWaiting returns when somebody waits for news of a ring.
func untilWaiting() error {
	buf := make([]byte, 1<<20)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if strings.Contains(string(buf[:runtime.Stack(buf, true)]), "activity.(*Ring).Wait") {
			return nil
		}
	}
	return errors.New("nobody waits")
}

// What keeping a request costs it.
func BenchmarkClientsAdd(b *testing.B) {
	c := newClients(nil)
	c.accepted(port(5372), port(1))
	c.settle(<-c.waiting, peer.Identity{PID: 1, Program: "curl"})
	e := proxy.Event{Time: time.Now(), Method: "GET", Host: "web.corp.example", Port: 80, Route: proxy.RouteProxy, Rule: "default", Status: 200}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c.add(entryOf(&e), port(1))
		}
	})
}
