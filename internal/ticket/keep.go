package ticket

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
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
	Err     error     // why the last attempt to keep it did not work; nil: it did, or there was none
}

// Plan returns what Run intends; the zero Plan while it does not run.
func (m *Manager) Plan() Plan {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.plan
}

const (
	changeLimit = 30 * time.Second // for a renewal or a silent sign-in of our own
	recallLimit = 20 * time.Second // for the remembered password, as part of that
	firstRetry  = 5 * time.Second
	lastRetry   = 5 * time.Minute
	grace       = 20 * time.Second // after the start, a resume or a network change: others may just be signing in
)

// Reasons for which nothing is tried again at once.
var (
	errNeedsPerson = errors.New("the KDC wants more than the password")
	errNoGain      = errors.New("the renewed ticket does not last longer")
	errSignedOut   = errors.New("the person has signed out")
	errNotSeen     = errors.New("the new ticket is not in the cache that is looked at")
)

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
	return m.change(ctx, "sign out", func(ctx context.Context) error {
		err := m.cfg.Backend.SignOut(ctx)
		if err == nil {
			m.cfg.Memory.silence(errSignedOut)
		}
		return err
	})
}

// change makes one call that changes the tickets, one at a time, and reads them
// afterwards.
func (m *Manager) change(ctx context.Context, op string, call func(context.Context) error) error {
	ended := func() error { return &OpError{Op: op, Err: context.Cause(ctx)} }
	select {
	case m.cfg.Memory.turn <- struct{}{}:
	case <-ctx.Done():
		return ended()
	}
	done := make(chan error, 1)
	go func() {
		err := call(ctx)
		<-m.cfg.Memory.turn
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

// A Memory is what one [Manager] leaves to the next when other settings take
// effect: their calls that change tickets are made one at a time, their Runs
// one after the other, no refused password is tried again, and the person is
// not told twice. Make one with [NewMemory].
type Memory struct {
	turn    chan struct{} // held by the one call that changes tickets; capacity 1
	running chan struct{} // held by the one Run; capacity 1
	forget  chan struct{} // held while Config.Rejected is told; capacity 1

	mu     sync.Mutex // guards silent
	silent error      // why no silent sign-in is tried; nil: it may be

	// Only the holder of running touches what follows.
	remembered string    // whose password silent is about
	id         identity  // the ticket that was last seen
	told       Stage     // the last the person was told of it; "" nothing yet
	worried    bool      // the person was told of something that has not been called off
	was        State     // the last that was known
	last       Status    // the ticket last seen valid
	orphaned   bool      // it ended by itself, or there was none at the start: a silent sign-in is due
	ended      time.Time // when the last call of ours did
}

// NewMemory returns the memory of a program that has just started.
func NewMemory() *Memory {
	one := func() chan struct{} { return make(chan struct{}, 1) }
	return &Memory{turn: one(), running: one(), forget: one(), orphaned: true}
}

// silence keeps silent sign-ins from being tried, for the first reason given;
// nil allows them again.
func (y *Memory) silence(why error) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.silent == nil || why == nil {
		y.silent = why
	}
}

func (y *Memory) silenced() error {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.silent
}

// A keeper keeps the ticket alive: it decides when to renew, when to sign in
// with a remembered password, and when to tell the person. Only Run's goroutine
// touches it.
type keeper struct {
	*Memory
	m    *Manager
	busy bool
	done chan outcome // of the call under way; capacity 1

	planned bool      // the next is about the ticket that was last seen
	at      time.Time // when to renew it; zero: never
	failed  error     // why keeping it did not work; nil: not tried, or it did
	tries   int       // failures in a row
	retry   time.Time // not before
	quiet   time.Time // no reminders before
}

// outcome is how a call of the keeper's ended.
type outcome struct {
	signIn bool
	id     identity // the ticket it was about
	err    error
}

func newKeeper(m *Manager) *keeper {
	k := &keeper{Memory: m.cfg.Memory, m: m, done: make(chan outcome, 1), quiet: time.Now().Add(grace)}
	k.retry = k.ended.Add(firstRetry)
	if k.remembered != m.cfg.Remembered {
		k.remembered = m.cfg.Remembered
		k.silence(nil)
	}
	return k
}

// wait returns when no call is under way, and no refused password is left where
// the next start would find it; Run's context has ended.
func (k *keeper) wait() {
	if k.busy {
		<-k.done
	}
	k.forget <- struct{}{}
	<-k.forget
}

// outlives reports whether a renewal of old into id has gained anything.
func (id identity) outlives(old identity) bool {
	return id.principal != old.principal || id.expires.After(old.expires)
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
		k.start(ctx, outcome{id: k.id}, k.m.renewToGain)
	case k.signsIn(s):
		k.start(ctx, outcome{signIn: true, id: k.id}, k.m.signInSilently)
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
		k.tries = 0
		if soon := k.ended.Add(firstRetry); soon.Before(k.retry) {
			k.retry = soon
		}
		if !now.Before(k.quiet) { // or a network that comes and goes would keep us quiet for ever
			k.quiet = now.Add(grace)
		}
	}
	other := id != k.id && id != (identity{})
	if other && (!errors.Is(k.failed, errNoGain) || id.outlives(k.id)) {
		k.told = ""
		if k.failed != nil {
			k.failed, k.tries, k.retry = nil, 0, time.Time{}
		}
	}
	if other || !k.planned {
		k.planned = s.State != StateUnavailable
		k.at = renewAt(s.Status, k.m.cfg.RemindBefore)
		if left := k.at.Sub(now); !k.at.IsZero() && left > 0 {
			// Machines that were switched on together do not ask together.
			k.at = k.at.Add(-rand.N(left/10 + 1))
		}
	}
	switch s.State {
	case StateValid, StateExpiring:
		k.last, k.orphaned = s.Status, false
		k.silence(nil)
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
		k.id, k.was = id, s.State
	}
}

