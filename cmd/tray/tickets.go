package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kerbpass/internal/proxy"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
)

// tickets holds the ticket manager in use. Other settings mean another manager;
// a backend that does not exist means none.
type tickets struct {
	log      *slog.Logger
	changed  func()
	reminded func(ticket.Reminder)
	keyring  passwords
	refused  func(principal string) // a remembered password was; may be nil
	memory   *ticket.Memory         // of all managers, one after the other
	unsafe   sync.Map               // principals whose refused password could not be forgotten

	mu   sync.Mutex // guards what follows
	cfg  *ticketConfig
	stop context.CancelFunc // of the current manager's Run, once running
	ctx  context.Context    // of run, nil before
	wg   sync.WaitGroup

	cur atomic.Pointer[current]
}

// ticketConfig is what the settings say about tickets.
type ticketConfig struct {
	cache      string // "" is the system's default
	service    string // SPN of the first upstream, "" if there is none
	remind     time.Duration
	renew      ticket.RenewMode
	remembered string // principal whose password the keyring holds
}

func ticketConfigOf(snap *settings.Snapshot) ticketConfig {
	c := ticketConfig{cache: snap.KerberosCache, remind: snap.KerberosRemindBefore, renew: ticket.RenewMode(snap.KerberosRenew),
		remembered: snap.KerberosRemember}
	if len(snap.Upstream) > 0 {
		if up, err := parseUpstream(snap.Upstream[0]); err == nil {
			c.service, _ = servicePrincipal(context.Background(), up, snap.KerberosSPN, "off")
		}
	}
	return c
}

// current is one manager, or the reason why there is none.
type current struct {
	*ticket.Manager
	backend ticket.Backend
	err     error
	number  uint64 // of the managers so far
}

// clientKeytab is the keytab that MIT's library signs in with by itself.
func clientKeytab(getenv func(string) string) string {
	return strings.TrimPrefix(getenv("KRB5_CLIENT_KTNAME"), "FILE:")
}

// passwords is the keyring, as far as the helper uses it by itself.
type passwords interface {
	Get(ctx context.Context, principal string) (ticket.Secret, error)
	Delete(ctx context.Context, principal string) error
}

func newTickets(log *slog.Logger, keyring passwords, changed func(), reminded func(ticket.Reminder)) *tickets {
	return &tickets{log: log, keyring: keyring, changed: changed, reminded: reminded, memory: ticket.NewMemory()}
}

// use switches to other settings and reports whether that was a change.
func (t *tickets) use(c ticketConfig) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cfg != nil && *t.cfg == c {
		return false
	}
	if t.cfg != nil && t.cfg.remembered != c.remembered {
		t.unsafe.Delete(c.remembered) // somebody has signed in with it since
	}
	t.cfg = &c
	mc := ticket.Config{Log: t.log, Memory: t.memory, OnChange: func(ticket.Snapshot) { t.changed() }, OnReminder: t.reminded}
	if t.keyring != nil {
		mc.Recall, mc.Rejected = t.recall, t.forgetPassword
	}
	cur := openTickets(c, mc)
	if old := t.cur.Load(); old != nil {
		cur.number = old.number + 1
	}
	t.cur.Store(cur)
	if t.stop != nil {
		t.stop()
	}
	t.start()
	return true
}

// recall fetches a remembered password, unless it is known to be wrong.
func (t *tickets) recall(ctx context.Context, principal string) (ticket.Secret, error) {
	if _, wrong := t.unsafe.Load(principal); wrong {
		return ticket.Secret{}, errors.New("it was refused, and could not be removed from the keyring")
	}
	return t.keyring.Get(ctx, principal)
}

// forgetPassword removes a remembered password that the KDC did not take: used
// again, it could lock the account.
func (t *tickets) forgetPassword(principal string, why error) {
	ctx, cancel := context.WithTimeout(context.Background(), keyringLimit)
	defer cancel()
	t.log.Warn("remembered password was refused and is forgotten", "principal", principal, "err", why)
	if err := t.keyring.Delete(ctx, principal); err != nil {
		t.unsafe.Store(principal, true)
		t.log.Error("remembered password cannot be removed from the keyring", "principal", principal, "err", err)
	}
	if t.refused != nil {
		t.refused(principal)
	}
}

// openTickets opens the first backend that works here.
func openTickets(c ticketConfig, mc ticket.Config) *current {
	if mc.Log == nil {
		mc.Log = slog.New(slog.DiscardHandler)
	}
	b, err := openBackend(c.cache, c.service, mc.Log)
	if err != nil {
		mc.Log.Error("no Kerberos backend", "err", err)
		return &current{err: err}
	}
	mc.Backend, mc.RemindBefore, mc.Renew, mc.Remembered = b, c.remind, c.renew, c.remembered
	if c.service != "" {
		mc.Services = []string{c.service}
	}
	m, err := ticket.NewManager(mc)
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
// one leg for each upstream connection, or a login where the settings say so.
type authenticator app

// Begin implements [proxy.Authenticator].
func (a *authenticator) Begin(ctx context.Context, up *proxy.Upstream) (proxy.Exchange, error) {
	if up.Scheme != "" {
		return (*app)(a).beginLogin(ctx, up)
	}
	cur := a.tickets.cur.Load()
	if cur.Manager == nil {
		return nil, &proxy.Error{Cause: proxy.CauseKerberosUnavailable, Err: cur.err}
	}
	p := a.now.Load()
	spn, err := servicePrincipal(ctx, up, p.spn, p.canonical)
	if err != nil {
		return nil, err
	}
	return &exchange{cur, spn, &a.meter}, nil
}

// Epoch implements [proxy.Authenticator].
func (a *authenticator) Epoch() uint64 {
	cur := a.tickets.cur.Load()
	if cur.Manager == nil {
		return cur.number << 32
	}
	return cur.number<<32 + cur.Epoch()
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
		host = canonicalName(ctx, host)
	}
	return "HTTP/" + host, nil
}

type exchange struct {
	tickets *current
	spn     string
	meter   *meter
}

// Scheme implements [proxy.Exchange].
func (*exchange) Scheme() string { return "Negotiate" }

// Next implements [proxy.Exchange]. Our first token is complete, so an answer
// to it can only confirm or end the negotiation.
func (e *exchange) Next(ctx context.Context, challenge []byte) ([]byte, error) {
	if challenge != nil {
		return nil, ticket.CheckReply(challenge)
	}
	from := time.Now()
	tok, err := e.tickets.Token(ctx, e.spn)
	if err != nil {
		return nil, tokenError(err, e.spn)
	}
	e.meter.token(time.Since(from))
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
