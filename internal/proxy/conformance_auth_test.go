package proxy_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// Parts C, D and H of the checklist: tokens, what a 407 means, and an upstream
// that proves itself.

// answer407 renders a refusal with these challenge fields.
func answer407(fields string) string {
	return "HTTP/1.1 407 No\r\n" + fields + "Content-Length: 0\r\n\r\n"
}

const (
	get     = "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"
	connect = "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"
)

// bothWays runs f for a plain request and for CONNECT.
func bothWays(t *testing.T, f func(t *testing.T, method, raw string)) {
	t.Run("GET", func(t *testing.T) { f(t, "GET", get) })
	t.Run("CONNECT", func(t *testing.T) { f(t, "CONNECT", connect) })
}

func TestC2TokenIsMadeWhenItIsSent(t *testing.T) {
	pt.Leaks(t)
	t.Run("none for a failed dial", func(t *testing.T) {
		auth := &pt.Auth{}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(deadAddr(t)), Auth: auth})
		pt.Dial(t, addr).Get("http://a.test/")
		if auth.Made() != 0 {
			t.Errorf("%d tokens for an upstream that cannot be reached", auth.Made())
		}
	})
	t.Run("not before the connection stands", func(t *testing.T) {
		up := pt.Negotiating(t, pt.Any())
		auth := &pt.Auth{Token: func(_ context.Context, n int) ([]byte, error) {
			for deadline := time.Now().Add(10 * time.Second); up.Conns() < n; time.Sleep(time.Millisecond) {
				if time.Now().After(deadline) {
					return nil, fmt.Errorf("token %d was asked for before connection %d was made", n, n)
				}
			}
			return fmt.Appendf(nil, "token-%d", n), nil
		}}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
		for range 2 {
			if resp, body := pt.Dial(t, addr).Do("CONNECT", connect); resp.StatusCode != 200 {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
		}
	})
	t.Run("none outlives its ticket or the switch", func(t *testing.T) {
		up := pt.Negotiating(t, func(string) bool { return true })
		auth := &pt.Auth{}
		var off atomic.Bool
		s, addr := pt.Start(t, proxy.Config{Auth: auth, Router: pt.Routed(up.Addr, func(d *proxy.Decision) { d.Kerberos = !off.Load() })})
		c := pt.Dial(t, addr)
		c.Get("http://a.test/1")
		auth.Now.Add(1)
		c.Get("http://a.test/2")
		off.Store(true)
		s.Flush()
		c.Get("http://a.test/3")
		var got []string
		for _, h := range up.Heads() {
			got = append(got, fmt.Sprintf("%s on %d", h.Token(), h.Conn))
		}
		if want := "[token-1 on 1 token-2 on 2  on 3]"; fmt.Sprint(got) != want {
			t.Errorf("got %v, want %s", got, want)
		}
	})
}

func TestC3HeaderForm(t *testing.T) {
	pt.Leaks(t)
	form := regexp.MustCompile(`\r\nProxy-Authorization: Negotiate ([A-Za-z0-9+/]+={0,2})\r\n`)
	for _, token := range []string{"\xfb\xff\xbe", "\xfb\xff\xbe\xff", "\x00\xfb\xff\xbe\xff", strings.Repeat("\xff", 5000)} {
		up := pt.Negotiating(t, func(string) bool { return true })
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{Token: func(context.Context, int) ([]byte, error) { return []byte(token), nil }}})
		pt.Dial(t, addr).Do("GET", get)
		pt.Dial(t, addr).Do("CONNECT", connect)
		for _, h := range up.Heads() {
			m := form.FindStringSubmatch(h.Raw)
			if m == nil || len(h.Header.Values("Proxy-Authorization")) != 1 {
				t.Fatalf("head: %.300q", h.Raw)
			}
			if got, err := base64.StdEncoding.Strict().DecodeString(m[1]); err != nil || string(got) != token {
				t.Errorf("token of %d bytes: %q, %v", len(token), got, err)
			}
		}
	}
}

