package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"kerbpass/internal/peer"
	"kerbpass/internal/proxy"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
)

// listLimit is how long listing the caches may take.
const listLimit = 6 * time.Second

// report is what "status --json" and GET /v1/status print. Its shape is
// stable.
type report struct {
	Version  string                        `json:"version"`
	Ticket   ticketReport                  `json:"ticket"`
	Tickets  []cacheReport                 `json:"tickets"`
	Proxy    proxyReport                   `json:"proxy"`
	Config   string                        `json:"config"`
	Settings map[string]settings.Described `json:"settings"`
	Problems []problem                     `json:"problems"`
}

type ticketReport struct {
	State      ticket.State  `json:"state"`
	Principal  string        `json:"principal"`
	Realm      string        `json:"realm"`
	Cache      string        `json:"cache"`
	Start      *string       `json:"start"`
	Expires    *string       `json:"expires"`
	RenewUntil *string       `json:"renew_until"`
	Renewable  bool          `json:"renewable"`
	Backend    string        `json:"backend"`
	Renewal    renewalReport `json:"renewal"`
}

// renewalReport is what the running helper intends.
type renewalReport struct {
	Mode  string  `json:"mode"`  // auto, ask, off
	Next  *string `json:"next"`  // null: none is planned
	Error string  `json:"error"` // why the last attempt to keep the ticket did not work
}

type cacheReport struct {
	Principal string        `json:"principal"`
	Realm     string        `json:"realm"`
	Cache     string        `json:"cache"`
	Expires   *string       `json:"expires"`
	Default   bool          `json:"default"`
	UsedHere  bool          `json:"used_for_proxy"`
	Error     string        `json:"error,omitempty"`
	TGTs      []entryReport `json:"tgts"`
	Services  []entryReport `json:"services"`
}

type entryReport struct {
	Name       string   `json:"name"`
	Start      *string  `json:"start"`
	Expires    *string  `json:"expires"`
	RenewUntil *string  `json:"renew_until"`
	Flags      []string `json:"flags"`
	EncType    string   `json:"enctype"`
	Cloud      bool     `json:"cloud,omitempty"` // a TGT of Microsoft's cloud, of no use at a company's proxy
}

func entriesReport(list []ticket.Ticket) []entryReport {
	all := []entryReport{}
	for _, t := range list {
		all = append(all, entryReport{t.Server, utc(t.Start), utc(t.Expires), utc(t.RenewUntil), t.Flags.Names(), t.EncType.String(), t.Cloud()})
	}
	return all
}

// alive reports that a ticket can be used, and so be renewed.
func alive(s ticket.State) bool { return s == ticket.StateValid || s == ticket.StateExpiring }

func ticketReportOf(t ticket.Snapshot) ticketReport {
	st := t.Status
	return ticketReport{State: t.State, Principal: st.Principal, Realm: st.Realm, Cache: st.Cache, Start: utc(st.Start), Expires: utc(st.Expires),
		RenewUntil: utc(st.RenewUntil), Renewable: st.Renewable && alive(t.State), Backend: t.Backend}
}

type proxyReport struct {
	State          string        `json:"state"` // listening, not_running
	Listen         []string      `json:"listen"`
	Upstream       string        `json:"upstream"`
	UpstreamSource string        `json:"upstream_source"`
	PAC            string        `json:"pac,omitempty"` // the configuration script that decides
	Kerberos       bool          `json:"kerberos"`
	PausedUntil    *string       `json:"paused_until"`
	Open           int           `json:"open_connections"`
	LastAuth       authReport    `json:"last_auth"`
	Logins         []loginReport `json:"logins"` // of upstreams that want a password
	doorsReport
}

type authReport struct {
	Time       *string          `json:"time"`
	Result     proxy.AuthResult `json:"result"`
	Cause      proxy.Cause      `json:"cause"`
	SPN        string           `json:"spn"` // "" of a scheme other than Negotiate
	Scheme     string           `json:"scheme"`
	TokenBytes int              `json:"token_bytes"`
}

