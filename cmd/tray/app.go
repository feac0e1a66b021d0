package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kerbpass/internal/control"
	"kerbpass/internal/netwatch"
	"kerbpass/internal/peer"
	organisation "kerbpass/internal/policy"
	"kerbpass/internal/proxy"
	"kerbpass/internal/route"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
)

// appConfig is what an app is built from.
type appConfig struct {
	store   *settings.Store
	log     *slog.Logger
	control net.Listener // nil: no control channel; closed by run

	keyring passwords            // nil: no password is remembered
	logins  loginPasswords       // nil: no upstream gets a password
	system  *systemProxies       // nil: not asked
	policy  *organisation.Source // nil: none

	pacCommand []string // runs configuration scripts; nil: this program

	// For the demo and tests: how to dial, whom to trust.
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	tls  *tls.Config
}

// app is the running helper: settings, ticket, proxy and control channel.
type app struct {
	cfg       appConfig
	log       *slog.Logger
	listeners []net.Listener
	doors     *doors
	meter     meter
	proxy     *proxy.Server
	tickets   *tickets
	state     *state
	quit      context.CancelFunc
	services  []func(context.Context) error // more to run, of the desktop

	notice     notice                          // of changes to what is shown
	onReminder func(ticket.Reminder)           // nil: nobody looks
	openWindow func(ctx context.Context) error // nil: there is no desktop
	pageLink   func(ctx context.Context) (string, error)

	adopting sync.Mutex      // held while settings are adopted; guards what follows
	told     map[string]bool // problems of the settings that were logged
	paused   time.Time       // Kerberos is off until then
	resume   *time.Timer     // ends the pause; nil: none

	closing sync.WaitGroup // scripts that are not in use any more

	// now is what requests are decided from, replaced as a whole.
	now atomic.Pointer[policy]
}

// policy is one immutable picture of the settings, made for the request path.
type policy struct {
	table      *route.Table
	upstreams  []*proxy.Upstream        // in order of preference
	logins     map[string]*loginAccount // by upstream: those that want a password
	kerberos   bool
	preemptive bool
	withheld   bool // a policy is broken: no credentials of any kind
	spn        string
	canonical  string
	anyUser    bool
	peers      *peer.Checker
	allow      []string
	ports      [][2]uint16 // of CONNECT; empty: every one
	script     *pacScript  // nil: none decides
	tokens     tokenList   // further upstreams that may have tokens
}

// newApp opens the listeners and builds the parts; run starts them.
func newApp(cfg appConfig) (*app, error) {
	a := &app{cfg: cfg, log: cfg.log}
	snap := cfg.store.Snapshot()
	var err error
	if a.listeners, err = listen(snap.Listen, a.log); err != nil {
		return nil, err
	}
	a.doors = openDoors(snap, a.log)
	a.state = newState(a)
	a.tickets = newTickets(a.log, cfg.keyring, func() { a.flush("ticket changed"); a.changed() }, a.reminded)
	a.tickets.refused = a.forgetRemembered
	if err := a.adopt(snap); err != nil {
		a.closeListeners()
		return nil, err
	}
	a.proxy, err = proxy.New(proxy.Config{
		Router: (*router)(a), Peer: proxy.PeerFunc(a.allowed), Auth: (*authenticator)(a),
		Observer: a.state, Log: a.log, Dial: cfg.dial, TLS: cfg.tls, Name: pseudonym(), Spares: 8,
		Script: func(addr string) string { return ownScript(a.now.Load().table, addr) },
	})
	if err != nil {
		a.endScript()
		a.closeListeners()
		return nil, err
	}
	return a, nil
}

// pseudonym names this instance in Via, without naming the machine; it must
// differ between instances, or two of them in a row would look like a loop.
func pseudonym() string {
	var b [4]byte
	rand.Read(b[:])
	return "kerbpass-" + hex.EncodeToString(b[:])
}

