package krb5_test

import (
	"path/filepath"
	"testing"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/krb5"
	"kerbpass/internal/ticket/tickettest"
)

// What every backend must pass, on caches that MIT's programs write.
func TestBackend(t *testing.T) {
	testenv.NoLeaks(t)
	for _, kind := range []string{"FILE", "DIR"} {
		t.Run(kind, func(t *testing.T) {
			k := tickettest.StartKDC(t, tickettest.WithKpasswd(), tickettest.WithPrimary("127.0.0.2"))
			other := tickettest.StartKDC(t, tickettest.WithRealm("OTHER.TEST"))
			cache := kind + ":" + filepath.Join(t.TempDir(), "cc")
			w := k.World(t, cache, other)
			tickettest.TestBackend(t, func(t testing.TB) ticket.Backend {
				return backend(t, krb5.Config{Cache: cache, ConfigPath: k.Krb5Conf, Service: w.SPN})
			}, w)
		})
	}
}
