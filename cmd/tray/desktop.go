package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"kerbpass/assets"
	"kerbpass/internal/activity"
	"kerbpass/internal/autostart"
	"kerbpass/internal/doctor"
	"kerbpass/internal/peer"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ui"
	"kerbpass/internal/ui/notify"
	"kerbpass/internal/ui/tray"
	"kerbpass/internal/ui/web"
	"kerbpass/internal/ui/window"
)

const (
	redrawEvery  = 30 * time.Second // times are shown to the minute
	recentFor    = 6 * time.Hour
	maxRecent    = 8
	trayPixels   = 32
	reminderNote = "ticket" // the key of the one note about the ticket
	resultNote   = "result" // and of the one about what was clicked
	noteLimit    = 10 * time.Second
)

// desktop is what the person sees of a running app: the tray, notes, and the
// settings window. The app tells it that something has changed and never waits
// for it.
type desktop struct {
	ctx       context.Context // of what clicks start
	app       *app
	locale    []string         // of the environment
	autostart *autostart.Entry // nil: cannot be switched here
	tray      *tray.Tray
	notes     *notify.Notifier

	reminders chan ticket.Reminder
	busy      atomic.Pointer[ui.Busy]
	jobs      sync.WaitGroup
	signIns   *signIns
	own       *peer.Checker // who may see the page: this user alone
	page      *web.Server
	window    *window.Window

	logFile  string    // "": the log is on standard error alone
	pageFile string    // "": no page is kept over a restart
	hasPlace chan bool // capacity 1: whether the icon is shown, the newest
	noTray   sync.Once // that there is none is said once
	terminal io.Writer // to tell a person who looks, nil: nobody does
	env      func(string) (string, bool)
	first    bool        // nobody has used this program here yet
	welcome  atomic.Bool // the page begins with the welcome

	diagnosing sync.Mutex     // held by the check under way; guards diagnosis
	diagnosis  *doctor.Report // the last one, without names and secrets; nil: none yet
}

// newDesktop builds the parts; run shows them.
func newDesktop(ctx context.Context, c *cli, a *app) (*desktop, error) {
	d := &desktop{ctx: ctx, app: a, reminders: make(chan ticket.Reminder, 4), hasPlace: make(chan bool, 1), env: c.lookupEnv}
	if c.logFile != nil {
		d.logFile = c.logFile.path
	}
	d.pageFile = c.pageFile
	if f, ok := c.err.(*os.File); ok && isTerminal(f) {
		d.terminal = f
	}
	for _, name := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		v, _ := c.lookupEnv(name)
		d.locale = append(d.locale, v)
	}
	d.working(ui.Idle)
	var err error
	if d.autostart, err = c.autostart(); err != nil {
		a.log.Warn("start at login cannot be switched", "err", err)
	}
	if d.tray, err = tray.New(tray.Config{Icon: trayIcon, Title: "Kerbpass", OnCommand: d.do, OnVisible: d.placed, Log: a.log}); err != nil {
		return nil, err
	}
	d.notes, err = notify.New(notify.Config{Name: "Kerbpass", Icon: assets.App(64), OnAction: func(_, action string) { d.do(ui.Command(action), "") }, Log: a.log})
	if err != nil {
		return nil, err
	}
	d.signIns = &signIns{ctx: ctx, signIn: d.signIn, open: map[string]*conversation{}}
	if err := d.addWindow(); err != nil {
		return nil, err
	}
	a.onReminder, a.openWindow, a.pageLink = d.remind, d.openWindow, d.link
	return d, nil
}

// changed asks for a new picture.
func (d *desktop) changed() { d.app.notice.tell() }

// signIn signs in for the settings page.
func (d *desktop) signIn(ctx context.Context, l ticket.Login) error {
	cur := d.app.tickets.cur.Load()
	if cur.Manager == nil {
		return noKerberos(cur.err)
	}
	d.working(ui.SigningIn)
	defer d.working(ui.Idle)
	return cur.SignIn(ctx, l)
}

// remind takes a reminder in; with four waiting, the desktop is gone anyway.
func (d *desktop) remind(r ticket.Reminder) {
	select {
	case d.reminders <- r:
	default:
	}
}

func (d *desktop) working(b ui.Busy) {
	d.busy.Store(&b)
	d.changed()
}

// runTray shows the tray until ctx ends. That there is no desktop, or that it
// goes away, is said once and does not end the app.
func (d *desktop) runTray(ctx context.Context) {
	switch err := d.tray.Run(ctx); {
	case ctx.Err() != nil:
	case errors.Is(err, tray.ErrGone):
		d.app.log.Info("the desktop has ended; going on without a tray")
	case err != nil:
		d.trayless(ctx, err)
	}
}

