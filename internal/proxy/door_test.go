package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// greet sends a SOCKS5 greeting and takes the answer.
func greet(t *testing.T, addr string) *pt.Client {
	t.Helper()
	c := pt.Dial(t, addr)
	io.WriteString(c, "\x05\x01\x00")
	if got := read(t, c, 2); got != "\x05\x00" {
		t.Fatalf("the method: got %q", got)
	}
	return c
}

func read(t *testing.T, c *pt.Client, n int) string {
	t.Helper()
	b := make([]byte, n)
	k, _ := io.ReadFull(c.R, b)
	return string(b[:k])
}

func nameRequest(host string, port int) string {
	return "\x05\x01\x00\x03" + string([]byte{byte(len(host))}) + host + string([]byte{byte(port >> 8), byte(port)})
}

const granted = "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"

// A SOCKS client's tunnel is a CONNECT with a token at the upstream, whatever
// kind of address it names; what is sent early and half closes arrive.
func TestSOCKSTunnel(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	rec := &pt.Recorder{}
	_, addrs := pt.StartOn(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, Observer: rec}, proxy.SOCKS)
	for _, tt := range []struct{ request, target string }{
		{nameRequest("Web.Test", 443), "web.test:443"},
		{nameRequest("2001:db8::1", 22), "[2001:db8::1]:22"},
		{"\x05\x01\x00\x01\xc0\x00\x02\x01\x00\x50", "192.0.2.1:80"},
		{"\x05\x01\x00\x04\x20\x01\x0d\xb8" + strings.Repeat("\x00", 11) + "\x02\x01\xbb", "[2001:db8::2]:443"},
	} {
		c := greet(t, addrs[0])
		io.WriteString(c, tt.request+"early ")
		if got := read(t, c, len(granted)); got != granted {
			t.Fatalf("%s: got %q", tt.target, got)
		}
		io.WriteString(c, "late")
		c.CloseWrite()
		if got, err := io.ReadAll(c.R); string(got) != "early late" || err != nil {
			t.Errorf("%s: echoed %q, %v", tt.target, got, err)
		}
		heads := up.Heads()
		if h := heads[len(heads)-1]; h.Method() != "CONNECT" || h.Target() != tt.target || h.Token() == "" {
			t.Errorf("%s: the upstream saw %q", tt.target, h.Raw)
		}
	}
	until(t, "the event", func() bool { return len(rec.Events()) == 4 })
	if e := rec.Events()[0]; e.Method != "SOCKS5" || e.Host != "web.test" || e.Port != 443 || e.Route != proxy.RouteProxy || e.Status != 200 || e.Up != 10 || e.Down != 10 {
		t.Errorf("the event says %+v", e)
	}
}

