//go:build linux

package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/demo/realm"
	"kerbpass/internal/doctor"
	"kerbpass/internal/proxy"
	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
)

// ward is a realm in this process and a corporate proxy at localhost that
// judges tokens with its keys. Each field of behaviour breaks one link.
type ward struct {
	t        *testing.T
	realm    *realm.Realm
	upstream *httptest.Server
	port     string
	flags    map[string]any
	cfg      appConfig
	file     string

	offer  []string // Proxy-Authenticate; nil: Negotiate
	ntlm   bool     // a token is answered with an NTLM challenge
	accept func(tok []byte) error
	date   time.Duration // its clock's difference

	mu     sync.Mutex // guards tokens
	tokens []string
}

func newWard(t *testing.T, c realm.Config) *ward {
	t.Helper()
	c.Dir = t.TempDir()
	r, err := realm.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	t.Setenv("KRB5_CONFIG", r.Krb5Conf())
	t.Setenv("KRB5CCNAME", "FILE:"+r.CachePath())
	w := &ward{t: t, realm: r, flags: map[string]any{}}
	w.mint(realm.MintOptions{})
	acceptor := r.Acceptor()
	w.accept = func(tok []byte) error { _, err := acceptor.Accept(tok); return err }
	w.upstream = httptest.NewServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.upstream.Close)
	_, w.port, _ = net.SplitHostPort(w.upstream.Listener.Addr().String())
	w.flags["upstream"] = []string{"http://localhost:" + w.port}
	return w
}

func (w *ward) mint(o realm.MintOptions) {
	w.t.Helper()
	if _, err := w.realm.Mint(o); err != nil {
		w.t.Fatal(err)
	}
}

func (w *ward) serve(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Date", time.Now().Add(w.date).UTC().Format(http.TimeFormat))
	scheme, b64, _ := strings.Cut(r.Header.Get("Proxy-Authorization"), " ")
	tok, err := base64.StdEncoding.DecodeString(b64)
	if scheme == "Negotiate" && err == nil {
		w.mu.Lock()
		w.tokens = append(w.tokens, b64)
		w.mu.Unlock()
		if w.ntlm {
			rw.Header().Set("Proxy-Authenticate", "Negotiate "+base64.StdEncoding.EncodeToString([]byte("NTLMSSP\x00\x02\x00\x00\x00")))
			rw.WriteHeader(407)
			return
		}
		if w.accept(tok) == nil {
			rw.WriteHeader(http.StatusServiceUnavailable) // the host does not exist
			return
		}
	}
	offer := w.offer
	if offer == nil {
		offer = []string{"Negotiate"}
	}
	rw.Header()["Proxy-Authenticate"] = offer
	rw.WriteHeader(407)
}

// examine starts a helper in this ward and has it examined.
func (w *ward) examine() doctor.Report {
	w.t.Helper()
	return diagnosed(w.t, startApp(w.t, w.file, w.flags, w.cfg))
}

func diagnosed(t *testing.T, a *app) doctor.Report {
	t.Helper()
	r, _, err := a.diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sound(t, r)
	return r
}

// sound checks what holds for every report.
func sound(t *testing.T, r doctor.Report) {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if secret := testenv.Secret(string(b), "hunter2"); secret != "" {
		t.Errorf("a secret in the report: %.40s", secret)
	}
	const order = "settings listener same_user upstream name tcp tls challenge clock kerberos caches tgt realm spn kdc token accepted requests"
	var ids []string
	for _, f := range r.Findings {
		ids = append(ids, f.ID)
		if f.State == doctor.Fail && (f.Cause == "" || f.Action == "") || f.State == doctor.Warn && f.Action == "" || f.Seen == "" || f.Title == "" {
			t.Errorf("a finding without a cause, an action or words: %+v", f)
		}
		if f.Cause != "" {
			if _, _, ok := proxy.Cause(f.Cause).Explain(); !ok {
				t.Errorf("%s: the cause %q is not of the contract", f.ID, f.Cause)
			}
		}
		if strings.Contains(f.Seen+f.Action, "%!") {
			t.Errorf("badly formatted: %+v", f)
		}
	}
	if got := strings.Join(ids, " "); got != order {
		t.Errorf("got  %s\nwant %s", got, order)
	}
	// What a broken link holds up names only links before it.
	seen := map[string]bool{}
	for _, c := range (&examination{running: true}).checks() {
		for _, need := range c.Needs {
			if !seen[need] {
				t.Errorf("%s needs %s, which does not come before it", c.ID, need)
			}
		}
		seen[c.ID] = true
	}
}

