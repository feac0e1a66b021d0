package proxy_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

//   client ──▶ proxy ──▶ upstream (scripted or Negotiating)
//                  └───▶ origin (direct)

func TestC1FreshTokenPerConnection(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	auth := &pt.Auth{}
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})

	// CONNECT needs a connection of its own each time.
	const n = 100
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			c := pt.Dial(t, addr)
			resp, _ := c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nearly")
			if resp.StatusCode != 200 {
				t.Errorf("status %d", resp.StatusCode)
				return
			}
			// The bytes behind the CONNECT are not lost, and half-close works.
			io.WriteString(c, " late")
			c.CloseWrite()
			if got, _ := io.ReadAll(c.R); string(got) != "early late" {
				t.Errorf("echo: got %q", got)
			}
		})
	}
	wg.Wait()
	tokens := map[string]bool{}
	for _, h := range up.Heads() {
		tokens[h.Token()] = true
		if h.Target() != "a.test:443" || h.Header.Get("Host") != "a.test:443" {
			t.Errorf("head: %q", h.Raw)
		}
	}
	if len(tokens) != n || tokens[""] || up.Conns() != n || auth.Made() != n {
		t.Errorf("got %d different tokens on %d connections (%d made), want %d each", len(tokens), up.Conns(), auth.Made(), n)
	}
	if auth.Open() != 0 {
		t.Errorf("%d exchanges were not closed", auth.Open())
	}
}

func TestG3OldConnectionsAreNotUsed(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	auth := &pt.Auth{}
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
	get := func() int { resp, _ := pt.Dial(t, addr).Get("http://a.test/"); return resp.StatusCode }
	for range 5 {
		if get() != 200 {
			t.Fatal("not 200")
		}
	}
	if up.Conns() != 1 || auth.Made() != 1 {
		t.Fatalf("five requests used %d connections and %d tokens, want 1 and 1", up.Conns(), auth.Made())
	}
	for _, h := range up.Heads()[1:] {
		if h.Token() != "" {
			t.Errorf("a token was sent again on an authenticated connection")
		}
	}
	auth.Now.Add(1) // another ticket
	if get(); auth.Made() != 2 || up.Conns() != 2 {
		t.Errorf("after a ticket change: %d tokens on %d connections, want 2 and 2", auth.Made(), up.Conns())
	}
	s.Flush()
	if get(); auth.Made() != 3 {
		t.Errorf("after Flush: %d tokens, want 3", auth.Made())
	}
}

func TestD4Always407SeesTwoTokens(t *testing.T) {
	pt.Leaks(t)
	for _, connect := range []bool{false, true} {
		up := pt.Serve(t, func(c *pt.Conn) {
			for {
				if _, err := c.ReadHead(); err != nil {
					return
				}
				c.Send("HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nProxy-Authenticate: NTLM, Negotiate\r\nDate: %s\r\nContent-Length: 2\r\n\r\nno", time.Now().UTC().Add(-10*time.Minute).Format(http.TimeFormat))
			}
		})
		rec := &pt.Recorder{}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, Observer: rec})
		method, raw := "GET", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n"
		if connect {
			method, raw = "CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"
		}
		resp, body := pt.Dial(t, addr).Do(method, raw)
		if resp.StatusCode != 502 || pt.Cause(resp) != "token_refused" || !strings.Contains(body, "clock differs") {
			t.Errorf("%s: got %d %s:\n%s", method, resp.StatusCode, pt.Cause(resp), body)
		}
		heads := up.Heads()
		if len(heads) != 2 || heads[0].Token() == heads[1].Token() || heads[0].Conn == heads[1].Conn {
			t.Errorf("%s: %d requests reached the upstream, want 2 with different tokens on different connections: %v", method, len(heads), heads)
		}
		for _, h := range heads {
			if !strings.HasPrefix(h.Header.Get("Proxy-Authorization"), "Negotiate ") {
				t.Errorf("credentials of another scheme: %q", h.Raw)
			}
		}
		if got := rec.Auths(); len(got) != 2 || got[0].Result != proxy.AuthRefused || got[0].TokenBytes != len("token-1") {
			t.Errorf("auth events: %+v", got)
		}
	}
}

