// Package auth answers proxies that want a password instead of a Kerberos
// ticket: in Basic (RFC 7617), in Digest (RFC 7616, quality "auth") and in NTLM,
// version 2 only (MS-NLMP).
//
// What it promises: a password is asked for when it is first needed, held in
// memory only, and shown to nobody but the proxy it is for. A password that has
// not proved right lately is tried once at a time, and one that was refused not
// again until [Account.Reset]: many requests at once must not lock an account.
//
// What it refuses: choosing a scheme by itself, LM and NTLM version 1, Digest
// without a quality or over the body, and every guess at a challenge that it
// does not understand.
package auth

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Scheme is a way to log in, as HTTP spells it.
type Scheme string

// The schemes.
const (
	Basic  Scheme = "Basic"
	Digest Scheme = "Digest"
	NTLM   Scheme = "NTLM"
)

// ParseScheme reads a scheme in any letter case.
func ParseScheme(s string) (Scheme, error) {
	for _, x := range []Scheme{Basic, Digest, NTLM} {
		if strings.EqualFold(s, string(x)) {
			return x, nil
		}
	}
	return "", fmt.Errorf("unknown scheme %q: it is basic, digest or ntlm", s)
}

// Errors that callers test for with [errors.Is].
var (
	// ErrRefused: the proxy did not take the password, so it is not tried again.
	ErrRefused = errors.New("the password was refused")
	// ErrPassword: there is no password, or it cannot be had. The reason is
	// wrapped.
	ErrPassword = errors.New("no password")
	// ErrChallenge: what the proxy sent cannot be answered.
	ErrChallenge = errors.New("unusable challenge")
)

// CheckUser reports why user cannot be sent in scheme; nil if it can.
func CheckUser(scheme Scheme, user string) error {
	switch {
	case user == "":
		return errors.New("the user name is empty")
	case len(user) > 256 || !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl):
		return errors.New("the user name is too long or holds control characters")
	case scheme != NTLM && strings.Contains(user, ":"):
		return errors.New("the user name holds a colon, which ends it in Basic and Digest")
	}
	return nil
}

// Config says who logs in, where from the password comes and how.
type Config struct {
	Scheme Scheme
	User   string // for NTLM DOMAIN\user, or user@domain
	// Password fetches the password, which then belongs to the Account. It is
	// called again after it failed, but not at once.
	Password func(ctx context.Context) ([]byte, error)
}

// State is how things stand with an [Account].
type State string

// The states.
const (
	Unused   State = "unused"   // nothing is known yet
	Accepted State = "accepted" // it worked last
	Refused  State = "refused"  // it is not tried again
	Missing  State = "missing"  // there is no password
)

// Account is one login at one proxy. Safe for concurrent use.
type Account struct {
	cfg      Config
	now      func() time.Time
	patience time.Duration // with a trial of somebody else

	mu       sync.Mutex // guards what follows
	password *secret    // nil: not fetched
	refused  bool
	accepted time.Time     // last; zero: never
	fetching bool          // the password is being asked for
	trial    chan struct{} // closed when the trial under way has ended; nil: none
	missing  error         // why there was no password
	again    time.Time     // until then it is not asked for
	nonces   []*nonce      // of Digest, that work and are not in use
	number   uint64        // of resets so far
}

const (
	// trust is how long after a success a password is taken to be right.
	trust = time.Minute
	// trialTime is how long others wait for a trial: a proxy that refuses does so
	// at once, and a slow answer must not hold up every other request.
	trialTime = 5 * time.Second
	// missingTime is how long a missing password is not asked for again: a locked
	// keyring shows a dialog each time.
	missingTime = 30 * time.Second
	maxNonces   = 64
)

// New checks cfg. It does no I/O.
func New(cfg Config) (*Account, error) {
	if _, err := ParseScheme(string(cfg.Scheme)); err != nil {
		return nil, err
	}
	if err := CheckUser(cfg.Scheme, cfg.User); err != nil {
		return nil, err
	}
	if cfg.Password == nil {
		return nil, errors.New("auth: a Password is required")
	}
	return &Account{cfg: cfg, now: time.Now, patience: trialTime}, nil
}