// leads expects the finding that is spoken of first, with words in it.
func leads(t *testing.T, r doctor.Report, id string, state doctor.State, cause proxy.Cause, words ...string) {
	t.Helper()
	f, _ := r.Leading()
	if f.ID != id || f.State != state || f.Cause != string(cause) || (state == doctor.Fail) != (r.First == id) {
		t.Errorf("first finding: got %s %s %q, want %s %s %q\n%s", f.ID, f.State, f.Cause, id, state, cause, r.Text(doctor.Look{Width: 160}))
	}
	for _, w := range words {
		if !strings.Contains(f.Seen+"\n"+f.Action, w) {
			t.Errorf("%s: no %q in %q / %q", id, w, f.Seen, f.Action)
		}
	}
}

func TestDoctorHealthy(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWard(t, realm.Config{})
	r := w.examine()
	if _, found := r.Leading(); found || !r.Healthy {
		t.Errorf("not healthy:\n%s", r.Text(doctor.Look{Width: 160}))
	}
	for id, words := range map[string]string{
		"upstream": "from flag, --upstream", "challenge": "Negotiate", "tgt": "alice@DEMO.INVALID", "realm": "DEMO.INVALID", "spn": "HTTP/localhost", "kdc": "answered after",
		"token": "SPNEGO with Kerberos", "accepted": "503", "requests": "503", "caches": "in use",
	} {
		if f, _ := r.Find(id); f.State != doctor.OK || !strings.Contains(f.Seen, words) {
			t.Errorf("%s: got %s %q, want %q in it", id, f.State, f.Seen, words)
		}
	}
	// Each connection had a token of its own, and none is in the report.
	w.mu.Lock()
	tokens := w.tokens
	w.mu.Unlock()
	b, _ := json.Marshal(r)
	for i, tok := range tokens {
		for _, other := range tokens[:i] {
			if tok == other {
				t.Error("a token was sent twice")
			}
		}
		if strings.Contains(string(b), tok[:24]) {
			t.Error("a token is in the report")
		}
	}
	if len(tokens) != 2 {
		t.Errorf("the upstream saw %d tokens, want 2: the doctor's and the request's", len(tokens))
	}
	// The ticket for the upstream is in the cache by now.
	if r = w.examine(); !r.Healthy {
		t.Errorf("again:\n%s", r.Text(doctor.Look{Width: 160}))
	}
	if f, _ := r.Find("kdc"); !strings.Contains(f.Seen, "not needed") {
		t.Errorf("kdc, again: %q", f.Seen)
	}
}

// Each cause for real; what is said first is what is wrong.
func TestDoctorTicketCauses(t *testing.T) {
	for _, tt := range []struct {
		name      string
		realm     realm.Config
		break_    func(w *ward)
		id        string
		cause     proxy.Cause
		words     string
		untouched bool // no token may have reached the upstream
	}{
		{"no ticket", realm.Config{}, func(w *ward) { os.Remove(w.realm.CachePath()) }, "tgt", "no_ticket", "kerbpass login", true},
		{"expired", realm.Config{}, func(w *ward) {
			w.mint(realm.MintOptions{Start: time.Now().Add(-2 * time.Hour), End: time.Now().Add(-time.Hour)})
		}, "tgt", "ticket_expired", "alice@DEMO.INVALID", true},
		{"unreadable cache", realm.Config{}, func(w *ward) {
			os.WriteFile(w.realm.CachePath(), []byte("\x05\x04 nonsense"), 0o600)
		}, "tgt", "kerberos_unavailable", "KRB5CCNAME", true},
		{"KDC is down", realm.Config{}, func(w *ward) { w.realm.Stop() }, "kdc", "kdc_unreachable", "VPN", true},
		{"KDC is silent", realm.Config{}, func(w *ward) { w.realm.Pause() }, "kdc", "kdc_unreachable", "VPN", true},
		{"SPN not known", realm.Config{Services: []realm.Service{{Name: "HTTP/other.demo.invalid"}}}, func(*ward) {}, "spn", "spn_unknown", "HTTP/localhost", true},
		{"SPN of the settings not known", realm.Config{}, func(w *ward) { w.flags["kerberos.spn"] = "HTTP/wrong.demo.invalid" }, "spn", "spn_unknown", "kerberos.spn", true},
		{"upstream is an address", realm.Config{}, func(w *ward) { w.flags["upstream"] = []string{"http://127.0.0.1:" + w.port} }, "spn", "spn_unknown", "given as an address", true},
		{"switched off", realm.Config{}, func(w *ward) { w.flags["kerberos.enabled"] = false }, "kerberos", "kerberos_off", "kerbpass kerberos on", true},
		{"wrong key", realm.Config{}, func(w *ward) {
			w.accept = func([]byte) error { return errors.New("not made with this key") }
		}, "accepted", "token_refused", "keytab", false},
		{"NTLM challenge", realm.Config{}, func(w *ward) { w.ntlm = true }, "accepted", "ntlm_instead_of_kerberos", "administrator", false},
		{"NTLM only", realm.Config{}, func(w *ward) { w.offer = []string{"NTLM", `Basic realm="a, Negotiate"`} }, "challenge", "negotiate_not_offered", "NTLM, Basic", true},
		{"Basic only", realm.Config{}, func(w *ward) { w.offer = []string{`Basic realm="a, Negotiate"`} }, "challenge", "negotiate_not_offered", "Basic", true},
		{"offers nothing", realm.Config{}, func(w *ward) { w.offer = []string{""} }, "challenge", "negotiate_not_offered", "nothing", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWard(t, tt.realm)
			tt.break_(w)
			r := w.examine()
			leads(t, r, tt.id, doctor.Fail, tt.cause, tt.words)
			if f, _ := r.Find("requests"); f.State != doctor.Skip {
				t.Errorf("requests: got %s, want them held up: %s", f.State, f.Seen)
			}
			w.realm.Resume()
			w.mu.Lock()
			defer w.mu.Unlock()
			if tt.untouched && len(w.tokens) != 0 {
				t.Errorf("%d tokens reached the upstream", len(w.tokens))
			}
		})
	}
}

