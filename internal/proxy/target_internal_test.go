package proxy

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	for _, tt := range []struct {
		id, method, target string
		host               string
		port               uint16
		path               string
		bad                bool
	}{
		{id: "plain", method: "GET", target: "http://a.com/x?y", host: "a.com", port: 80, path: "/x?y"},
		{id: "upper scheme", method: "GET", target: "HTTP://A.com", host: "A.com", port: 80},
		{id: "query only", method: "GET", target: "http://a.com?y", host: "a.com", port: 80, path: "?y"},
		{id: "R04", method: "GET", target: "http://user:pw@a.com/", host: "a.com", port: 80, path: "/"},
		{id: "R05", method: "GET", target: "http://github.com@evil.org/", host: "evil.org", port: 80, path: "/"},
		{id: "E38", method: "GET", target: "http://evil.org@github.com/", host: "github.com", port: 80, path: "/"},
		{id: "R06 E39", method: "GET", target: `http://evil.org\@github.com/`, bad: true},
		{id: "backslash in host", method: "GET", target: `http://evil.org\x/`, bad: true},
		{id: "two at signs", method: "GET", target: "http://a@b@c/", bad: true},
		{id: "E40 path", method: "GET", target: "http://evil.org/@github.com", host: "evil.org", port: 80, path: "/@github.com"},
		{id: "E40 query", method: "GET", target: "http://evil.org?@github.com", host: "evil.org", port: 80, path: "?@github.com"},
		{id: "E40 fragment", method: "GET", target: "http://evil.org#@github.com", host: "evil.org", port: 80},
		{id: "fragment", method: "GET", target: "http://a.com/x#frag", host: "a.com", port: 80, path: "/x"},
		{id: "R07 E42 tab", method: "GET", target: "http://a\t.com/", bad: true},
		{id: "control", method: "GET", target: "http://a.com/\x01", bad: true},
		{id: "del", method: "GET", target: "http://a.com/\x7f", bad: true},
		{id: "R07 percent", method: "GET", target: "http://a%2ecom/", bad: true},
		{id: "R08 raw UTF-8 is for the router", method: "GET", target: "http://bücher.example/", host: "bücher.example", port: 80, path: "/"},
		{id: "R09", method: "GET", target: "http://[fe80::1%25eth0]/", bad: true},
		{id: "R10 empty port", method: "GET", target: "http://a.com:/", host: "a.com", port: 80, path: "/"},
		{id: "R10 E54 large port", method: "GET", target: "http://a.com:99999/", bad: true},
		{id: "R10 zero port", method: "GET", target: "http://a.com:0/", bad: true},
		{id: "E54 letters", method: "GET", target: "http://github.com:abc/", bad: true},
		{id: "signed port", method: "GET", target: "http://a.com:+80/", bad: true},
		{id: "long port", method: "GET", target: "http://a.com:000080/", bad: true},
		{id: "R11", method: "GET", target: "http:///path", bad: true},
		{id: "R12", method: "GET", target: "/path", bad: true},
		{id: "asterisk", method: "OPTIONS", target: "*", bad: true},
		{id: "R13", method: "GET", target: "https://a.com/", bad: true},
		{id: "ftp", method: "GET", target: "ftp://a.com/", bad: true},
		{id: "E53", method: "GET", target: "//github.com/", bad: true},
		{id: "empty", method: "GET", target: "", bad: true},
		{id: "IPv6", method: "GET", target: "http://[2001:DB8::1]:8080/", host: "2001:DB8::1", port: 8080, path: "/"},
		{id: "IPv6 bare", method: "GET", target: "http://::1/", bad: true},
		{id: "IPv6 open bracket", method: "GET", target: "http://[::1/", bad: true},
		{id: "name in brackets", method: "GET", target: "http://[github.com]/", bad: true},
		{id: "IPv4 in brackets", method: "GET", target: "http://[127.0.0.1]/", bad: true},
		{id: "other text in brackets", method: "GET", target: "http://[,:]/", bad: true},
		{id: "text behind bracket", method: "GET", target: "http://[::1]x:80/", bad: true},
		{id: "bracket in name", method: "GET", target: "http://a]b/", bad: true},
		{id: "R14", method: "CONNECT", target: "a.com:443", host: "a.com", port: 443},
		{id: "connect IPv6", method: "CONNECT", target: "[::1]:443", host: "::1", port: 443},
		{id: "R15 no port", method: "CONNECT", target: "a.com", bad: true},
		{id: "R15 empty port", method: "CONNECT", target: "a.com:", bad: true},
		{id: "A3 zero", method: "CONNECT", target: "a.com:0", bad: true},
		{id: "A3 large", method: "CONNECT", target: "a.com:65536", bad: true},
		{id: "R16", method: "CONNECT", target: "github.com:443@evil.org:443", bad: true},
		{id: "R17", method: "CONNECT", target: "::1:443", bad: true},
		{id: "R18", method: "CONNECT", target: "http://a.com:443/", bad: true},
		{id: "R19", method: "CONNECT", target: "a.com:443/path", bad: true},
		{id: "connect query", method: "CONNECT", target: "a.com:443?x", bad: true},
		{id: "connect fragment", method: "CONNECT", target: "a.com:443#x", bad: true},
		{id: "R20 is the router's: a number is a host here", method: "CONNECT", target: "2130706433:443", host: "2130706433", port: 443},
	} {
		t.Run(tt.id, func(t *testing.T) {
			got, err := parseTarget(tt.method == "CONNECT", []byte(tt.target))
			if tt.bad {
				if err == nil {
					t.Fatalf("%s %q: got host %q port %d, want an error", tt.method, tt.target, got.host, got.port)
				}
				return
			}
			if err != nil {
				t.Fatalf("%s %q: %v", tt.method, tt.target, err)
			}
			if string(got.host) != tt.host || got.port != tt.port || string(got.path) != tt.path {
				t.Errorf("%s %q: got %q %d %q, want %q %d %q", tt.method, tt.target, got.host, got.port, got.path, tt.host, tt.port, tt.path)
			}
		})
	}
}

