//go:build linux

package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/tickettest"
)

// TestSoak puts mixed load on one helper while everything around it changes:
// the upstream and the KDC restart, the ticket is renewed, destroyed and
// replaced, the switch and the list are turned. Every request carries an id
// that its answer must carry too; a request may fail with a clear cause, but
// it may not hang, vanish or get another's answer. It runs for KERBPASS_SOAK,
// a duration; without it, for a few seconds.
func TestSoak(t *testing.T) {
	t.Parallel()
	length := 8 * time.Second
	if s := os.Getenv("KERBPASS_SOAK"); s != "" {
		var err error
		if length, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	python := testenv.Tool(t, "python3")
	w := newWorld(t, proxytest.SquidConfig{})
	// The origin answers with what it was asked.
	w.origin.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%s %s %d", r.Method, r.URL.Path, len(body))
		io.WriteString(rw, strings.Repeat(".", rand.IntN(3)*20000))
	})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost"), file: "[bypass]\nexact = [\"git.world.test\"]\n", level: "info"})

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var id, good, failed atomic.Int64
	judge := func(status int, cause, body, want string) {
		switch {
		case status == 200 && (body == want || strings.HasPrefix(body, want+".")):
			good.Add(1)
		case cause != "" && cause != "internal" && cause != "bad_request":
			failed.Add(1)
		case status == 502 || status == 503 || status == 504: // Squid's own words
			failed.Add(1)
		default:
			t.Errorf("asked for %q, got %d %s %.200q", want, status, cause, body)
			cancel()
		}
	}
	var wg sync.WaitGroup
	work := func(f func(n int64)) {
		wg.Go(func() {
			for ctx.Err() == nil {
				f(id.Add(1))
			}
		})
	}
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: h.addr}), MaxIdleConnsPerHost: 20}
	defer tr.CloseIdleConnections()
	ask := func(n int64, method, host string, size int) {
		rctx, stop := context.WithTimeout(context.Background(), 60*time.Second)
		defer stop()
		req, _ := http.NewRequestWithContext(rctx, method, w.url(host)+strconv.FormatInt(n, 10), bytes.NewReader(make([]byte, size)))
		resp, err := tr.RoundTrip(req)
		if err != nil {
			// A connection may break with the upstream's; the helper must then
			// have answered or closed, not hung.
			if rctx.Err() != nil {
				t.Errorf("request %d hung", n)
			}
			failed.Add(1)
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			failed.Add(1)
			return
		}
		judge(resp.StatusCode, proxytest.Cause(resp), string(body), fmt.Sprintf("%s /%d %d", method, n, size))
	}
	for range 8 {
		work(func(n int64) { ask(n, "GET", "web.world.test", 0) })
	}
	for range 3 {
		work(func(n int64) { ask(n, "POST", "web.world.test", rand.IntN(100000)) })
		work(func(n int64) { ask(n, "GET", "git.world.test", 0) })
	}
	for range 4 { // tunnels
		work(func(n int64) {
			c, err := net.Dial("tcp", h.addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(60 * time.Second))
			host := "web.world.test:" + w.port
			cl := proxytest.Client{TCPConn: c.(*net.TCPConn)}
			resp, body, err := cl.Tunnel(host, fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", n, host))
			if err != nil {
				if os.IsTimeout(err) {
					t.Errorf("tunnel %d hung", n)
				}
				failed.Add(1)
				return
			}
			judge(resp.StatusCode, proxytest.Cause(resp), body, fmt.Sprintf("GET /%d 0", n))
		})
	}
	work(func(n int64) { // curl
		status, cause, body := h.curl(w.url("web.world.test") + strconv.FormatInt(n, 10))
		code, _ := strconv.Atoi(status)
		if code != 0 {
			judge(code, cause, body, fmt.Sprintf("GET /%d 0", n))
		}
		pause(ctx, 50*time.Millisecond)
	})
	wg.Go(func() { // Python
		script := `
import os, sys, time, urllib.request, urllib.error
end = time.time() + float(sys.argv[3])
n = 0
while time.time() < end:
    n += 1
    want = "GET /py%d 0" % n
    try:
        body = urllib.request.urlopen(sys.argv[1] + "py%d" % n, timeout=60).read().decode()
        if not body.startswith(want): print("asked for", want, "got", body[:100])
    except urllib.error.HTTPError as e:
        if e.code not in (502, 503, 504): print("asked for", want, "got", e.code)
    except OSError as e:
        if "timed out" in str(e): print("hung", want)
    time.sleep(0.02)
`
		cmd := exec.Command(python, "-c", script, w.url("web.world.test"), "", strconv.FormatFloat(max(1, length.Seconds()-2), 'f', 1, 64))
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "http_proxy=http://" + h.addr}
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("python: %v\n%s", err, out)
		}
	})

	// What goes on meanwhile, in turns.
	step := length / 12
	step = max(min(step, 5*time.Second), 300*time.Millisecond)
	var first usage
	for i := 0; ctx.Err() == nil; i++ {
		pause(ctx, step)
		switch i % 8 {
		case 0:
			w.squid.Stop()
			pause(ctx, step/4)
			w.squid.Start()
		case 1:
			if out, err := w.kdc.Run(cache, "", "kinit", "-R"); err != nil {
				t.Errorf("kinit -R: %v %s", err, out)
			}
		case 2:
			w.kdc.Stop()
			pause(ctx, step/4)
			w.kdc.Start(t)
		case 3:
			w.kdc.Run(cache, "", "kdestroy")
			pause(ctx, step/4)
			w.kdc.Kinit(t, "alice", cache)
		case 4:
			h.kerbpass("kerberos", "off")
			pause(ctx, step/4)
			h.kerbpass("kerberos", "on")
		case 5:
			h.kerbpass("bypass", "add", "notgit.world.test")
			h.kerbpass("bypass", "remove", "notgit.world.test")
		case 6: // the network changes
			exec.Command("ip", "address", "add", "127.9.9.8/32", "dev", "lo").Run()
			pause(ctx, step/4)
			exec.Command("ip", "address", "del", "127.9.9.8/32", "dev", "lo").Run()
		case 7:
			if first.files == 0 {
				first = measure(t, h.cmd.Process.Pid)
			}
		}
	}
	wg.Wait()
	tr.CloseIdleConnections()
	t.Logf("%d answers were right, %d requests failed with a cause", good.Load(), failed.Load())
	if good.Load() < int64(length/time.Second)*20 || good.Load() < 5*failed.Load()/10 {
		t.Errorf("only %d answers in %v (%d failed)", good.Load(), length, failed.Load())
	}
	// Afterwards all is well, and nothing has piled up.
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		if status, _, _ := h.curl(w.url("web.world.test")); status == "200" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no way out after the soak")
		}
	}
	for deadline := time.Now().Add(120 * time.Second); ; time.Sleep(500 * time.Millisecond) {
		last := measure(t, h.cmd.Process.Pid)
		// The runtime keeps the pipes of a few splices until two collections
		// later, minutes in an idle program, so they have a bound of their own.
		if last.files < 40 && last.pipes < 64 && last.kib < 80<<10 {
			t.Logf("descriptors %d, threads %d, resident %d KiB (first looked at: %+v)", last.files, last.threads, last.kib, first)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %+v", last)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

type usage struct{ files, pipes, threads, kib int }

// measure looks at a process from outside.
func measure(t *testing.T, pid int) (u usage) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d", pid)
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, _ := os.Readlink(filepath.Join(dir, "fd", f.Name())); strings.HasPrefix(to, "pipe:") {
			u.pipes++
		} else {
			u.files++
		}
	}
	status, _ := os.ReadFile(filepath.Join(dir, "status"))
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && f[0] == "Threads:":
			u.threads, _ = strconv.Atoi(f[1])
		case len(f) > 1 && f[0] == "VmRSS:":
			u.kib, _ = strconv.Atoi(f[1])
		}
	}
	return u
}

