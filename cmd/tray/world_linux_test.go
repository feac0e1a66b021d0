//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/tickettest"
)

// The built program, as a user runs it, against a real KDC and a real Squid:
//
//	curl ──▶ kerbpass run ──▶ Squid (negotiate_kerberos_auth) ──▶ origin
//	                 └───────────────────────────────────────────▶ origin
//
// Names below world.test exist for Squid through its hosts_file and for the
// helper through a private /etc/hosts in a mount namespace of its own.

// binary builds the program once per tag set.
func binary(t testing.TB, tags string) string {
	t.Helper()
	b, _ := binaries.LoadOrStore(tags, &built{})
	return b.(*built).get(t, tags)
}

var binaries sync.Map

type built struct {
	once sync.Once
	path string
	err  error
}

func (b *built) get(t testing.TB, tags string) string {
	t.Helper()
	b.once.Do(func() {
		dir, err := os.MkdirTemp("", "kerbpass-bin-")
		if err != nil {
			b.err = err
			return
		}
		os.Chmod(dir, 0o755)
		b.path = filepath.Join(dir, "kerbpass")
		cmd := exec.Command("go", "build", "-tags", tags, "-o", b.path, ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

func TestMain(m *testing.M) {
	code := m.Run()
	binaries.Range(func(_, b any) bool { os.RemoveAll(filepath.Dir(b.(*built).path)); return true })
	os.Exit(code)
}

// world is a KDC, a Squid and an origin.
type world struct {
	kdc    *tickettest.KDC
	squid  *proxytest.Squid
	origin *httptest.Server
	port   string // of the origin
	hosts  string // a hosts file

	mu  sync.Mutex // guards got
	got []string
}

const hostNames = "web.world.test git.world.test sub.git.world.test notgit.world.test git.world.test.evil.test xn--bcher-kva.world.test proxy.world.test unknown.world.test"

func newWorld(t *testing.T, squid proxytest.SquidConfig, opts ...tickettest.KDCOption) *world {
	t.Helper()
	w := &world{kdc: tickettest.StartKDC(t, opts...)}
	w.origin = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "Proxy-") {
				t.Errorf("the origin saw %s: %s", name, r.Header[name])
			}
		}
		w.mu.Lock()
		w.got = append(w.got, r.Host)
		w.mu.Unlock()
		n, _ := io.Copy(io.Discard, r.Body)
		rw.Header().Set("X-Got", strconv.FormatInt(n, 10))
		if size, err := strconv.ParseInt(r.URL.Query().Get("size"), 10, 64); err == nil {
			rw.Header().Set("Content-Length", strconv.FormatInt(size, 10))
			io.CopyN(rw, zeros{}, size)
			return
		}
		fmt.Fprintf(rw, "hello from %s", r.Host)
	}))
	t.Cleanup(w.origin.Close)
	_, w.port, _ = net.SplitHostPort(w.origin.Listener.Addr().String())
	dir, err := os.MkdirTemp("", "kerbpass-world-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	w.hosts = filepath.Join(dir, "hosts")
	if err := os.WriteFile(w.hosts, []byte("127.0.0.1 localhost\n::1 localhost\n127.0.0.1 "+hostNames+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	squid.Keytab, squid.Krb5Conf = w.kdc.HTTPKeytab, w.kdc.Krb5Conf
	squid.Extra += "\nhosts_file " + w.hosts
	w.squid = proxytest.StartSquid(t, squid)
	return w
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (w *world) url(host string) string { return "http://" + host + ":" + w.port + "/" }

// origins returns the hosts the origin was asked for since the last call.
func (w *world) origins() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	got := w.got
	w.got = nil
	return got
}

// helper is a running kerbpass.
type helper struct {
	t    *testing.T
	bin  string
	env  []string
	home string
	addr string
	cmd  *exec.Cmd
	log  *logBuffer
	done chan error
}

// logBuffer collects what the helper says and finds its address in it.
type logBuffer struct {
	mu   sync.Mutex // guards b
	b    bytes.Buffer
	addr chan string
	once sync.Once
}

var listening = regexp.MustCompile(`msg=listening addr="?\[([^ \]]+)`)

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Write(p)
	if m := listening.FindSubmatch(l.b.Bytes()); m != nil {
		l.once.Do(func() { l.addr <- string(m[1]) })
	}
	return len(p), nil
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// setup says how a helper is started.
type setup struct {
	world  *world
	cache  string   // KRB5CCNAME
	conf   string   // another krb5.conf
	tags   string   // build tags
	env    []string // more environment
	hide   []string // libraries that do not exist for it
	prefix []string // faketime and the like
	args   []string // of run
	file   string   // settings file
	level  string   // of the log; debug
	bin    string   // the program; binary
	bare   bool     // without "run": with the desktop
}

// start runs "kerbpass run" and waits until it listens.
func start(t *testing.T, s setup) *helper {
	t.Helper()
	testenv.Root(t)
	h := prepare(t, s)
	level := cmp.Or(s.level, "debug")
	args := []string{"--log-level", level}
	if !s.bare {
		args = append(args, "run")
	}
	args = append(append(args, "--listen", "127.0.0.1:0"), s.args...)
	script := "mount --make-rprivate / && mount --bind " + s.world.hosts + " /etc/hosts"
	for _, lib := range s.hide {
		script += " && mount --bind /dev/null " + lib
	}
	argv := append([]string{"-m", "sh", "-c", script + ` && exec "$@"`, "sh"}, s.prefix...)
	argv = append(append(argv, h.bin), args...)
	h.cmd = exec.Command(testenv.Tool(t, "unshare"), argv...)
	h.log = &logBuffer{addr: make(chan string, 1)}
	h.cmd.Env, h.cmd.Stderr, h.cmd.Stdout = h.env, h.log, h.log
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.done = make(chan error, 1)
	go func() { h.done <- h.cmd.Wait() }()
	t.Cleanup(h.stop)
	if level == "warn" { // which does not say where it listens
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			var r struct {
				Proxy struct {
					State, Upstream string
					Listen          []string
				}
			}
			out, _ := h.kerbpass("status", "--json")
			if json.Unmarshal([]byte(out), &r) == nil && r.Proxy.State == "listening" {
				h.addr = r.Proxy.Listen[0]
				return h
			}
			if time.Now().After(deadline) {
				t.Fatalf("the helper does not listen:\n%s", h.log)
			}
		}
	}
	select {
	case h.addr = <-h.log.addr:
	case err := <-h.done:
		h.done <- err
		t.Fatalf("the helper ended: %v\n%s", err, h.log)
	case <-time.After(60 * time.Second):
		t.Fatalf("the helper does not listen:\n%s", h.log)
	}
	return h
}

// prepare makes a home for a helper without starting it.
func prepare(t *testing.T, s setup) *helper {
	t.Helper()
	h := &helper{t: t, bin: s.bin, home: t.TempDir()}
	if h.bin == "" {
		h.bin = binary(t, s.tags)
	}
	run := filepath.Join(h.home, "run")
	for _, dir := range []string{run, filepath.Join(h.home, "config", "kerbpass")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(run, 0o700)
	if s.file != "" {
		if err := os.WriteFile(h.config(), []byte(s.file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + h.home, "XDG_RUNTIME_DIR=" + run, "XDG_CONFIG_HOME=" + filepath.Join(h.home, "config")}
	if s.world != nil {
		conf := s.world.kdc.Krb5Conf
		if s.conf != "" {
			conf = s.conf
		}
		h.env = append(h.env, "KRB5_CONFIG="+conf)
	}
	if s.cache != "" {
		h.env = append(h.env, "KRB5CCNAME="+s.cache)
	}
	h.env = append(h.env, s.env...)
	return h
}

func (h *helper) config() string {
	return filepath.Join(h.home, "config", "kerbpass", "config.toml")
}

// stop ends the helper as a session's end does, and looks for secrets in what
// it said.
func (h *helper) stop() {
	h.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-h.done:
		h.done <- err
		if err != nil {
			h.t.Errorf("the helper ended with %v:\n%s", err, h.log)
		}
	case <-time.After(30 * time.Second):
		h.cmd.Process.Kill()
		h.t.Errorf("the helper did not end:\n%s", h.log)
	}
	if secret := testenv.Secret(h.log.String(), "Passw0rd", "hunter2"); secret != "" {
		h.t.Errorf("a secret in the log: %.30s…", secret)
	}
	if h.t.Failed() {
		h.t.Logf("log of the helper:\n%s", h.log)
	}
}

// kerbpass runs another command of the same user.
func (h *helper) kerbpass(args ...string) (out string, code int) {
	h.t.Helper()
	cmd := exec.Command(h.bin, args...)
	cmd.Env = h.env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	all := stdout.String() + stderr.String()
	if secret := testenv.Secret(all, "hunter2"); secret != "" {
		h.t.Errorf("kerbpass %v printed a secret: %.30s…", args, secret)
	}
	if stdout.Len() > 0 && strings.Contains(strings.Join(args, " "), "--json") {
		return stdout.String(), cmd.ProcessState.ExitCode()
	}
	return all, cmd.ProcessState.ExitCode()
}

// curl asks for u through the helper on a connection of its own.
func (h *helper) curl(args ...string) (status, cause, body string) {
	h.t.Helper()
	cmd := exec.Command(testenv.Tool(h.t, "curl"), append([]string{"-sS", "-i", "--max-time", "60", "-x", "http://" + h.addr, "-o", "-", "-w", "\n%{http_code} %{http_connect}"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, _ := cmd.CombinedOutput()
	text := string(out)
	if secret := testenv.Secret(text, "hunter2"); secret != "" {
		h.t.Errorf("a secret in an answer: %.30s…", secret)
	}
	i := strings.LastIndexByte(text, '\n')
	codes := strings.Fields(text[i+1:])
	status = "000"
	if len(codes) == 2 {
		if status = codes[0]; status == "000" {
			status = codes[1]
		}
	}
	if m := regexp.MustCompile(`details="(\w+)"`).FindStringSubmatch(text); m != nil {
		cause = m[1]
	}
	if j := strings.LastIndex(text[:max(i, 0)], "\r\n\r\n"); j >= 0 {
		body = text[j+4 : i]
	}
	return status, cause, body
}

func (h *helper) want(wantStatus, wantCause string, args ...string) {
	h.t.Helper()
	if status, cause, body := h.curl(args...); status != wantStatus || cause != wantCause {
		h.t.Errorf("curl %v: got %s %q, want %s %q\n%s", args, status, cause, wantStatus, wantCause, body)
	}
}

func (w *world) upstream(host string) []string {
	return []string{"--upstream", fmt.Sprintf("http://%s:%d", host, w.squid.Port)}
}

func fileCache(t *testing.T) string { return "FILE:" + filepath.Join(t.TempDir(), "cc") }

func TestWorldCurlThroughSquid(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: append(w.upstream("localhost"), "--bypass", "git.world.test, BÜCHER.world.test")})

	for range 10 {
		h.want("200", "", w.url("web.world.test"))
		h.want("200", "", "-p", w.url("web.world.test")) // CONNECT
	}
	user := "alice@" + w.kdc.Realm
	w.squid.WaitLog(func(e proxytest.Entry) bool { return e.Method == "GET" && e.User == user && e.Status == "200" })
	w.squid.WaitLog(func(e proxytest.Entry) bool { return e.Method == "CONNECT" && e.User == user && e.Status == "200" })
	for _, e := range w.squid.Log() {
		if e.Status == "407" {
			t.Errorf("a 407 at Squid: %+v", e)
		}
	}

	t.Run("exact hosts go direct, all others do not", func(t *testing.T) {
		for _, tt := range []struct {
			host   string
			direct bool
		}{
			{"git.world.test", true}, {"GIT.World.Test", true}, {"git.world.test.", true}, {"xn--bcher-kva.world.test", true},
			{"sub.git.world.test", false}, {"notgit.world.test", false}, {"git.world.test.evil.test", false},
		} {
			w.origins()
			h.want("200", "", w.url(tt.host))
			if got := w.origins(); len(got) != 1 {
				t.Errorf("%s: the origin was asked for %v", tt.host, got)
			}
			h.want("200", "", "-p", w.url(tt.host))
			if !tt.direct {
				want := strings.ToLower(w.url(tt.host))
				w.squid.WaitLog(func(e proxytest.Entry) bool { return e.URL == want && e.User == user })
				w.squid.WaitLog(func(e proxytest.Entry) bool {
					return e.Method == "CONNECT" && "http://"+e.URL+"/" == want && e.User == user
				})
			}
		}
		// By now Squid has logged everything that came before.
		for _, e := range w.squid.Log() {
			host, _, _ := strings.Cut(strings.TrimPrefix(e.URL, "http://"), ":")
			if host == "git.world.test" || strings.HasPrefix(host, "xn--") {
				t.Errorf("Squid saw %s", e.URL)
			}
		}
	})

	t.Run("status", func(t *testing.T) {
		out, code := h.kerbpass("status", "--json")
		var r struct {
			Ticket struct{ State, Principal, Realm, Cache, Expires, Backend string }
			Proxy  struct {
				State, Upstream string
				UpstreamSource  string `json:"upstream_source"`
				Listen          []string
				LastAuth        struct {
					Result, SPN string
					TokenBytes  int `json:"token_bytes"`
				} `json:"last_auth"`
			}
			Tickets  []struct{ Services []struct{ Name string } }
			Settings map[string]struct {
				Source string
				Locked bool
			}
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
			t.Fatalf("exit code %d, %v: %s", code, err, out)
		}
		if r.Ticket.State != "valid" || r.Ticket.Principal != user || r.Ticket.Cache != cache || r.Ticket.Backend != "gss-mit" || !strings.HasSuffix(r.Ticket.Expires, "Z") {
			t.Errorf("ticket: %+v", r.Ticket)
		}
		if r.Proxy.State != "listening" || r.Proxy.LastAuth.Result != "accepted" || r.Proxy.LastAuth.SPN != "HTTP/localhost" || r.Proxy.LastAuth.TokenBytes < 100 || r.Proxy.UpstreamSource != "flag" || r.Proxy.Listen[0] != h.addr {
			t.Errorf("proxy: %+v", r.Proxy)
		}
		if len(r.Tickets) == 0 || len(r.Tickets[0].Services) == 0 || r.Tickets[0].Services[0].Name != "HTTP/localhost@"+w.kdc.Realm {
			t.Errorf("tickets: %+v", r.Tickets)
		}
		if s := r.Settings["upstream"]; s.Source != "flag" || !s.Locked {
			t.Errorf("settings: %+v", r.Settings)
		}
		if text, code := h.kerbpass("status"); code != 0 || !strings.Contains(text, user) {
			t.Errorf("for people, exit code %d:\n%s", code, text)
		}
	})

	t.Run("env and exec", func(t *testing.T) {
		out, code := h.kerbpass("exec", "--", "curl", "-sS", "-w", "%{http_code}", w.url("web.world.test"))
		if code != 0 || !strings.HasSuffix(out, "200") {
			t.Errorf("exec: exit code %d, %q", code, out)
		}
		if _, code := h.kerbpass("exec", "--", "sh", "-c", "exit 37"); code != 37 {
			t.Errorf("exec: exit code %d, want the program's 37", code)
		}
		out, _ = h.kerbpass("env", "--shell", "sh")
		check := exec.Command("sh", "-c", out+`test "$http_proxy" = "$HTTPS_PROXY" && curl -sS -o /dev/null -w '%{http_code}' `+w.url("web.world.test"))
		check.Env = []string{"PATH=" + os.Getenv("PATH")}
		if got, err := check.CombinedOutput(); err != nil || string(got) != "200" {
			t.Errorf("env: %v %s", err, got)
		}
	})

	t.Run("a second start and quit", func(t *testing.T) {
		if out, code := h.kerbpass("run"); code != 0 || !strings.Contains(out, "already running") {
			t.Errorf("second start: exit code %d, %s", code, out)
		}
		if _, code := h.kerbpass("quit"); code != 0 {
			t.Errorf("quit: exit code %d", code)
		}
		select {
		case err := <-h.done:
			h.done <- err
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("still running")
		}
		if _, code := h.kerbpass("status"); code != 4 {
			t.Errorf("status afterwards: exit code %d, want 4", code)
		}
	})
}

func TestG3TicketComesAndGoes(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost"), file: "[bypass]\nexact = [\"git.world.test\"]\n"})
	web, git := w.url("web.world.test"), w.url("git.world.test")
	h.want("200", "", web)

	if out, err := w.kdc.Run(cache, "", "kdestroy"); err != nil {
		t.Fatal(err, out)
	}
	h.want("502", "no_ticket", web)
	h.want("502", "no_ticket", "-p", web)
	h.want("200", "", git)
	if _, code := h.kerbpass("status"); code != 3 {
		t.Errorf("status without a ticket: exit code %d, want 3", code)
	}
	w.kdc.Kinit(t, "alice", cache)
	h.want("200", "", web)

	if out, code := h.kerbpass("kerberos", "off"); code != 0 {
		t.Fatalf("kerberos off: %d %s", code, out)
	}
	if n := established(t, w.squid.Port); n != 0 {
		t.Errorf("%d connections to Squid are still open after switching off", n)
	}
	h.want("502", "kerberos_off", web)
	h.want("200", "", git)
	if out, code := h.kerbpass("kerberos", "status"); code != 0 || !strings.HasPrefix(out, "off") {
		t.Errorf("kerberos status: %d %s", code, out)
	}
	h.kerbpass("kerberos", "on")
	h.want("200", "", web)

	for _, ends := range []bool{false, true} { // by itself, and by command
		length := "2s"
		if ends {
			length = "1h"
		}
		if out, code := h.kerbpass("pause", length); code != 0 || !strings.HasPrefix(out, "Paused until ") {
			t.Fatalf("pause: %d %s", code, out)
		}
		if n := established(t, w.squid.Port); n != 0 {
			t.Errorf("%d connections to Squid are still open in a pause", n)
		}
		h.want("502", "kerberos_off", web)
		if out, _ := h.kerbpass("status"); ends && !strings.Contains(out, "Kerberos   paused until ") {
			t.Errorf("status in a pause:\n%s", out)
		}
		if ends {
			h.kerbpass("resume")
		}
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			status, cause, _ := h.curl(web)
			if status == "200" {
				break
			}
			if cause != "kerberos_off" || ends || time.Now().After(deadline) {
				t.Fatalf("after a pause of %s: got %s %s", length, status, cause)
			}
		}
	}
	for _, bad := range []string{"soon", "-5m", "25h", "1ms"} {
		if out, code := h.kerbpass("pause", "--", bad); code != 2 || !strings.Contains(out, "is not a duration") {
			t.Errorf("pause %s: exit code %d: %s", bad, code, out)
		}
	}

	// Expiry without anybody touching the cache.
	w.kdc.Kinit(t, "alice", cache, "-l", "4s")
	h.want("200", "", web)
	deadline := time.Now().Add(30 * time.Second)
	for {
		status, cause, _ := h.curl(web)
		if status == "502" && cause == "ticket_expired" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("after expiry: got %s %s, want 502 ticket_expired", status, cause)
		}
		time.Sleep(200 * time.Millisecond)
	}
	h.want("200", "", git)
	w.kdc.Kinit(t, "alice", cache)
	h.want("200", "", web)
}

// established counts connections to a local port as the kernel sees them.
func established(t *testing.T, port int) (n int) {
	t.Helper()
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := fmt.Sprintf(":%04X", port)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 3 && strings.HasSuffix(f[2], want) && f[3] == "01" {
			n++
		}
	}
	return n
}