// run keeps tray and notes up to date until ctx ends.
func (d *desktop) run(ctx context.Context) error {
	var parts sync.WaitGroup
	defer func() {
		d.jobs.Wait()
		d.signIns.jobs.Wait()
		parts.Wait()
		d.own.Close() // the page asks it until its end
	}()
	parts.Go(func() { d.notes.Run(ctx) })
	parts.Go(func() { d.page.Run(ctx) })
	parts.Go(func() { d.window.Run(ctx) })
	parts.Go(func() { d.greet(ctx) })
	told, end := d.app.notice.subscribe()
	defer end()
	d.show(time.Now())
	tick := time.NewTicker(redrawEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-told:
		case <-tick.C:
		case r := <-d.reminders:
			d.note(ctx, r)
		}
		d.show(time.Now())
	}
}

// show draws the state of now.
func (d *desktop) show(now time.Time) {
	d.tray.Show(ui.Picture(d.facts(now), now, d.printer()))
}

func (d *desktop) printer() *ui.Printer {
	return ui.NewPrinter(d.app.cfg.store.Snapshot().Language, nil, d.locale...)
}

// facts gathers what is known, without asking anybody.
func (d *desktop) facts(now time.Time) ui.Facts {
	a, snap := d.app, d.app.cfg.store.Snapshot()
	f := ui.Facts{
		Ticket: ui.TicketUnavailable, Busy: *d.busy.Load(), CanSignIn: canSignIn,
		Listening: true, Listen: a.addrs(), Kerberos: snap.KerberosEnabled, Locked: snap.Describe()["kerberos.enabled"].Locked,
		PausedUntil: a.pausedUntil(), Autostart: d.startsAtLogin(),
	}
	if ups := a.now.Load().upstreams; len(ups) > 0 {
		f.Upstream = ups[0].URL
	}
	if s := a.now.Load().script; s != nil {
		s.addFacts(&f, now)
	}
	if cur := a.tickets.cur.Load(); cur.Manager != nil {
		t, plan := cur.Known(), cur.Plan()
		if f.Ticket = ui.TicketState(t.State); t.State == ticket.StateUnavailable && t.Err == nil {
			f.Ticket = "" // not read yet
		}
		st := t.Status
		f.Principal, f.Cache, f.Start, f.Expires, f.Renewable, f.RenewUntil = st.Principal, st.Cache, st.Start, st.Expires, st.Renewable, st.RenewUntil
		if f.RenewAt = plan.RenewAt; plan.Err != nil {
			f.RenewError = plan.Err.Error()
		}
	}
	if why, when := a.state.path.error(); why != nil {
		f.Problems = append(f.Problems, ui.Problem{Cause: string(why.Cause), Detail: why.Detail, At: when})
	}
	f.Problems = append(f.Problems, a.loginProblems(f.Problems, now)...)
	f.Recent = d.recent(now)
	return f
}

// recent lists what failed lately, the latest first, each cause and host once.
func (d *desktop) recent(now time.Time) (all []ui.Problem) {
	entries := d.app.state.clients.ring.Since(0, activity.Size)
	seen := map[string]bool{}
	for i := len(entries) - 1; i >= 0 && len(all) < maxRecent; i-- {
		e := entries[i]
		key := e.Cause + " " + e.Host
		if e.Cause == "" || seen[key] || now.Sub(e.Time) > recentFor {
			continue
		}
		seen[key] = true
		all = append(all, ui.Problem{Cause: e.Cause, Detail: e.Host, At: e.Time})
	}
	return all
}

func (d *desktop) startsAtLogin() ui.Autostart {
	if d.autostart == nil {
		return ui.AutostartUnknown
	}
	st, err := d.autostart.Status()
	switch {
	case err != nil:
		return ui.AutostartUnknown
	case st.By == autostart.ByAdmin:
		return ui.AutostartBySystem
	case st.Enabled:
		return ui.AutostartOn
	}
	return ui.AutostartOff
}

// do carries out what was clicked. It must not hold up the tray for long.
func (d *desktop) do(command ui.Command, arg string) {
	a, store := d.app, d.app.cfg.store
	a.log.Debug("clicked", "command", string(command), "arg", arg)
	var err error
	switch command {
	case ui.CommandRenew:
		d.job(ui.Renewing, d.renew)
	case ui.CommandSignIn:
		d.jobs.Go(d.offerSignIn)
	case ui.CommandKerberos:
		err = setKerberos(store, !store.Snapshot().KerberosEnabled)
	case ui.CommandPause15:
		err = a.pause(15 * time.Minute)
	case ui.CommandPause60:
		err = a.pause(time.Hour)
	case ui.CommandResume:
		err = a.pause(0)
	case ui.CommandCopyProxy:
		err = d.copyProxy()
	case ui.CommandOpenProblem:
		sentence, hint := d.printer().Cause(arg, "")
		d.tell(sentence, hint)
	case ui.CommandSettings:
		d.jobs.Go(d.offerSettings)
	case ui.CommandAutostart:
		err = d.switchAutostart()
	case ui.CommandQuit:
		a.log.Info("quit was clicked")
		a.quit()
	}
	if err != nil {
		d.fail(err)
	}
	d.changed()
}

