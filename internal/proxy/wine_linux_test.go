//go:build linux && amd64

package proxy_test

import (
	"testing"

	"kerbpass/internal/testenv"
)

func TestOnWindows(t *testing.T) {
	testenv.GoTestInWine(t, ".", nil, "^(TestTunnelMovesAsAPlainRelay|TestMove.*|TestF3.*|TestF4.*|TestF7.*|TestWaitHoldsNoBuffer)$")
}
