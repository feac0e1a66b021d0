package proxy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	pt "kerbpass/internal/proxy/proxytest"
)

// A request that could be read as two, sent to the proxy with two origins
// behind it:
//
//	attacker ──▶ proxy ──┬─ direct ──────▶ origin A, origin B
//	                     └─ upstream ────▶ origin A, origin B
//
// Origins and upstream read with net/http in one pass and in another with a
// parser that takes everything real servers have been seen to take: bare LF,
// blanks before the colon, folded lines, and Content-Length before
// Transfer-Encoding. None of them may ever see a request for /hidden, which in
// every case is part of something else, and none may see more requests than
// the case has.

// sightings is what all servers behind the proxy have seen.
type sightings struct {
	mu   sync.Mutex // guards seen
	seen []string
}

func (s *sightings) add(where, what string) {
	s.mu.Lock()
	s.seen = append(s.seen, where+" "+what)
	s.mu.Unlock()
}

func (s *sightings) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.seen...)
}

// lenientRequest is what the lenient parser makes of its input.
type lenientRequest struct {
	method, target, version string
	raw                     []byte // head and body as they came
	length, chunked, close  bool
}

// readLenient reads one request and forgives whatever it can.
func readLenient(br *bufio.Reader) (*lenientRequest, error) {
	r := &lenientRequest{}
	n := 0
	line := func() (string, error) {
		text, err := br.ReadString('\n')
		if err != nil {
			return "", err
		}
		r.raw = append(r.raw, text...)
		return strings.TrimRight(text, "\r\n"), nil
	}
	start := ""
	for start == "" { // empty lines in front, any number
		var err error
		if start, err = line(); err != nil {
			return nil, err
		}
	}
	f := append(strings.Fields(start), "", "", "")
	r.method, r.target, r.version = f[0], f[1], f[2]
	if r.version == "" { // HTTP/0.9
		return r, nil
	}
	for {
		text, err := line()
		if err != nil {
			return nil, err
		}
		if text == "" {
			break
		}
		name, value, _ := strings.Cut(text, ":")
		name, value = strings.ToLower(strings.Trim(name, " \t\x0b\x0c\x00")), strings.ToLower(strings.Trim(value, " \t\x0b\x0c\x00"))
		switch {
		case name == "content-length" && !r.length:
			first, _, _ := strings.Cut(value, ",")
			if v, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimSpace(first), "+"), 0, 32); err == nil {
				r.length, n = true, int(max(0, v))
			}
		case name == "transfer-encoding":
			r.chunked = r.chunked || strings.Contains(value, "chunked")
		case name == "connection":
			r.close = r.close || strings.Contains(value, "close")
		}
	}
	take := func(n int) error {
		body := make([]byte, n)
		m, err := io.ReadFull(br, body)
		r.raw = append(r.raw, body[:m]...)
		return err
	}
	if r.length {
		return r, take(n)
	}
	for r.chunked {
		size, err := line()
		if err != nil {
			return nil, err
		}
		digits, _, _ := strings.Cut(strings.Trim(size, " \t"), ";")
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 16, 32)
		if err != nil {
			return nil, errors.New("bad chunk")
		}
		if n == 0 {
			for text := "x"; text != ""; {
				if text, err = line(); err != nil {
					return nil, err
				}
			}
			break
		}
		if err := take(int(n)); err != nil {
			return nil, err
		}
		if _, err := line(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// path is the path of a target in either form.
func path(target string) string {
	if rest, ok := strings.CutPrefix(target, "http://"); ok {
		if i := strings.IndexByte(rest, '/'); i >= 0 {
			return rest[i:]
		}
		return "/"
	}
	return target
}

// lenientServer answers each request it reads with its path, or, as an
// upstream, with what the origin in the target answers to the same bytes.
func lenientServer(t *testing.T, name string, log *sightings, upstream bool) string {
	return pt.Serve(t, func(c *pt.Conn) {
		for {
			r, err := readLenient(c.R)
			if r != nil {
				log.add(name, path(r.target)+map[bool]string{true: " cut"}[err != nil])
			}
			if err != nil {
				return
			}
			if !upstream || r.method == "CONNECT" {
				text := path(r.target)
				c.Send("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
				continue
			}
			if !passOn(c, r) {
				return
			}
		}
	}).Addr
}

// passOn sends a request's bytes to the origin it names.
func passOn(c *pt.Conn, r *lenientRequest) bool {
	u, err := url.Parse(r.target)
	if err != nil {
		return false
	}
	out, err := net.Dial("tcp", u.Host)
	if err != nil {
		return false
	}
	defer out.Close()
	out.SetDeadline(time.Now().Add(20 * time.Second))
	out.Write(r.raw)
	resp, err := http.ReadResponse(bufio.NewReader(out), &http.Request{Method: r.method})
	if err != nil {
		return false
	}
	return resp.Write(c) == nil
}

// strictServer does the same with net/http.
func strictServer(t *testing.T, name string, seen *sightings, upstream bool) string {
	var tr http.Transport
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		seen.add(name, path(r.URL.Path)+map[bool]string{true: " cut"}[err != nil])
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		if !upstream {
			io.WriteString(w, r.URL.Path)
			return
		}
		out, err := http.NewRequest(r.Method, r.URL.String(), bytes.NewReader(body))
		if err != nil {
			w.WriteHeader(500)
			return
		}
		resp, err := tr.RoundTrip(out)
		if err != nil {
			w.WriteHeader(500)
			return
		}
		defer resp.Body.Close()
		w.WriteHeader(resp.StatusCode)
		io.Copy(w, resp.Body)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(func() { s.Close(); tr.CloseIdleConnections() })
	return s.Listener.Addr().String()
}

// A smuggling case. In raw, {A} and {B} are the origins' addresses, {HIDDEN}
// is a whole request for /hidden at B, and {HIDDENLEN} its length.
type smuggling struct {
	name, raw string
	// want: "400" is refused, "one" is forwarded as the one request it is,
	// "one400" is forwarded, and what follows it is refused.
	want string
}

const (
	post    = "POST http://{A}/x HTTP/1.1\r\nHost: {A}\r\n"
	ended   = "0\r\n\r\n"
	chunks  = "Transfer-Encoding: chunked\r\n"
	hidden  = "{HIDDEN}"
	hiddenN = "Content-Length: {HIDDENLEN}\r\n"
)

var smugglingCases = []smuggling{
	// Both framings.
	{"CL.TE", post + hiddenN + chunks + "\r\n" + ended + hidden, "400"},
	{"CL.TE, short length", post + "Content-Length: 5\r\n" + chunks + "\r\n" + ended + hidden, "400"},
	{"TE.CL", post + chunks + "Content-Length: 4\r\n\r\n{HEXLEN}\r\n" + hidden + "\r\n" + ended, "400"},
	{"TE.CL, zero length", post + chunks + "Content-Length: 0\r\n\r\n{HEXLEN}\r\n" + hidden + "\r\n" + ended, "400"},
	{"TE.0: a coding where no body is usual", "GET http://{A}/x HTTP/1.1\r\nHost: {A}\r\n" + chunks + "\r\n{HEXLEN}\r\n" + hidden + "\r\n" + ended, "one"},
	{"CL.0: a length where no body is usual", "GET http://{A}/x HTTP/1.1\r\nHost: {A}\r\n" + hiddenN + "\r\n" + hidden, "one"},
	{"CL.0 on HEAD", "HEAD http://{A}/x HTTP/1.1\r\nHost: {A}\r\n" + hiddenN + "\r\n" + hidden, "one"},
	{"CL.0 on OPTIONS answered here", "OPTIONS http://{A}/x HTTP/1.1\r\nHost: {A}\r\nMax-Forwards: 0\r\n" + hiddenN + "\r\n" + hidden, "here"},
	{"a body on CONNECT", "CONNECT {A} HTTP/1.1\r\nHost: {A}\r\n" + hiddenN + "\r\n" + hidden, "400"},
	{"chunks on CONNECT", "CONNECT {A} HTTP/1.1\r\nHost: {A}\r\n" + chunks + "\r\n" + ended + hidden, "400"},
	// One coding, spelt so that not everybody sees it (TE.TE).
	{"TE twice, one unknown", post + chunks + "Transfer-Encoding: x\r\n\r\n" + ended + hidden, "400"},
	{"TE twice, chunked first", post + chunks + "Transfer-Encoding: identity\r\n\r\n" + ended + hidden, "400"},
	{"TE twice, both chunked", post + chunks + chunks + "\r\n" + ended + hidden, "400"},
	{"TE list, chunked not last", post + "Transfer-Encoding: chunked, identity\r\n\r\n" + ended + hidden, "400"},
	{"TE list, chunked twice", post + "Transfer-Encoding: chunked, chunked\r\n\r\n" + ended + hidden, "400"},
	{"TE list with empty members", post + "Transfer-Encoding: ,chunked,\r\n\r\n" + ended + hidden, "400"},
	{"TE with a prefix", post + "Transfer-Encoding: xchunked\r\n\r\n" + ended + hidden, "400"},
	{"TE with a suffix", post + "Transfer-Encoding: chunkedx\r\n\r\n" + ended + hidden, "400"},
	{"TE with a parameter", post + "Transfer-Encoding: chunked;q=1\r\n\r\n" + ended + hidden, "400"},
	{"TE quoted", post + "Transfer-Encoding: \"chunked\"\r\n\r\n" + ended + hidden, "400"},
	{"TE with an inner blank", post + "Transfer-Encoding: chu nked\r\n\r\n" + ended + hidden, "400"},
	{"TE empty", post + "Transfer-Encoding:\r\n" + hiddenN + "\r\n" + hidden, "400"},
	{"TE with VT", post + "Transfer-Encoding:\x0bchunked\r\n\r\n" + ended + hidden, "400"},
	{"TE with FF behind it", post + "Transfer-Encoding: chunked\x0c\r\n\r\n" + ended + hidden, "400"},
	{"TE with NUL behind it", post + "Transfer-Encoding: chunked\x00\r\n\r\n" + ended + hidden, "400"},
	{"TE with NBSP", post + "Transfer-Encoding: \u00a0chunked\r\n\r\n" + ended + hidden, "400"},
	{"TE and a tab, still plain", post + "Transfer-Encoding:\tchunked\t \r\n\r\n{HEXLEN}\r\n" + hidden + "\r\n" + ended, "one"},
	{"TE in capitals, still plain", post + "TRANSFER-ENCODING: ChUnKeD\r\n\r\n{HEXLEN}\r\n" + hidden + "\r\n" + ended, "one"},
	{"TE with blank before the colon", post + "Transfer-Encoding : chunked\r\n\r\n" + ended + hidden, "400"},
	{"TE with tab before the colon", post + "Transfer-Encoding\t: chunked\r\n\r\n" + ended + hidden, "400"},
	{"TE with NUL in the name", post + "Transfer-Encoding\x00: chunked\r\n\r\n" + ended + hidden, "400"},
	{"TE with an underscore, beside a length", post + "Transfer_Encoding: chunked\r\n" + hiddenN + "\r\n" + hidden, "one"},
	{"TE behind a blank", post + " Transfer-Encoding: chunked\r\n\r\n" + ended + hidden, "400"},
	{"TE without a colon", post + "Transfer-Encoding chunked\r\n\r\n" + ended + hidden, "400"},
	// Lengths.
	{"CL twice, different", post + "Content-Length: 0\r\n" + hiddenN + "\r\n" + hidden, "400"},
	{"CL twice, equal", post + hiddenN + hiddenN + "\r\n" + hidden, "400"},
	{"CL list", post + "Content-Length: {HIDDENLEN}, {HIDDENLEN}\r\n\r\n" + hidden, "400"},
	{"CL list with zero", post + "Content-Length: 0, {HIDDENLEN}\r\n\r\n" + hidden, "400"},
	{"CL with plus", post + "Content-Length: +{HIDDENLEN}\r\n\r\n" + hidden, "400"},
	{"CL with minus", post + "Content-Length: -1\r\n\r\n" + hidden, "400"},
	{"CL in hexadecimal", post + "Content-Length: 0x10\r\n\r\n" + hidden, "400"},
	{"CL with an exponent", post + "Content-Length: 1e1\r\n\r\n" + hidden, "400"},
	{"CL with a fraction", post + "Content-Length: 10.0\r\n\r\n" + hidden, "400"},
	{"CL with underscores", post + "Content-Length: 1_0\r\n\r\n" + hidden, "400"},
	{"CL with an inner blank", post + "Content-Length: 1 0\r\n\r\n" + hidden, "400"},
	{"CL with letters behind", post + "Content-Length: 10abc\r\n\r\n" + hidden, "400"},
	{"CL in other digits", post + "Content-Length: \u0661\u0660\r\n\r\n" + hidden, "400"},
	{"CL empty", post + "Content-Length:\r\n\r\n" + hidden, "400"},
	{"CL of 2^64", post + "Content-Length: 18446744073709551616\r\n\r\n" + hidden, "400"},
	{"CL of 2^64 and a little", post + "Content-Length: 18446744073709551620\r\n\r\n" + hidden, "400"},
	{"CL with blank before the colon", post + "Content-Length : 0\r\n" + hiddenN + "\r\n" + hidden, "400"},
	{"CL quoted", post + "Content-Length: \"10\"\r\n\r\n" + hidden, "400"},
	{"CL with many zeros in front", post + "Content-Length: 0000000000000{HIDDENLEN}\r\n\r\n" + hidden, "one"},
	// Lines.
	{"folded TE", post + "Transfer-Encoding:\r\n chunked\r\n\r\n" + ended + hidden, "400"},
	{"folded with tab", post + "X: y\r\n\tTransfer-Encoding: chunked\r\n\r\n" + ended + hidden, "400"},
	{"folded behind the first line", "POST http://{A}/x HTTP/1.1\r\n Host: {A}\r\n" + hiddenN + "\r\n" + hidden, "400"},
	{"bare LF before TE", post + "X: y\nTransfer-Encoding: chunked\r\n\r\n" + ended + hidden, "400"},
	{"bare LF ends the head", post + hiddenN + "\n" + hidden, "400"},
	{"bare LF everywhere", strings.ReplaceAll(post+chunks+"\r\n", "\r\n", "\n") + ended + hidden, "400"},
	{"bare CR before TE", post + "X: y\rTransfer-Encoding: chunked\r\n\r\n" + ended + hidden, "400"},
	{"bare CR ends the head", post + "X: y\r\r\n\r\n" + hidden, "400"},
	{"LF CR", post + "X: y\n\r" + chunks + "\r\n" + ended + hidden, "400"},
	{"CR CR LF", post + "X: y\r\r\n" + chunks + "\r\n" + ended + hidden, "400"},
	{"NUL in a value", post + "X: y\x00z\r\n" + hiddenN + "\r\n" + hidden, "400"},
	{"NUL in the first line", "POST http://{A}/x\x00 HTTP/1.1\r\nHost: {A}\r\n" + hiddenN + "\r\n" + hidden, "400"},
	{"no name", post + ": chunked\r\n" + hiddenN + "\r\n" + hidden, "400"},
	{"a line that is no field", post + "GET /hidden HTTP/1.1\r\nHost: {B}\r\n\r\n", "400"},
	{"empty lines in front of a hidden one", "\r\n\r\n\r\n\r\n\r\n\r\n" + hidden, "400"},
	// Chunks.
	{"chunk size with blank in front", post + chunks + "\r\n {HEXLEN}\r\n" + hidden + "\r\n" + ended, "400"},
	{"chunk size with 0x", post + chunks + "\r\n0x{HEXLEN}\r\n" + hidden + "\r\n" + ended, "400"},
	{"chunk size with plus", post + chunks + "\r\n+{HEXLEN}\r\n" + hidden + "\r\n" + ended, "400"},
	{"chunk size negative", post + chunks + "\r\n-1\r\n" + hidden + "\r\n" + ended, "400"},
	{"chunk size of 2^64", post + chunks + "\r\n10000000000000000\r\n" + hidden + "\r\n" + ended, "400"},
	{"chunk size of 2^64 and a little", post + chunks + "\r\n10000000000000004\r\nabcd\r\n" + ended + hidden, "400"},
	{"chunk size missing", post + chunks + "\r\n;x\r\n" + hidden + "\r\n" + ended, "400"},
	{"chunk size and words", post + chunks + "\r\n4 x\r\nabcd\r\n" + ended + hidden, "400"},
	{"chunk size, LF only", post + chunks + "\r\n4\nabcd\r\n" + ended + hidden, "400"},
	{"chunk size, CR only", post + chunks + "\r\n4\rabcd\r\n" + ended + hidden, "400"},
	{"chunk data, LF only behind it", post + chunks + "\r\n4\r\nabcd\n" + ended + hidden, "400"},
	{"chunk data without an end", post + chunks + "\r\n4\r\nabcd" + ended + hidden, "400"},
	{"chunk data too long", post + chunks + "\r\n4\r\nabcde\r\n" + ended + hidden, "400"},
	{"last chunk, LF only", post + chunks + "\r\n4\r\nabcd\r\n0\n\n" + hidden, "400"},
	{"last chunk in many zeros", post + chunks + "\r\n{HEXLEN}\r\n" + hidden + "\r\n0000000000\r\n\r\n", "one"},
	{"extension with LF", post + chunks + "\r\n4;a\nb\r\nabcd\r\n" + ended + hidden, "400"},
	{"extension with CR", post + chunks + "\r\n4;a=\rb\r\nabcd\r\n" + ended + hidden, "400"},
	{"extension with NUL", post + chunks + "\r\n4;a=\x00\r\nabcd\r\n" + ended + hidden, "400"},
	{"extension that quotes a line end", post + chunks + "\r\n4;a=\"\r\n\"\r\nabcd\r\n" + ended + hidden, "400"},
	{"extension that is long", post + chunks + "\r\n4;a=" + strings.Repeat("b", 5000) + "\r\nabcd\r\n" + ended + hidden, "400"},
	{"extension, plain", post + chunks + "\r\n{HEXLEN};a=b\r\n" + hidden + "\r\n0;c\r\n\r\n", "one"},
	// Trailers.
	{"trailer repeats TE", post + chunks + "\r\n4\r\nabcd\r\n0\r\n" + chunks + hiddenN + "\r\n", "one"},
	{"trailer repeats Host", post + chunks + "\r\n4\r\nabcd\r\n0\r\nHost: {B}\r\nAuthorization: x\r\n\r\n", "one"},
	{"trailer with bare LF", post + chunks + "\r\n4\r\nabcd\r\n0\r\nX: y\n\r\n" + hidden, "400"},
	{"trailer folded", post + chunks + "\r\n4\r\nabcd\r\n0\r\nX: y\r\n z\r\n\r\n", "400"},
	{"trailer that is a request line", post + chunks + "\r\n4\r\nabcd\r\n0\r\nGET http://{B}/hidden HTTP/1.1\r\n\r\n", "400"},
	// Connection names a framing field.
	{"Connection: Content-Length", post + "Connection: Content-Length\r\n" + hiddenN + "\r\n" + hidden, "one"},
	{"Connection: Transfer-Encoding", post + "Connection: Transfer-Encoding\r\n" + chunks + "\r\n{HEXLEN}\r\n" + hidden + "\r\n" + ended, "one"},
	{"Connection: Host", post + "Connection: Host\r\n" + hiddenN + "\r\n" + hidden, "one"},
	{"Connection twice", post + "Connection: keep-alive\r\nConnection: close, Content-Length\r\n" + hiddenN + "\r\n" + hidden, "one"},
	// Versions.
	{"HTTP/0.9", "GET http://{A}/x\r\n" + hidden, "400"},
	{"HTTP/1.0 with TE", "POST http://{A}/x HTTP/1.0\r\n" + chunks + "\r\n" + ended + hidden, "400"},
	{"HTTP/1.0 with TE and CL", "POST http://{A}/x HTTP/1.0\r\n" + chunks + hiddenN + "\r\n" + hidden, "400"},
	{"HTTP/1.0 keep-alive, then more", "GET http://{A}/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + hidden, "one"},
	{"HTTP/1.2", strings.Replace(post, "1.1", "1.2", 1) + hiddenN + "\r\n" + hidden, "400"},
	{"HTTP/1.10", strings.Replace(post, "1.1", "1.10", 1) + hiddenN + "\r\n" + hidden, "400"},
	{"http/1.1 in small letters", strings.Replace(post, "HTTP/1.1", "http/1.1", 1) + hiddenN + "\r\n" + hidden, "400"},
	// Which origin.
	{"target A, Host B", "GET http://{A}/x HTTP/1.1\r\nHost: {B}\r\n\r\n", "one"},
	{"two Hosts", "GET http://{A}/x HTTP/1.1\r\nHost: {A}\r\nHost: {B}\r\n\r\n", "400"},
	{"Host list", "GET http://{A}/x HTTP/1.1\r\nHost: {A}, {B}\r\n\r\n", "400"},
	{"userinfo that looks like a host", "GET http://{B}/@{A}/hidden HTTP/1.1\r\nHost: {A}\r\n" + hiddenN + "\r\n" + hidden, "one"},
	{"backslash", "GET http://{A}\\@{B}/hidden HTTP/1.1\r\nHost: {A}\r\n\r\n", "400"},
	{"two targets", "GET http://{A}/x http://{B}/hidden HTTP/1.1\r\nHost: {A}\r\n\r\n", "400"},
	{"version inside the target", "GET http://{A}/x HTTP/1.1 /hidden HTTP/1.1\r\nHost: {A}\r\n\r\n", "400"},
	// What follows one whole request.
	{"a prefix that waits for the next", post + hiddenN + "\r\n" + hidden + "GET http://{B}/hid", "one"},
	{"junk behind a body", post + "Content-Length: 4\r\n\r\nabcdX-Y: z\r\n\r\n", "one400"},
	{"a hidden one behind an origin-form", post + "Content-Length: 4\r\n\r\nabcdGET /hidden HTTP/1.1\r\nHost: {B}\r\n\r\n", "one400"},
	{"a hidden one behind close", post + "Connection: close\r\nContent-Length: 4\r\n\r\nabcd" + hidden, "one"},
	{"a hidden one behind the old close", post + "Proxy-Connection: close\r\nContent-Length: 4\r\n\r\nabcd" + hidden, "one"},
	{"half a chunk, hidden in it", post + chunks + "\r\nffff\r\n" + hidden, "none"},
	{"half a body, hidden in it", post + "Content-Length: 99999\r\n\r\n" + hidden, "none"},
	{"a body that waits for 100", post + "Expect: 100-continue\r\n" + hiddenN + "\r\n" + hidden, "one"},
	{"an upgrade nobody takes", post + "Connection: Upgrade\r\nUpgrade: websocket\r\n" + hiddenN + "\r\n" + hidden, "one"},
}

func TestSmuggling(t *testing.T) {
	pt.Leaks(t)
	if n := len(smugglingCases); n < 60 {
		t.Fatalf("only %d cases", n)
	}
	servers := map[string]func(*testing.T, string, *sightings, bool) string{"net/http": strictServer, "lenient": lenientServer}
	for kind, serve := range servers {
		for _, via := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, upstream %v", kind, via), func(t *testing.T) {
				seen := &sightings{}
				a, b := serve(t, "A", seen, false), serve(t, "B", seen, false)
				var router proxy.Router = pt.Direct()
				if via {
					router = pt.Via(serve(t, "up", seen, true))
				}
				_, addr := pt.Start(t, proxy.Config{Router: router, Auth: &pt.Auth{}})
				for i, tt := range smugglingCases {
					before := len(seen.all())
					got := attack(t, addr, tt.fill(a, b))
					// What is left over on a pooled connection would be read
					// before the next request, or be its answer.
					for _, origin := range []string{a, b} {
						probe := fmt.Sprintf("/probe%d", i)
						c := pt.Dial(t, addr)
						if resp, body := c.Get("http://" + origin + probe); resp.StatusCode != 200 || body != probe {
							t.Errorf("%s: the next request got %d %q", tt.name, resp.StatusCode, body)
						}
						c.Close()
					}
					judge(t, tt, got, seen.all()[before:])
				}
			})
		}
	}
}

