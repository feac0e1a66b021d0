package pac_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/route/pac"
)

const asChild = "run-a-script"

// The test program is its own child: it runs scripts as the helper's does.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == asChild {
		if err := pac.Serve(os.Stdin, os.Stdout, pac.World{Resolve: resolve, Own: own}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// patience is for what a loaded machine does late.
const patience = 60 * time.Second

func finder(t *testing.T, cfg pac.Config, places ...string) *pac.Finder {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Command == nil {
		cfg.Command = []string{self, asChild}
	}
	if cfg.Places == nil {
		cfg.Places = func(context.Context) []string { return places }
	}
	f := pac.New(cfg)
	t.Cleanup(f.Close)
	return f
}

func scriptFile(t *testing.T, source string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "proxy.pac")
	if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func line(t *testing.T, f *pac.Finder, host string) string {
	t.Helper()
	a, err := f.Find(t.Context(), true, host, 443)
	if err != nil {
		return "error: " + err.Error()
	}
	return a.Line
}

// eventually waits until the script says want of a host that was not asked for
// before.
func eventually(t *testing.T, f *pac.Finder, want string) {
	t.Helper()
	got := ""
	for i, end := 0, time.Now().Add(patience); time.Now().Before(end); i++ {
		if got = line(t, f, fmt.Sprintf("host%d.example", i)); got == want {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("got %q, want %q", got, want)
}

func saying(answer string) string {
	return fmt.Sprintf("function FindProxyForURL(u, h) { return %q }", answer)
}

func TestFindTellsTheScriptOfTheTarget(t *testing.T) {
	f := finder(t, pac.Config{}, scriptFile(t, `function FindProxyForURL(u, h) { return "PROXY " + (u + h).replace(/[^a-z0-9]/g, "-") }`))
	for _, tt := range []struct {
		tls  bool
		host string
		port uint16
		want string
	}{
		{true, "a.example", 443, "https---a-example-a-example"},
		{true, "a.example", 8443, "https---a-example-8443-a-example"},
		{false, "a.example", 80, "http---a-example-a-example"},
		{false, "a.example", 443, "http---a-example-443-a-example"},
		{true, "2001:db8::1", 443, "https----2001-db8--1--2001-db8--1"},
	} {
		a, err := f.Find(t.Context(), tt.tls, tt.host, tt.port)
		if err != nil || a.Line != "PROXY "+tt.want {
			t.Errorf("%s %d: got %v, %v; want %q", tt.host, tt.port, a, err, tt.want)
		}
	}
	if got, want := pac.URL(false, "2001:db8::1", 8080), "http://[2001:db8::1]:8080/"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestExtendedFunctionGoesFirst(t *testing.T) {
	f := finder(t, pac.Config{}, scriptFile(t, saying("PROXY old:1")+`; const FindProxyForURLEx = (u, h) => "PROXY ex:1"`))
	if got := line(t, f, "a"); got != "PROXY ex:1" {
		t.Errorf("got %q", got)
	}
}

// Scripts that do not end, in the ways that there are to do so. Each costs the
// request a clear error, and the next request is answered as ever.
func TestLimits(t *testing.T) {
	log := &logLines{}
	f := finder(t, pac.Config{Log: log.logger()}, scriptFile(t, `
function deep(n) { return deep(n + 1) + 1 }
function FindProxyForURL(u, h) {
	switch (h) {
	case "loop": for (;;) ;
	case "regexp": return String(/^(?=a)(a+)+$/.test("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"));
	case "catch": for (;;) { try { for (;;) ; } catch (e) {} }
	case "string": var s = "x"; for (;;) s += s;
	case "array": var a = []; for (;;) a.push({n: a.length});
	case "repeat": return "x".repeat(1 << 29).length + "";
	case "fill": return new Array(1 << 28).fill(7).join("").length + "";
	case "buffers": var b = []; for (;;) b.push(new ArrayBuffer(1 << 20));
	case "deep": return deep(0);
	case "throw": throw new Error("no proxy\n for you");
	case "nothing": return;
	case "null": return null;
	case "number": return 5;
	case "object": return new String("DIRECT");
	case "empty": return "";
	case "long": return "DIRECT;".repeat(1000);
	case "junk": return "GOPHER x:1; PROXY user:hunter2@h:1";
	case "alert": alert("seen\nit"); return "DIRECT";
	}
	return "PROXY fine:1";
}`))
	grew := 0 // scripts that met the limit on memory: on a slow machine the one on time may come first
	for _, tt := range []struct {
		host string
		want error
		word string
	}{
		{"loop", pac.ErrTooLong, ""}, {"regexp", pac.ErrTooLong, ""}, {"catch", pac.ErrTooLong, ""},
		{"string", pac.ErrTooLarge, ""}, {"array", pac.ErrTooLarge, ""}, {"repeat", pac.ErrTooLarge, ""}, {"fill", pac.ErrTooLarge, ""}, {"buffers", pac.ErrTooLarge, ""},
		{"deep", pac.ErrScript, ""}, {"throw", pac.ErrScript, "no proxy"},
		{"nothing", pac.ErrScript, "nothing"}, {"null", pac.ErrScript, "null"}, {"number", pac.ErrScript, "no string"}, {"object", pac.ErrScript, "an object"},
		{"empty", pac.ErrAnswer, "empty"}, {"long", pac.ErrScript, "too long"}, {"junk", pac.ErrAnswer, "GOPHER"},
	} {
		t.Run(tt.host, func(t *testing.T) {
			_, err := f.Find(t.Context(), true, tt.host, 443)
			if tt.want == pac.ErrTooLarge && errors.Is(err, pac.ErrTooLarge) {
				grew++
			} else if tt.want == pac.ErrTooLarge && errors.Is(err, pac.ErrTooLong) {
				tt.want = pac.ErrTooLong
			}
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.word) || strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("got %v, want %v with %q", err, tt.want, tt.word)
			}
			if _, again := f.Find(t.Context(), true, tt.host, 443); err == nil || again == nil || again.Error() != err.Error() {
				t.Errorf("asked again: got %v, want %v", again, err)
			}
			if got := line(t, f, "fine-after-"+tt.host); got != "PROXY fine:1" {
				t.Errorf("the next request: got %q", got)
			}
		})
	}
	if grew == 0 {
		t.Error("no script met the limit on memory")
	}
	if got := line(t, f, "alert"); got != "DIRECT" || !strings.Contains(log.String(), "seen it") {
		t.Errorf("got %q, and the log\n%s", got, log)
	}
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.HeapSys > 256<<20 {
		t.Errorf("this process took %d MB for it", m.HeapSys>>20)
	}
}

func TestScriptThatCannotBeLoaded(t *testing.T) {
	for name, tt := range map[string]struct {
		source string
		want   error
	}{
		"syntax":   {"function FindProxyForURL( {", pac.ErrScript},
		"a page":   {"<html><body>Sign in</body></html>", pac.ErrScript},
		"none":     {"var x = 1", pac.ErrScript},
		"loop":     {"for (;;) ;", pac.ErrTooLong},
		"memory":   {"var s = 'x'; for (;;) s += s", pac.ErrTooLarge},
		"nested":   {strings.Repeat("(", 500_000), pac.ErrScript},
		"too long": {strings.Repeat(" ", 1<<20+1), pac.ErrNoScript},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := finder(t, pac.Config{}, scriptFile(t, tt.source))
			_, err := f.Find(t.Context(), true, "a", 443)
			late := (name == "nested" || name == "memory") && errors.Is(err, pac.ErrTooLong) // on a slow machine
			if !errors.Is(err, tt.want) && !late {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if s := f.State(); s.Err == nil || s.Place != "" || s.Failed.IsZero() {
				t.Errorf("got %+v, want the failure", s)
			}
		})
	}
}

// A source map would make the engine read the file it names; this one has no end.
func TestSourceMapIsNotFollowed(t *testing.T) {
	f := finder(t, pac.Config{}, scriptFile(t, saying("DIRECT")+"\n//# sourceMappingURL=file:///dev/zero\n"))
	if got := line(t, f, "a"); got != "DIRECT" {
		t.Errorf("got %q", got)
	}
}

// Answers are kept, unless the time or chance had a part in them. What a script
// counts shows how often it was asked.
func TestAnswersAreKept(t *testing.T) {
	f := finder(t, pac.Config{}, scriptFile(t, `var n = 0; function FindProxyForURL(u, h) {
		n++;
		if (h == "time") timeRange(0, 23);
		if (h == "date") new Date();
		if (h == "chance") Math.random();
		return "PROXY n" + n + ":1";
	}`))
	same := func(host string) bool {
		first := line(t, f, host)
		return line(t, f, host) == first
	}
	for host, want := range map[string]bool{"a": true, "b": true, "time": false, "date": false, "chance": false} {
		if got := same(host); got != want {
			t.Errorf("%s: kept is %v, want %v", host, got, want)
		}
	}
	before := line(t, f, "a")
	if a, err := f.Find(t.Context(), false, "a", 443); err != nil || a.Line == before {
		t.Errorf("another scheme: got %v, %v, want an answer of its own", a, err)
	}
	f.Refresh()
	if after := line(t, f, "a"); after != "PROXY n1:1" {
		t.Errorf("on another network: got %q, want a script that starts afresh", after)
	}
}

func TestManyAtOnce(t *testing.T) {
	f := finder(t, pac.Config{}, scriptFile(t, `function FindProxyForURL(u, h) { return "PROXY " + h + ":1" }`))
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			host := fmt.Sprintf("h%d", i%16)
			if got := line(t, f, host); got != "PROXY "+host+":1" {
				t.Errorf("%s: got %q", host, got)
			}
		})
	}
	wg.Wait()
}

