package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/route"
)

// Parts A and B of the checklist: taking requests, and the fields that travel.

// want400 sends raw on a connection of its own and wants it refused, with the
// connection closed behind the answer.
func want400(t *testing.T, addr, raw string) {
	t.Helper()
	c := pt.Dial(t, addr)
	method, _, _ := strings.Cut(raw, " ")
	resp, body := c.Do(method, raw)
	if resp.StatusCode != 400 || pt.Cause(resp) != "bad_request" || !resp.Close || body == "" {
		t.Errorf("%q: got %d %s, want 400 bad_request", raw, resp.StatusCode, pt.Cause(resp))
	}
	if rest, _ := io.ReadAll(c.R); len(rest) != 0 {
		t.Errorf("%q: a second answer: %q", raw, rest)
	}
}

func TestA1AbsoluteFormWinsOverHost(t *testing.T) {
	pt.Leaks(t)
	up, origin := pt.Negotiating(t, func(string) bool { return true }), pt.Answering(t, pt.OK)
	for _, tt := range []struct {
		name               string
		server             *pt.Server
		router             proxy.Router
		target, line, host string
	}{
		{"through an upstream", up, pt.Via(up.Addr), "GET http://User:Pw@A.Test:80/p?q#f", "GET http://a.test/p?q HTTP/1.1", "a.test"},
		{"another port", up, pt.Via(up.Addr), "GET http://a.test:81", "GET http://a.test:81/ HTTP/1.1", "a.test:81"},
		{"CONNECT", up, pt.Via(up.Addr), "CONNECT a.test:443", "CONNECT a.test:443 HTTP/1.1", "a.test:443"},
		{"direct", origin, pt.Direct(), "GET http://" + origin.Addr + "/x?y", "GET /x?y HTTP/1.1", origin.Addr},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, addr := pt.Start(t, proxy.Config{Router: tt.router, Auth: &pt.Auth{}})
			method, _, _ := strings.Cut(tt.target, " ")
			if resp, _ := pt.Dial(t, addr).Do(method, tt.target+" HTTP/1.1\r\nHost: other.test\r\n\r\n"); resp.StatusCode != 200 {
				t.Fatalf("got %d", resp.StatusCode)
			}
			heads := tt.server.Heads()
			h := heads[len(heads)-1]
			if hosts := h.Header.Values("Host"); h.Line != tt.line || len(hosts) != 1 || hosts[0] != tt.host {
				t.Errorf("got %q, want %q for %s", h.Raw, tt.line, tt.host)
			}
		})
	}
}

func TestA2HostMissingOrRepeated(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	for _, line := range []string{"GET http://a.test/", "CONNECT a.test:443"} {
		for _, hosts := range []string{"", "Host: a.test\r\nHost: b.test\r\n", "Host: a.test\r\nhOsT: a.test\r\n", "Host: a.test, b.test\r\n", "Host: a.test b.test\r\n", "Host: b@a.test\r\n"} {
			want400(t, addr, line+" HTTP/1.1\r\n"+hosts+"\r\n")
		}
	}
	if up.Conns() != 0 {
		t.Errorf("%d connections to the upstream", up.Conns())
	}
	if resp, _ := pt.Dial(t, addr).Do("GET", "GET http://a.test/ HTTP/1.0\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("HTTP/1.0 needs no Host: got %d", resp.StatusCode)
	}
}

func TestA3ConnectNeedsAPort(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	for _, target := range []string{"a.test", "a.test:", "a.test:0", "a.test:65536", "a.test:99999999999", "a.test:https", "a.test:+443", "a.test:-1", "a.test:443:443", "[::1]", "[::1]:", "::1:443", ":443"} {
		want400(t, addr, "CONNECT "+target+" HTTP/1.1\r\nHost: a.test\r\n\r\n")
	}
	if up.Conns() != 0 {
		t.Errorf("%d connections to the upstream", up.Conns())
	}
	if resp, _ := pt.Dial(t, addr).Do("CONNECT", "CONNECT a.test:65535 HTTP/1.1\r\nHost: a.test\r\n\r\n"); resp.StatusCode != 200 {
		t.Errorf("the largest port: got %d", resp.StatusCode)
	}
}

