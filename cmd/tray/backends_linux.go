//go:build linux

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/gss"
	"kerbpass/internal/ticket/krb5"
)

// openBackend takes the system's Kerberos library, because only it sees every
// kind of cache and follows the system's configuration; where there is none
// (a static build, an empty container) the pure-Go backend reads FILE caches.
func openBackend(cache, service string, log *slog.Logger) (ticket.Backend, error) {
	g, gssErr := gss.New(gss.Config{Cache: cache, Service: service, Log: log})
	if gssErr == nil {
		return g, nil
	}
	log.Debug("no Kerberos library, taking the built-in one", "err", gssErr)
	k, err := krb5.New(krb5.Config{Cache: cache, Service: service, Keytab: clientKeytab(os.Getenv), Getenv: os.Getenv, Log: log})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errors.Unwrap(gssErr))
	}
	return k, nil
}