func (s *smuggling) fill(a, b string) string {
	inner := "GET http://" + b + "/hidden HTTP/1.1\r\nHost: " + b + "\r\n\r\n"
	return strings.NewReplacer("{A}", a, "{B}", b, "{HIDDENLEN}", strconv.Itoa(len(inner)), "{HEXLEN}", strconv.FormatInt(int64(len(inner)), 16), "{HIDDEN}", inner).Replace(s.raw)
}

// attack sends raw on one connection, ends its side, and returns the statuses
// of all answers, 1xx left out.
func attack(t *testing.T, addr, raw string) (statuses []int) {
	c := pt.Dial(t, addr)
	defer c.Close()
	go func() { io.WriteString(c, raw); c.CloseWrite() }()
	method, _, _ := strings.Cut(raw, " ")
	for {
		resp, err := http.ReadResponse(c.R, &http.Request{Method: method})
		if err != nil {
			return statuses
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return statuses
		}
		if resp.StatusCode >= 200 {
			statuses = append(statuses, resp.StatusCode)
		}
	}
}

func judge(t *testing.T, tt smuggling, got []int, seen []string) {
	t.Helper()
	whole := map[string]int{} // by server
	for _, s := range seen {
		where, what, _ := strings.Cut(s, " ")
		if strings.Contains(what, "hidden") && !strings.Contains(what, "@") {
			t.Errorf("%s: %s saw %s", tt.name, where, what)
		}
		if !strings.HasPrefix(what, "/probe") && !strings.HasSuffix(what, " cut") {
			whole[where]++
		}
	}
	for where, n := range whole {
		if n > 1 {
			t.Errorf("%s: %s saw %d requests: %v", tt.name, where, n, seen)
		}
	}
	forwarded := whole["A"] + whole["B"]
	want := map[string]struct {
		statuses  string
		forwarded int
	}{"400": {"[400]", 0}, "one": {"[200]", 1}, "one400": {"[200 400]", 1}, "here": {"[200]", 0}, "none": {"[]", 0}}[tt.want]
	if fmt.Sprint(got) != want.statuses || forwarded != want.forwarded {
		t.Errorf("%s: answers %v, %d requests at the origins, want %s and %d: %v", tt.name, got, forwarded, want.statuses, want.forwarded, seen)
	}
}