func TestA4BlanksAndControlsInTheTarget(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	for _, c := range []string{" ", "\t", "\r", "\x00", "\x0b", "\x0c", "\x1b", "\x7f"} {
		for _, target := range []string{"GET http://a%s.test/", "GET http://a.test%s/", "GET http://a.test/p%sq", "GET http://a.test/?q%sr", "GET %shttp://a.test/", "GET http://a.test/%s", "CONNECT a%s.test:443", "CONNECT a.test%s:443", "CONNECT a.test:4%s43"} {
			want400(t, addr, fmt.Sprintf(target, c)+" HTTP/1.1\r\nHost: a.test\r\n\r\n")
		}
	}
	if up.Conns() != 0 {
		t.Errorf("%d connections to the upstream", up.Conns())
	}
}

// Whatever spelling of a host is asked for, the router is asked once, and what
// it decided on is what is dialled, what the next hop is asked for, and what
// the event names.
func TestA6DecisionAndDialAreTheSameHost(t *testing.T) {
	pt.Leaks(t)
	server := pt.Answering(t, pt.OK)
	upstream := pt.UpstreamAt("192.0.2.1:3128")
	exact, _ := route.ParseExact([]string{"github.com", "bücher.example", "10.1.2.3", "2001:db8::1", "my_host.corp", "corp.com"})
	table := route.Table{Exact: exact, Upstream: upstream.URL}
	var mu sync.Mutex // guards both
	var decided []proxy.Decision
	var dialled []string
	rec := &pt.Recorder{}
	_, addr := pt.Start(t, proxy.Config{
		Auth: &pt.Auth{}, Observer: rec,
		Router: proxy.RouterFunc(func(_ context.Context, host string, port uint16) (proxy.Decision, error) {
			h, err := route.ParseHost(host)
			if err != nil {
				return proxy.Decision{}, err
			}
			d := proxy.Decision{Route: proxy.RouteDirect, Host: h.String(), Port: port}
			if table.Decide(h, port).Route == route.Proxy {
				d.Route, d.Upstream, d.Kerberos, d.Preemptive = proxy.RouteProxy, upstream, true, true
			}
			mu.Lock()
			decided = append(decided, d)
			mu.Unlock()
			return d, nil
		}),
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			dialled = append(dialled, addr)
			mu.Unlock()
			return (&net.Dialer{}).DialContext(ctx, network, server.Addr)
		},
	})
	counts := map[proxy.Route]int{}
	for _, authority := range []string{
		"github.com", "GitHub.COM", "github.com.", "github.com:8443", "api.github.com", "evil-github.com", "github.com.evil.org", "corp.com", "malicious-corp.com",
		"10.1.2.3", "10.1.2.3:8080", "010.1.2.3", "0x0a010203", "167838211", "10.1.515", "[::ffff:10.1.2.3]", "[2001:db8::1]", "[2001:DB8:0::1]:81", "[fe80::1%25eth0]", "2001:db8::1",
		"bücher.example", "xn--bcher-kva.example", "BÜCHER.example", "strasse.de", "gіthub.com", "git\u200bhub.com", "my_host.corp", "intranet.", "a..b", "*.corp.com", "-", ".",
		"user:pw@github.com", "evil.org@github.com", "github.com@evil.org", `evil.org\@github.com`, "github%2ecom", "github.com:0", "github.com:99999", "github.com:abc", "2130706433", "127.1",
	} {
		for _, connect := range []bool{false, true} {
			method, target := "GET", "http://"+authority+"/"
			if connect {
				if strings.Contains(authority, "@") {
					continue
				}
				method, target = "CONNECT", authority
				if !strings.Contains(authority[strings.LastIndexByte(authority, ']')+1:], ":") {
					target += ":443"
				}
			}
			mu.Lock()
			decided, dialled = nil, nil
			mu.Unlock()
			before := len(server.Heads())
			// A tunnel's end is told by the dial alone; nobody needs its answer.
			c := pt.Dial(t, addr)
			resp, _ := c.Do(method, method+" "+target+" HTTP/1.1\r\nHost: github.com\r\nConnection: close\r\n\r\n")
			c.Close()
			mu.Lock()
			asked, went := decided, dialled
			mu.Unlock()
			if resp.StatusCode == 400 {
				counts[proxy.RouteRefused]++
				if len(went) != 0 {
					t.Errorf("%s: refused, and %v dialled", target, went)
				}
				continue
			}
			if resp.StatusCode != 200 || len(asked) != 1 {
				t.Errorf("%s: got %d after %d decisions", target, resp.StatusCode, len(asked))
				continue
			}
			d := asked[0]
			counts[d.Route]++
			want := net.JoinHostPort(d.Host, fmt.Sprint(d.Port))
			dial := want
			if d.Route == proxy.RouteProxy {
				dial = "192.0.2.1:3128"
			}
			if len(went) > 1 || len(went) == 1 && went[0] != dial || len(went) == 0 && connect {
				t.Errorf("%s: decided on %s %s, dialled %v", target, d.Route, want, went)
			}
			if heads := server.Heads(); len(heads) > before {
				if host := heads[len(heads)-1].Header.Get("Host"); host != want && host+":80" != want {
					t.Errorf("%s: decided on %s, the next hop was asked for %q", target, want, host)
				}
			} else if !connect {
				t.Errorf("%s: nothing arrived", target)
			}
		}
	}
	if counts[proxy.RouteDirect] < 20 || counts[proxy.RouteProxy] < 15 || counts[proxy.RouteRefused] < 20 {
		t.Errorf("the vectors lost their variety: %v", counts)
	}
	for _, e := range rec.Events() {
		if e.Cause == "" && strings.ContainsAny(e.Host, "@ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
			t.Errorf("an event names %q", e.Host)
		}
	}
}