// server is a place for a script that can be changed, and that can fail.
type server struct {
	*httptest.Server
	mu     sync.Mutex // guards what follows
	body   string
	header http.Header
	status int
	seen   []http.Header
}

func newServer(t *testing.T, body string) *server {
	s := &server{body: body, header: http.Header{"Cache-Control": {"no-cache"}}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, r.Header)
		for k, v := range s.header {
			w.Header()[k] = v
		}
		if e := s.header.Get("ETag"); e != "" && r.Header.Get("If-None-Match") == e {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		if s.status != 0 {
			w.WriteHeader(s.status)
		}
		io.WriteString(w, s.body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *server) requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.seen)
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestFetchAndRevalidate(t *testing.T) {
	s := newServer(t, saying("PROXY one:1"))
	s.header.Set("ETag", `"1"`)
	var changes atomic.Int32
	f := finder(t, pac.Config{Changed: func() { changes.Add(1) }}, s.URL+"/proxy.pac")
	eventually(t, f, "PROXY one:1")
	f.Refresh()
	until(t, "the second look", func() bool { return s.requests() == 2 })
	s.set(func() {
		if got := s.seen[1].Get("If-None-Match"); got != `"1"` {
			t.Errorf("asked again with %q", got)
		}
		s.body = saying("PROXY two:2")
		s.header.Set("ETag", `"2"`)
	})
	f.Refresh()
	eventually(t, f, "PROXY two:2")

	// The server goes wrong in every way: the last good script stays.
	for _, broken := range []func(){
		func() { s.status = 500 },
		func() { s.status, s.body = 0, "<html>captive portal" },
		func() { s.body = strings.Repeat("/", 1<<20+1) },
	} {
		s.set(func() { broken(); s.header.Del("ETag") })
		n := s.requests()
		f.Refresh()
		until(t, "the failure", func() bool { return s.requests() > n && f.State().Err != nil })
		if st := f.State(); st.Place == "" || st.Failed.IsZero() {
			t.Errorf("got %+v", st)
		}
		if got := line(t, f, "while-it-fails"); got != "PROXY two:2" {
			t.Errorf("got %q, want the last good script", got)
		}
	}
	s.set(func() { s.body = saying("PROXY three:3") })
	f.Refresh()
	eventually(t, f, "PROXY three:3")
	if st := f.State(); st.Err != nil || !st.Failed.IsZero() {
		t.Errorf("got %+v, want no failure any more", st)
	}
	s.Close()
	f.Refresh()
	until(t, "the dead server", func() bool { return f.State().Err != nil })
	if got := line(t, f, "dead"); got != "PROXY three:3" {
		t.Errorf("got %q, want the last good script", got)
	}
	if changes.Load() < 4 {
		t.Errorf("%d changes were told, want each", changes.Load())
	}
}

// Without being told, a server that asks for it is looked at again in time, and
// so is a file.
func TestChangeIsNoticed(t *testing.T) {
	s := newServer(t, saying("PROXY one:1"))
	overHTTP := finder(t, pac.Config{}, s.URL)
	path := scriptFile(t, saying("PROXY one:1"))
	fromFile := finder(t, pac.Config{}, "file://"+filepath.ToSlash(path))
	eventually(t, overHTTP, "PROXY one:1")
	eventually(t, fromFile, "PROXY one:1")
	s.set(func() { s.body = saying("PROXY two:22") })
	if err := os.WriteFile(path, []byte(saying("PROXY two:22")), 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, fromFile, "PROXY two:22")
	eventually(t, overHTTP, "PROXY two:22")
}

func TestRequestsWaitForTheFirstScript(t *testing.T) {
	ready := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		<-ready
		io.WriteString(w, saying("PROXY late:1"))
	}))
	defer s.Close()
	f := finder(t, pac.Config{}, s.URL)
	answered := make(chan string, 1)
	go func() { answered <- line(t, f, "a") }()
	select {
	case got := <-answered:
		t.Errorf("got %q before there was a script", got)
	case <-time.After(50 * time.Millisecond):
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if _, err := f.Find(gone, true, "b", 443); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that has left: got %v", err)
	}
	close(ready)
	if got := <-answered; got != "PROXY late:1" {
		t.Errorf("got %q", got)
	}
}

func TestNoScriptIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there
	f := finder(t, pac.Config{}, "http://"+l.Addr().String()+"/proxy.pac", filepath.Join(t.TempDir(), "none.pac"))
	if _, err := f.Find(t.Context(), true, "a", 443); !errors.Is(err, pac.ErrNoScript) || !strings.Contains(err.Error(), "none.pac") {
		t.Errorf("got %v, want both places named", err)
	}
	nowhere := finder(t, pac.Config{Places: func(context.Context) []string { return nil }})
	if _, err := nowhere.Find(t.Context(), true, "a", 443); !errors.Is(err, pac.ErrNoScript) {
		t.Errorf("no place at all: got %v", err)
	}
	noProcess := finder(t, pac.Config{Command: []string{filepath.Join(t.TempDir(), "none")}}, scriptFile(t, saying("DIRECT")))
	if got := line(t, noProcess, "a"); !strings.Contains(got, "no process") {
		t.Errorf("got %q", got)
	}
	f.Close()
	if _, err := f.Find(t.Context(), true, "a", 443); !errors.Is(err, pac.ErrNoScript) {
		t.Errorf("after Close: got %v", err)
	}
}

func TestSecondPlaceAndRedirects(t *testing.T) {
	s := newServer(t, saying("PROXY there:1"))
	loop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/again", http.StatusFound)
	}))
	defer loop.Close()
	to := httptest.NewServer(http.RedirectHandler(s.URL, http.StatusFound))
	defer to.Close()
	f := finder(t, pac.Config{}, loop.URL, to.URL)
	eventually(t, f, "PROXY there:1")
	if got := f.State().Place; got != to.URL {
		t.Errorf("the place is %q", got)
	}
}