func (a *app) closeListeners() {
	for _, l := range slices.Concat(a.listeners, a.doors.list) {
		l.Close()
	}
}

// run serves until ctx ends, quit is called, or a part fails.
func (a *app) run(ctx context.Context) error {
	ctx, a.quit = context.WithCancel(ctx)
	defer a.quit()
	defer func() {
		a.adopting.Lock()
		if a.resume != nil {
			a.resume.Stop()
		}
		a.adopting.Unlock()
		a.endScript()
		if p := a.now.Load(); p.peers != nil {
			p.peers.Close()
		}
	}()
	cancel := a.cfg.store.Subscribe(func(*settings.Snapshot) {
		if err := a.adoptCurrent(); err != nil {
			a.log.Error("settings not adopted", "err", err)
		}
	})
	defer cancel()
	services := []func(context.Context) error{
		func(ctx context.Context) error {
			return a.proxy.Serve(ctx, slices.Concat(a.listeners, a.doors.list)...)
		},
		a.cfg.store.Run,
		a.tickets.run,
		a.state.clients.run,
		a.watchNetwork,
		a.watchPolicy,
	}
	services = append(services, a.services...)
	if a.cfg.control != nil {
		srv, err := control.New(control.Config{Allow: sameUser, Handler: a.handler(), Log: a.log})
		if err != nil {
			return err
		}
		services = append(services, func(ctx context.Context) error { return srv.Serve(ctx, a.cfg.control) })
	}
	p := a.now.Load()
	a.log.Info("listening", "addr", a.addrs(), "upstream", p.upstreamURLs(), "kerberos", p.kerberos)
	services = append(services, func(ctx context.Context) error { return a.giveBack(ctx, a.proxy.Open, unmapProgram) })
	return runAll(ctx, services...)
}

const (
	afterStart = 400 * time.Millisecond // nothing of the start is under way any more
	restEvery  = 3 * time.Minute        // looked whether the program rests
)

// giveBack returns the memory that only the start needed, and later what only
// the window or another rare action did, while no connection is open. The heap
// stays as it is: collecting it would map more of the program again than it
// frees.
func (a *app) giveBack(ctx context.Context, open func() int, unmap func() error) error {
	for wait := afterStart; ; wait = restEvery {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if open() > 0 {
			continue
		}
		if err := unmap(); err != nil {
			if !errors.Is(err, errors.ErrUnsupported) {
				a.log.Debug("pages not given back", "err", err)
			}
			<-ctx.Done()
			return nil
		}
	}
}

// watchNetwork starts afresh when the machine wakes up or the network changes:
// idle connections are dead or lead to the wrong place, and what failed a
// moment ago may work.
func (a *app) watchNetwork(ctx context.Context) error {
	w, err := netwatch.New(netwatch.Config{Log: a.log})
	if err != nil {
		return err
	}
	return w.Run(ctx, func(e netwatch.Event) {
		a.forget("network: " + e.Reason)
		if s := a.now.Load().script; s != nil {
			s.finder.Refresh()
		}
		a.cfg.system.look()
	})
}

