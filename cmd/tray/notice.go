package main

import "sync"

// notice tells whoever subscribed that something may look different now. The
// one who tells never waits; several tellings may arrive as one.
type notice struct {
	mu   sync.Mutex // guards subs
	subs map[chan struct{}]struct{}
}

// subscribe returns a channel of capacity 1; end gives it back.
func (n *notice) subscribe() (told <-chan struct{}, end func()) {
	ch := make(chan struct{}, 1)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.subs == nil {
		n.subs = map[chan struct{}]struct{}{}
	}
	n.subs[ch] = struct{}{}
	return ch, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.subs, ch)
	}
}

func (n *notice) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for ch := range n.subs {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}
