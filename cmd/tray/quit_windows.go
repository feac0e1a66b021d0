//go:build windows

package main

import (
	"context"
	"os"
)

// processGone waits until the process has ended, so that its file can be
// replaced. One that is not there has.
func processGone(ctx context.Context, pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil
	}
	ended := make(chan error, 1)
	go func() {
		_, err := p.Wait() // of any process, not only of children
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