// NTLM is not sent, bare or inside SPNEGO, and not answered.
func TestC5NTLMIsNeverSent(t *testing.T) {
	pt.Leaks(t)
	for name, token := range map[string]string{
		"bare":            "NTLMSSP\x00\x01\x00\x00\x00",
		"inside SPNEGO":   "\x60\x40\x06\x06+\x06\x01\x05\x05\x02\xa0\x30\x30\x2eNTLMSSP\x00\x01\x00\x00\x00",
		"offered as krb5": "\x60\x30\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02NTLMSSP\x00\x03\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, method, raw string) {
				up := pt.Negotiating(t, pt.Any())
				rec := &pt.Recorder{}
				_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Observer: rec, Auth: &pt.Auth{Token: func(context.Context, int) ([]byte, error) { return []byte(token), nil }}})
				resp, _ := pt.Dial(t, addr).Do(method, raw)
				if resp.StatusCode != 502 || pt.Cause(resp) != "ntlm_instead_of_kerberos" || up.Bytes() != 0 {
					t.Errorf("got %d %s, %d bytes upstream", resp.StatusCode, pt.Cause(resp), up.Bytes())
				}
				if got := rec.Auths(); len(got) != 1 || got[0].Cause != proxy.CauseNTLM {
					t.Errorf("auth events %+v", got)
				}
			})
		})
	}
	t.Run("challenge of the upstream", func(t *testing.T) {
		up := pt.Answering(t, answer407("Proxy-Authenticate: Negotiate TlRMTVNTUAACAAAA\r\n"))
		auth := &pt.Auth{Challenge: func(int, []byte) ([]byte, error) { return []byte("answer"), nil }}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
		resp, _ := pt.Dial(t, addr).Do("GET", get)
		if pt.Cause(resp) != "ntlm_instead_of_kerberos" || len(up.Heads()) != 1 || auth.Open() != 0 {
			t.Errorf("got %s after %d requests, %d exchanges open", pt.Cause(resp), len(up.Heads()), auth.Open())
		}
	})
}

// A continuation of 100 KB each way, in the largest challenge field that is
// still taken.
func TestC8ContinuationOf100KB(t *testing.T) {
	pt.Leaks(t)
	challenge, answer := strings.Repeat("c", 100<<10), strings.Repeat("a", 100<<10)
	up := pt.Serve(t, func(c *pt.Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if h.Token() != answer {
				c.Send("%s", answer407("Proxy-Authenticate: Negotiate "+base64.StdEncoding.EncodeToString([]byte(challenge))+"\r\n"))
				continue
			}
			c.Send(pt.OK)
		}
	})
	auth := &pt.Auth{Challenge: func(_ int, got []byte) ([]byte, error) {
		if string(got) != challenge {
			return nil, fmt.Errorf("a challenge of %d bytes", len(got))
		}
		return []byte(answer), nil
	}}
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
	if resp, body := pt.Dial(t, addr).Do("GET", get); resp.StatusCode != 200 || up.Conns() != 1 {
		t.Errorf("got %d on %d connections: %s", resp.StatusCode, up.Conns(), body)
	}
}

// urlAuth makes the upstream's own URL its token.
type urlAuth struct{ pt.Auth }

type urlExchange string

func (*urlAuth) Begin(_ context.Context, up *proxy.Upstream) (proxy.Exchange, error) {
	return urlExchange(up.URL), nil
}
func (urlExchange) Scheme() string { return "Negotiate" }
func (urlExchange) Close() error   { return nil }
func (e urlExchange) Next(_ context.Context, challenge []byte) ([]byte, error) {
	if challenge != nil {
		return nil, errors.New("unexpected challenge")
	}
	return []byte(e), nil
}

