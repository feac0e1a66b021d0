//go:build linux

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// startFile runs a helper without a realm whose upstream and lists stand in a
// settings file.
func startFile(t *testing.T, file string, args ...string) *helper {
	t.Helper()
	h := prepare(t, setup{file: file})
	return h.run(t, exec.Command(h.bin, append([]string{"--log-level", "debug", "run", "--kerberos=false"}, args...)...))
}

// run starts cmd as the helper and waits until it listens.
func (h *helper) run(t *testing.T, cmd *exec.Cmd) *helper {
	t.Helper()
	h.cmd = cmd
	h.log = &logBuffer{addr: make(chan string, 1)}
	h.cmd.Env, h.cmd.Stdout, h.cmd.Stderr = h.env, h.log, h.log
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.done = make(chan error, 1)
	go func() { h.done <- h.cmd.Wait() }()
	t.Cleanup(h.stop)
	select {
	case h.addr = <-h.log.addr:
	case <-time.After(60 * time.Second):
		t.Fatalf("the helper does not listen:\n%s", h.log)
	}
	return h
}

// chromium runs a browser to the end and returns the page it came to.
func chromium(t *testing.T, url string, flags ...string) string {
	t.Helper()
	all := append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run",
		"--user-data-dir=" + t.TempDir(), "--timeout=60000", "--dump-dom"}, flags...)
	cmd := exec.Command(testenv.Tool(t, "chromium"), append(all, url)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	end := time.AfterFunc(3*time.Minute, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer end.Stop()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("chromium: %v\n%s", err, out)
	}
	return string(out)
}

// asked is a server that remembers the hosts it was asked for.
type asked struct {
	mu    sync.Mutex // guards hosts
	hosts []string
}

