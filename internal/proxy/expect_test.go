package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// staleUpstream authenticates connections. While stale is set it refuses the
// next request on an authenticated connection, once, as if its credentials had
// gone stale; then it reads the body ("drain"), or hangs up ("close").
type staleUpstream struct {
	*pt.Server
	stale   atomic.Pointer[string]
	deaf    atomic.Bool  // does not answer an Expect
	no417   atomic.Bool  // answers 417 to one
	early   atomic.Int64 // answers uploads with this status before the body
	posts   atomic.Int64 // carried out
	read    atomic.Int64 // bytes of body, wasted ones included
	asked   atomic.Int64 // heads with Expect
	body    atomic.Pointer[[]byte]
	perReq  atomic.Bool // wants a token on every request
	refused atomic.Int64
}

func newStaleUpstream(t *testing.T) *staleUpstream {
	u := &staleUpstream{}
	u.Server = pt.Serve(t, func(c *pt.Conn) {
		authed := false
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			authed = h.Token() != "" || authed && !u.perReq.Load()
			if p := u.stale.Load(); p != nil && h.Method() == "POST" && u.stale.CompareAndSwap(p, nil) {
				authed = false
				u.refused.Add(1)
				if *p == "close" {
					c.Send("HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
					return
				}
			}
			expect := h.Header.Get("Expect") != ""
			if expect {
				u.asked.Add(1)
			}
			switch {
			case !authed:
				u.refused.Add(1)
				c.Send(pt.Need407)
				n, err := c.ReadBody(h)
				u.read.Add(int64(len(n)))
				if err != nil {
					return
				}
				continue
			case h.Method() == "POST" && expect && u.no417.Load():
				c.Send("HTTP/1.1 417 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				return
			case h.Method() == "POST" && u.early.Load() != 0:
				c.Send("HTTP/1.1 %d Early\r\nContent-Length: 0\r\n\r\n", u.early.Load())
				return
			case expect && !u.deaf.Load():
				c.Send("HTTP/1.1 100 Continue\r\n\r\n")
			}
			body, err := c.ReadBody(h)
			u.read.Add(int64(len(body)))
			if err != nil {
				return
			}
			if h.Method() == "POST" {
				u.posts.Add(1)
				u.body.Store(&body)
			}
			c.Send(pt.OK)
		}
	})
	return u
}

func (u *staleUpstream) goStale(how string) { u.stale.Store(&how) }

const uploadSize = 2 << 20 // far more than is kept for a repeat

// upload posts size bytes and reads the answer meanwhile, as careful clients do.
func upload(t *testing.T, addr string, size int, asChunks bool, fields string) (*http.Response, []byte) {
	t.Helper()
	body := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	c := pt.Dial(t, addr)
	framing := fmt.Sprintf("Content-Length: %d", len(body))
	if asChunks {
		framing = "Transfer-Encoding: chunked"
	}
	fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n%s%s\r\n\r\n", fields, framing)
	go func() {
		if !asChunks {
			c.Write(body)
			return
		}
		for rest := body; len(rest) > 0; {
			n := min(len(rest), 10000)
			fmt.Fprintf(c, "%x\r\n%s\r\n", n, rest[:n])
			rest = rest[n:]
		}
		io.WriteString(c, "0\r\n\r\n")
	}()
	resp, _ := c.Response("POST")
	return resp, body
}

// warmed is a proxy with one pooled connection that has served without a token.
func warmed(t *testing.T, u *staleUpstream) (addr string, auth *pt.Auth) {
	auth = &pt.Auth{}
	_, addr = pt.Start(t, proxy.Config{Router: pt.Via(u.Addr), Auth: auth})
	c := pt.Dial(t, addr)
	for range 3 {
		if resp, _ := c.Get("http://a.test/"); resp.StatusCode != 200 {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	return addr, auth
}

// A large upload over credentials that went stale is carried out once, whole,
// and no byte of it is sent in vain.
func TestE3StaleUploadIsCarriedOutOnce(t *testing.T) {
	for _, how := range []string{"drain", "close"} {
		for _, asChunks := range []bool{false, true} {
			t.Run(fmt.Sprint(how, " chunked ", asChunks), func(t *testing.T) {
				u := newStaleUpstream(t)
				addr, auth := warmed(t, u)
				u.goStale(how)
				resp, body := upload(t, addr, uploadSize, asChunks, "")
				if resp.StatusCode != 200 || u.posts.Load() != 1 || u.refused.Load() == 0 {
					t.Fatalf("got %d, %d POSTs carried out, %d refused", resp.StatusCode, u.posts.Load(), u.refused.Load())
				}
				if !bytes.Equal(*u.body.Load(), body) {
					t.Errorf("the body has %d bytes, want %d, or differs", len(*u.body.Load()), len(body))
				}
				if n := u.read.Load(); n > uploadSize*11/10 {
					t.Errorf("%d bytes of body reached the upstream, want at most 1.1 times %d", n, uploadSize)
				}
				if n := auth.Made(); n != 2 {
					t.Errorf("%d tokens, want 2", n)
				}
				// Stale credentials do not make it an upstream that wants a
				// token on every request.
				c := pt.Dial(t, addr)
				c.Get("http://a.test/")
				c.Get("http://a.test/")
				if n := auth.Made(); n != 2 {
					t.Errorf("%d tokens after two more requests, want 2", n)
				}
			})
		}
	}
}

// An upstream that does not answer an Expect costs a short wait once.
func TestDeafUpstreamIsAskedOnce(t *testing.T) {
	u := newStaleUpstream(t)
	u.deaf.Store(true)
	addr, _ := warmed(t, u)
	for range 3 {
		if resp, body := upload(t, addr, uploadSize, false, ""); resp.StatusCode != 200 || !bytes.Equal(*u.body.Load(), body) {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	if n := u.asked.Load(); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

// Somebody who cannot bear an Expect that the client never sent gets the
// request without it, and the client does not hear of it.
func TestExpectationFailedIsOurs(t *testing.T) {
	u := newStaleUpstream(t)
	u.no417.Store(true)
	addr, _ := warmed(t, u)
	for range 2 {
		if resp, body := upload(t, addr, uploadSize, false, ""); resp.StatusCode != 200 || !bytes.Equal(*u.body.Load(), body) {
			t.Fatalf("got %d", resp.StatusCode)
		}
	}
	if u.asked.Load() != 1 || u.posts.Load() != 2 {
		t.Errorf("asked %d times, %d POSTs; want 1 and 2", u.asked.Load(), u.posts.Load())
	}
}

// Only what cannot be kept is held back.
func TestSmallUploadsAreNotHeldBack(t *testing.T) {
	u := newStaleUpstream(t)
	addr, _ := warmed(t, u)
	for _, size := range []int{16, 64 << 10, 256 << 10} {
		if resp, _ := upload(t, addr, size, false, ""); resp.StatusCode != 200 {
			t.Fatalf("%d bytes: got %d", size, resp.StatusCode)
		}
	}
	if n := u.asked.Load(); n != 0 {
		t.Errorf("%d small uploads were held back", n)
	}
}

// The client sees the 100 that it asked for, and none that it did not.
func TestE5ContinueGoesToWhoAsked(t *testing.T) {
	for _, asks := range []bool{false, true} {
		t.Run(fmt.Sprint(asks), func(t *testing.T) {
			u := newStaleUpstream(t)
			addr, _ := warmed(t, u)
			u.goStale("drain")
			c := pt.Dial(t, addr)
			fields := ""
			if asks {
				fields = "Expect: 100-continue\r\n"
			}
			fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\n%sContent-Length: %d\r\n\r\n", fields, uploadSize)
			if asks {
				// Like curl: no byte before the 100.
				if line, err := c.R.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100 ") {
					t.Fatalf("got %q, %v", line, err)
				}
				for line := ""; line != "\r\n"; {
					line, _ = c.R.ReadString('\n')
				}
			}
			go c.Write(make([]byte, uploadSize))
			line, err := c.R.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "HTTP/1.1 200 ") {
				t.Fatalf("got %q, %v", line, err)
			}
			if u.posts.Load() != 1 || u.read.Load() != uploadSize {
				t.Errorf("%d POSTs, %d bytes", u.posts.Load(), u.read.Load())
			}
		})
	}
}

// A final answer in place of the leave goes to the client, and the body
// nowhere.
func TestFinalAnswerInPlaceOfLeave(t *testing.T) {
	u := newStaleUpstream(t)
	addr, _ := warmed(t, u)
	u.early.Store(413)
	resp, _ := upload(t, addr, uploadSize, false, "")
	if resp.StatusCode != 413 || u.read.Load() != 0 {
		t.Errorf("got %d, %d bytes sent", resp.StatusCode, u.read.Load())
	}
}

// An upstream that wants a token on every request is found out by one 407 and
// served unasked from then on: on pooled connections, with bodies small and
// large, and after it was restarted.
func TestG5EveryRequestWithItsToken(t *testing.T) {
	u := newStaleUpstream(t)
	u.perReq.Store(true)
	auth := &pt.Auth{}
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(u.Addr), Auth: auth})
	ask := func(n int) {
		t.Helper()
		c := pt.Dial(t, addr)
		for range n {
			if resp, _ := c.Get("http://a.test/"); resp.StatusCode != 200 {
				t.Fatalf("got %d", resp.StatusCode)
			}
		}
	}
	ask(5)
	for _, size := range []int{16, 64 << 10, uploadSize} {
		if resp, body := upload(t, addr, size, size > 100, ""); resp.StatusCode != 200 || !bytes.Equal(*u.body.Load(), body) {
			t.Fatalf("%d bytes: got %d", size, resp.StatusCode)
		}
	}
	u.DropAll()
	ask(5)
	if n := u.refused.Load(); n != 1 {
		t.Errorf("%d requests drew a 407, want the second one only", n)
	}
	seen := map[string]bool{}
	for i, h := range u.Heads() {
		tok := h.Token()
		if seen[tok] || tok == "" && i != 1 {
			t.Errorf("request %d: token %q", i, tok)
		}
		seen[tok] = true
	}
}

// An upstream that takes its time with the 100 gets the body after a short
// wait, whole, and its late word does not become the answer.
func TestLateContinue(t *testing.T) {
	late := make(chan struct{})
	srv := pt.Serve(t, func(c *pt.Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if h.Method() != "POST" {
				c.Send(pt.OK)
				continue
			}
			b := make([]byte, 1)
			if _, err := io.ReadFull(c.R, b); err != nil { // the body came unasked
				return
			}
			c.Send("HTTP/1.1 100 Continue\r\n\r\n")
			close(late)
			if _, err := io.CopyN(io.Discard, c.R, uploadSize-1); err != nil {
				return
			}
			c.Send(pt.OK)
		}
	})
	_, addr := pt.Start(t, proxy.Config{Router: pt.Via(srv.Addr), Auth: &pt.Auth{}})
	c := pt.Dial(t, addr)
	fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n", uploadSize)
	go c.Write(make([]byte, uploadSize))
	resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "POST"})
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("got %v, %v", resp, err)
	}
	select {
	case <-late:
	case <-time.After(10 * time.Second):
		t.Error("the upstream saw no body")
	}
}