func TestA7MaxForwards(t *testing.T) {
	pt.Leaks(t)
	up := pt.Answering(t, pt.OK)
	_, addr := pt.Start(t, proxy.Config{Router: pt.SwitchedOff(up.Addr)})
	for _, method := range []string{"OPTIONS", "TRACE"} {
		const secret = "hunter2hunter2hunter2"
		resp, body := pt.Dial(t, addr).Do(method, method+" http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 0\r\nAuthorization: Bearer "+secret+"\r\nProxy-Authorization: Basic "+secret+"\r\nCookie: "+secret+"\r\nX-Seen: 1\r\n\r\n")
		if resp.StatusCode != 200 || up.Conns() != 0 {
			t.Errorf("%s, 0: got %d, %d connections to the upstream", method, resp.StatusCode, up.Conns())
		}
		if strings.Contains(body, secret) || method == "TRACE" && !strings.Contains(body, "X-Seen: 1") {
			t.Errorf("%s, 0: %q", method, body)
		}
	}
	for i, tt := range []struct{ method, want string }{{"OPTIONS", "4"}, {"TRACE", "4"}, {"GET", "5"}} {
		pt.Dial(t, addr).Do(tt.method, tt.method+" http://a.test/ HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 5\r\n\r\n")
		if got := up.Heads()[i].Header.Get("Max-Forwards"); got != tt.want {
			t.Errorf("%s, 5: forwarded with %q, want %q", tt.method, got, tt.want)
		}
	}
}

// hop sends one request with these fields and gives one answer with those.
func hop(t *testing.T, fields, answer string) (seen pt.Head, got *http.Response) {
	t.Helper()
	up := pt.Answering(t, "HTTP/1.1 200 Fine Day\r\n"+answer+"Content-Length: 0\r\n\r\n")
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, Name: "me"})
	got, _ = pt.Dial(t, addr).Do("GET", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"+fields+"\r\n")
	heads := up.Heads()
	if len(heads) != 1 || got.Status != "200 Fine Day" {
		t.Fatalf("%d requests were forwarded, the answer is %s", len(heads), got.Status)
	}
	return heads[0], got
}

// absent wants none of the fields.
func absent(t *testing.T, where string, h map[string][]string, names ...string) {
	t.Helper()
	for _, name := range names {
		if v := http.Header(h).Values(name); len(v) != 0 {
			t.Errorf("%s: %s was forwarded: %q", where, name, v)
		}
	}
}

func TestB1FieldsNamedInConnection(t *testing.T) {
	pt.Leaks(t)
	const fields = "Connection: X-One, keep-alive,x-two\r\nCONNECTION:\tX-Three\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nX-End: 4\r\n"
	h, resp := hop(t, fields, fields)
	absent(t, "request", h.Header, "Connection", "X-One", "X-Two", "X-Three")
	absent(t, "answer", resp.Header, "Connection", "X-One", "X-Two", "X-Three")
	if h.Header.Get("X-End") != "4" || resp.Header.Get("X-End") != "4" {
		t.Error("an end-to-end field was lost")
	}
	if _, resp = hop(t, "Connection: close\r\n", ""); !resp.Close {
		t.Error("the client's close is not answered by our own")
	}
}

