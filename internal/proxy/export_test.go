package proxy

import "time"

// SetNow replaces the clock of what is made in advance.
func (s *Server) SetNow(now func() time.Time) { s.now = now }

// Spare is how many spare connections to up are ready, and whether something
// will come to close them.
func (s *Server) Spare(up *Upstream) (ready int, timed bool) {
	sp := &s.about(up).spares
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return len(sp.ready), sp.timer != nil
}

// Making is how many are under way.
func (s *Server) Making(up *Upstream) int {
	sp := &s.about(up).spares
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.making
}

// ExpireSpares does what the timer does.
func (s *Server) ExpireSpares(up *Upstream) { s.expireSpares(s.about(up), s.now()) }

// SweepPool does what the pool's timer does.
func (s *Server) SweepPool() { s.sweep() }

// Idle is how many idle connections the pool holds.
func (s *Server) Idle() int { return int(s.pool.n.Load()) }

// Age makes what is idle older.
func (s *Server) Age(d time.Duration) {
	for _, p := range s.pool.all() {
		p.mu.Lock()
		for _, u := range p.idle {
			u.since = u.since.Add(-d)
		}
		p.mu.Unlock()
	}
}

// Lost is how many spares in a row were of no use.
func (s *Server) Lost(up *Upstream) int {
	sp := &s.about(up).spares
	sp.mu.Lock()
	defer sp.mu.Unlock()
	return sp.losses
}
