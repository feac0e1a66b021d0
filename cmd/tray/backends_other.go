//go:build !linux && !windows && !darwin

package main

import (
	"log/slog"
	"os"

	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/krb5"
)

// openBackend has the pure-Go backend only.
func openBackend(cache, service string, log *slog.Logger) (ticket.Backend, error) {
	return krb5.New(krb5.Config{Cache: cache, Service: service, Keytab: clientKeytab(os.Getenv), Getenv: os.Getenv, Log: log})
}
