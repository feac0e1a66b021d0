package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// Peers that are slow, break off, answer too early or say more than they
// should. Short pauses below only make the order on the wire likely that a
// test is about; no result depends on their length.
const pause = 60 * time.Millisecond

// reset ends a connection with a RST, as a crash or a close over unread data
// does.
func reset(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }

// within fails the test if ch is not closed or sent to in time.
func within[T any](t *testing.T, d time.Duration, ch <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-ch:
	case <-time.After(d):
		t.Fatalf("%s: not within %v", what, d)
	}
	return v
}

// eachByte writes text in as many segments as it has bytes.
func eachByte(c io.Writer, text string) {
	for i := range len(text) {
		io.WriteString(c, text[i:i+1])
		time.Sleep(time.Millisecond)
	}
}

func TestChunksArriveByteByByte(t *testing.T) {
	pt.Leaks(t)
	const body = "3;a=b\r\nabc\r\n1\r\nd\r\n0\r\nX-T: 1\r\n\r\n"
	origin := pt.Serve(t, func(c *pt.Conn) {
		h, err := c.ReadHead()
		if err != nil {
			return
		}
		got, err := c.ReadBody(h)
		if err != nil || string(got) != "abcd" {
			t.Errorf("the origin got %q, %v", got, err)
		}
		c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		eachByte(c, body)
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	c := pt.Dial(t, addr)
	fmt.Fprintf(c, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", origin.Addr)
	eachByte(c, body)
	if resp, got := c.Response("POST"); resp.StatusCode != 200 || got != "abcd" || resp.Trailer.Get("X-T") != "1" {
		t.Errorf("got %d %q, trailers %v", resp.StatusCode, got, resp.Trailer)
	}
}

// A 407 interrupts the upload at every place of a chunked body; the repeat has
// to go on exactly there.
func TestE3ChunkedUploadInterruptedAnywhere(t *testing.T) {
	pt.Leaks(t)
	const body = "3\r\nabc\r\n2;x\r\nde\r\n0\r\nX-T: 1\r\n\r\n"
	for cut := range len(body) {
		t.Run(fmt.Sprint(cut), func(t *testing.T) {
			t.Parallel()
			refused := make(chan struct{})
			up := pt.Serve(t, func(c *pt.Conn) {
				h, err := c.ReadHead()
				if err != nil {
					return
				}
				if h.Token() == "token-1" {
					time.Sleep(pause)
					c.Send("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n")
					io.Copy(io.Discard, c.R)
					return
				}
				if h.Method() != "POST" {
					c.Send(pt.OK)
					return
				}
				close(refused)
				got, err := c.ReadBody(h)
				if err != nil || string(got) != "abcde" {
					t.Errorf("the second attempt carried %q, %v", got, err)
				}
				c.Send(pt.OK)
			})
			_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
			c := pt.Dial(t, addr)
			io.WriteString(c, "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"+body[:cut])
			within(t, 10*time.Second, refused, "second attempt")
			io.WriteString(c, body[cut:])
			resp, got := c.Response("POST")
			if resp.StatusCode != 200 {
				t.Errorf("got %d %q", resp.StatusCode, got)
			}
			if resp.Close { // the answer overtook the end of the upload
				return
			}
			if resp, _ := c.Get("http://a.test/"); resp.StatusCode != 200 {
				t.Errorf("the next request on the connection: %d", resp.StatusCode)
			}
		})
	}
}

// An origin that answers an upload early and then resets the connection has
// answered all the same.
func TestEarlyAnswerSurvivesABrokenUpload(t *testing.T) {
	pt.Leaks(t)
	const size = 100 << 10
	answered := make(chan struct{})
	origin := pt.Serve(t, func(c *pt.Conn) {
		if _, err := c.ReadHead(); err != nil {
			return
		}
		c.Send("HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("n", size))
		time.Sleep(pause) // until all of it is at the other side
		reset(c.Conn)
		close(answered)
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	c := pt.Dial(t, addr)
	fmt.Fprintf(c, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", origin.Addr, 1<<30)
	var wg sync.WaitGroup
	wg.Go(func() { // goes on for longer than the origin's connection lasts
		for range 60 {
			if _, err := c.Write(make([]byte, 8<<10)); err != nil {
				return
			}
			time.Sleep(3 * time.Millisecond)
		}
	})
	within(t, 10*time.Second, answered, "answer")
	time.Sleep(pause)
	resp, err := http.ReadResponse(c.R, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != 413 || len(body) != size || err != nil {
		t.Errorf("got %d with %d of %d bytes, %v", resp.StatusCode, len(body), size, err)
	}
	c.Close()
	wg.Wait()
}

// A client that breaks off a large upload takes the request with it; the
// origin does not wait for the rest.
func TestClientResetsALargeUpload(t *testing.T) {
	pt.Leaks(t)
	ended := make(chan error, 1)
	origin := pt.Serve(t, func(c *pt.Conn) {
		c.ReadHead()
		_, err := io.Copy(io.Discard, c.R)
		ended <- err
	})
	s, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	c := pt.Dial(t, addr)
	fmt.Fprintf(c, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", origin.Addr, 1<<30)
	c.Write(make([]byte, 1<<20))
	time.Sleep(pause)
	reset(c.TCPConn)
	within(t, 5*time.Second, ended, "end at the origin")
	for deadline := time.Now().Add(5 * time.Second); s.Open() != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d client connections are still open", s.Open())
		}
	}
}

// The limit for an answer's head does not apply to its body, also when the
// answer began before the upload had ended.
func TestAnswerTimeoutEndsWithTheHead(t *testing.T) {
	pt.Leaks(t)
	const limit = 200 * time.Millisecond
	origin := pt.Serve(t, func(c *pt.Conn) {
		h, err := c.ReadHead()
		if err != nil {
			return
		}
		c.Send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc")
		c.ReadBody(h)
		time.Sleep(3 * limit)
		c.Send("def")
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct(), AnswerTimeout: limit})
	c := pt.Dial(t, addr)
	fmt.Fprintf(c, "POST http://%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab", origin.Addr)
	resp, err := http.ReadResponse(c.R, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "cd")
	if body, err := io.ReadAll(resp.Body); string(body) != "abcdef" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
}

// A 101 while the request's body is still on its way: what the client sends
// next must not be taken both for body and for the new protocol.
func TestSwitchingProtocolsDuringTheUpload(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) {
		h, err := c.ReadHead()
		if err != nil {
			return
		}
		if h.Header.Get("X-Early") == "" {
			c.ReadBody(h)
		}
		c.Send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
		io.Copy(c.Conn, c.R)
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	head := "POST http://" + origin.Addr + "/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\nTransfer-Encoding: chunked\r\n"
	for range 20 {
		c := pt.Dial(t, addr)
		io.WriteString(c, head+"\r\n3\r\nabc\r\n0\r\n\r\n")
		if resp, err := http.ReadResponse(c.R, nil); err != nil || resp.StatusCode != 101 {
			t.Fatalf("after the whole body: got %+v, %v", resp, err)
		}
		io.WriteString(c, "ping")
		got := make([]byte, 4)
		if _, err := io.ReadFull(c.R, got); err != nil || string(got) != "ping" {
			t.Fatalf("after the whole body: echo %q, %v", got, err)
		}
		c.Close()
	}
	c := pt.Dial(t, addr)
	io.WriteString(c, head+"X-Early: 1\r\n\r\n3\r\nab")
	resp, _ := c.Response("POST")
	if resp.StatusCode != 502 || pt.Cause(resp) != "destination_unreachable" {
		t.Errorf("during the body: got %d %s", resp.StatusCode, pt.Cause(resp))
	}
}

func TestG3FlushReachesPinnedConnections(t *testing.T) {
	pt.Leaks(t)
	ended := make(chan int, 10)
	up := pt.Serve(t, func(c *pt.Conn) {
		defer func() { ended <- c.N }()
		for {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", c.N)
		}
	})
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	c := pt.Dial(t, addr)
	ask := func() string {
		_, body := c.Do("GET", "GET http://o.test/ HTTP/1.1\r\nHost: o\r\nAuthorization: NTLM abc\r\n\r\n")
		return body
	}
	if a, b := ask(), ask(); a != "1" || b != "1" {
		t.Fatalf("not pinned: %s, %s", a, b)
	}
	time.Sleep(pause) // until it is idle
	s.Flush()
	if n := within(t, 5*time.Second, ended, "end of the idle pinned connection"); n != 1 {
		t.Errorf("connection %d ended", n)
	}
	if got := ask(); got != "2" {
		t.Errorf("after Flush: connection %s, want 2", got)
	}
}

// Flush while a request runs on a connection that will be pinned: it is closed
// afterwards.
func TestG3FlushDuringAPinnedRequest(t *testing.T) {
	pt.Leaks(t)
	asked, goOn := make(chan struct{}, 1), make(chan struct{})
	up := pt.Serve(t, func(c *pt.Conn) {
		for {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			if c.N == 1 {
				asked <- struct{}{}
				<-goOn
			}
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", c.N)
		}
	})
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	c := pt.Dial(t, addr)
	const req = "GET http://o.test/ HTTP/1.1\r\nHost: o\r\nAuthorization: NTLM abc\r\n\r\n"
	io.WriteString(c, req)
	<-asked
	s.Flush()
	close(goOn)
	if _, body := c.Response("GET"); body != "1" {
		t.Errorf("the running request: %q", body)
	}
	if _, body := c.Do("GET", req); body != "2" {
		t.Errorf("the next request: connection %s, want 2", body)
	}
}

// An upstream that is slow is not a dead connection: nothing is repeated.
func TestE6TimeoutIsNotRepeated(t *testing.T) {
	pt.Leaks(t)
	up := pt.Serve(t, func(c *pt.Conn) {
		for i := 0; ; i++ {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			if c.N == 1 && i == 0 {
				c.Send(pt.OK)
			}
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, AnswerTimeout: 300 * time.Millisecond})
	c := pt.Dial(t, addr)
	c.Get("http://a.test/")
	resp, _ := c.Do("DELETE", "DELETE http://a.test/slow HTTP/1.1\r\nHost: a\r\n\r\n")
	if resp.StatusCode != 504 || pt.Cause(resp) != "timeout" {
		t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
	}
	if n := len(up.Heads()); n != 2 {
		t.Errorf("the upstream saw %d requests, want 2", n)
	}
}

// The upstream answers during the upload and cannot prove itself: the upload
// has ended before anything else happens on the client's connection.
func TestH2UnprovenUpstreamDuringTheUpload(t *testing.T) {
	pt.Leaks(t)
	up := pt.Serve(t, func(c *pt.Conn) {
		if _, err := c.ReadHead(); err != nil {
			return
		}
		c.Send("HTTP/1.1 200 OK\r\nProxy-Authenticate: Negotiate d3Jvbmc=\r\nContent-Length: 2\r\n\r\nok")
		io.Copy(io.Discard, c.R)
	})
	rec := &pt.Recorder{}
	auth := &pt.Auth{Challenge: func(int, []byte) ([]byte, error) { return nil, errors.New("wrong key") }}
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth, Observer: rec})
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			c := pt.Dial(t, addr)
			io.WriteString(c, "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range i {
				io.WriteString(c, "3\r\nabc\r\n")
			}
			resp, err := http.ReadResponse(c.R, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if resp.StatusCode != 502 || pt.Cause(resp) != "token_refused" {
				t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
			}
			io.WriteString(c, "3\r\nabc\r\n")
			c.Close()
		})
	}
	wg.Wait()
	if auth.Open() != 0 {
		t.Errorf("%d exchanges were not closed", auth.Open())
	}
}

// Where only the end of the connection ends a body, a broken connection must
// not look like the end.
func TestE7BrokenBodyWithoutLengthIsNotWhole(t *testing.T) {
	pt.Leaks(t)
	for name, tt := range map[string]struct{ version, head string }{
		"until close":          {"HTTP/1.1", "HTTP/1.1 200 OK\r\n\r\nhalf"},
		"chunked for HTTP/1.0": {"HTTP/1.0", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			origin := pt.Serve(t, func(c *pt.Conn) {
				c.ReadHead()
				c.Send("%s", tt.head)
				time.Sleep(pause)
				reset(c.Conn)
			})
			_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
			c := pt.Dial(t, addr)
			fmt.Fprintf(c, "GET http://%s/ %s\r\nHost: x\r\n\r\n", origin.Addr, tt.version)
			if all, err := io.ReadAll(c.R); err == nil {
				t.Errorf("the client took a broken answer for a whole one: %q", all)
			}
		})
	}
}

// A malformed request is answered wherever it stands on the connection, and in
// full whatever the request before it was.
func TestMalformedRequestAfterAnother(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	for _, method := range []string{"GET", "HEAD"} {
		for _, bad := range []string{"GET http://a.test/ HTTP/1.1\nHost: a\n\n", "GET http://a.test/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "GET /" + strings.Repeat("x", 140<<10)} {
			c := pt.Dial(t, addr)
			if method == "GET" {
				c.Get("http://a.test/")
			} else {
				fmt.Fprint(c, "HEAD http://a.test/ HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n")
				c.Response("HEAD")
				c.R.Discard(c.R.Buffered()) // a scripted upstream answers HEAD with a body
			}
			io.WriteString(c, bad)
			resp, err := http.ReadResponse(c.R, nil)
			if err != nil {
				t.Errorf("%.40q after %s: %v", bad, method, err)
				continue
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != 400 || pt.Cause(resp) != "bad_request" || err != nil || len(body) == 0 {
				t.Errorf("%.40q after %s: got %d %s, %d bytes, %v", bad, method, resp.StatusCode, pt.Cause(resp), len(body), err)
			}
		}
	}
}

// Bytes the proxy will not read any more must not cost the client the end of
// the answer before them (RFC 9112 §9.6).
func TestUnreadBytesDoNotDestroyTheAnswer(t *testing.T) {
	pt.Leaks(t)
	const size = 3 << 20
	body := strings.Repeat("x", size)
	for name, tt := range map[string]struct{ head, answer string }{
		"until close":     {"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"},
		"close asked for": {"GET http://a.test/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)},
		"refused CONNECT": {"CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n\r\n", fmt.Sprintf("HTTP/1.1 403 No\r\nContent-Length: %d\r\n\r\n", size)},
	} {
		t.Run(name, func(t *testing.T) {
			up := pt.Serve(t, func(c *pt.Conn) {
				c.ReadHead()
				time.Sleep(2 * pause)
				io.WriteString(c, tt.answer+body)
			})
			_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
			c := pt.Dial(t, addr)
			io.WriteString(c, tt.head)
			time.Sleep(pause) // the next bytes stay in the socket
			io.WriteString(c, "GET http://b.test/ HTTP/1.1\r\nHost: b\r\n\r\n")
			for deadline := time.Now().Add(5 * time.Second); up.Conns() == 0 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(8 * pause) // a slow reader: much of the answer waits in the proxy's socket
			all, err := io.ReadAll(c.R)
			if _, got, _ := bytes.Cut(all, []byte("\r\n\r\n")); len(got) != size || err != nil {
				t.Errorf("%d of %d bytes arrived, %v", len(got), size, err)
			}
		})
	}
}

// A client that leaves during a silent answer is noticed; one that stays, and
// one that has only ended its side, get the rest of an answer that goes on.
func TestClientLeavesDuringASilentAnswer(t *testing.T) {
	pt.Leaks(t)
	const idle = 250 * time.Millisecond
	for _, framing := range []string{"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n", "Content-Length: 100\r\n\r\nfirst", "\r\nfirst"} {
		gone := make(chan struct{})
		origin := pt.Serve(t, func(c *pt.Conn) {
			c.ReadHead()
			c.Send("HTTP/1.1 200 OK\r\n%s", framing)
			io.Copy(io.Discard, c.R)
			close(gone)
		})
		s, addr := pt.Start(t, proxy.Config{Router: pt.Direct(), IdleTimeout: idle})
		c := pt.Dial(t, addr)
		fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.Addr)
		c.R.ReadString('f')
		c.Close()
		within(t, 10*idle, gone, "end at the origin")
		for deadline := time.Now().Add(5 * time.Second); s.Open() != 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%d client connections are still open", s.Open())
			}
		}
	}
}

func TestSilentAnswerGoesOn(t *testing.T) {
	pt.Leaks(t)
	const idle = 250 * time.Millisecond
	for _, chunked := range []bool{false, true} {
		origin := pt.Serve(t, func(c *pt.Conn) {
			c.ReadHead()
			if chunked {
				c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
				time.Sleep(3 * idle)
				c.Send("0\r\n")
				time.Sleep(2 * idle)
				c.Send("\r\n")
			} else {
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfirst")
				time.Sleep(3 * idle)
				c.Send("last")
			}
			io.Copy(io.Discard, c.R)
		})
		_, addr := pt.Start(t, proxy.Config{Router: pt.Direct(), IdleTimeout: idle})
		c := pt.Dial(t, addr)
		resp, body := c.Get("http://" + origin.Addr + "/")
		if resp.StatusCode != 200 || body != map[bool]string{false: "firstlast", true: "first"}[chunked] {
			t.Errorf("chunked %v: got %d %q", chunked, resp.StatusCode, body)
		}
	}
}

// With "only when challenged", an upload too large to be kept draws a 407 it
// cannot be repeated after. The page says to repeat the request; that works.
func TestE2LargeUploadOnlyWhenChallenged(t *testing.T) {
	pt.Leaks(t)
	const size = 2 << 20
	up := pt.Serve(t, func(c *pt.Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if h.Token() == "" {
				if _, err := io.CopyN(io.Discard, c.R, size/2); err != nil {
					return
				}
				c.Send("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
				io.Copy(io.Discard, c.R)
				return
			}
			if body, err := c.ReadBody(h); err != nil || len(body) != size {
				t.Errorf("the upstream got %d bytes, %v", len(body), err)
			}
			c.Send(pt.OK)
		}
	})
	via := pt.Via(up.Addr)
	_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
		d, err := via(ctx, h, p)
		d.Preemptive = false
		return d, err
	})})
	c := pt.Dial(t, addr)
	fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
	go c.Write(make([]byte, size))
	if resp, _ := c.Response("POST"); resp.StatusCode != 200 {
		t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
	}
}

