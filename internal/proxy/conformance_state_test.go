package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
)

// Parts G, I and J of the checklist: connections that belong to a user, the
// two routes, and what is said about failures.

// lockedBuffer takes the log of a running server.
type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Flush ends idle authenticated connections without waiting for a request,
// lets a running request end on its own, and leaves tunnels alone.
func TestG3FlushEndsIdleConnectionsAtOnce(t *testing.T) {
	pt.Leaks(t)
	ended := make(chan int, 10)
	held, goOn := make(chan struct{}), make(chan struct{})
	up := pt.Serve(t, func(c *pt.Conn) {
		defer func() { ended <- c.N }()
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			switch {
			case h.Method() == "CONNECT":
				c.Send("HTTP/1.1 200 OK\r\n\r\n")
				io.Copy(c.Conn, c.R)
				return
			case strings.HasSuffix(h.Target(), "/slow"):
				close(held)
				<-goOn
			}
			c.Send(pt.OK)
		}
	})
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	slow := pt.Dial(t, addr)
	io.WriteString(slow, "GET http://a.test/slow HTTP/1.1\r\nHost: a\r\n\r\n") // connection 1
	<-held
	pt.Dial(t, addr).Get("http://a.test/") // 2, idle afterwards
	tunnel := pt.Dial(t, addr)
	tunnel.Do("CONNECT", connect) // 3
	s.Flush()
	if n := within(t, 10*time.Second, ended, "end of the idle connection"); n != 2 {
		t.Errorf("connection %d ended first, want the idle one, 2", n)
	}
	close(goOn)
	if resp, body := slow.Response("GET"); resp.StatusCode != 200 || body != "ok" {
		t.Errorf("the running request: got %d %q", resp.StatusCode, body)
	}
	if n := within(t, 10*time.Second, ended, "end of the connection that was in use"); n != 1 {
		t.Errorf("connection %d ended, want 1", n)
	}
	io.WriteString(tunnel, "ping")
	got := make([]byte, 4)
	if _, err := io.ReadFull(tunnel.R, got); err != nil || string(got) != "ping" {
		t.Errorf("the tunnel: %q, %v", got, err)
	}
}

func TestG4HTTP11IsAllThatIsOffered(t *testing.T) {
	pt.Leaks(t)
	var offered atomic.Value
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) }))
	up.EnableHTTP2 = true
	up.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		offered.Store(h.SupportedProtos)
		return nil, nil
	}}
	up.StartTLS()
	defer up.Close()
	a := up.Listener.Addr().(*net.TCPAddr)
	u := &proxy.Upstream{URL: up.URL, TLS: true, Host: "127.0.0.1", Port: uint16(a.Port)}
	base := up.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	base.NextProtos = []string{"h2", "http/1.1"} // whatever the base says
	_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, TLS: base, Router: proxy.RouterFunc(func(_ context.Context, h string, p uint16) (proxy.Decision, error) {
		return proxy.Decision{Route: proxy.RouteProxy, Host: h, Port: p, Upstream: u, Kerberos: true, Preemptive: true}, nil
	})})
	resp, body := pt.Dial(t, addr).Get("http://a.test/")
	if got := offered.Load(); resp.StatusCode != 200 || body != "HTTP/1.1" || !slices.Equal(got.([]string), []string{"http/1.1"}) {
		t.Errorf("got %d over %s, offered %v", resp.StatusCode, body, got)
	}
	// Nor by any word in clear text.
	h, _ := hop(t, "Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", "")
	absent(t, "request", h.Header, "HTTP2-Settings")
}

