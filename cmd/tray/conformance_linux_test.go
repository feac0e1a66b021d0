//go:build linux

package main_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/demo/realm"
	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/tickettest"
)

// Statements of the proxy's checklist whose other side is a real Squid with a
// real KDC, or whose tokens are real, through the built program. What Squid
// does was measured first; these tests notice when it, or we, change.

const onlyWhenChallenged = "[kerberos]\npreemptive = false\n"

// atSquid starts a world and a helper in front of its Squid.
func atSquid(t *testing.T, squid proxytest.SquidConfig, file string, args ...string) (*world, *helper) {
	t.Helper()
	w := newWorld(t, squid)
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	return w, start(t, setup{world: w, cache: cache, file: file, args: append(w.upstream("localhost"), args...)})
}

// logged waits until Squid has logged n entries that want accepts.
func (w *world) logged(t *testing.T, n int, want func(proxytest.Entry) bool) (found []proxytest.Entry) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		found = found[:0]
		for _, e := range w.squid.Log() {
			if e.Method != "-" && want(e) { // not the look whether Squid listens
				found = append(found, e)
			}
		}
		if len(found) >= n {
			return found
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d such lines in Squid's log, want %d:\n%v", len(found), n, w.squid.Log())
		}
	}
}

// tunnel opens a tunnel to host through the helper.
func (h *helper) tunnel(host string) (*proxytest.Client, int) {
	h.t.Helper()
	c := proxytest.Dial(h.t, h.addr)
	resp, _ := c.Do("CONNECT", "CONNECT "+host+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
	return c, resp.StatusCode
}

// Squid remembers tokens: one that is used twice is a 407. Sixty connections
// at once, each with a token of its own, see none.
func TestC1FreshTokensAtSquid(t *testing.T) {
	w, h := atSquid(t, proxytest.SquidConfig{}, "")
	h.want("200", "", w.url("web.world.test"))
	const n = 60
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			c, status := h.tunnel("web.world.test:" + w.port)
			defer c.Close()
			if status != 200 {
				t.Errorf("CONNECT: got %d", status)
				return
			}
			if resp, _ := c.Do("GET", "GET / HTTP/1.1\r\nHost: web.world.test\r\n\r\n"); resp.StatusCode != 200 {
				t.Errorf("in the tunnel: got %d", resp.StatusCode)
			}
		})
	}
	wg.Wait()
	user := "alice@" + w.kdc.Realm
	w.logged(t, n, func(e proxytest.Entry) bool { return e.Method == "CONNECT" && e.Status == "200" && e.User == user })
	for _, e := range w.squid.Log() {
		if e.Status == "407" {
			t.Errorf("a 407 at Squid: %+v", e)
		}
	}
}

// The KDC knows the proxy under its configured name, or under the one set, and
// under no other.
func TestC4ServicePrincipalAtTheKDC(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	for _, tt := range []struct{ name, host, file, status, cause string }{
		{"as configured", "localhost", "", "200", ""},
		{"letter case", "LocalHost", "", "200", ""},
		{"unknown", "unknown.world.test", "", "502", "spn_unknown"},
		{"an address", "127.0.0.1", "", "502", "spn_unknown"},
		{"a name that is set", "127.0.0.1", "[kerberos]\nspn = \"HTTP/proxy.world.test\"\n", "200", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := start(t, setup{world: w, cache: cache, args: w.upstream(tt.host), file: tt.file})
			h.want(tt.status, tt.cause, w.url("web.world.test"))
		})
	}
}

// realTokens is a helper with a ticket of the in-process realm, whose upstream
// is scripted.
func realTokens(t *testing.T, up *proxytest.Server, r *realm.Realm) *helper {
	t.Helper()
	if _, err := r.Mint(realm.MintOptions{}); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(up.Addr)
	w := &world{hosts: "/etc/hosts", kdc: &tickettest.KDC{Krb5Conf: r.Krb5Conf()}}
	return start(t, setup{world: w, cache: "FILE:" + r.CachePath(), args: []string{"--upstream", "http://localhost:" + port}})
}

