package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// Parts E and F of the checklist: bodies and tunnels.

// No body byte arrives on a connection that has neither been authenticated nor
// carries a token with the request.
func TestE2BodyOnAuthenticatedConnectionsOnly(t *testing.T) {
	pt.Leaks(t)
	const size = 300 << 10
	var loose atomic.Int64
	up := pt.Serve(t, func(c *pt.Conn) {
		authed := false
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			authed = authed || h.Token() != ""
			body, err := c.ReadBody(h)
			if err != nil {
				return
			}
			if !authed {
				loose.Add(int64(len(body)))
				c.Send(pt.Need407)
				continue
			}
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n%6d", len(body))
		}
	})
	post := func(addr string) {
		t.Helper()
		c := pt.Dial(t, addr)
		fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
		c.Write(make([]byte, size))
		if resp, got := c.Response("POST"); resp.StatusCode != 200 || got != fmt.Sprint(size) {
			t.Errorf("got %d %q", resp.StatusCode, got)
		}
	}
	_, preemptive := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	post(preemptive)
	post(preemptive) // on the connection that is authenticated by now
	// Only when challenged: a body does not wait for the challenge, not even at
	// an upstream that nothing is known about.
	_, challenged := pt.Start(t, proxy.Config{Router: pt.WhenChallenged(up.Addr), Auth: &pt.Auth{}})
	post(challenged)
	if n := loose.Load(); n != 0 {
		t.Errorf("%d body bytes travelled without authentication", n)
	}
}

// A 407 in the middle of an upload says keep-alive; the connection is closed
// all the same, and the body starts anew on another.
func TestE4ConnectionWithHalfABodyIsClosed(t *testing.T) {
	pt.Leaks(t)
	for i, framing := range []string{"Content-Length: 6\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n6\r\nabc", "Content-Length: 6\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n6\r\nabc"} {
		route := []func(string) proxy.RouterFunc{pt.Via, pt.WhenChallenged}[i/2]
		t.Run(fmt.Sprintf("%.10s, preemptive %v", framing, i < 2), func(t *testing.T) {
			first := make(chan string, 1)
			up := pt.Serve(t, func(c *pt.Conn) {
				h, err := c.ReadHead()
				if err != nil {
					return
				}
				if c.N == 1 {
					c.Send("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nno")
					rest, _ := io.ReadAll(c.R)
					first <- string(rest)
					return
				}
				body, err := c.ReadBody(h)
				if err != nil {
					t.Errorf("second connection: %v", err)
				}
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			})
			_, addr := pt.Start(t, proxy.Config{Router: route(up.Addr), Auth: &pt.Auth{}})
			c := pt.Dial(t, addr)
			io.WriteString(c, "POST http://a.test/ HTTP/1.1\r\nHost: a\r\n"+framing)
			// The client sends no more until the first connection has ended.
			rest := within(t, 10*time.Second, first, "end of the first connection")
			if strings.Contains(rest, "POST") {
				t.Errorf("another request followed half a body: %q", rest)
			}
			if strings.HasPrefix(framing, "Content") {
				io.WriteString(c, "def")
			} else {
				io.WriteString(c, "def\r\n0\r\n\r\n")
			}
			if resp, body := c.Response("POST"); resp.StatusCode != 200 || body != "abcdef" || up.Conns() != 2 {
				t.Errorf("got %d %q on %d connections", resp.StatusCode, body, up.Conns())
			}
		})
	}
}

// What may have been carried out is not sent again after the connection broke,
// neither on a dead pooled connection nor on a new one; a 407 is no such
// failure.
func TestE6NoRepeatOfWhatIsNotIdempotent(t *testing.T) {
	pt.Leaks(t)
	for _, tt := range []struct {
		method string
		pooled bool
		want   int
	}{{"POST", true, 1}, {"PATCH", true, 1}, {"LOCK", true, 1}, {"POST", false, 1}, {"PUT", false, 1}, {"GET", false, 1}, {"GET", true, 2}, {"PUT", true, 2}} {
		t.Run(fmt.Sprintf("%s, pooled %v", tt.method, tt.pooled), func(t *testing.T) {
			up := pt.Serve(t, func(c *pt.Conn) {
				for {
					h, err := c.ReadHead()
					if err != nil {
						return
					}
					c.ReadBody(h)
					if strings.HasSuffix(h.Target(), "/break") {
						return
					}
					c.Send(pt.OK)
				}
			})
			_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
			c := pt.Dial(t, addr)
			if tt.pooled {
				c.Get("http://a.test/")
			}
			resp, _ := c.Do(tt.method, tt.method+" http://a.test/break HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab")
			sent := 0
			for _, h := range up.Heads() {
				if strings.HasSuffix(h.Target(), "/break") {
					sent++
				}
			}
			if resp.StatusCode != 502 || pt.Cause(resp) != "upstream_unreachable" || sent != tt.want {
				t.Errorf("got %d %s, sent %d times, want %d", resp.StatusCode, pt.Cause(resp), sent, tt.want)
			}
		})
	}
	t.Run("after a 407", func(t *testing.T) {
		up := pt.Negotiating(t, func(token string) bool { return token != "token-1" })
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
		if resp, _ := pt.Dial(t, addr).Do("POST", "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab"); resp.StatusCode != 200 || len(up.Heads()) != 2 {
			t.Errorf("got %d after %d requests", resp.StatusCode, len(up.Heads()))
		}
	})
}

