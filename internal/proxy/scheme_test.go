package proxy_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// logins is an Authenticator in one of the other schemes. Like a real one, it
// tries a refused password no more.
type logins struct {
	scheme, password string

	mu      sync.Mutex // guards what follows
	begun   int
	open    int
	refused int
	nonce   string // of Digest, one that works and is not in use
}

func (l *logins) Epoch() uint64 { return 1 }

func (l *logins) Begin(context.Context, *proxy.Upstream) (proxy.Exchange, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refused > 0 {
		return nil, &proxy.Error{Cause: proxy.CauseTokenRefused, Text: proxy.PasswordRefusedText, Hint: proxy.PasswordRefusedHint}
	}
	l.begun++
	l.open++
	return &login{l: l}, nil
}

// login writes what it is told into its answers.
type login struct {
	l              *logins
	method, target string
	nonce          string
}

func (x *login) Scheme() string              { return x.l.scheme }
func (x *login) Asked(method, target string) { x.method, x.target = method, target }

func (x *login) Close() error {
	x.l.mu.Lock()
	defer x.l.mu.Unlock()
	x.l.open--
	return nil
}

func (x *login) Judged(accepted bool) {
	x.l.mu.Lock()
	defer x.l.mu.Unlock()
	if !accepted {
		x.l.refused++
	} else {
		x.l.nonce = x.nonce
	}
}

func (x *login) Next(_ context.Context, challenge []byte) ([]byte, error) {
	x.l.mu.Lock()
	defer x.l.mu.Unlock()
	switch {
	case x.l.scheme == proxy.SchemeBasic:
		return []byte("alice:" + x.l.password), nil
	case x.l.scheme == proxy.SchemeNTLM && challenge == nil:
		return []byte("NTLMSSP\x00\x01"), nil
	case x.l.scheme == proxy.SchemeNTLM && string(challenge) == "NTLMSSP\x00\x02":
		return []byte("NTLMSSP\x00\x03" + x.l.password), nil
	case x.l.scheme == proxy.SchemeDigest && challenge == nil:
		if x.nonce == "" {
			x.nonce, x.l.nonce = x.l.nonce, ""
		}
		if x.nonce == "" {
			return nil, nil
		}
		return fmt.Appendf(nil, "nonce=%q, password=%q, for=%q", x.nonce, x.l.password, x.method+" "+x.target), nil
	case x.l.scheme == proxy.SchemeDigest:
		_, n, _ := strings.Cut(string(challenge), `nonce="`)
		n, _, _ = strings.Cut(n, `"`)
		if n == x.nonce {
			return nil, errors.New("refused")
		}
		x.nonce = n
		return nil, nil
	}
	return nil, fmt.Errorf("challenge %q", challenge)
}

