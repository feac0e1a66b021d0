//go:build linux || darwin || windows

package control_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"kerbpass/internal/control"
	"kerbpass/internal/testenv"
)

// raw sends text over a connection of its own and returns the whole answer.
func raw(t *testing.T, path, text string) string {
	t.Helper()
	c, err := control.Dial(t.Context(), path)
	must(t, err)
	defer c.Close()
	// The server may refuse before it has read everything.
	_, _ = io.WriteString(c, text)
	b, _ := io.ReadAll(c)
	return string(b)
}

func TestBrowsersRefused(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	called := 0
	stop := serve(t, path, anyone, func(w http.ResponseWriter, _ *http.Request) {
		called++
		control.WriteJSON(w, "served")
	})
	const end = "Connection: close\r\n\r\n"
	if got := raw(t, path, "GET / HTTP/1.1\r\nHost: kerbpass\r\n"+end); !strings.Contains(got, "served") {
		t.Fatalf("plain request: got %q", got)
	}
	for name, head := range map[string]string{
		"Origin":       "GET / HTTP/1.1\r\nHost: kerbpass\r\nOrigin: http://evil.example\r\n",
		"null Origin":  "POST / HTTP/1.1\r\nHost: kerbpass\r\nOrigin: null\r\nContent-Length: 0\r\n",
		"empty Origin": "GET / HTTP/1.1\r\nHost: kerbpass\r\nOrigin:\r\n",
		"Referer":      "GET / HTTP/1.1\r\nHost: kerbpass\r\nReferer: http://evil.example/\r\n",
		"other Host":   "GET / HTTP/1.1\r\nHost: localhost\r\n",
		"Host, port":   "GET / HTTP/1.1\r\nHost: kerbpass:80\r\n",
		"other URL":    "GET http://evil.example/ HTTP/1.1\r\nHost: kerbpass\r\n",
		"no Host":      "GET / HTTP/1.0\r\n",
	} {
		if got := raw(t, path, head+end); !strings.HasPrefix(got, "HTTP/1.1 403") && !strings.HasPrefix(got, "HTTP/1.0 403") {
			t.Errorf("%s: got %q, want 403", name, got)
		}
	}
	must(t, stop())
	if called != 1 {
		t.Errorf("the handler ran %d times, want once", called)
	}
}

func TestRefusedPeerGetsNoByte(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	l, err := control.Listen(path)
	must(t, err)
	var log bytes.Buffer
	s, err := control.New(control.Config{
		Allow:   func(net.Conn) error { return errors.New("not you") },
		Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("served") }),
		Log:     slog.New(slog.NewTextHandler(&log, nil)),
	})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	for range 3 {
		if got := raw(t, path, "GET / HTTP/1.1\r\nHost: kerbpass\r\n\r\n"); got != "" {
			t.Errorf("got %q, want nothing", got)
		}
	}
	cancel()
	must(t, <-ended)
	if got := strings.Count(log.String(), "not you"); got != 3 {
		t.Errorf("got %d refusals in the log, want 3", got)
	}
}

func TestRequestBounds(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	serve(t, path, anyone, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			control.WriteError(w, http.StatusRequestEntityTooLarge, err.Error(), "")
		}
	})
	long := strings.Repeat("x", 64<<10)
	if got := raw(t, path, "GET / HTTP/1.1\r\nHost: kerbpass\r\nX: "+long+"\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("long header: got %.60q, want 431", got)
	}
	c := control.NewClient(path, anyone)
	must(t, c.Post(t.Context(), "/", long, nil))
	var remote *control.RemoteError
	if err := c.Post(t.Context(), "/", strings.Repeat(long, 32), nil); !errors.As(err, &remote) || remote.Status != 413 {
		t.Errorf("long body: got %v, want 413", err)
	}
}

// A handler asks the server to stop, as "quit" does, and still gets its answer
// out.
func TestAnswersBeforeStop(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	l, err := control.Listen(path)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := control.New(control.Config{Allow: anyone, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		if err := r.Context().Err(); err != nil {
			t.Errorf("the request ended with the server: %v", err)
		}
		control.WriteJSON(w, "stopping")
	})})
	must(t, err)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	var got string
	if err := control.NewClient(path, anyone).Post(t.Context(), "/v1/quit", nil, &got); err != nil || got != "stopping" {
		t.Errorf("got %q, %v", got, err)
	}
	must(t, <-ended)
}

// The server stops while a handler is busy and another client has said
// nothing yet: both are gone when Serve returns, and the caller gets an error.
func TestStopDuringCall(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	busy, handlerEnded := make(chan struct{}), false
	stop := serve(t, path, anyone, func(w http.ResponseWriter, r *http.Request) {
		close(busy)
		<-r.Context().Done()
		handlerEnded = true
	})
	silent, err := control.Dial(t.Context(), path)
	must(t, err)
	defer silent.Close()
	call := make(chan error, 1)
	go func() { // with a body that the handler leaves alone, so that its context has to be ended for it
		call <- control.NewClient(path, anyone).Post(t.Context(), "/", strings.Repeat("x", 500<<10), nil)
	}()
	<-busy
	must(t, stop())
	if !handlerEnded {
		t.Error("Serve returned before the handler")
	}
	if err := <-call; err == nil {
		t.Error("the call to the stopped server succeeded")
	}
	if _, err := silent.Read(make([]byte, 1)); err == nil {
		t.Error("the silent connection is still open")
	}
}

// What a crash does to a call in each of its stages.
func TestServerGoneMidCall(t *testing.T) {
	testenv.NoLeaks(t)
	for name, answer := range map[string]string{
		"before the answer": "",
		"in the header":     "HTTP/1.1 200 OK\r\nContent-Le",
		"in the body":       "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"a\":",
		"in a chunk":        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := channelPath(t)
			l, err := control.Listen(path)
			must(t, err)
			defer l.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				_, _ = c.Read(make([]byte, 4096))
				_, _ = io.WriteString(c, answer)
			}()
			var out any
			err = control.NewClient(path, anyone).Get(t.Context(), "/", nil, &out)
			var remote *control.RemoteError
			if err == nil || errors.Is(err, control.ErrNotRunning) || errors.As(err, &remote) {
				t.Errorf("got %v (%v), want an error of the connection", err, out)
			}
			<-done
		})
	}
}

func TestServeReportsListener(t *testing.T) {
	testenv.NoLeaks(t)
	l, err := control.Listen(channelPath(t))
	must(t, err)
	s, err := control.New(control.Config{Allow: anyone, Handler: http.NotFoundHandler()})
	must(t, err)
	must(t, l.Close())
	if err := s.Serve(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want the listener's error", err)
	}
}