func TestC10ChallengedOnlyThenAuthenticated(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	via := pt.Via(up.Addr)
	_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
		d, err := via(ctx, h, p)
		d.Preemptive = false
		return d, err
	})})
	resp, body := pt.Dial(t, addr).Get("http://a.test/")
	if resp.StatusCode != 200 || body != "ok" {
		t.Fatalf("got %d %q", resp.StatusCode, body)
	}
	if h := up.Heads(); len(h) != 2 || h[0].Token() != "" || h[1].Token() != "token-1" || h[1].Conn != h[0].Conn {
		t.Errorf("want a bare request, then a token on the same connection: %v", h)
	}
}

func TestTokenFailures(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	for _, tt := range []struct {
		name, cause string
		auth        proxy.Authenticator
	}{
		{"no ticket", "no_ticket", &pt.Auth{Token: func(context.Context, int) ([]byte, error) {
			return nil, &proxy.Error{Cause: proxy.CauseNoTicket}
		}}},
		{"no library", "kerberos_unavailable", nil},
		{"something else", "internal", &pt.Auth{Token: func(context.Context, int) ([]byte, error) { return nil, errors.New("boom") }}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: tt.auth})
			before := len(up.Heads())
			resp, _ := pt.Dial(t, addr).Get("http://a.test/")
			if resp.StatusCode != 502 || pt.Cause(resp) != tt.cause {
				t.Errorf("got %d %q, want 502 %q", resp.StatusCode, pt.Cause(resp), tt.cause)
			}
			if len(up.Heads()) != before {
				t.Error("a request reached the upstream")
			}
		})
	}
}

func TestC8TokenOf100KB(t *testing.T) {
	pt.Leaks(t)
	big := strings.Repeat("x", 64<<10)
	up := pt.Negotiating(t, func(tok string) bool { return tok == big })
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{Token: func(context.Context, int) ([]byte, error) { return []byte(big), nil }}})
	if resp, _ := pt.Dial(t, addr).Get("http://a.test/"); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestC9SlowTokenIsCancelledWithTheClient(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	started, cancelled := make(chan struct{}), make(chan struct{})
	auth := &pt.Auth{Token: func(ctx context.Context, n int) ([]byte, error) {
		if n > 1 {
			return []byte("quick"), nil
		}
		close(started)
		<-ctx.Done()
		close(cancelled)
		return nil, ctx.Err()
	}}
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
	c := pt.Dial(t, addr)
	io.WriteString(c, "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	<-started
	// Somebody else is not held up.
	if resp, _ := pt.Dial(t, addr).Get("http://b.test/"); resp.StatusCode != 200 {
		t.Errorf("another request meanwhile: got %d", resp.StatusCode)
	}
	c.Close()
	select {
	case <-cancelled:
	case <-time.After(20 * time.Second):
		t.Fatal("the token was not cancelled")
	}
}

func TestI1DirectSeesNoCredentials(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) {
		for {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			c.Send(pt.OK)
		}
	})
	auth := &pt.Auth{}
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct(), Auth: auth})
	resp, body := pt.Dial(t, addr).Do("GET", "GET http://"+origin.Addr+"/x?y HTTP/1.1\r\nHost: h\r\nProxy-Authorization: Negotiate abcd\r\n\r\n")
	if resp.StatusCode != 200 || body != "ok" {
		t.Fatalf("got %d %q", resp.StatusCode, body)
	}
	h := origin.Heads()[0]
	if h.Line != "GET /x?y HTTP/1.1" || h.Header.Get("Host") != origin.Addr || h.Header.Get("Proxy-Authorization") != "" {
		t.Errorf("head: %q", h.Raw)
	}
	if auth.Made() != 0 {
		t.Error("a token was made for a direct request")
	}
}

