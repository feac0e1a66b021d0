//go:build linux

package main

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/auth"
	"kerbpass/internal/proxy"
	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/settings"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/keyring"
)

const loginPassword = "Pw-of-the-login-test"

// keyringOf holds passwords as the keyring does.
type keyringOf struct {
	mu    sync.Mutex // guards both
	all   map[string]string
	asked int
}

func (k *keyringOf) GetLogin(_ context.Context, name string) (ticket.Secret, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked++
	if p, ok := k.all[name]; ok {
		return ticket.NewSecret([]byte(p)), nil
	}
	return ticket.Secret{}, &ticket.OpError{Op: "read password", Subject: name, Err: keyring.ErrNotFound}
}

func (k *keyringOf) set(name, password string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all[name] = password
}

// loginWorld is a Squid that wants a password, an origin behind it and an app
// in front.
type loginWorld struct {
	t       *testing.T
	squid   *proxytest.Squid
	url     string // of the origin, for Squid only
	host    string
	app     *app
	keyring *keyringOf
	name    string // in the keyring
}

// ntlmHelper is a helper of Squid that takes every last message, or none. The
// challenge of Squid's own ntlm_fake_auth claims to hold what it does not.
func ntlmHelper(verdict string) string {
	target := "\x02\x00\x08\x00C\x00O\x00R\x00P\x00\x00\x00\x00\x00" // the domain's name, and the end
	challenge := "NTLMSSP\x00\x02\x00\x00\x00" + "\x00\x00\x00\x00\x38\x00\x00\x00" + "\x01\x82\x88\x00" + "\x01\x23\x45\x67\x89\xab\xcd\xef" +
		strings.Repeat("\x00", 8) + "\x10\x00\x10\x00\x38\x00\x00\x00" + strings.Repeat("\x00", 8) + target
	return `while read -r kind message; do
	case "$kind $message" in
	"YR TlRMTVNTUAAB"*) echo "TT ` + base64.StdEncoding.EncodeToString([]byte(challenge)) + `" ;;
	"KK TlRMTVNTUAAD"*) echo "` + verdict + `" ;;
	*) echo "BH not that" ;;
	esac
done
`
}

// squidFor is the configuration of a Squid that takes loginPassword from alice
// in scheme; NTLM's helper takes everything, or nothing with deny.
func squidFor(t *testing.T, scheme string, deny bool) proxytest.SquidConfig {
	t.Helper()
	hash := md5.Sum([]byte("alice:squid:" + loginPassword))
	cfg := proxytest.SquidConfig{Files: map[string]string{
		"hosts":  "127.0.0.1 localhost web.world.test\n",
		"digest": "alice:squid:" + hex.EncodeToString(hash[:]) + "\n",
		// openssl passwd -apr1 -salt kerbpass
		"basic":   "alice:$apr1$kerbpass$f.K5T75LxGan7OhK1pQcP.\n",
		"take.sh": ntlmHelper("AF alice"), "deny.sh": ntlmHelper("NA no"),
	}}
	cfg.Auth = "hosts_file {dir}/hosts\n"
	switch {
	case scheme == "basic":
		cfg.Auth += "auth_param basic program " + testenv.Tool(t, "basic_ncsa_auth") + " {dir}/basic\nauth_param basic children 2\nauth_param basic realm squid, Negotiate"
	case scheme == "digest":
		cfg.Auth += "auth_param digest program " + testenv.Tool(t, "digest_file_auth") + " -c {dir}/digest\nauth_param digest children 2\nauth_param digest realm squid\nauth_param digest nonce_max_count 4"
	case deny:
		cfg.Auth += "auth_param ntlm program /bin/sh {dir}/deny.sh\nauth_param ntlm children 2\nauth_param ntlm keep_alive on"
	default:
		cfg.Auth += "auth_param ntlm program /bin/sh {dir}/take.sh\nauth_param ntlm children 8\nauth_param ntlm keep_alive on"
	}
	return cfg
}