func TestWorldCaches(t *testing.T) {
	testenv.Root(t)
	socket := tickettest.StartKCM(t)
	w := newWorld(t, proxytest.SquidConfig{}, tickettest.WithLibdefaults("kcm_socket = "+socket))
	dir := t.TempDir()
	// A session keyring of our own is inherited by everything started here.
	keyring := fmt.Sprintf("KEYRING:persistent:%d:kerbpass%d", os.Getuid(), os.Getpid())
	for _, tt := range []struct{ name, cache string }{
		{"DIR", "DIR:" + dir}, {"KCM", "KCM:"}, {"KEYRING", keyring},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.kdc.Kinit(t, "alice", tt.cache)
			t.Cleanup(func() { w.kdc.Run(tt.cache, "", "kdestroy") })
			h := start(t, setup{world: w, cache: tt.cache, args: w.upstream("localhost")})
			h.want("200", "", w.url("web.world.test"))
			h.want("200", "", "-p", w.url("web.world.test"))
			if out, err := w.kdc.Run(tt.cache, "", "kdestroy"); err != nil {
				t.Fatal(err, out)
			}
			deadline := time.Now().Add(20 * time.Second)
			for {
				status, cause, _ := h.curl(w.url("web.world.test"))
				if status == "502" && cause == "no_ticket" {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("after kdestroy: got %s %s, want 502 no_ticket", status, cause)
				}
				time.Sleep(100 * time.Millisecond)
			}
			w.kdc.Kinit(t, "alice", tt.cache)
			h.want("200", "", w.url("web.world.test"))
		})
	}
}

