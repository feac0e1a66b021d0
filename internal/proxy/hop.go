package proxy

import (
	"slices"
	"time"
)

// DirectHop stands in [Decision.Fallbacks] for the target itself: it is dialled
// without a proxy, because whoever made the list said so (DIRECT in a PAC).
// It is known by its address; a copy is an upstream like any other.
var DirectHop = &Upstream{URL: "direct"}

// asks reports whether d leads to a proxy that is asked in HTTP. The other ways
// lead to the target's own words: directly, or through a SOCKS proxy.
func (d *Decision) asks() bool { return d.Route == RouteProxy && !d.Upstream.SOCKS }

// first is the hop that d prefers.
func (d *Decision) first() *Upstream {
	if d.Route == RouteDirect {
		return DirectHop
	}
	return d.Upstream
}

// gets reports whether u may get credentials when the switch for Kerberos stands
// so.
func (u *Upstream) gets(kerberos bool) bool {
	return u != nil && u != DirectHop && (kerberos || u.Scheme != "") && !u.NoAuth && !u.SOCKS
}

// shows reports whether a request that d is for may carry credentials.
func (d *Decision) shows() bool {
	return d.Upstream.gets(d.Kerberos) || slices.ContainsFunc(d.Fallbacks, func(u *Upstream) bool { return u.gets(d.Kerberos) })
}

// take makes d lead over hop, and writes the head for it. kerberos is what the
// Router said; from here on it means that this hop gets credentials.
func (c *session) take(d *Decision, hop *Upstream, kerberos bool) {
	if c.guest != nil { // judged by the hop that is dialled
		c.guest.direct.Store(c.door.guard() != nil && hop == DirectHop)
	}
	if hop == DirectHop {
		d.Route, d.Upstream, d.Kerberos = RouteDirect, nil, false
	} else {
		d.Route, d.Upstream = RouteProxy, hop
		d.Kerberos = hop.gets(kerberos)
	}
	if !c.req.connect || d.asks() {
		c.prefix = c.req.appendHead(c.prefix[:0], d, c.s.cfg.Name)
	}
}

// byHealth orders the hops of d: as preferred, but upstreams that could not be
// reached a moment ago last. None is left out.
func (s *Server) byHealth(d *Decision) []*Upstream {
	now := time.Now()
	all := append(make([]*Upstream, 0, 1+len(d.Fallbacks)), d.first())
	all = append(all, d.Fallbacks...)
	ordered, resting := all[:0:len(all)], []*Upstream(nil)
	for _, up := range all {
		if up != DirectHop && s.about(up).resting(now) {
			resting = append(resting, up)
		} else {
			ordered = append(ordered, up)
		}
	}
	return append(ordered, resting...)
}

// record writes into ev which way the request went in the end.
func (d *Decision) record(ev *Event) {
	ev.Route, ev.Upstream = d.Route, ""
	if d.Upstream != nil {
		ev.Upstream = d.Upstream.URL
	}
}
