//go:build !windows

package sspi_test

import (
	"errors"
	"testing"

	"kerbpass/internal/ticket/sspi"
)

func TestNewIsUnsupported(t *testing.T) {
	if b, err := sspi.New(sspi.Config{}); b != nil || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, %v; want %v", b, err, errors.ErrUnsupported)
	}
}