func library(t *testing.T, name string) string {
	t.Helper()
	for _, pattern := range []string{"/usr/lib/*-linux-gnu/", "/lib/*-linux-gnu/", "/usr/lib64/"} {
		if m, _ := filepath.Glob(pattern + name); len(m) > 0 {
			return m[0]
		}
	}
	testenv.Missing(t, "library %s", name)
	return ""
}

func TestWorldOtherLibraries(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	mit, heimdal := library(t, "libgssapi_krb5.so.2"), library(t, "libgssapi.so.3")
	for _, tt := range []struct {
		name, backend, tags string
		hide                []string
	}{
		{"Heimdal where MIT is missing", "gss-heimdal", "", []string{mit}},
		{"pure Go where both are missing", "krb5", "", []string{mit, heimdal}},
		{"pure Go in the static build", "krb5", "nogss", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cache := fileCache(t)
			w.kdc.Kinit(t, "alice", cache)
			h := start(t, setup{world: w, cache: cache, tags: tt.tags, hide: tt.hide, args: w.upstream("localhost")})
			h.want("200", "", w.url("web.world.test"))
			h.want("200", "", "-p", w.url("web.world.test"))
			out, _ := h.kerbpass("status", "--json")
			if !strings.Contains(out, `"backend": "`+tt.backend+`"`) || !strings.Contains(out, `"state": "valid"`) || !strings.Contains(out, `"result": "accepted"`) {
				t.Errorf("status:\n%s", out)
			}
			w.kdc.Run(cache, "", "kdestroy")
			h.want("502", "no_ticket", w.url("web.world.test"))
			w.kdc.Kinit(t, "alice", cache)
			h.want("200", "", w.url("web.world.test"))
		})
	}
}

