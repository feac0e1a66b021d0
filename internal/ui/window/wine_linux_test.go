//go:build linux && amd64

package window_test

import (
	"testing"

	"kerbpass/internal/testenv"
)

func TestOnWindows(t *testing.T) {
	testenv.GoTestInWine(t, ".", nil, "^(TestFallbackReachesBrowser|TestParsePage|TestCleanEnv)$")
}