func TestDoctorClock(t *testing.T) {
	for _, off := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			// The whole company has another time than this computer.
			w := newWard(t, realm.Config{Clock: func() time.Time { return time.Now().Add(off) }})
			w.date = off
			way := "behind"
			if off < 0 {
				way = "ahead of"
			}
			leads(t, w.examine(), "clock", doctor.Fail, "clock_skew", "10m0s "+way, "time zone")
		})
	}
	t.Run("all works in spite of it", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.date = time.Hour
		leads(t, w.examine(), "clock", doctor.Warn, "clock_skew", "makes up for it")
	})
	t.Run("a little", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.date = 3 * time.Minute
		leads(t, w.examine(), "clock", doctor.Warn, "clock_skew", "3m0s behind")
	})
}

func TestDoctorTokenTooLarge(t *testing.T) {
	const limit = 600 // bytes of a head
	for name, refuse := range map[string]string{
		"431": "HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\n\r\n", "400": "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "hangs up": "",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWard(t, realm.Config{})
			s := proxytest.Serve(t, func(c *proxytest.Conn) {
				if h, err := c.ReadHead(); err == nil && len(h.Raw) > limit {
					c.Send("%s", refuse)
				} else {
					c.Send("%s", proxytest.Need407)
				}
			})
			_, port, _ := net.SplitHostPort(s.Addr)
			w.flags["upstream"] = []string{"http://localhost:" + port}
			leads(t, w.examine(), "accepted", doctor.Fail, "token_too_large", "header line of", "header limit")
		})
	}
	t.Run("it is not the size", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		s := proxytest.Serve(t, func(c *proxytest.Conn) {
			if h, err := c.ReadHead(); err == nil && h.Token() == "" {
				c.Send("%s", proxytest.Need407)
			}
		})
		_, port, _ := net.SplitHostPort(s.Addr)
		w.flags["upstream"] = []string{"http://localhost:" + port}
		leads(t, w.examine(), "accepted", doctor.Fail, "upstream_unreachable", "to a token")
	})
}

func TestDoctorPausedAndUnavailable(t *testing.T) {
	w := newWard(t, realm.Config{})
	a := startApp(t, "", w.flags, appConfig{})
	if err := a.pause(time.Hour); err != nil {
		t.Fatal(err)
	}
	leads(t, diagnosed(t, a), "kerberos", doctor.Fail, "kerberos_off", "kerbpass resume")
	if err := a.pause(0); err != nil {
		t.Fatal(err)
	}
	cur := a.tickets.cur.Swap(&current{err: errors.ErrUnsupported})
	leads(t, diagnosed(t, a), "kerberos", doctor.Fail, "kerberos_unavailable", "Install")
	a.tickets.cur.Store(cur)
	if r := diagnosed(t, a); !r.Healthy {
		t.Errorf("mended, but:\n%s", r.Text(doctor.Look{}))
	}
}

