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
	mu      sync.Mutex // guards what follows, and is held for a few entries' copying at most
	last    uint64     // Seq of the newest entry
	entries [Size]Entry
	news    chan struct{} // closed by the next Add; nil while nobody waits
	closed  bool
}

// Add gives e the next Seq and keeps it in place of the oldest entry. It waits
// for no reader.
func (r *Ring) Add(e Entry) {
	for _, s := range []*string{&e.Program, &e.Method, &e.Host, &e.Route, &e.Rule, &e.Entry, &e.Upstream, &e.Result, &e.Cause} {
		// A method may be as long as a request head; the clone lets go of it.
		if len(*s) > maxText {
			*s = strings.Clone((*s)[:maxText])
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	e.Seq = r.last
	r.entries[r.last%Size] = e
	r.wake()
}

// maxText holds the longest host name and what goes before it in a URL.
const maxText = 280

// wake ends every wait. r.mu is held.
func (r *Ring) wake() {
	if r.news != nil {
		close(r.news)
		r.news = nil
	}
}

// Last returns the Seq of the newest entry, 0 if there has been none.
func (r *Ring) Last() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Since returns the entries newer than seq, oldest first and at most max of
// them. A seq that has not been given yet is from another Ring, in an earlier
// life of the program, and counts as 0.
func (r *Ring) Since(seq uint64, max int) []Entry {
	r.mu.Lock()
	if seq > r.last {
		seq = 0
	}
	n := min(int(min(r.last-seq, Size)), max)
	r.mu.Unlock()
	if n <= 0 {
		return nil
	}
	out := make([]Entry, 0, n)
	for more := true; more; {
		out, more = r.copy(out, &seq)
	}
	return out
}

// copyStep keeps Add from waiting for the copying of a whole ring.
const copyStep = 16

// copy appends the next few entries after *seq, moves it on, and reports
// whether there are more and out has room for them.
func (r *Ring) copy(out []Entry, seq *uint64) ([]Entry, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range copyStep {
		if r.last-*seq > Size {
			*seq = r.last - Size // the older ones are overwritten
		}
		if *seq == r.last || len(out) == cap(out) {
			return out, false
		}
		*seq++
		out = append(out, r.entries[*seq%Size])
	}
	return out, true
}

// Wait returns every entry newer than seq, as Since does, as soon as there is
// one; nil when ctx ends or the Ring is closed before that.
func (r *Ring) Wait(ctx context.Context, seq uint64) []Entry {
	for {
		r.mu.Lock()
		if r.last != seq && r.last > 0 {
			r.mu.Unlock()
			return r.Since(seq, Size)
		}
		if r.closed {
			r.mu.Unlock()
			return nil
		}
		if r.news == nil {
			r.news = make(chan struct{})
		}
		news := r.news
		r.mu.Unlock()
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