type problem struct {
	Cause proxy.Cause `json:"cause"`
	Text  string      `json:"text"`
	Hint  string      `json:"hint"`
}

// state takes in what the proxy reports. It is its Observer, so every method
// returns at once.
type state struct {
	app     *app
	clients *clients

	path path

	mu   sync.Mutex // guards what follows
	last proxy.AuthEvent
	warn proxy.Cause // the cause that was logged last and has not ended
}

func newState(a *app) *state {
	return &state{app: a, clients: newClients(func(local, remote netip.AddrPort) (peer.Identity, error) {
		return a.now.Load().peers.Identify(local, remote)
	})}
}

// Request implements [proxy.Observer]. For a request that worked it allocates
// nothing and meets no lock that another request could hold.
func (s *state) Request(e proxy.Event) {
	s.clients.add(entryOf(&e), e.Remote)
	s.app.meter.request(&e)
	s.judgePath(&e)
	level := slog.LevelDebug
	if e.Cause != "" {
		level = slog.LevelInfo
	}
	if s.app.log.Enabled(context.Background(), level) {
		s.logRequest(level, &e)
	}
}

func (s *state) logRequest(level slog.Level, e *proxy.Event) {
	text, attrs := "request", []any{"method", e.Method, "host", e.Host, "port", e.Port, "route", string(e.Route), "rule", e.Rule, "entry", e.Entry,
		"status", e.Status, "up", e.Up, "down", e.Down, "ms", e.Took.Milliseconds()}
	if e.Cause != "" {
		text, attrs = "request failed", append(attrs, "cause", string(e.Cause), "err", e.Err)
	}
	s.app.log.Log(context.Background(), level, text, attrs...)
}

// pathCauses are those that tell of the way to and through the upstream, not of
// one request.
var pathCauses = map[proxy.Cause]bool{
	proxy.CauseNegotiateNotOffered: true, proxy.CauseNTLM: true, proxy.CauseKerberosOff: true, proxy.CauseKerberosUnavailable: true,
	proxy.CauseUpstreamUnreachable: true, proxy.CauseUpstreamUnresolved: true, proxy.CauseUpstreamTLS: true, proxy.CauseUpstreamNotAllowed: true,
	proxy.CauseNoTicket: true, proxy.CauseTicketExpired: true, proxy.CauseKDCUnreachable: true, proxy.CauseSPNUnknown: true,
	proxy.CauseClockSkew: true, proxy.CauseTokenRefused: true, proxy.CauseNoPassword: true, proxy.CauseTokenTooLarge: true, proxy.CauseLoop: true,
}

// judgePath remembers whether the last request through the upstream got there.
func (s *state) judgePath(e *proxy.Event) {
	if e.Route != proxy.RouteProxy || e.Cause != "" && !pathCauses[e.Cause] {
		return
	}
	if e.Cause == "" {
		s.path.latest(e.Time)
		if !s.path.broken.Load() {
			return
		}
	}
	var why *proxy.Error
	if e.Cause != "" && !errors.As(e.Err, &why) {
		why = &proxy.Error{Cause: e.Cause}
	}
	if s.path.judge(e.Time, why) {
		s.app.changed()
	}
}

// path is what the last request through the upstream says about the way there.
// The zero path is good. As long as it is, requests that work take no lock.
type path struct {
	from   atomic.Int64 // when that request began, as sinceStart
	broken atomic.Bool  // why is not nil

	mu   sync.Mutex   // guards what follows
	why  *proxy.Error // why it got no further; nil: it did
	when time.Time    // when it began, of one that got no further
}

// latest says that a request got through that began at t. The caller looks
// at broken afterwards, and judge does both in the other order, so that a
// failure of an earlier request is not what stays.
func (p *path) latest(t time.Time) {
	at := sinceStart(t)
	for from := p.from.Load(); at > from && !p.from.CompareAndSwap(from, at); from = p.from.Load() {
	}
}

