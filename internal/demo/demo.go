// Package demo is a corporate world in one process: a Kerberos realm with its
// KDC, a proxy that demands Negotiate and checks every token for real, replays
// included, and the servers behind it. Nothing leaves the loopback interface
// and nothing needs to be installed, resolved or privileged: the world brings
// its own dialler for the names in it.
package demo

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"kerbpass/internal/demo/realm"
)

// Names of the world. No resolver knows them (RFC 6761 §6.4).
const (
	ProxyHost = "proxy.demo.invalid" // the corporate proxy, port 8080
	ProxyPort = 8080
	WebHost   = "www.demo.invalid"      // on the internet, behind the proxy
	GitHost   = "git.demo.invalid"      // inside the company, reached directly
	LookAlike = "evil-git.demo.invalid" // looks like it, but is behind the proxy
	SubHost   = "sub.git.demo.invalid"  // a subdomain, behind the proxy too
)

// World is running from Start until Close.
type World struct {
	Realm    *realm.Realm
	acceptor *realm.Acceptor

	proxy, origin *http.Server
	proxyAddr     string
	originAddr    string
	wg            sync.WaitGroup

	mu   sync.Mutex // guards what follows
	seen []Seen
	got  []Got
	last []byte
}

// Seen is one request as the corporate proxy saw it.
type Seen struct {
	Method, Target string
	User           string // the principal its connection belongs to, "" before authentication
	TokenBytes     int    // of the Negotiate token on this request, 0 without one
	Refused        string // why the token was not accepted
	Status         int
}

// Got is one request as a server saw it.
type Got struct {
	Host, Path string
	Via        string
	Credential string // a Proxy-Authorization field, which must never arrive
}

// Start builds the world; its files go below dir, which must exist.
func Start(dir string) (*World, error) {
	r, err := realm.Start(realm.Config{Dir: dir})
	if err != nil {
		return nil, err
	}
	w := &World{Realm: r, acceptor: r.Acceptor("HTTP/" + ProxyHost)}
	if err := w.serve(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

type connKey struct{}

// connState is what the corporate proxy remembers of one connection: as with
// the real ones, authentication belongs to it and not to a request.
type connState struct {
	mu   sync.Mutex // guards user
	user string
}

func (w *World) serve() error {
	w.origin = &http.Server{Handler: http.HandlerFunc(w.serveOrigin)}
	w.proxy = &http.Server{
		Handler: http.HandlerFunc(w.serveProxy),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, &connState{})
		},
	}
	for _, s := range []struct {
		srv  *http.Server
		addr *string
	}{{w.origin, &w.originAddr}, {w.proxy, &w.proxyAddr}} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		*s.addr = l.Addr().String()
		w.wg.Go(func() { s.srv.Serve(l) })
	}
	return nil
}

// Close ends everything and returns when it is gone.
func (w *World) Close() error {
	for _, s := range []*http.Server{w.proxy, w.origin} {
		if s != nil {
			s.Close()
		}
	}
	w.wg.Wait()
	return w.Realm.Close()
}

