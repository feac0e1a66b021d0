//go:build !linux && !darwin && !windows

package userservice

import (
	"errors"
	"fmt"
	"runtime"
)

func newService(Config) (*Service, error) {
	return nil, fmt.Errorf("services of a user on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
