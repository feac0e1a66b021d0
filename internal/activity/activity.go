// Package activity remembers the last requests that went through the proxy,
// for a person who asks "what just happened?". A [Ring] of them lives in
// memory only and holds a bounded number of bytes.
//
// It promises never to hold up whoever reports a request: a reader that is
// slow misses the oldest entries, and sees it by a gap in [Entry.Seq]. It
// keeps hosts, never paths, queries, headers or bodies.
package activity

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Size is how many entries a Ring keeps.
const Size = 1000

// Entry is one finished request or tunnel. Strings longer than a host name can
// be are cut when the entry is added.
type Entry struct {
	Seq      uint64    // 1 for the first; given by [Ring.Add]
	Time     time.Time // when the request began
	Program  string    // of the client; "" when it could not be found out
	PID      int       // of the client; 0 when it could not be found out
	Method   string
	Host     string // never a URL
	Port     uint16
	Route    string
	Rule     string
	Entry    string // of the list that decided
	Upstream string // scheme://host:port
	Status   int    // what the client was told
	Result   string
	Cause    string // "" when nothing went wrong
	Up, Down int64  // bytes from and to the client
	Took     time.Duration
}

// Ring keeps the last [Size] entries. The zero Ring is empty and ready. All
// methods are safe for concurrent use.
type Ring struct {
	last  atomic.Uint64 // Seq given last; its entry may still be on its way
	slots [Size]slot    // the entry with a Seq is in slot Seq modulo Size

	waiting atomic.Bool // news is not nil
	mu      sync.Mutex  // guards what follows
	news    chan struct{}
	closed  bool
}

// A slot has a lock of its own, so that who adds an entry meets nobody but a
// reader that copies this very slot.
type slot struct {
	mu    sync.Mutex // guards entry
	entry Entry
}

// Add gives e the next Seq and keeps it in place of the oldest entry. It waits
// for no reader, and allocates nothing unless it has to cut a string.
func (r *Ring) Add(e Entry) {
	for _, s := range [...]*string{&e.Program, &e.Method, &e.Host, &e.Route, &e.Rule, &e.Entry, &e.Upstream, &e.Result, &e.Cause} {
		// A method may be as long as a request head; the clone lets go of it.
		if len(*s) > maxText {
			*s = strings.Clone((*s)[:maxText])
		}
	}
	e.Seq = r.last.Add(1)
	s := &r.slots[e.Seq%Size]
	s.mu.Lock()
	if s.entry.Seq < e.Seq { // else we were overtaken by a whole ring
		s.entry = e
	}
	s.mu.Unlock()
	if r.waiting.Load() {
		r.mu.Lock()
		r.wake()
		r.mu.Unlock()
	}
}

// maxText holds the longest host name and what goes before it in a URL.
const maxText = 280

// wake ends every wait. r.mu is held.
func (r *Ring) wake() {
	if r.news != nil {
		close(r.news)
		r.news = nil
		r.waiting.Store(false)
	}
}

// Last returns the Seq of the newest entry, 0 if there has been none.
func (r *Ring) Last() uint64 { return r.last.Load() }

// Since returns the entries newer than seq, oldest first and at most max of
// them, up to the first one that is still on its way. A seq that has not been
// given yet is from another Ring, in an earlier life of the program, and counts
// as 0.
func (r *Ring) Since(seq uint64, max int) []Entry {
	last := r.last.Load()
	if seq > last {
		seq = 0
	}
	n := min(int(min(last-seq, Size)), max)
	if n <= 0 {
		return nil
	}
	if last-seq > Size {
		seq = last - Size // the older ones are overwritten
	}
	out := make([]Entry, 0, n)
	for len(out) < n && seq < r.last.Load() {
		s := &r.slots[(seq+1)%Size]
		s.mu.Lock()
		e := s.entry
		s.mu.Unlock()
		switch {
		case e.Seq <= seq:
			return out
		case e.Seq > seq+1:
			seq = e.Seq - Size // overwritten meanwhile, and so are those before
		default:
			out = append(out, e)
			seq++
		}
	}
	return out
}

// Wait returns every entry newer than seq, as Since does, as soon as there is
// one; nil when ctx ends or the Ring is closed before that.
func (r *Ring) Wait(ctx context.Context, seq uint64) []Entry {
	for {
		if all := r.Since(seq, Size); len(all) > 0 {
			return all
		}
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return nil
		}
		if r.news == nil {
			r.news = make(chan struct{})
			r.waiting.Store(true)
		}
		news := r.news
		r.mu.Unlock()
		// Once more: what was added before waiting was set has told nobody.
		if all := r.Since(seq, Size); len(all) > 0 {
			return all
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil
		}
	}
}

// Close ends every Wait, now and later. Everything else goes on.
func (r *Ring) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.wake()
}