func TestC11CredentialsForTheConfiguredUpstreamOnly(t *testing.T) {
	pt.Leaks(t)
	t.Run("a redirect is not followed", func(t *testing.T) {
		other := pt.Answering(t, pt.OK)
		for _, status := range []string{"302 Found", "305 Use Proxy", "307 Again", "407 No\r\nProxy-Authenticate: Negotiate"} {
			bothWays(t, func(t *testing.T, method, raw string) {
				up := pt.Answering(t, "HTTP/1.1 "+status+"\r\nLocation: http://"+other.Addr+"/\r\nAlt-Svc: h2=\""+other.Addr+"\"\r\nContent-Length: 0\r\n\r\n")
				_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
				resp, _ := pt.Dial(t, addr).Do(method, raw)
				if resp.StatusCode != 502 && !strings.HasPrefix(status, resp.Status[:3]) {
					t.Errorf("%q: the client got %s", status, resp.Status)
				}
			})
		}
		if other.Conns() != 0 {
			t.Errorf("%d connections went where an answer pointed", other.Conns())
		}
	})
	t.Run("two upstreams, each its own", func(t *testing.T) {
		a, b := pt.Negotiating(t, func(string) bool { return true }), pt.Negotiating(t, func(string) bool { return true })
		viaA, viaB := pt.Via(a.Addr), pt.Via(b.Addr)
		_, addr := pt.Start(t, proxy.Config{Auth: &urlAuth{}, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
			if h == "a.test" {
				return viaA(ctx, h, p)
			}
			return viaB(ctx, h, p)
		})})
		c := pt.Dial(t, addr)
		for range 5 {
			c.Get("http://a.test/")
			c.Get("http://b.test/")
			pt.Dial(t, addr).Do("CONNECT", connect)
			pt.Dial(t, addr).Do("CONNECT", strings.ReplaceAll(connect, "a.test", "b.test"))
		}
		for server, name := range map[*pt.Server]string{a: "a.test", b: "b.test"} {
			heads, tokens := server.Heads(), 0
			for _, h := range heads {
				if !strings.Contains(h.Target(), name) {
					t.Errorf("the upstream for %s was asked for %s", name, h.Target())
				}
				if tok := h.Token(); tok == "http://"+server.Addr {
					tokens++
				} else if tok != "" {
					t.Errorf("the upstream at %s got the token for %s", server.Addr, tok)
				}
			}
			if len(heads) != 10 || tokens != 6 {
				t.Errorf("the upstream for %s saw %d requests with %d tokens, want 10 with 6", name, len(heads), tokens)
			}
		}
	})
}

// Challenges in odd forms, as they come over the wire; one of them byte by
// byte.
func TestD1ChallengesInOddForms(t *testing.T) {
	pt.Leaks(t)
	for _, tt := range []struct {
		fields string
		ok     bool
	}{
		{"Proxy-Authenticate: Negotiate\r\n", true},
		{"Proxy-Authenticate:negotiate\r\n", true},
		{"proxy-AUTHENTICATE: \t NEGOTIATE \t\r\n", true},
		{"Proxy-Authenticate: NTLM, Negotiate\r\n", true},
		{"Proxy-Authenticate: NTLM\r\nX: y\r\nProxy-Authenticate: Basic realm=\"x\"\r\nProxy-Authenticate: Negotiate\r\n", true},
		{"Proxy-Authenticate: , ,,Negotiate, ,\r\n", true},
		{"Proxy-Authenticate: \r\nProxy-Authenticate: Negotiate\r\n", true},
		{"Proxy-Authenticate: Digest realm=\"a, b\", nonce=\"q==\", qop=\"auth,auth-int\", Negotiate\r\n", true},
		{"Proxy-Authenticate: Hoba max-age=3, Scram x=\"\\\"\", Negotiate\r\n", true},
		{"Proxy-Authenticate: Basic realm=\"a, Negotiate\"\r\n", false},
		{"Proxy-Authenticate: Basic realm=\"a\\\", Negotiate\"\r\n", false},
		{"Proxy-Authenticate: X-Negotiate, Negotiatex, Negotiate=1\r\n", false},
		{"WWW-Authenticate: Negotiate\r\n", false},
		{"", false},
	} {
		t.Run(tt.fields, func(t *testing.T) {
			bothWays(t, func(t *testing.T, method, raw string) {
				up := pt.Serve(t, func(c *pt.Conn) {
					for {
						h, err := c.ReadHead()
						if err != nil {
							return
						}
						switch {
						case h.Token() == "":
							eachByte(c, answer407(tt.fields))
						case method == "CONNECT":
							eachByte(c, "HTTP/1.1 200 OK\r\n\r\n")
						default:
							eachByte(c, pt.OK)
						}
					}
				})
				_, addr := pt.Start(t, proxy.Config{Router: pt.WhenChallenged(up.Addr), Auth: &pt.Auth{}})
				resp, _ := pt.Dial(t, addr).Do(method, raw)
				if tt.ok && resp.StatusCode != 200 {
					t.Errorf("got %d %s, want 200", resp.StatusCode, pt.Cause(resp))
				}
				if !tt.ok && (pt.Cause(resp) != "negotiate_not_offered" || len(up.Heads()) != 1) {
					t.Errorf("got %d %s after %d requests, want negotiate_not_offered after one", resp.StatusCode, pt.Cause(resp), len(up.Heads()))
				}
			})
		})
	}
}

