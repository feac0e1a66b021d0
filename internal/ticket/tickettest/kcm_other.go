//go:build !linux

package tickettest

import (
	"testing"

	"kerbpass/internal/testenv"
)

// StartKCM ends the test: sssd's KCM daemon exists on Linux only.
func StartKCM(t testing.TB) (socket string) {
	t.Helper()
	testenv.Missing(t, "sssd_kcm outside Linux")
	return ""
}
