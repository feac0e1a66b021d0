package proxy

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// placeKey is where connections lead to: an upstream, or an origin.
type placeKey struct {
	url  string // of an upstream
	host string // of an origin, reached directly or through a SOCKS upstream
	port uint16
}

func keyOf(d *Decision) placeKey {
	switch {
	case d.asks():
		return placeKey{url: d.Upstream.URL}
	case d.Route == RouteProxy:
		return placeKey{d.Upstream.URL, d.Host, d.Port}
	}
	return placeKey{host: d.Host, port: d.Port}
}

// pool keeps idle connections. What is in it is not in use; the newest is
// taken first, so that there are as many as were in use at once and a burst's
// surplus ages out. Requests to different places share no lock that is held
// for longer than a look into a map.
type pool struct {
	mu     sync.RWMutex // guards places and timer; comes before a place's
	places map[placeKey]*place
	timer  *time.Timer

	n     atomic.Int64  // idle connections in all
	timed atomic.Bool   // the timer runs
	gen   atomic.Uint64 // connections of an earlier one are not kept
	done  atomic.Bool

	heldMu sync.Mutex           // guards held
	held   map[*upConn]struct{} // pinned, between two requests of its client
}

// place holds the idle connections to one place.
type place struct {
	mu   sync.Mutex // guards idle, gone
	idle []*upConn  // the one used last stands last
	gone bool       // no longer in the pool's map
}

// pop takes the newest, nil if there is none.
func (p *place) pop() *upConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle) - 1
	if n < 0 {
		return nil
	}
	u := p.idle[n]
	p.idle[n] = nil
	p.idle = p.idle[:n]
	return u
}

func (p *pool) find(key placeKey) *place {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.places[key]
}

func (p *pool) findOrMake(key placeKey) *place {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.places == nil {
		p.places = map[placeKey]*place{}
	}
	x := p.places[key]
	if x == nil {
		x = &place{}
		p.places[key] = x
	}
	return x
}

func (p *pool) all() []*place {
	p.mu.RLock()
	defer p.mu.RUnlock()
	list := make([]*place, 0, len(p.places))
	for _, x := range p.places {
		list = append(list, x)
	}
	return list
}

// get takes a connection that is alive and fits; connections that fit no
// longer are closed on the way.
func (s *Server) get(key placeKey, kerberos bool, now time.Time) *upConn {
	p := s.pool.find(key)
	if p == nil {
		return nil
	}
	for {
		u := p.pop()
		if u == nil {
			return nil
		}
		s.pool.n.Add(-1)
		if now.Sub(u.since) > s.cfg.PoolIdle || !s.fits(u, kerberos) {
			u.Close()
			continue
		}
		u.reused = true
		return u
	}
}

// fits reports whether a connection may carry a request that Kerberos is on or
// off for: alive, and authenticated with the present ticket if at all (S19: the
// upstream itself would go on taking it for the user's).
func (s *Server) fits(u *upConn, kerberos bool) bool {
	if u.authed && (!kerberos || u.epoch != s.cfg.Auth.Epoch()) {
		return false
	}
	return alive(u)
}

// put gives a connection back after a whole response, or closes it.
func (s *Server) put(u *upConn) {
	u.rd.release()
	u.since = time.Now()
	if u.rd.buf != nil || s.pool.n.Load() >= s.maxIdle {
		u.Close()
		return
	}
	// A deadline that passes meanwhile would make it look broken.
	if u.limit.unsure || !u.limit.until.IsZero() && u.limit.until.Sub(u.since) <= s.cfg.PoolIdle {
		u.lift()
	}
	for {
		p := u.place
		if p == nil {
			p = s.pool.findOrMake(u.key)
			u.place = p
		}
		p.mu.Lock()
		if p.gone {
			p.mu.Unlock()
			u.place = nil
			continue
		}
		if s.pool.done.Load() || u.gen != s.pool.gen.Load() {
			p.mu.Unlock()
			u.Close()
			return
		}
		p.idle = append(p.idle, u)
		s.pool.n.Add(1)
		p.mu.Unlock()
		break
	}
	if !s.pool.timed.Load() {
		s.startSweeping()
	}
}

