package ticket

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// RenewMode says what becomes of a ticket that can be renewed.
type RenewMode string

// The modes. With RenewAsk the person is reminded and decides; with RenewOff
// only the end itself is told.
const (
	RenewAuto RenewMode = "auto"
	RenewAsk  RenewMode = "ask"
	RenewOff  RenewMode = "off"
)

// Stage is a point in a ticket's life that the person should know of.
type Stage string

// The stages. StageValid follows only upon one of the others.
const (
	StageExpiring Stage = "expiring"
	StageExpired  Stage = "expired"
	StageValid    Stage = "valid"
)

// A Reminder is one stage reached.
type Reminder struct {
	Stage    Stage
	Status   Status // of the ticket it is about
	CanRenew bool   // asking the KDC for a renewal may help; else only a sign-in does
	Err      error  // why an automatic renewal or a silent sign-in did not work; nil: none was tried
}

// A Plan is what Run is going to do about the ticket.
type Plan struct {
	RenewAt time.Time // when it renews it; zero: not at all
	Err     error     // why the last attempt to keep it did not work; nil: none did not
}

// Plan returns what Run intends; the zero Plan while it does not run.
func (m *Manager) Plan() Plan {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plan
}

const (
	changeLimit = 30 * time.Second // for a renewal or a silent sign-in of our own
	firstRetry  = 5 * time.Second
	lastRetry   = 5 * time.Minute
	grace       = 20 * time.Second // after the start, a resume or a network change: others may just be signing in
)

// errNeedsPerson ends a silent sign-in that a password alone does not finish.
var errNeedsPerson = errors.New("the KDC wants more than the password")

// Renew asks the KDC for a later end of the ticket in use, now. When ctx ends
// first, the call is left to itself. It shares its errors with
// [Backend.Renew].
func (m *Manager) Renew(ctx context.Context) error {
	return m.change(ctx, "renew", func(ctx context.Context) error {
		return m.cfg.Backend.Renew(ctx, m.cfg.Services...)
	})
}

// SignIn signs in as [Backend.SignIn] does.
func (m *Manager) SignIn(ctx context.Context, l Login) error {
	return m.change(ctx, "sign in", func(ctx context.Context) error { return m.cfg.Backend.SignIn(ctx, l) })
}

// SignOut destroys the cache in use as [Backend.SignOut] does. Nothing signs
// in again by itself until the next start.
func (m *Manager) SignOut(ctx context.Context) error {
	return m.change(ctx, "sign out", m.cfg.Backend.SignOut)
}

// change makes one call that changes the tickets, one at a time, and reads them
// afterwards.
func (m *Manager) change(ctx context.Context, op string, call func(context.Context) error) error {
	ended := func() error { return &OpError{Op: op, Err: context.Cause(ctx)} }
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return ended()
	}
	done := make(chan error, 1)
	go func() {
		err := call(ctx)
		<-m.turn
		done <- err
	}()
	select {
	case err := <-done:
		m.mu.Lock()
		m.look = true
		m.mu.Unlock()
		m.read(ctx)
		m.wake()
		return err
	case <-ctx.Done():
		return ended()
	}
}

// A keeper keeps the ticket alive: it decides when to renew, when to sign in
// with a remembered password, and when to tell the person. Only Run's goroutine
// touches it.
type keeper struct {
	m    *Manager
	busy bool
	done chan outcome // of the call under way; capacity 1

	id     identity  // the ticket that what follows is about
	at     time.Time // when to renew it; zero: never
	told   Stage     // the last the person was told of it; "" nothing yet
	failed error     // why keeping it did not work; nil: not tried, or it did
	tries  int       // failures in a row
	retry  time.Time // not before

	was      State     // the last that was known
	last     Status    // the ticket last seen valid
	orphaned bool      // it ended by itself, or there was none at the start: a silent sign-in is due
	rejected bool      // and was refused, or cannot work
	worried  bool      // the person was told of something that has not been called off
	quiet    time.Time // no reminders before
}

// outcome is how a call of the keeper's ended.
type outcome struct {
	signIn bool
	id     identity // the ticket it was about
	err    error
}

func newKeeper(m *Manager) *keeper {
	return &keeper{m: m, done: make(chan outcome, 1), orphaned: true, quiet: time.Now().Add(grace)}
}

