//go:build !linux && !darwin && !windows

package settings

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

func tryLock(string) (unlock func(), busy bool, err error) {
	return nil, false, fmt.Errorf("file locks on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func rename(from, to string) error { return os.Rename(from, to) }