func (a *asked) serve(t *testing.T, body string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		a.hosts = append(a.hosts, r.Host)
		a.mu.Unlock()
		w.Header().Set("Content-Type", "text/html")
		if r.Host == "start.test" {
			io.WriteString(w, body)
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// list is each of them once, without what a browser asks for by itself.
func (a *asked) list() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.Compact(slices.Sorted(slices.Values(a.hosts)))
	return slices.DeleteFunc(all, func(s string) bool { return !strings.HasSuffix(s, ".test") })
}

// A real browser with the script goes direct for what the lists say, without a
// word to Kerbpass, and through Kerbpass for everything else.
//
//	Chromium ──▶ kerbpass ──▶ upstream
//	    └──────────────────▶ origin
func TestScriptInABrowser(t *testing.T) {
	hosts := []string{"near.test", "x.near.test", "near.test.evil.test", "corp.test", "a.corp.test", "notcorp.test", "only.wild.test", "wild.test", "far.test"}
	direct := []string{"near.test", "corp.test", "a.corp.test", "only.wild.test"}
	page := "<html><body>"
	for _, h := range hosts {
		page += fmt.Sprintf("<iframe src='http://%s/'></iframe>", h)
	}
	var up, origin asked
	upAddr, originAddr := up.serve(t, page), origin.serve(t, "")
	h := startFile(t, fmt.Sprintf("listen = [\"127.0.0.1:0\"]\nupstream = [\"http://%s\"]\nno_proxy = [\".corp.test\", \"*.wild.test\"]\n[bypass]\nexact = [\"near.test\"]\n", upAddr))
	script := "http://" + h.addr + "/kerbpass.pac"
	if out, code := h.kerbpass("env", "--shell", "pac"); out != script+"\n" || code != 0 {
		t.Errorf("env says %q %d", out, code)
	}
	chromium(t, "http://start.test/", "--proxy-pac-url="+script, "--host-resolver-rules=MAP *.test "+originAddr)
	far := []string{"start.test"}
	for _, host := range hosts {
		if !slices.Contains(direct, host) {
			far = append(far, host)
		}
	}
	slices.Sort(far)
	if got := up.list(); !slices.Equal(got, far) {
		t.Errorf("the upstream was asked for %v, want %v", got, far)
	}
	slices.Sort(direct)
	if got := origin.list(); !slices.Equal(got, direct) {
		t.Errorf("the origin was asked for %v, want %v", got, direct)
	}
	out, _ := h.kerbpass("activity", "--json")
	var entries []struct{ Host string }
	if err := json.Unmarshal([]byte(out), &entries); err != nil || len(entries) < len(far) {
		t.Fatalf("%v: %s", err, out)
	}
	for _, e := range entries {
		if slices.Contains(direct, e.Host) {
			t.Errorf("Kerbpass was asked for %s", e.Host)
		}
	}
}

// The script and Kerbpass decide alike: evaluated by a browser's engine, host
// by host. It never sends direct what Kerbpass would not.
func TestScriptDecidesAsKerbpass(t *testing.T) {
	h := startFile(t, `listen = ["127.0.0.1:0"]
upstream = ["http://proxy.corp.test:3128"]
no_proxy = [".corp.test", "*.below.test", "port.test:8443", "10.0.0.0/8", "192.0.2.7", "192.0.2.8:8080", "[2001:db8::1]", "fd00::/8", "BÜCHER.test", "172.16.0.0/12", "__proto__", "x.constructor"]
[bypass]
exact = ["git.exact.test", "intranet", "dotted.", "198.51.100.1", "2001:db8::2", "xn--bcher-kva.exact.test", "has_underscore.test"]
`)
	resp, err := http.Get("http://" + h.addr + "/kerbpass.pac")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ns-proxy-autoconfig" {
		t.Fatalf("got %d %v", resp.StatusCode, err)
	}
	var urls []string
	for _, host := range []string{
		"corp.test", "a.corp.test", "a.b.corp.test", "notcorp.test", "corp.test.evil.test", "corp.test.", "a.corp.test.", "below.test", "a.below.test", "xbelow.test",
		"port.test", "a.port.test", "10.0.0.1", "10.255.255.255", "11.0.0.1", "9.255.255.255", "172.15.255.255", "172.16.0.0", "172.31.255.255", "172.32.0.0",
		"192.0.2.7", "192.0.2.8", "[2001:db8::1]", "[2001:db8::2]", "[2001:db8::3]", "[fd00::1]", "git.exact.test", "sub.git.exact.test", "git.exact.test.", "gitexact.test",
		"intranet", "intranet.", "dotted", "dotted.", "198.51.100.1", "198.51.100.2", "xn--bcher-kva.exact.test", "xn--bcher-kva.test", "a.xn--bcher-kva.test", "has_underscore.test",
		"localhost", "a.localhost", "127.0.0.1", "127.8.8.8", "128.0.0.1", "[::1]", "[::2]", "notlocalhost", "localhost.test", "tostring", "__proto__", "a.__proto__", "constructor", "x.constructor", "a.x.constructor", "hasownproperty",
	} {
		for _, u := range []string{"http://%s/", "https://%s/", "http://%s:8443/p?q=1", "http://%s:8080/", "https://%s:8443/"} {
			urls = append(urls, fmt.Sprintf(u, host))
		}
	}
	list, _ := json.Marshal(urls)
	file := filepath.Join(t.TempDir(), "page.html")
	html := fmt.Sprintf("<html><body><pre id=out></pre><script>%s\nvar all = %s; document.getElementById('out').textContent = all.map(function (u) { var h = /^[a-z]+:\\/\\/(\\[[^\\]]*\\]|[^:\\/]*)/.exec(u)[1]; return FindProxyForURL(u, h.replace(/[\\[\\]]/g, '')); }).join('\\n');</script></body></html>", text, list)
	if err := os.WriteFile(file, []byte(html), 0o644); err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)<pre id="out">(.*?)</pre>`).FindStringSubmatch(chromium(t, "file://"+file))
	if m == nil {
		t.Fatal("the script did not run")
	}
	answers := strings.Split(m[1], "\n")
	if len(answers) != len(urls) {
		t.Fatalf("%d answers for %d URLs: %q", len(answers), len(urls), m[1])
	}
	n := map[string]int{}
	for i, u := range urls {
		out, code := h.routeOf(u)
		if code != 0 {
			t.Fatalf("why %s: %s", u, out)
		}
		want := "PROXY " + h.addr
		if out == "direct" {
			want = "DIRECT"
		}
		if strings.Contains(u, "fd00::1") { // IPv6 blocks are left to Kerbpass
			want = "PROXY " + h.addr
		}
		if answers[i] != want {
			t.Errorf("%s: the script says %q, want %q", u, answers[i], want)
		}
		n[answers[i]]++
	}
	if n["DIRECT"] < 50 || n["PROXY "+h.addr] < 50 || len(n) != 2 {
		t.Errorf("the answers are %v", n)
	}
}

// routeOf asks the running helper for a route.
func (h *helper) routeOf(u string) (route string, code int) {
	var answer struct{ Route string }
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(h.home, "run", "kerbpass", "control.sock"))
	}}}
	req, err := http.NewRequest("GET", "http://kerbpass/v1/why", nil)
	if err != nil {
		return err.Error(), 1
	}
	q := req.URL.Query()
	q.Set("target", u)
	req.URL.RawQuery = q.Encode()
	resp, err := c.Do(req)
	if err != nil {
		return err.Error(), 1
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if json.Unmarshal(b, &answer) != nil || answer.Route == "" {
		return string(b), 1
	}
	return answer.Route, 0
}