// A 417 that comes when the body is on its way already does not make two of it,
// nor a whole one of what is left: what was kept is sent again, and where that
// is not all, the client hears of it, and can repeat the request.
func TestLateExpectationFailed(t *testing.T) {
	for _, asChunks := range []bool{false, true} {
		for _, after := range []int{1000, uploadSize / 2} { // kept, and not kept
			t.Run(fmt.Sprint("chunked ", asChunks, " after ", after), func(t *testing.T) {
				var first atomic.Bool
				bodies := make(chan []byte, 4)
				srv := pt.Serve(t, func(c *pt.Conn) {
					h, err := c.ReadHead()
					if err != nil {
						return
					}
					if first.CompareAndSwap(false, true) {
						io.CopyN(io.Discard, c.R, int64(after)) // comes unasked
						c.Send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
						io.Copy(io.Discard, c.R)
						return
					}
					body, err := c.ReadBody(h)
					if err != nil {
						return
					}
					bodies <- body
					c.Send(pt.OK)
				})
				_, addr := pt.Start(t, proxy.Config{Router: pt.Via(srv.Addr), Auth: &pt.Auth{}})
				c := pt.Dial(t, addr)
				body := bytes.Repeat([]byte("0123456789abcdef"), uploadSize/16)
				if !asChunks {
					fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", len(body), body[:after])
				} else {
					fmt.Fprintf(c, "POST http://a.test/ HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", after, body[:after])
				}
				kept := after < 10000
				if kept {
					// The rest comes when the upload stands on its second connection.
					until(t, "the second attempt", func() bool { return srv.Conns() == 2 })
				}
				go func() {
					if asChunks {
						fmt.Fprintf(c, "%x\r\n%s\r\n0\r\n\r\n", len(body)-after, body[after:])
					} else {
						c.Write(body[after:])
					}
				}()
				resp, _ := c.Response("POST")
				switch {
				case kept && resp.StatusCode == 200:
					if got := <-bodies; !bytes.Equal(got, body) {
						t.Errorf("a body of %d bytes was carried out, want %d", len(got), len(body))
					}
				case !kept && resp.StatusCode == 502 && pt.Cause(resp) == "body_not_replayable":
				default:
					t.Errorf("got %d %s", resp.StatusCode, pt.Cause(resp))
				}
				if len(bodies) != 0 {
					t.Errorf("carried out again, with %d bytes", len(<-bodies))
				}
				if kept {
					return
				}
				if resp, body := upload(t, addr, uploadSize, asChunks, ""); resp.StatusCode != 200 || !bytes.Equal(<-bodies, body) {
					t.Errorf("the repetition got %d", resp.StatusCode)
				}
			})
		}
	}
}