// Idle connections that the upstream has closed meanwhile, with a word or
// without, are replaced, and each token travels once.
func TestG6DeadIdleConnectionIsReplaced(t *testing.T) {
	pt.Leaks(t)
	t.Run("closed before it is used again", func(t *testing.T) {
		up := pt.Negotiating(t, pt.Any())
		auth := &pt.Auth{}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
		c := pt.Dial(t, addr)
		for i := range 5 {
			if resp, _ := c.Do("POST", "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"); resp.StatusCode != 200 {
				t.Errorf("request %d: got %d %s", i, resp.StatusCode, pt.Cause(resp))
			}
			up.DropAll()
		}
		if auth.Made() != 5 || len(up.Heads()) != 5 {
			t.Errorf("%d tokens for %d requests, want 5 for 5", auth.Made(), len(up.Heads()))
		}
	})
	t.Run("closed when it is used again", func(t *testing.T) {
		up := pt.Serve(t, func(c *pt.Conn) {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			c.Send(pt.OK)
			c.ReadHead() // and ends without a word
		})
		auth := &pt.Auth{}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
		c := pt.Dial(t, addr)
		for i := range 2 {
			if resp, _ := c.Get("http://a.test/"); resp.StatusCode != 200 {
				t.Fatalf("GET %d: %d", i, resp.StatusCode)
			}
		}
		seen := map[string]bool{}
		for _, h := range up.Heads() {
			if tok := h.Token(); tok != "" && seen[tok] {
				t.Errorf("%s was sent twice", tok)
			} else {
				seen[tok] = true
			}
		}
		if auth.Made() != 2 || up.Conns() != 2 {
			t.Errorf("%d tokens on %d connections, want 2 on 2", auth.Made(), up.Conns())
		}
	})
}

// With an upstream at hand and Kerberos on, a listed host costs the upstream
// no byte and the origin sees no credentials.
func TestI1ListedHostLeavesTheUpstreamAlone(t *testing.T) {
	pt.Leaks(t)
	up, origin := pt.Negotiating(t, pt.Any()), pt.Answering(t, pt.OK)
	via, straight := pt.Via(up.Addr), pt.Direct()
	auth := &pt.Auth{}
	_, addr := pt.Start(t, proxy.Config{Auth: auth, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
		if h == "127.0.0.1" {
			return straight(ctx, h, p)
		}
		return via(ctx, h, p)
	})})
	c := pt.Dial(t, addr)
	if resp, _ := c.Do("GET", "GET http://"+origin.Addr+"/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic eDp5\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	tunnel := pt.Dial(t, addr)
	if resp, _ := tunnel.Do("CONNECT", "CONNECT "+origin.Addr+" HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic eDp5\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatalf("CONNECT: got %d", resp.StatusCode)
	}
	tunnel.Do("GET", "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if up.Conns() != 0 || auth.Made() != 0 {
		t.Errorf("%d connections to the upstream, %d tokens", up.Conns(), auth.Made())
	}
	for _, h := range origin.Heads() {
		if strings.Contains(h.Raw, "Proxy-") {
			t.Errorf("the origin saw %q", h.Raw)
		}
	}
	// An authenticated upstream connection in the pool changes nothing.
	c.Get("http://a.test/")
	c.Get("http://" + origin.Addr + "/")
	if len(up.Heads()) != 1 || len(origin.Heads()) != 3 {
		t.Errorf("the upstream saw %d requests, the origin %d, want 1 and 3", len(up.Heads()), len(origin.Heads()))
	}
}

