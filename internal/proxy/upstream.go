package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

// noDeadline lifts a deadline.
var noDeadline time.Time

// upConn is one connection to an upstream or, with up == nil, to an origin.
// One goroutine uses it at a time.
type upConn struct {
	net.Conn
	s     *Server
	rd    reader
	up    *Upstream
	key   string // of the pool
	gen   uint64 // of the pool, when it was dialled
	epoch uint64 // of the Authenticator, when authed was set
	// authed: it carried an accepted token, so the upstream takes requests on
	// it as the user's.
	authed bool
	reused bool
	pinned bool // belongs to one client connection for good
	since  time.Time
}

func (u *upConn) Close() error {
	u.s.untrack(u.Conn)
	u.rd.r, u.rd.w = 0, 0
	u.rd.release()
	return nil
}

// dial opens a connection for d. ctx ends it early.
func (s *Server) dial(ctx context.Context, d *Decision) (*upConn, error) {
	gen := s.pool.generation()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	u := &upConn{s: s, up: d.Upstream, key: poolKey(d), gen: gen}
	var addrs []string
	switch {
	case d.Route == RouteProxy:
		addrs = []string{d.Upstream.addr()}
	case d.Loopback && net.ParseIP(d.Host) == nil:
		// "localhost" is this machine whatever a resolver thinks (RFC 6761
		// §6.3).
		addrs = []string{join("127.0.0.1", d.Port), join("::1", d.Port)}
	default:
		u.up = nil
		addrs = []string{join(d.Host, d.Port)}
	}
	if d.Route != RouteProxy {
		u.up = nil
	}
	var c net.Conn
	var err error
	for _, addr := range addrs {
		if c, err = s.cfg.Dial(ctx, "tcp", addr); err == nil {
			break
		}
	}
	if err != nil {
		return nil, dialError(err, u.up, d.Host)
	}
	if s.isOwn(c.RemoteAddr()) {
		c.Close()
		if u.up != nil {
			return nil, fail(CauseLoop, nil, "The upstream %s is Kerbpass itself.", u.up.URL)
		}
		return nil, fail(CauseLoop, nil, "%s is Kerbpass itself.", d.Host)
	}
	if u.up != nil && u.up.TLS {
		if c, err = s.startTLS(ctx, c, u.up); err != nil {
			return nil, err
		}
	}
	u.Conn, u.rd.c = c, c
	if !s.track(c) {
		c.Close()
		return nil, context.Canceled
	}
	return u, nil
}

// startTLS verifies the upstream against its configured name before any token
// is made for it (C12). HTTP/1.1 is all that is offered (G4).
func (s *Server) startTLS(ctx context.Context, c net.Conn, up *Upstream) (net.Conn, error) {
	var cfg *tls.Config
	if s.cfg.TLS != nil {
		cfg = s.cfg.TLS.Clone()
	} else {
		cfg = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	cfg.ServerName, cfg.NextProtos = up.Host, []string{"http/1.1"}
	t := tls.Client(c, cfg)
	if err := t.HandshakeContext(ctx); err != nil {
		c.Close()
		if isTimeout(err) {
			return nil, fail(CauseUpstreamUnreachable, err, "%s did not finish the TLS handshake in time.", up.URL)
		}
		e := fail(CauseUpstreamTLS, err, "%s: no TLS connection could be made.", up.URL)
		e.Hint = "Check that it is an https:// proxy: most are http://, also for https pages."
		var verify *tls.CertificateVerificationError
		if errors.As(err, &verify) {
			e = fail(CauseUpstreamTLS, err, "%s: its certificate is not accepted (%v).", up.URL, verify.Err)
		}
		return nil, e
	}
	return t, nil
}

func poolKey(d *Decision) string {
	if d.Route == RouteProxy {
		return d.Upstream.URL
	}
	return "direct " + join(d.Host, d.Port)
}

// pool keeps idle connections. What is in it is not in use; the newest is
// taken first, so that a burst's surplus ages out.
type pool struct {
	mu    sync.Mutex // guards all below
	idle  map[string][]*upConn
	n     int
	held  map[*upConn]struct{} // pinned, between two requests of its client
	gen   uint64
	done  bool
	timer *time.Timer
}

func (p *pool) generation() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gen
}