// sweeps is how often the pool is looked through in the time that a connection
// may be idle.
const sweeps = 4

func (s *Server) startSweeping() {
	p := &s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.done.Load() && p.timed.CompareAndSwap(false, true) {
		p.timer = time.AfterFunc(s.cfg.PoolIdle/sweeps, s.sweep)
	}
}

// sweep closes what has been idle too long, or has been closed by the other
// side; the timer runs only while there is something to sweep. Connections
// that were used since the last time are not looked at.
func (s *Server) sweep() {
	now := time.Now()
	for _, p := range s.pool.all() {
		p.mu.Lock()
		quiet := 0
		for quiet < len(p.idle) && now.Sub(p.idle[quiet].since) >= s.cfg.PoolIdle/sweeps {
			quiet++
		}
		looked := slices.Clone(p.idle[:quiet])
		p.idle = slices.Delete(p.idle, 0, quiet)
		p.mu.Unlock()
		good := looked[:0:len(looked)]
		for _, u := range looked {
			if now.Sub(u.since) < s.cfg.PoolIdle && alive(u) {
				good = append(good, u)
			} else {
				s.pool.n.Add(-1)
				u.Close()
			}
		}
		s.putBack(p, good)
	}
	s.pool.dropEmpty()
	s.pool.timed.Store(false)
	if s.pool.n.Load() > 0 {
		s.startSweeping()
	}
}

// putBack lets connections go on being idle behind the others, unless the pool
// has been emptied meanwhile.
func (s *Server) putBack(p *place, list []*upConn) {
	p.mu.Lock()
	gen, done := s.pool.gen.Load(), s.pool.done.Load()
	kept, old := make([]*upConn, 0, len(list)+len(p.idle)), []*upConn(nil)
	for _, u := range list {
		if done || u.gen != gen {
			old = append(old, u)
		} else {
			kept = append(kept, u)
		}
	}
	if len(kept) > 0 {
		p.idle = append(kept, p.idle...)
	}
	p.mu.Unlock()
	s.pool.n.Add(-int64(len(old)))
	for _, u := range old {
		u.Close()
	}
}

func (p *pool) dropEmpty() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, x := range p.places {
		x.mu.Lock()
		if len(x.idle) == 0 {
			x.gone = true
			delete(p.places, key)
		}
		x.mu.Unlock()
	}
}

// empty takes everything out.
func (p *pool) empty() (all []*upConn) {
	for _, x := range p.all() {
		x.mu.Lock()
		all = append(all, x.idle...)
		x.idle = nil
		x.mu.Unlock()
	}
	p.n.Add(-int64(len(all)))
	return all
}

// shed closes what is open only to be fast, to make room for what is needed:
// idle pipes, idle upstream connections and spares. It reports whether there
// was any.
func (s *Server) shed() bool {
	freed := pipes.shed()
	for _, u := range s.pool.empty() {
		u.Close()
		freed = true
	}
	return s.dropSpares() || freed
}

func (p *pool) flush() {
	p.gen.Add(1)
	p.heldMu.Lock()
	held := p.held
	p.held = nil
	p.heldMu.Unlock()
	for u := range held {
		u.s.untrack(u.Conn) // its reader is the session's
	}
	for _, u := range p.empty() {
		u.Close()
	}
}

// hold lets a pinned connection wait for its client's next request; false
// means that it must be closed instead.
func (p *pool) hold(u *upConn) bool {
	p.heldMu.Lock()
	defer p.heldMu.Unlock()
	if p.done.Load() || u.gen != p.gen.Load() {
		return false
	}
	if p.held == nil {
		p.held = map[*upConn]struct{}{}
	}
	p.held[u] = struct{}{}
	return true
}

// take ends hold and reports whether the connection was left alone meanwhile.
func (p *pool) take(u *upConn) bool {
	p.heldMu.Lock()
	defer p.heldMu.Unlock()
	_, ok := p.held[u]
	delete(p.held, u)
	return ok
}

func (p *pool) close() {
	p.mu.Lock()
	p.done.Store(true)
	if p.timer != nil {
		p.timer.Stop()
	}
	p.mu.Unlock()
	p.flush()
}
