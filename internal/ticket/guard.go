package ticket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Limits on calls into a library that cannot be cancelled. Each call that
// hangs holds an OS thread for up to a minute or so.
const (
	perSPN  = 4  // calls for one service principal, running or stuck
	overall = 16 // calls that are stuck, or of a principal that has not answered yet
)

// restarts is how often a question is put anew because the ticket has changed
// meanwhile. Then a token of the ticket before is good enough: where tickets
// are renewed faster than tokens are made, there would never be one.
const restarts = 3

// guard keeps calls that may hang away from callers. For each service
// principal it is in one of two moods. Cold, when nothing has succeeded yet
// for the present ticket or the last call failed: one leader asks, the others
// wait for what it gets. Warm: the service ticket is in the cache, so calls
// need no KDC and run side by side.
type guard struct {
	backend  Backend
	deadline time.Duration
	negative time.Duration
	log      *slog.Logger

	mu       sync.Mutex // guards what follows, and every gate and call
	gates    map[string]*gate
	doubtful int // calls that count against overall
}

// A gate is the state of one service principal.
type gate struct {
	discarded chan struct{} // closed by reset: whoever waits starts over
	slots     chan struct{} // a call holds one until the library returns

	warm    bool
	cooled  chan struct{} // while warm: closed when it goes cold
	leader  *call         // while cold: the call that others wait for
	refused error         // the KDC's last answer, good until the time below
	until   time.Time
	failing bool // so that a failure is logged once
}

// A call is one backend call. It settles once, with the library's answer or
// at the deadline; the library may return much later.
type call struct {
	settled  chan struct{} // closed when the three below are final
	done     bool
	token    []byte // the caller's own, until finish takes it
	err      error
	unwanted bool // the caller has left
	doubtful bool // counted in guard.doubtful
}

// reset forgets what is known about every service principal, and lets all who
// wait ask anew: what they wait for is about another ticket or network.
func (g *guard) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, gt := range g.gates {
		close(gt.discarded)
	}
	clear(g.gates)
}

// token returns a token of the caller's own. It returns at once when ctx ends.
func (g *guard) token(ctx context.Context, spn string) ([]byte, error) {
	for tries := 0; ctx.Err() == nil; tries++ {
		if token, done, err := g.attempt(ctx, spn, tries >= restarts); done {
			return token, err
		}
	}
	return nil, gaveUp(ctx, spn)
}

// attempt makes a call of its own or waits for the leader's. It is not done
// when the caller has to look at the gate again. An insisting one takes what
// its own call makes, whatever has changed meanwhile.
func (g *guard) attempt(ctx context.Context, spn string, insist bool) (token []byte, done bool, err error) {
	g.mu.Lock()
	gt := g.gates[spn]
	if gt == nil {
		gt = &gate{discarded: make(chan struct{}), slots: make(chan struct{}, perSPN)}
		g.gates[spn] = gt
	}
	switch {
	case gt.refused != nil && time.Now().Before(gt.until):
		err := gt.refused
		g.mu.Unlock()
		return nil, true, err

	case gt.warm:
		cooled := gt.cooled
		g.mu.Unlock()
		select {
		case gt.slots <- struct{}{}:
		case <-cooled:
			return nil, false, nil
		case <-gt.discarded:
			return nil, false, nil
		case <-ctx.Done():
			return nil, false, nil
		}
		g.mu.Lock()
		c := g.start(gt, spn)
		g.mu.Unlock()
		return g.finish(ctx, gt, c, insist)

	case gt.leader != nil:
		c := gt.leader
		g.mu.Unlock()
		select {
		case <-c.settled:
			return nil, c.err != nil, c.err // on success, make one of our own
		case <-gt.discarded:
		case <-ctx.Done():
		}
		return nil, false, nil
	}

	c, err := g.lead(gt, spn)
	g.mu.Unlock()
	if err != nil {
		return nil, true, err
	}
	return g.finish(ctx, gt, c, insist)
}

