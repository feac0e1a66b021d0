//go:build !linux && !darwin && !windows

package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
)

var errNotHere = fmt.Errorf("control channel on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func channelPath(func(name string) (string, bool)) (string, error) { return "", errNotHere }

func listen(string) (net.Listener, error) { return nil, errNotHere }

func dial(context.Context, string) (net.Conn, error) { return nil, errNotHere }