func TestD2NegotiateNotOffered(t *testing.T) {
	pt.Leaks(t)
	for _, preemptive := range []bool{true, false} {
		bothWays(t, func(t *testing.T, method, raw string) {
			up := pt.Answering(t, answer407("Proxy-Authenticate: Basic realm=\"x\", Digest nonce=\"y\"\r\nProxy-Authenticate: NTLM\r\n"))
			auth := &pt.Auth{}
			_, addr := pt.Start(t, proxy.Config{Auth: auth, Router: pt.Routed(up.Addr, func(d *proxy.Decision) { d.Preemptive = preemptive })})
			resp, body := pt.Dial(t, addr).Do(method, raw)
			if resp.StatusCode != 502 || pt.Cause(resp) != "negotiate_not_offered" || !strings.Contains(body, "Basic, Digest, NTLM") {
				t.Errorf("got %d %s:\n%s", resp.StatusCode, pt.Cause(resp), body)
			}
			if made := auth.Made(); len(up.Heads()) != 1 || made > 1 || !preemptive && made != 0 {
				t.Errorf("preemptive %v: %d requests, %d tokens", preemptive, len(up.Heads()), made)
			}
		})
	}
}

func TestD3NeverBasicNorNTLM(t *testing.T) {
	pt.Leaks(t)
	for _, offer := range []string{"Basic realm=\"x\"", "NTLM", "NTLM TlRMTVNTUAACAAAA", "Digest realm=\"x\", nonce=\"y\"", "Negotiate, Basic realm=\"x\", NTLM"} {
		for _, preemptive := range []bool{true, false} {
			bothWays(t, func(t *testing.T, method, raw string) {
				up := pt.Answering(t, answer407("Proxy-Authenticate: "+offer+"\r\n"))
				_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, Router: pt.Routed(up.Addr, func(d *proxy.Decision) { d.Preemptive = preemptive })})
				// Not even with credentials that the client would give away.
				raw = strings.TrimSuffix(raw, "\r\n") + "Proxy-Authorization: Basic eDp5\r\n\r\n"
				if resp, _ := pt.Dial(t, addr).Do(method, raw); resp.StatusCode != 502 {
					t.Errorf("%s: got %d", offer, resp.StatusCode)
				}
				for _, h := range up.Heads() {
					if v := h.Header.Get("Proxy-Authorization"); v != "" && !strings.HasPrefix(v, "Negotiate ") {
						t.Errorf("%s was answered with %q", offer, v)
					}
				}
			})
		}
	}
}

// legs is an upstream that asks for n further legs and then serves.
func legs(t *testing.T, n int) *pt.Server {
	return pt.Serve(t, func(c *pt.Conn) {
		for leg := 1; ; leg++ {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			switch {
			case leg <= n:
				c.Send("%s", answer407(fmt.Sprintf("Proxy-Authenticate: Negotiate %s\r\n", base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "challenge-%d-%d", c.N, leg)))))
			case h.Method() == "CONNECT":
				c.Send("HTTP/1.1 200 OK\r\n\r\n")
			default:
				c.Send(pt.OK)
			}
		}
	})
}

func TestD5ContinuationOnTheSameConnection(t *testing.T) {
	pt.Leaks(t)
	reply := func(n int, challenge []byte) ([]byte, error) { return fmt.Appendf(nil, "%d:%s", n, challenge), nil }
	bothWays(t, func(t *testing.T, method, raw string) {
		up := legs(t, 2)
		auth := &pt.Auth{Challenge: reply}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
		resp, _ := pt.Dial(t, addr).Do(method, raw)
		var got []string
		for _, h := range up.Heads() {
			got = append(got, h.Token())
		}
		if want := "[token-1 1:challenge-1-1 1:challenge-1-2]"; resp.StatusCode != 200 || up.Conns() != 1 || fmt.Sprint(got) != want {
			t.Errorf("got %d, legs %v on %d connections, want %s", resp.StatusCode, got, up.Conns(), want)
		}
		if auth.Made() != 1 || auth.Open() != 0 {
			t.Errorf("%d contexts, %d left open", auth.Made(), auth.Open())
		}
	})
	// The context lives and dies with its connection.
	for name, end := range map[string]string{"close announced": "Connection: close\r\nContent-Length: 0\r\n\r\n", "closed in the body": "Content-Length: 10\r\n\r\nhalf"} {
		t.Run(name, func(t *testing.T) {
			up := pt.Serve(t, func(c *pt.Conn) {
				if _, err := c.ReadHead(); err == nil {
					c.Send("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate YWJj\r\n%s", end)
				}
			})
			auth := &pt.Auth{Challenge: reply}
			_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
			resp, body := pt.Dial(t, addr).Do("GET", get)
			if resp.StatusCode != 502 || pt.Cause(resp) != "token_refused" || !strings.Contains(body, "closed the connection in the middle") {
				t.Errorf("got %d %s\n%s", resp.StatusCode, pt.Cause(resp), body)
			}
			if up.Conns() != 1 || auth.Open() != 0 {
				t.Errorf("%d connections, %d contexts open", up.Conns(), auth.Open())
			}
		})
	}
}