// names answers DNS questions of this process: an address, an alias as
// "=target", or that the name does not exist.
func names(t *testing.T, table map[string]string) {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := dnsAnswer(buf[:n], table); answer != nil {
				pc.WriteTo(answer, from)
			}
		}
	}()
	old := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
	t.Cleanup(func() {
		net.DefaultResolver = old
		pc.Close()
		<-done
	})
}

// dnsAnswer follows RFC 1035 section 4.
func dnsAnswer(q []byte, table map[string]string) []byte {
	const head = 12
	if len(q) < head {
		return nil
	}
	name, at := "", head
	for at < len(q) && q[at] != 0 {
		l := int(q[at])
		name += string(q[at+1:at+1+l]) + "."
		at += 1 + l
	}
	at++
	if at+4 > len(q) {
		return nil
	}
	kind := binary.BigEndian.Uint16(q[at:])
	question := q[head : at+4]
	label := func(s string) (b []byte) {
		for part := range strings.SplitSeq(strings.Trim(s, "."), ".") {
			b = append(append(b, byte(len(part))), part...)
		}
		return append(b, 0)
	}
	var records []byte
	count, code := 0, byte(0)
	add := func(owner string, kind uint16, data []byte) {
		records = append(records, label(owner)...)
		records = binary.BigEndian.AppendUint16(records, kind)
		records = append(records, 0, 1, 0, 0, 0, 60)
		records = binary.BigEndian.AppendUint16(records, uint16(len(data)))
		records = append(records, data...)
		count++
	}
	owner := strings.ToLower(strings.TrimSuffix(name, "."))
	value, ok := table[owner]
	if !ok {
		code = 3 // NXDOMAIN
	}
	for target, alias := strings.CutPrefix(value, "="); alias; target, alias = strings.CutPrefix(value, "=") {
		add(owner, 5, label(target))
		owner, value = target, table[target]
	}
	if ip := net.ParseIP(value).To4(); ip != nil && kind == 1 {
		add(owner, 1, ip)
	}
	out := append([]byte{q[0], q[1], 0x81, 0x80 | code, 0, 1, 0, byte(count), 0, 0, 0, 0}, question...)
	return append(out, records...)
}

func TestDoctorNames(t *testing.T) {
	names(t, map[string]string{
		"chain.demo.invalid": "=middle.demo.invalid", "alias.demo.invalid": "=proxy.demo.invalid", "middle.demo.invalid": "=proxy.demo.invalid", "proxy.demo.invalid": "127.0.0.1",
		"other.demo.invalid": "=unknown.demo.invalid", "unknown.demo.invalid": "127.0.0.1", "here.demo.invalid": "127.0.0.1", "closed.demo.invalid": "127.0.0.2",
	})
	t.Run("does not exist", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.flags["upstream"] = []string{"http://gone.demo.invalid:8080"}
		leads(t, w.examine(), "name", doctor.Fail, "upstream_unresolved", "gone.demo.invalid")
	})
	t.Run("alias, its real name is known", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.flags["upstream"] = []string{"http://alias.demo.invalid:" + w.port}
		r := w.examine()
		leads(t, r, "spn", doctor.Fail, "spn_unknown", "HTTP/alias.demo.invalid", "HTTP/proxy.demo.invalid", `canonicalize = "cname"`)
		if f, _ := r.Find("name"); !strings.Contains(f.Seen, "an alias of proxy.demo.invalid") {
			t.Errorf("name: %q", f.Seen)
		}
		// What it says helps.
		w.flags["kerberos.canonicalize"] = "cname"
		if r := w.examine(); !r.Healthy {
			t.Errorf("after the advice:\n%s", r.Text(doctor.Look{Width: 160}))
		}
	})
	t.Run("alias of an alias", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.flags["upstream"] = []string{"http://chain.demo.invalid:" + w.port}
		leads(t, w.examine(), "spn", doctor.Fail, "spn_unknown", "HTTP/chain.demo.invalid", "HTTP/proxy.demo.invalid")
	})
	t.Run("alias of nothing better", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.flags["upstream"] = []string{"http://other.demo.invalid:" + w.port}
		leads(t, w.examine(), "spn", doctor.Fail, "spn_unknown", "does not know either")
	})
	t.Run("leads to ourselves", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		port := fmt.Sprint(testenv.FreePort(t))
		w.flags["listen"] = []string{"127.0.0.1:" + port}
		w.flags["upstream"] = []string{"http://here.demo.invalid:" + port}
		leads(t, w.examine(), "tcp", doctor.Fail, "loop_detected", "Kerbpass itself")
	})
	t.Run("bypassed host does not exist", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.file = "[bypass]\nexact = [\"localhost\", \"gone.demo.invalid\"]\n"
		leads(t, w.examine(), "requests", doctor.Warn, "destination_unresolved", "gone.demo.invalid", "bypass list")
	})
	t.Run("bypassed host refuses", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.file = "[bypass]\nexact = [\"closed.demo.invalid\"]\n"
		leads(t, w.examine(), "requests", doctor.Warn, "destination_unreachable", "closed.demo.invalid")
	})
}