func TestRequestHeads(t *testing.T) {
	ok := "GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n"
	post := "POST http://a.com/ HTTP/1.1\r\nHost: a.com\r\n"
	for _, tt := range []struct {
		id, head string
		bad      bool
		body     framing
	}{
		{id: "plain", head: ok + "\r\n"},
		{id: "R02 no Host", head: "GET http://a.com/ HTTP/1.1\r\nA: b\r\n\r\n", bad: true},
		{id: "no Host in 1.0", head: "GET http://a.com/ HTTP/1.0\r\nA: b\r\n\r\n"},
		{id: "R03 two Hosts", head: ok + "Host: a.com\r\n\r\n", bad: true},
		{id: "Host with userinfo", head: "GET http://a.com/ HTTP/1.1\r\nHost: x@a.com\r\n\r\n", bad: true},
		{id: "Host with two values", head: "GET http://a.com/ HTTP/1.1\r\nHost: a.com, b.com\r\n\r\n", bad: true},
		{id: "E43 leading blank", head: " GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n", bad: true},
		{id: "blank before the target", head: "GET  http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n", bad: true},
		{id: "blank in the target", head: "GET http://a.com/ x HTTP/1.1\r\nHost: a.com\r\n\r\n", bad: true},
		{id: "version 2", head: "PRI * HTTP/2.0\r\n\r\n", bad: true},
		{id: "version 1.2", head: "GET http://a.com/ HTTP/1.2\r\nHost: a.com\r\n\r\n", bad: true},
		{id: "version lower case", head: "GET http://a.com/ http/1.1\r\nHost: a.com\r\n\r\n", bad: true},
		{id: "no version", head: "GET http://a.com/\r\nHost: a.com\r\n\r\n", bad: true},
		{id: "method with separator", head: "GE(T http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n", bad: true},
		{id: "folded", head: ok + "A: b\r\n c\r\n\r\n", bad: true},
		{id: "blank before the colon", head: ok + "A : b\r\n\r\n", bad: true},
		{id: "empty name", head: ok + ": b\r\n\r\n", bad: true},
		{id: "no colon", head: ok + "Abc\r\n\r\n", bad: true},
		{id: "NUL in a value", head: ok + "A: b\x00\r\n\r\n", bad: true},
		{id: "CR in a value", head: ok + "A: b\rc\r\n\r\n", bad: true},
		{id: "obs-text in a value", head: ok + "A: b\xff\r\n\r\n"},
		{id: "R21 both lengths", head: post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", bad: true},
		{id: "two lengths", head: post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", bad: true},
		{id: "list of lengths", head: post + "Content-Length: 3, 3\r\n\r\n", bad: true},
		{id: "signed length", head: post + "Content-Length: +3\r\n\r\n", bad: true},
		{id: "hex length", head: post + "Content-Length: 0x3\r\n\r\n", bad: true},
		{id: "huge length", head: post + "Content-Length: 9999999999999999999\r\n\r\n", bad: true},
		{id: "A5 chunked not last", head: post + "Transfer-Encoding: chunked, gzip\r\n\r\n", bad: true},
		{id: "chunked twice", head: post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", bad: true},
		{id: "chunked with vertical tab", head: post + "Transfer-Encoding: \x0bchunked\r\n\r\n", bad: true},
		{id: "identity", head: post + "Transfer-Encoding: identity\r\n\r\n", bad: true},
		{id: "chunked in 1.0", head: "POST http://a.com/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", bad: true},
		{id: "chunked", head: post + "Transfer-Encoding: Chunked\r\n\r\n", body: chunked},
		{id: "sized", head: post + "Content-Length: 3\r\n\r\n", body: sized},
		{id: "CONNECT with a body", head: "CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\nContent-Length: 3\r\n\r\n", bad: true},
		{id: "unknown expectation", head: post + "Expect: the-inquisition\r\nContent-Length: 3\r\n\r\n", bad: true},
	} {
		t.Run(tt.id, func(t *testing.T) {
			var r request
			rd := reader{c: strings.NewReader(tt.head)}
			head, err := rd.head(maxRequestHead)
			if err == nil {
				err = parseRequest(head, &r)
			}
			if (err != nil) != tt.bad {
				t.Fatalf("error: got %v, want one: %v", err, tt.bad)
			}
			if err == nil && r.body != tt.body {
				t.Errorf("framing: got %v, want %v", r.body, tt.body)
			}
		})
	}
}

func TestBareLineFeed(t *testing.T) {
	for _, head := range []string{
		"GET http://a.com/ HTTP/1.1\nHost: a.com\n\n",
		"GET http://a.com/ HTTP/1.1\r\nHost: a.com\n\r\n",
		"GET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\n",
		"\nGET http://a.com/ HTTP/1.1\r\nHost: a.com\r\n\r\n",
	} {
		rd := reader{c: strings.NewReader(head)}
		if got, err := rd.head(maxRequestHead); err == nil {
			t.Errorf("head %q was read as %q, want an error", head, got)
		}
	}
}

func TestD1Challenges(t *testing.T) {
	for _, tt := range []struct {
		name      string
		values    []string
		negotiate bool
		data      string
		bad       bool
		offered   string
	}{
		{"bare", []string{"Negotiate"}, true, "", false, "Negotiate"},
		{"lower case", []string{"negotiate"}, true, "", false, "negotiate"},
		{"list", []string{"NTLM, Negotiate"}, true, "", false, "NTLM,Negotiate"},
		{"two lines", []string{"NTLM", "Negotiate"}, true, "", false, "NTLM,Negotiate"},
		{"hidden in a realm", []string{`Basic realm="a, Negotiate"`}, false, "", false, "Basic"},
		{"escaped quote", []string{`Basic realm="a\", Negotiate", Digest x=y`}, false, "", false, "Basic,Digest"},
		{"behind parameters", []string{`Digest realm="x", nonce="y", qop="auth", Negotiate`}, true, "", false, "Digest,Negotiate"},
		{"empty members", []string{", ,Negotiate,,"}, true, "", false, "Negotiate"},
		{"data", []string{"Negotiate YWJj"}, true, "abc", false, "Negotiate"},
		{"padded data", []string{"Negotiate YWI="}, true, "ab", false, "Negotiate"},
		{"bad data", []string{"Negotiate !!"}, true, "", true, "Negotiate"},
		{"parameter with blanks", []string{`Basic realm = "x"`}, false, "", false, "Basic"},
		{"open quote", []string{`Basic realm="x, Negotiate`}, false, "", false, "Basic"},
		{"none", nil, false, "", false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := challenges{want: "Negotiate"}
			for _, v := range tt.values {
				c.add([]byte(v))
			}
			if c.found != tt.negotiate || string(c.data) != tt.data || c.bad != tt.bad || strings.Join(c.offered, ",") != tt.offered {
				t.Errorf("got %+v, want %+v", c, tt)
			}
		})
	}
}

func TestChallengesOfOtherSchemes(t *testing.T) {
	for _, tt := range []struct {
		want, name string
		values     []string
		found      bool
		data       string
	}{
		{SchemeBasic, "basic", []string{`Basic realm="a, b"`, "Negotiate"}, true, ""},
		{SchemeBasic, "not offered", []string{"Negotiate", `Digest realm="Basic x"`}, false, ""},
		{SchemeNTLM, "bare", []string{"Negotiate, NTLM"}, true, ""},
		{SchemeNTLM, "data", []string{"Negotiate", "ntlm YWJj"}, true, "abc"},
		{SchemeDigest, "one line", []string{`Digest realm="x, y", nonce="n",qop="auth"`}, true, `realm="x, y", nonce="n", qop="auth"`},
		{SchemeDigest, "between others", []string{`Basic realm="b", Digest realm="x", nonce="n", Negotiate, NTLM`}, true, `realm="x", nonce="n"`},
		{SchemeDigest, "others' parameters", []string{`Digest nonce="n", Basic realm="b", charset="UTF-8"`}, true, `nonce="n"`},
		{SchemeDigest, "two", []string{`Digest nonce="1", algorithm=SHA-256`, `Digest nonce="2"`}, true, "nonce=\"1\", algorithm=SHA-256\nnonce=\"2\""},
	} {
		t.Run(tt.want+" "+tt.name, func(t *testing.T) {
			c := challenges{want: tt.want}
			for _, v := range tt.values {
				c.add([]byte(v))
			}
			if c.found != tt.found || string(c.data) != tt.data || c.bad {
				t.Errorf("got %+v (%q), want %+v", c, c.data, tt)
			}
		})
	}
}

// Whatever the strict parser takes, net/http must read the same way: our
// leniency may never exceed the usual parser's.
func FuzzRequestHead(f *testing.F) {
	f.Add([]byte("GET http://a.com/x HTTP/1.1\r\nHost: a.com\r\n\r\n"))
	f.Add([]byte("CONNECT a.com:443 HTTP/1.1\r\nHost: a.com:443\r\n\r\n"))
	f.Add([]byte("POST http://u@a.com:81?q HTTP/1.1\r\nHost: b\r\nTransfer-Encoding: chunked\r\nConnection: x, close\r\n\r\n"))
	f.Add([]byte("POST http://[::1]:81/ HTTP/1.0\r\nContent-Length: 7\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		rd := reader{c: bytes.NewReader(in)}
		head, err := rd.head(maxRequestHead)
		if err != nil {
			return
		}
		head = bytes.Clone(head)
		var r request
		if parseRequest(head, &r) != nil {
			return
		}
		if bytes.ContainsAny(r.target.host, " \t\r\n@/\\?#%[]") || len(r.target.host) == 0 || r.target.port == 0 {
			t.Fatalf("host %q port %d accepted", r.target.host, r.target.port)
		}
		if bytes.IndexByte(r.target.host, ',') >= 0 {
			return // a Router refuses it
		}
		d := Decision{Route: RouteProxy, Upstream: &Upstream{}, Host: string(r.target.host), Port: r.target.port}
		out := append(r.appendHead(nil, &d, "kerbpass"), "\r\n"...)
		for _, b := range [][]byte{head, out} {
			std, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
			if err != nil {
				continue // stricter than we are is fine for what we forward: it is checked below
			}
			want := string(r.target.host)
			if r.connect || !strings.Contains(std.URL.Host, "@") {
				if got := strings.Trim(std.URL.Hostname(), "[]"); !strings.EqualFold(got, want) && isASCII(want) {
					t.Fatalf("host: net/http reads %q, we read %q in %q", got, want, b)
				}
			}
			if n := std.ContentLength; r.body == sized && n != r.length || r.body == chunked && n != -1 || r.body == noBody && n > 0 {
				t.Fatalf("body: net/http reads %d, we read %v %d in %q", n, r.body, r.length, b)
			}
		}
		// What we write must be read back as what we meant.
		var again request
		if err := parseRequest(out, &again); err != nil {
			t.Fatalf("our own head is not accepted: %v\n%q", err, out)
		}
		if string(again.target.host) != string(r.target.host) || again.target.port != r.target.port || again.body != r.body || again.length != r.length {
			t.Fatalf("our own head reads differently: %q", out)
		}
		if bytes.Contains(bytes.ToLower(out), []byte("\nproxy-authorization:")) {
			t.Fatalf("client credentials forwarded: %q", out)
		}
	})
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"http://a.com/", "a.com:443", "[::1]:443", "http://user@a:80/x#y", "http://evil\\@good/"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, connect bool) {
		got, err := parseTarget(connect, []byte(s))
		if err != nil {
			return
		}
		if got.port == 0 || len(got.host) == 0 || bytes.ContainsAny(got.host, "@/\\?#%[] \t\r\n\x00") {
			t.Fatalf("%q: host %q port %d", s, got.host, got.port)
		}
		if connect && (bytes.IndexByte(got.host, ':') >= 0) != strings.HasPrefix(s, "[") {
			t.Fatalf("%q: a colon in host %q without brackets", s, got.host)
		}
	})
}

