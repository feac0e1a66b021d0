//go:build windows

package main

import (
	"log/slog"

	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/sspi"
)

// openBackend takes the tickets of the Windows logon; a cache of another kind
// cannot be named there.
func openBackend(_, service string, log *slog.Logger) (ticket.Backend, error) {
	return sspi.New(sspi.Config{Service: service, Log: log})
}
