package proxy

import "sync"

// maxIdleWorkers wait for something to do at a time.
const maxIdleWorkers = 32

// workers carry out short tasks, on goroutines that have done so before: a new
// one's stack grows step by step while a head is parsed and a connection is
// opened, and is copied each time, for every short connection again. The zero
// value is ready.
type workers struct {
	mu   sync.Mutex // guards what follows
	idle []chan func()
	done bool
}

// run carries out f on a goroutine of its own, one that is counted in wg.
func (w *workers) run(wg *sync.WaitGroup, f func()) {
	w.mu.Lock()
	if last := len(w.idle) - 1; last >= 0 {
		// The latest: the others' stacks may have been cut.
		next := w.idle[last]
		w.idle = w.idle[:last]
		w.mu.Unlock()
		next <- f
		return
	}
	w.mu.Unlock()
	wg.Go(func() {
		next := make(chan func(), 1)
		for ok := true; ok; f, ok = <-next {
			f()
			f = nil
			if !w.wait(next) {
				return
			}
		}
	})
}

// wait notes that what is sent to next will be done, if there is a use for it.
func (w *workers) wait(next chan func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done || len(w.idle) == maxIdleWorkers {
		return false
	}
	w.idle = append(w.idle, next)
	return true
}

// end lets the idle workers go, and the others when they are ready.
func (w *workers) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done = true
	for _, next := range w.idle {
		close(next)
	}
	w.idle = nil
}