func TestF7TunnelIsUntouched(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) { io.Copy(c.Conn, c.R); c.Conn.(*net.TCPConn).CloseWrite() })
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct(), Auth: &pt.Auth{}})
	c := pt.Dial(t, addr)
	if resp, _ := c.Do("CONNECT", "CONNECT "+origin.Addr+" HTTP/1.1\r\nHost: "+origin.Addr+"\r\n\r\n"); resp.StatusCode != 200 || len(resp.Header) != 0 {
		t.Fatalf("answer: %+v", resp)
	}
	sent := make([]byte, 5<<20)
	rand.Read(sent)
	go func() { c.Write(sent); c.CloseWrite() }()
	got, err := io.ReadAll(c.R)
	if err != nil || string(got) != string(sent) {
		t.Fatalf("%d bytes came back (%v), want the %d sent", len(got), err, len(sent))
	}
}

func TestD12UpstreamStatusesPass(t *testing.T) {
	pt.Leaks(t)
	for _, status := range []string{"403 Forbidden", "503 Service Unavailable", "502 Bad Gateway", "404 Not Found"} {
		up := pt.Serve(t, func(c *pt.Conn) {
			for {
				if _, err := c.ReadHead(); err != nil {
					return
				}
				c.Send("HTTP/1.1 %s\r\nContent-Length: 5\r\n\r\nwords", status)
			}
		})
		auth := &pt.Auth{}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
		if resp, body := pt.Dial(t, addr).Get("http://a.test/"); resp.Status != status || body != "words" {
			t.Errorf("GET: got %s %q", resp.Status, body)
		}
		resp, body := pt.Dial(t, addr).Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\nmust not travel")
		if resp.Status != status || body != "words" {
			t.Errorf("CONNECT: got %s %q", resp.Status, body)
		}
		if up.Bytes() > 2000 || auth.Made() != 2 {
			t.Errorf("%d tokens, %d bytes upstream", auth.Made(), up.Bytes())
		}
	}
}

func TestI2UnlistedNeverGoesDirect(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) { c.ReadHead(); c.Send(pt.OK) })
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(dead.Addr().String()), Auth: &pt.Auth{}})
	for _, m := range []string{"GET http://" + origin.Addr + "/", "CONNECT " + origin.Addr} {
		method, _, _ := strings.Cut(m, " ")
		resp, _ := pt.Dial(t, addr).Do(method, m+" HTTP/1.1\r\nHost: "+origin.Addr+"\r\n\r\n")
		if resp.StatusCode != 502 || pt.Cause(resp) != "upstream_unreachable" {
			t.Errorf("%s: got %d %s", m, resp.StatusCode, pt.Cause(resp))
		}
	}
	if origin.Conns() != 0 {
		t.Error("a request went direct")
	}
}

func TestG1PeerRefused(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	asked := make(chan netip.AddrPort, 1)
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, Peer: proxy.PeerFunc(func(local, remote netip.AddrPort) error {
		asked <- remote
		return errors.New("uid 4711")
	})})
	c := pt.Dial(t, addr)
	resp, body := c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n")
	if resp.StatusCode != 403 || pt.Cause(resp) != "not_your_user" {
		t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
	}
	if strings.Contains(body, "4711") {
		t.Error("the page tells whose proxy it is")
	}
	if got := <-asked; got.String() != c.LocalAddr().String() {
		t.Errorf("asked about %v, want %v", got, c.LocalAddr())
	}
	if up.Conns() != 0 {
		t.Error("something reached the upstream")
	}
}

func TestA8LoopsAreBroken(t *testing.T) {
	pt.Leaks(t)
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct(), Name: "me"})
	for _, raw := range []string{
		"GET http://" + addr + "/ HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT " + addr + " HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://other.test/ HTTP/1.1\r\nHost: x\r\nVia: 1.0 fred, 1.1 me (x)\r\n\r\n",
	} {
		method, _, _ := strings.Cut(raw, " ")
		if resp, _ := pt.Dial(t, addr).Do(method, raw); resp.StatusCode != 508 || pt.Cause(resp) != "loop_detected" {
			t.Errorf("%q: got %d %s", raw, resp.StatusCode, pt.Cause(resp))
		}
	}
}

