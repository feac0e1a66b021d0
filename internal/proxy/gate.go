package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A Gate decides who of other machines may use the proxy: from which networks,
// and with which secrets. The rules change at any time, for the next connection
// and the next request; the zero rules admit nobody. Secrets are compared by
// their SHA-256 and in constant time, so they must be random, of 128 bits or
// more. Safe for concurrent use.
type Gate struct {
	rules atomic.Pointer[GateRules]
	log   *slog.Logger
	now   func() time.Time

	mu    sync.Mutex              // guards wrong
	wrong map[netip.Addr]*strikes // by source; an IPv6 one by its /64
}

// GateRules is one immutable set of rules.
type GateRules struct {
	Open    bool           // false: nobody
	Allow   []netip.Prefix // nobody else gets a byte
	Clients []GateClient
}

// GateClient is one who may use the proxy.
type GateClient struct {
	Name string
	Sum  [sha256.Size]byte // of the secret
}

// strikes are the wrong credentials of one source.
type strikes struct {
	n    int
	last time.Time
}

const (
	maxWrong    = 10          // wrong credentials of one source in a row of
	strikesLast = time.Minute // so much time; it then waits as long
	maxSources  = 1024        // that are remembered
)

// NewGate returns a Gate that admits nobody yet. A nil log discards.
func NewGate(log *slog.Logger) *Gate {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := &Gate{log: log, now: time.Now, wrong: map[netip.Addr]*strikes{}}
	g.Set(GateRules{})
	return g
}

// Set replaces the rules. It keeps r's slices.
func (g *Gate) Set(r GateRules) { g.rules.Store(&r) }

var (
	errGateShut    = errors.New("the gateway is switched off")
	errGateSource  = errors.New("the address is in no network of gateway.allow")
	errGateStrikes = errors.New("too many wrong secrets from this address")
	errGateLogin   = errors.New("no credentials")
	errGateSecret  = errors.New("wrong name or secret")
)

// admit says whether a connection may be read from.
func (g *Gate) admit(remote netip.Addr) error {
	r := g.rules.Load()
	if !r.Open {
		return errGateShut
	}
	addr := remote.Unmap().WithZone("")
	for _, p := range r.Allow {
		if p.Contains(addr) {
			if g.blocked(addr) {
				return errGateStrikes
			}
			return nil
		}
	}
	return errGateSource
}

// login returns the name that the request's credentials belong to.
func (g *Gate) login(remote netip.Addr, fields []field) (name string, err error) {
	if err := g.admit(remote); err != nil { // the rules may have changed since it connected, or it has guessed
		return "", err
	}
	var header []byte
	for _, f := range fields {
		if is(f.name, "proxy-authorization") {
			if header != nil {
				return "", g.strike(remote)
			}
			header = f.value
		}
	}
	if header == nil {
		return "", errGateLogin
	}
	scheme, coded, _ := strings.Cut(string(header), " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", errGateLogin
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(coded))
	name, secret, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return "", g.strike(remote)
	}
	r := g.rules.Load()
	if !r.Open {
		return "", errGateShut
	}
	sum, found := sha256.Sum256([]byte(secret)), 0
	for _, c := range r.Clients { // all of them, however early one fits
		found |= subtle.ConstantTimeCompare(sum[:], c.Sum[:]) & subtle.ConstantTimeCompare([]byte(name), []byte(c.Name))
	}
	if found == 0 {
		return "", g.strike(remote)
	}
	return name, nil
}

func source(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		p, _ := a.Prefix(64)
		return p.Addr()
	}
	return a
}

func (g *Gate) blocked(a netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.wrong[source(a)]
	if s != nil && g.now().Sub(s.last) > strikesLast {
		delete(g.wrong, source(a))
		return false
	}
	return s != nil && s.n >= maxWrong
}

// strike counts wrong credentials, of which nothing is said but where they
// came from.
func (g *Gate) strike(a netip.Addr) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	key, now := source(a), g.now()
	s := g.wrong[key]
	if s == nil || now.Sub(s.last) > strikesLast {
		if s == nil && len(g.wrong) >= maxSources {
			g.forget(now)
		}
		s = &strikes{}
		g.wrong[key] = s
	}
	s.n++
	s.last = now
	switch s.n {
	case 1:
		g.log.Warn("gateway: wrong name or secret", "from", a.String())
	case maxWrong:
		g.log.Warn("gateway: too many wrong secrets, the address has to wait", "from", a.String(), "wait", strikesLast)
	}
	return errGateSecret
}

// forget makes room: what is over, and the oldest. The caller holds g.mu.
func (g *Gate) forget(now time.Time) {
	var oldest netip.Addr
	for a, s := range g.wrong {
		if now.Sub(s.last) > strikesLast {
			delete(g.wrong, a)
		} else if o := g.wrong[oldest]; o == nil || s.last.Before(o.last) {
			oldest = a
		}
	}
	if len(g.wrong) >= maxSources {
		delete(g.wrong, oldest)
	}
}

// login asks for credentials at a guarded listener. It reports whether the
// request goes on.
func (c *session) login(ev *Event) (e *Error) {
	g := c.door.guard()
	if g == nil {
		return nil
	}
	name, err := g.login(c.remote.Addr(), c.req.fields)
	if err != nil {
		return &Error{Cause: CauseNotYourUser, Err: err, login: true,
			Text: "This gateway needs a name and a secret.", Hint: "On the machine of Kerbpass, run kerbpass gateway add NAME, and use the proxy address that it prints."}
	}
	ev.Client = name
	return nil
}

// guestKey marks the context of a client whose dials are looked at.
type guestKey struct{}

// guest is what they are judged by.
type guest struct {
	direct atomic.Bool // a gateway's client, and the request goes to its target itself
	fixed  bool        // a forward's: each connection to it makes another one
}

// errOwnLoopback: a guest asked for this machine.
var errOwnLoopback = &Error{Cause: CausePolicy, Text: "The gateway leads to no address of the machine it runs on.",
	Hint: "Use an address of that machine that your network reaches by itself."}

// keepOut is the dialer's ControlContext: before anything is sent, and
// whatever a name resolved to, a gateway's client does not get to this machine,
// and a forward not back to a listener.
func (s *Server) keepOut(ctx context.Context, _, address string, _ syscall.RawConn) error {
	g, ok := ctx.Value(guestKey{}).(*guest)
	if !ok {
		return nil
	}
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if ip := a.Addr().Unmap(); g.direct.Load() && (isOwnAddr(ip)) {
		return errOwnLoopback
	}
	if g.fixed && s.isOwn(net.TCPAddrFromAddrPort(a)) {
		return fail(CauseLoop, nil, "%s is Kerbpass itself.", address)
	}
	return nil
}

// refuseGuest keeps a guest from what only this machine's own user may reach.
func (c *session) refuseGuest(d *Decision) *Error {
	if c.guest == nil {
		return nil
	}
	c.guest.direct.Store(c.door.guard() != nil && d.Route == RouteDirect)
	if d.Loopback && c.door.guard() != nil {
		return errOwnLoopback
	}
	return nil
}