func newLoginWorld(t *testing.T, scheme, password string, deny bool) *loginWorld {
	t.Helper()
	origin := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for name := range r.Header {
			if strings.HasPrefix(name, "Proxy-") {
				t.Errorf("the origin saw %s: %s", name, r.Header[name])
			}
		}
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(rw, "%s %d", r.Method, n)
	}))
	t.Cleanup(origin.Close)
	_, port, _ := net.SplitHostPort(origin.Listener.Addr().String())
	w := &loginWorld{t: t, squid: proxytest.StartSquid(t, squidFor(t, scheme, deny)), host: "web.world.test:" + port, keyring: &keyringOf{all: map[string]string{}}}
	w.url = "http://" + w.host + "/"
	upstream := "http://" + w.squid.Addr
	user := map[string]string{"basic": "alice", "digest": "alice", "ntlm": `CORP\alice`}[scheme]
	w.name = upstream + " " + user
	if password != "" {
		w.keyring.set(w.name, password)
	}
	// The switch for Kerberos is off: it has no part in this.
	file := fmt.Sprintf("upstream_auth = ['%s %s %s']\n[kerberos]\nenabled = false\n", upstream, scheme, user)
	w.app = startApp(t, file, map[string]any{"upstream": []string{upstream}}, appConfig{logins: w.keyring})
	return w
}

// do sends a request through the helper on a connection of its own.
func (w *loginWorld) do(method string, body int64) (status int, cause proxy.Cause, text string) {
	w.t.Helper()
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: w.app.addrs()[0]})}
	defer tr.CloseIdleConnections()
	return w.over(tr, method, body)
}

func (w *loginWorld) over(tr *http.Transport, method string, body int64) (status int, cause proxy.Cause, text string) {
	w.t.Helper()
	var r io.Reader
	if body > 0 {
		r = io.LimitReader(zeroes{}, body)
	}
	req, err := http.NewRequest(method, w.url, r)
	if err != nil {
		w.t.Fatal(err)
	}
	if body > 0 && body < 1<<20 {
		req.ContentLength = body
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		w.t.Errorf("%s: %v", method, err)
		return 0, "", ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, ownCause(resp.Header), string(b)
}

// tunnel asks for the origin inside a tunnel.
func (w *loginWorld) tunnel() (status int, cause proxy.Cause) {
	w.t.Helper()
	resp, _, err := proxytest.Dial(w.t, w.app.addrs()[0]).Tunnel(w.host, "GET / HTTP/1.1\r\nHost: "+w.host+"\r\n\r\n")
	if err != nil {
		w.t.Errorf("tunnel: %v", err)
		return 0, ""
	}
	return resp.StatusCode, ownCause(resp.Header)
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func (w *loginWorld) state() (auth.State, report) {
	w.t.Helper()
	r := w.app.report(w.t.Context())
	if len(r.Proxy.Logins) != 1 {
		w.t.Fatalf("logins: %+v", r.Proxy.Logins)
	}
	b, err := json.Marshal(r)
	if err != nil {
		w.t.Fatal(err)
	}
	if found := testenv.Secret(string(b), loginPassword, "wrong-password"); found != "" {
		w.t.Errorf("status holds %.20s…", found)
	}
	return r.Proxy.Logins[0].State, r
}

func (r *report) problem(c proxy.Cause) *problem {
	if i := slices.IndexFunc(r.Problems, func(p problem) bool { return p.Cause == c }); i >= 0 {
		return &r.Problems[i]
	}
	return nil
}

func TestLoginsAtSquid(t *testing.T) {
	for _, scheme := range []string{"basic", "digest", "ntlm"} {
		t.Run(scheme, func(t *testing.T) {
			w := newLoginWorld(t, scheme, loginPassword, false)
			tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: w.app.addrs()[0]})}
			defer tr.CloseIdleConnections()
			for range 10 {
				if status, cause, text := w.over(tr, "GET", 0); status != 200 || text != "GET 0" {
					t.Errorf("GET: got %d %s %s", status, cause, text)
				}
			}
			for _, n := range []int64{10, 100_000, 900_000, 3 << 20} { // the last one in chunks
				if status, cause, text := w.do("POST", n); status != 200 || text != fmt.Sprintf("POST %d", n) {
					t.Errorf("POST of %d: got %d %s %s", n, status, cause, text)
				}
			}
			for range 3 {
				if status, cause := w.tunnel(); status != 200 {
					t.Errorf("CONNECT: got %d %s", status, cause)
				}
			}
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if status, cause, _ := w.do("GET", 0); status != 200 {
						t.Errorf("one of many: got %d %s", status, cause)
					}
				})
			}
			wg.Wait()
			w.squid.WaitLog(func(e proxytest.Entry) bool {
				return e.Status == "200" && e.Method == "POST" && e.User == "alice"
			})
			st, r := w.state()
			if st != auth.Accepted || r.Proxy.LastAuth.Result != proxy.AuthAccepted || !strings.EqualFold(r.Proxy.LastAuth.Scheme, scheme) || r.Proxy.LastAuth.SPN != "" {
				t.Errorf("%s, last login %+v", st, r.Proxy.LastAuth)
			}
			clear := r.problem(proxy.CausePasswordInClear)
			if (clear != nil) != (scheme == "basic") || r.problem(proxy.CauseNoTicket) != nil || r.healthCode() != 0 {
				t.Errorf("problems: %+v, health %d", r.Problems, r.healthCode())
			}
			if text := r.text(time.Now()); !strings.Contains(text, "password from the keyring, accepted") || strings.Contains(text, "in the clear") != (scheme == "basic") {
				t.Errorf("status says\n%s", text)
			}
			if w.keyring.asked != 1 {
				t.Errorf("the keyring was asked %d times", w.keyring.asked)
			}
		})
	}
}

