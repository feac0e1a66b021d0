// Package netwatch notices that the ground has moved: the machine woke from
// sleep, an address, a route or a link changed, the resolver was configured
// anew. Whoever holds idle connections, remembered failures or a ticket should
// then look again.
//
// It promises few events that matter rather than all of them: a burst is one
// event, and what the system merely repeats (a router advertisement that
// renews a lifetime, a resolv.conf rewritten with the same text) is none. It
// never says what is true now, only that something changed, and it never
// polls but for one look at the clock every 30 seconds.
//
// Sources, each left out where the system lacks it:
//
//   - everywhere: the wall clock runs away from the monotonic one, or a timer
//     fires much too late: the machine slept, or its clock was set;
//   - Linux: rtnetlink (links, addresses, routes of both families), inotify on
//     resolv.conf and what it links to, and logind's PrepareForSleep over a
//     private connection to the system bus;
//   - Windows: change callbacks of the IP Helper library and the power
//     manager's resume callback;
//   - macOS: the routing socket.
//
// The Linux sources and the clock are tested against the real thing. The
// Windows and macOS files are compiled and vetted, and the macOS message
// parser is tested with hand-made messages, but neither has run yet.
package netwatch

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// What [Event.Reason] can be.
const (
	Resume   = "resume"   // the machine woke from sleep, or its clock was set
	Address  = "address"  // an IP address came, went or became usable
	Route    = "route"    // a route came or went
	Link     = "link"     // a network interface came, went, or its carrier did
	Resolver = "resolver" // the servers that resolve names are others
)

// rank orders reasons: of a burst, the one that says most is told. A tunnel
// that comes up is a link, an address, routes and a resolver.
var rank = []string{Resume, Address, Route, Link, Resolver}

// An Event says that something changed and, of everything that changed
// together, what weighs most: one of [Resume], [Address], [Route], [Link],
// [Resolver], in this order.
type Event struct{ Reason string }

// Config holds what a Watcher needs.
type Config struct {
	Log *slog.Logger // nil discards

	// Settle is how long it must be quiet before a burst of changes becomes
	// one event; zero means 500 ms. A burst that does not end becomes an event
	// every ten times that.
	Settle time.Duration
}

const defaultSettle = 500 * time.Millisecond

// A Watcher watches once [Watcher.Run] is called.
type Watcher struct {
	log     *slog.Logger
	settle  time.Duration
	sources []source
	now     func() reading
}

// A source is one way to notice changes. Its run reports until ctx ends; an
// error before that means that the system does not have it (any more). The
// logger carries the source's name, and run logs "watching" when nothing more
// can be missed.
type source struct {
	name string
	run  func(ctx context.Context, log *slog.Logger, report func(reason string)) error
}

// New checks cfg and does no I/O.
func New(cfg Config) (*Watcher, error) {
	if cfg.Settle < 0 {
		return nil, fmt.Errorf("network watch: settle time %v is negative; use 0 for %v", cfg.Settle, defaultSettle)
	}
	w := &Watcher{log: cfg.Log, settle: cfg.Settle, sources: systemSources(), now: systemClock()}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.settle == 0 {
		w.settle = defaultSettle
	}
	return w, nil
}

// Run calls changed for every event, one call at a time, until ctx ends; it
// then waits for everything it started and returns nil. Changes during a call
// of changed are kept and lead to another. A source the system does not have
// is left out, with a line in the debug log.
func (w *Watcher) Run(ctx context.Context, changed func(Event)) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()

	reports := make(chan string)
	rebase := make(chan struct{}, 1) // "a resume is known": one waiting word is enough
	clock := source{"clock", jumps{now: w.now, rebase: rebase}.run}
	for _, s := range append([]source{clock}, w.sources...) {
		log := w.log.With("source", s.name)
		report := func(reason string) {
			select {
			case reports <- reason:
			case <-ctx.Done():
			}
		}
		wg.Go(func() {
			if err := s.run(ctx, log, report); err != nil && ctx.Err() == nil {
				log.Debug("source left out", "err", err)
			}
		})
	}

	var (
		pending  string    // the reason of the coming event, "" if none is due
		deadline time.Time // by which it is told, quiet or not
	)
	settled := time.NewTimer(w.settle)
	settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case reason := <-reports:
			if pending == "" {
				deadline = time.Now().Add(10 * w.settle)
			}
			pending = heavier(pending, reason)
			settled.Reset(min(w.settle, time.Until(deadline)))
			if reason == Resume {
				select {
				case rebase <- struct{}{}:
				default:
				}
			}
		case <-settled.C:
			ev := Event{pending}
			pending = ""
			w.log.Debug("network changed", "reason", ev.Reason)
			changed(ev)
		}
	}
}

// heavier returns the reason that says more; "" says nothing.
func heavier(a, b string) string {
	if b == "" || a != "" && slices.Index(rank, a) <= slices.Index(rank, b) {
		return a
	}
	return b
}

// closeWith closes c when ctx ends, which wakes who reads from it. The
// function returned closes it too and waits until closing is over.
func closeWith(ctx context.Context, c io.Closer) func() {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		c.Close()
	})
	return func() {
		if !stop() {
			<-closed
			return
		}
		c.Close()
	}
}