func TestD6LegsAndAttemptsAreBounded(t *testing.T) {
	pt.Leaks(t)
	bothWays(t, func(t *testing.T, method, raw string) {
		up := legs(t, 1000)
		auth := &pt.Auth{Challenge: func(n int, c []byte) ([]byte, error) { return c, nil }}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
		resp, _ := pt.Dial(t, addr).Do(method, raw)
		if resp.StatusCode != 502 || pt.Cause(resp) != "token_refused" || len(up.Heads()) > 5 || up.Conns() != 1 || auth.Open() != 0 {
			t.Errorf("got %d %s after %d legs on %d connections, %d contexts open", resp.StatusCode, pt.Cause(resp), len(up.Heads()), up.Conns(), auth.Open())
		}
	})
	t.Run("asked again and again for a first token", func(t *testing.T) {
		up := pt.Answering(t, pt.Need407)
		_, addr := pt.Start(t, proxy.Config{Router: pt.WhenChallenged(up.Addr), Auth: &pt.Auth{}})
		if resp, _ := pt.Dial(t, addr).Do("GET", get); pt.Cause(resp) != "token_refused" || len(up.Heads()) != 2 {
			t.Errorf("got %s after %d requests, want token_refused after 2", pt.Cause(resp), len(up.Heads()))
		}
	})
}

// A reply that the context does not take ends the negotiation at once: no
// further leg, no further token. What it takes is the Exchange's to say.
func TestD7RejectedNegotiationEnds(t *testing.T) {
	pt.Leaks(t)
	for name, value := range map[string]string{"rejected by the context": "oQcwBaADCgEC", "no base64": "!!!", "url base64": "_-__", "cut base64": "YWJ"} {
		bothWays(t, func(t *testing.T, method, raw string) {
			up := pt.Answering(t, answer407("Proxy-Authenticate: Negotiate "+value+"\r\n"))
			auth := &pt.Auth{Challenge: func(int, []byte) ([]byte, error) { return nil, errors.New("reject") }}
			rec := &pt.Recorder{}
			_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth, Observer: rec})
			resp, _ := pt.Dial(t, addr).Do(method, raw)
			if resp.StatusCode != 502 || pt.Cause(resp) != "token_refused" || len(up.Heads()) != 1 || auth.Open() != 0 {
				t.Errorf("%s: got %d %s after %d requests, %d contexts open", name, resp.StatusCode, pt.Cause(resp), len(up.Heads()), auth.Open())
			}
			if got := rec.Auths(); len(got) != 1 || got[0].Result != proxy.AuthRefused {
				t.Errorf("%s: auth events %+v", name, got)
			}
		})
	}
}

func TestD8BodyOfA407IsReadOrTheConnectionClosed(t *testing.T) {
	pt.Leaks(t)
	const start = "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n"
	for _, tt := range []struct {
		name, answer string
		endless      string
		conns        int
	}{
		{"sized", start + "Content-Length: 3000\r\n\r\n" + strings.Repeat("x", 3000), "", 1},
		{"chunked", start + "Transfer-Encoding: chunked\r\n\r\n5;ext=\"1\"\r\nHTTP/\r\n3\r\n1.1\r\n0\r\nX-T: 1\r\n\r\n", "", 1},
		{"empty", start + "Content-Length: 0\r\n\r\n", "", 1},
		{"behind informational answers", "HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\n" + start + "Content-Length: 2\r\n\r\nno", "", 1},
		{"too large to read", start + "Content-Length: 1000000000\r\n\r\n", "x", 2},
		{"chunks without end", start + "Transfer-Encoding: chunked\r\n\r\n", "5\r\nabcde\r\n", 2},
		{"until close", start + "\r\n", "x", 2},
		{"broken chunks", start + "Transfer-Encoding: chunked\r\n\r\nzz\r\n", "", 2},
		{"more than its length", start + "Content-Length: 2\r\n\r\nno" + pt.OK, "", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var written atomic.Int64 // of an endless body
			up := pt.Serve(t, func(c *pt.Conn) {
				for {
					h, err := c.ReadHead()
					if err != nil {
						return
					}
					if h.Token() != "" {
						c.Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright")
						continue
					}
					c.Send("%s", tt.answer)
					for text := strings.Repeat(tt.endless, 1000); text != ""; {
						n, err := io.WriteString(c, text)
						written.Add(int64(n))
						if err != nil {
							return // the other side has closed
						}
					}
				}
			})
			_, addr := pt.Start(t, proxy.Config{Router: pt.WhenChallenged(up.Addr), Auth: &pt.Auth{}})
			c := pt.Dial(t, addr)
			resp, body := c.Do("GET", get)
			for resp.StatusCode < 200 {
				resp, body = c.Response("GET")
			}
			if resp.StatusCode != 200 || body != "right" || up.Conns() != tt.conns {
				t.Errorf("got %d %q on %d connections, want %d", resp.StatusCode, body, up.Conns(), tt.conns)
			}
			if n := written.Load(); n > 64<<20 { // what sockets hold is not ours to say
				t.Errorf("%d bytes of the 407's body were taken", n)
			}
		})
	}
}

