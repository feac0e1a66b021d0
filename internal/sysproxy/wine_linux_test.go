//go:build linux && amd64

package sysproxy_test

import (
	"testing"

	"kerbpass/internal/testenv"
)

func TestOnWindows(t *testing.T) { testenv.GoTestInWine(t, ".", nil, "^Test") }