// judge takes in what a request met that began at t, and reports whether that
// is news. A tunnel that ends now says nothing about a failure after it was
// opened.
func (p *path) judge(t time.Time, why *proxy.Error) (changed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if sinceStart(t) < p.from.Load() {
		return false
	}
	old, when := p.why, p.when
	p.set(why, t)
	if sinceStart(t) < p.from.Load() && why != nil {
		p.set(old, when)
		return false
	}
	p.latest(t)
	return (old == nil) != (why == nil) || why != nil && old.Cause != why.Cause
}

// set is for who holds p.mu.
func (p *path) set(why *proxy.Error, when time.Time) {
	p.why, p.when = why, when
	p.broken.Store(why != nil)
}

// good forgets a failure.
func (p *path) good() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set(nil, time.Time{})
}

// error is why the last request got no further, and when it began; nil: it did.
func (p *path) error() (why *proxy.Error, when time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.why, p.when
}

var started = time.Now()

// sinceStart makes of t what can be compared without a lock, whatever happens
// to the clock.
func sinceStart(t time.Time) int64 { return max(0, int64(t.Sub(started))) }

// Authenticated implements [proxy.Observer]. A failure that goes on is logged
// when it starts and when it ends.
func (s *state) Authenticated(e proxy.AuthEvent) {
	s.app.meter.authenticated(e.Result)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = e
	if e.Result == proxy.AuthAccepted || e.Result == proxy.AuthNotChallenged {
		s.path.good() // known before the request has ended; a tunnel may stay for days
	}
	if e.Cause != s.warn {
		switch {
		case e.Cause != "":
			attrs := []any{"upstream", e.Upstream.URL, "cause", string(e.Cause)}
			if e.Upstream.Scheme != "" {
				attrs = append(attrs, "scheme", e.Upstream.Scheme)
			} else if e.TokenBytes > 0 {
				spn, _ := servicePrincipal(context.Background(), e.Upstream, s.app.now.Load().spn, "off")
				attrs = append(attrs, "spn", spn, "token_bytes", e.TokenBytes)
			}
			if !e.Date.IsZero() {
				attrs = append(attrs, "clock_difference", time.Since(e.Date).Round(time.Second))
			}
			s.app.log.Warn("authentication at the upstream fails", attrs...)
		default:
			s.app.log.Info("authentication at the upstream works again", "upstream", e.Upstream.URL)
		}
		s.warn = e.Cause
	}
}

// report reads the ticket and puts everything together.
func (a *app) report(ctx context.Context) report {
	snap := a.cfg.store.Snapshot()
	p := a.now.Load()
	r := baseReport(ctx, a.tickets.cur.Load(), snap, a.cfg.store.Path())
	r.Proxy.State, r.Proxy.Listen, r.Proxy.Open = "listening", a.addrs(), a.proxy.Open()
	r.Proxy.doorsReport = a.doorsNow(snap)
	r.Proxy.PausedUntil = utc(a.pausedUntil())
	r.Proxy.UpstreamSource = a.cfg.system.source(r.Proxy.UpstreamSource)
	if p.script != nil {
		r.addScript(p.script)
	}
	a.state.mu.Lock()
	last := a.state.last
	a.state.mu.Unlock()
	path, _ := a.state.path.error()
	if last.Result != "" {
		spn, scheme := "", last.Upstream.Scheme
		if scheme == "" {
			spn, _ = servicePrincipal(ctx, last.Upstream, p.spn, "off")
			scheme = "Negotiate"
		}
		r.Proxy.LastAuth = authReport{utc(last.Time), last.Result, last.Cause, spn, scheme, last.TokenBytes}
	}
	var wrong []problem
	r.Proxy.Logins, wrong = loginReports(snap, p.logins)
	for _, w := range wrong {
		if !r.has(w.Cause) {
			r.Problems = append(r.Problems, w)
		}
	}
	if path != nil && !r.has(path.Cause) {
		text, hint, _ := path.Cause.Explain()
		text, hint = cmp.Or(path.Text, text), cmp.Or(path.Hint, hint)
		r.Problems = append(r.Problems, problem{path.Cause, strings.TrimSpace(text + " " + path.Detail), hint})
	}
	return r
}