func TestB2HopByHopFields(t *testing.T) {
	pt.Leaks(t)
	h, resp := hop(t, "Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=3\r\nTE: gzip, deflate;q=0.5\r\nUpgrade: h2c\r\n",
		"Proxy-Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n")
	names := []string{"Proxy-Connection", "Keep-Alive", "TE", "Transfer-Encoding", "Upgrade", "Connection"}
	absent(t, "request", h.Header, names...)
	absent(t, "answer", resp.Header, names...)
	// What is understood is made anew: trailers, and chunks.
	if h, _ := hop(t, "TE: trailers, gzip\r\n", ""); h.Header.Get("TE") != "trailers" || h.Header.Get("Connection") != "TE" {
		t.Errorf("TE: trailers: %q", h.Raw)
	}
}

func TestB3ClientProxyAuthorizationStopsHere(t *testing.T) {
	pt.Leaks(t)
	for _, field := range []string{"Proxy-Authorization: Basic Y2xpZW50OnNlY3JldA==\r\n", "pRoXy-AuThOrIzAtIoN:Negotiate YWJj\r\nProxy-Authorization: Basic eDp5\r\n"} {
		h, _ := hop(t, field, "")
		if got := h.Header.Values("Proxy-Authorization"); len(got) != 1 || h.Token() != "token-1" {
			t.Errorf("%q: forwarded with %q, want the helper's token alone", field, got)
		}
	}
	for name, router := range map[string]func(addr string) proxy.RouterFunc{"switched off": pt.SwitchedOff, "only when challenged": pt.WhenChallenged} {
		up := pt.Answering(t, pt.OK)
		_, addr := pt.Start(t, proxy.Config{Router: router(up.Addr), Auth: &pt.Auth{}})
		for _, method := range []string{"GET", "CONNECT"} {
			target := map[string]string{"GET": "http://a.test/", "CONNECT": "a.test:443"}[method]
			pt.Dial(t, addr).Do(method, method+" "+target+" HTTP/1.1\r\nHost: a.test\r\nProxy-Authorization: Basic eDp5\r\n\r\n")
		}
		for _, h := range up.Heads() {
			absent(t, name, h.Header, "Proxy-Authorization")
		}
	}
}

// The token stays on the hop to the upstream: it is not in the tunnel behind
// it, and neither at an origin reached directly.
func TestB4TokenOnTheUpstreamHopOnly(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Answering(t, pt.OK)
	up := pt.Serve(t, func(c *pt.Conn) { // a proxy that passes tunnels on
		h, err := c.ReadHead()
		if err != nil {
			return
		}
		if h.Token() == "" {
			c.Send(pt.Need407)
			return
		}
		out, err := net.Dial("tcp", h.Target())
		if err != nil {
			t.Error(err)
			return
		}
		defer out.Close()
		c.Send("HTTP/1.1 200 OK\r\n\r\n")
		done := make(chan struct{})
		go func() { defer close(done); io.Copy(out, c.R); out.(*net.TCPConn).CloseWrite() }()
		io.Copy(c, out)
		c.Conn.(*net.TCPConn).CloseWrite()
		<-done
	})
	auth := &pt.Auth{}
	_, viaUp := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
	_, direct := pt.Start(t, proxy.Config{Router: pt.Direct(), Auth: auth})
	for _, addr := range []string{viaUp, direct} {
		c := pt.Dial(t, addr)
		if resp, _ := c.Do("CONNECT", "CONNECT "+origin.Addr+" HTTP/1.1\r\nHost: x\r\n\r\n"); resp.StatusCode != 200 {
			t.Fatalf("CONNECT: got %d", resp.StatusCode)
		}
		if _, body := c.Do("GET", "GET /inside HTTP/1.1\r\nHost: a.test\r\n\r\n"); body != "ok" {
			t.Errorf("inside the tunnel: got %q", body)
		}
		c.Close()
	}
	pt.Dial(t, direct).Get("http://" + origin.Addr + "/plain")
	heads := origin.Heads()
	if len(heads) != 3 {
		t.Fatalf("the origin saw %d requests, want 3", len(heads))
	}
	for _, h := range heads {
		if strings.Contains(strings.ToLower(h.Raw), "proxy-") || strings.Contains(h.Raw, "Negotiate") {
			t.Errorf("the origin saw %q", h.Raw)
		}
	}
	if auth.Made() != 1 {
		t.Errorf("%d tokens were made, want the one of the upstream's CONNECT", auth.Made())
	}
}

