package ui

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// recentShown is how many recent problems the menu has room for.
const recentShown = 8

func (v view) menu() []Item {
	problem, hint := v.problemLines()
	return []Item{
		line("ticket", v.ticketLine()),
		line("principal", v.principalLine()),
		line("renewal", v.renewalLine()),
		line("proxy", v.proxyLine()),
		line("problem", problem),
		line("hint", hint),
		{ID: "separator_1", Kind: KindSeparator},
		v.renewItem(),
		v.signInItem(),
		v.kerberosItem(),
		v.pauseMenu(),
		{ID: "copy_proxy", Kind: KindAction, Label: v.p.text("menu.copy_proxy"), Command: CommandCopyProxy, Enabled: v.Listening},
		v.recentMenu(),
		{ID: "separator_2", Kind: KindSeparator},
		{ID: "settings", Kind: KindAction, Label: v.p.text("menu.settings"), Command: CommandSettings, Enabled: true},
		v.autostartItem(),
		{ID: "separator_3", Kind: KindSeparator},
		{ID: "quit", Kind: KindAction, Label: v.p.text("menu.quit"), Command: CommandQuit, Enabled: true},
	}
}

// line is text in the menu, hidden where there is nothing to say.
func line(id, label string) Item {
	return Item{ID: id, Kind: KindLine, Label: label, Hidden: label == ""}
}

func (v view) ticketLine() string {
	dated := !v.Expires.IsZero()
	switch v.Ticket {
	case TicketValid, TicketExpiring:
		switch {
		case !dated:
			return v.p.text("ticket.valid.undated")
		case v.Ticket == TicketExpiring:
			return v.p.text("ticket.expiring", v.p.at(v.Expires, v.now), v.p.left(v.Expires, v.now))
		default:
			return v.p.text("ticket.valid", v.p.until(v.Expires, v.now), v.p.left(v.Expires, v.now))
		}
	case TicketExpired:
		if !dated {
			return v.p.text("ticket.expired.undated")
		}
		return v.p.text("ticket.expired", v.p.at(v.Expires, v.now))
	case TicketNone:
		return v.p.text("ticket.none")
	case starting:
		return v.p.text("ticket.starting")
	default:
		return v.p.text("ticket.unavailable")
	}
}

func (v view) principalLine() string {
	principal := name(v.Principal)
	if principal == "" {
		return ""
	}
	return v.p.text("principal", principal)
}

// renewalLine says what will become of a ticket that still lasts. Why a
// renewal failed is for the log: it is not in the person's language.
func (v view) renewalLine() string {
	planned := v.RenewAt.After(v.now)
	switch {
	case v.Ticket != TicketValid && v.Ticket != TicketExpiring:
		return ""
	case v.RenewError != "" && planned:
		return v.p.text("renewal.failed.again", v.p.at(v.RenewAt, v.now))
	case v.RenewError != "":
		return v.p.text("renewal.failed")
	case planned:
		return v.p.text("renewal.planned", v.p.at(v.RenewAt, v.now))
	case v.renewable() && !v.RenewUntil.IsZero():
		return v.p.text("renewal.possible", v.p.until(v.RenewUntil, v.now))
	default:
		return ""
	}
}

func (v view) proxyLine() string {
	listen := ""
	if v.Listening && len(v.Listen) > 0 {
		listen = name(v.Listen[0])
	}
	upstream := name(hostOf(v.Upstream))
	switch {
	case v.Ticket == starting && !v.Listening:
		return ""
	case !v.Listening:
		return v.p.text("proxy.down")
	case upstream == "":
		return v.p.text("proxy.direct", listen)
	default:
		return v.p.text("proxy.upstream", listen, upstream)
	}
}

// hostOf returns host and port of a URL, and never what may be a password.
func hostOf(upstream string) string {
	if u, err := url.Parse(upstream); err == nil && u.Host != "" {
		return u.Host
	}
	return upstream[strings.LastIndexByte(upstream, '@')+1:]
}