// Whatever goes wrong on the way to the upstream, nothing goes direct.
func TestI2NothingFailsOpen(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Answering(t, pt.OK)
	noTicket := &pt.Auth{Token: func(context.Context, int) ([]byte, error) { return nil, &proxy.Error{Cause: proxy.CauseNoTicket} }}
	for _, tt := range []struct {
		name   string
		up     string
		auth   proxy.Authenticator
		change func(*proxy.Decision)
		cause  string
	}{
		{"down", deadAddr(t), &pt.Auth{}, nil, "upstream_unreachable"},
		{"closes at once", pt.Serve(t, func(*pt.Conn) {}).Addr, &pt.Auth{}, nil, "upstream_unreachable"},
		{"speaks no HTTP", pt.Serve(t, func(c *pt.Conn) { c.Send("220 smtp\r\n\r\n") }).Addr, &pt.Auth{}, nil, "upstream_unreachable"},
		{"refuses the token", pt.Answering(t, pt.Need407).Addr, &pt.Auth{}, nil, "token_refused"},
		{"offers nothing", pt.Answering(t, answer407("")).Addr, &pt.Auth{}, nil, "negotiate_not_offered"},
		{"no ticket", pt.Answering(t, pt.OK).Addr, noTicket, nil, "no_ticket"},
		{"no library", pt.Answering(t, pt.OK).Addr, nil, nil, "kerberos_unavailable"},
		{"switched off", pt.Answering(t, pt.Need407).Addr, &pt.Auth{}, func(d *proxy.Decision) { d.Kerberos = false }, "kerberos_off"},
		{"no upstream is known", deadAddr(t), &pt.Auth{}, func(d *proxy.Decision) { d.Route, d.Upstream = proxy.RouteRefused, nil }, "policy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.change == nil {
				tt.change = func(*proxy.Decision) {}
			}
			_, addr := pt.Start(t, proxy.Config{Router: pt.Routed(tt.up, tt.change), Auth: tt.auth})
			for _, line := range []string{"GET http://" + origin.Addr + "/", "CONNECT " + origin.Addr, "POST http://" + origin.Addr + "/"} {
				method, _, _ := strings.Cut(line, " ")
				resp, _ := pt.Dial(t, addr).Do(method, line+" HTTP/1.1\r\nHost: x\r\n\r\n")
				if resp.StatusCode < 400 || pt.Cause(resp) != tt.cause {
					t.Errorf("%s: got %d %s, want %s", line, resp.StatusCode, pt.Cause(resp), tt.cause)
				}
			}
		})
	}
	if origin.Conns() != 0 {
		t.Errorf("%d requests went direct", origin.Conns())
	}
}

// A redirect is passed on as it is; where the next request goes is decided
// when it comes.
func TestI5RedirectsAreTheClientsBusiness(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Answering(t, pt.OK)
	up := pt.Answering(t, "HTTP/1.1 302 Found\r\nLocation: http://"+origin.Addr+"/next\r\nContent-Length: 0\r\n\r\n")
	via, straight := pt.Via(up.Addr), pt.Direct()
	_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
		if h == "127.0.0.1" {
			return straight(ctx, h, p)
		}
		return via(ctx, h, p)
	})})
	c := pt.Dial(t, addr)
	resp, _ := c.Get("http://a.test/")
	if resp.StatusCode != 302 || origin.Conns() != 0 {
		t.Fatalf("got %d, the origin has %d connections", resp.StatusCode, origin.Conns())
	}
	if resp, _ = c.Get(resp.Header.Get("Location")); resp.StatusCode != 200 || len(up.Heads()) != 1 || origin.Heads()[0].Header.Get("Proxy-Authorization") != "" {
		t.Errorf("the next request: got %d, %d requests at the upstream", resp.StatusCode, len(up.Heads()))
	}
}

func TestI7SwitchedOffMeansNoToken(t *testing.T) {
	pt.Leaks(t)
	bothWays(t, func(t *testing.T, method, raw string) {
		up := pt.Negotiating(t, pt.Any())
		auth := &pt.Auth{}
		_, addr := pt.Start(t, proxy.Config{Router: pt.SwitchedOff(up.Addr), Auth: auth})
		resp, body := pt.Dial(t, addr).Do(method, raw)
		if resp.StatusCode != 502 || pt.Cause(resp) != "kerberos_off" || !strings.Contains(body, "switched off") || !strings.Contains(body, "kerbpass kerberos on") {
			t.Errorf("got %d %s:\n%s", resp.StatusCode, pt.Cause(resp), body)
		}
		if h := up.Heads(); len(h) != 1 || h[0].Header.Get("Proxy-Authorization") != "" || auth.Made() != 0 {
			t.Errorf("%d tokens made, the upstream saw %v", auth.Made(), h)
		}
	})
	t.Run("an upstream that wants nothing", func(t *testing.T) {
		up := pt.Answering(t, pt.OK)
		_, addr := pt.Start(t, proxy.Config{Router: pt.SwitchedOff(up.Addr), Auth: &pt.Auth{}})
		if resp, _ := pt.Dial(t, addr).Do("GET", get); resp.StatusCode != 200 || up.Heads()[0].Header.Get("Proxy-Authorization") != "" {
			t.Errorf("got %d", resp.StatusCode)
		}
	})
}

