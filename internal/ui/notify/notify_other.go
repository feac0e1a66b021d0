//go:build !linux && !windows

package notify

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// serve answers that this system's notes cannot be used: macOS gives them to
// signed bundles only.
func (n *Notifier) serve(ctx context.Context, _ func(key, action string)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case r := <-n.requests:
			r.done <- fmt.Errorf("notifications on %s: %w", runtime.GOOS, errors.ErrUnsupported)
		}
	}
}
