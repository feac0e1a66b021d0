//go:build !linux && !darwin

package peer

import (
	"errors"
	"fmt"
	"runtime"
)

func unixPeer(int) (uint32, error) {
	return 0, fmt.Errorf("credentials on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
