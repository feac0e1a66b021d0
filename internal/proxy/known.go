package proxy

import (
	"sync"
	"sync/atomic"
	"time"
)

// known is what has been learned about one upstream. It guides where the next
// request goes and what it carries, and bans nothing for long: every success
// clears what it disproves, and [Server.Forget] clears all.
type known struct {
	spares spares

	perRequest atomic.Bool // it wants a token on every request, not once per connection
	accepts    atomic.Bool // it has accepted a token, so the scheme is known

	mu sync.Mutex // guards what follows

	// Whether it authenticates connections or requests: evidence for the
	// first, and 407s since that speak for the second.
	perConn bool
	strikes int

	deaf bool // it has not answered an Expect in time

	addr  string    // host:port where its name led to
	until time.Time // and how long that is believed

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
	addrLife     = 5 * time.Second // a name's address; as long as the resolver believes its hosts file
	firstBackOff = time.Second
	maxBackOff   = 30 * time.Second
)

func (s *Server) about(up *Upstream) *known {
	s.upMu.RLock()
	k := s.upstreams[up.URL]
	s.upMu.RUnlock()
	if k != nil {
		return k
	}
	s.upMu.Lock()
	defer s.upMu.Unlock()
	if k = s.upstreams[up.URL]; k == nil {
		if s.upstreams == nil {
			s.upstreams = map[string]*known{}
		}
		if len(s.upstreams) >= maxKnown { // a script may make a name for each request
			for url, old := range s.upstreams {
				old.spares.drop(true)
				delete(s.upstreams, url)
				break
			}
		}
		k = &known{}
		s.upstreams[up.URL] = k
	}
	return k
}

// maxKnown is how many upstreams are remembered.
const maxKnown = 1024

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
// The first request without a token tells an upstream that authenticates
// requests; if it had served the connection without one, or does so to others,
// this connection's credentials have merely gone stale.
func (k *known) challenged(served bool) {
	if served {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.strikes++; !k.perConn || k.strikes >= maxStrikes {
		k.perRequest.Store(true)
	}
}

// maxStrikes is how many connections in a row must be challenged at once
// before an upstream that authenticated connections is believed to have
// changed its ways.
const maxStrikes = 2

// servedBare takes note of a request served without a token on an accepted
// connection.
func (k *known) servedBare() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.perConn, k.strikes = true, 0
}

func (k *known) wantsEach() bool { return k.perRequest.Load() }

// heeds reports whether the upstream is worth asking with Expect before a
// large body is sent, and answered takes note of whether it was.
func (k *known) heeds() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.deaf
}

func (k *known) answered(inTime bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.deaf = !inTime
}

// address is where the upstream's name led to a moment ago.
func (k *known) address(now time.Time) (string, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.addr, now.Before(k.until)
}

func (k *known) learnAddress(a string, now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.addr, k.until = a, now.Add(addrLife)
}

func (k *known) forgetAddress() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.until = time.Time{}
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
		k.accepts.Store(true)
		return
	}
	if k.refused++; k.refused >= maxRefused {
		k.rest = min(max(2*k.rest, firstProbe), lastProbe)
		k.probe = now.Add(k.rest)
	}
}

// Forget drops everything learned about upstreams, refused tokens included,
// and closes every idle connection. It is for network changes and for a user
// who asks for another try.
func (s *Server) Forget() {
	s.Flush()
	s.upMu.Lock()
	defer s.upMu.Unlock()
	for _, k := range s.upstreams {
		k.spares.drop(true)
	}
	clear(s.upstreams)
}
