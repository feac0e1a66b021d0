package ui

import (
	"strings"
	"time"
)

// longestTooltip leaves room in the 128 units that Windows has for one.
const longestTooltip = 120

// Picture draws what a tray shows of f at now. The menu has the same items in
// the same order whatever f says.
//
// The icon answers "can I get out?", so what is broken comes before what was
// asked for, and that before the ticket:
//
//   - problem: programs cannot get out and no sign-in would change that: the
//     proxy does not listen, nobody can tell about tickets, or a problem that
//     concerns more than one request. What only Kerberos suffers from does not
//     count while Kerberos is off or paused.
//   - off: switched off or paused. The ticket does not matter then.
//   - expired, none, expiring, valid: the ticket.
//
// Facts without a ticket state are those of a program that has just started:
// nothing is known to be wrong yet.
func Picture(f Facts, now time.Time, p *Printer) State {
	v := view{Facts: f, now: now, p: p}
	v.Ticket = f.condition(now)
	return State{Icon: v.icon(), Tooltip: v.tooltip(), Menu: v.menu()}
}

// A view is the facts, judged at one time, on their way into words.
type view struct {
	Facts
	now time.Time
	p   *Printer
}

// starting is the ticket state before the first reading.
const starting TicketState = ""

// condition is the ticket's state, which may have ended since it was read.
func (f Facts) condition(now time.Time) TicketState {
	switch f.Ticket {
	case TicketValid, TicketExpiring:
		if !f.Expires.IsZero() && !f.Expires.After(now) {
			return TicketExpired
		}
		return f.Ticket
	case starting, TicketExpired, TicketNone:
		return f.Ticket
	default:
		return TicketUnavailable
	}
}

// paused tells whether a pause lasts.
func (f Facts) paused(now time.Time) bool { return f.PausedUntil.After(now) }

// authenticates tells whether Kerberos is used at all.
func (f Facts) authenticates(now time.Time) bool { return f.Kerberos && !f.paused(now) }

// renewable tells whether a renewal can still succeed.
func (v view) renewable() bool {
	alive := v.Ticket == TicketValid || v.Ticket == TicketExpiring
	return alive && v.Renewable && (v.RenewUntil.IsZero() || v.RenewUntil.After(v.now))
}

// wantsSignIn tells whether signing in is the next thing to do.
func (v view) wantsSignIn() bool {
	return v.Ticket == TicketExpiring || v.Ticket == TicketExpired || v.Ticket == TicketNone
}

func (v view) icon() Icon {
	switch on := v.authenticates(v.now); {
	case v.Ticket == starting:
		return IconNone
	case !v.Listening, v.blocked(v.now) != nil, on && v.Ticket == TicketUnavailable:
		return IconProblem
	case !on:
		return IconOff
	}
	switch v.Ticket {
	case TicketExpired:
		return IconExpired
	case TicketNone:
		return IconNone
	case TicketExpiring:
		return IconExpiring
	default:
		return IconValid
	}
}

// tooltip says why the icon is what it is, then the ticket.
func (v view) tooltip() string {
	parts := []string{v.ticketLine()}
	if why := v.trouble(); why != "" {
		parts = []string{why, parts[0]}
	}
	return cut(v.p.text("tooltip", strings.Join(parts, " · ")), longestTooltip)
}

// trouble words what the icon shows besides the ticket, or "".
func (v view) trouble() string {
	switch {
	case v.Ticket == starting:
		return ""
	case !v.Listening:
		return v.proxyLine()
	case v.blocked(v.now) != nil:
		x := v.blocked(v.now)
		sentence, _ := v.p.Cause(x.Cause, x.Detail)
		return sentence
	case !v.Kerberos:
		return v.p.text("off")
	case v.paused(v.now):
		return v.p.text("paused", v.p.until(v.PausedUntil, v.now))
	default:
		return ""
	}
}