// Slow clients, byte by byte, are served; what is no SOCKS5 request is refused
// with the right word, and nothing of it gets anywhere.
func TestSOCKSRequests(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	_, addrs := pt.StartOn(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}}, proxy.SOCKS)
	c := pt.Dial(t, addrs[0])
	c.SetNoDelay(true)
	go func() {
		for _, b := range []byte("\x05\x03\x02\x01\x00" + nameRequest("a.test", 1)) {
			c.Write([]byte{b})
		}
	}()
	if got := read(t, c, 12); got != "\x05\x00"+granted {
		t.Fatalf("byte by byte: got %q", got)
	}
	seen := len(up.Heads())
	refused := func(code byte) string { return string([]byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0}) }
	for _, tt := range []struct{ name, sent, want string }{
		{"SOCKS4", "\x04\x01\x00\x50\xc0\x00\x02\x01me\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
		{"SOCKS4a", "\x04\x01\x00\x50\x00\x00\x00\x01me\x00a.test\x00", "\x00\x5b\x00\x00\x00\x00\x00\x00"},
		{"only a password", "\x05\x01\x02", "\x05\xff"},
		{"no method", "\x05\x00", "\x05\xff"},
		{"TLS", "\x16\x03\x01\x00\x05", ""},
		{"BIND", "\x05\x01\x00" + strings.Replace(nameRequest("a.test", 1), "\x01", "\x02", 1), "\x05\x00" + refused(7)},
		{"UDP", "\x05\x01\x00" + strings.Replace(nameRequest("a.test", 1), "\x01", "\x03", 1), "\x05\x00" + refused(7)},
		{"an unknown command", "\x05\x01\x00\x05\x09\x00\x01", "\x05\x00" + refused(7)},
		{"another version", "\x05\x01\x00\x04\x01\x00\x01", "\x05\x00" + refused(1)},
		{"reserved byte", "\x05\x01\x00\x05\x01\x01\x01", "\x05\x00" + refused(1)},
		{"address type", "\x05\x01\x00\x05\x01\x00\x02", "\x05\x00" + refused(8)},
		{"port 0", "\x05\x01\x00" + nameRequest("a.test", 0), "\x05\x00" + refused(1)},
		{"no name", "\x05\x01\x00" + nameRequest("", 80), "\x05\x00" + refused(1)},
		{"a line end in the name", "\x05\x01\x00" + nameRequest("a\r\nX: y", 80), "\x05\x00" + refused(1)},
		{"a blank", "\x05\x01\x00" + nameRequest("a b", 80), "\x05\x00" + refused(1)},
		{"a zero byte", "\x05\x01\x00" + nameRequest("a\x00b", 80), "\x05\x00" + refused(1)},
		{"userinfo", "\x05\x01\x00" + nameRequest("u@a.test", 80), "\x05\x00" + refused(1)},
		{"a port in the name", "\x05\x01\x00" + nameRequest("a.test:1", 80), "\x05\x00" + refused(1)},
		{"a zone", "\x05\x01\x00" + nameRequest("fe80::1%eth0", 80), "\x05\x00" + refused(1)},
	} {
		c := pt.Dial(t, addrs[0])
		io.WriteString(c, tt.sent)
		if got, err := io.ReadAll(c.R); string(got) != tt.want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", tt.name, got, err, tt.want)
		}
	}
	resp, body := pt.Dial(t, addrs[0]).Do("GET", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if resp.StatusCode != 400 || !strings.Contains(body, "SOCKS5, not HTTP") {
		t.Errorf("HTTP: got %d %q", resp.StatusCode, body)
	}
	if n := len(up.Heads()); n != seen {
		t.Errorf("%d requests got to the upstream", n-seen)
	}
}

// A client that sends nothing, or half a message, does not stay.
func TestSOCKSSlowloris(t *testing.T) {
	pt.Leaks(t)
	_, addrs := pt.StartOn(t, proxy.Config{Router: pt.Direct(), HeadTimeout: 200 * time.Millisecond}, proxy.SOCKS)
	for _, sent := range []string{"", "\x05", "\x05\xff\x00", "\x05\x01\x00", "\x05\x01\x00\x05\x01\x00\x03\xffabc"} {
		c := pt.Dial(t, addrs[0])
		io.WriteString(c, sent)
		if _, err := io.ReadAll(c.R); err != nil {
			t.Errorf("%q: %v", sent, err)
		}
	}
}

