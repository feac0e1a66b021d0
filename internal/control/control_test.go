//go:build linux || darwin || windows

package control_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/control"
	"kerbpass/internal/testenv"
)

// The test binary is also a second process, and another user's: with CHILD set
// it does one thing, prints one line and waits until its standard input ends.
func TestMain(m *testing.M) {
	path := os.Getenv("CHILD_PATH")
	switch os.Getenv("CHILD") {
	case "":
		os.Exit(m.Run())
	case "listen":
		l, err := control.Listen(path)
		fmt.Println("listens:", err)
		io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(l)
	case "get": // all that a stranger is told
		c, err := net.Dial("unix", path)
		if err != nil {
			fmt.Println(err)
			return
		}
		io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: kerbpass\r\nConnection: close\r\n\r\n")
		b, _ := io.ReadAll(c)
		fmt.Printf("read %q\n", b)
	case "pose": // as the helper
		l, err := net.Listen("unix", path)
		if err != nil {
			fmt.Println(err)
			return
		}
		os.Chmod(path, 0o666)
		fmt.Println("listens: <nil>")
		c, err := l.Accept()
		if err != nil {
			fmt.Println(err)
			return
		}
		b, err := io.ReadAll(c)
		fmt.Printf("read %q %v\n", b, err)
	}
}

type child struct {
	*exec.Cmd
	out *bufio.Reader
}

// start runs cmd, which is the test binary in some way.
func start(t *testing.T, cmd *exec.Cmd, what, path string) child {
	t.Helper()
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "CHILD="+what, "CHILD_PATH="+path, "GORACE=atexit_sleep_ms=0")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		testenv.Missing(t, "running a child: %v", err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // killed, in one test
	})
	return child{cmd, bufio.NewReader(out)}
}

func (c child) expect(t *testing.T, want string) {
	t.Helper()
	got, err := c.out.ReadString('\n')
	if err != nil || strings.TrimSpace(got) != want {
		t.Fatalf("child said %q, %v, want %q", got, err, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func anyone(net.Conn) error { return nil }

// serve runs a server until the test ends or stop is called, which returns
// what Serve returned.
func serve(t *testing.T, path string, allow func(net.Conn) error, h http.HandlerFunc) (stop func() error) {
	t.Helper()
	l, err := control.Listen(path)
	must(t, err)
	s, err := control.New(control.Config{Allow: allow, Handler: h})
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, l) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Serve: got %v, want nil", err)
		}
	})
	return stop
}

func TestSecondInstance(t *testing.T) {
	path := channelPath(t)
	l, err := control.Listen(path)
	must(t, err)
	_, again := control.Listen(path)
	if !errors.Is(again, control.ErrRunning) {
		t.Fatalf("second in this process: got %v, want ErrRunning", again)
	}
	start(t, exec.Command(os.Args[0]), "listen", path).expect(t, "listens: "+again.Error())
	c, err := control.Dial(t.Context(), path)
	if err != nil {
		t.Errorf("the first one is no longer reachable: %v", err)
	} else {
		c.Close()
	}
	must(t, l.Close())
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: got %v, want net.ErrClosed", err)
	}
	if err := control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("call after Close: got %v, want ErrNotRunning", err)
	}
	next, err := control.Listen(path)
	must(t, err)
	next.Close()
}

// A crash takes no channel away: neither from callers, who are told, nor from
// the next helper.
func TestCrash(t *testing.T) {
	path := channelPath(t)
	crashed := start(t, exec.Command(os.Args[0]), "listen", path)
	crashed.expect(t, "listens: <nil>")
	must(t, crashed.Process.Kill())
	_ = crashed.Wait()
	leftByCrash(t, path)
	if err := control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("call: got %v, want ErrNotRunning", err)
	}
	serve(t, path, anyone, func(w http.ResponseWriter, _ *http.Request) { control.WriteJSON(w, 1) })
	must(t, control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil))
}

// More callers at once than any system keeps waiting, each with a body that
// does not fit into a buffer.
func TestManyCalls(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	serve(t, path, anyone, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })
	client := control.NewClient(path, anyone)
	body := strings.Repeat("x", 100<<10)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			var got string
			sent := fmt.Sprint(i, body)
			if err := client.Post(t.Context(), "/", sent, &got); err != nil || got != sent {
				t.Errorf("call %d: got %d bytes, %v, want %d", i, len(got), err, len(sent))
			}
		})
	}
	wg.Wait()
}

// Clients that go before they have asked or been answered harm nobody.
func TestClientsGoEarly(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	busy, noticed := make(chan struct{}), make(chan struct{})
	serve(t, path, anyone, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			close(busy)
			<-r.Context().Done()
			close(noticed)
			return
		}
		control.WriteJSON(w, 1)
	})
	send := func(text string) net.Conn {
		c, err := control.Dial(t.Context(), path)
		must(t, err)
		_, err = io.WriteString(c, text)
		must(t, err)
		return c
	}
	for _, text := range []string{"", "GET / HT", "POST / HTTP/1.1\r\nHost: kerbpass\r\nContent-Length: 1000\r\n\r\nhalf"} {
		must(t, send(text).Close())
	}
	c := send("PUT / HTTP/1.1\r\nHost: kerbpass\r\n\r\n")
	<-busy
	must(t, c.Close())
	<-noticed
	must(t, control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil))
}

