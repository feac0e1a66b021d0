package proxy

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"testing"
)

// stdFields is what net/http makes of our fields: those it takes out of the
// header map are left out on both sides.
func sameFields(t *testing.T, fields []field, h http.Header, head []byte) {
	t.Helper()
	apart := func(name string) bool {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer", "Connection", "Pragma", "Cache-Control":
			return true // read by both, compared as framing, or amended by net/http
		}
		return false
	}
	ours, n := map[string][]string{}, 0
	for _, f := range fields {
		name := textproto.CanonicalMIMEHeaderKey(string(f.name))
		ours[name] = append(ours[name], string(f.value))
	}
	for name, values := range ours {
		if apart(name) {
			continue
		}
		n++
		if got := h[name]; strings.Join(got, "\x00") != strings.Join(values, "\x00") {
			t.Fatalf("field %s: net/http reads %q, we read %q in %q", name, got, values, head)
		}
	}
	for name := range h {
		if _, ok := ours[name]; !ok && !apart(name) {
			t.Fatalf("field %s: net/http reads %q, we read none in %q", name, h[name], head)
		}
	}
}

// Every request head that we take, net/http takes too, and reads the same:
// method, host, port, framing, persistence, fields. Only the path may be one
// that net/http refuses: it is the origin's to read.
func FuzzRequestHeadAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{
		"GET http://a.com/x HTTP/1.1\r\nHost: a.com\r\n\r\n",
		"CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\nProxy-Authorization: Basic x\r\n\r\n",
		"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n",
		"POST http://u@a.com:81?q HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nConnection: x, close\r\n\r\n",
		"POST http://[::1]:81/ HTTP/1.0\r\nContent-Length: 7\r\n\r\n",
		"PUT http://a.com HTTP/1.1\r\nHost: a.com\r\nContent-Length: 3\r\nExpect: 100-continue\r\nX: a\tb\r\nX:\r\n\r\n",
		"OPTIONS http://a.com HTTP/1.1\r\nHost: a.com\r\nMax-Forwards: 0\r\nTE: trailers\r\n\r\n",
		"GET http://a.com/ HTTP/1.1\r\nHost : a.com\r\n\r\n",
		"GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n folded\r\n\r\n",
		"POST http://a.com/ HTTP/1.1\r\nHost: a.com\r\nContent-Length: +3\r\n\r\n",
		"POST http://a.com/ HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
		"POST http://a.com/ HTTP/1.1\r\nHost: a.com\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
		"\r\nGET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		rd := reader{c: bytes.NewReader(in)}
		head, err := rd.head(maxRequestHead)
		if err != nil {
			return
		}
		var r request
		if parseRequest(head, &r) != nil {
			return
		}
		if bytes.ContainsFunc(r.target.host, func(c rune) bool { return c >= 0x80 || strings.ContainsRune(`,"<>^{}|`+"`", c) }) {
			return // a Router makes something else of it, or refuses it
		}
		if bytes.IndexByte(r.target.host, ':') >= 0 {
			if _, err := netip.ParseAddr(string(r.target.host)); err != nil {
				return // a Router refuses it
			}
		}
		// The path, and userinfo, in a form that net/http takes.
		host := string(r.target.host)
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		authority := host + ":" + strconv.Itoa(int(r.target.port))
		target := authority
		if !r.connect {
			target = "http://" + authority + "/"
		}
		_, rest, _ := bytes.Cut(head, []byte("\r\n"))
		plain := []byte(r.method + " " + target + " HTTP/1." + strconv.Itoa(r.minor) + "\r\n")
		plain = append(plain, rest...)
		heads := [][]byte{plain}
		if _, err := url.ParseRequestURI("http://h" + string(r.target.path)); err == nil && !r.connect && bytes.IndexByte(in, '#') < 0 {
			heads = append(heads, head)
		}
		for _, h := range heads {
			std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(h)))
			if err != nil {
				if bytes.IndexByte(in, '@') >= 0 && strings.Contains(err.Error(), "userinfo") {
					continue // dropped by us, whatever it says
				}
				t.Fatalf("net/http refuses (%v) what we take: %q", err, h)
			}
			port := std.URL.Port()
			if port == "" {
				port = "80"
			}
			if std.Method != r.method || !strings.EqualFold(std.URL.Hostname(), string(r.target.host)) || port != strconv.Itoa(int(r.target.port)) {
				t.Fatalf("net/http reads %s %s %s, we read %s %s %d in %q", std.Method, std.URL.Hostname(), port, r.method, r.target.host, r.target.port, h)
			}
			if n := std.ContentLength; !r.connect && (r.body == sized && n != r.length || r.body == chunked && n != -1 || r.body == noBody && n != 0) {
				t.Fatalf("body: net/http reads %d, we read %v %d in %q", n, r.body, r.length, h)
			}
			if std.Close && !r.close {
				t.Fatalf("net/http closes, we go on: %q", h)
			}
			sameFields(t, r.fields, std.Header, h)
		}
	})
}

// The same for response heads.
func FuzzResponseHeadAgainstNetHTTP(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
		"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate YWJj\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
		"HTTP/1.1 2000 OK\r\n\r\n",
		"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
	} {
		f.Add([]byte(s), "GET")
		f.Add([]byte(strings.Replace(s, "HTTP/1.1", "HTTP/1.A", 1)), "GET")
		f.Add([]byte(s), "HEAD")
	}
	f.Fuzz(func(t *testing.T, in []byte, method string) {
		if method != "HEAD" {
			method = "GET"
		}
		rd := reader{c: bytes.NewReader(in)}
		head, err := rd.head(maxResponseHead)
		if err != nil {
			return
		}
		var r response
		if parseResponse(head, method, &r) != nil {
			return
		}
		std, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses (%v) what we take: %q", err, head)
		}
		if std.StatusCode != r.status {
			t.Fatalf("status: net/http reads %d, we read %d in %q", std.StatusCode, r.status, head)
		}
		n := std.ContentLength
		switch {
		case method == "HEAD" || r.status < 200 || r.status == 204 || r.status == 304:
			if r.body != noBody {
				t.Fatalf("a body where there is none: %q", head)
			}
		case r.body == sized && n != r.length, r.body == noBody && n != 0,
			(r.body == chunked || r.body == untilClose) && n != -1,
			r.body == chunked && len(std.TransferEncoding) == 0, r.body == untilClose && len(std.TransferEncoding) > 0:
			t.Fatalf("body: net/http reads %d %v, we read %v %d in %q", n, std.TransferEncoding, r.body, r.length, head)
		}
		if std.Close && !r.close && r.body != noBody {
			t.Fatalf("net/http closes, we go on: %q", head)
		}
		sameFields(t, r.fields, std.Header, head)
	})
}