func FuzzChallenge(f *testing.F) {
	for _, s := range []string{"Negotiate", `Basic realm="a, Negotiate"`, "NTLM, Negotiate YWJj", `"`, `a="\`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		c := challenges{want: "Negotiate"}
		c.add(v)
		if c.found && !bytes.Contains(bytes.ToLower(v), []byte("negotiate")) {
			t.Fatalf("Negotiate found in %q", v)
		}
		if len(c.offered) > 16 {
			t.Fatalf("%d schemes kept", len(c.offered))
		}
	})
}

func FuzzChunkedBody(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n0\r\n\r\n"))
	f.Add([]byte("3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := bodyReader{rd: &reader{c: bytes.NewReader(in)}, kind: chunked}
		var out bytes.Buffer
		n, readErr, writeErr := copyBody(&out, &b, true, nil)
		if writeErr != nil {
			t.Fatal(writeErr)
		}
		if readErr != nil {
			if bytes.HasSuffix(out.Bytes(), []byte("0\r\n\r\n")) && n == 0 {
				t.Fatalf("a broken body was ended as if it were whole: %q", out.Bytes())
			}
			return
		}
		again := bodyReader{rd: &reader{c: bytes.NewReader(out.Bytes())}, kind: chunked}
		var second bytes.Buffer
		m, readErr, _ := copyBody(&second, &again, true, nil)
		if readErr != nil || m != n {
			t.Fatalf("our own chunks read as %d bytes (%v), want %d", m, readErr, n)
		}
	})
}