// lead starts the one call of a cold gate. The caller holds g.mu.
func (g *guard) lead(gt *gate, spn string) (*call, error) {
	if g.doubtful >= overall {
		return nil, crowded(spn, overall, "in all")
	}
	select {
	case gt.slots <- struct{}{}:
	default:
		return nil, crowded(spn, perSPN, "for this service")
	}
	c := g.start(gt, spn)
	gt.leader = c
	c.doubtful = true
	g.doubtful++
	return c, nil
}

// start runs a call that already holds a slot. The caller holds g.mu. The call
// does not end with the caller's context: others may wait for its outcome.
func (g *guard) start(gt *gate, spn string) *call {
	c := &call{settled: make(chan struct{})}
	ctx, cancel := context.WithTimeout(context.Background(), g.deadline)
	late := time.AfterFunc(g.deadline, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if c.done {
			return
		}
		if !c.doubtful {
			c.doubtful = true
			g.doubtful++
		}
		g.settle(gt, c, spn, nil, &OpError{"token", spn, errNoAnswer(g.deadline)})
	})
	go func() {
		token, err := g.backend.Token(ctx, spn)
		cancel()
		late.Stop()
		g.mu.Lock()
		defer g.mu.Unlock()
		<-gt.slots
		if c.doubtful {
			g.doubtful--
		}
		if !c.done {
			g.settle(gt, c, spn, token, err)
			return
		}
		// Too late for anybody, but it proves that the KDC answers again.
		clear(token)
		if err == nil {
			gt.refused = nil
		}
	}()
	return c
}

// settle ends the waiting for c. The caller holds g.mu.
func (g *guard) settle(gt *gate, c *call, spn string, token []byte, err error) {
	c.done, c.token, c.err = true, token, err
	if c.unwanted {
		clear(token)
		c.token = nil
	}
	if gt.leader == c {
		gt.leader = nil
	}
	switch {
	case err == nil:
		gt.refused = nil
		if !gt.warm {
			gt.warm, gt.cooled = true, make(chan struct{})
		}
	default:
		if errors.Is(err, ErrKDCUnreachable) || errors.Is(err, ErrSPNUnknown) {
			gt.refused, gt.until = err, time.Now().Add(g.negative)
		}
		if gt.warm {
			gt.warm = false
			close(gt.cooled)
		}
	}
	if failing := err != nil; failing != gt.failing {
		gt.failing = failing
		if failing {
			g.log.Warn("no token", "spn", spn, "err", err)
		} else {
			g.log.Info("tokens again", "spn", spn)
		}
	}
	close(c.settled)
}

// finish waits for the caller's own call and takes its token. Whoever leaves
// earlier leaves a token behind that nobody will see.
func (g *guard) finish(ctx context.Context, gt *gate, c *call, insist bool) (token []byte, done bool, err error) {
	discarded := gt.discarded
	if insist {
		discarded = nil
	}
	select {
	case <-c.settled:
	case <-discarded:
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	token, c.token = c.token, nil
	if insist && token != nil {
		return token, true, nil
	}
	select {
	case <-gt.discarded: // about the ticket before; ask again with the new one
		clear(token)
		c.unwanted = true
		return nil, false, nil
	default:
	}
	c.unwanted = !c.done
	return token, c.done, c.err
}

func errNoAnswer(d time.Duration) error {
	return fmt.Errorf("%w: nothing came back within %v", ErrKDCUnreachable, d)
}

func crowded(spn string, n int, scope string) error {
	return &OpError{"token", spn, fmt.Errorf("%w: %d earlier questions %s are still unanswered", ErrKDCUnreachable, n, scope)}
}

// gaveUp tells the caller's own cancellation from our deadline.
func gaveUp(ctx context.Context, spn string) error {
	return &OpError{"token", spn, context.Cause(ctx)}
}