// The variables that send programs to a proxy do not send the fetch there.
func TestFetchUsesNoProxy(t *testing.T) {
	trap := newServer(t, saying("PROXY trap:1"))
	s := newServer(t, saying("PROXY good:1"))
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, trap.URL)
	}
	f := finder(t, pac.Config{Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if addr == "pac.corp.example:80" { // loopback would not use a proxy anyway
			addr = s.Listener.Addr().String()
		}
		return (&net.Dialer{}).DialContext(ctx, network, addr)
	}}, "http://pac.corp.example/")
	eventually(t, f, "PROXY good:1")
	if trap.requests() > 0 {
		t.Error("the script was fetched through a proxy")
	}
}

func TestCharsets(t *testing.T) {
	const source = "function FindProxyForURL(u, h) { return 'PROXY a:' + 'ü€'.length + 'ü'.charCodeAt(0) }"
	const utf8 = "PROXY a:2252"
	wide := func(bigEndian, mark bool) string {
		var b []byte
		for _, r := range "\ufeff" + source {
			if r == '\ufeff' && !mark {
				continue
			}
			if bigEndian {
				b = append(b, byte(r>>8), byte(r))
			} else {
				b = append(b, byte(r), byte(r>>8))
			}
		}
		return string(b)
	}
	latin := strings.ReplaceAll(strings.ReplaceAll(source, "ü", "\xfc"), "€", "\x80")
	for _, tt := range []struct{ name, kind, body string }{
		{"UTF-8", "", source},
		{"UTF-8 with a mark", "text/plain; charset=iso-8859-1", "\ufeff" + source},
		{"UTF-8 by header", "application/x-ns-proxy-autoconfig; charset=UTF-8", source},
		{"UTF-16 with a mark", "", wide(false, true)},
		{"UTF-16, the other way, with a mark", "", wide(true, true)},
		{"UTF-16 by header", "text/plain; charset=utf-16le", wide(false, false)},
		{"Latin-1 by header", "text/plain; charset=ISO-8859-1", latin},
		{"Latin-1 that says nothing", "", latin},
		{"a header that makes no sense", "text/plain; charset==", source},
	} {
		s := newServer(t, tt.body)
		s.set(func() { s.header.Set("Content-Type", tt.kind) })
		f := finder(t, pac.Config{}, s.URL)
		if got := line(t, f, "a"); got != utf8 {
			t.Errorf("%s: got %q, want %q", tt.name, got, utf8)
		}
		f.Close()
	}
}