// runAll starts every service, stops them all once the first one ends, and
// returns why, after the last one is gone. A service that returns nil was
// asked to stop or has finished; neither is a failure.
func runAll(ctx context.Context, services ...func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var wg sync.WaitGroup
	for _, serve := range services {
		wg.Go(func() { stop(serve(ctx)) })
	}
	wg.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (a *app) addrs() (all []string) {
	for _, l := range a.listeners {
		all = append(all, l.Addr().String())
	}
	return all
}

// listen opens the listeners. A family that this machine does not have is left
// out; everything else that fails is an error.
func listen(addrs []string, log *slog.Logger) (all []net.Listener, err error) {
	for i, addr := range addrs {
		if slices.Contains(addrs[:i], addr) && !strings.HasSuffix(addr, ":0") {
			continue
		}
		l, e := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", addr) // the proxy switches it on for what lives
		switch {
		case e == nil:
			all = append(all, l)
		case errors.Is(e, syscall.EADDRNOTAVAIL), errors.Is(e, syscall.EAFNOSUPPORT):
			log.Warn("address not available on this machine, left out", "addr", addr)
		default:
			err = failf(exitFailed, "Give another one with --listen, or in the settings.", "Cannot listen on %s: %v.", addr, e)
			if errors.Is(e, syscall.EADDRINUSE) {
				err = failf(exitFailed, "End that program, or give another address with --listen.", "%s is in use%s.", addr, portOwner(addr))
			}
		}
	}
	if err == nil && len(all) == 0 {
		err = failf(exitFailed, "Give an address with --listen.", "There is no address to listen on.")
	}
	if err != nil {
		for _, l := range all {
			l.Close()
		}
		return nil, err
	}
	return all, nil
}

// portOwner names the program that has a port, as far as it can be found.
func portOwner(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return ""
	}
	pid, program, err := peer.Owner(ap)
	if err != nil {
		return ""
	}
	return fmt.Sprintf(" by %s (process %d)", program, pid)
}

// adopt makes snap what the next request is decided from.
func (a *app) adopt(snap *settings.Snapshot) error {
	a.adopting.Lock()
	defer a.adopting.Unlock()
	return a.adoptLocked(snap)
}

// adoptCurrent adopts the settings in force once it is its turn, so that an older
// picture never replaces a newer one.
func (a *app) adoptCurrent() error {
	a.adopting.Lock()
	defer a.adopting.Unlock()
	return a.adoptLocked(a.cfg.store.Snapshot())
}

func (a *app) adoptLocked(snap *settings.Snapshot) error {
	if mayPause(snap) != nil { // the organisation has locked the switch meanwhile
		a.stopPause()
	}
	kerberos := snap.KerberosEnabled && a.pauseEnd(time.Now()).IsZero()
	exact, bad := route.ParseExact(snap.BypassExact)
	for _, e := range bad {
		a.log.Warn("bypass entry left out", "reason", entryError(&e))
	}
	suffix, bad := route.ParseSuffix(strings.Join(snap.NoProxy, ","))
	for _, e := range bad {
		a.log.Warn("no_proxy entry never matches", "reason", entryError(&e))
	}
	p := &policy{
		withheld: snap.Withheld,
		kerberos: kerberos, preemptive: snap.KerberosPreemptive, spn: snap.KerberosSPN, canonical: snap.KerberosCanonicalize,
		anyUser: !snap.SameUserOnly, allow: snap.AllowUsers,
		table: &route.Table{
			Exact: exact, ExactSource: string(snap.Origins["bypass.exact"].Source),
			Suffix: suffix, SuffixSource: string(snap.Origins["no_proxy"].Source),
			UpstreamSource: string(snap.Origins["upstream"].Source), Kerberos: kerberos,
			Self: a.isSelf,
		},
	}
	for _, s := range snap.ConnectPorts {
		p.ports = append(p.ports, portRange(s))
	}
	old := a.now.Load()
	p.logins = a.accounts(snap, old)
	for _, s := range snap.Upstream {
		up, err := parseUpstream(s)
		if err != nil {
			return err
		}
		p.upstreams = append(p.upstreams, p.withLogin(up))
	}
	if len(p.upstreams) > 0 {
		p.table.Upstream = p.upstreams[0].URL
	}
	p.tokens = slices.Concat(tokenList(snap.KerberosUpstreams), tokenList(a.cfg.system.allowed()))
	if old != nil && fmt.Sprint(old.allow) == fmt.Sprint(p.allow) {
		p.peers = old.peers
	} else if err := p.openPeers(a.log); err != nil {
		return err
	}
	if err := a.useScript(snap, old, p); err != nil {
		return err
	}
	a.now.Store(p)
	for _, key := range a.doors.adopt(snap) {
		a.log.Warn("this setting counts from the next start", "setting", key)
	}
	a.tellProblems(snap)
	if old != nil && old.script != nil && old.script != p.script {
		a.closing.Go(old.script.finder.Close)
	}
	if old != nil && old.peers != p.peers && old.peers != nil {
		old.peers.Close()
	}
	if a.tickets.use(ticketConfigOf(snap)) || old != nil &&
		(old.kerberos != p.kerberos || old.spn != p.spn || old.canonical != p.canonical || !slices.Equal(old.upstreamURLs(), p.upstreamURLs()) ||
			!sameLogins(old, p) || old.script != p.script || !slices.Equal(old.tokens, p.tokens)) {
		a.forget("settings changed")
	}
	a.changed()
	return nil
}

