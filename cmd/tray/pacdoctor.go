package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"kerbpass/internal/doctor"
	"kerbpass/internal/proxy"
	"kerbpass/internal/route"
)

// settleScript writes the script that decides in the person's settings, or in
// the running helper, into the values of the examined ones.
func (x *examination) settleScript(values map[string]any, system *systemProxies, helper *report) {
	place, source := choosePAC(x.snap, system, x.file)
	if source = scriptSource(source); helper != nil {
		place, source = helper.Proxy.PAC, helper.Proxy.UpstreamSource
	}
	if values["pac"] = place; place != "" {
		x.source, x.sourceName = source, ""
	}
}

// checkScript is checkUpstream where a configuration script decides: it is asked
// about the host that the other checks ask for.
func (x *examination) checkScript(ctx context.Context, s *pacScript) doctor.Finding {
	said, err := s.finder.Find(ctx, false, testHost, 80)
	if err != nil {
		return brokenBy(scriptError(err), "")
	}
	seen := fmt.Sprintf("The configuration script (PAC) %s (from %s) says %s.", s.finder.State().Place, strings.TrimPrefix(x.source, "pac, "), said.Line)
	if len(said.Skipped) > 0 {
		seen += " Left out: " + strings.Join(said.Skipped, "; ") + "."
	}
	hops, refusal := x.app.now.Load().hops(said, func(h route.Host, port uint16) bool { return x.isOurs(h.String(), port) })
	if refusal != nil {
		return broken(refusal.Cause, refusal.Hint, "%s That is Kerbpass itself.", seen)
	}
	i := slices.IndexFunc(hops, func(up *proxy.Upstream) bool { return up != proxy.DirectHop && !up.SOCKS })
	if i < 0 {
		return needless(seen + " No proxy that takes Kerberos is among them.")
	}
	up := hops[i]
	x.learn(func(f *facts) { f.upstream = up })
	if up.NoAuth && x.kerberosOn() {
		return noted(proxy.CauseUpstreamNotAllowed, allowHint(up), "%s %s gets no token: only the script names it.", seen, up.URL)
	}
	return good("%s", seen)
}

// withUpstream leaves a check out if the script names no proxy to look at.
func (x *examination) withUpstream(check func(context.Context) doctor.Finding) func(context.Context) doctor.Finding {
	return func(ctx context.Context) doctor.Finding {
		if x.known().upstream == nil {
			return needless("The configuration script (PAC) names no proxy to look at.")
		}
		return check(ctx)
	}
}

// withToken leaves a check out if the upstream gets no token, whatever it asks.
func (x *examination) withToken(check func(context.Context) doctor.Finding) func(context.Context) doctor.Finding {
	return x.withUpstream(func(ctx context.Context) doctor.Finding {
		if x.known().upstream.NoAuth {
			return needless("The upstream gets no token: only the configuration script (PAC) names it.")
		}
		return check(ctx)
	})
}

// allowHint tells how a proxy that only a script names may get tokens.
func allowHint(up *proxy.Upstream) string {
	return fmt.Sprintf("If %s is your company's proxy and asks for Kerberos, add it under [kerberos] in the settings: upstreams = [%q].", up.Host,
		net.JoinHostPort(up.Host, strconv.Itoa(int(up.Port))))
}