func startRealm(t *testing.T) *realm.Realm {
	t.Helper()
	r, err := realm.Start(realm.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// What the token asks for, read with the service's key.
func TestC6NoDelegation(t *testing.T) {
	r := startRealm(t)
	acceptor := r.Acceptor()
	var mu sync.Mutex // guards got
	var got []realm.Context
	up := proxytest.Negotiating(t, func(token string) bool {
		c, err := acceptor.Inspect([]byte(token))
		if err != nil {
			t.Errorf("token: %v", err)
			return false
		}
		mu.Lock()
		got = append(got, c)
		mu.Unlock()
		return true
	})
	h := realTokens(t, up, r)
	h.want("200", "", "http://web.world.test/")
	if _, status := h.tunnel("web.world.test:443"); status != 200 {
		t.Errorf("CONNECT: got %d", status)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 2 {
		t.Fatalf("%d tokens arrived, want 2", len(got))
	}
	const delegate, mutual = 1, 2 // RFC 4121 section 4.1.1.1
	for _, c := range got {
		if c.Flags&(delegate|mutual) != 0 || c.Mutual || !c.SPNEGO || c.Client != "alice@"+r.Name() || c.Service != "HTTP/localhost@"+r.Name() {
			t.Errorf("the token says %+v", c)
		}
	}
}

func TestC7TicketAfterTheStart(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost")})
	h.want("502", "no_ticket", w.url("web.world.test"))
	w.kdc.Kinit(t, "alice", cache)
	h.want("200", "", w.url("web.world.test"))
	h.want("200", "", "-p", w.url("web.world.test"))
}

func TestC9HangingKDC(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	web, git := w.url("web.world.test"), w.url("git.world.test")
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	conf := w.kdc.ConfFor(t, tickettest.HangingKDC(t))
	h := start(t, setup{world: w, cache: cache, conf: conf, args: append(w.upstream("localhost"), "--bypass", "git.world.test")})
	begun := time.Now()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			h.want("502", "kdc_unreachable", web)
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("kdc_unreachable after %v", took)
			}
		})
	}
	waiting := make(chan struct{})
	go func() { wg.Wait(); close(waiting) }()
	for n := range 20 {
		h.want("200", "", git)
		select {
		case <-waiting:
			t.Fatalf("only %d direct requests while the KDC hung", n)
		default:
		}
	}
	<-waiting
}

// Without being asked by default, so that Squid never has to; behind its 407
// where the settings say so.
func TestC10PreemptiveAtSquid(t *testing.T) {
	for file, want407 := range map[string]int{"": 0, onlyWhenChallenged: 2} {
		w, h := atSquid(t, proxytest.SquidConfig{}, file)
		h.want("200", "", w.url("web.world.test"))
		h.want("200", "", "-p", w.url("web.world.test"))
		w.logged(t, 2, func(e proxytest.Entry) bool { return e.Status == "200" })
		n := 0
		for _, e := range w.squid.Log() {
			if e.Status == "407" {
				n++
			}
		}
		if n != want407 {
			t.Errorf("with %q: Squid answered 407 %d times, want %d: %v", file, n, want407, w.squid.Log())
		}
	}
}

// A refused token costs one more, on another connection.
func TestD4RefusedAtSquid(t *testing.T) {
	// Squid's clock is ten minutes behind: tokens of ours come from the future,
	// whether the system's library made them or we did.
	w := newWorld(t, proxytest.SquidConfig{Faketime: "-10m"})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: w.upstream("localhost")})
	h.want("502", "token_refused", w.url("web.world.test"))
	got := w.logged(t, 2, func(e proxytest.Entry) bool { return e.Status == "407" })
	if len(got) != 2 || got[0].Client == got[1].Client {
		t.Errorf("want two 407 on two connections: %v", w.squid.Log())
	}
}

