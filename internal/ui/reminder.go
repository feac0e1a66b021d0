package ui

import "time"

// An Action is a button of a notification.
type Action struct {
	Command Command
	Label   string
}

// Reminder words the notification for a stage of the ticket that f tells of:
// expiring, expired, or valid, which means signed in again. The actions are
// those that help: renew, sign_in, later. Of an unknown stage nothing is said.
func (p *Printer) Reminder(stage string, f Facts, now time.Time) (title, body string, actions []Action) {
	f.Ticket = TicketState(stage)
	v := view{Facts: f, now: now, p: p}
	switch v.Ticket {
	case TicketExpiring:
		return v.expiringReminder()
	case TicketExpired:
		help, actions := v.signInHelp()
		return v.ticketLine(), p.text("remind.expired", help), actions
	case TicketValid:
		return p.text("remind.valid"), v.ticketLine(), nil
	default:
		return "", "", nil
	}
}

func (v view) expiringReminder() (title, body string, actions []Action) {
	help, actions := v.signInHelp()
	if v.renewable() {
		help, actions = v.p.text("remind.renew"), v.actions(Action{CommandRenew, v.p.text("menu.renew")})
	}
	return v.ticketLine(), v.p.text("remind.expiring", help), actions
}

// signInHelp says how to sign in, and offers it where this program can.
func (v view) signInHelp() (help string, actions []Action) {
	if !v.CanSignIn {
		return v.p.text("remind.sign_in.system"), v.actions()
	}
	return v.p.text("remind.sign_in"), v.actions(Action{CommandSignIn, v.p.text("menu.sign_in")})
}

func (v view) actions(first ...Action) []Action {
	return append(first, Action{CommandLater, v.p.text("remind.later")})
}

// NotCopied words that the proxy's address could not be put on the clipboard,
// and gives it.
func (p *Printer) NotCopied(address string) (title, body string) {
	return p.text("copy.failed", address), p.text("copy.failed.hint")
}
