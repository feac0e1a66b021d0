package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"kerbpass/internal/proxy"
	"kerbpass/internal/route"
	"kerbpass/internal/route/pac"
	"kerbpass/internal/settings"
	"kerbpass/internal/sysproxy"
	"kerbpass/internal/ui"
)

const (
	pacChild = "pac-child"
	autoPAC  = "auto" // the value of the setting that asks the system, and then WPAD
)

// cmdPACChild is what runs a configuration script; people have no use for it.
func (c *cli) cmdPACChild(context.Context) *cobra.Command {
	return &cobra.Command{
		Use: pacChild, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return pac.Serve(c.in, c.out, pac.World{}) },
	}
}

// script is a configuration script in use.
type pacScript struct {
	place  string // as chosen
	source string // where that came from
	finder *pac.Finder
	last   atomic.Pointer[string] // URL of the proxy it named last
}

// strength orders where settings come from. What a policy only presets is weaker
// than the file.
func strength(o settings.Origin) int {
	order := []settings.Source{settings.SourceDefault, settings.SourceSystem, "preset", settings.SourceFile, settings.SourceEnv, settings.SourceFlag, settings.SourcePolicy}
	if o.Source == settings.SourcePolicy && !o.Locked {
		return slices.Index(order, "preset")
	}
	return slices.Index(order, o.Source)
}

// choosePAC says where the configuration script is that decides, "" if none
// does, and where that was set. The setting pac counts unless the upstream is
// set in a stronger source; without an upstream the system's own script counts.
func choosePAC(snap *settings.Snapshot, system *systemProxies, file string) (place, source string) {
	from := snap.Origins["pac"]
	if snap.PAC != "" {
		if len(snap.Upstream) > 0 && strength(snap.Origins["upstream"]) > strength(from) {
			return "", ""
		}
		if from.Source == settings.SourceFile {
			return absolute(snap.PAC, filepath.Dir(file)), "settings"
		}
		return absolute(snap.PAC, "."), string(from.Source)
	}
	if len(snap.Upstream) > 0 || strength(from) > strength(settings.Origin{Source: settings.SourceEnv}) || system == nil {
		return "", ""
	}
	_, said := system.chosen()
	if said.PAC == "" {
		return "", ""
	}
	return said.PAC, system.source(string(settings.SourceSystem))
}

// absolute makes a path in the setting independent of the working folder.
func absolute(place, dir string) string {
	if place == autoPAC || strings.Contains(place, "://") || filepath.IsAbs(place) {
		return place
	}
	if path, err := filepath.Abs(filepath.Join(dir, place)); err == nil {
		return path
	}
	return place
}

// scriptSource words where the upstream comes from.
func scriptSource(source string) string { return "pac, " + source }

// places are where a finder looks for the script.
func places(place string, system *systemProxies) func(context.Context) []string {
	return func(context.Context) []string {
		if place != autoPAC {
			return []string{place}
		}
		// Not both: whoever can keep the system's script from us must not get
		// to answer for WPAD.
		if system != nil {
			if _, said := system.chosen(); said.PAC != "" {
				return []string{said.PAC}
			}
		}
		return sysproxy.WPAD()
	}
}

// allowed are the proxies of the system's static setting, which may be sent
// tokens when a script names them.
func (s *systemProxies) allowed() (all []string) {
	if s == nil {
		return nil
	}
	upstreams, _ := s.chosen()
	for _, u := range upstreams {
		if up, err := parseUpstream(u); err == nil {
			all = append(all, up.URL)
		}
	}
	return all
}

// readopt decides anew after something changed that is not in the settings.
func (a *app) readopt() {
	if err := a.adoptCurrent(); err != nil {
		a.log.Error("settings not adopted", "err", err)
	}
}

// useScript gives p the script that snap wants; one that is in use already goes
// on. The caller holds a.adopting.
func (a *app) useScript(snap *settings.Snapshot, old, p *policy) error {
	place, source := choosePAC(snap, a.cfg.system, a.cfg.store.Path())
	if place == "" {
		return nil
	}
	p.table.PAC, p.table.PACSource = true, source
	if old != nil && old.script != nil && old.script.place == place && old.script.source == source {
		p.script = old.script
		return nil
	}
	command, err := a.cfg.pacCommand, error(nil)
	if command == nil {
		if command, err = thisPACChild(); err != nil {
			return err
		}
	}
	a.log.Info("a configuration script decides", "from", place, "source", source)
	p.script = &pacScript{place: place, source: source, finder: pac.New(pac.Config{
		Places: places(place, a.cfg.system), Command: command, Dial: a.cfg.dial, TLS: a.cfg.tls, Changed: a.changed, Log: a.log})}
	return nil
}

func thisPACChild() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, failf(exitFailed, "Start it by its full path.", "This program cannot find itself: %v.", err)
	}
	return []string{self, pacChild}, nil
}

// endScript ends the script in use, and waits for those that were.
func (a *app) endScript() {
	if p := a.now.Load(); p != nil && p.script != nil {
		p.script.finder.Close()
	}
	a.closing.Wait()
}