// schemed is an upstream that wants password in scheme. After every n requests
// Digest's nonce is another. closing: a 407 ends the connection.
func schemed(t *testing.T, scheme, password string, n int, closing bool) *pt.Server {
	var mu sync.Mutex
	seen := 0
	return pt.Serve(t, func(c *pt.Conn) {
		authed := false // NTLM's
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			got, value, _ := strings.Cut(h.Header.Get("Proxy-Authorization"), " ")
			raw, _ := base64.StdEncoding.DecodeString(value)
			ok, more := authed, ""
			mu.Lock()
			nonce := fmt.Sprintf("nonce-%d", seen/max(1, n))
			switch {
			case got != scheme:
			case scheme == proxy.SchemeBasic:
				ok = string(raw) == "alice:"+password
			case scheme == proxy.SchemeNTLM && string(raw) == "NTLMSSP\x00\x01":
				ok, more = false, " "+base64.StdEncoding.EncodeToString([]byte("NTLMSSP\x00\x02"))
			case scheme == proxy.SchemeNTLM:
				ok = string(raw) == "NTLMSSP\x00\x03"+password
				authed = ok
			case scheme == proxy.SchemeDigest:
				if ok = value == fmt.Sprintf("nonce=%q, password=%q, for=%q", nonce, password, h.Method()+" "+h.Target()); ok {
					seen++
				}
			}
			if scheme == proxy.SchemeDigest {
				more = fmt.Sprintf(" realm=%q, nonce=%q", "a, Basic", nonce)
			}
			if scheme == proxy.SchemeBasic {
				more = ` realm="x"`
			}
			mu.Unlock()
			if h.Method() != "CONNECT" && h.Method() != "HEAD" {
				if strings.EqualFold(h.Header.Get("Expect"), "100-continue") && ok {
					c.Send("HTTP/1.1 100 Continue\r\n\r\n")
				}
				if ok || h.Header.Get("Expect") == "" {
					if _, err := c.ReadBody(h); err != nil {
						return
					}
				}
			}
			if !ok {
				end := ""
				if closing || h.Header.Get("Expect") != "" {
					end = "Connection: close\r\n"
				}
				c.Send("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: %s%s\r\n%sContent-Length: 0\r\n\r\n", scheme, more, end)
				if end != "" {
					return
				}
				continue
			}
			if h.Method() == "CONNECT" {
				c.Send("HTTP/1.1 200 OK\r\n\r\n")
				io.Copy(c.Conn, c.R)
				return
			}
			if h.Method() == "HEAD" {
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
				continue
			}
			c.Send(pt.OK)
		}
	})
}

func viaScheme(addr, scheme string, preemptive bool) proxy.RouterFunc {
	up := pt.UpstreamAt(addr)
	up.Scheme = scheme
	return func(_ context.Context, host string, port uint16) (proxy.Decision, error) {
		// The switch for Kerberos is off.
		return proxy.Decision{Route: proxy.RouteProxy, Host: host, Port: port, Upstream: up, Preemptive: preemptive}, nil
	}
}

func posting(n int) string {
	return fmt.Sprintf("POST http://a.test/p HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", n, strings.Repeat("b", n))
}

const chunkedPost = "POST http://a.test/c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"

func TestSchemes(t *testing.T) {
	for _, scheme := range []string{proxy.SchemeBasic, proxy.SchemeDigest, proxy.SchemeNTLM} {
		for _, preemptive := range []bool{true, false} {
			for _, closing := range []bool{false, true} {
				if closing && scheme == proxy.SchemeNTLM {
					continue // its legs share a connection
				}
				t.Run(fmt.Sprintf("%s %v %v", scheme, preemptive, closing), func(t *testing.T) {
					pt.Leaks(t)
					up := schemed(t, scheme, "right", 3, closing)
					l, rec := &logins{scheme: scheme, password: "right"}, &pt.Recorder{}
					_, addr := pt.Start(t, proxy.Config{Router: viaScheme(up.Addr, scheme, preemptive), Auth: l, Observer: rec, Spares: 8})
					c := pt.Dial(t, addr)
					for i := range 8 {
						if resp, _ := c.Get("http://a.test/x"); resp.StatusCode != 200 {
							t.Errorf("GET %d: got %d %s", i, resp.StatusCode, pt.Cause(resp))
						}
					}
					for _, raw := range []string{posting(10), posting(40_000), posting(700_000), chunkedPost} {
						if resp, body := pt.Dial(t, addr).Do("POST", raw); resp.StatusCode != 200 {
							t.Errorf("POST: got %d %s", resp.StatusCode, body)
						}
					}
					for range 3 {
						if resp, _ := pt.Dial(t, addr).Do("CONNECT", connectA); resp.StatusCode != 200 {
							t.Errorf("CONNECT: got %d %s", resp.StatusCode, pt.Cause(resp))
						}
					}
					posts := 0
					for _, h := range up.Heads() {
						if v := h.Header.Get("Proxy-Authorization"); v != "" && !strings.HasPrefix(v, scheme+" ") {
							t.Errorf("it saw %q", v)
						}
						if h.Method() == "POST" && h.Header.Get("Content-Length") == "0" {
							t.Errorf("a request without its body: %q", h.Raw)
						}
						if h.Method() == "POST" {
							posts++
						}
					}
					if scheme != proxy.SchemeDigest && posts != 4 {
						t.Errorf("it saw %d POSTs, want 4", posts)
					}
					accepted := 0
					for _, a := range rec.Auths() {
						if a.Result == proxy.AuthAccepted {
							accepted++
						} else if a.Result != proxy.AuthNotChallenged {
							t.Errorf("%s, %s", a.Result, a.Cause)
						}
					}
					if accepted == 0 {
						t.Error("nobody was told that it was accepted")
					}
					l.mu.Lock()
					defer l.mu.Unlock()
					if l.open != 0 || l.refused != 0 {
						t.Errorf("%d exchanges left open, %d refusals", l.open, l.refused)
					}
				})
			}
		}
	}
}