func TestEventCountsTheUpload(t *testing.T) {
	pt.Leaks(t)
	for _, tt := range []struct {
		size    int
		chunked bool
	}{{5, false}, {100 << 10, false}, {5, true}, {100 << 10, true}} {
		up := pt.Negotiating(t, pt.Any())
		rec := &pt.Recorder{}
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, Observer: rec})
		c := pt.Dial(t, addr)
		body := strings.Repeat("u", tt.size)
		if tt.chunked {
			c.Do("POST", fmt.Sprintf("POST http://a.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", tt.size, body))
		} else {
			c.Do("POST", fmt.Sprintf("POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", tt.size, body))
		}
		for deadline := time.Now().Add(5 * time.Second); len(rec.Events()) == 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		if got := rec.Events(); len(got) != 1 || got[0].Up != int64(tt.size) || got[0].Down != 2 {
			t.Errorf("%+v: events %+v", tt, got)
		}
	}
}

// The observer hears of a refused request when it has been answered, not when
// the connection has been wound up.
func TestRefusalIsReportedAtOnce(t *testing.T) {
	pt.Leaks(t)
	rec := &pt.Recorder{}
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct(), Observer: rec})
	c := pt.Dial(t, addr)
	c.Do("GET", "GET /own HTTP/1.1\r\nHost: a\r\n\r\n") // and stays connected
	for deadline := time.Now().Add(time.Second); len(rec.Events()) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not reported within a second")
		}
	}
	if took := rec.Events()[0].Took; took > time.Second {
		t.Errorf("took %v", took)
	}
}