// tokenList are the proxies beside the upstreams that may be sent a token when
// a script names them: host, host:port or URL.
type tokenList []string

// mayHaveTokens reports whether up is on the list. An upstream of the settings
// is itself and nothing else: another port of its host, or plain where it is
// set with TLS, is another proxy.
func (p *policy) mayHaveTokens(up *proxy.Upstream) bool {
	if up.SOCKS {
		return false
	}
	return slices.ContainsFunc(p.upstreams, func(u *proxy.Upstream) bool { return u.URL == up.URL }) ||
		slices.ContainsFunc(p.tokens, func(entry string) bool {
			if strings.Contains(entry, "://") {
				return entry == up.URL
			}
			bare := up.Host
			if strings.Contains(bare, ":") {
				bare = "[" + bare + "]"
			}
			return strings.EqualFold(entry, bare) || strings.EqualFold(entry, net.JoinHostPort(up.Host, strconv.Itoa(int(up.Port))))
		})
}

// scriptUpstream makes an upstream of what a script named. Every upstream of a
// script comes from here.
func (p *policy) scriptUpstream(h pac.Hop) *proxy.Upstream {
	scheme := map[pac.Kind]string{pac.HTTP: "http", pac.HTTPS: "https", pac.SOCKS5: "socks5"}[h.Kind]
	up := &proxy.Upstream{URL: scheme + "://" + net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port))),
		TLS: h.Kind == pac.HTTPS, SOCKS: h.Kind == pac.SOCKS5, Host: h.Host, Port: h.Port}
	p.withLogin(up) // a line of upstream_auth names it, so it may have that password
	up.NoAuth = up.Scheme == "" && !p.mayHaveTokens(up)
	return up
}

// hops makes upstreams of an answer, in its order and without those that are
// this program itself. An error means that there are no others.
func (p *policy) hops(answer *pac.Answer, isSelf func(route.Host, uint16) bool) ([]*proxy.Upstream, *proxy.Error) {
	all := make([]*proxy.Upstream, 0, len(answer.Hops))
	for _, h := range answer.Hops {
		if h.Kind == pac.Direct {
			all = append(all, proxy.DirectHop)
			continue
		}
		if host, err := route.ParseHost(h.Host); err == nil && !isSelf(host, h.Port) {
			all = append(all, p.scriptUpstream(h))
		}
	}
	if len(all) == 0 {
		return nil, &proxy.Error{Cause: proxy.CauseLoop, Detail: "The configuration script (PAC) says " + answer.Line + ".",
			Text: "The configuration script (PAC) sends this request back to Kerbpass itself.",
			Hint: "Use the company's script and not one that names Kerbpass: see pac in the settings."}
	}
	return all, nil
}

// router is the app as the proxy's Router.
type router app

// Route implements [proxy.Router].
func (r *router) Route(ctx context.Context, host string, port uint16) (proxy.Decision, error) {
	return (*app)(r).decide(ctx, host, port, false)
}

// RouteTunnel implements [proxy.TunnelRouter].
func (r *router) RouteTunnel(ctx context.Context, host string, port uint16) (proxy.Decision, error) {
	return (*app)(r).decide(ctx, host, port, true)
}

// askScript completes a decision that is the script's.
func (a *app) askScript(ctx context.Context, p *policy, out *proxy.Decision, tunnel bool) {
	answer, err := p.script.finder.Find(ctx, tunnel, out.Host, out.Port)
	if now := a.now.Load(); err != nil && now.script != nil && now.script != p.script {
		p = now // the settings changed meanwhile
		answer, err = p.script.finder.Find(ctx, tunnel, out.Host, out.Port)
	}
	if err != nil {
		out.Route, out.Refusal = proxy.RouteRefused, scriptError(err)
		return
	}
	out.Entry = answer.Line
	hops, refusal := p.hops(answer, a.isSelf)
	if refusal != nil {
		out.Route, out.Refusal = proxy.RouteRefused, refusal
		return
	}
	out.Kerberos, out.Preemptive = p.kerberos, p.preemptive
	out.Upstream, out.Fallbacks = hops[0], hops[1:]
	if hops[0] == proxy.DirectHop {
		out.Route, out.Upstream = proxy.RouteDirect, nil
	} else if last := p.script.last.Load(); last == nil || *last != hops[0].URL {
		p.script.last.Store(&hops[0].URL)
	}
}

// scriptError words why a script gave no way. Nothing goes direct because of it.
func scriptError(err error) *proxy.Error {
	e := &proxy.Error{Cause: proxy.CauseUpstreamUnreachable, Err: err, Detail: sentenceOf(err)}
	switch {
	case errors.Is(err, pac.ErrNoScript):
		e.Text = "The configuration script (PAC) that names the corporate proxy cannot be fetched."
		e.Hint = "Check the network or VPN connection to the company, and the script's address: pac in the settings, or the system's own setting."
	case errors.Is(err, context.Canceled):
		e.Cause = proxy.CauseInternal
	default:
		e.Cause = proxy.CauseInternal
		e.Text = "The configuration script (PAC) failed for this request, so no way is known."
		e.Hint = "Tell the script's administrator: kerbpass why URL shows the error. Until then, set upstream instead, or add the host to the bypass list."
	}
	return e
}

