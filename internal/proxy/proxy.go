// Package proxy is the local forwarding proxy: it accepts HTTP/1.x requests
// and CONNECT from this user's programs on loopback, asks its [Router] where
// each one goes, and carries it there: straight to the origin, or through an
// upstream proxy on a connection that it authenticates with Negotiate
// (RFC 4559, in the form for proxies), or through a SOCKS5 proxy, which gets no
// credentials.
//
// What it promises: every request is parsed strictly and decided anew; the
// host that was decided on is the host that is dialled; a token is made fresh
// for each upstream connection, sent to that upstream only, and seen by nobody
// else, and none is ever kept for another connection or sent twice; one made in
// advance belongs to the spare connection it was made for, is sent within half
// a minute or wiped, and is made only while there is traffic; a 407 of the
// upstream never reaches a client, and costs at most two tokens; bodies stream
// in bounded memory; nothing inside a tunnel is looked at.
//
// What it refuses: guessing at malformed requests, going direct because
// something broke, answering any scheme but the one that the upstream is set to
// be answered in: Negotiate, unless somebody said otherwise.
//
// It reads HTTP/1.1 itself instead of through net/http: connection-bound
// authentication needs to know which request travels on which connection, and
// strictness at this place is what keeps one request from becoming two.
package proxy

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"

	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Upstream is a proxy that requests are handed to. Values are immutable and
// shared: two requests use the same pooled connections only if their Upstream
// has the same URL.
type Upstream struct {
	URL  string // scheme://host:port, for keys and for people; never userinfo
	TLS  bool   // https: the proxy itself is spoken to over TLS
	Host string // as configured, without port; the SPN is built from it
	Port uint16
	// SOCKS: it is spoken to in SOCKS5 (RFC 1928), without authentication; the
	// target's host is sent as a name.
	SOCKS bool
	// NoAuth: it gets no credentials, whatever it asks for, because it is not on
	// the list of proxies that may. Its 407 is upstream_not_allowed.
	NoAuth bool
	// Scheme is what it is authenticated to with, one of the constants below; ""
	// is Negotiate. Whatever it offers, it gets that and nothing else. The switch
	// for Kerberos is not asked for the others.
	Scheme string
}

// The schemes of an [Upstream] besides Negotiate. Basic and Digest are sent with
// every request, NTLM authenticates the connection.
const (
	SchemeBasic  = "Basic"
	SchemeDigest = "Digest"
	SchemeNTLM   = "NTLM"
)

func (u *Upstream) scheme() string { return cmp.Or(u.Scheme, "Negotiate") }

// each reports whether u is known to want credentials with every request.
func (u *Upstream) each() bool { return u.Scheme == SchemeBasic || u.Scheme == SchemeDigest }

func (u *Upstream) addr() string { return join(u.Host, u.Port) }

// Authenticator starts one authentication exchange for one new upstream
// connection. Safe for concurrent use; gives up when ctx ends. An error should
// be (or wrap) an [*Error] that names the cause.
type Authenticator interface {
	Begin(ctx context.Context, upstream *Upstream) (Exchange, error)

	// Epoch changes whenever connections authenticated earlier must not be
	// used any more: another principal, a new or a destroyed ticket. It is
	// asked on every use of a pooled connection, so it has to be cheap.
	Epoch() uint64
}

// Exchange lives as long as the handshake on one connection. Next(nil) gives
// the first header value, decoded; Next(challenge) takes what the upstream
// sent behind its scheme and gives the answer, nil when there is nothing more
// to say. It is used by one goroutine. Close must be called once.
//
// What is encoded depends on the scheme: Digest's parameters stand there as
// they are, both ways, a line for each challenge; the others' data in base64.
// Digest has nothing to say at first, and after a challenge is asked with nil
// again, for the next request.
type Exchange interface {
	Scheme() string
	Next(ctx context.Context, challenge []byte) (response []byte, err error)
	Close() error
}

// Watcher is an [Exchange] that depends on the request, or has to know what
// became of its answers because a wrong one must not be given again.
type Watcher interface {
	Exchange
	// Asked names the request that the answer of Next goes with, as it is sent.
	Asked(method, target string)
	// Judged comes before Close when the upstream has accepted or refused what it
	// was sent.
	Judged(accepted bool)
}

// A Route says where one request goes.
type Route string

// The routes.
const (
	RouteDirect  Route = "direct"
	RouteProxy   Route = "proxy"
	RouteRefused Route = "refused"
)

