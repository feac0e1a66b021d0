//go:build !windows

package main

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// processGone waits until the process has ended. One that is not there has.
func processGone(ctx context.Context, pid int) error {
	for !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return nil
}