func sentenceOf(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + strings.TrimSuffix(text[1:], ".") + "."
}

const noUpstreamText = "No upstream proxy is set; only bypassed hosts can be reached."

// addScript reports on the script in use.
func (r *report) addScript(s *pacScript) {
	st := s.finder.State()
	r.Proxy.PAC, r.Proxy.Upstream, r.Proxy.UpstreamSource = s.place, "", scriptSource(s.source)
	if st.Place != "" {
		r.Proxy.PAC = st.Place
	}
	if last := s.last.Load(); last != nil {
		r.Proxy.Upstream = *last
	}
	r.Problems = slices.DeleteFunc(r.Problems, func(p problem) bool { return p.Text == noUpstreamText })
	if st.Err == nil {
		return
	}
	e := scriptError(st.Err)
	p := problem{proxy.CauseUpstreamUnreachable, "The configuration script (PAC) is not there, so only bypassed hosts can be reached. " + e.Detail, e.Hint}
	if st.Place != "" { // it goes on
		p.Cause = proxy.CauseInternal
		p.Text = "The configuration script (PAC) cannot be had since " + st.Failed.Local().Format("15:04:05") + "; the last good one is used. " + e.Detail
	}
	r.Problems = append(r.Problems, p)
}

// addFacts tells the window and the menu of the script in use.
func (s *pacScript) addFacts(f *ui.Facts, now time.Time) {
	st := s.finder.State()
	f.Upstream = cmp.Or(st.Place, s.place)
	if last := s.last.Load(); last != nil {
		f.Upstream = *last
	}
	if st.Err != nil && st.Place == "" {
		f.Problems = append(f.Problems, ui.Problem{Cause: string(proxy.CauseUpstreamUnreachable), Detail: sentenceOf(st.Err), At: now})
	}
}

// why explains the way of a target in the running helper.
func (a *app) why(ctx context.Context, target string) (answer, error) {
	p := a.now.Load()
	w, err := explain(p.table, target)
	if err != nil || w.Rule != string(route.RulePAC) {
		return w, err
	}
	return w, p.explainScript(ctx, &w, target, p.script.finder, a.isSelf)
}

// explainScript completes an answer that is the script's.
func (p *policy) explainScript(ctx context.Context, w *answer, target string, f *pac.Finder, isSelf func(route.Host, uint16) bool) error {
	host, port, err := splitTarget(target)
	if err != nil {
		return err
	}
	h, err := route.ParseHost(host)
	if err != nil {
		return err
	}
	scheme, _, isURL := strings.Cut(strings.ToLower(target), "://")
	w.Upstream, w.Kerberos = "", false
	said, err := f.Find(ctx, isURL && scheme != "http" || !isURL && port != 80, h.String(), port)
	var hops []*proxy.Upstream
	refusal := (*proxy.Error)(nil)
	if err != nil {
		refusal = scriptError(err)
	} else {
		w.Entry = said.Line
		hops, refusal = p.hops(said, isSelf)
	}
	if refusal != nil {
		w.Route = string(route.Refused)
		w.Explanation += " " + strings.TrimSpace(refusal.Text+" "+refusal.Detail+" "+refusal.Hint)
		return nil
	}
	first := hops[0]
	switch {
	case first == proxy.DirectHop:
		w.Route = string(route.Direct)
		w.Explanation += " It says that the request goes direct."
	default:
		w.Upstream, w.Kerberos = first.URL, p.kerberos && !first.NoAuth
		w.Explanation += fmt.Sprintf(" It names %s.", first.URL)
		if first.NoAuth && !first.SOCKS && p.kerberos {
			w.Explanation += " That proxy gets no Kerberos token: only the script names it. " + allowHint(first)
		}
	}
	if len(hops) > 1 {
		w.Explanation += fmt.Sprintf(" %d more follow if that fails.", len(hops)-1)
	}
	if len(said.Skipped) > 0 {
		w.Explanation += " Left out: " + strings.Join(said.Skipped, "; ") + "."
	}
	return nil
}

// whyScript asks a script without a running helper.
func (c *cli) whyScript(ctx context.Context, t *route.Table, snap *settings.Snapshot, place, target string) (answer, error) {
	w, err := explain(t, target)
	if err != nil || w.Rule != string(route.RulePAC) {
		return w, err
	}
	command, err := thisPACChild()
	if err != nil {
		return answer{}, err
	}
	p := &policy{table: t, kerberos: snap.KerberosEnabled, tokens: slices.Concat(tokenList(snap.KerberosUpstreams), tokenList(c.system.allowed()))}
	for _, s := range snap.Upstream {
		up, err := parseUpstream(s)
		if err != nil {
			return answer{}, err
		}
		p.upstreams = append(p.upstreams, up)
	}
	f := pac.New(pac.Config{Places: places(place, c.system), Command: command})
	defer f.Close()
	return w, p.explainScript(ctx, &w, target, f, t.Self)
}
