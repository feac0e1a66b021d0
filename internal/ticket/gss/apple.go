package gss

import (
	"context"

	"kerbpass/internal/ticket"
)

// Tools are programs of the system, such as klist and kinit, that do what
// GSS.framework offers no public call for. A cache is named in full; "" is the
// default one. Errors are those of [ticket.Backend].
type Tools interface {
	// List reads every cache of the collection and marks the default.
	List(ctx context.Context) ([]ticket.Cache, error)
	// Renew replaces the TGT in cache by one with a later end.
	Renew(ctx context.Context, cache string) error
	// SignIn gets a TGT into cache, or with "" where kinit would put it.
	SignIn(ctx context.Context, cache string, l ticket.Login) error
	// SignOut destroys cache.
	SignOut(ctx context.Context, cache string) error
}
