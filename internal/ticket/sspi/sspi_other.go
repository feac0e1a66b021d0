//go:build !windows

package sspi

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"kerbpass/internal/ticket"
)

var errNotHere = fmt.Errorf("sspi on %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Backend stands in where SSPI does not exist; New never returns one.
type Backend struct{}

// New reports [errors.ErrUnsupported].
func New(Config) (*Backend, error) { return nil, &ticket.OpError{Op: "open", Err: errNotHere} }

// Name implements [ticket.Backend].
func (*Backend) Name() string { return "sspi" }

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
