//go:build !linux && !darwin && !windows

package control_test

import (
	"errors"
	"net"
	"testing"

	"kerbpass/internal/control"
)

func TestUnsupported(t *testing.T) {
	_, err := control.Listen(`C:\control.sock`)
	for name, err := range map[string]error{
		"listen": err,
		"call":   control.NewClient(`C:\control.sock`, func(net.Conn) error { return nil }).Get(t.Context(), "/", nil, nil),
	} {
		if !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, control.ErrNotRunning) {
			t.Errorf("%s: got %v, want ErrUnsupported", name, err)
		}
	}
}