func TestE7TrailersSurvive(t *testing.T) {
	pt.Leaks(t)
	const chunks = "3;ext=\"a;b\"\r\nabc\r\n1\r\nd\r\n0\r\nX-Sum: 42\r\nX-More: 1\r\n\r\n"
	up := pt.Serve(t, func(c *pt.Conn) {
		h, err := c.ReadHead()
		if err != nil {
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(h.Raw), c.R)))
		if err != nil {
			t.Error(err)
			return
		}
		body, err := io.ReadAll(req.Body)
		if string(body) != "abcd" || err != nil || req.Trailer.Get("X-Sum") != "42" || req.Trailer.Get("X-More") != "1" {
			t.Errorf("the upstream got %q, trailers %v, %v", body, req.Trailer, err)
		}
		c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" + chunks)
		io.Copy(io.Discard, c.R)
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	resp, body := pt.Dial(t, addr).Do("POST", "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Sum, X-More\r\nTransfer-Encoding: chunked\r\n\r\n"+chunks)
	if resp.StatusCode != 200 || body != "abcd" || resp.Trailer.Get("X-Sum") != "42" || resp.Trailer.Get("X-More") != "1" {
		t.Errorf("got %d %q, trailers %v", resp.StatusCode, body, resp.Trailer)
	}
}

func TestF1TunnelStandsAfterTheUpstreamsWord(t *testing.T) {
	pt.Leaks(t)
	asked, goOn := make(chan struct{}), make(chan struct{})
	up := pt.Serve(t, func(c *pt.Conn) {
		h, err := c.ReadHead()
		if err != nil {
			return
		}
		if h.Token() == "" {
			t.Errorf("no token on the CONNECT: %q", h.Raw)
		}
		c.Send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n")
		close(asked)
		<-goOn
		c.Send("HTTP/1.1 200 OK\r\n\r\n")
		io.Copy(io.Discard, c.R)
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	c := pt.Dial(t, addr)
	io.WriteString(c, connect)
	<-asked
	c.SetReadDeadline(time.Now().Add(2 * pause))
	if b, err := c.R.Peek(1); err == nil {
		t.Errorf("the client was told %q before the upstream had agreed", b)
	}
	c.SetReadDeadline(time.Now().Add(30 * time.Second))
	close(goOn)
	if resp, err := http.ReadResponse(c.R, &http.Request{Method: "CONNECT"}); err != nil || resp.StatusCode != 200 {
		t.Errorf("got %v, %v", resp, err)
	}
}

func TestF2NoTunnelWithoutA2xx(t *testing.T) {
	pt.Leaks(t)
	for _, status := range []string{"302 Found", "304 Same", "400 Bad", "401 Who", "403 No", "404 None", "405 Not this", "429 Slow", "500 Sorry", "502 Bad", "503 Later", "504 Late", "511 Login"} {
		var after atomic.Int64
		up := pt.Serve(t, func(c *pt.Conn) {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			c.Send("HTTP/1.1 %s\r\nContent-Length: 5\r\n\r\nwords", status)
			n, _ := io.Copy(io.Discard, c.R)
			after.Add(n)
		})
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
		c := pt.Dial(t, addr)
		resp, _ := c.Do("CONNECT", connect+"must not travel")
		io.WriteString(c, "nor this")
		c.CloseWrite()
		io.Copy(io.Discard, c.R)
		if resp.StatusCode/100 == 2 || !strings.HasPrefix(status, resp.Status[:3]) || after.Load() != 0 {
			t.Errorf("%s: the client got %s, %d bytes were relayed", status, resp.Status, after.Load())
		}
	}
}

func TestF3NoByteIsLostRoundTheHandshake(t *testing.T) {
	pt.Leaks(t)
	for _, size := range []int{1, 1000, 100 << 10} {
		up := pt.Serve(t, func(c *pt.Conn) {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			// In one write with the answer, and more than the head's buffer.
			c.Send("HTTP/1.1 200 OK\r\n\r\n%s", strings.Repeat("u", size))
			got, err := io.ReadAll(c.R)
			if string(got) != strings.Repeat("c", size) || err != nil {
				t.Errorf("the upstream got %d bytes, want %d, %v", len(got), size, err)
			}
		})
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
		c := pt.Dial(t, addr)
		go func() { io.WriteString(c, connect+strings.Repeat("c", size)); c.CloseWrite() }()
		if resp, _ := c.Response("CONNECT"); resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
		if got, err := io.ReadAll(c.R); string(got) != strings.Repeat("u", size) || err != nil {
			t.Errorf("the client got %d bytes, want %d, %v", len(got), size, err)
		}
	}
}

func TestF5WhichConnectionATokenGoesOn(t *testing.T) {
	pt.Leaks(t)
	bothWays(t, func(t *testing.T, method, raw string) {
		t.Run("refused: a new one", func(t *testing.T) {
			up := pt.Negotiating(t, func(tok string) bool { return tok == "token-2" })
			_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
			resp, _ := pt.Dial(t, addr).Do(method, raw)
			if h := up.Heads(); resp.StatusCode != 200 || len(h) != 2 || h[0].Conn == h[1].Conn || h[1].Token() != "token-2" {
				t.Errorf("got %d after %v", resp.StatusCode, h)
			}
		})
		t.Run("asked for: the same one", func(t *testing.T) {
			up := pt.Negotiating(t, pt.Any())
			_, addr := pt.Start(t, proxy.Config{Router: pt.WhenChallenged(up.Addr), Auth: &pt.Auth{}})
			resp, _ := pt.Dial(t, addr).Do(method, raw)
			if h := up.Heads(); resp.StatusCode != 200 || len(h) != 2 || h[0].Conn != h[1].Conn || h[0].Token() != "" || h[1].Token() != "token-1" {
				t.Errorf("got %d after %v", resp.StatusCode, h)
			}
		})
	})
}

// A tunnel stays open however long it is silent, beyond every other limit, and
// is counted.
func TestF6SilentTunnelsStayAndAreCounted(t *testing.T) {
	pt.Leaks(t)
	const limit = 50 * time.Millisecond
	up := pt.Negotiating(t, pt.Any())
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, HeadTimeout: limit, IdleTimeout: limit, PoolIdle: limit, AnswerTimeout: 100 * limit})
	c := pt.Dial(t, addr)
	if resp, _ := c.Do("CONNECT", connect); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	time.Sleep(6 * limit)
	if s.Open() != 1 {
		t.Errorf("%d connections are counted, want 1", s.Open())
	}
	io.WriteString(c, "still here")
	got := make([]byte, 10)
	if _, err := io.ReadFull(c.R, got); err != nil || string(got) != "still here" {
		t.Errorf("after the silence: %q, %v", got, err)
	}
}