// wait returns when no call is under way; Run's context has ended.
func (k *keeper) wait() {
	if k.busy {
		<-k.done
	}
}

// renewAt is when to renew a ticket: at half of its life, or earlier if the
// person would be reminded before. Zero: a renewal would gain nothing.
func renewAt(st Status, remind time.Duration) time.Time {
	if !st.Renewable || st.Expires.IsZero() || !st.RenewUntil.After(st.Expires) {
		return time.Time{}
	}
	start := st.Start
	if start.IsZero() || !start.Before(st.Expires) {
		start = st.Expires.Add(-2 * remind) // not known; so half-life is the reminder
	}
	at := start.Add(st.Expires.Sub(start) / 2)
	if late := st.Expires.Add(-remind); late.After(start) && late.Before(at) {
		at = late
	}
	return at
}

// step looks at the tickets and does what is due.
func (k *keeper) step(ctx context.Context, now time.Time, s Snapshot) {
	k.adopt(now, s)
	switch {
	case k.busy || now.Before(k.retry):
	case k.renews(s) && !now.Before(k.at):
		k.start(ctx, outcome{id: k.id}, k.m.Renew)
	case k.signsIn(s):
		k.start(ctx, outcome{signIn: true, id: k.id}, k.signIn)
	}
	if !now.Before(k.quiet) {
		k.remind(s)
	}
	plan := Plan{Err: k.failed}
	if k.renews(s) {
		plan.RenewAt = k.at
		if k.retry.After(k.at) {
			plan.RenewAt = k.retry
		}
	}
	k.m.mu.Lock()
	k.m.plan = plan
	k.m.mu.Unlock()
}

// adopt takes note of what the tickets have become.
func (k *keeper) adopt(now time.Time, s Snapshot) {
	k.m.mu.Lock()
	id, afresh := k.m.ticket, k.m.afresh
	k.m.afresh = false
	k.m.mu.Unlock()
	if afresh {
		k.tries, k.retry, k.quiet = 0, time.Time{}, now.Add(grace)
	}
	if id != k.id && id != (identity{}) {
		k.told, k.failed, k.tries, k.retry = "", nil, 0, time.Time{}
		k.at = renewAt(s.Status, k.m.cfg.RemindBefore)
		if left := k.at.Sub(now); !k.at.IsZero() && left > 0 {
			// Machines that were switched on together do not ask together.
			k.at = k.at.Add(-rand.N(left/10 + 1))
		}
	}
	k.id = id
	switch s.State {
	case StateValid, StateExpiring:
		k.last, k.orphaned, k.rejected = s.Status, false, false
	case StateExpired:
		k.orphaned = true
		if k.last.Expires.IsZero() {
			k.last = s.Status
		}
	case StateNone:
		// A kernel keyring drops a ticket at its end; any other way to go was
		// somebody's wish.
		if k.was == StateValid || k.was == StateExpiring {
			k.orphaned = k.last.Left(now) == 0
		}
	}
	if s.State != StateUnavailable {
		k.was = s.State
	}
}

func (k *keeper) renews(s Snapshot) bool {
	return k.m.cfg.Renew == RenewAuto && !k.at.IsZero() && !hopeless(k.failed) &&
		(s.State == StateValid || s.State == StateExpiring)
}

// hopeless reports that asking again for the same ticket cannot help.
func hopeless(err error) bool {
	return errors.Is(err, ErrNotRenewable) || errors.Is(err, ErrExpired) || errors.Is(err, ErrNoTicket) || errors.Is(err, errors.ErrUnsupported)
}

func (k *keeper) signsIn(s Snapshot) bool {
	who := k.m.cfg.Remembered
	return who != "" && k.m.cfg.Recall != nil && k.orphaned && !k.rejected &&
		(k.last.Principal == "" || k.last.Principal == who) && (s.State == StateExpired || s.State == StateNone)
}

// start makes one call beside Run.
func (k *keeper) start(ctx context.Context, o outcome, call func(context.Context) error) {
	k.busy = true
	go func() {
		limit := fmt.Errorf("%w: nothing came back within %v", ErrKDCUnreachable, changeLimit)
		ctx, cancel := context.WithTimeoutCause(ctx, changeLimit, limit)
		defer cancel()
		o.err = call(ctx)
		k.done <- o
	}()
}