func TestE1LargeBodiesBothWays(t *testing.T) {
	pt.Leaks(t)
	const size = 40 << 20
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		w.Header().Set("X-Got", fmt.Sprint(n))
		if r.URL.Path == "/down" {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			io.CopyN(w, zeros{}, size)
		}
	}))
	defer origin.Close()
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: addr})}
	defer tr.CloseIdleConnections()
	for _, chunked := range []bool{false, true} {
		req, _ := http.NewRequest("POST", origin.URL, io.LimitReader(zeros{}, size))
		if !chunked {
			req.ContentLength = size
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("X-Got"); got != fmt.Sprint(size) {
			t.Errorf("upload, chunked %v: origin got %s bytes, want %d", chunked, got, size)
		}
	}
	resp, err := tr.RoundTrip(must(http.NewRequest("GET", origin.URL+"/down", nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("download: %d bytes, %v", n, err)
	}
}

func must(r *http.Request, err error) *http.Request {
	if err != nil {
		panic(err)
	}
	return r
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestE3BodyReplayedAfterRefusal(t *testing.T) {
	pt.Leaks(t)
	for _, size := range []int{10, 100 << 10, 4 << 20} {
		for _, chunked := range []bool{false, true} {
			var carried atomic.Int64
			up := pt.Serve(t, func(c *pt.Conn) {
				for {
					h, err := c.ReadHead()
					if err != nil {
						return
					}
					if h.Token() == "token-1" {
						c.Send("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n")
						io.Copy(io.Discard, c.R)
						return
					}
					body, err := c.ReadBody(h)
					if err != nil || len(body) != size || strings.Trim(string(body), "b") != "" {
						t.Errorf("body: %d bytes, %v", len(body), err)
						return
					}
					carried.Add(1)
					c.Send(pt.OK)
				}
			})
			_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
			c := pt.Dial(t, addr)
			if chunked {
				fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
			} else {
				fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", size)
			}
			go func() {
				body := strings.Repeat("b", size)
				if chunked {
					fmt.Fprintf(c, "%x;ext=1\r\n%s\r\n0\r\n\r\n", size, body)
				} else {
					io.WriteString(c, body)
				}
			}()
			resp, _ := c.Response("POST")
			switch {
			case size <= 256<<10 && (resp.StatusCode != 200 || carried.Load() != 1):
				t.Errorf("size %d chunked %v: got %d, carried out %d times", size, chunked, resp.StatusCode, carried.Load())
			case size > 256<<10 && (carried.Load() > 1 || resp.StatusCode == 502 && (pt.Cause(resp) != "body_not_replayable" || carried.Load() != 0)):
				t.Errorf("size %d chunked %v: got %d %s, carried out %d times", size, chunked, resp.StatusCode, pt.Cause(resp), carried.Load())
			}
		}
	}
}

func TestE7HalfSentBodyIsNeverWhole(t *testing.T) {
	pt.Leaks(t)
	for _, head := range []string{"Content-Length: 100000\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		result := make(chan error, 1)
		origin := pt.Serve(t, func(c *pt.Conn) {
			h, err := c.ReadHead()
			if err == nil {
				_, err = c.ReadBody(h)
			}
			result <- err
		})
		_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
		c := pt.Dial(t, addr)
		fmt.Fprintf(c, "POST http://%s/ HTTP/1.1\r\nHost: x\r\n%s", origin.Addr, head)
		c.CloseWrite()
		if err := <-result; err == nil {
			t.Errorf("%q: the origin took a half-sent body for a whole one", head)
		}
	}
}

func TestE7BadChunksAreRefused(t *testing.T) {
	pt.Leaks(t)
	for _, body := range []string{"zz\r\nabc\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "-3\r\nabc\r\n", "3 x\r\nabc\r\n0\r\n\r\n", "0x3\r\nabc\r\n0\r\n\r\n", "fffffffffffffffff\r\nabc\r\n"} {
		result := make(chan error, 1)
		origin := pt.Serve(t, func(c *pt.Conn) {
			h, err := c.ReadHead()
			if err == nil {
				_, err = c.ReadBody(h)
			}
			result <- err
		})
		_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
		c := pt.Dial(t, addr)
		resp, _ := c.Do("POST", "POST http://"+origin.Addr+"/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+body)
		if resp.StatusCode != 400 || pt.Cause(resp) != "bad_request" {
			t.Errorf("%q: got %d %s", body, resp.StatusCode, pt.Cause(resp))
		}
		if err := <-result; err == nil {
			t.Errorf("%q: reached the origin as a whole request", body)
		}
	}
}

func TestE8ResponsesStream(t *testing.T) {
	pt.Leaks(t)
	goOn := make(chan struct{})
	origin := pt.Serve(t, func(c *pt.Conn) {
		if _, err := c.ReadHead(); err != nil {
			return
		}
		c.Send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n6\r\nfirst\n\r\n")
		<-goOn
		c.Send("5\r\nlast\n\r\n0\r\nX-Sum: 42\r\nProxy-Authenticate: no\r\n\r\n")
		io.Copy(io.Discard, c.R)
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	c := pt.Dial(t, addr)
	fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.Addr)
	resp, err := http.ReadResponse(c.R, nil)
	if err != nil {
		t.Fatal(err)
	}
	first := make([]byte, 6)
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "first\n" {
		t.Fatalf("first event: %q %v", first, err)
	}
	close(goOn) // only now: the first byte came before the last was made
	rest, err := io.ReadAll(resp.Body)
	if err != nil || string(rest) != "last\n" || resp.Trailer.Get("X-Sum") != "42" || len(resp.Trailer) != 1 {
		t.Errorf("rest %q, trailers %v, %v", rest, resp.Trailer, err)
	}
}

func TestE5ExpectContinue(t *testing.T) {
	pt.Leaks(t)
	up := pt.Serve(t, func(c *pt.Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if h.Token() != "token-2" {
				c.Send(pt.Need407)
				continue
			}
			if h.Header.Get("Expect") == "" {
				t.Error("Expect was not forwarded")
			}
			c.Send("HTTP/1.1 100 Continue\r\n\r\n")
			if body, err := c.ReadBody(h); err != nil || string(body) != "abc" {
				t.Errorf("body %q %v", body, err)
			}
			c.Send(pt.OK)
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	c := pt.Dial(t, addr)
	fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	resp, err := http.ReadResponse(c.R, nil)
	if err != nil || resp.StatusCode != 100 {
		t.Fatalf("got %v %v, want 100", resp, err)
	}
	io.WriteString(c, "abc")
	if resp, body := c.Response("POST"); resp.StatusCode != 200 || body != "ok" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
}

func TestA9HTTP10ClientIsClosed(t *testing.T) {
	pt.Leaks(t)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "a")
		w.(http.Flusher).Flush()
		io.WriteString(w, "b")
	}))
	defer origin.Close()
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	c := pt.Dial(t, addr)
	fmt.Fprintf(c, "GET %s/ HTTP/1.0\r\n\r\n", origin.URL)
	all, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(all), "\r\n\r\nab") || strings.Contains(string(all), "chunked") {
		t.Errorf("got %q, %v", all, err)
	}
}

func TestG5PerRequestUpstream(t *testing.T) {
	pt.Leaks(t)
	accept := pt.Any()
	up := pt.Serve(t, func(c *pt.Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if tok := h.Token(); tok == "" || !accept(tok) {
				c.Send(pt.Need407)
			} else {
				c.Send(pt.OK)
			}
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	c := pt.Dial(t, addr)
	for range 10 {
		if resp, _ := c.Get("http://a.test/"); resp.StatusCode != 200 {
			t.Fatal(resp.StatusCode)
		}
	}
	if n := len(up.Heads()); n != 11 {
		t.Errorf("ten requests took %d, want 11: one 407 and then a token each time", n)
	}
}

func TestC12UpstreamOverTLS(t *testing.T) {
	pt.Leaks(t)
	var token atomic.Value
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token.Store(r.Header.Get("Proxy-Authorization"))
		if r.Method == "CONNECT" {
			c, rw, _ := w.(http.Hijacker).Hijack()
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
			io.Copy(c, rw)
			return
		}
		io.WriteString(w, r.Proto+" "+r.URL.String())
	}))
	up.EnableHTTP2 = true
	up.Config.ErrorLog = nil
	up.StartTLS()
	defer up.Close()
	port := uint16(up.Listener.Addr().(*net.TCPAddr).Port)
	roots := x509.NewCertPool()
	roots.AddCert(up.Certificate())
	start := func(name string, cfg *tls.Config) string {
		u := &proxy.Upstream{URL: fmt.Sprintf("https://%s:%d", name, port), TLS: true, Host: name, Port: port}
		_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, TLS: cfg, Router: proxy.RouterFunc(func(_ context.Context, h string, p uint16) (proxy.Decision, error) {
			return proxy.Decision{Route: proxy.RouteProxy, Host: h, Port: p, Upstream: u, Kerberos: true, Preemptive: true}, nil
		})})
		return addr
	}
	addr := start("127.0.0.1", &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	if resp, body := pt.Dial(t, addr).Get("http://a.test/x"); resp.StatusCode != 200 || body != "HTTP/1.1 http://a.test/x" {
		t.Errorf("GET: got %d %q", resp.StatusCode, body)
	}
	c := pt.Dial(t, addr)
	if resp, _ := c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatalf("CONNECT: %d", resp.StatusCode)
	}
	io.WriteString(c, "ping")
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c.R, buf); err != nil || string(buf) != "ping" {
		t.Errorf("echo: %q %v", buf, err)
	}
	c.Close()
	// No token for a proxy that is not who it claims to be.
	token.Store("")
	for name, cfg := range map[string]*tls.Config{"127.0.0.1": nil, "localhost": {RootCAs: roots}} {
		resp, _ := pt.Dial(t, start(name, cfg)).Get("http://a.test/")
		if resp.StatusCode != 502 || pt.Cause(resp) != "upstream_tls" || token.Load() != "" {
			t.Errorf("%s: got %d %s, token %q", name, resp.StatusCode, pt.Cause(resp), token.Load())
		}
	}
}