// The reply says why, as far as SOCKS5 has a word for it.
func TestSOCKSReplies(t *testing.T) {
	pt.Leaks(t)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := closed.Addr().String()
	closed.Close()
	answering := func(status string) string {
		return pt.Answering(t, "HTTP/1.1 "+status+"\r\nContent-Length: 0\r\n\r\n").Addr
	}
	refusing := func(e *proxy.Error) proxy.RouterFunc {
		return func(_ context.Context, host string, port uint16) (proxy.Decision, error) {
			return proxy.Decision{Route: proxy.RouteRefused, Host: host, Port: port, Refusal: e}, nil
		}
	}
	unknown := func(host string) func(context.Context, string, string) (net.Conn, error) {
		return func(ctx context.Context, network, _ string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		}
	}
	noToken := &pt.Auth{Token: func(context.Context, int) ([]byte, error) { return nil, &proxy.Error{Cause: proxy.CauseNoTicket} }}
	_, deadPort, _ := net.SplitHostPort(dead)
	for _, tt := range []struct {
		name  string
		cfg   proxy.Config
		code  byte
		cause proxy.Cause
	}{
		{"policy", proxy.Config{Router: refusing(nil)}, 2, proxy.CausePolicy},
		{"no ticket", proxy.Config{Router: pt.Via(answering("200 OK")), Auth: noToken}, 1, proxy.CauseNoTicket},
		{"upstream gone", proxy.Config{Router: pt.Via(dead), Auth: &pt.Auth{}}, 3, proxy.CauseUpstreamUnreachable},
		{"upstream says 403", proxy.Config{Router: pt.Via(answering("403 No")), Auth: &pt.Auth{}}, 2, proxy.CausePolicy},
		{"upstream says 503", proxy.Config{Router: pt.Via(answering("503 No")), Auth: &pt.Auth{}}, 4, proxy.CauseDestinationUnreachable},
		{"upstream says 504", proxy.Config{Router: pt.Via(answering("504 No")), Auth: &pt.Auth{}}, 6, proxy.CauseTimeout},
		{"upstream says 302", proxy.Config{Router: pt.Via(answering("302 There")), Auth: &pt.Auth{}}, 4, proxy.CauseDestinationUnreachable},
		{"always 407", proxy.Config{Router: pt.Via(pt.Negotiating(t, func(string) bool { return false }).Addr), Auth: &pt.Auth{}}, 1, proxy.CauseTokenRefused},
		{"target refuses", proxy.Config{Router: pt.Direct()}, 5, proxy.CauseDestinationUnreachable},
		{"no such name", proxy.Config{Router: pt.Direct(), Dial: unknown("x")}, 4, proxy.CauseDestinationUnresolved},
		{"not a host", proxy.Config{Router: proxy.RouterFunc(func(context.Context, string, uint16) (proxy.Decision, error) {
			return proxy.Decision{}, errors.New("no host")
		})}, 1, proxy.CauseBadRequest},
	} {
		rec := &pt.Recorder{}
		tt.cfg.Observer = rec
		_, addrs := pt.StartOn(t, tt.cfg, proxy.SOCKS)
		c := greet(t, addrs[0])
		port := 0
		fmt.Sscan(deadPort, &port)
		io.WriteString(c, nameRequest("127.0.0.1", port))
		got, err := io.ReadAll(c.R)
		if want := string([]byte{5, tt.code, 0, 1, 0, 0, 0, 0, 0, 0}); string(got) != want || err != nil {
			t.Errorf("%s: got %q, %v; want code %d", tt.name, got, err, tt.code)
		}
		until(t, "the event", func() bool { return len(rec.Events()) == 1 })
		if e := rec.Events()[0]; e.Cause != tt.cause {
			t.Errorf("%s: the event says %q, want %q", tt.name, e.Cause, tt.cause)
		}
	}
}

