//go:build linux

package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/tickettest"
)

// scriptServer serves a configuration script that changes, and dies.
type scriptServer struct {
	*httptest.Server
	text atomic.Pointer[string]
	dead atomic.Bool
}

func newScriptServer(t *testing.T, text string) *scriptServer {
	t.Helper()
	s := &scriptServer{}
	s.text.Store(&text)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.dead.Load() {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Cache-Control", "no-cache")
		io.WriteString(w, *s.text.Load())
	}))
	t.Cleanup(s.Close)
	return s
}

// soon waits for what may take a moment.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(90 * time.Second); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func (h *helper) why(args ...string) (a struct {
	Route, Rule, Entry, Source, Upstream, Explanation string
	Kerberos                                          bool
}) {
	h.t.Helper()
	out, _ := h.kerbpass(append([]string{"why", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	return a
}

// client -> helper -> upstream a or b, as the script says
func TestPACThroughTheProgram(t *testing.T) {
	a, b := named(t, "a"), named(t, "b")
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := gone.Addr().String()
	gone.Close()
	own := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
	text := fmt.Sprintf(`function FindProxyForURL(url, host) {
	switch (host) {
	case "next.example": return "PROXY %[1]s; PROXY %[2]s";
	case "self.example": return "PROXY %[3]s";
	case "selfnext.example": return "PROXY %[3]s; PROXY %[2]s";
	case "throw.example": throw new Error("no way");
	case "junk.example": return "SOCKS4 a.example:1; nonsense";
	case "empty.example": return "";
	case "forever.example": for (;;);
	case "grow.example": for (var s = "x";;) s += s;
	}
	return url.substring(0, 6) == "https:" ? "PROXY %[2]s" : "PROXY %[4]s";
}`, closed, b.Host, own, a.Host)
	s := newScriptServer(t, text)
	h := startFound(t, setup{file: fmt.Sprintf("pac = %q\n", s.URL+"/proxy.pac"), args: []string{"--kerberos=true"}}, own)
	h.by("a")
	h.until(a.String() + " pac, settings")
	for _, tt := range []struct{ host, status, cause, body string }{
		{"web.example", "200", "", "a"},
		{"next.example", "200", "", "b"},
		{"self.example", "508", "loop_detected", "back to Kerbpass itself"},
		{"selfnext.example", "200", "", "b"},
		{"throw.example", "502", "internal", "no way"},
		{"junk.example", "502", "internal", "SOCKS4"},
		{"empty.example", "502", "internal", "empty"},
		{"forever.example", "502", "internal", "time"},
		{"grow.example", "502", "internal", "memory"},
		{"after.example", "200", "", "a"},
	} {
		if status, cause, body := h.curl("http://" + tt.host + "/"); status != tt.status || cause != tt.cause || !strings.Contains(body, tt.body) {
			t.Errorf("%s: got %s %q %q, want %s %q %q", tt.host, status, cause, body, tt.status, tt.cause, tt.body)
		}
	}

	for _, tt := range []struct{ target, route, upstream, entry, words string }{
		{"https://s.example/x", "proxy", b.String(), "PROXY " + b.Host, "gets no Kerberos token"},
		{"http://s.example/", "proxy", a.String(), "PROXY " + a.Host, "upstreams = [\"" + a.Host + "\"]"},
		{"http://next.example/", "proxy", "http://" + closed, "PROXY " + closed + "; PROXY " + b.Host, "1 more"},
		{"http://self.example/", "refused", "", "PROXY " + own, "Kerbpass itself"},
		{"http://throw.example/", "refused", "", "", "no way"},
	} {
		w := h.why(tt.target)
		if w.Rule != "pac" || w.Route != tt.route || w.Upstream != tt.upstream || w.Entry != tt.entry || w.Kerberos || !strings.Contains(w.Explanation, tt.words) {
			t.Errorf("why %s: got %+v, want %+v", tt.target, w, tt)
		}
	}
	if w := h.why("http://127.0.0.1:1/"); w.Rule != "loopback" || w.Route != "direct" {
		t.Errorf("loopback: got %+v", w)
	}

	// Another script, a server that dies, and one that comes back.
	other := fmt.Sprintf(`function FindProxyForURL(url, host) { return "PROXY %s"; }`, b.Host)
	s.text.Store(&other)
	asked := func() string {
		_, _, body := h.curl("http://web.example/")
		return body
	}
	soon(t, "the new script", func() bool { return asked() == "b" })
	s.dead.Store(true)
	soon(t, "a problem in the status", func() bool {
		h.by("b") // which also has it look
		out, _ := h.kerbpass("status", "--json")
		return strings.Contains(out, "last good one is used")
	})
	h.by("b")
	s.text.Store(&text)
	s.dead.Store(false)
	soon(t, "the script again", func() bool { return asked() == "a" })
	if out, _ := h.kerbpass("status", "--json"); strings.Contains(out, "last good one is used") {
		t.Errorf("the problem stays: %s", out)
	}

	// A script in a file beside the settings, then one that is not there.
	dir := filepath.Dir(h.config())
	if err := os.WriteFile(filepath.Join(dir, "my.pac"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.config(), []byte("pac = \"my.pac\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	soon(t, "the script of the file", func() bool { return asked() == "b" })
	if err := os.WriteFile(h.config(), []byte("pac = \"none.pac\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	soon(t, "no script", func() bool {
		status, cause, body := h.curl("http://web.example/")
		return status == "502" && cause == "upstream_unreachable" && strings.Contains(body, "cannot be fetched")
	})
	if out, code := h.kerbpass("status", "--json"); code == 0 || !strings.Contains(out, "The configuration script (PAC) is not there") {
		t.Errorf("status: %d %s", code, out)
	}
}

// Which of upstream and script counts.
func TestPACAndUpstream(t *testing.T) {
	a, b := named(t, "a"), named(t, "b")
	file := filepath.Join(t.TempDir(), "x.pac")
	if err := os.WriteFile(file, []byte(fmt.Sprintf(`function FindProxyForURL(url, host) { return "PROXY %s"; }`, a.Host)), 0o600); err != nil {
		t.Fatal(err)
	}
	pacLine, upLine := fmt.Sprintf("pac = %q\n", file), fmt.Sprintf("upstream = [%q]\n", b)
	for _, tt := range []struct {
		name, file string
		env, args  []string
		want       *url.URL
		rule       string
	}{
		{"flag alone", "", nil, []string{"--pac", file}, a, "pac"},
		{"both flags", "", nil, []string{"--pac", file, "--upstream", b.String()}, a, "pac"},
		{"both in the file", pacLine + upLine, nil, nil, a, "pac"},
		{"flag beats file", pacLine, nil, []string{"--upstream", b.String()}, b, "default"},
		{"flag beats variable", "", []string{"HTTPS_PROXY=" + b.String()}, []string{"--pac", file}, a, "pac"},
		{"variable beats file", pacLine, []string{"HTTPS_PROXY=" + b.String()}, nil, b, "default"},
		{"flag that is empty", pacLine + upLine, nil, []string{"--pac", ""}, b, "default"},
	} {
		h := prepare(t, setup{file: tt.file, env: append(tt.env, "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent")})
		if w := h.why(append(tt.args, "http://web.example/")...); w.Upstream != tt.want.String() || w.Rule != tt.rule {
			t.Errorf("%s: got %+v", tt.name, w)
		}
	}
}

// The system's own script, without any setting.
func TestSystemPAC(t *testing.T) {
	a, b, file := named(t, "a"), named(t, "b"), named(t, "file")
	s := newScriptServer(t, fmt.Sprintf(`function FindProxyForURL(url, host) { return "PROXY %s"; }`, a.Host))
	next := newScriptServer(t, fmt.Sprintf(`function FindProxyForURL(url, host) { return "PROXY %s"; }`, b.Host))
	env := []string{"XDG_CURRENT_DESKTOP=KDE", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent", "XDG_CONFIG_DIRS=/nonexistent"}
	h := startFound(t, setup{env: env}, "127.0.0.1:0")
	by := func(name string) {
		t.Helper()
		soon(t, "an answer of "+name, func() bool { _, _, body := h.curl("http://web.example/"); return body == name })
	}
	h.kde("ProxyType=2\nProxy Config Script=" + s.URL + "/a.pac")
	by("a")
	h.until(a.String() + " pac, system settings (KDE)")
	h.kde("ProxyType=2\nProxy Config Script=" + next.URL + "/b.pac")
	by("b")
	h.kde("ProxyType=1\nhttpProxy=http://127.0.0.1 " + a.Port())
	by("a")
	h.until(a.String() + " system settings (KDE)")
	h.kde("ProxyType=2\nProxy Config Script=" + next.URL + "/b.pac")
	by("b")
	if err := os.WriteFile(h.config(), []byte(fmt.Sprintf("upstream = [%q]\n", file)), 0o600); err != nil {
		t.Fatal(err)
	}
	by("file")
	if err := os.WriteFile(h.config(), []byte("pac = \"auto\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	by("b")
	h.kde("ProxyType=2\nProxy Config Script=" + s.URL + "/a.pac")
	by("a")
}

// client -> helper -> Squid, which wants a token -> origin
func TestWorldPACTokensOnlyToTheListed(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	squid := fmt.Sprintf("localhost:%d", w.squid.Port)
	script := filepath.Join(t.TempDir(), "x.pac")
	if err := os.WriteFile(script, []byte(fmt.Sprintf(`function FindProxyForURL(url, host) {
	return host == "git.world.test" ? "DIRECT" : "PROXY %s";
}`, squid)), 0o644); err != nil {
		t.Fatal(err)
	}
	h := start(t, setup{world: w, cache: cache, args: []string{"--pac", script}})
	h.want("200", "", w.url("git.world.test"))
	if got := w.origins(); len(got) != 1 {
		t.Errorf("DIRECT: the origin was asked for %v", got)
	}
	for _, args := range [][]string{{w.url("web.world.test")}, {"-p", w.url("web.world.test")}} {
		status, cause, body := h.curl(args...)
		if status != "502" || cause != "upstream_not_allowed" || len(args) == 1 && !strings.Contains(body, "add "+squid+" to kerberos.upstreams") {
			t.Errorf("%v: got %s %s %s", args, status, cause, body)
		}
	}
	out, code := h.kerbpass("status", "--json")
	if code != 5 || !strings.Contains(out, `"upstream_not_allowed"`) || !strings.Contains(out, "add "+squid+" to kerberos.upstreams") {
		t.Errorf("status: %d %s", code, out)
	}
	leads(t, h.doctor(5, nil), "challenge", "upstream_not_allowed", "upstreams = [\""+squid+"\"]")
	user := "alice@" + w.kdc.Realm
	for _, e := range w.squid.Log() {
		if e.User == user {
			t.Errorf("a token for a proxy that is not listed: %+v", e)
		}
	}

	if err := os.WriteFile(h.config(), []byte(fmt.Sprintf("[kerberos]\nupstreams = [%q]\n", squid)), 0o600); err != nil {
		t.Fatal(err)
	}
	soon(t, "a way with tokens", func() bool { status, _, _ := h.curl(w.url("web.world.test")); return status == "200" })
	h.want("200", "", "-p", w.url("web.world.test"))
	w.squid.WaitLog(func(e proxytest.Entry) bool { return e.Method == "CONNECT" && e.User == user && e.Status == "200" })
	h.want("200", "", w.url("git.world.test"))
	if a := h.why(w.url("web.world.test")); a.Upstream != "http://"+squid || !a.Kerberos {
		t.Errorf("why: %+v", a)
	}
	if out, code := h.kerbpass("status", "--json"); code != 0 {
		t.Errorf("status: %d %s", code, out)
	}
	h.doctor(0, nil)
}

// The name wpad in the domain that the computer searches, in a mount namespace
// with its own resolver files.
func TestPACByWPAD(t *testing.T) {
	testenv.Root(t) // for port 80
	a := named(t, "a")
	var l net.Listener
	for n := 0; l == nil; n++ {
		var err error
		addr := fmt.Sprintf("127.%d.%d.%d:80", 1+rand.IntN(250), rand.IntN(256), 1+rand.IntN(250))
		if l, err = net.Listen("tcp", addr); err != nil && n == 20 {
			t.Fatal(err)
		}
	}
	var asked atomic.Int32
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/wpad.dat" || r.Host != "wpad.corp.test" {
			t.Errorf("asked for %s at %s", r.URL, r.Host)
		}
		fmt.Fprintf(w, "function FindProxyForURL(url, host) { return 'PROXY %s'; }", a.Host)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	host, _, _ := net.SplitHostPort(l.Addr().String())
	hosts, resolv := filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	for path, text := range map[string]string{hosts: "127.0.0.1 localhost\n" + host + " wpad.corp.test\n", resolv: "search corp.test\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	env := []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent", "XDG_CONFIG_DIRS=/nonexistent"}
	with := setup{world: &world{kdc: &tickettest.KDC{Krb5Conf: "/dev/null"}, hosts: hosts}, env: env, args: []string{"--kerberos=false"},
		prefix: []string{"sh", "-c", "mount --bind " + resolv + ` /etc/resolv.conf && exec "$@"`, "sh"}}

	h := start(t, with)
	h.want("502", "upstream_unreachable", "http://web.example/")
	if n := asked.Load(); n != 0 {
		t.Errorf("asked for wpad.dat unasked, %d times", n)
	}
	if err := os.WriteFile(h.config(), []byte("pac = \"auto\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	soon(t, "the script", func() bool { _, _, body := h.curl("http://web.example/"); return body == "a" })
	if out, _ := h.kerbpass("status", "--json"); !strings.Contains(out, `"pac": "http://wpad.corp.test/wpad.dat"`) {
		t.Errorf("status: %s", out)
	}
}
