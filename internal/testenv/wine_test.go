package testenv_test

import (
	"testing"

	"kerbpass/internal/testenv"
)

func TestGoTestInWine(t *testing.T) {
	testenv.NoLeaks(t)
	testenv.GoTestInWine(t, "kerbpass/internal/testenv", nil, "^TestSecret$")
}
