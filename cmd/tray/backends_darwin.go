//go:build darwin

package main

import (
	"log/slog"
	"os"

	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/gss"
	"kerbpass/internal/ticket/kinit"
)

// openBackend takes the system's GSS.framework, which alone sees the caches of
// macOS; klist, kinit and kdestroy do what it cannot do in process.
func openBackend(cache, service string, log *slog.Logger) (ticket.Backend, error) {
	c := gss.Config{Cache: cache, Service: service, Log: log}
	tools, err := kinit.New(kinit.Config{Dialect: kinit.Heimdal, Env: os.Environ(), Log: log})
	if err != nil {
		log.Warn("no Kerberos tools: tickets are neither listed nor renewed", "err", err)
	} else {
		c.Tools = tools
	}
	return gss.New(c)
}
