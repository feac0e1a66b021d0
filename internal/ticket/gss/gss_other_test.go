//go:build (!linux && !darwin) || nogss

package gss_test

import (
	"errors"
	"testing"

	"kerbpass/internal/ticket/gss"
)

func TestNewIsUnsupported(t *testing.T) {
	if b, err := gss.New(gss.Config{}); b != nil || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, %v; want %v", b, err, errors.ErrUnsupported)
	}
}
