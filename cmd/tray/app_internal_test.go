package main

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// Memory is given back after the start and whenever the program rests, not
// while somebody is served.
func TestGivesBackMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		var open, given atomic.Int64
		done := make(chan error, 1)
		go func() {
			done <- (&app{}).giveBack(ctx, func() int { return int(open.Load()) }, func() error { given.Add(1); return nil })
		}()
		after := func(d time.Duration, want int64, when string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if got := given.Load(); got != want {
				t.Errorf("%s: given back %d times, want %d", when, got, want)
			}
		}
		after(afterStart, 1, "after the start")
		after(restEvery, 2, "at rest")
		open.Store(1)
		after(10*restEvery, 2, "with an open connection")
		open.Store(0)
		after(restEvery, 3, "at rest again")
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
