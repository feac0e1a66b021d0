//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// The built program without a realm:
//
//	Go client ──▶ kerbpass run --kerberos=false ──▶ Go upstream
//
// The upstream answers every request itself, with what it was asked for.

func newUpstream(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.String()) }))
	t.Cleanup(s.Close)
	return s
}

// startPlain runs a helper with that upstream. Its standard error goes to
// stderr; its address is read from there by the caller.
func startPlain(t *testing.T, upstream string, stderr *os.File) *helper {
	t.Helper()
	h := prepare(t, setup{})
	h.cmd = exec.Command(h.bin, "--log-level", "debug", "run", "--listen", "127.0.0.1:0", "--upstream", upstream, "--kerberos=false")
	h.cmd.Env, h.cmd.Stderr = h.env, stderr
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.done = make(chan error, 1)
	go func() { h.done <- h.cmd.Wait() }()
	t.Cleanup(func() {
		h.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-h.done:
			if err != nil {
				t.Errorf("the helper ended with %v", err)
			}
		case <-time.After(30 * time.Second):
			h.cmd.Process.Kill()
			t.Error("the helper does not end")
		}
	})
	return h
}

// throughProxy is a client that uses the helper.
func (h *helper) throughProxy() *http.Client {
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: h.addr}), MaxIdleConnsPerHost: 8}
	h.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: time.Minute}
}

// address reads the log until the helper says where it listens.
func (h *helper) address(log io.Reader) {
	h.t.Helper()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if m := listening.FindSubmatch(lines.Bytes()); m != nil {
			h.addr = string(m[1])
			return
		}
	}
	h.t.Fatal("the helper does not listen")
}

// Standard error is a FIFO that nobody reads any more once the helper listens.
// It takes 64 KB; every request logs more than a hundred bytes.
func TestHangingLogCostsNoRequest(t *testing.T) {
	testenv.NoLeaks(t)
	upstream := newUpstream(t)
	fifo := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() }) // after the helper has ended, which a broken pipe would kill
	w, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	h := startPlain(t, upstream.URL, w)
	w.Close()
	h.address(r)
	client := h.throughProxy()
	const clients, each = 8, 250
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for j := range each {
				want := fmt.Sprintf("http://web.test/%d/%d", i, j)
				resp, err := client.Get(want)
				if err != nil {
					t.Errorf("request %d of client %d: %v", j, i, err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(got) != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()

	out, code := h.kerbpass("activity", "--json", "--limit", "1000")
	var entries []struct {
		Seq                                         uint64
		Method, Host, Route, Rule, Upstream, Result string
		Program                                     string
		PID, Port, Status                           int
		Down                                        int64
	}
	if err := json.Unmarshal([]byte(out), &entries); err != nil || code != 0 || len(entries) != 1000 {
		t.Fatalf("activity: %d entries, exit code %d, %v\n%.500s", len(entries), code, err, out)
	}
	name, err := os.ReadFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		if e.PID != os.Getpid() || e.Program != strings.TrimSpace(string(name)) {
			t.Fatalf("entry %d is from %s, process %d; want %s, %d", i, e.Program, e.PID, name, os.Getpid())
		}
		if e.Seq != uint64(clients*each-1000+i+1) || e.Method != "GET" || e.Host != "web.test" || e.Port != 80 || e.Route != "proxy" || e.Rule != "default" ||
			e.Upstream != upstream.URL || e.Status != 200 || e.Result != "ok" || e.Down < int64(len("http://web.test/0/0")) {
			t.Fatalf("entry %d: %+v", i, e)
		}
	}
	if strings.Contains(out, "web.test/") {
		t.Error("a path in the activity")
	}
}

// Ctrl-C is how following ends, and the helper's end ends it too.
func TestActivityFollowEnds(t *testing.T) {
	testenv.NoLeaks(t)
	upstream := newUpstream(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	h := startPlain(t, upstream.URL, w)
	w.Close()
	h.address(r)
	drained := make(chan struct{})
	go func() { io.Copy(io.Discard, r); close(drained) }()
	defer func() { h.cmd.Process.Signal(syscall.SIGTERM); <-drained }()
	client := h.throughProxy()
	for _, tt := range []struct {
		name string
		stop func(follow *os.Process)
		code int
	}{
		{"Ctrl-C", func(p *os.Process) { p.Signal(os.Interrupt) }, 0},
		{"quit", func(*os.Process) { h.kerbpass("quit") }, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			follow := exec.Command(h.bin, "activity", "--follow", "--json", "--limit", "1")
			var errs bytes.Buffer
			follow.Env, follow.Stderr = h.env, &errs
			out, err := follow.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			get := func(u string) {
				resp, err := client.Get(u)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			lines := bufio.NewScanner(out)
			want := func(host string) {
				t.Helper()
				var e struct{ Host string }
				if !lines.Scan() || json.Unmarshal(lines.Bytes(), &e) != nil || e.Host != host {
					t.Fatalf("got %q, want %s\n%s", lines.Text(), host, &errs)
				}
			}
			get("http://before.test/")
			if err := follow.Start(); err != nil {
				t.Fatal(err)
			}
			want("before.test")
			get("http://after.test/secret?path")
			want("after.test")
			tt.stop(follow.Process)
			follow.Wait()
			if got := follow.ProcessState.ExitCode(); got != tt.code {
				t.Errorf("got %d, want %d\n%s", got, tt.code, &errs)
			}
		})
	}
}