func TestDoctorUpstream(t *testing.T) {
	free := func(t *testing.T) string { return fmt.Sprintf("http://localhost:%d", testenv.FreePort(t)) }
	t.Run("refuses connections", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.flags["upstream"] = []string{free(t)}
		leads(t, w.examine(), "tcp", doctor.Fail, "upstream_unreachable", "VPN")
	})
	t.Run("the second of two is used", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.flags["upstream"] = []string{free(t), "http://localhost:" + w.port}
		leads(t, w.examine(), "upstream", doctor.Warn, "upstream_unreachable", "is used instead")
	})
	t.Run("none is set", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		delete(w.flags, "upstream")
		leads(t, w.examine(), "upstream", doctor.Fail, "upstream_unreachable", "No upstream proxy is set")
	})
	t.Run("never answers", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		s := proxytest.Serve(t, func(c *proxytest.Conn) {
			c.ReadHead()
			c.R.ReadByte() // until the other side hangs up
		})
		_, port, _ := net.SplitHostPort(s.Addr)
		w.flags["upstream"] = []string{"http://localhost:" + port}
		leads(t, w.examine(), "challenge", doctor.Fail, "timeout", "did not answer")
	})
	t.Run("is no proxy", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		s := proxytest.Serve(t, func(c *proxytest.Conn) { c.Send("220 mail.test ESMTP\r\n"); c.ReadHead() })
		_, port, _ := net.SplitHostPort(s.Addr)
		w.flags["upstream"] = []string{"http://localhost:" + port}
		leads(t, w.examine(), "challenge", doctor.Fail, "upstream_unreachable", "right port")
	})
	t.Run("asks for nothing", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		s := proxytest.Answering(t, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		_, port, _ := net.SplitHostPort(s.Addr)
		w.flags["upstream"] = []string{"http://localhost:" + port}
		r := w.examine()
		if f, _ := r.Find("challenge"); !r.Healthy || f.State != doctor.OK || !strings.Contains(f.Seen, "asks for nothing") {
			t.Errorf("challenge: %+v", f)
		}
	})
	t.Run("asks for nothing, and Kerberos is off", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		os.Remove(w.realm.CachePath())
		s := proxytest.Answering(t, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
		_, port, _ := net.SplitHostPort(s.Addr)
		w.flags["upstream"], w.flags["kerberos.enabled"] = []string{"http://localhost:" + port}, false
		a := startApp(t, "", w.flags, appConfig{})
		for range 2 {
			r := diagnosed(t, a)
			leads(t, r, "kerberos", doctor.Warn, "", "kerbpass kerberos on")
			if f, _ := r.Find("requests"); !r.Healthy || f.State != doctor.OK {
				t.Errorf("requests: %+v", f)
			}
			a.tickets.cur.Store(&current{err: errors.ErrUnsupported}) // and there is no library
		}
	})
	t.Run("is a web server", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		s := proxytest.Answering(t, proxytest.OK)
		_, port, _ := net.SplitHostPort(s.Addr)
		w.flags["upstream"] = []string{"http://localhost:" + port}
		leads(t, w.examine(), "challenge", doctor.Warn, "", "web server")
	})
	t.Run("is another Kerbpass in a circle", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		port := testenv.FreePort(t)
		second := startApp(t, "", map[string]any{"upstream": []string{fmt.Sprintf("http://localhost:%d", port)}, "kerberos.enabled": false}, appConfig{})
		_, other, _ := net.SplitHostPort(second.addrs()[0])
		w.flags["listen"] = []string{fmt.Sprintf("127.0.0.1:%d", port)}
		w.flags["upstream"] = []string{"http://localhost:" + other}
		w.flags["kerberos.enabled"] = false
		leads(t, w.examine(), "challenge", doctor.Fail, "loop_detected", "came back")
	})
}