func TestD9ClosedAfter407(t *testing.T) {
	pt.Leaks(t)
	for name, answer := range map[string]string{
		"announced":        "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
		"the old field":    "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Connection: close\r\nContent-Length: 2\r\n\r\nno",
		"without a word":   "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 2\r\n\r\nno",
		"HTTP/1.0":         "HTTP/1.0 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 2\r\n\r\nno",
		"HTTP/1.0, keep":   "HTTP/1.0 407 No\r\nProxy-Authenticate: Negotiate\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nno",
		"ended by the end": "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\nno",
	} {
		for _, preemptive := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, preemptive %v", name, preemptive), func(t *testing.T) {
				bothWays(t, func(t *testing.T, method, raw string) {
					up := pt.Serve(t, func(c *pt.Conn) {
						h, err := c.ReadHead()
						if err != nil {
							return
						}
						if c.N == 1 {
							c.Send("%s", answer)
							return
						}
						if h.Token() == "" {
							t.Errorf("no token on connection %d", c.N)
						}
						if method == "CONNECT" {
							c.Send("HTTP/1.1 200 OK\r\n\r\n")
						} else {
							c.Send(pt.OK)
						}
					})
					auth := &pt.Auth{}
					_, addr := pt.Start(t, proxy.Config{Auth: auth, Router: pt.Routed(up.Addr, func(d *proxy.Decision) { d.Preemptive = preemptive })})
					resp, body := pt.Dial(t, addr).Do(method, raw)
					// Without a word the end can come after the next request
					// was sent; then that request is repeated once.
					if resp.StatusCode != 200 || up.Conns() != 2 {
						t.Errorf("got %d %s on %d connections:\n%s", resp.StatusCode, pt.Cause(resp), up.Conns(), body)
					}
					seen := map[string]bool{}
					for _, h := range up.Heads() {
						if tok := h.Token(); tok != "" && seen[tok] {
							t.Errorf("%s was sent on two connections", tok)
						} else {
							seen[tok] = true
						}
					}
				})
			})
		}
	}
}

// An upstream that resets the connection in any phase costs the request, with
// its cause or a body cut short; never a hang, a 407, or the next request.
func TestD9ResetInEveryPhase(t *testing.T) {
	pt.Leaks(t)
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789"
	phases := []string{"", "H", "HTTP/1.1 407 No\r\nProxy-Auth", pt.Need407[:len(pt.Need407)-2], pt.Need407, "HTTP/1.1 100 Continue\r\n\r\n", ok[:20], ok[:len(ok)-5]}
	for _, phase := range phases {
		for _, preemptive := range []bool{true, false} {
			t.Run(fmt.Sprintf("%.30q preemptive %v", phase, preemptive), func(t *testing.T) {
				var mended atomic.Bool
				up := pt.Serve(t, func(c *pt.Conn) {
					for {
						if _, err := c.ReadHead(); err != nil {
							return
						}
						if !mended.Load() {
							c.Send("%s", phase)
							time.Sleep(5 * time.Millisecond) // a reset can overtake what is on its way
							reset(c.Conn)
							return
						}
						c.Send(ok)
					}
				})
				auth := &pt.Auth{}
				_, addr := pt.Start(t, proxy.Config{Auth: auth, Router: pt.Routed(up.Addr, func(d *proxy.Decision) { d.Preemptive = preemptive })})
				c := pt.Dial(t, addr)
				io.WriteString(c, get)
				resp, err := http.ReadResponse(c.R, nil)
				for err == nil && resp.StatusCode < 200 {
					resp, err = http.ReadResponse(c.R, nil)
				}
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
				}
				cut := strings.HasPrefix(phase, ok[:len(ok)-10])
				switch {
				case cut && err == nil:
					t.Error("a cut body arrived as a whole one")
				case !cut && (err != nil || resp.StatusCode != 502 || pt.Cause(resp) != "upstream_unreachable" && pt.Cause(resp) != "token_refused"):
					t.Errorf("got %+v, %v", resp, err)
				}
				if auth.Made() > 2 || auth.Open() != 0 {
					t.Errorf("%d tokens, %d contexts open", auth.Made(), auth.Open())
				}
				mended.Store(true)
				auth.Now.Add(1) // a ticket that has not been refused
				if resp, body := pt.Dial(t, addr).Do("GET", get); resp.StatusCode != 200 {
					t.Errorf("the next request: got %d %s", resp.StatusCode, body)
				}
			})
		}
	}
}