// The listener itself is no target, also not by SOCKS or a forward, and the
// same user is asked for before a byte is read.
func TestDoorsKeepTheRules(t *testing.T) {
	pt.Leaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own := netip.MustParseAddrPort(l.Addr().String())
	var log lines
	rec := &pt.Recorder{}
	_, addrs := pt.StartOn(t, proxy.Config{Router: pt.Direct(), Observer: rec, Log: slog.New(slog.NewTextHandler(&log, nil))}, proxy.SOCKS,
		func(other net.Listener) net.Listener { other.Close(); return proxy.Forward(l, "127.0.0.1", own.Port()) })
	c := greet(t, addrs[0])
	io.WriteString(c, nameRequest("127.0.0.1", int(own.Port())))
	if got, _ := io.ReadAll(c.R); string(got) != "\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00" {
		t.Errorf("the helper itself by SOCKS: got %q", got)
	}
	for range 3 {
		if got, _ := io.ReadAll(pt.Dial(t, own.String()).R); len(got) != 0 {
			t.Errorf("a forward to itself: got %q", got)
		}
	}
	// The SOCKS client's dial was a connection to the forward as well.
	until(t, "the event", func() bool { return len(rec.Events()) == 5 })
	for _, e := range rec.Events() {
		if e.Cause != proxy.CauseLoop {
			t.Errorf("got %+v", e)
		}
	}
	if n := strings.Count(log.String(), "forward does not work"); n != 1 || !strings.Contains(log.String(), "cause=loop_detected") {
		t.Errorf("said %d times why:\n%s", n, log.String())
	}

	denied := proxy.PeerFunc(func(_, _ netip.AddrPort) error { return errors.New("uid 4711") })
	up := pt.Negotiating(t, pt.Any())
	_, addrs = pt.StartOn(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, Peer: denied}, proxy.SOCKS,
		func(l net.Listener) net.Listener { return proxy.Forward(l, "a.test", 22) })
	for i, want := range []string{"\x05\xff", ""} {
		if got, _ := io.ReadAll(pt.Dial(t, addrs[i]).R); string(got) != want {
			t.Errorf("another user at %d: got %q, want %q", i, got, want)
		}
	}
	if up.Conns() != 0 {
		t.Error("something reached the upstream")
	}
}

// lines is a log that can be looked at.
type lines struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A forward carries whatever the client says, also one that has said all
// before the tunnel is there; a failure closes it, and the log says why, once.
func TestForward(t *testing.T) {
	pt.Leaks(t)
	var bad sync.Once
	up := pt.Negotiating(t, pt.Any())
	auth := &pt.Auth{Token: func(ctx context.Context, n int) (tok []byte, err error) {
		bad.Do(func() { err = &proxy.Error{Cause: proxy.CauseNoTicket} })
		return fmt.Appendf(nil, "token-%d", n), err
	}}
	var log lines
	rec := &pt.Recorder{}
	s, addrs := pt.StartOn(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth, Observer: rec, Log: slog.New(slog.NewTextHandler(&log, nil))},
		func(l net.Listener) net.Listener { return proxy.Forward(l, "git.test", 22) })
	if got, err := io.ReadAll(pt.Dial(t, addrs[0]).R); len(got) != 0 || err != nil {
		t.Errorf("without a ticket: got %q, %v", got, err)
	}
	if s := log.String(); !strings.Contains(s, "forward does not work") || !strings.Contains(s, "cause=no_ticket") || !strings.Contains(s, "to=git.test:22") {
		t.Errorf("the log says:\n%s", s)
	}
	c := pt.Dial(t, addrs[0])
	io.WriteString(c, "all there is")
	c.CloseWrite()
	if got, err := io.ReadAll(c.R); string(got) != "all there is" || err != nil {
		t.Errorf("echoed %q, %v", got, err)
	}
	if h := up.Heads()[0]; h.Target() != "git.test:22" || h.Token() == "" {
		t.Errorf("the upstream saw %q", h.Raw)
	}
	until(t, "the event", func() bool { return len(rec.Events()) == 2 && s.Tunnels() == 0 })
	if e := rec.Events()[1]; e.Method != "FORWARD" || e.Host != "git.test" || e.Up != 12 {
		t.Errorf("the event says %+v", e)
	}
	if !strings.Contains(log.String(), "forward works again") {
		t.Errorf("the log says:\n%s", log.String())
	}
	// An open one is counted.
	c = pt.Dial(t, addrs[0])
	io.WriteString(c, "x")
	if read(t, c, 1) != "x" || s.Tunnels() != 1 {
		t.Errorf("%d tunnels are open", s.Tunnels())
	}
}

