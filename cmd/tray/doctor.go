package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	account "os/user" // tests of this package have a user of their own
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"kerbpass/internal/control"
	"kerbpass/internal/doctor"
	"kerbpass/internal/proxy"
	"kerbpass/internal/route"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
)

func (c *cli) cmdDoctor(ctx context.Context) *cobra.Command {
	var flags runFlags
	var file, https string
	cmd := c.addJSON(&cobra.Command{
		Use: "doctor", Short: "Examine the whole way out, and say what is broken first", Args: cobra.NoArgs,
		Long: "Examines every link from your programs to the world behind the corporate proxy, and says which one is broken first, why,\n" +
			"and what to do. Nothing is changed. With flags it examines those values, and leaves a running helper alone.\n" +
			"Exit code 0: healthy; 3: no usable ticket; 5: the way out is broken.",
		RunE: func(cmd *cobra.Command, _ []string) error { return c.doctor(ctx, flags.given(cmd).values, file, https) },
	})
	flags.register(cmd)
	cmd.Flags().StringVar(&file, "report", "", "also write the result without names and secrets to a new `file`, as JSON if it ends in .json")
	cmd.Flags().StringVar(&https, "https", "", "also say who vouches for this https `host`, as seen through the corporate proxy: whether that re-signs, and whether this system trusts it")
	return cmd
}

func (c *cli) doctor(ctx context.Context, given map[string]any, file, https string) error {
	if https != "" {
		var err error
		if https, err = httpsTarget(https); err != nil {
			return err
		}
	}
	if file != "" {
		if _, err := os.Lstat(file); err == nil {
			return errReportExists(file)
		}
	}
	x, err := c.examine(ctx, given)
	if err != nil {
		return err
	}
	defer x.close()
	x.https = https
	r, names := x.run(ctx, c.progress()), x.names()
	if c.json {
		err = c.printJSON(r)
	} else {
		_, err = io.WriteString(c.out, r.Text(lookOf(c.out, c.lookupEnv)))
	}
	if err == nil && file != "" {
		err = writeReport(file, doctor.Redact(r, names))
	}
	if err != nil {
		return err
	}
	if file != "" {
		fmt.Fprintf(c.err, "Written without names and secrets, to be given to others: %s\n", file)
	}
	if ctx.Err() != nil {
		return failf(exitFailed, "", "The examination was ended.")
	}
	if code := doctorCode(r); code != 0 {
		return &exitError{code: code}
	}
	return nil
}

// doctorCode is the exit code that a report deserves.
func doctorCode(r doctor.Report) int {
	first, _ := r.Find(r.First)
	switch {
	case r.Healthy:
		return 0
	case first.Cause == string(proxy.CauseNoTicket), first.Cause == string(proxy.CauseTicketExpired):
		return exitNoTicket
	}
	return exitPathBroken
}

// progress tells a person who waits what is under way.
func (c *cli) progress() func(n, all int, check doctor.Check) {
	f, ok := c.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || c.json {
		return nil
	}
	return func(n, all int, check doctor.Check) {
		line := fmt.Sprintf("%2d of %d  %-40s", n+1, all, check.Title)
		if n+1 == all {
			defer fmt.Fprintf(f, "\r%s\r", strings.Repeat(" ", len(line)))
		}
		fmt.Fprint(f, "\r"+line)
	}
}

// lookOf fits a report to where it is shown.
func lookOf(w io.Writer, lookupEnv func(string) (string, bool)) doctor.Look {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return doctor.Look{}
	}
	var l doctor.Look
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		l.Width = min(width, 100)
	}
	get := func(name string) string { v, _ := lookupEnv(name); return v }
	l.Colour = get("NO_COLOR") == "" && get("TERM") != "dumb" && (runtime.GOOS != "windows" || get("WT_SESSION") != "")
	return l
}

func errReportExists(file string) error {
	return failf(exitFailed, "Give another name, or remove that file first.", "%s exists already.", file)
}

