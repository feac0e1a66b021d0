//go:build linux && amd64

package keyring_test

import (
	"testing"

	"kerbpass/internal/testenv"
)

func TestCredentialManagerOfWine(t *testing.T) {
	testenv.GoTestInWine(t, "kerbpass/internal/ticket/keyring", nil, "^(TestCredentialManager|TestCancelEndsTheChild|TestChildrenThatFail|TestHangingChild.*)$")
}