func TestJ1KDCTrouble(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	web := w.url("web.world.test")

	t.Run("down, service ticket cached", func(t *testing.T) {
		cache := fileCache(t)
		w.kdc.Kinit(t, "alice", cache)
		if out, err := w.kdc.Run(cache, "", "kvno", "HTTP/localhost"); err != nil {
			t.Fatal(err, out)
		}
		w.kdc.Stop()
		defer w.kdc.Start(t)
		h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost")})
		for range 5 {
			h.want("200", "", "-p", web)
		}
	})
	t.Run("down, service ticket needed", func(t *testing.T) {
		cache := fileCache(t)
		w.kdc.Kinit(t, "alice", cache)
		w.kdc.Stop()
		h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost")})
		h.want("502", "kdc_unreachable", web)
		if _, code := h.kerbpass("status"); code != 5 {
			t.Errorf("status: exit code %d, want 5", code)
		}
		w.kdc.Start(t)
		// What was remembered about the KDC is forgotten soon.
		for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(250 * time.Millisecond) {
			if status, _, _ := h.curl(web); status == "200" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no recovery after the KDC came back")
			}
		}
	})
}

func TestJ1ClockTrouble(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	testenv.Tool(t, "faketime")
	// Preloaded and not through the program faketime, which stays in between
	// and swallows signals.
	preload := "LD_PRELOAD=" + library(t, "faketime/libfaketime.so.1")
	for _, offset := range []string{"+10m", "-10m"} {
		t.Run(offset+", service ticket cached", func(t *testing.T) {
			cache := fileCache(t)
			w.kdc.Kinit(t, "alice", cache)
			if out, err := w.kdc.Run(cache, "", "kvno", "HTTP/localhost"); err != nil {
				t.Fatal(err, out)
			}
			h := start(t, setup{world: w, cache: cache, prefix: []string{"env", preload, "FAKETIME=" + offset}, args: w.upstream("localhost")})
			status, cause, _ := h.curl(w.url("web.world.test"))
			// A clock that is behind the ticket's start is noticed by the
			// library itself, one that is ahead only by the proxy.
			if status != "502" || cause != "token_refused" && cause != "clock_skew" {
				t.Errorf("got %s %s, want 502 token_refused or clock_skew", status, cause)
			}
		})
		t.Run(offset+", service ticket needed", func(t *testing.T) {
			cache := fileCache(t)
			w.kdc.Kinit(t, "alice", cache)
			h := start(t, setup{world: w, cache: cache, prefix: []string{"env", preload, "FAKETIME=" + offset}, args: w.upstream("localhost")})
			h.want("502", "clock_skew", w.url("web.world.test"))
		})
	}
}