// signIn is one silent attempt with the remembered password.
func (k *keeper) signIn(ctx context.Context) error {
	who := k.m.cfg.Remembered
	password, err := k.m.cfg.Recall(ctx, who)
	if err != nil {
		return fmt.Errorf("password of %s: %v", who, err) // never taken for the KDC's silence
	}
	defer password.Wipe()
	asked := false
	return k.m.SignIn(ctx, Login{Principal: who, Prompt: func(_ context.Context, _ string, questions []Prompt) ([]Secret, error) {
		if asked || len(questions) != 1 || questions[0].Kind != PromptPassword {
			return nil, errNeedsPerson
		}
		asked = true
		return []Secret{NewSecret(slices.Clone(password.Expose()))}, nil
	}})
}

// refused reports that the KDC did not take the password, so that trying it
// again could lock the account.
func refused(err error) bool {
	return errors.Is(err, ErrPassword) || errors.Is(err, ErrRevoked) || errors.Is(err, ErrPasswordExpired) || errors.Is(err, ErrPrincipalUnknown)
}

// finished takes in how a call ended.
func (k *keeper) finished(now time.Time, o outcome) {
	k.busy = false
	log := k.m.cfg.Log
	done, failed := "ticket renewed", "ticket not renewed"
	if o.signIn {
		done, failed = "signed in with the remembered password", "remembered password did not sign in"
	}
	if o.err == nil {
		log.Info(done)
		k.failed, k.tries = nil, 0
		// The new ticket replaces the plan; if there is none, do not ask again at once.
		k.retry = now.Add(firstRetry)
		return
	}
	if o.signIn && (refused(o.err) || !errors.Is(o.err, ErrKDCUnreachable)) {
		k.rejected = true
		if refused(o.err) && k.m.cfg.Rejected != nil {
			k.m.cfg.Rejected(k.m.cfg.Remembered, o.err)
		}
	}
	if o.id != k.id {
		return // about a ticket that is gone
	}
	if k.tries == 0 {
		log.Warn(failed, "principal", k.last.Principal, "err", o.err)
	}
	k.failed = o.err
	k.tries++
	k.retry = now.Add(k.pause(now))
}

// pause is how long to wait after a failure: twice as long each time, give or
// take a fifth, and not longer than a quarter of what is left.
func (k *keeper) pause(now time.Time) time.Duration {
	d := min(firstRetry<<min(k.tries-1, 10), lastRetry)
	if left := k.last.Left(now); left > 0 {
		d = min(d, max(left/4, time.Second))
	}
	return d - d/5 + rand.N(d*2/5+1)
}

// remind tells the person, once for each stage.
func (k *keeper) remind(s Snapshot) {
	r := Reminder{Status: s.Status, CanRenew: !k.at.IsZero() && !hopeless(k.failed), Err: k.failed}
	switch good := s.State == StateValid || s.State == StateExpiring && k.renews(s) && k.failed == nil; {
	case good:
		r.Stage = StageValid
	case s.State == StateExpiring:
		r.Stage = StageExpiring
	case k.signsIn(s) && k.failed == nil:
		return // a silent sign-in is under way
	case s.State == StateExpired, s.State == StateNone && k.orphaned && k.last.Principal != "":
		r.Stage, r.Status, r.CanRenew = StageExpired, k.last, false
	default:
		return
	}
	if r.Stage == k.told || r.Stage == StageValid && !k.worried {
		return
	}
	k.told, k.worried = r.Stage, r.Stage != StageValid
	k.m.cfg.Log.Info("reminder", "stage", string(r.Stage), "principal", r.Status.Principal, "can_renew", r.CanRenew, "err", r.Err)
	if k.m.cfg.OnReminder != nil {
		k.m.cfg.OnReminder(r)
	}
}

// next is how long nothing is due, unless the tickets change.
func (k *keeper) next(now time.Time, s Snapshot) time.Duration {
	wait := recheck
	due := func(t time.Time) {
		if d := t.Sub(now); !t.IsZero() && d > 0 {
			wait = min(wait, d)
		}
	}
	if k.renews(s) {
		due(k.at)
	}
	due(k.retry)
	due(k.quiet)
	due(s.Status.Expires)
	due(s.Status.Expires.Add(-k.m.cfg.RemindBefore))
	return max(wait, time.Millisecond)
}