func (r *report) has(c proxy.Cause) bool {
	for _, p := range r.Problems {
		if p.Cause == c {
			return true
		}
	}
	return false
}

// cachesWithin lists the caches, unless that takes too long: reading one may
// block for ever in the library, as on a network folder that is away.
func cachesWithin(ctx context.Context, b ticket.Backend) []ticket.Cache {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	listed := make(chan []ticket.Cache, 1)
	go func() {
		caches, _ := b.Caches(ctx)
		listed <- caches
	}()
	select {
	case caches := <-listed:
		return caches
	case <-ctx.Done():
		return nil
	}
}

// baseReport is what can be said without a running proxy.
func baseReport(ctx context.Context, cur *current, snap *settings.Snapshot, config string) report {
	t := cur.snapshot(ctx)
	r := report{
		Version: version(),
		Ticket:  ticketReportOf(t),
		Tickets: []cacheReport{},
		Proxy: proxyReport{State: "not_running", Listen: snap.Listen, Kerberos: snap.KerberosEnabled,
			UpstreamSource: upstreamSource(snap), LastAuth: authReport{Result: proxy.AuthNone},
			doorsReport: doorsReport{Socks: []string{}, Forwards: []forwardReport{}, Closed: []closedReport{}, Restart: []string{}}},
		Config:   config,
		Settings: snap.Describe(),
		Problems: []problem{},
	}
	if len(snap.Upstream) > 0 {
		if up, err := parseUpstream(snap.Upstream[0]); err == nil {
			r.Proxy.Upstream = up.URL
		}
	}
	var wrong []problem
	r.Proxy.Logins, wrong = loginReports(snap, nil)
	r.Problems = append(r.Problems, wrong...)
	r.Ticket.Renewal = renewalReport{Mode: snap.KerberosRenew}
	cloud := false
	if cur.backend != nil {
		plan := cur.Plan()
		if r.Ticket.Renewal.Next = utc(plan.RenewAt); plan.Err != nil {
			r.Ticket.Renewal.Error = plan.Err.Error()
		}
		caches := cachesWithin(ctx, cur.backend)
		for _, c := range caches {
			cr := cacheReport{Principal: c.Principal, Realm: c.Realm, Cache: c.Name, Expires: utc(c.Expires), Default: c.Default, UsedHere: c.Used,
				TGTs: entriesReport(c.TGTs), Services: entriesReport(c.Services)}
			if c.Err != nil {
				cr.Error = c.Err.Error()
			}
			cloud = cloud || slices.ContainsFunc(c.TGTs, ticket.Ticket.Cloud)
			r.Tickets = append(r.Tickets, cr)
		}
	}
	add := func(c proxy.Cause, detail string) {
		text, hint, _ := c.Explain()
		r.Problems = append(r.Problems, problem{c, strings.TrimSpace(text + " " + detail), hint})
	}
	if snap.KerberosEnabled && r.Proxy.loginAt(r.Proxy.Upstream) == nil {
		switch t.State {
		case ticket.StateNone:
			detail := ""
			if cloud {
				detail = "The cache holds one of Microsoft's cloud (" + ticket.CloudRealm + "), which opens no company proxy."
			}
			add(proxy.CauseNoTicket, detail)
			r.addElsewhere(ctx, snap)
		case ticket.StateExpired:
			add(proxy.CauseTicketExpired, "")
		case ticket.StateUnavailable:
			detail := ""
			if t.Err != nil {
				detail = fmt.Sprintf("(%v)", t.Err)
			}
			r.Problems = append(r.Problems, problem{proxy.CauseKerberosUnavailable, "The Kerberos ticket cannot be read. " + detail,
				"Check KRB5CCNAME and the setting kerberos.cache, or get a new ticket: kerbpass login."})
		}
	}
	if place, source := choosePAC(snap, nil, config); place != "" {
		r.Proxy.PAC, r.Proxy.Upstream, r.Proxy.UpstreamSource = place, "", scriptSource(source)
	} else if r.Proxy.Upstream == "" {
		r.Problems = append(r.Problems, problem{proxy.CauseUpstreamUnreachable, noUpstreamText,
			"Set one: --upstream, HTTPS_PROXY, or upstream in the settings."})
	}
	for _, p := range snap.Problems {
		where := ""
		switch {
		case p.Line > 0:
			where = fmt.Sprintf("%s:%d:%d: ", p.File, p.Line, p.Column)
		case p.File != "":
			where = p.File + ": "
		}
		cause := proxy.CauseInternal
		if snap.Withheld && p.Source == settings.SourcePolicy && !p.Warning {
			cause = proxy.CausePolicy // why there are no tokens
		}
		r.Problems = append(r.Problems, problem{cause, where + p.Text, p.Hint})
	}
	return r
}