func TestDeadlines(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	l, err := control.Listen(path)
	must(t, err)
	defer l.Close()
	client, err := control.Dial(t.Context(), path)
	must(t, err)
	defer client.Close()
	server, err := l.Accept()
	must(t, err)
	defer server.Close()

	both := map[string]net.Conn{"client": client, "server": server}
	for name, conn := range both {
		must(t, conn.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		if n, err := conn.Read(make([]byte, 1)); n != 0 || !timedOut(err) {
			t.Errorf("%s reads: got %d, %v, want a time-out", name, n, err)
		}
	}
	const tooMuch = 8 << 20
	for name, conn := range both {
		must(t, conn.SetWriteDeadline(time.Now().Add(20*time.Millisecond)))
		if n, err := conn.Write(make([]byte, tooMuch)); n == tooMuch || !timedOut(err) {
			t.Errorf("%s writes: got %d, %v, want a time-out", name, n, err)
		}
	}
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestCloseEndsRead(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	l, err := control.Listen(path)
	must(t, err)
	defer l.Close()
	c, err := control.Dial(t.Context(), path)
	must(t, err)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	must(t, c.Close())
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v, want net.ErrClosed", err)
	}
}

func TestCloseEndsAccept(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	l, err := control.Listen(path)
	must(t, err)
	accepted, ended := make(chan struct{}), make(chan error, 2)
	for range cap(ended) {
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					ended <- err
					return
				}
				c.Close()
				accepted <- struct{}{}
			}
		}()
	}
	for range 3 {
		c, err := control.Dial(t.Context(), path)
		must(t, err)
		<-accepted
		c.Close()
	}
	must(t, l.Close())
	for range cap(ended) {
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("got %v, want net.ErrClosed", err)
		}
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: got %v, want net.ErrClosed", err)
	}
}

func TestOnlyOneWins(t *testing.T) {
	path := channelPath(t)
	listeners := make(chan net.Listener, 20)
	var wg sync.WaitGroup
	for range cap(listeners) {
		wg.Go(func() {
			l, err := control.Listen(path)
			switch {
			case err == nil:
				listeners <- l
			case !errors.Is(err, control.ErrRunning):
				t.Errorf("got %v, want ErrRunning", err)
			}
		})
	}
	wg.Wait()
	if len(listeners) != 1 {
		t.Fatalf("got %d listeners, want 1", len(listeners))
	}
	(<-listeners).Close()
}

func TestCalls(t *testing.T) {
	testenv.NoLeaks(t)
	path := channelPath(t)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/why", func(w http.ResponseWriter, r *http.Request) {
		control.WriteJSON(w, map[string]string{"route": "direct", "for": r.FormValue("url")})
	})
	mux.HandleFunc("POST /v1/echo", func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Content-Type"); got != "application/json" {
			t.Errorf("content type: got %q", got)
		}
		if !r.Close {
			t.Error("the client keeps its connection open")
		}
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("/v1/no", func(w http.ResponseWriter, _ *http.Request) {
		control.WriteError(w, http.StatusConflict, "no ticket", "run: kerbpass login")
	})
	mux.HandleFunc("/v1/plain", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) })
	mux.HandleFunc("/v1/redirect", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/v1/why", http.StatusFound) })
	mux.HandleFunc("/v1/text", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "no JSON") })
	mux.HandleFunc("/v1/huge", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat(" ", 9<<20)) })
	mux.HandleFunc("/v1/bad", func(w http.ResponseWriter, _ *http.Request) { control.WriteJSON(w, func() {}) })
	serve(t, path, anyone, mux.ServeHTTP)
	c := control.NewClient(path, anyone)
	ctx := t.Context()

	var why struct{ Route, For string }
	must(t, c.Get(ctx, "/v1/why", url.Values{"url": {"http://a.example/?x=1&y"}}, &why))
	if why.Route != "direct" || why.For != "http://a.example/?x=1&y" {
		t.Errorf("Get: got %+v", why)
	}
	var echo []string
	must(t, c.Post(ctx, "/v1/echo", []string{"git.corp.example"}, &echo))
	if len(echo) != 1 || echo[0] != "git.corp.example" {
		t.Errorf("Post: got %q", echo)
	}
	must(t, c.Get(ctx, "/v1/why", nil, nil))

	for path, want := range map[string]control.RemoteError{
		"/v1/no":       {Status: 409, Message: "no ticket", Hint: "run: kerbpass login"},
		"/v1/plain":    {Status: 502, Message: "the helper answers 502 Bad Gateway"},
		"/v1/redirect": {Status: 302, Message: "the helper answers 302 Found"},
		"/v1/unknown":  {Status: 404, Message: "the helper answers 404 Not Found"},
		"/v1/bad":      {Status: 500, Message: "answer cannot be encoded: json: unsupported type: func()"},
	} {
		var remote *control.RemoteError
		if err := c.Get(ctx, path, nil, nil); !errors.As(err, &remote) || *remote != want {
			t.Errorf("%s: got %#v, want %#v", path, err, want)
		}
	}
	var out any
	if err := c.Get(ctx, "/v1/text", nil, &out); err == nil || !strings.Contains(err.Error(), "answer") {
		t.Errorf("text: got %v, want an error", err)
	}
	if err := c.Get(ctx, "/v1/huge", nil, nil); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("huge answer: got %v, want an error", err)
	}
	if err := c.Post(ctx, "/v1/echo", func() {}, nil); err == nil {
		t.Error("a func was sent as JSON")
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Get(gone, "/v1/why", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestPeerChecksAreRequired(t *testing.T) {
	if _, err := control.New(control.Config{Handler: http.NotFoundHandler()}); err == nil {
		t.Error("a server without a peer check was made")
	}
	if _, err := control.New(control.Config{Allow: anyone}); err == nil {
		t.Error("a server without a handler was made")
	}
	path := channelPath(t)
	serve(t, path, anyone, func(w http.ResponseWriter, _ *http.Request) { t.Error("called without a peer check") })
	if err := control.NewClient(path, nil).Get(t.Context(), "/", nil, nil); err == nil || !strings.Contains(err.Error(), "peer check") {
		t.Errorf("got %v, want an error about the peer check", err)
	}
}
