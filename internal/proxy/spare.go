package proxy

import (
	"context"
	"math"
	"sync"
	"time"
)

// An advance is a token that was made before its request was there: for one
// connection, on which it is the first thing sent, or wiped.
type advance struct {
	ex     Exchange
	header []byte // the whole line; a secret
	size   int    // of the token
	made   time.Time
}

// drop wipes the token and ends its exchange. A nil advance is none.
func (a *advance) drop() {
	if a != nil {
		clear(a.header)
		closeExchange(a.ex)
	}
}

// age is by the clock that shows more: one may stand still while the machine
// sleeps, the other may be set.
func (a *advance) age(now time.Time) time.Duration {
	return max(now.Sub(a.made), now.Round(0).Sub(a.made).Abs())
}

// spares are the connections to one upstream that wait ready, each with its
// token, so that a request that needs a new one costs one trip. There are as
// many as lately were asked for in spareMemory, none older than spareLife, and
// so none when nobody asks. A spare that breaks is replaced ever more rarely,
// and costs no request anything.
type spares struct {
	mu     sync.Mutex // guards what follows
	ready  []*upConn  // the one made last stands last
	making int
	rate   float64   // new connections asked for, fading
	asked  time.Time // when one was asked for last
	losses int       // in a row that were of no use
	retry  time.Time // until then none is made
	timer  *time.Timer
	done   bool // none is taken in any more
}

const (
	maxTokenAge = 30 * time.Second // of a token when it is sent
	spareLife   = 25 * time.Second // leaves room for the clock of the timer
	spareMemory = 2 * time.Second
)

// ask takes note that a connection is needed, and takes a spare that fits if
// there is one. epoch is the Authenticator's present one.
func (s *Server) ask(k *known, epoch uint64, now time.Time) *upConn {
	sp := &k.spares
	gen := s.pool.gen.Load()
	for first := true; ; first = false {
		sp.mu.Lock()
		if first {
			sp.rate = sp.rate*math.Exp(-now.Sub(sp.asked).Seconds()/spareMemory.Seconds()) + 1
			sp.asked = now
		}
		n := len(sp.ready) - 1
		if n < 0 {
			sp.mu.Unlock()
			return nil
		}
		u := sp.ready[n]
		sp.ready[n] = nil
		sp.ready = sp.ready[:n]
		sp.mu.Unlock()
		switch {
		case u.gen != gen || u.epoch != epoch || u.ahead.age(now) > maxTokenAge || !k.mayOffer(epoch, now):
			u.Close()
		case !maybeAlive(u):
			u.Close()
			sp.lost(now)
		default:
			return u
		}
	}
}

// lost takes note of a spare that could not be made or did not last.
func (sp *spares) lost(now time.Time) {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.retry = now.Add(min(firstBackOff<<min(sp.losses, 10), maxBackOff))
	sp.losses++
}

// used takes note of a spare whose token was accepted.
func (sp *spares) used() {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	sp.losses, sp.retry = 0, time.Time{}
}

// missing reserves the spares that are to be made now.
func (sp *spares) missing(most int, now time.Time) int {
	sp.mu.Lock()
	defer sp.mu.Unlock()
	if now.Before(sp.retry) {
		return 0
	}
	n := max(0, min(most, int(math.Ceil(sp.rate-0.5)))-len(sp.ready)-sp.making)
	sp.making += n
	return n
}

// refill makes the spares that are missing at up. ctx ends with Serve. It is
// called on behalf of a request, which does not wait.
func (s *Server) refill(ctx context.Context, up *Upstream, k *known, epoch uint64, now time.Time) {
	if !k.accepts.Load() || !k.mayOffer(epoch, now) {
		return
	}
	for range k.spares.missing(s.cfg.Spares, now) {
		s.workers.run(&s.wg, func() {
			u, err := s.makeSpare(ctx, up)
			s.addSpare(k, u, err)
		})
	}
}

func (s *Server) makeSpare(ctx context.Context, up *Upstream) (*upConn, error) {
	u, err := s.dialUpstream(ctx, up)
	if err != nil {
		return nil, err
	}
	u.epoch, u.since = s.cfg.Auth.Epoch(), s.now()
	u.ahead = &advance{made: u.since}
	u.ahead.ex, u.ahead.header, u.ahead.size, err = s.newToken(ctx, up, nil, nil)
	if err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

func (s *Server) addSpare(k *known, u *upConn, err error) {
	sp := &k.spares
	now := s.now()
	if err != nil {
		sp.lost(now)
		s.log.Debug("no spare connection", "cause", asError(err).Cause)
	}
	keep := u != nil && u.epoch == s.cfg.Auth.Epoch() // asked without the lock: it can take a while
	sp.mu.Lock()
	sp.making--
	keep = keep && !sp.done && !s.pool.done.Load() && u.gen == s.pool.gen.Load()
	if keep {
		sp.ready = append(sp.ready, u)
		if sp.timer == nil {
			s.expireIn(k, spareLife-u.ahead.age(now))
		}
	}
	sp.mu.Unlock()
	if u != nil && !keep {
		u.Close()
	}
}

// expireIn comes back for spares after wait. The caller holds their mutex.
func (s *Server) expireIn(k *known, wait time.Duration) {
	k.spares.timer = time.AfterFunc(max(time.Second, wait), func() { s.expireSpares(k, s.now()) })
}

// expireSpares closes those that are too old, and comes again for the others.
func (s *Server) expireSpares(k *known, now time.Time) {
	sp := &k.spares
	sp.mu.Lock()
	var old, young []*upConn
	oldest := time.Duration(0)
	for _, u := range sp.ready { // a token that took long is older than its place says
		if age := u.ahead.age(now); age >= spareLife {
			old = append(old, u)
		} else {
			young, oldest = append(young, u), max(oldest, age)
		}
	}
	sp.ready = young
	if sp.timer != nil {
		sp.timer.Stop()
		sp.timer = nil
	}
	if len(young) > 0 {
		s.expireIn(k, spareLife-oldest)
	}
	sp.mu.Unlock()
	for _, u := range old {
		u.Close()
	}
}

// drop closes all and reports whether there were any; for good: no more are
// taken in.
func (sp *spares) drop(forGood bool) bool {
	sp.mu.Lock()
	sp.done = sp.done || forGood
	all := sp.ready
	sp.ready = nil
	if sp.timer != nil {
		sp.timer.Stop()
		sp.timer = nil
	}
	sp.mu.Unlock()
	for _, u := range all {
		u.Close()
	}
	return len(all) > 0
}

// dropSpares closes the spares of every upstream.
func (s *Server) dropSpares() (any bool) {
	s.upMu.RLock()
	defer s.upMu.RUnlock()
	for _, k := range s.upstreams {
		any = k.spares.drop(false) || any
	}
	return any
}