func TestG1OtherUser(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: append(w.upstream("localhost"), "--bypass", "git.world.test")})
	h.want("200", "", w.url("web.world.test"))
	w.squid.WaitLog(func(e proxytest.Entry) bool { return e.Method == "GET" })
	before := len(w.squid.Log())
	w.origins()
	for _, args := range [][]string{{w.url("web.world.test")}, {"-p", w.url("web.world.test")}, {w.url("git.world.test")}} {
		cmd := exec.Command(testenv.Tool(t, "curl"), append([]string{"-sS", "-o", "/dev/null", "-w", "%{http_code} %{http_connect}", "-x", "http://" + h.addr}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir, cmd.Env = "/", []string{"PATH=" + os.Getenv("PATH")}
		out, _ := cmd.CombinedOutput()
		if !strings.Contains(string(out), "403") {
			t.Errorf("curl %v as another user: %s, want 403", args, out)
		}
	}
	if n := len(w.squid.Log()); n != before || len(w.origins()) != 0 {
		t.Errorf("something travelled for another user")
	}
	cmd := exec.Command(h.bin, "status")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir, cmd.Env = "/", h.env
	if out, err := cmd.CombinedOutput(); err == nil || strings.Contains(string(out), "alice") {
		t.Errorf("another user's status: %v %s", err, out)
	}
}

func TestA4HostileTargetsThroughTheProgram(t *testing.T) {
	upstream := proxytest.Negotiating(t, func(string) bool { return true })
	w := &world{hosts: "/etc/hosts", kdc: tickettest.StartKDC(t)}
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	_, port, _ := net.SplitHostPort(upstream.Addr)
	h := start(t, setup{world: w, cache: cache, args: []string{"--upstream", "http://localhost:" + port, "--bypass", "github.com"}})
	for id, line := range map[string]string{
		"R06": `GET http://evil.org\@github.com/`, "R07a": "GET http://git\thub.com/", "R07b": "GET http://github%2ecom/", "R09": "GET http://[fe80::1%25eth0]/",
		"R10": "GET http://a.com:99999/", "R11": "GET http:///path", "R12": "GET /path", "R13": "GET https://a.com/", "R15": "CONNECT a.com", "R16": "CONNECT github.com:443@evil.org:443",
		"R17": "CONNECT ::1:443", "R18": "CONNECT http://a.com:443/", "R19": "CONNECT a.com:443/path", "R20a": "CONNECT 2130706433:443", "R20b": "CONNECT 127.1:443", "E53": "GET //github.com/",
		"label": "GET http://a..b/", "star": "GET http://*.a.com/", "R20c": "GET http://0x7f.1/", "utf8": "GET http://a\u200bb.com/",
	} {
		method, _, _ := strings.Cut(line, " ")
		c := proxytest.Dial(t, h.addr)
		if resp, _ := c.Do(method, line+" HTTP/1.1\r\nHost: github.com\r\n\r\n"); resp.StatusCode != 400 || proxytest.Cause(resp) != "bad_request" {
			t.Errorf("%s %q: got %d %s, want 400", id, line, resp.StatusCode, proxytest.Cause(resp))
		}
	}
	if n := upstream.Conns(); n != 0 {
		t.Errorf("%d connections reached the upstream", n)
	}
	// R04, R05: userinfo is dropped and decides nothing.
	c := proxytest.Dial(t, h.addr)
	c.Do("GET", "GET http://github.com:hunter2@evil.org/?q=hunter2 HTTP/1.1\r\nHost: github.com\r\n\r\n")
	if heads := upstream.Heads(); len(heads) != 1 || heads[0].Line != "GET http://evil.org/?q=hunter2 HTTP/1.1" || heads[0].Header.Get("Host") != "evil.org" {
		t.Errorf("userinfo: %v", heads)
	}
	// The helper itself.
	c = proxytest.Dial(t, h.addr)
	if resp, _ := c.Get("http://" + h.addr + "/"); resp.StatusCode != 508 {
		t.Errorf("own listener: got %d, want 508", resp.StatusCode)
	}
}

func TestE1FiveGigabytes(t *testing.T) {
	if testing.Short() {
		t.Skip("moves 10 GB")
	}
	const size = 5 << 30
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: append(w.upstream("localhost"), "--bypass", "git.world.test")})
	// Squid 5.7 resets fast plain uploads of gigabytes by itself, also without
	// a helper in front; those go to an upstream of ours, and through Squid
	// inside a tunnel.
	plain := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Proxy-Authorization"), "Negotiate YII") {
			rw.Header().Set("Proxy-Authenticate", "Negotiate")
			rw.WriteHeader(407)
			return
		}
		n, _ := io.Copy(io.Discard, r.Body)
		rw.Header().Set("X-Got", strconv.FormatInt(n, 10))
	}))
	defer plain.Close()
	other := start(t, setup{world: w, cache: cache, args: []string{"--upstream", "http://localhost:" + strconv.Itoa(plain.Listener.Addr().(*net.TCPAddr).Port)}})
	for _, tt := range []struct {
		name, host string
		h          *helper
		upload     bool
		tunnel     bool
	}{
		{"plain upload to an upstream", "web.world.test", other, true, false},
		{"plain download through Squid", "web.world.test", h, false, false},
		{"upload in a tunnel through Squid", "web.world.test", h, true, true},
		{"download in a tunnel through Squid", "web.world.test", h, false, true},
		{"direct upload", "git.world.test", h, true, false},
		{"direct download", "git.world.test", h, false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: tt.h.addr}), DisableKeepAlives: true}
			if tt.tunnel {
				tr.Proxy = nil
				tr.DialContext = func(context.Context, string, string) (net.Conn, error) {
					c := proxytest.Dial(t, tt.h.addr)
					c.SetDeadline(time.Now().Add(10 * time.Minute))
					host := tt.host + ":" + w.port
					if resp, _ := c.Do("CONNECT", "CONNECT "+host+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); resp.StatusCode != 200 {
						return nil, fmt.Errorf("CONNECT: %s", resp.Status)
					}
					return c, nil
				}
			}
			u, body := w.url(tt.host), io.Reader(nil)
			if tt.upload {
				body = io.LimitReader(zeros{}, size)
			} else {
				u += "?size=" + strconv.Itoa(size)
			}
			req, err := http.NewRequest(map[bool]string{true: "POST", false: "GET"}[tt.upload], u, body)
			if err != nil {
				t.Fatal(err)
			}
			if tt.upload {
				req.ContentLength = size
			}
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			n, err := io.Copy(io.Discard, resp.Body)
			if got := resp.Header.Get("X-Got"); tt.upload && got != strconv.Itoa(size) {
				t.Errorf("the origin got %s bytes", got)
			}
			if !tt.upload && (n != size || err != nil) {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	if kib := peakMemory(t, other.cmd.Process.Pid); kib > 64<<10 {
		t.Errorf("the other helper used %d KiB, want under 64 MiB", kib)
	}
	if kib := peakMemory(t, h.cmd.Process.Pid); kib > 64<<10 {
		t.Errorf("the helper used %d KiB, want under 64 MiB", kib)
	}
}

// peakMemory is the largest resident set of a process, in KiB.
func peakMemory(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatal("no VmHWM")
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n
}
