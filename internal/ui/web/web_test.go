package web_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ui/web"
)

// asked records what reached the API.
type asked struct {
	mu   sync.Mutex // guards what follows
	list []string
}

func (a *asked) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.list = append(a.list, r.Method+" "+r.URL.Path+" "+string(body))
	a.mu.Unlock()
	if r.URL.Path == "/v1/events" {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "event: changed\ndata: {}\n\n")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

func (a *asked) all() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.list, "\n")
}

func allow(netip.AddrPort, netip.AddrPort) error { return nil }

// serve runs a server until the test ends.
func serve(t *testing.T, c web.Config, options ...func(*web.Server)) *web.Server {
	t.Helper()
	s, _ := serveUntil(t, c, options...)
	return s
}

// serveUntil runs a server until stop is called or the test ends.
func serveUntil(t *testing.T, c web.Config, options ...func(*web.Server)) (_ *web.Server, stop func()) {
	t.Helper()
	if c.Peer == nil {
		c.Peer = allow
	}
	s, err := web.New(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range options {
		o(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func open(t *testing.T, s *web.Server) *url.URL {
	t.Helper()
	link, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// browser is a client that keeps no connection and follows no redirect.
func browser(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func answer(t *testing.T, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func request(method, target string, body io.Reader, header ...string) *http.Request {
	r, err := http.NewRequest(method, target, body)
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// session follows a link and returns the cookie.
func session(t *testing.T, c *http.Client, link *url.URL) *http.Cookie {
	t.Helper()
	resp, body := answer(t, c, request("GET", link.String(), nil))
	if resp.StatusCode != http.StatusSeeOther || len(resp.Cookies()) != 1 {
		t.Fatalf("link: got %s %q", resp.Status, body)
	}
	return resp.Cookies()[0]
}

func TestNewNamesWhatIsMissing(t *testing.T) {
	if _, err := web.New(web.Config{Peer: allow}); err == nil {
		t.Error("no error without an API")
	}
	if _, err := web.New(web.Config{API: &asked{}}); err == nil {
		t.Error("no error without a peer check")
	}
}

func TestLinkBecomesASession(t *testing.T) {
	testenv.NoLeaks(t)
	var logged bytes.Buffer
	s := serve(t, web.Config{API: &asked{}, Log: slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	link, c := open(t, s), browser(t)
	if resp, _ := answer(t, c, request("HEAD", link.String(), nil)); resp.StatusCode == http.StatusSeeOther {
		t.Error("HEAD uses up the link")
	}
	resp, _ := answer(t, c, request("GET", link.String(), nil))
	if got := resp.Header.Get("Location"); resp.StatusCode != http.StatusSeeOther || got != "/" {
		t.Fatalf("link: got %s to %q, want 303 to /", resp.Status, got)
	}
	cookie := resp.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || len(cookie.Value) < 43 {
		t.Errorf("cookie is not strict: HttpOnly %v, SameSite %v, path %q, %d characters", cookie.HttpOnly, cookie.SameSite, cookie.Path, len(cookie.Value))
	}
	if other := session(t, c, open(t, s)); other.Name == cookie.Name {
		t.Error("two sessions have the same cookie name")
	}
	page := request("GET", "http://"+link.Host+"/", nil)
	page.AddCookie(cookie)
	resp, body := answer(t, c, page)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "tablist") {
		t.Errorf("page: got %s %.80q", resp.Status, body)
	}
	if resp, body := answer(t, c, request("GET", link.String(), nil)); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "used") {
		t.Errorf("replayed link: got %s %q, want 403 with the reason", resp.Status, body)
	}
	if strings.Contains(logged.String(), cookie.Value) || strings.Contains(logged.String(), strings.TrimPrefix(link.Path, "/open/")) {
		t.Error("a token or cookie is in the log")
	}
}

func TestHeaders(t *testing.T) {
	testenv.NoLeaks(t)
	s := serve(t, web.Config{API: &asked{}})
	link := open(t, s)
	c := browser(t)
	for _, target := range []string{link.String(), "http://" + link.Host + "/", "http://" + link.Host + "/v1/status"} {
		resp, _ := answer(t, c, request("GET", target, nil, "Origin", "http://evil.example"))
		h := resp.Header
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store", "Access-Control-Allow-Origin": ""} {
			if got := h.Get(name); got != want {
				t.Errorf("%s: %s: got %q, want %q", target, name, got, want)
			}
		}
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} {
			if !strings.Contains(csp, want) {
				t.Errorf("%s: policy %q lacks %q", target, csp, want)
			}
		}
		if strings.Contains(csp, "unsafe") {
			t.Errorf("policy is unsafe: %q", csp)
		}
	}
}

func TestRefusals(t *testing.T) {
	testenv.NoLeaks(t)
	api := &asked{}
	var painted atomic.Int32
	s := serve(t, web.Config{API: api, Painted: func() { painted.Add(1) }})
	link, c := open(t, s), browser(t)
	own, base := session(t, c, link), "http://"+link.Host
	port := link.Port()
	const json = "application/json"
	for _, x := range []struct {
		name, method, path string
		host               string // "": the listener's
		cookie             *http.Cookie
		header             []string
		body               string
		want               int
	}{
		{"good read", "GET", "/v1/status", "", own, []string{"Sec-Fetch-Site", "same-origin"}, "", 200},
		{"read by a browser without Sec-Fetch-Site", "GET", "/v1/status", "", own, nil, "", 200},
		{"good action", "POST", "/v1/renew", "", own, []string{"Origin", base, "Content-Type", json}, "{}", 200},
		{"good end", "DELETE", "/v1/login/1", "", own, []string{"Origin", base, "Sec-Fetch-Site", "same-origin"}, "", 200},
		{"page by a link elsewhere", "GET", "/", "", own, []string{"Sec-Fetch-Site", "cross-site"}, "", 200},

		{"no cookie", "GET", "/v1/status", "", nil, nil, "", 403},
		{"no cookie, page", "GET", "/", "", nil, nil, "", 403},
		{"no cookie, action", "POST", "/v1/renew", "", nil, []string{"Origin", base, "Content-Type", json}, "{}", 403},
		{"wrong cookie", "GET", "/v1/status", "", &http.Cookie{Name: own.Name, Value: "x" + own.Value[1:]}, nil, "", 403},
		{"expired or guessed link", "GET", "/open/" + strings.Repeat("A", 43), "", nil, nil, "", 403},
		{"rebound name", "GET", "/v1/status", "evil.example:" + port, own, nil, "", 421},
		{"rebound name, link", "GET", link.Path, "evil.example:" + port, own, nil, "", 421},
		{"localhost", "GET", "/v1/status", "localhost:" + port, own, nil, "", 421},
		{"host without port", "GET", "/v1/status", "127.0.0.1", own, nil, "", 421},
		{"other origin", "POST", "/v1/renew", "", own, []string{"Origin", "http://evil.example", "Content-Type", json}, "{}", 403},
		{"same host, other port", "POST", "/v1/renew", "", own, []string{"Origin", "http://127.0.0.1:1", "Content-Type", json}, "{}", 403},
		{"null origin", "POST", "/v1/renew", "", own, []string{"Origin", "null", "Content-Type", json}, "{}", 403},
		{"action without origin", "POST", "/v1/renew", "", own, []string{"Content-Type", json}, "{}", 403},
		{"end without origin", "DELETE", "/v1/login/1", "", own, nil, "", 403},
		{"a form's content", "POST", "/v1/renew", "", own, []string{"Origin", base, "Content-Type", "text/plain"}, "{}", 403},
		{"read for another site", "GET", "/v1/status", "", own, []string{"Sec-Fetch-Site", "cross-site"}, "", 403},
		{"read for another port", "GET", "/v1/status", "", own, []string{"Sec-Fetch-Site", "same-site"}, "", 403},
		{"read with another origin", "GET", "/v1/status", "", own, []string{"Origin", "http://evil.example"}, "", 403},
		{"script for another site", "GET", "/app.js", "", own, []string{"Sec-Fetch-Site", "cross-site"}, "", 403},
		{"typed in the address bar", "GET", "/v1/status", "", own, []string{"Sec-Fetch-Site", "none"}, "", 403},
		{"preflight", "OPTIONS", "/v1/renew", "", own, []string{"Origin", base}, "", 403},
		{"unknown method", "PUT", "/v1/renew", "", own, []string{"Origin", base, "Content-Type", json}, "{}", 403},
		{"painted without origin", "POST", "/painted", "", own, []string{"Content-Type", json}, "{}", 403},
		{"oversize", "POST", "/v1/bypass", "", own, []string{"Origin", base, "Content-Type", json}, strings.Repeat("x", 4<<20+1), 413},
		{"unknown file", "GET", "/nothing.js", "", own, nil, "", 404},
		{"outside the page's files", "GET", "/..%2ftexts%2fen.json", "", own, nil, "", 404},
	} {
		t.Run(x.name, func(t *testing.T) {
			before := api.all()
			r := request(x.method, base+x.path, strings.NewReader(x.body), x.header...)
			r.Host = x.host
			if x.cookie != nil {
				r.AddCookie(x.cookie)
			}
			resp, body := answer(t, c, r)
			if resp.StatusCode != x.want {
				t.Errorf("got %s %.100q, want %d", resp.Status, body, x.want)
			}
			if x.want >= 400 && api.all() != before {
				t.Error("a refused request reached the API")
			}
		})
	}
	if n := painted.Load(); n != 0 {
		t.Errorf("painted was called %d times", n)
	}
	r := request("POST", base+"/painted", strings.NewReader("{}"), "Origin", base, "Content-Type", json)
	r.AddCookie(own)
	if resp, _ := answer(t, c, r); resp.StatusCode != http.StatusNoContent || painted.Load() != 1 {
		t.Errorf("painted: got %s, called %d times", resp.Status, painted.Load())
	}
	if got := api.all(); !strings.Contains(got, "POST /v1/renew {}") {
		t.Errorf("the API got %q", got)
	}
}

func TestLongHeaderIsRefused(t *testing.T) {
	testenv.NoLeaks(t)
	api := &asked{}
	s := serve(t, web.Config{API: api})
	link, c := open(t, s), browser(t)
	r := request("GET", "http://"+link.Host+"/v1/status", nil, "X-Long", strings.Repeat("x", 64<<10))
	r.AddCookie(session(t, c, link))
	// The answer may be lost: the server closes without reading the rest.
	resp, err := c.Do(r)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("got %s, want 431", resp.Status)
		}
	}
	if got := api.all(); got != "" {
		t.Errorf("the API got %q", got)
	}
}

func TestChunkedBodyIsRefused(t *testing.T) {
	testenv.NoLeaks(t)
	s := serve(t, web.Config{API: &asked{}})
	link, c := open(t, s), browser(t)
	r := request("POST", "http://"+link.Host+"/v1/renew", io.MultiReader(strings.NewReader("{}")), "Origin", "http://"+link.Host, "Content-Type", "application/json")
	r.AddCookie(session(t, c, link))
	if resp, _ := answer(t, c, r); resp.StatusCode != http.StatusLengthRequired {
		t.Errorf("got %s, want 411", resp.Status)
	}
}

func TestBodyIsWiped(t *testing.T) {
	testenv.NoLeaks(t)
	var kept []byte
	api := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		r.Body.(io.WriterTo).WriteTo(writerFunc(func(b []byte) { kept = b }))
	})
	s, stop := serveUntil(t, web.Config{API: api})
	link, c := open(t, s), browser(t)
	r := request("POST", "http://"+link.Host+"/v1/login/1", strings.NewReader("secret"), "Origin", "http://"+link.Host, "Content-Type", "application/json")
	r.AddCookie(session(t, c, link))
	answer(t, c, r)
	stop()
	if len(kept) != 6 || !bytes.Equal(kept, make([]byte, 6)) {
		t.Errorf("the body is still there: %q", kept)
	}
}

type writerFunc func(b []byte)

func (f writerFunc) Write(b []byte) (int, error) {
	f(b)
	return len(b), nil
}

func TestOtherUserIsNotServed(t *testing.T) {
	testenv.NoLeaks(t)
	var other atomic.Bool
	checked := make(chan [2]netip.AddrPort, 8)
	s := serve(t, web.Config{API: &asked{}, Peer: func(l, r netip.AddrPort) error {
		checked <- [2]netip.AddrPort{l, r}
		if other.Load() {
			return errors.New("another user")
		}
		return nil
	}})
	link := open(t, s)
	other.Store(true)
	conn, err := net.Dial("tcp", link.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", link.Path, link.Host)
	if b, _ := io.ReadAll(conn); len(b) > 0 {
		t.Errorf("another user got %q", b)
	}
	if got := <-checked; got[0].String() != link.Host || got[1].String() != conn.LocalAddr().String() {
		t.Errorf("checked %v, want %s from %v", got, link.Host, conn.LocalAddr())
	}
	other.Store(false)
	session(t, browser(t), link) // the link is still good for its owner
}

func TestSlowHeadersAreCutOff(t *testing.T) {
	testenv.NoLeaks(t)
	s := serve(t, web.Config{API: &asked{}})
	conn, err := net.Dial("tcp", open(t, s).Host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nX-Slow: ")
	conn.SetReadDeadline(time.Now().Add(60 * time.Second))
	if _, err := io.ReadAll(conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		t.Error("a connection that never finishes its headers stays open")
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

func TestConnectionsAreBounded(t *testing.T) {
	testenv.NoLeaks(t)
	s := serve(t, web.Config{API: &asked{}})
	host := open(t, s).Host
	refused := make(chan bool)
	const tried = 80
	for range tried {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			// Those that are kept answer before they are asked anything else.
			fmt.Fprint(conn, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
			_, err := bufio.NewReader(conn).ReadByte()
			refused <- err != nil
		}()
	}
	n := 0
	for range tried {
		if <-refused {
			n++
		}
	}
	if n != tried-64 {
		t.Errorf("refused %d of %d, want %d", n, tried, tried-64)
	}
}

func TestClosesWhenUnused(t *testing.T) {
	testenv.NoLeaks(t)
	const soon = 50 * time.Millisecond
	s := serve(t, web.Config{API: &asked{}}, func(s *web.Server) { web.CloseUnusedAfter(s, soon) })
	first := open(t, s)
	waitClosed(t, first.Host)
	second := open(t, s)
	stream := request("GET", "http://"+second.Host+"/v1/events", nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := browser(t)
	stream.AddCookie(session(t, c, second))
	resp, err := c.Do(stream.WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	// With a page open the address stays what it is, however long.
	for range 5 {
		<-time.After(soon)
		if third := open(t, s); third.Host != second.Host {
			t.Fatalf("a second window: got %s, want %s", third.Host, second.Host)
		}
	}
	cancel()
	waitClosed(t, second.Host)
}

func waitClosed(t *testing.T, host string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := net.Dial("tcp", host)
		if err != nil {
			return
		}
		conn.Close()
		if time.Now().After(deadline) {
			t.Fatal("still listening")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestRunEndsOpenStreams(t *testing.T) {
	testenv.NoLeaks(t)
	var ended atomic.Bool
	api := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		time.Sleep(50 * time.Millisecond) // work that is still to be done then
		ended.Store(true)
	})
	s, stop := serveUntil(t, web.Config{API: api})
	link, c := open(t, s), browser(t)
	r := request("GET", "http://"+link.Host+"/v1/events", nil)
	r.AddCookie(session(t, c, link))
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	stop()
	if !ended.Load() {
		t.Error("Run ended before a request that was under way")
	}
	if _, err := s.Open(t.Context()); !errors.Is(err, web.ErrEnded) {
		t.Errorf("Open after the end: got %v, want ErrEnded", err)
	}
	if _, err := net.Dial("tcp", link.Host); err == nil {
		t.Error("still listening after the end")
	}
}

func TestOpenGivesUp(t *testing.T) {
	testenv.NoLeaks(t)
	s, err := web.New(web.Config{API: &asked{}, Peer: allow})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestRefusalIsInThePersonsLanguage(t *testing.T) {
	testenv.NoLeaks(t)
	var lang atomic.Value
	lang.Store("")
	s := serve(t, web.Config{API: &asked{}, Lang: func() string { return lang.Load().(string) }})
	link, c := open(t, s), browser(t)
	for _, x := range []struct{ setting, browser, want string }{
		{"", "de-AT,en;q=0.5", "Dieser Link"},
		{"fr", "de", "Ce lien"},
		{"ja", "de", "This link"},
	} {
		lang.Store(x.setting)
		if _, body := answer(t, c, request("GET", "http://"+link.Host+"/", nil, "Accept-Language", x.browser)); !strings.HasPrefix(body, x.want) {
			t.Errorf("%q, %q: got %q", x.setting, x.browser, body)
		}
	}
}
