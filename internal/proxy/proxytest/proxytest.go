// Package proxytest provides what the proxy is tested against: upstreams that
// behave well and badly, on purpose, origins that say what they saw, a real
// Squid, and an Authenticator whose tokens can be told apart. Everything
// listens on loopback and ends with the test.
package proxytest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/proxy"
	"kerbpass/internal/testenv"
)

// Start runs a Server on a loopback port until the test ends, when it must
// leave no goroutine behind. Everybody is allowed unless cfg says otherwise.
func Start(t testing.TB, cfg proxy.Config) (*proxy.Server, string) {
	t.Helper()
	s, addrs := StartOn(t, cfg, func(l net.Listener) net.Listener { return l })
	return s, addrs[0]
}

// StartOn is Start with a listener of its own for each wrap, in their order.
func StartOn(t testing.TB, cfg proxy.Config, wraps ...func(net.Listener) net.Listener) (s *proxy.Server, addrs []string) {
	t.Helper()
	if cfg.Peer == nil {
		cfg.Peer = proxy.PeerFunc(func(_, _ netip.AddrPort) error { return nil })
	}
	s, err := proxy.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var listeners []net.Listener
	for _, wrap := range wraps {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, l.Addr().String())
		listeners = append(listeners, wrap(l))
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, listeners...) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, addrs
}

// Via is a Router that sends everything to the upstream at addr, as
// "proxy.test", with Kerberos on.
func Via(addr string) proxy.RouterFunc {
	up := UpstreamAt(addr)
	return func(_ context.Context, host string, port uint16) (proxy.Decision, error) {
		return proxy.Decision{Route: proxy.RouteProxy, Rule: "default", Host: strings.ToLower(host), Port: port, Upstream: up, Kerberos: true, Preemptive: true}, nil
	}
}

// Direct is a Router that sends everything straight to the target.
func Direct() proxy.RouterFunc {
	return func(_ context.Context, host string, port uint16) (proxy.Decision, error) {
		return proxy.Decision{Route: proxy.RouteDirect, Rule: "exact", Host: strings.ToLower(host), Port: port}, nil
	}
}

// UpstreamAt describes the upstream at a loopback address.
func UpstreamAt(addr string) *proxy.Upstream {
	a := netip.MustParseAddrPort(addr)
	return &proxy.Upstream{URL: "http://" + addr, Host: a.Addr().String(), Port: a.Port()}
}

// Auth is an Authenticator whose n-th token is "token-n". Func fields change
// what it does.
type Auth struct {
	Token     func(ctx context.Context, n int) ([]byte, error)
	Challenge func(n int, challenge []byte) ([]byte, error) // nil: an error
	Now       atomic.Uint64                                 // the epoch

	n, open atomic.Int64
}

// Begin implements [proxy.Authenticator].
func (a *Auth) Begin(_ context.Context, _ *proxy.Upstream) (proxy.Exchange, error) {
	a.open.Add(1)
	return &exchange{a: a, n: int(a.n.Add(1))}, nil
}

// Epoch implements [proxy.Authenticator].
func (a *Auth) Epoch() uint64 { return a.Now.Load() }

// Made is the number of tokens asked for, Open the exchanges not yet closed.
func (a *Auth) Made() int { return int(a.n.Load()) }
func (a *Auth) Open() int { return int(a.open.Load()) }

type exchange struct {
	a *Auth
	n int
}

func (*exchange) Scheme() string { return "Negotiate" }

func (e *exchange) Next(ctx context.Context, challenge []byte) ([]byte, error) {
	switch {
	case challenge != nil && e.a.Challenge != nil:
		return e.a.Challenge(e.n, challenge)
	case challenge != nil:
		return nil, errors.New("unexpected challenge")
	case e.a.Token != nil:
		return e.a.Token(ctx, e.n)
	}
	return fmt.Appendf(nil, "token-%d", e.n), nil
}

func (e *exchange) Close() error { e.a.open.Add(-1); return nil }

