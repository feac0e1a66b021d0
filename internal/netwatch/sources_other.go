//go:build !linux && !windows && !darwin

package netwatch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
)

// Only the clock is watched here.
func systemSources() []source {
	return []source{{"network", func(context.Context, *slog.Logger, func(string)) error {
		return fmt.Errorf("network changes on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}}}
}