// certificate makes one for names, signed by parent or by itself.
func certificate(t *testing.T, template x509.Certificate, parent *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	signer, issuer := any(key), &template
	var chain [][]byte
	if parent != nil {
		signer, issuer, chain = parent.PrivateKey, parent.Leaf, parent.Certificate
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, issuer, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: append([][]byte{der}, chain...), PrivateKey: key, Leaf: leaf}
}

func TestDoctorTLS(t *testing.T) {
	ca := certificate(t, x509.Certificate{Subject: pkix.Name{CommonName: "Corp Root"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	leaf := func(change func(*x509.Certificate)) x509.Certificate {
		c := x509.Certificate{Subject: pkix.Name{CommonName: "the proxy"}, DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
		change(&c)
		return c
	}
	for _, tt := range []struct {
		name    string
		cert    x509.Certificate
		trusted bool
		words   []string // nil: healthy
	}{
		{"good", leaf(func(*x509.Certificate) {}), true, nil},
		{"wrong name", leaf(func(c *x509.Certificate) { c.DNSNames = []string{"proxy.demo.invalid"} }), true, []string{"for proxy.demo.invalid, not for localhost", "CN=Corp Root"}},
		{"expired", leaf(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		}), true, []string{"has expired", "CN=Corp Root"}},
		{"not yet", leaf(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
		}), true, []string{"not good before", "clock"}},
		{"unknown CA", leaf(func(*x509.Certificate) {}), false, []string{"does not trust", "CN=Corp Root", "re-signs", "fingerprint"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWard(t, realm.Config{})
			srv := httptest.NewUnstartedServer(http.HandlerFunc(w.serve))
			srv.TLS = &tls.Config{Certificates: []tls.Certificate{*certificate(t, tt.cert, ca)}}
			srv.Config.ErrorLog = log.New(io.Discard, "", 0)
			srv.StartTLS()
			t.Cleanup(srv.Close)
			_, port, _ := net.SplitHostPort(srv.Listener.Addr().String())
			w.flags["upstream"] = []string{"https://localhost:" + port}
			w.cfg.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
			if tt.trusted {
				w.cfg.tls.RootCAs = roots
			}
			r := w.examine()
			if tt.words == nil {
				if f, _ := r.Find("tls"); !r.Healthy || !strings.Contains(f.Seen, "CN=the proxy") {
					t.Errorf("not healthy:\n%s", r.Text(doctor.Look{Width: 160}))
				}
				return
			}
			leads(t, r, "tls", doctor.Fail, "upstream_tls", tt.words...)
			if len(w.tokens) != 0 {
				t.Errorf("%d tokens went to it", len(w.tokens))
			}
			// The same upstream, written as http://: Go's server, as many do,
			// answers such a request in plain HTTP.
			w.flags["upstream"] = []string{"http://localhost:" + port}
			leads(t, w.examine(), "challenge", doctor.Fail, "upstream_tls", "https://")
		})
	}
	t.Run("https:// to a plain port", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		w.flags["upstream"] = []string{"https://localhost:" + w.port}
		leads(t, w.examine(), "tls", doctor.Fail, "upstream_tls", "http://")
	})
	t.Run("http:// to a port that answers TLS", func(t *testing.T) {
		w := newWard(t, realm.Config{})
		s := proxytest.Serve(t, func(c *proxytest.Conn) {
			c.ReadHead()
			c.Send("\x15\x03\x01\x00\x02\x02\x0a") // what a TLS server says to HTTP: unexpected_message
		})
		_, port, _ := net.SplitHostPort(s.Addr)
		w.flags["upstream"] = []string{"http://localhost:" + port}
		leads(t, w.examine(), "challenge", doctor.Fail, "upstream_tls", "https://")
	})
}

// command runs "kerbpass doctor --json" of u.
func (u *user) doctor(wantCode int, args ...string) doctor.Report {
	u.t.Helper()
	out, errs, code := u.run(append([]string{"doctor", "--json"}, args...)...)
	var r doctor.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != wantCode {
		u.t.Fatalf("exit code %d, want %d: %v %s\n%s", code, wantCode, err, errs, out)
	}
	sound(u.t, r)
	return r
}

// another is a user with a file of his own, in a folder whose name is short
// enough for a socket.
func (u *user) another(t *testing.T) *user {
	home, err := os.MkdirTemp(u.home, "u")
	if err != nil {
		t.Fatal(err)
	}
	return &user{t: t, home: home, env: map[string]string{"XDG_RUNTIME_DIR": u.env["XDG_RUNTIME_DIR"]}}
}

func TestDoctorCommandWithoutAHelper(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWard(t, realm.Config{})
	u := newUser(t)
	up := []string{"--upstream", "http://localhost:" + w.port}
	listen := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
	u.write("listen = [\"" + listen + "\"]\nupstream = [\"http://localhost:" + w.port + "\"]\n")

	r := u.doctor(0)
	leads(t, r, "listener", doctor.Warn, "", "not running", "kerbpass run")
	if f, _ := r.Find("requests"); f.State != doctor.OK || !strings.Contains(f.Seen, "503") {
		t.Errorf("requests: %+v", f)
	}

	t.Run("no ticket is exit code 3", func(t *testing.T) {
		if err := os.Rename(w.realm.CachePath(), w.realm.CachePath()+".away"); err != nil {
			t.Fatal(err)
		}
		defer os.Rename(w.realm.CachePath()+".away", w.realm.CachePath())
		if r := u.doctor(exitNoTicket); r.First != "tgt" {
			t.Errorf("first: %s", r.First)
		}
	})
	t.Run("another program has the port", func(t *testing.T) {
		n := newDialled(t)
		r := u.doctor(exitPathBroken, "--listen", n.server.Addr().String())
		leads(t, r, "listener", doctor.Fail, "internal", "another program", n.server.Addr().String(), "(process ")
	})
	t.Run("loop through the environment", func(t *testing.T) {
		u := u.another(t)
		u.write("listen = [\"" + listen + "\"]\n")
		u.env["HTTPS_PROXY"] = "http://" + listen
		leads(t, u.doctor(exitPathBroken), "upstream", doctor.Fail, "loop_detected", "kerbpass env")
		// With another source behind it, that one is used.
		u.write("listen = [\"" + listen + "\"]\nupstream = [\"http://localhost:" + w.port + "\"]\n")
		u.env["HTTPS_PROXY"] = "http://" + listen
		r := u.doctor(0)
		if f, _ := r.Find("upstream"); f.State != doctor.Warn || f.Cause != "loop_detected" {
			t.Errorf("upstream: %+v", f)
		}
	})
	t.Run("settings that do not parse", func(t *testing.T) {
		u := u.another(t)
		u.write("# mine\nlisten = = 3\n")
		leads(t, u.doctor(exitPathBroken, up...), "settings", doctor.Fail, "internal", "config.toml:2:10", "Correct the file")
	})
	t.Run("an unknown key is no failure", func(t *testing.T) {
		u := u.another(t)
		u.write("[bypass]\nexakt = []\n")
		leads(t, u.doctor(0, append(up, "--listen", listen)...), "settings", doctor.Warn, "internal", "config.toml:2:1", "exakt")
	})
	t.Run("no place for a control channel", func(t *testing.T) {
		u := u.another(t)
		u.env["XDG_RUNTIME_DIR"] = filepath.Join(u.home, strings.Repeat("x", 100)) // too long for a socket
		if err := os.Mkdir(u.env["XDG_RUNTIME_DIR"], 0o700); err != nil {
			t.Fatal(err)
		}
		leads(t, u.doctor(0, append(up, "--listen", listen)...), "listener", doctor.Warn, "")
		u.write("upstream = [\"http://localhost:" + w.port + "\"]\n")
		leads(t, u.doctor(exitPathBroken), "listener", doctor.Fail, "internal", "XDG_RUNTIME_DIR")
	})
	t.Run("wrong usage", func(t *testing.T) {
		for _, args := range [][]string{{"doctor", "--upstream", "ftp://x"}, {"doctor", "extra"}, {"doctor", "--nonsense"}} {
			if _, errs, code := u.run(args...); code != exitUsage || errs == "" {
				t.Errorf("%v: exit code %d, %q", args, code, errs)
			}
		}
	})
	t.Run("report", func(t *testing.T) {
		names(t, nil) // no host is known but localhost
		host, _ := os.Hostname()
		u.write("listen = [\"" + listen + "\"]\nupstream = [\"http://localhost:" + w.port + "\"]\n[bypass]\nexact = [\"intranetbox\"]\n")
		u.env["HTTPS_PROXY"] = "http://me:hunter2@localhost:" + w.port // is not used, and complained about
		for _, name := range []string{"r.txt", "r.json"} {
			path := filepath.Join(u.home, name)
			out, errs, code := u.run("doctor", "--report", path)
			b, err := os.ReadFile(path)
			if err != nil || code != exitPathBroken || !strings.Contains(errs, path) || strings.Contains(out, "hunter2") || !strings.Contains(out, "alice@DEMO.INVALID") || !strings.Contains(out, "intranetbox") {
				t.Fatalf("%s: exit code %d, %v, %q\n%s", name, code, err, errs, out)
			}
			for _, planted := range []string{"alice", "demo.invalid", "hunter2", "intranetbox", host + ".", u.home + "/../" + host} {
				if strings.Contains(strings.ToLower(string(b)), strings.ToLower(planted)) {
					t.Errorf("%s holds %q:\n%s", name, planted, b)
				}
			}
			if secret := testenv.Secret(string(b)); secret != "" {
				t.Errorf("%s holds a secret: %.30s", name, secret)
			}
			if !strings.Contains(string(b), "user1@REALM1") || !strings.Contains(string(b), doctor.Note) {
				t.Errorf("%s:\n%s", name, b)
			}
			if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
				t.Errorf("%s has mode %v", name, st.Mode())
			}
			var back doctor.Report
			if err := json.Unmarshal(b, &back); strings.HasSuffix(name, ".json") && (err != nil || len(back.Findings) != len(r.Findings)) {
				t.Errorf("%s: %v", name, err)
			}
			// What is there stays.
			os.WriteFile(path, []byte("mine"), 0o600)
			if _, errs, code := u.run("doctor", "--report", path); code != exitFailed || !strings.Contains(errs, "exists already") {
				t.Errorf("%s again: exit code %d, %q", name, code, errs)
			}
			if b, _ := os.ReadFile(path); string(b) != "mine" {
				t.Errorf("%s was overwritten: %q", name, b)
			}
		}
		if _, errs, code := u.run("doctor", "--report", filepath.Join(u.home, "none", "r.txt")); code != exitFailed || !strings.Contains(errs, "not written") {
			t.Errorf("no folder: exit code %d, %q", code, errs)
		}
		left, _ := filepath.Glob(filepath.Join(u.home, ".kerbpass-report-*"))
		if len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
		// Between the look and the writing, too.
		path := filepath.Join(u.home, "raced.txt")
		os.WriteFile(path, []byte("mine"), 0o600)
		if err := writeReport(path, r); err == nil || !strings.Contains(err.Error(), "exists already") {
			t.Errorf("raced: %v", err)
		}
	})
}