func (k *keeper) renews(s Snapshot) bool {
	return k.m.cfg.Renew == RenewAuto && !k.at.IsZero() && !hopeless(k.failed) &&
		(s.State == StateValid || s.State == StateExpiring)
}

// renewToGain renews the ticket in use and checks that this helps.
func (m *Manager) renewToGain(ctx context.Context) error {
	before := m.identity()
	err := m.Renew(ctx)
	if err == nil && !m.identity().outlives(before) {
		err = errNoGain
	}
	return err
}

func (m *Manager) identity() identity {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ticket
}

// hopeless reports that asking again for the same ticket cannot help.
func hopeless(err error) bool {
	return errors.Is(err, ErrNotRenewable) || errors.Is(err, ErrExpired) || errors.Is(err, ErrNoTicket) || errors.Is(err, errors.ErrUnsupported)
}

func (k *keeper) signsIn(s Snapshot) bool {
	who := k.m.cfg.Remembered
	return who != "" && k.m.cfg.Recall != nil && k.orphaned && k.silenced() == nil &&
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

// signInSilently is one attempt with the remembered password.
func (m *Manager) signInSilently(ctx context.Context) error {
	// What follows goes on when ctx ends: only the backend's answer tells
	// whether the password may be used again.
	return m.change(ctx, "sign in", func(ctx context.Context) error {
		if err := m.cfg.Memory.silenced(); err != nil { // while this call waited for its turn
			return err
		}
		password, err := m.recall(ctx)
		if err != nil {
			return err
		}
		defer password.Wipe()
		err = m.cfg.Backend.SignIn(ctx, Login{Principal: m.cfg.Remembered, Prompt: promptOnce(password)})
		if refused(err) {
			m.reject(err)
		}
		return err
	})
}

// reject has the remembered password forgotten. Even if that fails, it is not
// tried again before somebody has signed in.
func (m *Manager) reject(why error) {
	y := m.cfg.Memory
	y.forget <- struct{}{}
	defer func() { <-y.forget }()
	y.silence(why)
	if m.cfg.Rejected != nil {
		m.cfg.Rejected(m.cfg.Remembered, why)
	}
}

func (m *Manager) recall(ctx context.Context) (Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, recallLimit)
	defer cancel()
	password, err := m.cfg.Recall(ctx, m.cfg.Remembered)
	if err != nil {
		return Secret{}, fmt.Errorf("password of %s: %v", m.cfg.Remembered, err) // never taken for the KDC's silence
	}
	return password, nil
}

// promptOnce answers one question for the password, while its context lasts.
func promptOnce(password Secret) Prompter {
	asked := false
	return func(ctx context.Context, _ string, questions []Prompt) ([]Secret, error) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if asked || len(questions) != 1 || questions[0].Kind != PromptPassword {
			return nil, errNeedsPerson
		}
		asked = true
		return []Secret{NewSecret(slices.Clone(password.Expose()))}, nil
	}
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
	k.ended = now
	if o.err == nil {
		log.Info(done)
		if o.signIn {
			k.silence(errNotSeen) // until the new ticket is
		}
		k.failed, k.tries = nil, 0
		k.retry = now.Add(firstRetry) // whatever the new ticket is like
		return
	}
	if o.signIn && !errors.Is(o.err, ErrKDCUnreachable) {
		k.silence(o.err)
	}
	if o.id != k.id && !errors.Is(o.err, errNoGain) {
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
	case (k.signsIn(s) || k.busy) && k.failed == nil:
		return // a silent sign-in is due or under way
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