// A client that has nothing to say, and says so at once, still hears.
func TestForwardToASilentClient(t *testing.T) {
	pt.Leaks(t)
	up := pt.Serve(t, func(c *pt.Conn) {
		if _, err := c.ReadHead(); err == nil {
			c.Send("HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x\r\n")
			io.Copy(io.Discard, c.R)
		}
	})
	auth := &pt.Auth{Token: func(ctx context.Context, _ int) ([]byte, error) {
		select { // long enough for a look at the client meanwhile
		case <-time.After(300 * time.Millisecond):
			return []byte("token"), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
	_, addrs := pt.StartOn(t, proxy.Config{Router: pt.Via(up.Addr), Auth: auth}, func(l net.Listener) net.Listener { return proxy.Forward(l, "git.test", 22) })
	c := pt.Dial(t, addrs[0])
	c.CloseWrite()
	if got, err := io.ReadAll(c.R); string(got) != "SSH-2.0-x\r\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// gated is a gate for 127.0.0.0/8 and one client, and the field with its
// secret.
func gated(log *slog.Logger) (g *proxy.Gate, rules proxy.GateRules, auth string) {
	g = proxy.NewGate(log)
	rules = proxy.GateRules{Open: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Clients: []proxy.GateClient{{Name: "other", Sum: sha256.Sum256([]byte("x"))}, {Name: "build", Sum: sha256.Sum256([]byte("hunter2:hunter2"))}}}
	g.Set(rules)
	return g, rules, basic("build", "hunter2:hunter2")
}

func basic(name, secret string) string {
	return "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+secret)) + "\r\n"
}

// The gateway serves whoever knows a secret, request by request; the secret
// goes no further than here, and the same-user check has no say.
func TestGatewayCredentials(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	var log lines
	g, rules, auth := gated(slog.New(slog.NewTextHandler(&log, nil)))
	rec := &pt.Recorder{}
	denied := proxy.PeerFunc(func(_, _ netip.AddrPort) error { return errors.New("uid 4711") })
	_, addrs := pt.StartOn(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, Peer: denied, Observer: rec, Log: slog.New(slog.NewTextHandler(&log, nil))},
		func(l net.Listener) net.Listener { return proxy.Guarded(l, g) }, func(l net.Listener) net.Listener { return l })
	c := pt.Dial(t, addrs[0])
	get := func(field string) *http.Response {
		resp, _ := c.Do("GET", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"+field+"\r\n")
		if resp.Close {
			c = pt.Dial(t, addrs[0])
		}
		return resp
	}
	for _, tt := range []struct {
		name, field string
		status      int
	}{
		{"nothing", "", 407}, {"the secret", auth, 200}, {"nothing behind it", "", 407},
		{"the scheme in lower case", strings.Replace(auth, "Basic", "basic", 1), 200},
		{"another scheme", "Proxy-Authorization: Bearer aaaa\r\n", 407},
		{"a wrong secret", basic("build", "hunter2"), 407}, {"a wrong name", basic("other", "hunter2:hunter2"), 407},
		{"an unknown name", basic("", ""), 407}, {"no base64", "Proxy-Authorization: Basic %%\r\n", 407}, {"no colon", "Proxy-Authorization: Basic YQ==\r\n", 407},
		{"twice", auth + auth, 407},
	} {
		resp := get(tt.field)
		if resp.StatusCode != tt.status || (resp.Header.Get("Proxy-Authenticate") == `Basic realm="Kerbpass"`) != (tt.status == 407) {
			t.Errorf("%s: got %d %q", tt.name, resp.StatusCode, resp.Header)
		}
		if guessed := tt.status == 407 && !strings.HasPrefix(tt.name, "nothing") && tt.name != "another scheme"; resp.Close != guessed {
			t.Errorf("%s: the connection ends: %v, want %v", tt.name, resp.Close, guessed)
		}
	}
	if resp, _ := c.Do("CONNECT", "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n"+auth+"\r\n"); resp.StatusCode != 200 {
		t.Errorf("CONNECT: got %d", resp.StatusCode)
	}
	// The own user's listener knows no secrets.
	if resp, _ := pt.Dial(t, addrs[1]).Do("GET", "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"+auth+"\r\n"); resp.StatusCode != 403 {
		t.Errorf("at the other listener: got %d", resp.StatusCode)
	}
	for _, h := range up.Heads() {
		if strings.Contains(h.Raw, "Basic") || strings.Contains(h.Raw, "basic") {
			t.Errorf("the upstream saw %q", h.Raw)
		}
	}
	if n := len(up.Heads()); n != 3 {
		t.Errorf("the upstream saw %d requests, want 3", n)
	}
	if s := log.String(); strings.Contains(s, "hunter2") || !strings.Contains(s, "wrong name or secret") {
		t.Errorf("the log says:\n%s", s)
	}
	named := 0
	for _, e := range rec.Events() {
		if e.Client == "build" {
			named++
		}
	}
	if named != 2 { // the tunnel is open
		t.Errorf("%d events name the client: %+v", named, rec.Events())
	}
	// Taken off the list, the client is out at its next request.
	d := pt.Dial(t, addrs[0])
	c = d
	if resp := get(auth); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	rules.Clients = rules.Clients[:1]
	g.Set(rules)
	if resp := get(auth); resp.StatusCode != 407 {
		t.Errorf("after its removal: got %d", resp.StatusCode)
	}
}

// Who comes from elsewhere, or guesses, gets not one byte.
func TestGatewaySources(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	g, rules, auth := gated(nil)
	_, addrs := pt.StartOn(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}}, func(l net.Listener) net.Listener { return proxy.Guarded(l, g) })
	raw := "GET http://a.test/ HTTP/1.1\r\nHost: a.test\r\n"
	shut := func(why string) {
		t.Helper()
		c := pt.Dial(t, addrs[0])
		if got, err := io.ReadAll(c.R); len(got) != 0 || errors.Is(err, os.ErrDeadlineExceeded) { // it need not say a word
			t.Errorf("%s: got %q, %v", why, got, err)
		}
	}
	other := rules
	other.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32"), netip.MustParsePrefix("10.0.0.0/8")}
	g.Set(other)
	shut("another network")
	other.Allow = nil
	g.Set(other)
	shut("no network")
	other = rules
	other.Open = false
	g.Set(other)
	shut("switched off")
	g.Set(rules)
	if resp, _ := pt.Dial(t, addrs[0]).Do("GET", raw+auth+"\r\n"); resp.StatusCode != 200 {
		t.Fatalf("got %d", resp.StatusCode)
	}
	for range 10 {
		if resp, _ := pt.Dial(t, addrs[0]).Do("GET", raw+basic("build", "guess")+"\r\n"); resp.StatusCode != 407 {
			t.Fatalf("a guess: got %d", resp.StatusCode)
		}
	}
	shut("ten guesses")
	if n := len(up.Heads()); n != 1 {
		t.Errorf("the upstream saw %d requests", n)
	}
}

// A guest reaches nothing on this machine's loopback, however it is named, and
// not by a connection that the own user's request has left open either.
func TestGatewayLeadsNotHere(t *testing.T) {
	pt.Leaks(t)
	origin := pt.Answering(t, pt.OK)
	g, _, auth := gated(nil)
	_, port, _ := net.SplitHostPort(origin.Addr)
	route := proxy.RouterFunc(func(_ context.Context, host string, n uint16) (proxy.Decision, error) {
		return proxy.Decision{Route: proxy.RouteDirect, Host: host, Port: n, Loopback: host == "127.0.0.1" || host == "app.localhost"}, nil
	})
	_, addrs := pt.StartOn(t, proxy.Config{Router: route}, func(l net.Listener) net.Listener { return proxy.Guarded(l, g) }, func(l net.Listener) net.Listener { return l })
	// "localhost" stands for a name on the bypass list that the hosts file
	// leads here: this Router does not call it loopback.
	for _, host := range []string{"127.0.0.1", "app.localhost", "localhost", "0.0.0.0"} {
		own := "GET http://" + host + ":" + port + "/ HTTP/1.1\r\nHost: x\r\n"
		if host != "0.0.0.0" {
			if resp, _ := pt.Dial(t, addrs[1]).Do("GET", own+"\r\n"); resp.StatusCode != 200 {
				t.Errorf("%s for the own user: got %d", host, resp.StatusCode)
			}
		}
		seen := len(origin.Heads())
		if resp, _ := pt.Dial(t, addrs[0]).Do("GET", own+auth+"\r\n"); resp.StatusCode != 403 || pt.Cause(resp) != "policy" {
			t.Errorf("%s for a guest: got %d %s", host, resp.StatusCode, pt.Cause(resp))
		}
		connect := "CONNECT " + host + ":" + port + " HTTP/1.1\r\nHost: x\r\n"
		if resp, _ := pt.Dial(t, addrs[0]).Do("CONNECT", connect+auth+"\r\n"); resp.StatusCode != 403 || pt.Cause(resp) != "policy" {
			t.Errorf("CONNECT %s for a guest: got %d %s", host, resp.StatusCode, pt.Cause(resp))
		}
		if len(origin.Heads()) != seen {
			t.Errorf("%s: a guest's request got to the origin", host)
		}
	}
	// So when it is the last resort of a script.
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	away := &proxy.Upstream{URL: "http://" + dead.Addr().String(), Host: "127.0.0.1", Port: netip.MustParseAddrPort(dead.Addr().String()).Port()}
	last := proxy.RouterFunc(func(_ context.Context, host string, n uint16) (proxy.Decision, error) {
		return proxy.Decision{Route: proxy.RouteProxy, Upstream: away, Fallbacks: []*proxy.Upstream{proxy.DirectHop}, Host: host, Port: n}, nil
	})
	_, addrs = pt.StartOn(t, proxy.Config{Router: last}, func(l net.Listener) net.Listener { return proxy.Guarded(l, g) }, func(l net.Listener) net.Listener { return l })
	for _, line := range []string{"GET http://localhost:" + port + "/", "CONNECT localhost:" + port} {
		if resp, _ := pt.Dial(t, addrs[1]).Do(strings.Fields(line)[0], line+" HTTP/1.1\r\nHost: x\r\n\r\n"); resp.StatusCode != 200 {
			t.Errorf("%s for the own user, as the last resort: got %d", line, resp.StatusCode)
		}
		seen := len(origin.Heads())
		if resp, _ := pt.Dial(t, addrs[0]).Do(strings.Fields(line)[0], line+" HTTP/1.1\r\nHost: x\r\n"+auth+"\r\n"); resp.StatusCode != 403 || pt.Cause(resp) != "policy" {
			t.Errorf("%s for a guest, as the last resort: got %d %s", line, resp.StatusCode, pt.Cause(resp))
		}
		if len(origin.Heads()) != seen {
			t.Errorf("%s: a guest's request got to the origin", line)
		}
	}
	// An upstream on the loopback is the helper's own business.
	up := pt.Negotiating(t, pt.Any())
	_, addrs = pt.StartOn(t, proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}}, func(l net.Listener) net.Listener { return proxy.Guarded(l, g) })
	if resp, _ := pt.Dial(t, addrs[0]).Do("GET", "GET http://a.test/ HTTP/1.1\r\nHost: x\r\n"+auth+"\r\n"); resp.StatusCode != 200 {
		t.Errorf("by an upstream: got %d", resp.StatusCode)
	}
}

