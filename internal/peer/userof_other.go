//go:build !linux && !darwin && !windows

package peer

import (
	"errors"
	"fmt"
	"runtime"
)

func userOf(uintptr) (User, error) {
	return "", fmt.Errorf("credentials on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
