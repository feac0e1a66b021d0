//go:build !linux && !windows && !(darwin && cgo)

package tray

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// run reports that this build has no tray: on macOS it takes cgo.
func (*Tray) run(context.Context) error {
	return fmt.Errorf("tray on %s without cgo: %w", runtime.GOOS, errors.ErrUnsupported)
}