// get takes a connection that is alive and fits; connections that fit no
// longer are closed on the way.
func (s *Server) get(key string, kerberos bool) *upConn {
	for {
		s.pool.mu.Lock()
		list := s.pool.idle[key]
		if len(list) == 0 {
			s.pool.mu.Unlock()
			return nil
		}
		u := list[len(list)-1]
		s.pool.idle[key] = list[:len(list)-1]
		s.pool.n--
		s.pool.mu.Unlock()
		if time.Since(u.since) > s.cfg.PoolIdle || !s.fits(u, kerberos) {
			u.Close()
			continue
		}
		u.reused = true
		return u
	}
}

// fits reports whether a connection may carry a request that Kerberos is on or
// off for: alive, and authenticated with the present ticket if at all (S19: the
// upstream itself would go on taking it for the user's).
func (s *Server) fits(u *upConn, kerberos bool) bool {
	if u.authed && (!kerberos || u.epoch != s.cfg.Auth.Epoch()) {
		return false
	}
	return alive(u)
}

// put gives a connection back after a whole response, or closes it.
func (s *Server) put(u *upConn) {
	p := &s.pool
	u.rd.release()
	u.since = time.Now()
	p.mu.Lock()
	if p.done || u.gen != p.gen || p.n >= maxPooled || u.rd.buf != nil {
		p.mu.Unlock()
		u.Close()
		return
	}
	if p.idle == nil {
		p.idle = map[string][]*upConn{}
	}
	p.idle[u.key] = append(p.idle[u.key], u)
	p.n++
	if p.timer == nil {
		p.timer = time.AfterFunc(s.cfg.PoolIdle/sweeps, func() { p.sweep(s.cfg.PoolIdle) })
	}
	p.mu.Unlock()
}

// sweep closes what has been idle too long, or has been closed by the other
// side; the timer runs only while there is something to sweep.
func (p *pool) sweep(limit time.Duration) {
	p.mu.Lock()
	var old []*upConn
	for key, list := range p.idle {
		var good []*upConn
		for _, u := range list {
			if time.Since(u.since) < limit && alive(u) {
				good = append(good, u)
			} else {
				old = append(old, u)
			}
		}
		if p.idle[key] = good; len(good) == 0 {
			delete(p.idle, key)
		}
	}
	p.n -= len(old)
	if p.timer = nil; p.n > 0 && !p.done {
		p.timer = time.AfterFunc(limit/sweeps, func() { p.sweep(limit) })
	}
	p.mu.Unlock()
	for _, u := range old {
		u.Close()
	}
}

// sweeps is how often the pool is looked through in the time that a connection
// may be idle.
const sweeps = 4

func (p *pool) flush() {
	p.mu.Lock()
	all, held := p.idle, p.held
	p.idle, p.n, p.held = nil, 0, nil
	p.gen++
	p.mu.Unlock()
	for u := range held {
		u.s.untrack(u.Conn) // its reader is the session's
	}
	for _, list := range all {
		for _, u := range list {
			u.Close()
		}
	}
}

// hold lets a pinned connection wait for its client's next request; false
// means that it must be closed instead.
func (p *pool) hold(u *upConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done || u.gen != p.gen {
		return false
	}
	if p.held == nil {
		p.held = map[*upConn]struct{}{}
	}
	p.held[u] = struct{}{}
	return true
}

// take ends hold and reports whether the connection was left alone meanwhile.
func (p *pool) take(u *upConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.held[u]
	delete(p.held, u)
	return ok
}

func (p *pool) close() {
	p.mu.Lock()
	p.done = true
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.flush()
}

// drain reads a response body that nobody wants, so that the connection can be
// used again; false means that it cannot.
func (u *upConn) drain(r *response) bool {
	if r.close || r.body == untilClose || r.length > maxDrain {
		return false
	}
	b := bodyReader{rd: &u.rd, kind: r.body, left: max(0, r.length)}
	u.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := io.Copy(io.Discard, io.LimitReader(&b, maxDrain+1))
	u.SetReadDeadline(time.Time{})
	u.since = time.Now()
	return err == nil && n <= maxDrain && b.ended && len(u.rd.buffered()) == 0
}

func join(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
