//go:build !linux && !windows && !darwin

package sysproxy

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

func systemSources(Config) []source { return nil }

func systemWatchers(Config) []watcher {
	return []watcher{{runtime.GOOS, func(context.Context, Config, func()) error {
		return fmt.Errorf("proxy settings on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}}}
}