// The auto-configuration is for who asks this very listener for it, and for no
// page that embeds it.
func TestScript(t *testing.T) {
	pt.Leaks(t)
	up := pt.Negotiating(t, pt.Any())
	text := "function FindProxyForURL() {}\n"
	cfg := proxy.Config{Router: pt.Via(up.Addr), Auth: &pt.Auth{}, Script: func(addr string) string { return text + "// " + addr }}
	g, _, auth := gated(nil)
	_, addrs := pt.StartOn(t, cfg, func(l net.Listener) net.Listener { return l }, func(l net.Listener) net.Listener { return proxy.Guarded(l, g) })
	addr := addrs[0]
	_, port, _ := net.SplitHostPort(addr)
	c := pt.Dial(t, addr)
	resp, body := c.Do("GET", "GET /kerbpass.pac HTTP/1.1\r\nHost: "+addr+"\r\n\r\n")
	tag := resp.Header.Get("ETag")
	if resp.StatusCode != 200 || body != text+"// "+addr || resp.Header.Get("Content-Type") != "application/x-ns-proxy-autoconfig" || tag == "" ||
		resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
		t.Fatalf("got %d %q %q", resp.StatusCode, resp.Header, body)
	}
	resp, body = c.Do("GET", "GET /kerbpass.pac HTTP/1.1\r\nHost: localhost:"+port+"\r\nIf-None-Match: "+tag+"\r\n\r\n")
	if resp.StatusCode != 304 || body != "" || resp.Header.Get("ETag") != tag {
		t.Errorf("unchanged: got %d %q", resp.StatusCode, body)
	}
	if resp, _ = c.Do("HEAD", "HEAD /kerbpass.pac HTTP/1.1\r\nHost: "+addr+"\r\n\r\n"); resp.StatusCode != 200 || resp.ContentLength == 0 {
		t.Errorf("HEAD: got %d %d", resp.StatusCode, resp.ContentLength)
	}
	if resp, _ = c.Do("GET", "GET http://a.test/kerbpass.pac HTTP/1.1\r\nHost: a.test\r\n\r\n"); resp.StatusCode != 200 || len(up.Heads()) != 1 {
		t.Errorf("a file of that name elsewhere: got %d", resp.StatusCode)
	}
	for _, tt := range []struct{ addr, raw string }{
		{addr, "GET /kerbpass.pac HTTP/1.1\r\nHost: evil.test:" + port + "\r\n\r\n"},
		{addr, "GET /kerbpass.pac HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"},
		{addr, "GET /kerbpass.pac HTTP/1.1\r\nHost: " + addr + "\r\nHost: " + addr + "\r\n\r\n"},
		{addr, "GET /kerbpass.pac HTTP/1.1\r\n\r\n"},
		{addr, "GET /kerbpass.pac HTTP/1.0\r\n\r\n"},
		{addr, "GET /kerbpass.pac HTTP/2.0\r\nHost: " + addr + "\r\n\r\n"},
		{addr, "GET /kerbpass.pac?x HTTP/1.1\r\nHost: " + addr + "\r\n\r\n"},
		{addr, "GET /Kerbpass.pac HTTP/1.1\r\nHost: " + addr + "\r\n\r\n"},
		{addr, "POST /kerbpass.pac HTTP/1.1\r\nHost: " + addr + "\r\n\r\n"},
		{addr, "GET / HTTP/1.1\r\nHost: " + addr + "\r\n\r\n"},
		{addr, "GET /kerbpass.pac HTTP/1.1\r\nHost: " + addr + "\r\nContent-Length: 2\r\n\r\nxx"},
		{addr, "GET /kerbpass.pac HTTP/1.1\r\nHost: " + addr + "\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\n\r\n"},
		{addr, "GET /kerbpass.pac HTTP/1.1\r\nHost: " + addr + "\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n\r\n"},
		{addr, "GET /kerbpass.pac HTTP/1.1\r\nHost: " + addr + "\r\nSec-Fetch-Mode: cors\r\n\r\n"},
		{addrs[1], "GET /kerbpass.pac HTTP/1.1\r\nHost: " + addrs[1] + "\r\n" + auth + "\r\n"},
	} {
		if resp, body := pt.Dial(t, tt.addr).Do("GET", tt.raw); resp.StatusCode != 400 || strings.Contains(body, "FindProxy") {
			t.Errorf("%q: got %d %q", tt.raw, resp.StatusCode, body)
		}
	}
	cfg.Script = nil
	_, addr = pt.Start(t, cfg)
	if resp, _ := pt.Dial(t, addr).Do("GET", "GET /kerbpass.pac HTTP/1.1\r\nHost: "+addr+"\r\n\r\n"); resp.StatusCode != 400 {
		t.Errorf("without a script: got %d", resp.StatusCode)
	}
}