// upstreamSource names where the upstream comes from, as the contract words
// it.
func upstreamSource(snap *settings.Snapshot) string {
	switch s := snap.Origins["upstream"].Source; {
	case len(snap.Upstream) == 0:
		return ""
	case s == settings.SourceFile:
		return "settings"
	default:
		return string(s)
	}
}

// healthCode is the exit code that a report deserves.
func (r *report) healthCode() int {
	switch {
	case r.Proxy.State != "listening":
		return exitNotRunning
	case r.Proxy.Kerberos && r.Proxy.loginAt(r.Proxy.Upstream) == nil && r.Ticket.State != ticket.StateValid && r.Ticket.State != ticket.StateExpiring:
		return exitNoTicket
	}
	for _, p := range r.Problems {
		if pathCauses[p.Cause] || p.Cause == proxy.CausePolicy {
			return exitPathBroken
		}
	}
	return 0
}

// text is the report for people.
func (r *report) text(now time.Time) string {
	var b strings.Builder
	line := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s %s\n", label, fmt.Sprintf(format, args...))
	}
	t := &r.Ticket
	switch t.State {
	case ticket.StateNone:
		line("Ticket", "none%s", in(t.Cache))
	case ticket.StateUnavailable:
		line("Ticket", "cannot be read%s", in(t.Cache))
	default:
		line("Ticket", "%s, %s %s%s", t.Principal, t.State, until(t.Expires, now), in(t.Cache))
		switch {
		case t.Renewal.Next != nil:
			line("", "renewed by itself at %s, possible %s", local(t.Renewal.Next), until(t.RenewUntil, now))
		case t.Renewable && t.RenewUntil != nil:
			line("", "renewable %s: kerbpass renew", until(t.RenewUntil, now))
		case t.State == ticket.StateExpiring || t.State == ticket.StateValid:
			line("", "not renewable; sign in again before it ends: kerbpass login")
		}
		if t.Renewal.Error != "" {
			line("", "not kept alive: %s", t.Renewal.Error)
		}
	}
	for _, c := range r.Tickets {
		switch {
		case c.Error != "":
			line("", "unreadable: %s: %s", c.Cache, c.Error)
		case !c.UsedHere:
			line("", "also: %s %s%s%s", c.Principal, until(c.Expires, now), in(c.Cache), ofCloud(c))
		}
		for _, s := range c.Services {
			line("", "  %s %s%s", s.Name, until(s.Expires, now), comma(s.EncType))
		}
	}
	if r.Proxy.State == "listening" {
		line("Proxy", "listening on %s, %d open connections", strings.Join(r.Proxy.Listen, " and "), r.Proxy.Open)
	} else {
		line("Proxy", "not running")
	}
	for _, at := range r.Proxy.Socks {
		line("", "SOCKS5 on %s", at)
	}
	for _, f := range r.Proxy.Forwards {
		line("", "%s leads to %s", f.Listen, f.To)
	}
	if g := r.Proxy.Gateway; g != nil {
		line("Gateway", "open to other machines on %s: %s", strings.Join(g.Listen, " and "), cmp.Or(strings.Join(g.Clients, ", "), "no client is admitted yet"))
	}
	for _, x := range r.Proxy.Closed {
		line("", "not open: %s (%s). %s", x.Listen, x.Key, x.Error)
	}
	if len(r.Proxy.Restart) > 0 {
		line("", "changed since the start, and counts from the next one: %s", strings.Join(r.Proxy.Restart, ", "))
	}
	if r.Proxy.PAC != "" {
		line("Script", "%s (from %s)", r.Proxy.PAC, r.Proxy.UpstreamSource)
	}
	if r.Proxy.Upstream != "" && r.Proxy.PAC != "" {
		line("Upstream", "%s (the script's last word)", r.Proxy.Upstream)
	} else if r.Proxy.Upstream != "" {
		line("Upstream", "%s (from %s)", r.Proxy.Upstream, r.Proxy.UpstreamSource)
	}
	for _, l := range r.Proxy.Logins {
		line("", "%s: %s", l.Upstream, l.text())
	}
	if r.Proxy.Upstream == "" && r.Proxy.PAC == "" {
		line("Upstream", "none")
	}
	if r.Proxy.PausedUntil != nil {
		line("Kerberos", "paused %s; end it with: kerbpass resume", until(r.Proxy.PausedUntil, now))
	} else {
		line("Kerberos", "%s", onOff(r.Proxy.Kerberos))
	}
	if a := r.Proxy.LastAuth; a.Time != nil {
		text := string(a.Result)
		if a.Cause != "" {
			text += " (" + string(a.Cause) + ")"
		}
		line("Last login", "%s at %s, %s, token of %d bytes", text, local(a.Time), cmp.Or(a.SPN, a.Scheme), a.TokenBytes)
	}
	if says := organisationSays(r.Settings); says != "" {
		line("Policy", "%s", says)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "\n! %s\n  %s\n", p.Text, p.Hint)
	}
	return b.String()
}