func TestD10ClientNeverSeesThe407(t *testing.T) {
	pt.Leaks(t)
	challenges := []string{"", "Proxy-Authenticate: Negotiate\r\n", "Proxy-Authenticate: Basic realm=\"x\"\r\n", "Proxy-Authenticate: Negotiate YWJj\r\n", "Proxy-Authenticate: Negotiate !\r\n", "Connection: close\r\nProxy-Authenticate: Negotiate\r\n"}
	requests := []string{get, connect, strings.Replace(get, "GET", "HEAD", 1), "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc", "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "GET http://a.test/ HTTP/1.0\r\n\r\n"}
	for _, fields := range challenges {
		up := pt.Answering(t, answer407(fields))
		for name, auth := range map[string]proxy.Authenticator{
			"tokens": &pt.Auth{}, "no library": nil,
			"no ticket": &pt.Auth{Token: func(context.Context, int) ([]byte, error) { return nil, &proxy.Error{Cause: proxy.CauseNoTicket} }},
		} {
			for _, on := range []bool{true, false} {
				_, addr := pt.Start(t, proxy.Config{Auth: auth, Router: pt.Routed(up.Addr, func(d *proxy.Decision) { d.Kerberos, d.Preemptive = on, name != "no library" })})
				for _, raw := range requests {
					method, _, _ := strings.Cut(raw, " ")
					resp, _ := pt.Dial(t, addr).Do(method, raw)
					if resp.StatusCode != 502 || pt.Cause(resp) == "" || resp.Header.Get("Proxy-Authenticate") != "" {
						t.Errorf("%q, %s, on %v, %.20q: got %s %q", fields, name, on, raw, resp.Status, pt.Cause(resp))
					}
				}
			}
		}
	}
	t.Run("an origin's", func(t *testing.T) {
		origin := pt.Answering(t, answer407("Proxy-Authenticate: Basic realm=\"x\"\r\n"))
		_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
		if resp, _ := pt.Dial(t, addr).Get("http://" + origin.Addr + "/"); resp.StatusCode != 502 || resp.Header.Get("Proxy-Authenticate") != "" {
			t.Errorf("got %s", resp.Status)
		}
	})
}

func TestH1SuccessWithoutATokenIsSuccess(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	rec := &pt.Recorder{}
	auth := &pt.Auth{Challenge: func(int, []byte) ([]byte, error) { return nil, errors.New("nothing was to be fed to the context") }}
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth, Observer: rec})
	c := pt.Dial(t, addr)
	for range 2 {
		if resp, body := c.Get("http://a.test/"); resp.StatusCode != 200 || body != "ok" {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
	}
	if got := rec.Auths(); len(got) != 1 || got[0].Result != proxy.AuthAccepted || auth.Open() != 0 || up.Conns() != 1 {
		t.Errorf("auth events %+v, %d contexts open, %d connections", got, auth.Open(), up.Conns())
	}
}

