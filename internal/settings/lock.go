package settings

import (
	"context"
	"time"
)

// lock takes the lock file at path, shared with every process that edits the
// same settings, and waits for it until ctx ends: then [ErrBusy].
func lock(ctx context.Context, path string) (unlock func(), err error) {
	err = poll(ctx, func() (bool, error) {
		free, busy, err := tryLock(path)
		unlock = free
		if busy {
			return false, ErrBusy
		}
		return true, err
	})
	return unlock, err
}

// poll calls f until it is done or ctx ends, and returns its last error. It
// stands in for waits that the system cannot bound.
func poll(ctx context.Context, f func() (done bool, err error)) error {
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for {
		done, err := f()
		if done {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}
