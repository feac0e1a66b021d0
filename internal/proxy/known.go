package proxy

import (
	"sync"
	"time"
)

// known is what has been learned about one upstream. It guides where the next
// request goes and what it carries, and bans nothing for long: every success
// clears what it disproves, and [Server.Forget] clears all.
type known struct {
	mu sync.Mutex // guards what follows

	perRequest bool // it wants a token on every request, not once per connection

	failures int       // connections in a row that could not be made
	retry    time.Time // until then others go first

	// The lockout guard: tokens of one ticket that were refused in a row.
	epoch   uint64
	refused int
	probe   time.Time     // until then none is offered
	rest    time.Duration // how long the last such pause was
}

const (
	maxRefused   = 2               // tokens of one ticket, before no more are offered
	firstProbe   = 5 * time.Second // then one more is tried, and after twice that the next:
	lastProbe    = 5 * time.Minute // clocks and proxies get mended
	firstBackOff = time.Second
	maxBackOff   = 30 * time.Second
)

func (s *Server) about(up *Upstream) *known {
	if k, ok := s.upstreams.Load(up.URL); ok {
		return k.(*known)
	}
	k, _ := s.upstreams.LoadOrStore(up.URL, &known{})
	return k.(*known)
}

// dialled takes note of whether a connection could be made.
func (k *known) dialled(ok bool, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if ok {
		k.failures, k.retry = 0, time.Time{}
		return
	}
	wait := min(firstBackOff<<min(k.failures, 10), maxBackOff)
	k.failures++
	k.retry = now.Add(wait)
}

func (k *known) resting(now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return now.Before(k.retry)
}

// challenged takes note of a 407 on a connection that had been accepted before.
func (k *known) challenged() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.perRequest = true
}

func (k *known) wantsEach() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.perRequest
}

// mayOffer reports whether a token of the ticket with that epoch may be sent.
func (k *known) mayOffer(epoch uint64, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.refused < maxRefused || k.epoch != epoch || !now.Before(k.probe)
}

// judged takes note of what became of a token.
func (k *known) judged(accepted bool, epoch uint64, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if accepted || k.epoch != epoch {
		k.refused, k.rest = 0, 0
	}
	k.epoch = epoch
	if accepted {
		return
	}
	if k.refused++; k.refused >= maxRefused {
		k.rest = min(max(2*k.rest, firstProbe), lastProbe)
		k.probe = now.Add(k.rest)
	}
}

// byHealth orders the upstreams of d: as preferred, but those that could not be
// reached a moment ago last. None is left out.
func (s *Server) byHealth(d *Decision) []*Upstream {
	now := time.Now()
	all := append(make([]*Upstream, 0, 1+len(d.Fallbacks)), d.Upstream)
	all = append(all, d.Fallbacks...)
	ordered, resting := all[:0:len(all)], []*Upstream(nil)
	for _, up := range all {
		if s.about(up).resting(now) {
			resting = append(resting, up)
		} else {
			ordered = append(ordered, up)
		}
	}
	return append(ordered, resting...)
}

// Forget drops everything learned about upstreams, refused tokens included,
// and closes every idle connection. It is for network changes and for a user
// who asks for another try.
func (s *Server) Forget() {
	s.upstreams.Clear()
	s.Flush()
}