func TestH2TokenInASuccess(t *testing.T) {
	pt.Leaks(t)
	for _, field := range []string{"Proxy-Authenticate: Negotiate cHJvb2Y=", "Proxy-Authentication-Info: Negotiate cHJvb2Y=", "proxy-authenticate: NEGOTIATE  cHJvb2Y="} {
		for _, proven := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, proven %v", field, proven), func(t *testing.T) {
				ended := make(chan struct{}, 4)
				up := pt.Serve(t, func(c *pt.Conn) {
					defer func() { ended <- struct{}{} }()
					for {
						h, err := c.ReadHead()
						if err != nil {
							return
						}
						if h.Method() == "CONNECT" {
							c.Send("HTTP/1.1 200 OK\r\n%s\r\n\r\nsecret", field)
							continue
						}
						c.Send("HTTP/1.1 200 OK\r\n%s\r\nContent-Length: 6\r\n\r\nsecret", field)
					}
				})
				rec := &pt.Recorder{}
				auth := &pt.Auth{Challenge: func(_ int, c []byte) ([]byte, error) {
					if string(c) != "proof" || !proven {
						return nil, fmt.Errorf("wrong key in %q", c)
					}
					return nil, nil
				}}
				_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth, Observer: rec})
				resp, body := pt.Dial(t, addr).Do("GET", get)
				absent(t, "answer", resp.Header, "Proxy-Authenticate", "Proxy-Authentication-Info")
				if proven {
					if resp.StatusCode != 200 || body != "secret" {
						t.Errorf("got %d %q", resp.StatusCode, body)
					}
					return
				}
				if resp.StatusCode != 502 || pt.Cause(resp) != "token_refused" || strings.Contains(body, "secret") {
					t.Errorf("got %d %s: %s", resp.StatusCode, pt.Cause(resp), body)
				}
				within(t, 5*time.Second, ended, "end of the connection that was not proven")
				if got := rec.Auths(); len(got) != 1 || got[0].Result != proxy.AuthFailed || auth.Open() != 0 {
					t.Errorf("auth events %+v, %d contexts open", got, auth.Open())
				}
				c := pt.Dial(t, addr)
				resp, _ = c.Do("CONNECT", connect)
				rest, _ := io.ReadAll(c.R)
				if resp.StatusCode != 502 || strings.Contains(string(rest), "secret") {
					t.Errorf("CONNECT: got %d, %q", resp.StatusCode, rest)
				}
			})
		}
	}
}

// A ticket whose tokens are refused is not offered for ever; requests that need
// no token go on, and the next ticket is offered at once.
func TestD11RepeatedRefusalsStop(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Answering(t, pt.OK)
	var good atomic.Bool
	up := pt.Negotiating(t, func(string) bool { return good.Load() })
	via, straight := pt.Via(up.Addr), pt.Direct()
	auth := &pt.Auth{}
	_, addr := pt.Start(t, proxy.Config{Auth: auth, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
		if h == "127.0.0.1" {
			return straight(ctx, h, p)
		}
		return via(ctx, h, p)
	})})
	for range 25 {
		for method, raw := range map[string]string{"GET": get, "CONNECT": connect} {
			if resp, _ := pt.Dial(t, addr).Do(method, raw); resp.StatusCode != 502 || pt.Cause(resp) != "token_refused" {
				t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
			}
		}
	}
	tokens := 0
	for _, h := range up.Heads() {
		if h.Token() != "" {
			tokens++
		}
	}
	if tokens == 0 || tokens > 4 {
		t.Errorf("the upstream saw %d tokens in fifty requests, want one to four", tokens)
	}
	if resp, _ := pt.Dial(t, addr).Get("http://" + origin.Addr + "/"); resp.StatusCode != 200 {
		t.Errorf("a direct request meanwhile: got %d", resp.StatusCode)
	}
	good.Store(true)
	auth.Now.Add(1) // another ticket
	if resp, body := pt.Dial(t, addr).Do("GET", get); resp.StatusCode != 200 {
		t.Errorf("with a new ticket: got %d %s", resp.StatusCode, body)
	}
}

// Whether the upstream proved itself is a fact that the details view can show.
func TestH3ProofIsVisible(t *testing.T) {
	pt.Leaks(t)
	for _, field := range []string{"", "Proxy-Authenticate: Negotiate cHJvb2Y=\r\n"} {
		up := pt.Answering(t, "HTTP/1.1 200 OK\r\n"+field+"Content-Length: 0\r\n\r\n")
		rec := &pt.Recorder{}
		auth := &pt.Auth{Challenge: func(int, []byte) ([]byte, error) { return nil, nil }}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth, Observer: rec})
		pt.Dial(t, addr).Do("GET", get)
		if got := rec.Auths(); len(got) != 1 || got[0].Result != proxy.AuthAccepted || got[0].Proven != (field != "") {
			t.Errorf("%q: auth events %+v", field, got)
		}
	}
}