// Decision is a Router's answer for one request.
type Decision struct {
	Route Route
	// Rule, Entry and Source say why; they are passed on to the Observer.
	Rule, Entry, Source string
	// Host is the canonical host (IPv6 without brackets). It is what is
	// dialled, what the forwarded Host field says and what the log shows.
	Host string
	Port uint16
	// Loopback: Host means this machine, whatever a resolver says.
	Loopback bool
	// Upstream is set for RouteProxy. Fallbacks are tried after it, or after the
	// target itself for RouteDirect, in order, when it cannot be reached or
	// answers 502, 503 or 504 to a CONNECT. [DirectHop] may be among them. The
	// slice is shared and not changed.
	Upstream  *Upstream
	Fallbacks []*Upstream
	// Kerberos: the switch is on. Preemptive: do not wait for a 407.
	Kerberos, Preemptive bool
	// NoTunnel refuses a CONNECT to this port (RFC 9110 §9.3.6 asks for a limit).
	NoTunnel bool
	// Refusal is the error for RouteRefused.
	Refusal *Error
}

// Router decides one request. The host comes from the request target as it
// was sent (brackets stripped, nothing decoded); Route makes it canonical, and
// everything afterwards uses Decision.Host, so that what was decided is what
// is dialled. An error means that the host is not one: the client gets 400.
// Safe for concurrent use, and fast: it is on the path of every request.
type Router interface {
	Route(ctx context.Context, host string, port uint16) (Decision, error)
}

// A TunnelRouter is a [Router] that decides otherwise where a tunnel is asked
// for, which is how https requests come: scripts are told the scheme. Without
// it Route decides both.
type TunnelRouter interface {
	Router
	RouteTunnel(ctx context.Context, host string, port uint16) (Decision, error)
}

// RouterFunc lets a plain function be a [Router].
type RouterFunc func(ctx context.Context, host string, port uint16) (Decision, error)

// Route implements [Router].
func (f RouterFunc) Route(ctx context.Context, host string, port uint16) (Decision, error) {
	return f(ctx, host, port)
}

// PeerCheck says whether the program at the other end of an accepted
// connection may use the proxy. It is asked once per connection, before a
// byte is read; any error refuses.
type PeerCheck interface {
	Allowed(local, remote netip.AddrPort) error
}

// PeerFunc lets a plain function be a [PeerCheck].
type PeerFunc func(local, remote netip.AddrPort) error

// Allowed implements [PeerCheck].
func (f PeerFunc) Allowed(local, remote netip.AddrPort) error { return f(local, remote) }

// Event is one finished request or tunnel.
type Event struct {
	Time     time.Time
	Local    netip.AddrPort // our end of the client's connection
	Remote   netip.AddrPort // the client's
	Method   string         // of HTTP; SOCKS5 and FORWARD for a tunnel of those
	Client   string         // the name that a guarded listener's client gave, "" elsewhere
	Host     string
	Port     uint16
	Route    Route
	Rule     string
	Entry    string
	Upstream string
	Status   int   // what the client was told; 200 for a tunnel
	Cause    Cause // "" when nothing went wrong
	Err      error // the cause's own words, for the log
	Up, Down int64 // body or tunnel bytes from and to the client
	Took     time.Duration
}

// AuthResult is how the last authentication at an upstream ended.
type AuthResult string

// The results.
const (
	AuthNone          AuthResult = "none"
	AuthAccepted      AuthResult = "accepted"
	AuthRefused       AuthResult = "refused"
	AuthNotChallenged AuthResult = "not_challenged"
	AuthFailed        AuthResult = "failed"
)

// AuthEvent is one authentication of one upstream connection.
type AuthEvent struct {
	Time       time.Time
	Upstream   *Upstream
	Result     AuthResult
	Cause      Cause
	TokenBytes int
	// Proven: the upstream returned a token of its own and the Exchange took it.
	Proven bool
	// Date is the upstream's own clock from its 407, zero if it sent none.
	Date time.Time
}

// Observer is told what happened. Calls come from many goroutines and must
// return at once: they stand in the way of a request.
type Observer interface {
	// Accepted comes when a client's connection has passed the PeerCheck.
	Accepted(local, remote netip.AddrPort)
	Request(Event)
	Authenticated(AuthEvent)
}

type noObserver struct{}

func (noObserver) Accepted(_, _ netip.AddrPort) {}
func (noObserver) Request(Event)                {}
func (noObserver) Authenticated(AuthEvent)      {}