func TestHostileTargetsReachNobody(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	for _, raw := range []string{
		"GET /path HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET https://a.com/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://evil.org\\@github.com/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a%2ecom/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a.com/ HTTP/1.1\r\n\r\n",
		"GET http://a.com/ HTTP/1.1\nHost: a\n\n",
		"CONNECT a.com HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT a.com:443@b.com:443 HTTP/1.1\r\nHost: a\r\n\r\n",
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		method, _, _ := strings.Cut(raw, " ")
		resp, body := pt.Dial(t, addr).Do(method, raw)
		if resp.StatusCode != 400 || pt.Cause(resp) != "bad_request" || !resp.Close || body == "" {
			t.Errorf("%q: got %d %s", raw, resp.StatusCode, pt.Cause(resp))
		}
	}
	if up.Conns() != 0 {
		t.Errorf("%d connections to the upstream", up.Conns())
	}
}

func TestI5KeepAliveDecidesEveryRequestAnew(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	origin := pt.Serve(t, func(c *pt.Conn) {
		for {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			c.Send(pt.OK)
		}
	})
	var direct atomic.Bool
	via, straight := pt.Via(up.Addr), pt.Direct()
	_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
		if direct.Load() {
			return straight(ctx, h, p)
		}
		return via(ctx, h, p)
	})})
	c := pt.Dial(t, addr)
	c.Get("http://" + origin.Addr + "/")
	direct.Store(true)
	c.Get("http://" + origin.Addr + "/")
	direct.Store(false)
	c.Get("http://" + origin.Addr + "/")
	if u, o := len(up.Heads()), len(origin.Heads()); u != 2 || o != 1 {
		t.Errorf("upstream saw %d requests, origin %d, want 2 and 1", u, o)
	}
}