// shareText is a redacted report as it is given to others.
func shareText(r doctor.Report) string { return doctor.Note + "\n\n" + r.Text(doctor.Look{}) }

// writeReport puts a report at path in one step, for its owner only. What is
// there already stays.
func writeReport(path string, r doctor.Report) (err error) {
	text := shareText(r)
	if strings.EqualFold(filepath.Ext(path), ".json") {
		b, err := json.MarshalIndent(struct {
			Note string `json:"note"`
			doctor.Report
		}{doctor.Note, r}, "", "  ")
		if err != nil {
			return err
		}
		text = string(b) + "\n"
	}
	failed := func(err error) error {
		return failf(exitFailed, "Check the folder and its permissions.", "The report was not written: %v.", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".kerbpass-report-*") // mode 0600
	if err != nil {
		return failed(err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return failed(err)
	}
	switch err = os.Link(f.Name(), path); { // unlike a rename, never in the place of another file
	case err == nil:
		return nil
	case errors.Is(err, os.ErrExist):
		return errReportExists(path)
	}
	// A file system without links.
	if _, err := os.Lstat(path); err == nil {
		return errReportExists(path)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return failed(err)
	}
	return nil
}

// diagnose examines the way out of this helper, with its own settings, tickets
// and listener; toShare is the same without names and secrets. It may take a
// minute; when ctx ends it returns what is known.
func (a *app) diagnose(ctx context.Context) (r, toShare doctor.Report, err error) {
	snap := a.cfg.store.Snapshot()
	x := &examination{app: a, snap: snap, file: a.cfg.store.Path(), running: true, listen: a.addrs(), through: a.addrs()[0],
		source: upstreamSource(snap), sourceName: snap.Origins["upstream"].Name, problems: snap.Problems, paused: utc(a.pausedUntil())}
	a.state.mu.Lock()
	last := a.state.last
	a.state.mu.Unlock()
	x.lastAuth = authReport{Time: utc(last.Time), Result: last.Result, Cause: last.Cause, TokenBytes: last.TokenBytes}
	r = x.run(ctx, nil)
	toShare = doctor.Redact(r, x.names())
	if ctx.Err() != nil {
		return r, toShare, fmt.Errorf("doctor: %w", context.Cause(ctx))
	}
	return r, toShare, nil
}

// An examination is one run of the doctor. Its checks come one after the other;
// only facts may be touched by one that was left behind.
type examination struct {
	app  *app               // whose tickets, lists and network are examined
	snap *settings.Snapshot // as the person has them set
	file string

	running   bool // there is a helper, and it listens on listen
	beside    bool // values of the command line are examined, and a helper is left alone
	helperErr error
	listen    []string // where programs find the helper, or would
	through   string   // where test requests are sent
	https     string   // host:port whose certificate is looked at; "" none
	elsewhere string   // the helper's ticket cache, where it is not the one of this terminal

	source, sourceName string // of the upstream
	problems           []settings.Problem
	described          map[string]settings.Described
	paused             *string
	lastAuth           authReport

	close func() // what was started for the run; nil: nothing

	trying, shaking sync.Once
	token           tokenTry
	shake           handshake

	mu sync.Mutex // guards facts
	facts
}

// facts are what one check finds out for those behind it.
type facts struct {
	upstream *proxy.Upstream
	alias    string // what the upstream's name stands for, if that is another name
	asks     bool   // 407
	skew     time.Duration
	dated    bool // skew is known
	caches   []ticket.Cache
	status   ticket.Snapshot
	signers  []string // of https
}

func (x *examination) known() facts {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.facts
}

func (x *examination) learn(f func(*facts)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f(&x.facts)
}

// examine prepares a run of the command. A running helper tells what only it
// knows: what it uses, and where it listens. Everything else is done here, with
// a proxy of our own that lives as long as the run where there is no helper.
func (c *cli) examine(ctx context.Context, given map[string]any) (*examination, error) {
	store, err := c.store(given, nil)
	if err != nil {
		return nil, err
	}
	snap := store.Snapshot()
	if err := flagProblem(snap); err != nil {
		return nil, err
	}
	x := &examination{snap: snap, file: store.Path(), beside: len(given) > 0, listen: snap.Listen, problems: snap.Problems,
		source: upstreamSource(snap), sourceName: snap.Origins["upstream"].Name}
	described := snap.Describe()
	var helper *report
	if _, err := control.Path(c.lookupEnv); len(given) == 0 && err != nil {
		x.helperErr = err
	} else if len(given) == 0 {
		var r report
		err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error { return cl.Get(ctx, "/v1/status", nil, &r) })
		var said *exitError
		switch {
		case err == nil:
			helper = &r
		case errors.Is(err, control.ErrNotRunning):
		case errors.As(err, &said):
			return nil, err
		default:
			x.helperErr = err
		}
	}
	if helper != nil {
		x.running, x.listen, x.paused, x.lastAuth = true, helper.Proxy.Listen, helper.Proxy.PausedUntil, helper.Proxy.LastAuth
		x.source, x.sourceName = helper.Proxy.UpstreamSource, helper.Settings["upstream"].Name
		x.problems = problemsOf(helper, snap.Problems, store.Path())
		described = helper.Settings
	}
	x.described = described
	values := flagsOf(described)
	x.settleScript(values, c.system, helper)
	if err := x.start(c, values); err != nil {
		return nil, err
	}
	if helper != nil && helper.Ticket.Cache != "" {
		// The helper may have been started with another KRB5CCNAME.
		if here := x.app.tickets.cur.Load().snapshot(ctx).Status.Cache; here != helper.Ticket.Cache {
			x.close()
			x.elsewhere, values["kerberos.cache"] = helper.Ticket.Cache, helper.Ticket.Cache
			if err := x.start(c, values); err != nil {
				return nil, err
			}
		}
	}
	if x.through = x.app.addrs()[0]; x.running && len(x.listen) > 0 {
		x.through = x.listen[0]
	}
	return x, nil
}

// problemsOf are the problems of the settings as the helper sees them. Those of
// the file and of policies are read here: the helper may not have noticed a
// change yet.
func problemsOf(helper *report, here []settings.Problem, file string) (all []settings.Problem) {
	for _, p := range here {
		if p.Source == settings.SourceFile || p.Source == settings.SourcePolicy {
			all = append(all, p)
		}
	}
	for _, p := range helper.Problems {
		if p.Cause != proxy.CauseInternal && p.Cause != proxy.CausePolicy || strings.HasPrefix(p.Text, file) {
			continue
		}
		if slices.ContainsFunc(here, func(q settings.Problem) bool {
			return q.Source == settings.SourcePolicy && strings.HasSuffix(p.Text, q.Text)
		}) {
			continue
		}
		all = append(all, settings.Problem{Text: p.Text, Hint: p.Hint, Warning: true})
	}
	return all
}

// isOurselves is how the settings word an upstream that is this program.
const isOurselves = "is this helper itself"

// flagsOf are the settings that a run needs, as the command line could give
// them; described may have been JSON.
func flagsOf(described map[string]settings.Described) map[string]any {
	values := map[string]any{"listen": []string{"127.0.0.1:0"}}
	for _, k := range settings.Keys() {
		d, ok := described[k.Key]
		if !ok || k.Key == "listen" || k.Key == "kerberos.remember" || k.Key == "tunnel" || strings.HasPrefix(k.Key, "socks.") || strings.HasPrefix(k.Key, "gateway.") {
			continue // a run opens no door of the person's
		}
		switch v := d.Value.(type) {
		case []any:
			var list []string
			for _, e := range v {
				if s, ok := e.(string); ok {
					list = append(list, s)
				}
			}
			values[k.Key] = list
		case []string, bool:
			values[k.Key] = v
		case string:
			if k.Kind == settings.KindString {
				values[k.Key] = v
			}
		}
	}
	return values
}

// start makes an app with those values for the run. It only answers requests of
// the run: it keeps no ticket alive and watches nothing.
func (x *examination) start(c *cli, values map[string]any) error {
	dir, err := os.MkdirTemp("", "kerbpass-doctor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir) // the values are all there is; there is no file
	log := slog.New(slog.DiscardHandler)
	if c.logLevel == "debug" {
		if log, err = c.logger(); err != nil {
			return err
		}
	}
	store, err := settings.Open(settings.Config{Path: filepath.Join(dir, "config.toml"), Flags: values, Log: log})
	if err != nil {
		return err
	}
	keyring, err := newKeyring()
	if err != nil {
		return err
	}
	if x.app, err = newApp(appConfig{store: store, log: log, logins: keyring, system: c.system}); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() { x.app.proxy.Serve(ctx, x.app.listeners...) })
	x.close = func() {
		stop()
		serving.Wait()
		x.app.endScript()
		if p := x.app.now.Load(); p.peers != nil {
			p.peers.Close()
		}
	}
	return nil
}

// run goes through the chain.
func (x *examination) run(ctx context.Context, progress func(n, all int, c doctor.Check)) doctor.Report {
	return doctor.Run(ctx, x.checks(), doctor.Meta{Version: version(), System: runtime.GOOS + "/" + runtime.GOARCH, Progress: progress})
}

// checks are the contract's, in its order.
func (x *examination) checks() []doctor.Check {
	all := []doctor.Check{
		{ID: "settings", Title: "Settings", Run: x.checkSettings},
		{ID: "listener", Title: "Kerbpass's own listener", Run: x.checkListener},
		{ID: "same_user", Title: "Same-user check", Needs: x.ifRunning("listener"), Run: x.checkSameUser},
		{ID: "upstream", Title: "Upstream proxy", Limit: 10 * time.Second, Run: x.checkUpstream},
		{ID: "name", Title: "Name of the upstream", Needs: []string{"upstream"}, Limit: 10 * time.Second, Run: x.withUpstream(x.checkName)},
		{ID: "tcp", Title: "Connection to the upstream", Needs: []string{"name"}, Limit: 15 * time.Second, Late: string(proxy.CauseUpstreamUnreachable), Run: x.withUpstream(x.checkTCP)},
		{ID: "tls", Title: "TLS to the upstream", Needs: []string{"tcp"}, Limit: 15 * time.Second, Late: string(proxy.CauseUpstreamUnreachable), Run: x.withUpstream(x.checkTLS)},
		{ID: "challenge", Title: "What the upstream asks for", Needs: []string{"tls"}, Limit: bareLimit + 5*time.Second, Run: x.withUpstream(x.checkChallenge)},
		{ID: "clock", Title: "Clock", Needs: []string{"challenge"}, Limit: tokenLimit + answerLimit, Run: x.withUpstream(x.checkClock)},
		{ID: "kerberos", Title: "Kerberos", Run: x.checkKerberos},
		{ID: "caches", Title: "Ticket caches", Needs: []string{"kerberos"}, Limit: listLimit + 2*time.Second, Run: x.withKerberos(x.checkCaches)},
		{ID: "tgt", Title: "Ticket", Needs: []string{"kerberos"}, Limit: 2 * listLimit, Late: string(proxy.CauseKerberosUnavailable), Run: x.withKerberos(x.checkTicket)},
		{ID: "realm", Title: "Realm of the upstream", Needs: []string{"upstream", "tgt"}, Limit: tokenLimit + listLimit, Late: string(proxy.CauseKDCUnreachable), Run: x.withKerberos(x.withToken(x.checkRealm))},
		{ID: "spn", Title: "Service name (SPN)", Needs: []string{"realm"}, Limit: 2 * tokenLimit, Run: x.withKerberos(x.withToken(x.checkSPN))},
		{ID: "kdc", Title: "Kerberos server (KDC)", Needs: []string{"spn"}, Run: x.withKerberos(x.withToken(x.checkKDC))},
		{ID: "token", Title: "Token", Needs: []string{"kdc"}, Run: x.withKerberos(x.withToken(x.checkToken))},
		{ID: "accepted", Title: "Token at the upstream", Needs: []string{"challenge", "token"}, Limit: tokenLimit + 2*answerLimit, Run: x.checkAccepted},
		{ID: "requests", Title: "Requests through Kerbpass", Needs: append(x.ifRunning("listener"), "same_user", "challenge", "accepted"), Limit: 2 * testLimit, Run: x.checkRequests},
	}
	if x.https != "" {
		all = append(all, doctor.Check{ID: "certificate", Title: "Certificate of a host", Needs: []string{"requests"}, Limit: testLimit, Run: x.checkCertificate})
	}
	return all
}

const (
	bareLimit   = 8 * time.Second  // for an answer to a request without a token
	answerLimit = 15 * time.Second // for one with a token: the upstream may look up the host's name first
	tokenLimit  = 10 * time.Second // for one token; the ticket manager gives up earlier
)

func (x *examination) ifRunning(id string) []string {
	if x.running {
		return []string{id}
	}
	return nil
}

// names are what a report for others must not hold.
func (x *examination) names() doctor.Names {
	var n doctor.Names
	if u, err := account.Current(); err == nil {
		n.Users = append(n.Users, u.Username)
		n.Homes = append(n.Homes, u.HomeDir)
	}
	if home, err := os.UserHomeDir(); err == nil {
		n.Homes = append(n.Homes, home)
	}
	if host, err := os.Hostname(); err == nil {
		short, _, _ := strings.Cut(host, ".")
		n.Hosts = append(n.Hosts, host, short)
	}
	f := x.known()
	p := x.app.now.Load()
	for _, up := range p.upstreams {
		n.Hosts = append(n.Hosts, up.Host)
	}
	n.Hosts = append(append(n.Hosts, f.alias), f.signers...)
	if host, _, err := net.SplitHostPort(x.https); err == nil {
		n.Hosts = append(n.Hosts, host)
	}
	n.Hosts = append(n.Hosts, x.app.cfg.store.Snapshot().BypassExact...)
	n.Users = append(n.Users, x.snap.AllowUsers...)
	for _, c := range f.caches {
		n.Principals = append(n.Principals, c.Principal)
		for _, t := range append(slices.Clone(c.Services), c.TGTs...) {
			n.Principals = append(n.Principals, t.Server)
		}
	}
	n.Principals = append(n.Principals, f.status.Status.Principal)
	return n
}

// good, noted and broken word findings. A cause brings its own action where
// none is given.
func good(format string, args ...any) doctor.Finding {
	return doctor.Finding{State: doctor.OK, Seen: fmt.Sprintf(format, args...)}
}

func needless(seen string) doctor.Finding { return doctor.Finding{State: doctor.Skip, Seen: seen} }

func noted(cause proxy.Cause, action, format string, args ...any) doctor.Finding {
	f := broken(cause, action, format, args...)
	f.State = doctor.Warn
	return f
}

func broken(cause proxy.Cause, action, format string, args ...any) doctor.Finding {
	if action == "" {
		_, action, _ = cause.Explain()
	}
	return doctor.Finding{State: doctor.Fail, Cause: string(cause), Seen: fmt.Sprintf(format, args...), Action: action}
}

// brokenBy words an error of the proxy's or the tickets' vocabulary.
func brokenBy(err error, spn string) doctor.Finding {
	var e *proxy.Error
	if !errors.As(err, &e) {
		errors.As(tokenError(err, spn), &e)
	}
	if e == nil {
		return broken(proxy.CauseTimeout, "", "There was no answer in time (%v).", err)
	}
	text, hint, _ := e.Cause.Explain()
	if e.Text != "" {
		text, hint = e.Text, e.Hint
	}
	seen := strings.TrimSpace(text + " " + e.Detail)
	if e.Err != nil {
		seen += " (" + e.Err.Error() + ")"
	}
	return broken(e.Cause, hint, "%s", seen)
}

func (x *examination) checkSettings(context.Context) doctor.Finding {
	var bad, odd []settings.Problem
	for _, p := range x.problems {
		switch {
		case strings.Contains(p.Text, isOurselves): // told by the upstream's check
		case p.Warning, p.Key == "bypass.exact", p.Key == "no_proxy": // a list goes on without its bad entries
			odd = append(odd, p)
		default:
			bad = append(bad, p)
		}
	}
	show := func(list []settings.Problem) (seen, hint string) {
		for _, p := range list {
			bare := p
			bare.Hint = ""
			seen += strings.TrimSuffix(bare.String(), ".") + ". "
		}
		hint = list[0].Hint
		if hint == "" {
			hint = "Correct the settings"
		}
		return strings.TrimSpace(seen), strings.TrimSuffix(hint, ".") + "."
	}
	switch {
	case len(bad) > 0:
		seen, hint := show(append(bad, odd...))
		return broken(proxy.CauseInternal, hint, "%s", seen)
	case len(odd) > 0:
		seen, hint := show(odd)
		return noted(proxy.CauseInternal, hint, "%s", seen)
	}
	says := organisationSays(x.described)
	if says != "" {
		says = " " + says
	}
	if _, err := os.Stat(x.file); errors.Is(err, os.ErrNotExist) {
		return good("There is no settings file; %s would be read.%s", x.file, says)
	}
	return good("%s is understood.%s", x.file, says)
}

func (x *examination) checkUpstream(ctx context.Context) doctor.Finding {
	loop := ""
	for _, p := range x.problems {
		if strings.Contains(p.Text, isOurselves) {
			loop = strings.TrimSuffix(p.String(), ".") + "."
		}
	}
	if s := x.app.now.Load().script; s != nil {
		return x.checkScript(ctx, s)
	}
	all := x.app.now.Load().upstreams
	const unset = "Name the company's proxy in the upstream setting, and do not start Kerbpass with the variables that \"kerbpass env\" prints."
	for _, up := range all {
		if x.isOurs(up.Host, up.Port) {
			return broken(proxy.CauseLoop, unset, "The upstream %s is Kerbpass itself.", up.URL)
		}
	}
	if len(all) == 0 {
		if loop != "" {
			return broken(proxy.CauseLoop, unset, "%s There is no other.", loop)
		}
		return broken(errNoUpstream.Cause, errNoUpstream.Hint, "%s", errNoUpstream.Text)
	}
	up := all[0]
	from := "from " + x.source
	if x.sourceName != "" && !strings.HasPrefix(x.source, x.sourceName) {
		from += ", " + x.sourceName
	}
	seen := fmt.Sprintf("%s (%s).", up.URL, from)
	if len(all) > 1 {
		// As the proxy does: the first that can be reached.
		limit := 6 * time.Second / time.Duration(len(all))
		for i, one := range all {
			try, cancel := context.WithTimeout(ctx, limit)
			conn, err := x.dial(try, one)
			cancel()
			if err != nil {
				continue
			}
			conn.Close()
			if up = one; i > 0 {
				x.learn(func(f *facts) { f.upstream = up })
				return noted(proxy.CauseUpstreamUnreachable, "", "%s cannot be reached; %s is used instead (%s).", all[0].URL, up.URL, from)
			}
			break
		}
		seen += fmt.Sprintf(" It is the first of %d.", len(all))
	}
	x.learn(func(f *facts) { f.upstream = up })
	if loop != "" {
		return noted(proxy.CauseLoop, unset, "%s %s", loop, seen)
	}
	return good("%s", seen)
}

// isOurs reports whether host and port lead to a listener of Kerbpass.
func (x *examination) isOurs(host string, port uint16) bool {
	h, err := route.ParseHost(host)
	if err != nil {
		return false
	}
	for _, l := range append(slices.Clone(x.listen), x.snap.Listen...) {
		if a, err := netip.ParseAddrPort(l); err == nil && matchesListener(h, port, a) {
			return true
		}
	}
	return false
}
