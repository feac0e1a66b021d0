package web

import (
	"sync"
	"time"
)

// usage tells when no page has been open for a while. An open page is one that
// reads the event stream.
type usage struct {
	limit time.Duration

	mu      sync.Mutex // guards what follows
	streams int
	timer   *time.Timer // stopped while there are streams
	awaited time.Time   // until then somebody may come with a link
}

func newUsage(limit time.Duration) *usage {
	return &usage{limit: limit, timer: time.NewTimer(limit)}
}

// unused delivers once when there has been no page for the limit.
func (u *usage) unused() <-chan time.Time { return u.timer.C }

// expect starts the wait anew: a page is about to come, by until at the latest.
func (u *usage) expect(until time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.awaited = until
	u.wait()
}

// wait starts the timer, unless there is a page. The caller holds u.mu.
func (u *usage) wait() {
	if u.streams == 0 {
		u.timer.Reset(max(u.limit, time.Until(u.awaited)))
	}
}

// begin notes a stream; call end when it has ended.
func (u *usage) begin() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.streams++
	u.timer.Stop()
}

func (u *usage) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.streams--
	u.wait()
}
