package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kerbpass/internal/proxy"
	"kerbpass/internal/ticket"
)

// tickets holds the ticket manager in use. Another cache in the settings means
// another manager; a backend that does not exist means none.
type tickets struct {
	log     *slog.Logger
	changed func()

	mu     sync.Mutex // guards what follows
	cache  string
	remind time.Duration
	used   bool
	stop   context.CancelFunc // of the current manager's Run, once running
	ctx    context.Context    // of run, nil before
	wg     sync.WaitGroup

	cur atomic.Pointer[current]
	gen atomic.Uint64
}

// current is one manager, or the reason why there is none.
type current struct {
	*ticket.Manager
	backend ticket.Backend
	err     error
}

func newTickets(log *slog.Logger, changed func()) *tickets {
	return &tickets{log: log, changed: changed}
}

// use switches to a cache, "" for the system's default, and reports whether
// that was a change.
func (t *tickets) use(cache string, remind time.Duration) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used && t.cache == cache && t.remind == remind {
		return false
	}
	t.used, t.cache, t.remind = true, cache, remind
	cur := openTickets(cache, remind, t.log, func(ticket.Snapshot) { t.changed() })
	t.gen.Add(1)
	t.cur.Store(cur)
	if t.stop != nil {
		t.stop()
	}
	t.start()
	return true
}

// openTickets opens the first backend that works here.
func openTickets(cache string, remind time.Duration, log *slog.Logger, onChange func(ticket.Snapshot)) *current {
	b, err := openBackend(cache, log)
	if err != nil {
		log.Error("no Kerberos backend", "err", err)
		return &current{err: err}
	}
	m, err := ticket.NewManager(ticket.Config{Backend: b, RemindBefore: remind, Log: log, OnChange: onChange})
	if err != nil {
		return &current{err: err}
	}
	return &current{Manager: m, backend: b}
}

// start runs the current manager if run has been called. The caller holds mu.
func (t *tickets) start() {
	cur := t.cur.Load()
	if t.ctx == nil || cur.Manager == nil {
		return
	}
	var ctx context.Context
	ctx, t.stop = context.WithCancel(t.ctx)
	t.wg.Go(func() { cur.Run(ctx) })
}

// run watches the tickets until ctx ends.
func (t *tickets) run(ctx context.Context) error {
	t.mu.Lock()
	t.ctx = ctx
	t.start()
	t.mu.Unlock()
	<-ctx.Done()
	t.mu.Lock()
	if t.stop != nil {
		t.stop()
	}
	t.mu.Unlock()
	t.wg.Wait()
	return nil
}

// forget drops what is remembered about KDCs that did not answer.
func (t *tickets) forget() {
	if cur := t.cur.Load(); cur.Manager != nil {
		cur.Forget()
	}
}

// snapshot reads the ticket in use.
func (c *current) snapshot(ctx context.Context) ticket.Snapshot {
	if c.Manager == nil {
		return ticket.Snapshot{State: ticket.StateUnavailable, Err: c.err}
	}
	return c.Status(ctx)
}

// authenticator is the app as the proxy's Authenticator: one Kerberos token in
// one leg for each upstream connection.
type authenticator app

// Begin implements [proxy.Authenticator].
func (a *authenticator) Begin(ctx context.Context, up *proxy.Upstream) (proxy.Exchange, error) {
	cur := a.tickets.cur.Load()
	if cur.Manager == nil {
		return nil, &proxy.Error{Cause: proxy.CauseKerberosUnavailable, Err: cur.err}
	}
	p := a.now.Load()
	spn, err := servicePrincipal(ctx, up, p.spn, p.canonical)
	if err != nil {
		return nil, err
	}
	return &exchange{cur, spn}, nil
}

// Epoch implements [proxy.Authenticator].
func (a *authenticator) Epoch() uint64 {
	cur := a.tickets.cur.Load()
	if cur.Manager == nil {
		return a.tickets.gen.Load() << 32
	}
	return a.tickets.gen.Load()<<32 + cur.Epoch()
}

// servicePrincipal is HTTP/ and the upstream's name as configured: no port, no
// trailing dot, never an address (RFC 4559 §4.1; nothing is canonicalised
// unless the settings say so).
func servicePrincipal(ctx context.Context, up *proxy.Upstream, override, canonicalize string) (string, error) {
	if override != "" {
		return override, nil
	}
	host := strings.TrimSuffix(strings.ToLower(up.Host), ".")
	if _, err := netip.ParseAddr(host); err == nil {
		return "", &proxy.Error{Cause: proxy.CauseSPNUnknown, Detail: "The upstream " + up.URL + " is given as an address; Kerberos knows proxies by name."}
	}
	if canonicalize == "cname" {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if name, err := net.DefaultResolver.LookupCNAME(ctx, host); err == nil && name != "" {
			host = strings.TrimSuffix(strings.ToLower(name), ".")
		}
	}
	return "HTTP/" + host, nil
}

type exchange struct {
	tickets *current
	spn     string
}

// Scheme implements [proxy.Exchange].
func (*exchange) Scheme() string { return "Negotiate" }

// Next implements [proxy.Exchange]. Our first token is complete, so an answer
// to it can only confirm or end the negotiation.
func (e *exchange) Next(ctx context.Context, challenge []byte) ([]byte, error) {
	if challenge != nil {
		return nil, ticket.CheckReply(challenge)
	}
	tok, err := e.tickets.Token(ctx, e.spn)
	if err != nil {
		return nil, tokenError(err, e.spn)
	}
	return tok, nil
}

// Close implements [proxy.Exchange].
func (*exchange) Close() error { return nil }

// tokenError names the cause of a token that could not be made.
func tokenError(err error, spn string) error {
	e := &proxy.Error{Cause: proxy.CauseInternal, Err: err}
	switch {
	case errors.Is(err, ticket.ErrExpired):
		e.Cause = proxy.CauseTicketExpired
	case errors.Is(err, ticket.ErrNoTicket):
		e.Cause = proxy.CauseNoTicket
	case errors.Is(err, ticket.ErrKDCUnreachable):
		e.Cause = proxy.CauseKDCUnreachable
	case errors.Is(err, ticket.ErrSPNUnknown):
		e.Cause, e.Detail = proxy.CauseSPNUnknown, fmt.Sprintf("The name asked for was %s.", spn)
	case errors.Is(err, ticket.ErrClockSkew):
		e.Cause = proxy.CauseClockSkew
	case errors.Is(err, ticket.ErrCache):
		e.Cause, e.Detail = proxy.CauseNoTicket, "The ticket cache cannot be read."
	case errors.Is(err, errors.ErrUnsupported):
		e.Cause = proxy.CauseKerberosUnavailable
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	return e
}