func in(cache string) string {
	if cache == "" {
		return ""
	}
	return ", in " + cache
}

// ofCloud labels a cache that has nothing but a ticket of Microsoft's cloud.
func ofCloud(c cacheReport) string {
	if len(c.TGTs) > 0 && !slices.ContainsFunc(c.TGTs, func(t entryReport) bool { return !t.Cloud }) {
		return ", a ticket of Microsoft's cloud, of no use at a company's proxy"
	}
	return ""
}

func comma(s string) string {
	if s == "" {
		return ""
	}
	return ", " + s
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

func local(s *string) string {
	if s == nil {
		return "an unknown time"
	}
	t, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		return *s
	}
	return t.Local().Format("2006-01-02 15:04:05")
}

// until says when something ends, in the user's zone and from now.
func until(s *string, now time.Time) string {
	if s == nil {
		return "without a TGT"
	}
	t, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		return "until " + *s
	}
	layout := "15:04"
	if t.Local().YearDay() != now.Local().YearDay() || t.Sub(now).Abs() > 24*time.Hour {
		layout = "2006-01-02 15:04"
	}
	left := t.Sub(now).Round(time.Minute)
	switch {
	case t.Before(now):
		return "since " + t.Local().Format(layout)
	case left < time.Hour:
		return fmt.Sprintf("until %s (%d min left)", t.Local().Format(layout), int(left.Minutes()))
	default:
		return fmt.Sprintf("until %s (%d h %d min left)", t.Local().Format(layout), int(left.Hours()), int(left.Minutes())%60)
	}
}
