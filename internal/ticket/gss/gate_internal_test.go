//go:build linux && !nogss

package gss

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// within runs what waits for the gate and lets a test see whether it is through.
func within(f func()) <-chan struct{} {
	through := make(chan struct{})
	go func() { defer close(through); f() }()
	return through
}

func isThrough(c <-chan struct{}) bool {
	synctest.Wait()
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestGateLetsReadersOutFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		g.enter()
		g.enter()
		done := make(chan struct{})
		changing := make(chan struct{})
		changed := within(func() {
			g.alone(func() error { close(changing); <-done; return nil })
		})
		if isThrough(changing) {
			t.Fatal("changes beside two readers")
		}
		g.leave()
		if isThrough(changing) {
			t.Fatal("changes beside a reader")
		}
		g.leave()
		if !isThrough(changing) {
			t.Fatal("does not change although the readers are gone")
		}
		entered := within(g.enter)
		if isThrough(entered) {
			t.Error("a reader beside the change")
		}
		close(done)
		if !isThrough(changed) || !isThrough(entered) {
			t.Error("the gate stays closed after the change")
		}
		g.leave()
	})
}

func TestGateKeepsChangesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose clock stands still while anybody runs
		g := &gate{}
		var reading, changing atomic.Int32
		var load sync.WaitGroup
		for range 4 {
			load.Go(func() {
				for range 200 {
					g.enter()
					reading.Add(1)
					if n := changing.Load(); n != 0 {
						t.Errorf("a reader beside %d changes", n)
					}
					runtime.Gosched()
					reading.Add(-1)
					g.leave()
				}
			})
			load.Go(func() {
				for range 50 {
					g.alone(func() error {
						if n, r := changing.Add(1), reading.Load(); n != 1 || r != 0 {
							t.Errorf("%d changes and %d readers at once", n, r)
						}
						runtime.Gosched()
						changing.Add(-1)
						return nil
					})
				}
			})
		}
		load.Wait()
	})
}

// A reader that hangs with a silent KDC holds a change up, but not for ever.
func TestGateDoesNotWaitForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{}
		g.enter()
		began := time.Now()
		want := errors.New("the change failed")
		if err := g.alone(func() error { return want }); err != want {
			t.Errorf("got %v, want what the change said", err)
		}
		if waited := time.Since(began); waited != patience {
			t.Errorf("waited %v, want %v", waited, patience)
		}
		g.enter() // it is open again
		g.leave()
		g.leave()
		if g.inside != 0 {
			t.Errorf("%d readers inside", g.inside)
		}
	})
}