func TestWrongLoginsAtSquid(t *testing.T) {
	for _, scheme := range []string{"basic", "digest", "ntlm"} {
		t.Run(scheme, func(t *testing.T) {
			w := newLoginWorld(t, scheme, "wrong-password", scheme == "ntlm")
			var wg sync.WaitGroup
			for i := range 30 {
				wg.Go(func() {
					if i%3 == 0 {
						if _, cause := w.tunnel(); cause != proxy.CauseTokenRefused {
							t.Errorf("CONNECT: got %s", cause)
						}
						return
					}
					if status, cause, text := w.do("GET", 0); status != 502 || cause != proxy.CauseTokenRefused || !strings.Contains(text, "kerbpass password set") {
						t.Errorf("got %d %s %s", status, cause, text)
					}
				})
			}
			wg.Wait()
			w.app.forget("as a change of the network does")
			if status, cause, _ := w.do("GET", 0); status != 502 || cause != proxy.CauseTokenRefused {
				t.Errorf("after the network changed: got %d %s", status, cause)
			}
			// Squid names the user of a request that held a password only.
			most := map[string]int{"basic": 1, "digest": 3, "ntlm": 3}[scheme]
			w.squid.WaitLog(func(e proxytest.Entry) bool { return e.Status == "407" && (e.User == "alice" || scheme == "ntlm") })
			log := slices.DeleteFunc(w.squid.Log(), func(e proxytest.Entry) bool { return e.Status == "0" }) // connections without a request
			if len(log) > most {
				t.Errorf("Squid was asked %d times, at most %d expected: %v", len(log), most, log)
			}
			st, r := w.state()
			if p := r.problem(proxy.CauseTokenRefused); st != auth.Refused || p == nil || !strings.Contains(p.Hint, "kerbpass password set") || r.healthCode() != exitPathBroken {
				t.Errorf("%s; problems: %+v, health %d", st, r.Problems, r.healthCode())
			}
			if scheme == "ntlm" {
				return
			}
			w.keyring.set(w.name, loginPassword)
			w.app.resetLogins() // as the command asks for
			if status, cause, _ := w.do("GET", 0); status != 200 {
				t.Errorf("with the right password: got %d %s", status, cause)
			}
			if _, r := w.state(); r.problem(proxy.CauseTokenRefused) != nil {
				t.Errorf("problems: %+v", r.Problems)
			}
		})
	}
}