func TestWorldFailover(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	second := proxytest.StartSquid(t, proxytest.SquidConfig{Keytab: w.kdc.HTTPKeytab, Krb5Conf: w.kdc.Krb5Conf, Extra: "hosts_file " + w.hosts})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: append(w.upstream("localhost"), "--upstream", fmt.Sprintf("http://proxy.world.test:%d", second.Port))})
	web := w.url("web.world.test")
	h.want("200", "", web)
	used := func(s *proxytest.Squid) (n int) {
		for _, e := range s.Log() {
			if e.User == "alice@"+w.kdc.Realm {
				n++
			}
		}
		return n
	}
	if used(second) != 0 {
		t.Errorf("the second proxy was used although the first works: %v", second.Log())
	}
	w.squid.Stop()
	for range 3 {
		h.want("200", "", web)
		h.want("200", "", "-p", web)
	}
	second.WaitLog(func(e proxytest.Entry) bool { return e.Method == "CONNECT" && e.User == "alice@"+w.kdc.Realm })
	w.squid.Start()
	seen := used(w.squid)
	for deadline := time.Now().Add(60 * time.Second); used(w.squid) == seen; time.Sleep(200 * time.Millisecond) {
		h.want("200", "", "-p", web)
		if time.Now().After(deadline) {
			t.Fatal("the first proxy is not used again")
		}
	}
}

