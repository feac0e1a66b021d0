//go:build linux && !nogss

package gss

import (
	"sync"
	"time"
)

// patience is how long a change of the cache waits for calls that read it: one
// of them may hang for a minute with a silent KDC.
const patience = 500 * time.Millisecond

// A gate keeps our own readers out while we replace a cache, because in some
// types of cache a reader could find it empty.
type gate struct {
	changes sync.Mutex // held by whoever replaces a cache

	mu     sync.Mutex // guards what follows
	inside int
	closed chan struct{} // closed when the gate opens again; nil: it is open
	empty  chan struct{} // closed when the last reader leaves; nil: nobody waits
}

// enter waits while the gate is closed. Every enter needs one leave, and a
// reader that is inside does not enter again.
func (g *gate) enter() {
	for {
		g.mu.Lock()
		closed := g.closed
		if closed == nil {
			g.inside++
			g.mu.Unlock()
			return
		}
		g.mu.Unlock()
		<-closed
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.inside--
	if g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// alone calls change while nobody is inside, unless some reader does not leave
// in time.
func (g *gate) alone(change func() error) error {
	g.changes.Lock()
	defer g.changes.Unlock()

	g.mu.Lock()
	g.closed = make(chan struct{})
	empty := make(chan struct{})
	if g.inside == 0 {
		close(empty)
	} else {
		g.empty = empty
	}
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		close(g.closed)
		g.closed, g.empty = nil, nil
		g.mu.Unlock()
	}()

	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-empty:
	case <-late.C:
	}
	return change()
}