// Replies to a real token, in the wire form of RFC 4178.
func TestD7SPNEGOReplies(t *testing.T) {
	for _, tt := range []struct {
		name, reply string
		in200       bool
		status      string
		cause       string
	}{
		{"reject", "a1073005a0030a0102", false, "502", "token_refused"},
		{"wants a MIC", "a1073005a0030a0103", false, "502", "token_refused"},
		{"wants more", "a1073005a0030a0101", false, "502", "token_refused"},
		{"chooses NTLM", "a1153013a0030a0101a10c060a2b06010401823702020a", false, "502", "token_refused"},
		{"is done, in a 407", "a1073005a0030a0100", false, "502", "token_refused"},
		{"is done", "a1073005a0030a0100", true, "200", ""},
		{"is done, with Kerberos", "a1143012a0030a0100a10b06092a864886f712010202", true, "200", ""},
		{"rejects, in a 200", "a1073005a0030a0102", true, "502", "token_refused"},
		{"chooses NTLM, in a 200", "a1153013a0030a0100a10c060a2b06010401823702020a", true, "502", "token_refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := hex.DecodeString(tt.reply)
			if err != nil {
				t.Fatal(err)
			}
			head := "HTTP/1.1 407 No\r\n"
			if tt.in200 {
				head = "HTTP/1.1 200 OK\r\n"
			}
			up := proxytest.Answering(t, head+"Proxy-Authenticate: Negotiate "+base64.StdEncoding.EncodeToString(raw)+"\r\nContent-Length: 0\r\n\r\n")
			h := realTokens(t, up, startRealm(t))
			h.want(tt.status, tt.cause, "http://web.world.test/")
			if n := len(up.Heads()); n != 1 {
				t.Errorf("the upstream saw %d requests, want 1", n)
			}
		})
	}
}

// Squid with keep_alive off closes after its 407.
func TestD9SquidClosesAfter407(t *testing.T) {
	w, h := atSquid(t, proxytest.SquidConfig{Extra: "auth_param negotiate keep_alive off"}, onlyWhenChallenged)
	h.want("200", "", w.url("web.world.test"))
	h.want("200", "", "-p", w.url("web.world.test"))
	for _, method := range []string{"GET", "CONNECT"} {
		got := w.logged(t, 2, func(e proxytest.Entry) bool { return e.Method == method })
		if got[0].Status != "407" || got[1].Status != "200" || got[0].Client == got[1].Client {
			t.Errorf("%s: want a 407 and a 200 on two connections: %v", method, got)
		}
	}
}