func TestLoginWithoutPassword(t *testing.T) {
	w := newLoginWorld(t, "digest", "", false)
	for range 5 {
		status, cause, text := w.do("GET", 0)
		if status != 502 || cause != proxy.CauseNoPassword || !strings.Contains(text, "kerbpass password set http://"+w.squid.Addr) || !strings.Contains(text, "alice") {
			t.Errorf("got %d %s: %s", status, cause, text)
		}
	}
	st, r := w.state()
	if p := r.problem(proxy.CauseNoPassword); st != auth.Missing || p == nil || !strings.Contains(p.Hint, "kerbpass password set") || w.keyring.asked != 1 {
		t.Errorf("%s; the keyring was asked %d times; problems %+v", st, w.keyring.asked, r.Problems)
	}
	w.keyring.set(w.name, loginPassword)
	w.app.resetLogins()
	if status, cause, _ := w.do("GET", 0); status != 200 {
		t.Errorf("with a password: got %d %s", status, cause)
	}
}

// A line that is changed, added or taken out counts for the next request, and
// connections made before it are not used.
func TestLoginLinesChange(t *testing.T) {
	w := newLoginWorld(t, "basic", loginPassword, false)
	get := func(want int, cause proxy.Cause) {
		t.Helper()
		if status, got, text := w.do("GET", 0); status != want || got != cause {
			t.Errorf("got %d %s: %s", status, got, text)
		}
	}
	edit := func(lines ...string) {
		t.Helper()
		if err := w.app.cfg.store.Edit(func(e *settings.Edit) error { return e.Set("upstream_auth", lines) }); err != nil {
			t.Fatal(err)
		}
	}
	upstream := "http://" + w.squid.Addr
	get(200, "")
	edit(upstream + " basic bob")
	get(502, proxy.CauseNoPassword)
	edit(upstream + " ntlm alice")
	w.keyring.set(w.name, loginPassword)
	get(502, proxy.CauseNegotiateNotOffered)
	edit()
	get(502, proxy.CauseKerberosOff)
	edit(upstream+" basic alice", upstream+" ntlm bob") // the first counts
	get(200, "")
}

func TestParseLogins(t *testing.T) {
	got, bad := loginsOf(&settings.Snapshot{Values: settings.Values{UpstreamAuth: []string{
		"http://Proxy.corp basic alice", `https://b.corp:8443 ntlm CORP\alice b`, "http://proxy.corp:80 digest bob", "http://x basic", "http://y kerberos z", "http://q basic a:b"}}})
	want := []login{{"http://proxy.corp:80", false, auth.Basic, "alice"}, {"https://b.corp:8443", true, auth.NTLM, `CORP\alice b`}}
	if !slices.Equal(got, want) || len(bad) != 4 {
		t.Errorf("got %v and %v", got, bad)
	}
	if !got[0].inClear() || got[1].inClear() {
		t.Error("which one is in the clear is wrong")
	}
}

// The doctor knows that such an upstream wants no ticket.
func TestDoctorOfLogins(t *testing.T) {
	up := &proxy.Upstream{URL: "http://p:1", Scheme: proxy.SchemeBasic}
	if f := judgeOffers(up, []string{"Negotiate", "basic"}); f.State != "warn" || f.Cause != string(proxy.CausePasswordInClear) {
		t.Errorf("got %+v", f)
	}
	up.TLS = true
	if f := judgeOffers(up, []string{"Basic"}); f.State != "ok" {
		t.Errorf("got %+v", f)
	}
	if f := judgeOffers(up, []string{"Negotiate"}); f.State != "fail" || f.Cause != string(proxy.CauseNegotiateNotOffered) || !strings.Contains(f.Action, "upstream_auth") {
		t.Errorf("got %+v", f)
	}
	w := newLoginWorld(t, "basic", loginPassword, false)
	x := &examination{app: w.app, running: true, snap: w.app.cfg.store.Snapshot(), listen: w.app.addrs(), through: w.app.addrs()[0]}
	r := x.run(t.Context(), nil)
	for id, want := range map[string]string{"challenge": "warn", "kerberos": "skip", "token": "skip", "accepted": "skip", "requests": "ok"} {
		if f, _ := r.Find(id); string(f.State) != want {
			t.Errorf("%s: got %s (%s), want %s", id, f.State, f.Seen, want)
		}
	}
	if r.First != "" && r.First != "challenge" {
		t.Errorf("what is broken first is %s", r.First)
	}
	if found := testenv.Secret(fmt.Sprintf("%+v", r), loginPassword); found != "" {
		t.Errorf("the report holds %.20s…", found)
	}
}