// Config holds what a Server needs. New copies it.
type Config struct {
	Router   Router        // required
	Peer     PeerCheck     // required; there is no way to leave the check out by accident
	Auth     Authenticator // nil: an upstream that wants a token is kerberos_unavailable
	Observer Observer      // nil: nobody is told
	Log      *slog.Logger  // nil discards
	TLS      *tls.Config   // base for https upstreams; nil: the system's roots
	// Dial opens TCP connections; nil means a plain net.Dialer. It must not
	// look at proxy variables.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Script returns the proxy auto-configuration that sends browsers to the
	// proxy at addr, for GET /kerbpass.pac; nil: there is none.
	Script func(addr string) string
	// Name is the pseudonym in Via; a request that carries it already has gone
	// in a circle (RFC 9110 §7.6.3). Empty: "kerbpass".
	Name string
	// Limits; zero means the default in brackets.
	DialTimeout   time.Duration // one TCP and TLS connect [15s]
	HeadTimeout   time.Duration // a request head, from its first byte [30s]
	IdleTimeout   time.Duration // an idle client connection [5m]
	AnswerTimeout time.Duration // a response head; the answer to CONNECT has a fifth of it [10m]
	PoolIdle      time.Duration // an idle upstream connection [60s]
	MaxConns      int           // client connections at a time; more get 503 [what the file limit allows]
	// Spares is how many connections to an upstream may wait ready, each with
	// a token of its own, while there is traffic; zero: none.
	Spares int
}

// Sizes that bound what one peer can make us hold.
const (
	maxRequestHead  = 128 << 10
	maxResponseHead = 256 << 10 // a token in a challenge can be 64 KB
	maxFields       = 512
	maxReplay       = 256 << 10 // of a request body, kept until the upstream has answered
	maxDrain        = 256 << 10 // of a body nobody wants, read to keep a connection
	maxAttempts     = 2         // at an upstream, per client request
	maxLegs         = 5         // per handshake on one connection
	maxPooled       = 4096      // idle upstream connections, and at most half of MaxConns
	maxConns        = 32 << 10  // client connections, where nothing else limits them
)

// Server is the proxy. Make one with [New] and run it with [Server.Serve].
type Server struct {
	cfg  Config
	log  *slog.Logger
	obs  Observer
	pool pool
	// dialer opens connections where Config.Dial is nil. Keep-alive waits until
	// a connection has lived for a moment: it is four system calls.
	dialer  net.Dialer
	maxIdle int64
	now     func() time.Time // for what is made in advance

	upMu      sync.RWMutex // guards upstreams
	upstreams map[string]*known

	mu     sync.Mutex        // guards conns, young, keeper, own, done
	conns  map[net.Conn]bool // true: keep-alive is on
	young  int               // those where it is not
	keeper *time.Timer
	own    []netip.AddrPort
	done   bool

	guarded bool // a listener is a Guarded one
	open    atomic.Int64
	tunnels atomic.Int64 // of them
	wg      sync.WaitGroup
	workers workers
}

// New checks cfg and returns a Server that does nothing yet.
func New(cfg Config) (*Server, error) {
	if cfg.Router == nil || cfg.Peer == nil {
		return nil, errors.New("proxy: a Router and a PeerCheck are required")
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&cfg.DialTimeout, 15*time.Second)
	def(&cfg.HeadTimeout, 30*time.Second)
	def(&cfg.IdleTimeout, 5*time.Minute)
	def(&cfg.AnswerTimeout, 10*time.Minute)
	def(&cfg.PoolIdle, 60*time.Second)
	if cfg.MaxConns == 0 {
		cfg.MaxConns = connLimit()
	}
	if cfg.Name == "" {
		cfg.Name = "kerbpass"
	}
	s := &Server{cfg: cfg, log: cfg.Log, obs: cfg.Observer, conns: map[net.Conn]bool{}}
	s.dialer = net.Dialer{Timeout: cfg.DialTimeout, KeepAliveConfig: net.KeepAliveConfig{Enable: false}, KeepAlive: -1}
	s.now = time.Now
	s.maxIdle = int64(max(8, min(maxPooled, cfg.MaxConns/2)))
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.obs == nil {
		s.obs = noObserver{}
	}
	return s, nil
}