// Dial is the world's network: it knows the world's names, and beside them
// nothing but loopback addresses.
func (w *World) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	switch ip := net.ParseIP(host); {
	case host == ProxyHost && port == fmt.Sprint(ProxyPort):
		addr = w.proxyAddr
	case host == GitHost:
		addr = w.originAddr
	case strings.HasSuffix(host, ".demo.invalid"):
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s can only be reached through the corporate proxy", host)}
	case ip != nil && ip.IsLoopback():
	default:
		return nil, &net.DNSError{Err: "no such host in the demo world", Name: host, IsNotFound: true}
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// Upstream is the corporate proxy's URL, for settings.
func (w *World) Upstream() string { return fmt.Sprintf("http://%s:%d", ProxyHost, ProxyPort) }

// serveProxy is the corporate proxy.
func (w *World) serveProxy(rw http.ResponseWriter, r *http.Request) {
	state := r.Context().Value(connKey{}).(*connState)
	target := r.URL.Host
	if r.Method == http.MethodConnect {
		target = r.Host
	}
	seen := Seen{Method: r.Method, Target: target, Status: http.StatusProxyAuthRequired}
	state.mu.Lock()
	if scheme, b64, ok := strings.Cut(r.Header.Get("Proxy-Authorization"), " "); ok && strings.EqualFold(scheme, "Negotiate") && state.user == "" {
		tok, err := base64.StdEncoding.DecodeString(b64)
		seen.TokenBytes = len(tok)
		if err == nil {
			state.user, err = w.acceptor.Accept(tok)
		}
		if err != nil {
			seen.Refused = err.Error()
		}
		w.mu.Lock()
		w.last = tok
		w.mu.Unlock()
	}
	seen.User = state.user
	state.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.seen = append(w.seen, seen)
		w.mu.Unlock()
	}()
	if seen.User == "" {
		rw.Header().Set("Proxy-Authenticate", "Negotiate")
		http.Error(rw, "The corporate proxy wants to know who you are.", http.StatusProxyAuthRequired)
		return
	}
	seen.Status = http.StatusOK
	if r.Method == http.MethodConnect {
		if err := w.tunnel(rw); err != nil {
			seen.Status = http.StatusBadGateway
		}
		return
	}
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.URL.Scheme = "http"
	for _, h := range []string{"Proxy-Authorization", "Connection"} {
		out.Header.Del(h)
	}
	out.Host = target
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, w.originAddr)
	}}
	resp, err := tr.RoundTrip(out)
	if err != nil {
		seen.Status = http.StatusBadGateway
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	for k, v := range resp.Header {
		rw.Header()[k] = v
	}
	rw.WriteHeader(resp.StatusCode)
	io.Copy(rw, resp.Body)
}

// tunnel connects to the origin; whatever port was asked for, it speaks plain
// HTTP there.
func (w *World) tunnel(rw http.ResponseWriter) error {
	origin, err := net.Dial("tcp", w.originAddr)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadGateway)
		return err
	}
	conn, buf, err := rw.(http.Hijacker).Hijack()
	if err != nil {
		origin.Close()
		return err
	}
	io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	w.wg.Go(func() {
		defer conn.Close()
		defer origin.Close()
		stop := time.AfterFunc(10*time.Minute, func() { conn.Close(); origin.Close() })
		defer stop.Stop()
		done := make(chan struct{})
		go func() {
			io.Copy(origin, buf)
			origin.(*net.TCPConn).CloseWrite()
			close(done)
		}()
		io.Copy(conn, origin)
		conn.Close()
		<-done
	})
	return nil
}

// serveOrigin is every server of the world: it says what it was asked.
func (w *World) serveOrigin(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.got = append(w.got, Got{Host: r.Host, Path: r.URL.Path, Via: r.Header.Get("Via"), Credential: r.Header.Get("Proxy-Authorization")})
	w.mu.Unlock()
	rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(rw, "Hello from %s\n", r.Host)
}

// Take returns what the proxy and the servers have seen since the last call.
func (w *World) Take() (seen []Seen, got []Got) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen, got = w.seen, w.got
	w.seen, w.got = nil, nil
	return seen, got
}

// Replay sends the last token that was used once more, as a thief would, and
// returns the status that the corporate proxy answers with.
func (w *World) Replay(ctx context.Context) (status int, err error) {
	w.mu.Lock()
	tok := w.last
	w.mu.Unlock()
	if len(tok) == 0 {
		return 0, errors.New("no token has been used yet")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", w.proxyAddr)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+WebHost+"/replay", nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Proxy-Authorization", "Negotiate "+base64.StdEncoding.EncodeToString(tok))
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return c, nil },
		Proxy: http.ProxyURL(req.URL)}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	return resp.StatusCode, nil
}