func TestDoctorCanBeEnded(t *testing.T) {
	w := newWard(t, realm.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	s := proxytest.Serve(t, func(c *proxytest.Conn) {
		c.ReadHead()
		cancel()
		c.R.ReadByte()
	})
	_, port, _ := net.SplitHostPort(s.Addr)
	w.flags["upstream"] = []string{"http://localhost:" + port}
	a := startApp(t, "", w.flags, appConfig{})
	began := time.Now()
	r, _, err := a.diagnose(ctx)
	if !errors.Is(err, context.Canceled) || r.Healthy || time.Since(began) > answerLimit-2*time.Second {
		t.Errorf("got %v, healthy %v, after %v", err, r.Healthy, time.Since(began))
	}
}

func TestDoctorInTheDemo(t *testing.T) {
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(t.TempDir(), "none"))
	a := startApp(t, "", map[string]any{"upstream": []string{"http://up.test:3128"}}, appConfig{dial: newDialled(t).dial})
	r := diagnosed(t, a)
	if f, _ := r.Find("name"); f.State != doctor.Skip {
		t.Errorf("a name of the demo was looked up: %+v", f)
	}
	leads(t, r, "tgt", doctor.Fail, "no_ticket")
}

func TestOffers(t *testing.T) {
	for _, tt := range []struct {
		lines []string
		want  string
		data  string
	}{
		{[]string{"Negotiate"}, "Negotiate", ""},
		{[]string{`Basic realm="a, Negotiate"`}, "Basic", ""},
		{[]string{"NTLM, Negotiate"}, "NTLM Negotiate", ""},
		{[]string{"negotiate " + base64.StdEncoding.EncodeToString([]byte("hello")), "Digest realm=\"x\", nonce=\"Negotiate\""}, "negotiate Digest", "hello"},
		{[]string{",, Basic realm = \"x\" ,"}, "Basic", ""},
		{nil, "", ""},
	} {
		schemes, data := offers(http.Header{"Proxy-Authenticate": tt.lines})
		if got := strings.Join(schemes, " "); got != tt.want || string(data) != tt.data {
			t.Errorf("%q: got %q %q, want %q %q", tt.lines, got, data, tt.want, tt.data)
		}
	}
}
