//go:build !linux || !amd64

package testenv

import "testing"

// Wine ends the test with [Missing]: the prefix is a 64-bit x86 one on Linux.
func Wine(t testing.TB) *WinePrefix {
	t.Helper()
	Missing(t, "Wine is used on linux/amd64 only")
	return nil
}
