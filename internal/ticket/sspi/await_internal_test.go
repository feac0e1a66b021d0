package sspi

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"kerbpass/internal/testenv"
)

func TestAwait(t *testing.T) {
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		free := make(slots, 1)
		wrong := errors.New("wrong")
		if got, err := await(t.Context(), free, func() (int, error) { return 7, wrong }); got != 7 || err != wrong {
			t.Errorf("got %d, %v; want 7, %v", got, err, wrong)
		}

		hang := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := await(ctx, free, func() (int, error) { <-hang; return 0, nil })
			left <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-left; err != context.Canceled {
			t.Errorf("while the call hangs: got %v, want %v", err, context.Canceled)
		}

		ctx, cancel = context.WithCancel(t.Context())
		calls := 0
		go func() {
			_, err := await(ctx, free, func() (int, error) { calls++; return 0, nil })
			left <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-left; err != context.Canceled || calls != 0 {
			t.Errorf("while the one slot is taken: got %v after %d calls, want %v", err, calls, context.Canceled)
		}

		close(hang)
		if got, err := await(t.Context(), free, func() (int, error) { return 8, nil }); got != 8 || err != nil {
			t.Errorf("after the hanging call: got %d, %v", got, err)
		}
		if _, err := await(ctx, free, func() (int, error) { calls++; return 0, nil }); err != context.Canceled || calls != 0 {
			t.Errorf("with a context that has ended: got %v after %d calls", err, calls)
		}
	})
}
