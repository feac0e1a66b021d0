// Package ui is what the person sees, as plain data: the condition of ticket
// and proxy folded into one [State], the menu that follows from it, and every
// sentence in the person's language. It does no I/O, knows no desktop and no
// other room, and is told the time.
package ui

import "time"

// TicketState is the condition of the ticket.
type TicketState string

// The conditions, as status words them.
const (
	TicketValid       TicketState = "valid"
	TicketExpiring    TicketState = "expiring"
	TicketExpired     TicketState = "expired"
	TicketNone        TicketState = "none"
	TicketUnavailable TicketState = "unavailable"
)

// Facts is everything that what is shown depends on. Zero times are unknown or
// never.
type Facts struct {
	Ticket     TicketState
	Principal  string // alice@CORP.EXAMPLE
	Cache      string
	Start      time.Time
	Expires    time.Time
	RenewUntil time.Time
	RenewAt    time.Time // when it is renewed by itself
	RenewError string    // why that did not work; ""
	Renewable  bool
	CanSignIn  bool // this program can; else the system has its own way (Windows: lock and unlock)
	Busy       Busy // what is under way

	Listening   bool
	Listen      []string
	Upstream    string // http://proxy.corp.example:8080, "" none
	Kerberos    bool   // the switch
	Locked      bool   // the switch is set by the organisation or the command line
	PausedUntil time.Time

	// Problems are those of now, the gravest first; Recent those of the last
	// hours that the activity tells of.
	Problems []Problem
	Recent   []Problem

	Autostart Autostart
}

// Busy says what the helper is doing about the ticket.
type Busy string

// What it may be doing.
const (
	Idle      Busy = ""
	Renewing  Busy = "renewing"
	SigningIn Busy = "signing_in"
)

// A Problem is one cause of the contract, with what is known of it.
type Problem struct {
	Cause  string // no_ticket, upstream_unreachable, …
	Detail string // a host, a name; "" nothing
	At     time.Time
}

// Autostart is whether the program starts at login.
type Autostart string

// The conditions of start at login. An unknown one is not offered.
const (
	AutostartUnknown  Autostart = ""
	AutostartOn       Autostart = "on"
	AutostartOff      Autostart = "off"
	AutostartBySystem Autostart = "system" // decided by the administrator, or switched off in the system's own list
)

// Icon is what the icon says at a glance.
type Icon string

// The icons, told apart by shape as well as colour.
const (
	IconValid    Icon = "valid"
	IconExpiring Icon = "expiring"
	IconExpired  Icon = "expired"
	IconNone     Icon = "none"
	IconOff      Icon = "off" // Kerberos switched off, or paused
	IconProblem  Icon = "problem"
)

// A Command is what a click asks for.
type Command string

// The commands. CommandOpenProblem goes with an argument, the cause;
// CommandLater is on notifications only.
const (
	CommandRenew       Command = "renew"
	CommandSignIn      Command = "sign_in"
	CommandKerberos    Command = "kerberos" // switch it
	CommandPause15     Command = "pause_15m"
	CommandPause60     Command = "pause_1h"
	CommandResume      Command = "resume"
	CommandCopyProxy   Command = "copy_proxy"
	CommandOpenProblem Command = "open_problem"
	CommandSettings    Command = "settings"
	CommandAutostart   Command = "autostart" // switch it
	CommandQuit        Command = "quit"
	CommandLater       Command = "later" // do nothing now
)

// Kind is what an [Item] looks like.
type Kind string

// The kinds.
const (
	KindLine      Kind = "line" // text, not to be clicked
	KindAction    Kind = "action"
	KindCheck     Kind = "check"
	KindSeparator Kind = "separator"
	KindMenu      Kind = "menu" // opens Items
)

// An Item is one line of the menu. Which items there are, and their order, is
// the same in every state, because trays cannot rebuild a menu that is open;
// one that does not fit the state is hidden. Labels are plain text: a tray
// doubles what its system takes for a mnemonic.
type Item struct {
	ID      string // stable, and unique in the whole menu
	Kind    Kind
	Label   string
	Command Command
	Arg     string
	Checked bool
	Enabled bool
	Hidden  bool
	Items   []Item
}

// A State is all that a tray shows.
type State struct {
	Icon    Icon
	Tooltip string // at most 120 UTF-16 units
	Menu    []Item
}
