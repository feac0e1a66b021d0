// Package tickettest is the test world of the ticket rooms: the suite that
// every backend must pass, a fake backend with func fields, a realm in memory
// that makes one, and launchers for real servers (MIT KDC with kadmind, sssd's
// KCM, a KDC that never answers, the Squid helper as an independent acceptor).
// Every server runs in a folder of its own on loopback, is stopped by its
// process id, and a program that is not installed ends the test through
// testenv.
package tickettest

import (
	"context"
	"errors"

	"kerbpass/internal/ticket"
)

// Fake is a [ticket.Backend] made of funcs. A nil func answers like a machine
// without tickets.
type Fake struct {
	NameFunc   func() string
	StatusFunc func(ctx context.Context) (ticket.Status, error)
	CachesFunc func(ctx context.Context) ([]ticket.Cache, error)
	TokenFunc  func(ctx context.Context, spn string) ([]byte, error)
	StampFunc  func() string

	WatchFunc   func(ctx context.Context, changed func()) error // nil: there is nothing to wait for
	RenewFunc   func(ctx context.Context, services ...string) error
	SignInFunc  func(ctx context.Context, l ticket.Login) error
	SignOutFunc func(ctx context.Context) error
}

var _ ticket.Backend = (*Fake)(nil)

// Name implements [ticket.Backend].
func (f *Fake) Name() string {
	if f.NameFunc == nil {
		return "fake"
	}
	return f.NameFunc()
}

// Status implements [ticket.Backend].
func (f *Fake) Status(ctx context.Context) (ticket.Status, error) {
	if f.StatusFunc == nil {
		return ticket.Status{}, &ticket.OpError{Op: "status", Err: ticket.ErrNoTicket}
	}
	return f.StatusFunc(ctx)
}

// Caches implements [ticket.Backend].
func (f *Fake) Caches(ctx context.Context) ([]ticket.Cache, error) {
	if f.CachesFunc == nil {
		return nil, nil
	}
	return f.CachesFunc(ctx)
}

// Token implements [ticket.Backend].
func (f *Fake) Token(ctx context.Context, spn string) ([]byte, error) {
	if f.TokenFunc == nil {
		return nil, &ticket.OpError{Op: "token", Subject: spn, Err: ticket.ErrNoTicket}
	}
	return f.TokenFunc(ctx, spn)
}

// Stamp implements [ticket.Backend].
func (f *Fake) Stamp() string {
	if f.StampFunc == nil {
		return ""
	}
	return f.StampFunc()
}

// Watch implements [ticket.Backend].
func (f *Fake) Watch(ctx context.Context, changed func()) error {
	if f.WatchFunc == nil {
		return errors.ErrUnsupported
	}
	return f.WatchFunc(ctx, changed)
}

// Renew implements [ticket.Backend].
func (f *Fake) Renew(ctx context.Context, services ...string) error {
	if f.RenewFunc == nil {
		return &ticket.OpError{Op: "renew", Err: ticket.ErrNoTicket}
	}
	return f.RenewFunc(ctx, services...)
}

// SignIn implements [ticket.Backend].
func (f *Fake) SignIn(ctx context.Context, l ticket.Login) error {
	if f.SignInFunc == nil {
		return &ticket.OpError{Op: "sign in", Subject: l.Principal, Err: errors.ErrUnsupported}
	}
	return f.SignInFunc(ctx, l)
}

// SignOut implements [ticket.Backend].
func (f *Fake) SignOut(ctx context.Context) error {
	if f.SignOutFunc == nil {
		return &ticket.OpError{Op: "sign out", Err: ticket.ErrNoTicket}
	}
	return f.SignOutFunc(ctx)
}