// Every cause that the proxy itself finds, from a real failure; those of the
// ticket come from the Authenticator and pass through unchanged.
func TestJ1EveryFailureHasItsCause(t *testing.T) {
	pt.Leaks(t)
	dnsError := func(host string) func(context.Context, string, string) (net.Conn, error) {
		return func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
		}
	}
	plain := pt.Serve(t, func(c *pt.Conn) { c.Send("HTTP/1.1 400 No TLS here\r\n\r\n") })
	ok := pt.Negotiating(t, pt.Any())
	overTLS := pt.Routed(plain.Addr, func(d *proxy.Decision) {
		u := *d.Upstream
		u.TLS = true
		d.Upstream = &u
	})
	silent := pt.Serve(t, func(c *pt.Conn) { io.Copy(io.Discard, c.R) })
	const limit = 100 * time.Millisecond
	for _, tt := range []struct {
		want string
		code int
		cfg  proxy.Config
	}{
		{"upstream_unreachable", 502, proxy.Config{Router: pt.Via(deadAddr(t))}},
		{"upstream_unresolved", 502, proxy.Config{Router: pt.Via(ok.Addr), Dial: dnsError("proxy.corp.example")}},
		{"upstream_tls", 502, proxy.Config{Router: overTLS}},
		{"destination_unreachable", 502, proxy.Config{Router: pt.Routed(deadAddr(t), func(d *proxy.Decision) { d.Route, d.Host, d.Port = proxy.RouteDirect, "127.0.0.1", d.Upstream.Port })}},
		{"destination_unresolved", 502, proxy.Config{Router: pt.Direct(), Dial: dnsError("a.test")}},
		{"timeout", 504, proxy.Config{Router: pt.Via(silent.Addr), AnswerTimeout: limit}},
		{"token_refused", 502, proxy.Config{Router: pt.Via(pt.Answering(t, pt.Need407).Addr)}},
		{"negotiate_not_offered", 502, proxy.Config{Router: pt.Via(pt.Answering(t, answer407("Proxy-Authenticate: NTLM\r\n")).Addr)}},
		{"ntlm_instead_of_kerberos", 502, proxy.Config{Router: pt.Via(ok.Addr), Auth: &pt.Auth{Token: func(context.Context, int) ([]byte, error) { return []byte("NTLMSSP\x00"), nil }}}},
		{"kerberos_off", 502, proxy.Config{Router: pt.SwitchedOff(pt.Answering(t, pt.Need407).Addr)}},
		{"policy", 403, proxy.Config{Router: pt.Routed(ok.Addr, func(d *proxy.Decision) { d.Route = proxy.RouteRefused })}},
	} {
		t.Run(tt.want, func(t *testing.T) {
			if tt.cfg.Auth == nil {
				tt.cfg.Auth = &pt.Auth{}
			}
			_, addr := pt.Start(t, tt.cfg)
			if resp, body := pt.Dial(t, addr).Do("GET", get); resp.StatusCode != tt.code || pt.Cause(resp) != tt.want || !strings.Contains(body, "What to do:") {
				t.Errorf("got %d %q\n%s", resp.StatusCode, pt.Cause(resp), body)
			}
		})
	}
	for _, cause := range []proxy.Cause{proxy.CauseNoTicket, proxy.CauseTicketExpired, proxy.CauseKDCUnreachable, proxy.CauseSPNUnknown, proxy.CauseClockSkew, proxy.CauseTokenTooLarge, proxy.CauseKerberosUnavailable} {
		t.Run(string(cause), func(t *testing.T) {
			_, addr := pt.Start(t, proxy.Config{Router: pt.Via(ok.Addr), Auth: &pt.Auth{Token: func(context.Context, int) ([]byte, error) {
				return nil, fmt.Errorf("token: %w", &proxy.Error{Cause: cause, Err: errors.New("library text")})
			}}})
			if resp, body := pt.Dial(t, addr).Do("GET", get); resp.StatusCode != 502 || pt.Cause(resp) != string(cause) || strings.Contains(body, "library text") {
				t.Errorf("got %d %q\n%s", resp.StatusCode, pt.Cause(resp), body)
			}
		})
	}
}