// Whoever answers a TRACE repeats the head that reached it, token included.
func TestB4TraceIsNotSentWithAToken(t *testing.T) {
	pt.Leaks(t)
	up := pt.Answering(t, pt.OK)
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	for _, fields := range []string{"", "Max-Forwards: 5\r\n"} {
		pt.Dial(t, addr).Do("TRACE", "TRACE http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"+fields+"\r\n")
	}
	for _, h := range up.Heads() {
		if h.Token() != "" {
			t.Errorf("a TRACE carried a token: %.60q", h.Raw)
		}
	}
}

func TestB5UpstreamChallengesStopHere(t *testing.T) {
	pt.Leaks(t)
	_, resp := hop(t, "", "Proxy-Authenticate: Basic realm=\"x\"\r\nproxy-authenticate: NTLM\r\nProxy-Authentication-Info: nextnonce=\"b\"\r\n")
	absent(t, "answer", resp.Header, "Proxy-Authenticate", "Proxy-Authentication-Info")
	// Nor in an answer that refuses a CONNECT.
	up := pt.Answering(t, "HTTP/1.1 403 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authentication-Info: a=b\r\nContent-Length: 0\r\n\r\n")
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	resp, _ = pt.Dial(t, addr).Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp.StatusCode != 403 {
		t.Errorf("got %d", resp.StatusCode)
	}
	absent(t, "answer to CONNECT", resp.Header, "Proxy-Authenticate", "Proxy-Authentication-Info")
}

func TestB6OriginAuthenticationPassesUnchanged(t *testing.T) {
	pt.Leaks(t)
	const challenge, credentials, info = `Digest realm="o, p",  nonce="x",Basic realm="y"`, `Digest username="u",  response="r=="`, `rspauth="z"`
	h, resp := hop(t, "Authorization: "+credentials+"\r\n", "WWW-Authenticate: "+challenge+"\r\nWWW-Authenticate: Bearer\r\nAuthentication-Info: "+info+"\r\n")
	if got := h.Header.Values("Authorization"); len(got) != 1 || got[0] != credentials {
		t.Errorf("Authorization: %q", got)
	}
	if got := resp.Header.Values("WWW-Authenticate"); len(got) != 2 || got[0] != challenge || got[1] != "Bearer" {
		t.Errorf("WWW-Authenticate: %q", got)
	}
	if got := resp.Header.Get("Authentication-Info"); got != info {
		t.Errorf("Authentication-Info: %q", got)
	}
}

func TestB7ViaIsAPseudonym(t *testing.T) {
	pt.Leaks(t)
	h, resp := hop(t, "Via: 1.0 first\r\n", "Via: 1.1 up\r\n")
	if got := strings.Join(h.Header.Values("Via"), ", "); got != "1.0 first, 1.1 me" {
		t.Errorf("Via of the request: %q", got)
	}
	if got := strings.Join(resp.Header.Values("Via"), ", "); got != "1.1 up, 1.1 me" {
		t.Errorf("Via of the answer: %q", got)
	}
	absent(t, "request", h.Header, "X-Forwarded-For", "Forwarded", "X-Real-Ip", "X-Forwarded-Host")
	// By default too the pseudonym is not the machine's name.
	up := pt.Answering(t, pt.OK)
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	pt.Dial(t, addr).Get("http://a.test/")
	if host, _ := os.Hostname(); up.Heads()[0].Header.Get("Via") != "1.1 kerbpass" && host != "kerbpass" {
		t.Errorf("Via: %q", up.Heads()[0].Header.Get("Via"))
	}
}

func TestB8ConnectAnswerHasNoFraming(t *testing.T) {
	pt.Leaks(t)
	for _, fields := range []string{"Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Content-Length: 7\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", "Content-Length: 0\r\nX-Seen: 1\r\n", "Content-Length: 3\r\nContent-Length: 4\r\n"} {
		for _, status := range []string{"200 OK", "204 None", "299 Odd"} {
			up := pt.Serve(t, func(c *pt.Conn) {
				if _, err := c.ReadHead(); err != nil {
					return
				}
				c.Send("HTTP/1.1 %s\r\n%s\r\nbanner of the server", status, fields)
				c.Conn.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, c.R)
			})
			_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
			c := pt.Dial(t, addr)
			resp, _ := c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp.StatusCode != 200 || len(resp.Header) != 0 || resp.ContentLength > 0 || len(resp.TransferEncoding) != 0 {
				t.Errorf("%s %q: the client got %+v", status, fields, resp)
			}
			if got, _ := io.ReadAll(c.R); string(got) != "banner of the server" {
				t.Errorf("%s %q: tunnel bytes %q", status, fields, got)
			}
			c.Close()
		}
	}
}