// Squid says keep-alive with its 407 to an upload that it then does not read
// to the end: going on with that connection would hang.
func TestE4UploadsAtSquid(t *testing.T) {
	for _, file := range []string{"", onlyWhenChallenged} {
		w, h := atSquid(t, proxytest.SquidConfig{}, file)
		for _, size := range []int{5, 1000, 20_000, 70_000, 300_000, 1_000_000} {
			body := filepath.Join(t.TempDir(), "body")
			if err := os.WriteFile(body, make([]byte, size), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, how := range [][]string{{"--data-binary", "@" + body}, {"-H", "Transfer-Encoding: chunked", "--data-binary", "@" + body}} {
				out, err := exec.Command(testenv.Tool(t, "curl"), append([]string{"-sS", "--max-time", "20", "-x", "http://" + h.addr, "-o", "/dev/null", "-w", "%{http_code} %header{x-got}", w.url("web.world.test")}, how...)...).CombinedOutput()
				if got, want := string(out), fmt.Sprintf("200 %d", size); got != want || err != nil {
					t.Errorf("%q, %v: got %q, want %q, %v", file, how[0], got, want, err)
				}
			}
		}
	}
}

func TestE5ExpectAtSquid(t *testing.T) {
	for _, file := range []string{"", onlyWhenChallenged} {
		w, h := atSquid(t, proxytest.SquidConfig{}, file)
		for range 2 {
			c := proxytest.Dial(t, h.addr)
			host := "web.world.test:" + w.port
			resp, _ := c.Do("POST", "POST http://"+host+"/ HTTP/1.1\r\nHost: "+host+"\r\nExpect: 100-continue\r\nContent-Length: 20000\r\n\r\n")
			if resp.StatusCode == 100 {
				c.Write(make([]byte, 20000))
				resp, _ = c.Response("POST")
			}
			if resp.StatusCode != 200 || resp.Header.Get("X-Got") != "20000" {
				t.Errorf("%q: got %d, the origin got %s bytes", file, resp.StatusCode, resp.Header.Get("X-Got"))
			}
		}
	}
}

// After Squid's first 407 the token goes on the same connection.
func TestF5SameConnectionAtSquid(t *testing.T) {
	w, h := atSquid(t, proxytest.SquidConfig{}, onlyWhenChallenged)
	h.want("200", "", "-p", w.url("web.world.test"))
	got := w.logged(t, 2, func(e proxytest.Entry) bool { return e.Method == "CONNECT" })
	if got[0].Status != "407" || got[1].Status != "200" || got[0].Client != got[1].Client {
		t.Errorf("want a 407 and a 200 on one connection: %v", got)
	}
}

// A host is put on the list and taken off again while a tunnel to it stands.
func TestI4ChangesHoldForTheNextRequest(t *testing.T) {
	w, h := atSquid(t, proxytest.SquidConfig{}, "")
	web := w.url("web.world.test")
	throughSquid := func() int {
		// Squid logs in order: what came before the marker stands there.
		before := len(w.logged(t, 0, func(e proxytest.Entry) bool { return strings.Contains(e.URL, "notgit") }))
		h.want("200", "", w.url("notgit.world.test"))
		w.logged(t, before+1, func(e proxytest.Entry) bool { return strings.Contains(e.URL, "notgit") })
		return len(w.logged(t, 0, func(e proxytest.Entry) bool { return e.Method == "GET" && e.URL == web }))
	}
	inside := func(c *proxytest.Client, when string) {
		t.Helper()
		if resp, body := c.Do("GET", "GET / HTTP/1.1\r\nHost: web.world.test\r\n\r\n"); resp.StatusCode != 200 || !strings.Contains(body, "hello") {
			t.Errorf("in the tunnel %s: got %d %q", when, resp.StatusCode, body)
		}
	}
	c, status := h.tunnel("web.world.test:" + w.port)
	if status != 200 {
		t.Fatalf("CONNECT: got %d", status)
	}
	inside(c, "before the change")
	h.want("200", "", web)
	if n := throughSquid(); n != 1 {
		t.Fatalf("Squid saw %d requests, want 1", n)
	}
	if out, code := h.kerbpass("bypass", "add", "web.world.test"); code != 0 {
		t.Fatalf("bypass add: %d %s", code, out)
	}
	h.want("200", "", web)
	if n := throughSquid(); n != 1 {
		t.Errorf("the listed host went through Squid")
	}
	inside(c, "after the change")
	if out, code := h.kerbpass("bypass", "remove", "web.world.test"); code != 0 {
		t.Fatalf("bypass remove: %d %s", code, out)
	}
	h.want("200", "", web)
	if n := throughSquid(); n != 2 {
		t.Errorf("taken off the list, the host does not go through Squid")
	}
	inside(c, "after the second change")
	c.Close()
	w.logged(t, 1, func(e proxytest.Entry) bool {
		return e.Method == "CONNECT" && strings.HasPrefix(e.URL, "web.") && e.Status == "200"
	})
}

// The variables point at a trap; neither the way to Squid nor the direct one
// touches it.
func TestI6ProxyVariablesAreNotForOurDials(t *testing.T) {
	trap := proxytest.Answering(t, proxytest.OK)
	var env []string
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY"} {
		env = append(env, name+"=http://"+trap.Addr, strings.ToLower(name)+"=http://"+trap.Addr)
	}
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, env: env, args: append(w.upstream("localhost"), "--bypass", "git.world.test")})
	for _, host := range []string{"web.world.test", "git.world.test", "127.0.0.1"} {
		h.want("200", "", w.url(host))
		h.want("200", "", "-p", w.url(host))
	}
	w.logged(t, 2, func(e proxytest.Entry) bool { return strings.Contains(e.URL, "web.world.test") })
	if n := trap.Conns(); n != 0 {
		t.Errorf("%d dials followed the variables", n)
	}
}