// Serve accepts on every listener until ctx ends or a listener fails for good,
// then closes the listeners and every connection, and returns when all it
// started is gone. A Server serves once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	if len(listeners) == 0 {
		return errors.New("proxy: no listener")
	}
	for _, l := range listeners {
		if a, err := netip.ParseAddrPort(l.Addr().String()); err == nil {
			s.own = append(s.own, unmap(a))
		}
		if d, ok := l.(*door); ok {
			s.guarded = s.guarded || d.gate != nil
			s.dialer.ControlContext = s.keepOut
		}
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	for _, l := range listeners {
		s.wg.Go(func() { stop(s.accept(ctx, l)) })
	}
	<-ctx.Done()
	for _, l := range listeners {
		l.Close()
	}
	s.pool.close()
	s.dropSpares()
	s.closeAll()
	s.workers.end()
	s.wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// accept survives everything but a closed listener: a machine out of file
// descriptors or memory recovers, and so must we.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	d, _ := l.(*door)
	var wait time.Duration
	var warned bool
	var last reserve
	last.keep()
	defer last.give()
	for {
		c, err := l.Accept()
		if noFiles(err) && ctx.Err() == nil {
			s.shed()
			// Not at once: a connection accepted just now would take the file
			// for its own other side.
			if wait > 0 {
				if more, e := last.accept(l); e == nil {
					c, err = more, nil
				}
			}
		}
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return context.Cause(ctx)
			}
			if !warned {
				s.log.Warn("accept failed, will go on", "err", err)
				warned = true
			}
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			if noFiles(err) {
				wait = min(wait, 50*time.Millisecond) // somebody may be waiting for a word
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(wait):
			}
			continue
		}
		wait = 0
		if !s.track(c) {
			c.Close()
			continue
		}
		if last.keep(); last.given {
			s.turnAway(c, d, s.open.Load())
			continue
		}
		warned = false
		if n := s.open.Load(); n >= int64(s.cfg.MaxConns) {
			s.turnAway(c, d, n)
			continue
		}
		s.open.Add(1)
		s.workers.run(&s.wg, func() {
			if !s.serveConn(ctx, c, d) {
				s.untrack(c)
				s.open.Add(-1)
			}
		})
	}
}

// maxTurnedAway bounds the connections that are being told why.
const maxTurnedAway = 32

// turnAway answers 503 to a connection that is one too many. It takes no file
// beyond the connection's own and no time of the accept loop's.
func (s *Server) turnAway(c net.Conn, d *door, n int64) {
	if n >= int64(s.cfg.MaxConns+maxTurnedAway) {
		s.untrack(c)
		return
	}
	s.open.Add(1)
	s.wg.Go(func() {
		defer s.open.Add(-1)
		defer s.untrack(c)
		e := &Error{Cause: CauseInternal, busy: true}
		c.SetDeadline(time.Now().Add(2 * time.Second))
		c.Write(d.denial(e))
		s.obs.Request(Event{Time: time.Now(), Route: RouteRefused, Cause: e.Cause, Status: e.status(), Err: e})
		closeWrite(c)
		io.CopyN(io.Discard, c, maxDrain)
	})
}

// Flush closes every idle upstream connection at once. Running requests and
// tunnels finish on theirs, which are then closed and not pooled (G3).
func (s *Server) Flush() {
	s.pool.flush()
	s.dropSpares()
}

// Open is the number of client connections, tunnels included.
func (s *Server) Open() int { return int(s.open.Load()) }

// Tunnels is the number of open tunnels among them.
func (s *Server) Tunnels() int { return int(s.tunnels.Load()) }

// keepAliveAfter is how long a connection may live before keep-alive probes
// are switched on for it: most end sooner.
const keepAliveAfter = 15 * time.Second

// track remembers a connection so that Serve can end it.
func (s *Server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return false
	}
	s.conns[c] = false
	if s.young++; s.keeper == nil {
		s.keeper = time.AfterFunc(keepAliveAfter, s.keepAlive)
	}
	return true
}

func (s *Server) untrack(c net.Conn) {
	s.mu.Lock()
	if on, ok := s.conns[c]; ok && !on {
		s.young--
	}
	delete(s.conns, c)
	s.mu.Unlock()
	c.Close()
}

// keepAlive switches keep-alive on for the connections that are open now. It
// runs again only when there are new ones.
func (s *Server) keepAlive() {
	s.mu.Lock()
	list := make([]net.Conn, 0, s.young)
	for c, on := range s.conns {
		if !on {
			list = append(list, c)
			s.conns[c] = true
		}
	}
	s.young, s.keeper = 0, nil
	s.mu.Unlock()
	for _, c := range list {
		if t, ok := c.(*tls.Conn); ok {
			c = t.NetConn()
		}
		if t, ok := c.(*net.TCPConn); ok {
			t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true})
		}
	}
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = true
	if s.keeper != nil {
		s.keeper.Stop()
	}
	for c := range s.conns {
		c.Close()
	}
}

// isOwn reports whether addr is one of our listeners.
func (s *Server) isOwn(addr net.Addr) bool {
	t, ok := addr.(*net.TCPAddr)
	if !ok {
		return false
	}
	a := unmap(t.AddrPort())
	for _, own := range s.own {
		if own.Port() == a.Port() && (own.Addr() == a.Addr() || own.Addr().IsUnspecified() && isOwnAddr(a.Addr())) {
			return true
		}
	}
	return false
}

// isOwnAddr reports whether a is an address of this machine. One that cannot
// be told from others is.
func isOwnAddr(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	for _, i := range addrs {
		if n, ok := i.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == a.WithZone("") {
				return true
			}
		}
	}
	return err != nil
}

func isLoopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