// A body goes out once, on a connection that is authenticated before, whatever
// its size and although nothing is known of the upstream yet.
func TestSchemesNTLMBodies(t *testing.T) {
	for _, preemptive := range []bool{true, false} {
		for _, raw := range []string{posting(10), posting(40_000), posting(700_000), chunkedPost} {
			pt.Leaks(t)
			up := schemed(t, proxy.SchemeNTLM, "right", 1, false)
			l := &logins{scheme: proxy.SchemeNTLM, password: "right"}
			_, addr := pt.Start(t, proxy.Config{Router: viaScheme(up.Addr, proxy.SchemeNTLM, preemptive), Auth: l})
			if resp, body := pt.Dial(t, addr).Do("POST", raw); resp.StatusCode != 200 {
				t.Errorf("%d bytes: got %d %s", len(raw), resp.StatusCode, body)
			}
			var methods []string
			for _, h := range up.Heads() {
				methods = append(methods, h.Method())
				if h.Method() == "HEAD" && h.Target() != strings.Fields(raw)[1] {
					t.Errorf("it was asked for %s", h.Line)
				}
			}
			want := "HEAD HEAD POST"
			if !preemptive {
				want = "HEAD " + want
			}
			if got := strings.Join(methods, " "); got != want {
				t.Errorf("%d bytes: it saw %s, want %s", len(raw), got, want)
			}
		}
	}
}

// A wrong password is given once.
func TestSchemesWrongPassword(t *testing.T) {
	for _, scheme := range []string{proxy.SchemeBasic, proxy.SchemeDigest, proxy.SchemeNTLM} {
		t.Run(scheme, func(t *testing.T) {
			pt.Leaks(t)
			up := schemed(t, scheme, "right", 100, false)
			l := &logins{scheme: scheme, password: "wrong"}
			rec := &pt.Recorder{}
			_, addr := pt.Start(t, proxy.Config{Router: viaScheme(up.Addr, scheme, true), Auth: l, Observer: rec})
			for i := range 6 {
				raw, method := []string{"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n", connectA, posting(10)}[i%3], []string{"GET", "CONNECT", "POST"}[i%3]
				resp, body := pt.Dial(t, addr).Do(method, raw)
				if resp.StatusCode != 502 || pt.Cause(resp) != "token_refused" || !strings.Contains(body, "password") || strings.Contains(body, "Kerberos ") {
					t.Errorf("got %d %s: %s", resp.StatusCode, pt.Cause(resp), body)
				}
			}
			tries := 0
			for _, h := range up.Heads() {
				_, value, _ := strings.Cut(h.Header.Get("Proxy-Authorization"), " ")
				raw, _ := base64.StdEncoding.DecodeString(value)
				if strings.Contains(value+string(raw), "wrong") {
					tries++
				}
			}
			if tries != 1 || l.refused != 1 || l.open != 0 {
				t.Errorf("%d tries, %d refusals told, %d exchanges open", tries, l.refused, l.open)
			}
			if a := rec.Auths(); len(a) == 0 || a[0].Result != proxy.AuthRefused {
				t.Errorf("told: %+v", a)
			}
		})
	}
}

