//go:build !linux

package main

import (
	"log/slog"
	"os"

	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/krb5"
)

// openBackend has the pure-Go backend only: SSPI and GSS.framework are not
// here yet.
func openBackend(cache string, log *slog.Logger) (ticket.Backend, error) {
	return krb5.New(krb5.Config{Cache: cache, Getenv: os.Getenv, Log: log})
}
