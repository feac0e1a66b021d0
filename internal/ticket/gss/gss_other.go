//go:build (!linux && !darwin) || nogss

package gss

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"kerbpass/internal/ticket"
)

var errNotHere = fmt.Errorf("the system's Kerberos library on %s: not in this build: %w", runtime.GOOS, errors.ErrUnsupported)

// Backend stands in where no Kerberos library is loaded; New never returns one.
type Backend struct{}

// New reports [errors.ErrUnsupported].
func New(Config) (*Backend, error) {
	return nil, &ticket.OpError{Op: "open", Err: errNotHere}
}

// Name implements [ticket.Backend].
func (*Backend) Name() string { return "gss" }

// Status implements [ticket.Backend].
func (*Backend) Status(context.Context) (ticket.Status, error) { return ticket.Status{}, errNotHere }

// Caches implements [ticket.Backend].
func (*Backend) Caches(context.Context) ([]ticket.Cache, error) { return nil, errNotHere }

// Token implements [ticket.Backend].
func (*Backend) Token(context.Context, string) ([]byte, error) { return nil, errNotHere }

// Stamp implements [ticket.Backend].
func (*Backend) Stamp() string { return "" }

// Watch implements [ticket.Backend].
func (*Backend) Watch(context.Context, func()) error { return errNotHere }

// Renew implements [ticket.Backend].
func (*Backend) Renew(context.Context, ...string) error { return errNotHere }

// SignIn implements [ticket.Backend].
func (*Backend) SignIn(context.Context, ticket.Login) error { return errNotHere }

// SignOut implements [ticket.Backend].
func (*Backend) SignOut(context.Context) error { return errNotHere }