// changed tells whoever looks that something may look different now.
func (a *app) changed() { a.notice.tell() }

// forgetRemembered takes the principal out of the settings, so that the next
// start does not try the refused password again, whatever the keyring did.
func (a *app) forgetRemembered(principal string) {
	store := a.cfg.store
	if store.Snapshot().KerberosRemember != principal {
		return
	}
	if err := store.Edit(func(e *settings.Edit) error { return e.Set("kerberos.remember", "") }); err != nil {
		a.log.Error("settings still name a principal whose password was refused", "principal", principal, "err", err)
	}
}

func (a *app) reminded(r ticket.Reminder) {
	if a.onReminder != nil {
		a.onReminder(r)
	}
}

// tellProblems logs what is wrong in the settings, each mistake once while it
// lasts. The caller holds a.adopting.
func (a *app) tellProblems(snap *settings.Snapshot) {
	now := map[string]bool{}
	for _, p := range snap.Problems {
		text := p.String()
		if now[text] = true; !a.told[text] {
			a.log.Warn("settings", "problem", text)
		}
	}
	a.told = now
}

// portRange reads "443" or "8000-8999", already validated by the settings.
func portRange(s string) (r [2]uint16) {
	from, to, isRange := strings.Cut(s, "-")
	if !isRange {
		to = from
	}
	a, _ := strconv.ParseUint(from, 10, 16)
	b, _ := strconv.ParseUint(to, 10, 16)
	return [2]uint16{uint16(a), uint16(b)}
}

// noTunnel reports whether the settings keep tunnels from a port.
func (p *policy) noTunnel(port uint16) bool {
	return len(p.ports) > 0 && !slices.ContainsFunc(p.ports, func(r [2]uint16) bool { return r[0] <= port && port <= r[1] })
}

func (p *policy) upstreamURLs() (all []string) {
	for _, up := range p.upstreams {
		all = append(all, up.URL)
	}
	return all
}

func (p *policy) openPeers(log *slog.Logger) (err error) {
	var users []peer.User
	for _, name := range p.allow {
		user, err := peer.ParseUser(name)
		if err != nil {
			log.Warn("access.allow_users: unknown user left out", "user", name, "err", err)
			continue
		}
		users = append(users, user)
	}
	p.peers, err = peer.New(peer.Config{Allow: users, Log: log})
	return err
}

// flush ends what an earlier ticket authenticated (G3).
func (a *app) flush(why string) {
	if a.proxy != nil {
		a.log.Debug("idle upstream connections closed", "why", why)
		a.proxy.Flush()
	}
}

// forget does so and drops what was learned about upstreams and the KDC.
func (a *app) forget(why string) {
	if a.proxy != nil {
		a.log.Info("starting afresh with the upstream", "why", why)
		a.proxy.Forget()
		a.tickets.forget()
	}
}

// parseUpstream reads an upstream setting, already validated by the settings.
func parseUpstream(s string) (*proxy.Upstream, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" {
		return nil, failf(exitUsage, "Use http://host:port.", "The upstream %q is not a proxy address.", redactURL(s))
	}
	up := &proxy.Upstream{TLS: u.Scheme == "https", Host: strings.ToLower(u.Hostname()), Port: 80}
	if up.TLS {
		up.Port = 443
	}
	if u.Port() != "" {
		n, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil || n == 0 {
			return nil, failf(exitUsage, "Use http://host:port.", "The port of upstream %q is not between 1 and 65535.", redactURL(s))
		}
		up.Port = uint16(n)
	}
	up.URL = u.Scheme + "://" + net.JoinHostPort(up.Host, strconv.Itoa(int(up.Port)))
	return up, nil
}