// Head is one request head that a server of this package has read.
type Head struct {
	Conn   int // which connection, counted from 1
	Line   string
	Header textproto.MIMEHeader
	Raw    string
}

// Token is the decoded Negotiate token of the head, "" without one.
func (h Head) Token() string {
	scheme, b64, _ := strings.Cut(h.Header.Get("Proxy-Authorization"), " ")
	if scheme != "Negotiate" {
		return ""
	}
	tok, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		return "bad base64"
	}
	return string(tok)
}

// Method is the head's method.
func (h Head) Method() string { m, _, _ := strings.Cut(h.Line, " "); return m }

// Target is the head's request target.
func (h Head) Target() string { return strings.Fields(h.Line)[1] }

// Server is a scripted server: Script runs for each connection.
type Server struct {
	Addr string
	l    net.Listener

	mu    sync.Mutex // guards heads and all
	heads []Head
	all   map[net.Conn]struct{}
	conns atomic.Int64
	bytes atomic.Int64
}

// Conn is one connection to a [Server].
type Conn struct {
	net.Conn
	R *bufio.Reader
	N int
	s *Server
}

// Serve starts a Server.
func Serve(t testing.TB, script func(c *Conn)) *Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: l.Addr().String(), l: l, all: map[net.Conn]struct{}{}}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			c := &Conn{Conn: nc, N: int(s.conns.Add(1)), s: s}
			c.R = bufio.NewReaderSize(countReader{nc, &s.bytes}, 1<<20)
			s.mu.Lock()
			s.all[nc] = struct{}{}
			s.mu.Unlock()
			wg.Go(func() {
				defer nc.Close()
				script(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.DropAll()
		wg.Wait()
	})
	return s
}

// DropAll resets every connection that is open.
func (s *Server) DropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.all {
		if tc, ok := c.(*net.TCPConn); ok {
			tc.SetLinger(0)
		}
		c.Close()
	}
	clear(s.all)
}

type countReader struct {
	io.Reader
	n *atomic.Int64
}

func (r countReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.n.Add(int64(n))
	return n, err
}

// Heads are all request heads read so far, Conns the connections accepted,
// Bytes what has arrived on them.
func (s *Server) Heads() []Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Head(nil), s.heads...)
}
func (s *Server) Conns() int   { return int(s.conns.Load()) }
func (s *Server) Bytes() int64 { return s.bytes.Load() }

// ReadHead reads and records a request head.
func (c *Conn) ReadHead() (Head, error) {
	h := Head{Conn: c.N}
	var raw bytes.Buffer
	for {
		line, err := c.R.ReadString('\n')
		if err != nil {
			return h, err
		}
		raw.WriteString(line)
		if line == "\r\n" {
			break
		}
	}
	h.Raw = raw.String()
	line, rest, _ := strings.Cut(h.Raw, "\r\n")
	h.Line = line
	var err error
	if h.Header, err = textproto.NewReader(bufio.NewReader(strings.NewReader(rest))).ReadMIMEHeader(); err != nil {
		return h, err
	}
	c.s.mu.Lock()
	c.s.heads = append(c.s.heads, h)
	c.s.mu.Unlock()
	return h, nil
}

// ReadBody reads the body that belongs to h.
func (c *Conn) ReadBody(h Head) ([]byte, error) {
	req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(h.Raw), c.R)))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(req.Body)
}

// Send writes formatted text.
func (c *Conn) Send(format string, args ...any) { fmt.Fprintf(c.Conn, format, args...) }

// Answers used by many scripts.
const (
	Need407 = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Negotiate\r\nContent-Length: 4\r\n\r\nauth"
	OK      = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
)