// 407 at every point of an upload, in every shape: one whole body is carried
// out or none, and the client never sees a 407.
func TestE3RefusalAtEveryPointOfAnUpload(t *testing.T) {
	pt.Leaks(t)
	const size = 100 << 10
	shapes := map[string]string{
		"sized":         "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 4\r\n\r\nauth",
		"chunked":       "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nTransfer-Encoding: chunked\r\n\r\n4;x\r\nauth\r\n0\r\nT: 1\r\n\r\n",
		"close":         "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nConnection: close\r\nContent-Length: 4\r\n\r\nauth",
		"no length":     "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\nauth",
		"half body":     "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 400\r\n\r\nauth",
		"after 100":     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n",
		"reset":         "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 4\r\n\r\nauth",
		"said too much": "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 4\r\n\r\nauthHTTP/1.1 200 Mine\r\nContent-Length: 5\r\n\r\nwrong",
	}
	for name, answer := range shapes {
		for _, after := range []int{0, 10, 50 << 10, size} {
			for _, preemptive := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s after %d, preemptive %v", name, after, preemptive), func(t *testing.T) {
					t.Parallel()
					var carried atomic.Int64
					up := pt.Serve(t, func(c *pt.Conn) {
						for {
							h, err := c.ReadHead()
							if err != nil {
								return
							}
							if h.Token() == "" || preemptive && h.Token() == "token-1" {
								io.CopyN(io.Discard, c.R, int64(after))
								c.Send("%s", answer)
								if name == "reset" {
									time.Sleep(pause)
									reset(c.Conn)
									return
								}
								if after < size || name == "close" || name == "half body" || name == "no length" {
									c.Conn.(*net.TCPConn).CloseWrite()
									io.Copy(io.Discard, c.R)
									return
								}
								continue
							}
							body, err := c.ReadBody(h)
							if err != nil || len(body) != size || strings.Trim(string(body), "b") != "" {
								t.Errorf("carried: %d bytes, %v", len(body), err)
								return
							}
							carried.Add(1)
							c.Send(pt.OK)
						}
					})
					via := pt.Via(up.Addr)
					auth := &pt.Auth{}
					_, addr := pt.Start(t, proxy.Config{Auth: auth, Router: proxy.RouterFunc(func(ctx context.Context, h string, p uint16) (proxy.Decision, error) {
						d, err := via(ctx, h, p)
						d.Preemptive = preemptive
						return d, err
					})})
					c := pt.Dial(t, addr)
					// Not POST: some of these upstreams close without a word.
					fmt.Fprintf(c, "PUT http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
					go io.WriteString(c, strings.Repeat("b", size))
					resp, body := c.Response("POST")
					for resp.StatusCode == 100 {
						resp, body = c.Response("POST")
					}
					if resp.StatusCode != 200 || body != "ok" || carried.Load() != 1 {
						t.Errorf("got %d %s %q, carried out %d times", resp.StatusCode, pt.Cause(resp), body, carried.Load())
					}
					if auth.Made() > 2 || auth.Open() != 0 {
						t.Errorf("%d tokens, %d exchanges open", auth.Made(), auth.Open())
					}
				})
			}
		}
	}
}

