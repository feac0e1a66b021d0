//go:build linux

package control_test

import (
	"testing"

	"kerbpass/internal/testenv"
)

// All that is not about Unix sockets, over a named pipe.
func TestOnWindows(t *testing.T) {
	testenv.GoTestInWine(t, ".", nil, ".")
}
