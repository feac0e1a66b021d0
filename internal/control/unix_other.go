//go:build !linux && !darwin

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
)

var errNotHere = fmt.Errorf("control channel on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func checkPrivate(string) error { return errNotHere }

// Listen reports [errors.ErrUnsupported].
func Listen(string) (net.Listener, error) { return nil, errNotHere }

func dial(context.Context, string) (net.Conn, error) { return nil, errNotHere }