// Whatever an upstream offers, it gets its own scheme or nothing.
func TestSchemesNoFallBack(t *testing.T) {
	all := map[string]string{"": "Negotiate", proxy.SchemeBasic: `Basic realm="x"`, proxy.SchemeDigest: `Digest realm="x", nonce="n", qop="auth"`, proxy.SchemeNTLM: "NTLM"}
	for scheme := range all {
		t.Run("set to "+scheme, func(t *testing.T) {
			pt.Leaks(t)
			offers := ""
			for other, value := range all {
				if other != scheme {
					offers += "Proxy-Authenticate: " + value + "\r\n"
				}
			}
			up := pt.Answering(t, "HTTP/1.1 407 No\r\n"+offers+"Content-Length: 0\r\n\r\n")
			var auth proxy.Authenticator = &logins{scheme: scheme, password: "right"}
			if scheme == "" {
				auth = &pt.Auth{}
			}
			_, addr := pt.Start(t, proxy.Config{Router: pt.Routed(up.Addr, func(d *proxy.Decision) {
				hop := *d.Upstream
				hop.Scheme = scheme
				d.Upstream, d.Preemptive = &hop, false
			}), Auth: auth})
			for range 3 {
				resp, body := pt.Dial(t, addr).Get("http://a.test/")
				if pt.Cause(resp) != "negotiate_not_offered" || scheme != "" && !strings.Contains(body, "upstream_auth") {
					t.Errorf("got %d %s: %s", resp.StatusCode, pt.Cause(resp), body)
				}
			}
			for _, h := range up.Heads() {
				if v := h.Header.Get("Proxy-Authorization"); v != "" && !strings.HasPrefix(v, scheme+" ") {
					t.Errorf("it saw %q", v)
				}
			}
		})
	}
}

// An exchange of another scheme than the upstream is set to is not sent.
func TestSchemesMustMatch(t *testing.T) {
	pt.Leaks(t)
	for _, scheme := range []string{"", proxy.SchemeNTLM} {
		up := pt.Answering(t, pt.OK)
		_, addr := pt.Start(t, proxy.Config{Router: pt.Routed(up.Addr, func(d *proxy.Decision) {
			hop := *d.Upstream
			hop.Scheme = scheme
			d.Upstream = &hop
		}), Auth: &logins{scheme: proxy.SchemeBasic, password: "right"}})
		if resp, _ := pt.Dial(t, addr).Get("http://a.test/"); pt.Cause(resp) != "internal" {
			t.Errorf("%q: got %d %s", scheme, resp.StatusCode, pt.Cause(resp))
		}
		for _, h := range up.Heads() {
			t.Errorf("it saw %q", h.Raw)
		}
	}
}

// A nonce with a line end in it must not become two header lines. (It cannot
// come from a header; this is for whoever writes an Authenticator.)
func TestSchemesNoHeaderInjection(t *testing.T) {
	pt.Leaks(t)
	up := pt.Answering(t, pt.OK)
	_, addr := pt.Start(t, proxy.Config{Router: viaScheme(up.Addr, proxy.SchemeDigest, true), Auth: &injecting{}})
	if resp, _ := pt.Dial(t, addr).Get("http://a.test/"); pt.Cause(resp) != "internal" || len(up.Heads()) != 0 {
		t.Errorf("got %d %s, %d heads", resp.StatusCode, pt.Cause(resp), len(up.Heads()))
	}
}

type injecting struct{ pt.Auth }

func (*injecting) Begin(context.Context, *proxy.Upstream) (proxy.Exchange, error) {
	return inject{}, nil
}

type inject struct{}

func (inject) Scheme() string                               { return proxy.SchemeDigest }
func (inject) Next(context.Context, []byte) ([]byte, error) { return []byte("x\r\nEvil: 1"), nil }
func (inject) Close() error                                 { return nil }
