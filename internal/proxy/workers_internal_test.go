package proxy

import (
	"bytes"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// goroutine is the number of the present one.
func goroutine() string {
	b := make([]byte, 64)
	return string(bytes.Fields(b[:runtime.Stack(b, false)])[1])
}

// A worker that is ready does the next task, tasks never wait for each other,
// only so many workers wait for more, and none is left in the end.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w workers
		var wg sync.WaitGroup
		var first, second string
		w.run(&wg, func() { first = goroutine() })
		synctest.Wait()
		w.run(&wg, func() { second = goroutine() })
		synctest.Wait()
		if first == "" || first != second {
			t.Errorf("done by goroutines %q and %q, want the same", first, second)
		}
		const n = 2 * maxIdleWorkers
		var running sync.WaitGroup
		running.Add(n)
		hold := make(chan struct{})
		for range n {
			w.run(&wg, func() { running.Done(); <-hold })
		}
		running.Wait() // all at once, or this is a deadlock
		close(hold)
		synctest.Wait()
		if len(w.idle) != maxIdleWorkers {
			t.Errorf("%d wait for more, want %d", len(w.idle), maxIdleWorkers)
		}
		late := make(chan struct{})
		w.run(&wg, func() { <-late })
		w.end()
		done := false
		w.run(&wg, func() { done = true }) // somebody who did not know
		close(late)
		wg.Wait()
		if !done || len(w.idle) != 0 {
			t.Errorf("after the end: done %v, %d wait for more", done, len(w.idle))
		}
	})
}
