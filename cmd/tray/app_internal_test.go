package main

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Memory is given back after the start and whenever the program rests, not
// while somebody is served.
func TestGivesBackMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		open, given := 0, 0
		done := make(chan error, 1)
		go func() {
			done <- (&app{}).giveBack(ctx, func() int { return open }, func() error { given++; return nil })
		}()
		after := func(d time.Duration, want int, when string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if given != want {
				t.Errorf("%s: given back %d times, want %d", when, given, want)
			}
		}
		after(afterStart, 1, "after the start")
		after(restEvery, 2, "at rest")
		open = 1
		after(10*restEvery, 2, "with an open connection")
		open = 0
		after(restEvery, 3, "at rest again")
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
