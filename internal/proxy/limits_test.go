package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

func TestConnectionLimit(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) { io.Copy(c.Conn, c.R) })
	s, addr := pt.Start(t, proxy.Config{Router: pt.Direct(), MaxConns: 5})
	connect := "CONNECT " + origin.Addr + " HTTP/1.1\r\nHost: x\r\n\r\n"
	var held []*pt.Client
	for range 5 {
		c := pt.Dial(t, addr)
		if resp, _ := c.Do("CONNECT", connect); resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
		held = append(held, c)
	}
	for range 10 {
		c := pt.Dial(t, addr)
		resp, body := c.Do("CONNECT", connect)
		if resp.StatusCode != 503 || pt.Cause(resp) != "internal" || !strings.Contains(resp.Header.Get("Proxy-Status"), "connection_limit_reached") || !strings.Contains(body, "as many connections") {
			t.Errorf("one too many: got %d %s %q", resp.StatusCode, pt.Cause(resp), body)
		}
		c.Close()
	}
	// What is held goes on, and a place that becomes free is used.
	for _, c := range held {
		io.WriteString(c, "ping")
		buf := make([]byte, 4)
		if _, err := io.ReadFull(c.R, buf); err != nil || string(buf) != "ping" {
			t.Errorf("a held tunnel: %q %v", buf, err)
		}
	}
	held[0].Close()
	for deadline := time.Now().Add(20 * time.Second); s.Open() >= 5; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections are still counted", s.Open())
		}
	}
	if resp, _ := pt.Dial(t, addr).Do("CONNECT", connect); resp.StatusCode != 200 {
		t.Errorf("after one has closed: got %d", resp.StatusCode)
	}
}

func TestHeadLimits(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) {
		for {
			if _, err := c.ReadHead(); err != nil {
				return
			}
			c.Send(pt.OK)
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	get := func(fields string) *http.Response {
		c := pt.Dial(t, addr)
		go io.WriteString(c, "GET http://"+origin.Addr+"/ HTTP/1.1\r\nHost: x\r\n"+fields+"\r\n")
		resp, _ := c.Response("GET")
		return resp
	}
	if resp := get("X-Big: " + strings.Repeat("a", 100<<10) + "\r\n"); resp.StatusCode != 200 {
		t.Errorf("a field of 100 KB: got %d", resp.StatusCode)
	}
	for name, fields := range map[string]string{
		"a field of 1 MB":   "X-Big: " + strings.Repeat("a", 1<<20) + "\r\n",
		"a thousand fields": strings.Repeat("A: b\r\n", 1000),
	} {
		if resp := get(fields); resp.StatusCode != 400 || pt.Cause(resp) != "bad_request" {
			t.Errorf("%s: got %d %s", name, resp.StatusCode, pt.Cause(resp))
		}
	}
}

func TestSlowHeadIsBounded(t *testing.T) {
	pt.Leaks(t)
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct(), HeadTimeout: 200 * time.Millisecond, IdleTimeout: 300 * time.Millisecond})
	for _, sent := range []string{"", "GET http://a.test/ HTT"} {
		c := pt.Dial(t, addr)
		io.WriteString(c, sent)
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("after %q: %v, want the end", sent, err)
		}
	}
}

func TestNotHTTPIsAnsweredAtOnce(t *testing.T) {
	pt.Leaks(t)
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	for name, hello := range map[string]string{"TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "SOCKS 5": "\x05\x01\x00", "SOCKS 4": "\x04\x01\x00\x50"} {
		c := pt.Dial(t, addr)
		resp, body := c.Do("GET", hello)
		if resp.StatusCode != 400 || pt.Cause(resp) != "bad_request" || !strings.Contains(body, "not HTTP") {
			t.Errorf("%s: got %d %q", name, resp.StatusCode, body)
		}
	}
}

// A client that is in the middle of a large upload still sees an early answer.
func TestEarlyAnswerToALargeUpload(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) {
		if _, err := c.ReadHead(); err == nil {
			c.Send("HTTP/1.1 503 Not Now\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlater")
			c.Conn.(interface{ CloseWrite() error }).CloseWrite()
			io.CopyN(io.Discard, c.R, 1<<20)
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct()})
	c := pt.Dial(t, addr)
	io.WriteString(c, "PUT http://"+origin.Addr+"/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
	sending := make(chan error, 1)
	go func() { // as curl does: it sends until it has read the answer
		_, err := io.CopyN(c, zeros{}, 64<<20)
		sending <- err
	}()
	resp, body := c.Response("PUT")
	if resp.StatusCode != 503 || body != "later" || !resp.Close {
		t.Errorf("got %d %q, close %v", resp.StatusCode, body, resp.Close)
	}
	c.Close()
	<-sending
}

// Idle connections that the other side has closed, or that nobody needs any
// more, do not keep their files.
func TestIdleConnectionsAreSwept(t *testing.T) {
	pt.Leaks(t)
	ended := make(chan struct{}, 2)
	up := pt.Serve(t, func(c *pt.Conn) {
		if _, err := c.ReadHead(); err != nil {
			return
		}
		c.Send(pt.OK)
		io.Copy(io.Discard, c.R) // until the proxy closes
		ended <- struct{}{}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Direct(), PoolIdle: 400 * time.Millisecond})
	pt.Dial(t, addr).Get("http://" + up.Addr + "/")
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Error("an idle connection is kept for ever")
	}
}

// Empty lines behind a body are no head: whoever sends nothing else is not
// waited for without end.
func TestEmptyLinesAreNotWaitedBehind(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Serve(t, func(c *pt.Conn) {
		h, err := c.ReadHead()
		if err != nil {
			return
		}
		if _, err := c.ReadBody(h); err == nil {
			c.Send(pt.OK)
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(origin.Addr), Auth: &pt.Auth{}, HeadTimeout: 200 * time.Millisecond})
	c := pt.Dial(t, addr)
	if resp, _ := c.Do("POST", "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi\r\n\r\n"); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.R.ReadByte(); err != io.EOF {
		t.Errorf("the connection is still held: %v", err)
	}
}
