//go:build linux || darwin

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
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

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

// start runs the test binary with the given user id, 0 for our own. A binary
// below a private folder is out of another user's reach, but not through the
// link of the running one.
func start(t *testing.T, uid uint32, what, path string) child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	if uid != 0 {
		cmd = exec.Command("/proc/self/exe")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	cmd.Dir, cmd.Stderr = "/", os.Stderr
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
		testenv.Missing(t, "running a child as user %d: %v", uid, err)
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

// shortDir is short enough for a socket, which t.TempDir may not be.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func socketPath(t *testing.T) string { return filepath.Join(shortDir(t), "kerbpass", "control.sock") }

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

func TestListenModes(t *testing.T) {
	path := socketPath(t)
	l, err := control.Listen(path)
	must(t, err)
	defer l.Close()
	for name, want := range map[string]os.FileMode{
		filepath.Dir(path): os.ModeDir | 0o700,
		path:               os.ModeSocket | 0o600,
		path + ".lock":     0o600,
	} {
		if st, err := os.Lstat(name); err != nil || st.Mode() != want {
			t.Errorf("%s: got %v, %v, want %v", name, st.Mode(), err, want)
		}
	}
}

func TestSecondInstance(t *testing.T) {
	path := socketPath(t)
	l, err := control.Listen(path)
	must(t, err)
	if _, err := control.Listen(path); !errors.Is(err, control.ErrRunning) {
		t.Errorf("second in this process: got %v, want ErrRunning", err)
	}
	start(t, 0, "listen", path).expect(t, "listens: control socket "+path+": the helper is already running")
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Errorf("the first one is no longer reachable: %v", err)
	} else {
		c.Close()
	}
	must(t, l.Close())
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: got %v, want net.ErrClosed", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
	next, err := control.Listen(path)
	must(t, err)
	next.Close()
}

func TestOnlyOneWins(t *testing.T) {
	path := socketPath(t)
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

func TestStaleSocket(t *testing.T) {
	path := socketPath(t)
	crashed := start(t, 0, "listen", path)
	crashed.expect(t, "listens: <nil>")
	must(t, crashed.Process.Kill())
	_ = crashed.Wait()
	if st, err := os.Lstat(path); err != nil || st.Mode().Type() != os.ModeSocket {
		t.Fatalf("the crash left no socket behind: %v", err)
	}
	if err := control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil); !errors.Is(err, control.ErrNotRunning) {
		t.Errorf("call: got %v, want ErrNotRunning", err)
	}
	serve(t, path, anyone, func(w http.ResponseWriter, _ *http.Request) { control.WriteJSON(w, 1) })
	must(t, control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil))
}

func TestListenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		prepare    func(t *testing.T, path string)
	}{
		{"file in the socket's place", "is none", func(t *testing.T, path string) {
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(path, []byte("kept"), 0o600))
		}},
		{"folder that others can write", "chmod 700", func(t *testing.T, path string) {
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.Chmod(filepath.Dir(path), 0o770))
		}},
		{"link to a folder", "not a folder", func(t *testing.T, path string) {
			must(t, os.Symlink(t.TempDir(), filepath.Dir(path)))
		}},
		{"another user's folder", "another user", func(t *testing.T, path string) {
			testenv.Root(t)
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.Chown(filepath.Dir(path), 1001, 1001))
		}},
		{"lock that is a link", "lock", func(t *testing.T, path string) {
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), path+".lock"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := socketPath(t)
			tt.prepare(t, path)
			l, err := control.Listen(path)
			if err == nil {
				l.Close()
			}
			if err == nil || errors.Is(err, control.ErrRunning) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if b, err := os.ReadFile(path); err == nil && string(b) != "kept" {
				t.Errorf("the file in the way was changed to %q", b)
			}
		})
	}
}

func TestLongPath(t *testing.T) {
	path := filepath.Join(shortDir(t), strings.Repeat("x", 104), "control.sock")
	_, err := control.Listen(path)
	for name, err := range map[string]error{
		"listen": err,
		"call":   control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil),
	} {
		if err == nil || !strings.Contains(err.Error(), "bytes") || errors.Is(err, control.ErrNotRunning) {
			t.Errorf("%s: got %v, want an error about the length", name, err)
		}
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("a folder was made for a path that cannot be used")
	}
}

func TestCalls(t *testing.T) {
	testenv.NoLeaks(t)
	path := socketPath(t)
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

func TestNotRunning(t *testing.T) {
	testenv.NoLeaks(t)
	file := filepath.Join(shortDir(t), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for name, path := range map[string]string{"no folder": socketPath(t), "folder is a file": filepath.Join(file, "control.sock")} {
		err := control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil)
		if !errors.Is(err, control.ErrNotRunning) {
			t.Errorf("%s: got %v, want ErrNotRunning", name, err)
		}
	}
}

func TestPeerChecksAreRequired(t *testing.T) {
	if _, err := control.New(control.Config{Handler: http.NotFoundHandler()}); err == nil {
		t.Error("a server without a peer check was made")
	}
	if _, err := control.New(control.Config{Allow: anyone}); err == nil {
		t.Error("a server without a handler was made")
	}
	path := socketPath(t)
	serve(t, path, anyone, func(w http.ResponseWriter, _ *http.Request) { t.Error("called without a peer check") })
	if err := control.NewClient(path, nil).Get(t.Context(), "/", nil, nil); err == nil || !strings.Contains(err.Error(), "peer check") {
		t.Errorf("got %v, want an error about the peer check", err)
	}
}