// A network change makes the helper start afresh: idle connections to the
// upstream are closed, and the next request gets a new token.
func TestWorldNetworkChange(t *testing.T) {
	ip := testenv.Tool(t, "ip")
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost")})
	web := w.url("web.world.test")
	h.want("200", "", web)
	if n := established(t, w.squid.Port); n == 0 {
		t.Fatal("no idle connection to begin with")
	}
	// A further loopback address: a real change of this machine's network that
	// hurts nobody.
	const addr = "127.9.9.9/32"
	if out, err := exec.Command(ip, "address", "add", addr, "dev", "lo").CombinedOutput(); err != nil {
		testenv.Missing(t, "the right to add an address: %s", out)
	}
	defer exec.Command(ip, "address", "del", addr, "dev", "lo").Run()
	for deadline := time.Now().Add(30 * time.Second); established(t, w.squid.Port) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the idle connection outlived the network change:\n%s", h.log)
		}
	}
	h.want("200", "", web)
}

// Out of file descriptors: what is open goes on, what is too much is told so,
// and afterwards all is as before.
func TestWorldFileLimit(t *testing.T) {
	origin := proxytest.Serve(t, func(c *proxytest.Conn) { io.Copy(c.Conn, c.R) })
	w := &world{hosts: "/etc/hosts", kdc: tickettest.StartKDC(t)}
	h := start(t, setup{world: w, cache: fileCache(t), prefix: []string{"sh", "-c", `ulimit -n 120 && exec "$@"`, "sh"}, args: []string{"--upstream", "http://localhost:1", "--kerberos=false"}})
	connect := "CONNECT " + origin.Addr + " HTTP/1.1\r\nHost: x\r\n\r\n"
	var held []*proxytest.Client
	refused := 0
	for range 200 {
		c := proxytest.Dial(t, h.addr)
		switch resp, _ := c.Do("CONNECT", connect); resp.StatusCode {
		case 200:
			held = append(held, c)
		case 503:
			refused++
			c.Close()
		default:
			t.Fatalf("got %d %s", resp.StatusCode, proxytest.Cause(resp))
		}
	}
	if len(held) < 8 || refused == 0 {
		t.Errorf("%d tunnels are held, %d were refused", len(held), refused)
	}
	for i, c := range held {
		io.WriteString(c, "ping")
		buf := make([]byte, 4)
		if _, err := io.ReadFull(c.R, buf); err != nil || string(buf) != "ping" {
			t.Errorf("tunnel %d is dead: %q %v", i, buf, err)
		}
	}
	if _, code := h.kerbpass("status"); code == exitNotRunningCode {
		t.Error("the control channel does not answer")
	}
	for _, c := range held {
		c.Close()
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if resp, _ := proxytest.Dial(t, h.addr).Do("CONNECT", connect); resp.StatusCode == 200 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no recovery")
		}
	}
}

const exitNotRunningCode = 4

// Five hundred clients at once while the upstream is ended fifty times: every
// answer belongs to its request, nothing hangs, and nothing needs a restart.
func TestWorldManyClientsAndFiftyRestarts(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	w.origin.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(rw, "%s %s", r.Method, r.URL.Path)
	})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost"), level: "info"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var good, failed atomic.Int64
	var wg sync.WaitGroup
	for n := range 500 {
		wg.Go(func() {
			tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: h.addr}), MaxIdleConnsPerHost: 1}
			defer tr.CloseIdleConnections()
			for i := 0; ctx.Err() == nil; i++ {
				path := fmt.Sprintf("%d-%d", n, i)
				rctx, stop := context.WithTimeout(context.Background(), 60*time.Second)
				req, _ := http.NewRequestWithContext(rctx, "GET", w.url("web.world.test")+path, nil)
				resp, err := tr.RoundTrip(req)
				if err != nil {
					if rctx.Err() != nil {
						t.Errorf("%s hung", path)
					}
					failed.Add(1)
				} else {
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					switch {
					case resp.StatusCode == 200 && err == nil && string(body) != "GET /"+path:
						t.Errorf("asked for %s, got %q", path, body)
					case resp.StatusCode == 200 && err == nil:
						good.Add(1)
					case err == nil && resp.StatusCode != 502 && resp.StatusCode != 503 && resp.StatusCode != 504:
						t.Errorf("%s: got %d", path, resp.StatusCode)
					default:
						failed.Add(1)
					}
				}
				stop()
				pause(ctx, 400*time.Millisecond) // or the clients leave Squid no time to start
			}
		})
	}
	for range 50 {
		w.squid.Kill()
		w.squid.Start()
		pause(ctx, 150*time.Millisecond)
	}
	cancel()
	wg.Wait()
	t.Logf("%d answers were right, %d requests failed", good.Load(), failed.Load())
	if good.Load() < 100 { // how many there are is up to the machine
		t.Errorf("only %d answers", good.Load())
	}
	h.want("200", "", w.url("web.world.test"))
}
