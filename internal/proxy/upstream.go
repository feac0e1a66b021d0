package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"time"
)

// noDeadline lifts a deadline; past ends what is under way.
var (
	noDeadline time.Time
	past       = time.Unix(1, 0)
)

// upConn is one connection to an upstream or, with up == nil, to an origin,
// which a SOCKS upstream may lie in front of.
// One goroutine uses it at a time.
type upConn struct {
	net.Conn
	s     *Server
	rd    reader
	up    *Upstream
	key   placeKey
	place *place // where it was idle last
	gen   uint64 // of the pool, when it was dialled
	epoch uint64 // of the Authenticator, when authed was set
	// authed: it carried an accepted token, so the upstream takes requests on
	// it as the user's. served: it took one without a token since.
	authed, served bool
	reused         bool
	pinned         bool // belongs to one client connection for good
	spare          bool // was one, and has not been of use yet
	since          time.Time
	limit          bound
	ahead          *advance // a token that waits to be sent on it
	peek           peeker
}

// bound remembers a connection's deadline, so that it is moved rarely: each
// move costs as much as parsing a short head. It is set an eighth too late and
// left alone for as long as it is no earlier than it has to be.
type bound struct {
	until  time.Time // zero: none is set
	unsure bool      // somebody else has set one
}

// extend returns the deadline to set for d from now on; ok is false when the
// present one will do.
func (b *bound) extend(now time.Time, d time.Duration) (t time.Time, ok bool) {
	if left := b.until.Sub(now); !b.unsure && !b.until.IsZero() && left >= d && left <= d+d/4 {
		return t, false
	}
	b.until, b.unsure = now.Add(d+d/8), false
	return b.until, true
}

// within bounds what comes next on u to about d.
func (u *upConn) within(now time.Time, d time.Duration) {
	if t, ok := u.limit.extend(now, d); ok {
		u.Conn.SetDeadline(t)
	}
}

// lift lets what comes next take as long as it will.
func (u *upConn) lift() {
	if u.limit.unsure || !u.limit.until.IsZero() {
		u.limit = bound{}
		u.Conn.SetDeadline(noDeadline)
	}
}

// SetReadDeadline implements net.Conn.
func (u *upConn) SetReadDeadline(t time.Time) error {
	u.limit.unsure = true
	return u.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (u *upConn) SetWriteDeadline(t time.Time) error {
	u.limit.unsure = true
	return u.Conn.SetWriteDeadline(t)
}

func (u *upConn) Close() error {
	u.s.untrack(u.Conn)
	u.rd.r, u.rd.w = 0, 0
	u.rd.release()
	u.ahead.drop()
	u.ahead = nil
	return nil
}

// dial opens a connection for d. ctx ends it early.
func (s *Server) dial(ctx context.Context, d *Decision) (*upConn, error) {
	if d.Route == RouteProxy {
		u, err := s.dialUpstream(ctx, d.Upstream)
		if err != nil || !d.Upstream.SOCKS {
			return u, err
		}
		if err := s.throughSOCKS(ctx, u, d.Upstream, d); err != nil {
			u.Close()
			return nil, err
		}
		u.up, u.key = nil, keyOf(d) // from here on it is the origin
		return u, nil
	}
	var addrs [2]string
	n := 1
	if d.Loopback && net.ParseIP(d.Host) == nil {
		// "localhost" is this machine whatever a resolver thinks (RFC 6761
		// §6.3).
		addrs[0], addrs[1], n = join("127.0.0.1", d.Port), join("::1", d.Port), 2
	} else {
		addrs[0] = join(d.Host, d.Port)
	}
	gen := s.pool.gen.Load()
	var c net.Conn
	var err error
	for _, addr := range addrs[:n] {
		if c, err = s.connect(ctx, addr); err == nil {
			return s.opened(c, &upConn{key: keyOf(d), gen: gen}, d.Host)
		}
	}
	return nil, dialError(err, nil, d.Host)
}

// knownTry is how long an address that was good a moment ago may take: if it has
// gone, its name may lead to others.
const knownTry = 2 * time.Second

// dialUpstream opens a connection to up, over TLS where it speaks that. An
// address that its name led to a moment ago is used again, so that not each
// connection of a burst looks the name up.
func (s *Server) dialUpstream(ctx context.Context, up *Upstream) (*upConn, error) {
	u := &upConn{up: up, key: placeKey{url: up.URL}, gen: s.pool.gen.Load()}
	k := s.about(up)
	var c net.Conn
	if addr, ok := k.address(time.Now()); ok && s.cfg.Dial == nil {
		// Not DialTCP: it would bind to a local port before it connects, and so
		// run out of ports that one destination each could share.
		kctx, cancel := context.WithTimeout(ctx, knownTry)
		var err error
		if c, err = s.dialer.DialContext(kctx, "tcp", addr); err != nil {
			c = nil
			k.forgetAddress()
		}
		cancel()
	}
	if c == nil {
		var err error
		if c, err = s.connect(ctx, up.addr()); err != nil {
			return nil, dialError(err, up, up.Host)
		}
		if t, ok := c.(*net.TCPConn); ok {
			k.learnAddress(t.RemoteAddr().String(), time.Now())
		}
	}
	if up.TLS && !s.isOwn(c.RemoteAddr()) {
		tctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
		defer cancel()
		var err error
		if c, err = s.startTLS(tctx, c, up); err != nil {
			return nil, err
		}
	}
	return s.opened(c, u, up.Host)
}

// opened makes c the connection of u, unless it leads back to us.
func (s *Server) opened(c net.Conn, u *upConn, host string) (*upConn, error) {
	if s.isOwn(c.RemoteAddr()) {
		c.Close()
		if u.up != nil {
			return nil, fail(CauseLoop, nil, "The upstream %s is Kerbpass itself.", u.up.URL)
		}
		return nil, fail(CauseLoop, nil, "%s is Kerbpass itself.", host)
	}
	u.s, u.Conn, u.rd.c = s, c, c
	if !s.track(c) {
		c.Close()
		return nil, context.Canceled
	}
	return u, nil
}

// connect opens one TCP connection. Out of file descriptors it lets the idle
// ones go and tries once more.
func (s *Server) connect(ctx context.Context, addr string) (c net.Conn, err error) {
	for again := false; ; again = true {
		if s.cfg.Dial == nil {
			c, err = s.dialer.DialContext(ctx, "tcp", addr)
		} else {
			dctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
			c, err = s.cfg.Dial(dctx, "tcp", addr)
			cancel()
		}
		if again || !noFiles(err) || !s.shed() {
			return c, err
		}
	}
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

// drain reads a response body that nobody wants, so that the connection can be
// used again; false means that it cannot.
func (u *upConn) drain(r *response) bool {
	if r.close || r.body == untilClose || r.length > maxDrain {
		return false
	}
	b := bodyReader{rd: &u.rd, kind: r.body, left: max(0, r.length)}
	u.SetReadDeadline(time.Now().Add(5 * time.Second))
	n, err := io.Copy(io.Discard, io.LimitReader(&b, maxDrain+1))
	u.lift()
	u.since = time.Now()
	return err == nil && n <= maxDrain && b.ended && len(u.rd.buffered()) == 0
}

func join(host string, port uint16) string {
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}