// What runs through a tunnel, even if it looks like HTTP or a challenge, is
// passed on as it is and shows up nowhere.
func TestF7NothingInsideIsReadOrLogged(t *testing.T) {
	pt.Leaks(t)
	const inside = "GET http://hunter2.test/ HTTP/1.1\r\nProxy-Connection: x\r\n\r\nHTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n\x00\xff"
	up := pt.Negotiating(t, pt.Any())
	rec := &pt.Recorder{}
	log := &lockedBuffer{}
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, Observer: rec, Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	c := pt.Dial(t, addr)
	if resp, _ := c.Do("CONNECT", connect); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	io.WriteString(c, inside)
	c.CloseWrite()
	if got, err := io.ReadAll(c.R); string(got) != inside || err != nil {
		t.Errorf("came back as %q, %v", got, err)
	}
	ev := waitEvents(t, rec, 1)[0]
	if ev.Up != int64(len(inside)) || ev.Down != int64(len(inside)) || ev.Host != "a.test" || ev.Cause != "" {
		t.Errorf("event %+v", ev)
	}
	if text := fmt.Sprintf("%+v %s", ev, log.String()); strings.Contains(text, "hunter2") {
		t.Errorf("something of the inside came out: %s", text)
	}
	if len(up.Heads()) != 1 {
		t.Errorf("%d requests at the upstream", len(up.Heads()))
	}
}

// waitEvents waits for n finished requests.
func waitEvents(t *testing.T, rec *pt.Recorder, n int) []proxy.Event {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if got := rec.Events(); len(got) >= n {
			return got
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d events, want %d", len(rec.Events()), n)
		}
	}
}

// The Router limits the ports of CONNECT, direct and proxied alike; other
// methods are not concerned.
func TestF8PortPolicy(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, func(string) bool { return true })
	for name, router := range map[string]proxy.RouterFunc{"proxied": pt.Via(up.Addr), "direct": pt.Direct()} {
		_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
			d, err := router(ctx, h, p)
			d.NoTunnel = p != 443
			return d, err
		})})
		before := up.Conns()
		resp, body := pt.Dial(t, addr).Do("CONNECT", "CONNECT a.test:25 HTTP/1.1\r\nHost: a\r\n\r\n")
		if resp.StatusCode != 403 || pt.Cause(resp) != "policy" || !strings.Contains(body, "port 25") || up.Conns() != before {
			t.Errorf("%s, port 25: got %d %s %q", name, resp.StatusCode, pt.Cause(resp), body)
		}
		if name == "proxied" {
			if resp, _ := pt.Dial(t, addr).Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 200 {
				t.Errorf("port 443: got %d", resp.StatusCode)
			}
			if resp, _ := pt.Dial(t, addr).Do("GET", "GET http://a.test:25/ HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 200 {
				t.Errorf("GET on port 25: got %d", resp.StatusCode)
			}
		}
	}
}