// job runs what takes longer beside the tray. What hangs in a library is not
// waited for longer than signLimit.
func (d *desktop) job(b ui.Busy, run func(context.Context) error) {
	d.working(b)
	d.jobs.Go(func() {
		defer d.working(ui.Idle)
		ctx, cancel := context.WithTimeoutCause(d.ctx, signLimit, fmt.Errorf("%w: nothing came back within %v", ticket.ErrKDCUnreachable, signLimit))
		defer cancel()
		if err := run(ctx); err != nil && d.ctx.Err() == nil {
			d.fail(err)
		}
	})
}

func (d *desktop) renew(ctx context.Context) error {
	cur := d.app.tickets.cur.Load()
	if cur.Manager == nil {
		return noKerberos(cur.err)
	}
	if err := cur.Renew(ctx); err != nil {
		return caused(loginError(err), err, errSignInElse)
	}
	return nil
}

func (d *desktop) switchAutostart() error {
	if d.autostart == nil {
		return nil
	}
	if d.startsAtLogin() == ui.AutostartOn {
		return autostartError(d.autostart.Disable())
	}
	return autostartError(d.autostart.Enable())
}

// note shows a reminder, unless the person does not want that stage.
func (d *desktop) note(ctx context.Context, r ticket.Reminder) {
	snap := d.app.cfg.store.Snapshot()
	wanted := map[ticket.Stage]bool{ticket.StageExpiring: snap.NotifyExpiring, ticket.StageExpired: snap.NotifyExpired, ticket.StageValid: snap.NotifyValid}
	ctx, cancel := context.WithTimeout(ctx, noteLimit)
	defer cancel()
	if !wanted[r.Stage] {
		d.notes.Close(ctx, reminderNote) // what it said before is solved, or unwanted
		return
	}
	now := time.Now()
	f := d.facts(now)
	f.Principal, f.Expires, f.Renewable = r.Status.Principal, r.Status.Expires, r.CanRenew
	title, body, actions := d.printer().Reminder(string(r.Stage), f, now)
	n := notify.Note{Key: reminderNote, Title: title, Body: body, Urgency: notify.Normal}
	for _, a := range actions {
		n.Actions = append(n.Actions, notify.Action{ID: string(a.Command), Label: a.Label})
	}
	d.post(ctx, n)
}

// tell shows a note about what was clicked.
func (d *desktop) tell(title, body string) {
	ctx, cancel := context.WithTimeout(d.ctx, noteLimit)
	defer cancel()
	d.post(ctx, notify.Note{Key: resultNote, Title: title, Body: body, Urgency: notify.Normal})
}

func (d *desktop) post(ctx context.Context, n notify.Note) {
	if err := d.notes.Show(ctx, n); err != nil && ctx.Err() == nil {
		d.app.log.Info("note not shown", "title", n.Title, "err", err)
	}
}

// fail tells why a click did nothing.
func (d *desktop) fail(err error) {
	title, body := err.Error(), ""
	var e *exitError
	if errors.As(err, &e) {
		body = e.hint
	}
	d.app.log.Warn("click not carried out", "err", err)
	d.tell(title, body)
}

func (d *desktop) copyProxy() error {
	text := "http://" + d.app.addrs()[0]
	if err := copyText(text); err != nil {
		d.app.log.Debug("no clipboard", "err", err)
		d.tell(d.printer().NotCopied(text))
	}
	return nil
}

// offerSettings shows the settings window, or the file where there is none.
func (d *desktop) offerSettings() {
	if err := d.windowOrFile(d.ctx); err != nil && d.ctx.Err() == nil {
		d.fail(err)
	}
}

// offerSignIn shows the settings window, whose first page signs in, or a
// terminal where there is none.
func (d *desktop) offerSignIn() {
	err := d.openWindow(d.ctx)
	if err == nil || d.ctx.Err() != nil {
		return
	}
	d.app.log.Warn("no settings window, opening a terminal", "err", err)
	if err := signInTerminal(); err != nil {
		d.fail(err)
	}
}

// runDesktop is the bare "kerbpass": the proxy with tray and notes. The tray
// has this goroutine, because macOS draws on the main one only.
// With open, its window is shown at once. A second start shows the window of
// the first.
func (c *cli) runDesktop(ctx context.Context, flags runFlags, open bool) error {
	c.openFiles()
	a, err := c.openApp(flags)
	if errors.Is(err, errAlreadyRunning) && c.askForWindow(ctx) == nil {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d, err := newDesktop(ctx, c, a)
	if err != nil {
		a.closeListeners()
		a.cfg.control.Close()
		return err
	}
	if d.autostart != nil {
		if err := d.autostart.Repair(); err != nil {
			a.log.Warn("start at login cannot be repaired", "err", err)
		}
	}
	a.services = append(a.services, d.run)
	d.firstStart(open)
	ended := make(chan error, 1)
	go func() {
		ended <- a.run(ctx)
		stop()
	}()
	d.runTray(ctx)
	return <-ended
}

// trayIcon is the picture of a state as this system wants it.
func trayIcon(icon ui.Icon) []byte { return systemIcon(string(icon)) }