// This computer goes direct under each of its names, with an upstream at hand.
func TestI8LoopbackGoesDirect(t *testing.T) {
	w, h := atSquid(t, proxytest.SquidConfig{}, "")
	for _, host := range []string{"127.0.0.1", "127.1.2.3", "localhost", "LOCALHOST.", "app.localhost"} {
		w.origins()
		want := "200"
		if host == "127.1.2.3" {
			want = "502" // nobody listens there
		}
		cause := map[string]string{"200": "", "502": "destination_unreachable"}[want]
		h.want(want, cause, w.url(host))
		h.want(want, cause, "-p", w.url(host))
		if n := len(w.origins()); want == "200" && n != 2 {
			t.Errorf("%s: the origin was asked %d times, want 2", host, n)
		}
	}
	h.want("502", "destination_unreachable", "http://[::1]:"+strconv.Itoa(testenv.FreePort(t))+"/")
	h.want("200", "", w.url("web.world.test"))
	w.logged(t, 1, func(e proxytest.Entry) bool { return strings.Contains(e.URL, "web.world.test") })
	if all := w.logged(t, 1, func(proxytest.Entry) bool { return true }); len(all) != 1 {
		t.Errorf("Squid saw loopback targets: %v", all)
	}
}

// A run with every kind of secret in it; stop and curl look for them in the
// log and the answers, this looks at the commands.
func TestJ3SecretsThroughTheProgram(t *testing.T) {
	w, h := atSquid(t, proxytest.SquidConfig{}, "", "--bypass", "git.world.test")
	for _, host := range []string{"web.world.test", "git.world.test", "unknown.invalid"} {
		u := "http://user:hunter2@" + host + ":" + w.port + "/?token=hunter2"
		for _, args := range [][]string{{u}, {"-p", u}, {"-U", "proxyuser:hunter2", u}, {"-H", "Cookie: hunter2", "-H", "Authorization: Bearer hunter2", u}} {
			h.curl(args...)
		}
	}
	c := proxytest.Dial(t, h.addr)
	io.WriteString(c, "GET http://user:hunter2@/?hunter2 HTTP/1.1\r\nHost: hunter2\r\n\r\n")
	if page, _ := io.ReadAll(c.R); strings.Contains(string(page), "hunter2") || len(page) == 0 {
		t.Errorf("page: %s", page)
	}
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"why", "http://user:hunter2@web.world.test/?hunter2"}} {
		if out, _ := h.kerbpass(args...); strings.Contains(out, "hunter2") || out == "" {
			t.Errorf("%v printed %q", args, out)
		}
	}
	if log := h.log.String(); strings.Contains(log, "hunter2") || !strings.Contains(log, "web.world.test") {
		t.Errorf("log:\n%s", log)
	}
}

// From level warn on, no host that somebody visits is named in the log.
func TestJ4VisitedHostsStayOutOfTheLog(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, args: append(w.upstream("localhost"), "--bypass", "git.world.test,nowhere.invalid"), level: "info"})
	names := []string{"web.world.test", "git.world.test", "nowhere.invalid"}
	visit := func(h *helper) {
		for _, host := range names {
			h.curl(w.url(host))
			h.curl("-p", w.url(host))
		}
		h.curl("-p", "http://git.world.test:25/")
	}
	visit(h)
	if !strings.Contains(h.log.String(), "nowhere.invalid") {
		t.Errorf("level info names no failed host; this test would prove nothing:\n%s", h.log)
	}
	h = start(t, setup{world: w, cache: cache, args: append(w.upstream("localhost"), "--bypass", "git.world.test,nowhere.invalid"), level: "warn"})
	visit(h)
	for _, name := range names {
		if strings.Contains(h.log.String(), name) {
			t.Errorf("%s is in the log:\n%s", name, h.log)
		}
	}
}