func redactURL(s string) string {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		if _, host, ok := strings.Cut(rest, "@"); ok {
			return scheme + "://" + host
		}
	}
	return s
}

// selfUpstream reports whether an upstream is one of the addresses we listen
// on: what happens when the variables of "kerbpass env" reach the helper.
func selfUpstream(s string, listen []string) bool {
	up, err := parseUpstream(s)
	if err != nil {
		return false
	}
	h, err := route.ParseHost(up.Host)
	if err != nil {
		return false
	}
	for _, l := range listen {
		if a, err := netip.ParseAddrPort(l); err == nil && matchesListener(h, up.Port, a) {
			return true
		}
	}
	return false
}

func (a *app) isSelf(h route.Host, port uint16) bool {
	for _, list := range [...][]net.Listener{a.listeners, a.doors.list} { // on the path of every request: joining them would allocate
		for _, l := range list {
			if t, ok := l.Addr().(*net.TCPAddr); ok && matchesListener(h, port, t.AddrPort()) {
				return true
			}
		}
	}
	return false
}

// matchesListener reports whether h:port reaches the listener: by its address,
// by a name for this machine, or by the address that means any of its own.
func matchesListener(h route.Host, port uint16, l netip.AddrPort) bool {
	if port != l.Port() {
		return false
	}
	if addr, ok := h.Addr(); ok {
		return addr.Unmap() == l.Addr().Unmap() || addr.IsUnspecified()
	}
	return h.IsLoopback()
}

var errNoUpstream = &proxy.Error{
	Cause: proxy.CauseUpstreamUnreachable,
	Text:  "No upstream proxy is set, so only hosts on the bypass list can be reached.",
	Hint:  "Set one: kerbpass run --upstream http://host:port, HTTPS_PROXY, or upstream in the settings.",
}

// route decides a plain request.
func (a *app) route(ctx context.Context, host string, port uint16) (proxy.Decision, error) {
	return a.decide(ctx, host, port, false)
}

// decide decides one request; it is on the path of each.
func (a *app) decide(ctx context.Context, host string, port uint16, tunnel bool) (proxy.Decision, error) {
	h, err := route.ParseHost(host)
	if err != nil {
		return proxy.Decision{}, err
	}
	p := a.now.Load()
	d := p.table.Decide(h, port)
	out := proxy.Decision{
		Route: proxy.Route(d.Route), Rule: string(d.Rule), Entry: d.Entry, Source: d.Source,
		Host: d.Host.String(), Port: port, Loopback: d.Rule == route.RuleLoopback, NoTunnel: p.noTunnel(port),
	}
	switch {
	case d.Loop:
		out.Refusal = &proxy.Error{Cause: proxy.CauseLoop}
	case d.Route == route.Refused:
		out.Refusal = errNoUpstream
	case d.Rule == route.RulePAC:
		a.askScript(ctx, p, &out, tunnel)
	case d.Route == route.Proxy:
		out.Upstream, out.Fallbacks = p.upstreams[0], p.upstreams[1:]
		out.Kerberos, out.Preemptive = p.kerberos, p.preemptive
	}
	return out, nil
}

// allowed is the same-user check of each connection.
func (a *app) allowed(local, remote netip.AddrPort) error {
	p := a.now.Load()
	if p.anyUser {
		return nil
	}
	return p.peers.Allowed(local, remote)
}

// utc renders a time for JSON; the zero time is null.
func utc(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format(time.RFC3339)
	return &s
}

func splitList(s string) []string { return route.SplitList(s) }