// Negotiating is an upstream that authenticates connections, as Squid does: a
// connection whose request carries a token that accept takes serves from then
// on. Plain requests are answered with "ok", CONNECT with a tunnel that
// echoes.
func Negotiating(t testing.TB, accept func(token string) bool) *Server {
	return Serve(t, func(c *Conn) {
		authed := false
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if h.Method() != "CONNECT" {
				if _, err := c.ReadBody(h); err != nil {
					return
				}
			}
			if tok := h.Token(); tok != "" && accept(tok) {
				authed = true
			}
			if !authed {
				c.Send(Need407)
				continue
			}
			if h.Method() == "CONNECT" {
				c.Send("HTTP/1.1 200 Connection established\r\n\r\n")
				io.Copy(c.Conn, c.R)
				c.Conn.(*net.TCPConn).CloseWrite()
				return
			}
			c.Send(OK)
		}
	})
}

// Any accepts every token once.
func Any() func(string) bool {
	var mu sync.Mutex
	seen := map[string]bool{}
	return func(tok string) bool {
		mu.Lock()
		defer mu.Unlock()
		defer func() { seen[tok] = true }()
		return !seen[tok]
	}
}

// Client speaks to the proxy over one raw connection.
type Client struct {
	*net.TCPConn
	R *bufio.Reader
	t testing.TB
}

// Dial connects to addr; the connection is closed when the test ends.
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(60 * time.Second))
	return &Client{c.(*net.TCPConn), bufio.NewReader(c), t}
}

// Do sends raw bytes and reads one response to a request with that method.
func (c *Client) Do(method, raw string) (*http.Response, string) {
	c.t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		c.t.Fatal(err)
	}
	return c.Response(method)
}

// Response reads one response, body included.
func (c *Client) Response(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.R, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("read response: %v", err)
	}
	if method == "CONNECT" && resp.StatusCode == 200 {
		return resp, ""
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("read body: %v", err)
	}
	return resp, string(body)
}

// Get sends a plain GET for url.
func (c *Client) Get(url string) (*http.Response, string) {
	c.t.Helper()
	host := strings.TrimPrefix(url, "http://")
	host, _, _ = strings.Cut(host, "/")
	return c.Do("GET", "GET "+url+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
}

// Tunnel opens a tunnel to host, sends raw in it and returns what comes back:
// the proxy's own answer where there is no tunnel.
func (c *Client) Tunnel(host, raw string) (resp *http.Response, body string, err error) {
	fmt.Fprintf(c, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n\r\n", host)
	br := bufio.NewReader(c)
	if resp, err = http.ReadResponse(br, &http.Request{Method: "CONNECT"}); err != nil {
		return nil, "", err
	}
	if resp.StatusCode == 200 {
		io.WriteString(c, raw)
		if resp, err = http.ReadResponse(br, nil); err != nil {
			return nil, "", err
		}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// Cause is the machine-readable cause in an answer of the proxy's own.
func Cause(resp *http.Response) string {
	_, rest, ok := strings.Cut(resp.Header.Get("Proxy-Status"), `details="`)
	if !ok {
		return ""
	}
	cause, _, _ := strings.Cut(rest, `"`)
	return cause
}

// Recorder is an Observer that keeps everything.
type Recorder struct {
	mu     sync.Mutex // guards both
	events []proxy.Event
	auths  []proxy.AuthEvent
}

// Accepted implements [proxy.Observer].
func (*Recorder) Accepted(_, _ netip.AddrPort) {}

// Request implements [proxy.Observer].
func (r *Recorder) Request(e proxy.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
}

// Authenticated implements [proxy.Observer].
func (r *Recorder) Authenticated(e proxy.AuthEvent) {
	r.mu.Lock()
	r.auths = append(r.auths, e)
	r.mu.Unlock()
}

// Events and Auths are what was recorded.
func (r *Recorder) Events() []proxy.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]proxy.Event(nil), r.events...)
}
func (r *Recorder) Auths() []proxy.AuthEvent {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]proxy.AuthEvent(nil), r.auths...)
}

// Leaks is [testenv.NoLeaks], to be called before Start.
func Leaks(t testing.TB) { testenv.NoLeaks(t) }