func TestUpgradePasses(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) {
		h, err := c.ReadHead()
		if err != nil || h.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(h.Header.Get("Connection"), "upgrade") {
			c.Send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		c.Send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
		io.Copy(c.Conn, c.R)
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	c := pt.Dial(t, addr)
	fmt.Fprintf(c, "GET http://%s/chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n", origin.Addr)
	resp, err := http.ReadResponse(c.R, nil)
	if err != nil || resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" {
		t.Fatalf("got %+v %v", resp, err)
	}
	io.WriteString(c, " echo")
	got := make([]byte, 10)
	if _, err := io.ReadFull(c.R, got); err != nil || string(got) != "hello echo" {
		t.Errorf("got %q %v", got, err)
	}
}

func TestG2ConnectionBoundOriginAuthenticationIsPinned(t *testing.T) {
	pt.Leaks(t)
	up := pt.Serve(t, func(c *pt.Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if h.Header.Get("Authorization") == "" && h.Header.Get("X-Who") == "a" {
				c.Send("HTTP/1.1 401 No\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", c.N)
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	a, b := pt.Dial(t, addr), pt.Dial(t, addr)
	resp, _ := a.Do("GET", "GET http://o.test/ HTTP/1.1\r\nHost: o\r\nX-Who: a\r\n\r\n")
	if resp.Header.Get("Proxy-Support") != "Session-Based-Authentication" {
		t.Error("no Proxy-Support")
	}
	_, bConn := b.Get("http://o.test/")
	_, aConn := a.Do("GET", "GET http://o.test/ HTTP/1.1\r\nHost: o\r\nX-Who: a\r\nAuthorization: NTLM abc\r\n\r\n")
	_, again := a.Get("http://o.test/")
	if aConn != "1" || again != "1" || bConn == "1" {
		t.Errorf("a used connections %s and %s, b used %s; want 1, 1 and another", aConn, again, bConn)
	}
}

func TestJ2ErrorPages(t *testing.T) {
	pt.Leaks(t)
	_, addr := pt.Start(t, proxy.Config{Router: proxy.RouterFunc(func(_ context.Context, h string, p uint16) (proxy.Decision, error) {
		return proxy.Decision{Route: proxy.RouteRefused, Host: h, Port: p, Refusal: &proxy.Error{Cause: proxy.CausePolicy, Detail: "<script>"}}, nil
	})})
	c := pt.Dial(t, addr)
	resp, body := c.Get("http://a.test/?secret=1")
	if resp.StatusCode != 403 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || !strings.Contains(body, "What to do:") || strings.Contains(body, "secret") {
		t.Errorf("plain: %d %q", resp.StatusCode, body)
	}
	resp, body = c.Do("GET", "GET http://a.test/ HTTP/1.1\r\nHost: a\r\nAccept: text/html,*/*\r\n\r\n")
	if !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || strings.Contains(body, "<script>") || !strings.Contains(body, "&lt;script&gt;") {
		t.Errorf("html: %q", body)
	}
	if resp, body = c.Do("HEAD", "HEAD http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n"); resp.StatusCode != 403 || body != "" {
		t.Errorf("HEAD: %d %q", resp.StatusCode, body)
	}
	if got := resp.Header.Get("Proxy-Status"); got != `kerbpass; error=http_request_denied; details="policy"` {
		t.Errorf("Proxy-Status: %q", got)
	}
	for _, cause := range proxy.Causes() {
		if text, hint, ok := cause.Explain(); !ok || text == "" || hint == "" {
			t.Errorf("%s has no words", cause)
		}
	}
	if n := len(proxy.Causes()); n != 26 {
		t.Errorf("%d causes, want the 24 of the contract and the two of passwords", n)
	}
}

func TestServeEndsWithOpenTunnels(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) { io.Copy(io.Discard, c.R) })
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	for range 5 {
		c := pt.Dial(t, addr)
		c.Do("CONNECT", "CONNECT "+origin.Addr+" HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	// Leaks and Start check the rest when the test ends.
}
