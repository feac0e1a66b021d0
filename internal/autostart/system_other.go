//go:build !linux && !darwin && !windows

package autostart

import (
	"errors"
	"fmt"
	"runtime"
)

func newSystem(Config) (system, error) {
	return nil, fmt.Errorf("start at login on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