// Scheme is the account's.
func (a *Account) Scheme() Scheme { return a.cfg.Scheme }

// State tells how things stand, and with Missing why.
func (a *Account) State() (State, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.refused:
		return Refused, ErrRefused
	case a.missing != nil:
		return Missing, a.missing
	case !a.accepted.IsZero():
		return Accepted, nil
	}
	return Unused, nil
}

// Reset forgets the password and what became of it: there may be another.
func (a *Account) Reset() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop()
	a.refused, a.accepted, a.missing, a.nonces = false, time.Time{}, nil, nil
	a.number++
}

// Begin starts the login on one connection, or for one request. It waits for a
// trial that is under way. An error is an [ErrRefused], an [ErrPassword], or why
// ctx has ended.
func (a *Account) Begin(ctx context.Context) (*Exchange, error) {
	for {
		a.mu.Lock()
		switch now := a.now(); {
		case a.refused:
			a.mu.Unlock()
			return nil, ErrRefused
		case a.missing != nil && now.Before(a.again):
			err := a.missing
			a.mu.Unlock()
			return nil, err
		case a.password != nil && now.Sub(a.accepted).Abs() < trust:
			x := &Exchange{a: a, password: a.password, number: a.number}
			a.mu.Unlock()
			return x, nil
		case a.trial == nil:
			trial := make(chan struct{})
			a.trial = trial
			x := &Exchange{a: a, password: a.password, number: a.number, trial: trial}
			a.mu.Unlock()
			if x.password == nil {
				if err := x.fetch(ctx); err != nil {
					x.Close()
					return nil, err
				}
			}
			return x, nil
		}
		trial := a.trial
		a.mu.Unlock()
		if err := a.wait(ctx, trial); err != nil {
			return nil, err
		}
	}
}

// wait returns when trial has ended, or lasts too long and is none any more.
func (a *Account) wait(ctx context.Context, trial chan struct{}) error {
	for {
		timer := time.NewTimer(a.patience)
		select {
		case <-trial:
			timer.Stop()
			return nil
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		a.mu.Lock()
		asking := a.fetching
		a.mu.Unlock()
		if !asking { // a second question to the keyring would be a second dialog
			a.end(trial)
			return nil
		}
	}
}

// end lets those go on who wait for trial, unless that has happened.
func (a *Account) end(trial chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if trial != nil && a.trial == trial {
		close(trial)
		a.trial = nil
	}
}

// fetch gets the password for a trial.
func (x *Exchange) fetch(ctx context.Context) error {
	a := x.a
	a.mu.Lock()
	a.fetching = true
	a.mu.Unlock()
	b, err := a.cfg.Password(ctx)
	if err == nil && len(b) == 0 {
		err = errors.New("it is empty")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fetching = false
	if a.number != x.number {
		clear(b)
		return fmt.Errorf("%w: it was changed meanwhile", ErrPassword)
	}
	if err != nil {
		if ctx.Err() != nil {
			return err // it says nothing about the password
		}
		a.missing, a.again = fmt.Errorf("%w: %w", ErrPassword, err), a.now().Add(missingTime)
		return a.missing
	}
	if a.password != nil { // another trial was faster
		clear(b)
		x.password, a.missing = a.password, nil
		return nil
	}
	x.password = newSecret(b)
	a.password, a.missing = x.password, nil
	return nil
}

// judged takes in a verdict on what was sent with the password of x.
func (a *Account) judged(x *Exchange, accepted bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.number != x.number: // another password by now
	case accepted:
		a.accepted = a.now()
	default:
		a.drop()
		a.refused, a.nonces, a.accepted = true, nil, time.Time{}
	}
}

// drop wipes the password. The caller holds a.mu.
func (a *Account) drop() {
	if a.password != nil {
		a.password.wipe()
		a.password = nil
	}
}