// problemLines words the gravest problem.
func (v view) problemLines() (sentence, hint string) {
	x := v.gravest(v.now)
	if x == nil {
		return "", ""
	}
	return v.p.Cause(x.Cause, x.Detail)
}

// renewItem is there while a renewal can succeed.
func (v view) renewItem() Item {
	it := Item{ID: "renew", Kind: KindAction, Label: v.p.text("menu.renew"), Command: CommandRenew, Enabled: v.Busy == Idle, Hidden: !v.renewable()}
	if v.Busy == Renewing {
		it.Label, it.Hidden = v.p.text("menu.renewing"), false
	}
	return it
}

// signInItem is there while signing in is the next thing to do. Where only the
// system can do it, the label says how.
func (v view) signInItem() Item {
	it := Item{ID: "sign_in", Kind: KindAction, Label: v.p.text("menu.sign_in"), Command: CommandSignIn,
		Enabled: v.CanSignIn && v.Busy == Idle, Hidden: !v.wantsSignIn()}
	switch {
	case v.Busy == SigningIn:
		it.Label, it.Hidden = v.p.text("menu.signing_in"), false
	case !v.CanSignIn:
		it.Label = v.p.text("menu.sign_in.system")
	}
	return it
}

func (v view) kerberosItem() Item {
	it := Item{ID: "kerberos", Kind: KindCheck, Label: v.p.text("menu.kerberos"), Command: CommandKerberos, Checked: v.Kerberos, Enabled: !v.Locked}
	if v.Locked {
		it.Label = v.p.text("menu.kerberos.locked")
	}
	return it
}

// pauseMenu pauses, or prolongs a pause, where the switch is the person's own
// and on: a pause is no way round the organisation. A pause can always end.
func (v view) pauseMenu() Item {
	paused := v.paused(v.now)
	may := v.Kerberos && !v.Locked
	it := Item{ID: "pause", Kind: KindMenu, Label: v.p.text("menu.pause"), Enabled: may || paused, Items: []Item{
		{ID: "pause_15m", Kind: KindAction, Label: v.p.text("menu.pause.15m"), Command: CommandPause15, Enabled: may},
		{ID: "pause_1h", Kind: KindAction, Label: v.p.text("menu.pause.1h"), Command: CommandPause60, Enabled: may},
		{ID: "resume", Kind: KindAction, Label: v.p.text("menu.resume"), Command: CommandResume, Enabled: paused, Hidden: !paused},
	}}
	if paused {
		it.Label = v.p.text("paused", v.p.until(v.PausedUntil, v.now))
	}
	return it
}

// recentMenu lists the recent problems, the newest first.
func (v view) recentMenu() Item {
	recent := slices.Clone(v.Recent)
	slices.SortStableFunc(recent, func(a, b Problem) int { return b.At.Compare(a.At) })
	menu := Item{ID: "recent", Kind: KindMenu, Label: v.p.text("menu.recent"), Enabled: len(recent) > 0}
	for i := range recentShown {
		it := Item{ID: "recent_" + strconv.Itoa(i+1), Kind: KindAction, Command: CommandOpenProblem, Hidden: true}
		if i < len(recent) {
			it.Label, it.Arg, it.Enabled, it.Hidden = v.recentLabel(recent[i]), recent[i].Cause, true, false
		}
		menu.Items = append(menu.Items, it)
	}
	return menu
}

func (v view) recentLabel(x Problem) string {
	sentence, _ := v.p.Cause(x.Cause, x.Detail)
	if x.At.IsZero() {
		return sentence
	}
	return v.p.text("recent", v.p.clock(x.At), sentence)
}

// autostartItem offers start at login where it is known whether it is on.
func (v view) autostartItem() Item {
	it := Item{ID: "autostart", Kind: KindCheck, Label: v.p.text("menu.autostart"), Command: CommandAutostart,
		Checked: v.Autostart == AutostartOn, Enabled: v.Autostart == AutostartOn || v.Autostart == AutostartOff, Hidden: v.Autostart == AutostartUnknown}
	if v.Autostart == AutostartBySystem {
		it.Label = v.p.text("menu.autostart.system")
	}
	return it
}