// Requests full of secrets, through success and every kind of failure: none
// shows in the log, in an event's own words, or in a page of ours.
func TestJ3SecretsAreNotSaid(t *testing.T) {
	pt.Leaks(t)
	const password, query, bearer = "hunter2", "q-secret-1", "b-secret-2"
	token := func(context.Context, int) ([]byte, error) {
		return append([]byte("\x60\x82\x03\x00"), strings.Repeat("tok", 300)...), nil
	}
	log := &lockedBuffer{}
	rec := &pt.Recorder{}
	var said strings.Builder
	start := func(router proxy.Router, auth proxy.Authenticator, dial func(context.Context, string, string) (net.Conn, error)) string {
		_, addr := pt.Start(t, proxy.Config{Router: router, Auth: auth, Dial: dial, Observer: rec, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		return addr
	}
	leaky := func(context.Context, string, string) (net.Conn, error) {
		return nil, &url.Error{Op: "dial", URL: "http://x/", Err: errors.New("refused")}
	}
	n := 0
	for _, addr := range []string{
		start(pt.Via(pt.Answering(t, pt.OK).Addr), &pt.Auth{Token: token}, nil),
		start(pt.Via(pt.Answering(t, pt.Need407).Addr), &pt.Auth{Token: token}, nil),
		start(pt.Via(pt.Answering(t, answer407("Proxy-Authenticate: Negotiate "+strings.Repeat("YIIB", 50)+"\r\n")).Addr), &pt.Auth{Token: token}, nil),
		start(pt.Via(deadAddr(t)), &pt.Auth{Token: token}, nil),
		start(pt.Via("127.0.0.1:1"), &pt.Auth{Token: token}, leaky),
		start(pt.SwitchedOff(pt.Answering(t, pt.Need407).Addr), nil, nil),
		start(pt.Via(pt.Serve(t, func(c *pt.Conn) { c.ReadHead(); c.Send("junk %s\r\n\r\n", password) }).Addr), &pt.Auth{Token: token}, nil),
		start(pt.Routed("127.0.0.1:1", func(d *proxy.Decision) { d.Route = proxy.RouteRefused }), nil, nil),
	} {
		fields := " HTTP/1.1\r\nHost: a.test\r\nAuthorization: Basic " + bearer + "\r\nProxy-Authorization: Basic aHVudGVyMjpodW50ZXIyOg==\r\nCookie: " + bearer + "\r\n"
		for _, raw := range []string{
			"GET http://user:" + password + "@a.test/?" + query + fields + "\r\n",
			"GET http://user:" + password + "@a.test/?" + query + fields + "Accept: text/html\r\n\r\n",
			"CONNECT a.test:443" + fields + "\r\n",
			"CONNECT user:" + password + "@a.test:443" + fields + "\r\n",
			"GET http://user:" + password + "@a.test:99999/?" + query + fields + "\r\n",
			"GET http://user:" + password + "@/?" + query + fields + "\r\n",
			"GET ftp://user:" + password + "@a.test/?" + query + fields + "\r\n",
			"POST http://a.test/?" + query + fields + "Content-Length: " + password + "\r\n\r\n",
		} {
			method, _, _ := strings.Cut(raw, " ")
			resp, body := pt.Dial(t, addr).Do(method, raw)
			n++
			if pt.Cause(resp) != "" {
				fmt.Fprintf(&said, "%v\n%s\n", resp.Header, body)
			}
		}
	}
	for _, ev := range waitEvents(t, rec, n-1) { // the last tunnel can still stand
		fmt.Fprintf(&said, "%+v %v\n", ev, ev.Err)
	}
	said.WriteString(log.String())
	if secret := testenv.Secret(said.String(), password, query, bearer, "YIIB", "toktok", "aHVudGVy"); secret != "" {
		i := strings.Index(said.String(), secret)
		t.Errorf("%.40q came out: …%s…", secret, said.String()[max(0, i-200):min(said.Len(), i+100)])
	}
	if said.Len() < 5000 {
		t.Errorf("only %d bytes were said; is anything collected?", said.Len())
	}
}
