package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
	"kerbpass/internal/proxy"
	"kerbpass/internal/route"
)

// answer is what "why --json" prints. Its shape is stable.
type answer struct {
	Route       string `json:"route"`
	Rule        string `json:"rule"`
	Entry       string `json:"entry"`
	Source      string `json:"source"`
	Upstream    string `json:"upstream"`
	Kerberos    bool   `json:"kerberos"`
	Nearest     string `json:"nearest"`
	Explanation string `json:"explanation"`
}

func (c *cli) cmdWhy(ctx context.Context) *cobra.Command {
	var flags runFlags
	cmd := c.addJSON(&cobra.Command{
		Use: "why URL|HOST[:PORT]", Short: "Tell which way a request takes, and which rule decides", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return c.why(ctx, args[0], flags.given(cmd).values) },
	})
	flags.registerRoute(cmd)
	return cmd
}

func (c *cli) why(ctx context.Context, target string, given map[string]any) error {
	var a answer
	var err error
	missing := false
	if len(given) == 0 {
		err = c.ask(ctx, func(ctx context.Context, cl *control.Client) error {
			return cl.Get(ctx, "/v1/why", url.Values{"target": {target}}, &a)
		})
		missing = errors.Is(err, control.ErrNotRunning)
	}
	if missing || len(given) > 0 {
		a, err = c.whyLocal(ctx, target, given)
	}
	if err != nil {
		return err
	}
	if c.json {
		if err := c.printJSON(a); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(c.out, a.text())
	}
	if missing {
		return notRunning()
	}
	return nil
}

func (a answer) text() string {
	head := a.Route
	if a.Route == "proxy" {
		head = "proxy " + a.Upstream + ", Kerberos " + onOff(a.Kerberos)
	}
	rule := "rule: " + a.Rule
	if a.Entry != "" {
		rule += ", entry: " + a.Entry
	}
	if a.Source != "" {
		rule += ", from: " + a.Source
	}
	return head + "\n" + rule + "\n" + a.Explanation
}

// whyLocal answers for given values, or for the settings on disk, without a
// running helper. List entries that are refused are named: they may be what the
// question is about.
func (c *cli) whyLocal(ctx context.Context, target string, given map[string]any) (answer, error) {
	store, err := c.store(given, nil)
	if err != nil {
		return answer{}, err
	}
	snap := store.Snapshot()
	if err := flagProblem(snap); err != nil {
		return answer{}, err
	}
	exact, bad := route.ParseExact(snap.BypassExact)
	suffix, more := route.ParseSuffix(strings.Join(snap.NoProxy, ","))
	for _, e := range append(bad, more...) {
		fmt.Fprintln(c.err, "kerbpass: left out: "+entryError(&e).Error())
	}
	for _, p := range snap.Problems {
		if p.Key == "bypass.exact" || p.Key == "no_proxy" {
			fmt.Fprintln(c.err, "kerbpass: "+p.String())
		}
	}
	t := &route.Table{
		Exact: exact, ExactSource: string(snap.Origins["bypass.exact"].Source),
		Suffix: suffix, SuffixSource: string(snap.Origins["no_proxy"].Source),
		UpstreamSource: string(snap.Origins["upstream"].Source), Kerberos: snap.KerberosEnabled,
		Self: func(h route.Host, port uint16) bool {
			return selfUpstream("http://"+bracket(h)+fmt.Sprintf(":%d", port), snap.Listen)
		},
	}
	if len(snap.Upstream) > 0 {
		up, err := parseUpstream(snap.Upstream[0])
		if err != nil {
			return answer{}, err
		}
		t.Upstream = up.URL
	}
	place, source := choosePAC(snap, c.system, store.Path())
	if place == "" {
		return explain(t, target)
	}
	t.PAC, t.PACSource = true, source
	return c.whyScript(ctx, t, snap, place, target)
}

func bracket(h route.Host) string {
	if a, ok := h.Addr(); ok && a.Is6() {
		return "[" + h.String() + "]"
	}
	return h.String()
}

// explain decides a target as a person types it: a URL, or a host with or
// without a port.
func explain(t *route.Table, target string) (answer, error) {
	host, port, err := splitTarget(target)
	if err != nil {
		return answer{}, caused(err, errNoHost)
	}
	h, err := route.ParseHost(host)
	if err != nil {
		return answer{}, caused(failf(exitUsage, "Give a URL, or a host with or without a port.", "%q is not a host: %v.", host, err), errNoHost)
	}
	e := t.Explain(h, port)
	a := answer{
		Route: string(e.Route), Rule: string(e.Rule), Entry: e.Entry, Source: e.Source,
		Nearest: e.Nearest, Explanation: e.Reason,
	}
	if e.Route == route.Proxy {
		a.Upstream, a.Kerberos = t.Upstream, t.Kerberos
	}
	return a, nil
}

func splitTarget(target string) (host string, port uint16, err error) {
	rest, def := target, uint16(443)
	if scheme, r, ok := strings.Cut(target, "://"); ok {
		switch strings.ToLower(scheme) {
		case "http", "ws":
			def = 80
		case "https", "wss":
		default:
			return "", 0, failf(exitUsage, "Give an http:// or https:// URL, or a host.", "The scheme %q is not one that goes through a proxy.", scheme)
		}
		rest = r
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			rest = rest[:i]
		}
		if user, r, ok := strings.Cut(rest, "@"); ok && !strings.Contains(user, `\`) {
			rest = r
		}
	}
	if a, err := netip.ParseAddr(rest); err == nil && a.Is6() {
		return rest, def, nil // as people type it; a request needs brackets
	}
	host, port, err = proxy.SplitAuthority(rest)
	if err != nil {
		return "", 0, failf(exitUsage, "Give a URL, or a host with or without a port. An IPv6 address with a port needs brackets.", "The target is not understood: %v.", err)
	}
	if port == 0 {
		port = def
	}
	return host, port, nil
}