// Answers that could be read as two, or as none.
func TestHostileAnswers(t *testing.T) {
	pt.Leaks(t)
	const next = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext"
	for _, tt := range []struct{ name, answer, want string }{
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk", "502"},
		{"length list", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", "502"},
		{"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", "502"},
		{"length and coding", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 ok"},
		{"coding twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"},
		{"coding not last", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n2\r\nok\r\n0\r\n\r\n", "502"},
		{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "502"},
		{"folded", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok", "502"},
		{"blank before colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", "502"},
		{"CR in a value", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok", "502"},
		{"101 unasked", "HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n", "502"},
		{"status 99", "HTTP/1.1 099 No\r\n\r\n", "502"},
		{"HTTP/2", "HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok", "502"},
		{"nothing", "", "502"},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-", "502"},
		{"head without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 300<<10), "502"},
		{"too many fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 600) + "\r\n", "502"},
		{"1xx with a length", "HTTP/1.1 103 Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "200 ok"},
		{"204 with a length", "HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n", "204 "},
		{"304 with a length", "HTTP/1.1 304 Same\r\nContent-Length: 50\r\n\r\n", "304 "},
		{"origin's 407", "HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nok", "502"},
		{"two answers", pt.OK + "HTTP/1.1 200 Mine\r\nContent-Length: 5\r\n\r\nwrong", "200 ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			origin := pt.Serve(t, func(c *pt.Conn) {
				h, err := c.ReadHead()
				if err != nil {
					return
				}
				if !strings.HasSuffix(h.Target(), "/next") {
					io.WriteString(c, tt.answer)
					if tt.want == "502" {
						c.Conn.(*net.TCPConn).CloseWrite()
						io.Copy(io.Discard, c.R)
						return
					}
					if _, err = c.ReadHead(); err != nil {
						return
					}
				}
				io.WriteString(c, next)
				io.Copy(io.Discard, c.R)
			})
			_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
			c := pt.Dial(t, addr)
			resp, body := c.Get("http://" + origin.Addr + "/")
			for resp.StatusCode == 103 {
				resp, body = c.Response("GET")
			}
			got := fmt.Sprintf("%d %s", resp.StatusCode, body)
			if tt.want == "502" && (resp.StatusCode != 502 || pt.Cause(resp) != "destination_unreachable") || tt.want != "502" && got != tt.want {
				t.Errorf("got %.60q %s, want %s", got, pt.Cause(resp), tt.want)
			}
			if resp.Close {
				return
			}
			if _, body := c.Get("http://" + origin.Addr + "/next"); body != "next" {
				t.Errorf("the next request got %q", body)
			}
		})
	}
}

// Requests that could be read as two.
func TestA5SmuggledRequestsReachNobody(t *testing.T) {
	pt.Leaks(t)
	up := pt.Serve(t, func(c *pt.Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if strings.Contains(h.Target(), "inner") {
				t.Errorf("an inner request came out: %q", h.Raw)
			}
			if _, err := c.ReadBody(h); err != nil {
				return
			}
			c.Send(pt.OK)
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	const inner = "GET http://inner.test/ HTTP/1.1\r\nHost: inner.test\r\n\r\n"
	for _, fields := range []string{
		"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
		"Content-Length: 5\r\nContent-Length: 0\r\n\r\n",
		"Content-Length: 0x5\r\n\r\n",
		"Content-Length: -1\r\n\r\n",
		"Content-Length:\r\n\r\n",
		"Content-Length : 0\r\n\r\n",
		"Content-Length: 99999999999999999999\r\n\r\n",
		"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
		"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
		"X: a\rTransfer-Encoding: chunked\r\n\r\n",
		"X: a\nTransfer-Encoding: chunked\r\n\r\n",
		"X: a\x00b\r\n\r\n",
		" X: a\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n3\rxx\r\nabc\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n3;a=\rb\r\nabc\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nabc\r\n0\r\n\r\n",
		"Transfer-Encoding: chunked\r\n\r\n\r\n0\r\n\r\n",
	} {
		c := pt.Dial(t, addr)
		io.WriteString(c, "POST http://a.test/ HTTP/1.1\r\nHost: a\r\n"+fields+inner)
		resp, _ := c.Response("POST")
		if resp.StatusCode != 400 || pt.Cause(resp) != "bad_request" || !resp.Close {
			t.Errorf("%q: got %d %s", fields, resp.StatusCode, pt.Cause(resp))
		}
		if rest, _ := io.ReadAll(c.R); len(rest) != 0 {
			t.Errorf("%q: more than one answer: %q", fields, rest)
		}
	}
}

// Pipelined requests are answered in order, each with its own body.
func TestPipelinedRequests(t *testing.T) {
	pt.Leaks(t)
	up := pt.Serve(t, func(c *pt.Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			body, err := c.ReadBody(h)
			if err != nil {
				return
			}
			text := h.Target() + "=" + string(body)
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	c := pt.Dial(t, addr)
	var raw, want strings.Builder
	for i := range 60 {
		switch i % 3 {
		case 0:
			fmt.Fprintf(&raw, "GET http://a.test/%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
			fmt.Fprintf(&want, "http://a.test/%d=\n", i)
		case 1:
			fmt.Fprintf(&raw, "POST http://a.test/%d HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /\r\n", i)
			fmt.Fprintf(&want, "http://a.test/%d=GET /\n", i)
		case 2:
			fmt.Fprintf(&raw, "PUT http://a.test/%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", i)
			fmt.Fprintf(&want, "http://a.test/%d=abcde\n", i)
		}
	}
	go func() {
		for text := raw.String(); len(text) > 0; {
			n := min(len(text), 97)
			io.WriteString(c, text[:n])
			text = text[n:]
		}
	}()
	var got strings.Builder
	for range 60 {
		resp, body := c.Response("GET")
		if fmt.Fprintf(&got, "%s\n", body); resp.Close && got.Len() < want.Len() {
			// An answer that overtakes the end of its upload ends the
			// connection; that is allowed, and everything before it counts.
			break
		}
	}
	if !strings.HasPrefix(want.String(), got.String()) || got.Len() == 0 {
		t.Errorf("got:\n%s\nwant:\n%s", got.String(), want.String())
	}
}

func TestE5ExpectContinueInEveryOrder(t *testing.T) {
	pt.Leaks(t)
	const head = "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
	t.Run("refused without the body", func(t *testing.T) {
		up := pt.Serve(t, func(c *pt.Conn) {
			c.ReadHead()
			c.Send("HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
			if n, _ := io.Copy(io.Discard, c.R); n != 0 {
				t.Errorf("%d body bytes were sent", n)
			}
		})
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
		if resp, body := pt.Dial(t, addr).Do("POST", head); resp.StatusCode != 417 || body != "no" || !resp.Close {
			t.Errorf("got %d %q, close %v", resp.StatusCode, body, resp.Close)
		}
	})
	t.Run("the body does not wait", func(t *testing.T) {
		up := pt.Serve(t, func(c *pt.Conn) {
			h, _ := c.ReadHead()
			c.ReadBody(h)
			c.Send("HTTP/1.1 100 Continue\r\n\r\n" + pt.OK)
		})
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
		c := pt.Dial(t, addr)
		resp, body := c.Do("POST", head+"abc")
		if resp.StatusCode == 100 {
			resp, body = c.Response("POST")
		}
		if resp.StatusCode != 200 || body != "ok" {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
	})
	t.Run("twice 100, then refused, then carried out", func(t *testing.T) {
		up := pt.Serve(t, func(c *pt.Conn) {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			c.Send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
			body, err := c.ReadBody(h)
			if h.Token() == "token-1" {
				c.Send(pt.Need407)
				return
			}
			if string(body) != "abc" || err != nil {
				t.Errorf("carried out with %q, %v", body, err)
			}
			c.Send(pt.OK)
		})
		_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
		c := pt.Dial(t, addr)
		resp, body := c.Do("POST", head)
		io.WriteString(c, "abc")
		for resp.StatusCode == 100 {
			resp, body = c.Response("POST")
		}
		if resp.StatusCode != 200 || body != "ok" {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
	})
}

// An upgrade that is refused leaves two ordinary, reusable connections.
func TestUpgradeRefused(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) {
		for {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			c.Send("HTTP/1.1 426 Upgrade\r\nUpgrade: other\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno")
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	c := pt.Dial(t, addr)
	for range 3 {
		resp, body := c.Do("GET", "GET http://"+origin.Addr+"/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		if resp.StatusCode != 426 || body != "no" || resp.Close {
			t.Errorf("got %d %q, close %v", resp.StatusCode, body, resp.Close)
		}
	}
	if origin.Conns() != 1 {
		t.Errorf("%d connections", origin.Conns())
	}
}

// Answers without a body, whatever their fields say, leave the connection in
// step.
func TestAnswersToHead(t *testing.T) {
	pt.Leaks(t)
	answers := []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 100\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n",
	}
	up := pt.Serve(t, func(c *pt.Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if i := h.Header.Get("X-Answer"); i != "" {
				c.Send("%s", answers[i[0]-'0'])
				continue
			}
			c.Send(pt.OK)
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	c := pt.Dial(t, addr)
	for i := range answers {
		resp, body := c.Do("HEAD", fmt.Sprintf("HEAD http://a.test/ HTTP/1.1\r\nHost: a\r\nX-Answer: %d\r\n\r\n", i))
		for resp.StatusCode == 103 {
			resp, body = c.Response("HEAD")
		}
		if resp.StatusCode/100 == 5 || body != "" || resp.Close {
			t.Errorf("%q: got %d %q, close %v", answers[i], resp.StatusCode, body, resp.Close)
		}
		if _, body := c.Get("http://a.test/"); body != "ok" {
			t.Errorf("%q: the next request got %q", answers[i], body)
		}
	}
	if up.Conns() != 1 {
		t.Errorf("%d upstream connections, want 1", up.Conns())
	}
}

// A client that reads nothing holds up its origin and costs no memory.
func TestClientThatReadsNothing(t *testing.T) {
	pt.Leaks(t)
	var sent atomic.Int64
	block := make([]byte, 64<<10)
	for _, framing := range []string{"Content-Length: 10000000000\r\n", "Transfer-Encoding: chunked\r\n", "", "1xx"} {
		origin := pt.Serve(t, func(c *pt.Conn) {
			c.ReadHead()
			if framing != "1xx" {
				c.Send("HTTP/1.1 200 OK\r\n%s\r\n", framing)
			}
			for {
				var err error
				switch framing {
				case "1xx":
					_, err = c.Write(bytes.Repeat([]byte("HTTP/1.1 103 Hints\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n\r\n"), 1000))
				case "Transfer-Encoding: chunked\r\n":
					_, err = fmt.Fprintf(c, "%x\r\n%s\r\n", len(block), block)
				default:
					_, err = c.Write(block)
				}
				if err != nil {
					return
				}
				sent.Add(1)
			}
		})
		_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c := pt.Dial(t, addr)
		fmt.Fprintf(c, "GET http://%s/ HTTP/1.1\r\nHost: x\r\n\r\n", origin.Addr)
		for last := int64(-1); last != sent.Load(); time.Sleep(4 * pause) {
			last = sent.Load()
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
			t.Errorf("%q: the heap grew by %d KiB", framing, grown>>10)
		}
		c.Close()
	}
}

// Clients break off in every phase; afterwards nothing is open but what was
// open before.
func TestClientsThatBreakOff(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	auth := &pt.Auth{Token: func(ctx context.Context, n int) ([]byte, error) {
		if n%3 == 0 {
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
		return fmt.Appendf(nil, "t%d", n), nil
	}}
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
	requests := []string{
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n\r\nearly data",
		"POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 50000),
		"POST http://a.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhel",
		"GET http://a.test/ HTTP/1.1\r\nHost: a\r\n\r\nGET http://b.test/ HTTP/1.1\r\nHo",
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 40 {
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				raw := requests[(w+i)%len(requests)]
				io.WriteString(c, raw[:len(raw)*(i%5+1)/5])
				time.Sleep(time.Duration(i%7) * time.Millisecond)
				if i%10 == 9 {
					s.Flush()
				}
				if i%2 == 0 {
					reset(c)
				} else {
					c.Close()
				}
			}
		})
	}
	wg.Wait()
	for deadline := time.Now().Add(10 * time.Second); s.Open() != 0 || auth.Open() != 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections and %d exchanges are still open", s.Open(), auth.Open())
		}
	}
	if resp, _ := pt.Dial(t, addr).Get("http://a.test/"); resp.StatusCode != 200 {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
}

// Many clients at once, with refusals, closing connections and Flush between
// them: everybody gets the answer to their own request.
func TestNoAnswerGoesToAnother(t *testing.T) {
	pt.Leaks(t)
	var n atomic.Int64
	up := pt.Serve(t, func(c *pt.Conn) {
		authed := false
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			body, err := c.ReadBody(h)
			if err != nil {
				return
			}
			k := n.Add(1)
			switch authed = authed || h.Token() != "" && k%7 != 0; {
			case !authed && k%2 == 0:
				c.Send("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n407\r\n0\r\n\r\n")
				continue
			case !authed:
				c.Send(pt.Need407)
				continue
			}
			text := h.Header.Get("X-Id") + string(body)
			switch k % 5 {
			case 0:
				c.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(text), text)
			case 1:
				c.Send("HTTP/1.1 200 OK\r\n\r\n%s", text)
				return
			case 2:
				c.Send("HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
				return
			default:
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
			}
		}
	})
	s, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	var wg sync.WaitGroup
	var good atomic.Int64
	for w := range 12 {
		wg.Go(func() {
			var c *pt.Client
			for i := range 40 {
				if c == nil {
					c = pt.Dial(t, addr)
				}
				id := fmt.Sprintf("[%d.%d]", w, i)
				body := strings.Repeat(id, i*i)
				raw := fmt.Sprintf("PUT http://a.test/ HTTP/1.1\r\nHost: a\r\nX-Id: %s\r\nContent-Length: %d\r\n\r\n%s", id, len(body), body)
				if i%3 == 0 {
					body = ""
					raw = fmt.Sprintf("GET http://a.test/ HTTP/1.1\r\nHost: a\r\nX-Id: %s\r\n\r\n", id)
				}
				io.WriteString(c, raw)
				resp, got := c.Response("GET")
				for resp.StatusCode == 103 {
					resp, got = c.Response("GET")
				}
				switch {
				case resp.StatusCode == 200 && got == id+body:
					good.Add(1)
				case resp.StatusCode == 502 && pt.Cause(resp) != "": // two refusals in a row
					s.Forget() // or no token would be offered for a while
				default:
					t.Errorf("%s: got %d %.80q", id, resp.StatusCode, got)
				}
				if resp.Close {
					c.Close()
					c = nil
				}
				if i%20 == w {
					s.Flush()
				}
			}
		})
	}
	wg.Wait()
	if good.Load() < 12*40/2 {
		t.Errorf("only %d of %d requests were answered with 200", good.Load(), 12*40)
	}
}

// Serve ends whatever is going on.
func TestServeEndsWhileBusy(t *testing.T) {
	pt.Leaks(t)
	up := pt.Serve(t, func(c *pt.Conn) {
		h, err := c.ReadHead()
		if err != nil {
			return
		}
		if strings.Contains(h.Target(), "answer") {
			c.Send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
			for err == nil {
				_, err = c.Write(make([]byte, 64<<10))
			}
		}
		if !strings.Contains(h.Target(), "stuck") {
			io.Copy(io.Discard, c.R)
		}
		<-time.After(2 * pause)
	})
	auth := &pt.Auth{Token: func(ctx context.Context, n int) ([]byte, error) {
		if n == 1 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return fmt.Appendf(nil, "t%d", n), nil
	}}
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth})
	for _, raw := range []string{
		"GET http://a.test/token HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a.test/silent HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET http://a.test/answer HTTP/1.1\r\nHost: a\r\n\r\n", // which nobody reads
		"POST http://a.test/half HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf",
		"POST http://a.test/stuck HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + strings.Repeat("x", 200<<10),
		"GET /bad HTTP/1.1\r\n\r\n", // lingering
		"GET http://a.test/head HTTP/1.1\r\nHo",
	} {
		c := pt.Dial(t, addr)
		go io.WriteString(c, raw)
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(pause)
}

// Early data, half-close in both directions and data after it.
func TestF4HalfCloseBothWays(t *testing.T) {
	pt.Leaks(t)
	done := make(chan struct{})
	up := pt.Serve(t, func(c *pt.Conn) {
		defer close(done)
		if _, err := c.ReadHead(); err != nil {
			return
		}
		c.Send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\nhello")
		c.Conn.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c.R)
		if string(got) != "early late" || err != nil {
			t.Errorf("the upstream got %q, %v", got, err)
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}})
	c := pt.Dial(t, addr)
	if resp, _ := c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a\r\n\r\nearly"); resp.StatusCode != 200 || len(resp.Header) != 0 {
		t.Fatalf("got %+v", resp)
	}
	if got, err := io.ReadAll(c.R); string(got) != "hello" || err != nil {
		t.Errorf("the client got %q, %v", got, err)
	}
	io.WriteString(c, " late")
	c.CloseWrite()
	within(t, 5*time.Second, done, "end at the upstream")
}

// An upstream that never reads: the head alone does not fit into the socket.
func TestUpstreamThatReadsNothing(t *testing.T) {
	pt.Leaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var d net.Dialer
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(l.Addr().String()), AnswerTimeout: 300 * time.Millisecond,
		Auth: &pt.Auth{Token: func(context.Context, int) ([]byte, error) { return bytes.Repeat([]byte("x"), 64<<10), nil }},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := d.DialContext(ctx, network, addr)
			if err == nil {
				c.(*net.TCPConn).SetWriteBuffer(4 << 10)
			}
			return c, err
		}})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.(*net.TCPConn).SetReadBuffer(4 << 10)
			defer c.Close()
		}
	}()
	c := pt.Dial(t, addr)
	c.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(c, "GET http://a.test/ HTTP/1.1\r\nHost: a\r\nX: "+strings.Repeat("y", 120<<10)+"\r\n\r\n")
	resp, err := http.ReadResponse(c.R, nil)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the request hangs")
	}
	if err != nil || resp.StatusCode != 504 || pt.Cause(resp) != "timeout" {
		t.Errorf("got %+v, %v", resp, err)
	}
}

// Over TLS too, silence is not the end of an answer, and an upload arrives
// whole.
func TestSlowAnswersOverTLS(t *testing.T) {
	pt.Leaks(t)
	const idle = 150 * time.Millisecond
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d %v,", n, err)
		w.(http.Flusher).Flush()
		time.Sleep(3 * idle)
		io.WriteString(w, "last")
	}))
	up.StartTLS()
	defer up.Close()
	roots := x509.NewCertPool()
	roots.AddCert(up.Certificate())
	port := uint16(up.Listener.Addr().(*net.TCPAddr).Port)
	u := &proxy.Upstream{URL: up.URL, TLS: true, Host: "127.0.0.1", Port: port}
	_, addr := pt.Start(t, proxy.Config{Auth: &pt.Auth{}, TLS: &tls.Config{RootCAs: roots}, IdleTimeout: idle, Router: proxy.RouterFunc(func(_ context.Context, h string, p uint16) (proxy.Decision, error) {
		return proxy.Decision{Route: proxy.RouteProxy, Host: h, Port: p, Upstream: u, Kerberos: true, Preemptive: true}, nil
	})})
	for range 2 {
		c := pt.Dial(t, addr)
		const size = 1 << 20
		fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", size)
		c.Write(make([]byte, size))
		if resp, body := c.Response("POST"); resp.StatusCode != 200 || body != fmt.Sprintf("%d <nil>,last", size) {
			t.Errorf("got %d %q", resp.StatusCode, body)
		}
	}
}
