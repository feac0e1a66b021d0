package ticket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// State is the condition of the ticket, as status and tray show it.
type State string

// The states. Expiring is valid with less than Config.RemindBefore left;
// unavailable means that nobody can tell: no library, or a cache that cannot
// be read.
const (
	StateValid       State = "valid"
	StateExpiring    State = "expiring"
	StateExpired     State = "expired"
	StateNone        State = "none"
	StateUnavailable State = "unavailable"
)

// A Snapshot is what was last read, judged at the time it was asked for.
type Snapshot struct {
	Status  Status
	State   State
	Err     error  // why State is none or unavailable
	Backend string // Backend.Name
}

// Config holds what a [Manager] needs. Zero durations take the default.
type Config struct {
	Backend      Backend       // required
	Deadline     time.Duration // longest wait for one answer; 6 s
	Negative     time.Duration // how long a KDC's failure is believed; 10 s
	Poll         time.Duration // between two looks at tickets that nothing tells about; 1.8 s
	RemindBefore time.Duration // valid turns into expiring; 30 min
	Log          *slog.Logger  // nil discards

	Renew    RenewMode // "" is RenewAuto
	Services []string  // SPNs whose tickets a renewal fetches along

	// Remembered is whose password Recall can fetch for a silent sign-in; ""
	// nobody's. Rejected is told that the KDC did not take it, so that it is
	// forgotten; Run does not end before it has returned, but a call that was
	// left behind may find out later. Both are called one at a time.
	Remembered string
	Recall     func(ctx context.Context, principal string) (Secret, error)
	Rejected   func(principal string, why error)

	// Memory is what the Manager before this one left; nil: there was none.
	// The Run of that one is to end, for this one's to begin.
	Memory *Memory

	// OnReminder is told what the person should know, once for each stage of a
	// ticket, by the goroutine of Run. Nil: nobody wants to know.
	OnReminder func(Reminder)

	// OnChange is told of every change of the snapshot, the first included, by
	// the goroutine of Run, one after the other. Nil: nobody wants to know.
	OnChange func(Snapshot)
}

// recheck is how often a ticket is read although its stamp has not changed: a
// change of krb5.conf may name another default cache.
const recheck = 30 * time.Second

// Manager makes one [Backend] safe to use from a proxy: no caller waits longer
// than the deadline whatever the KDC does, a hanging KDC costs a bounded
// number of threads, and a changed ticket is noticed before the next token. It
// never stores a token. All methods are safe for concurrent use.
type Manager struct {
	cfg   Config
	guard *guard
	ready Readier       // cfg.Backend; nil: it is none
	kick  chan struct{} // wakes Run; capacity 1

	mu      sync.Mutex // guards what follows
	look    bool       // the backend said that the tickets may have changed
	afresh  bool       // Forget was called
	plan    Plan       // as of the last step of Run
	reading *reading   // under way, or nil
	known   bool       // the tickets have been read at least once
	readAt  time.Time
	stamp   string // Backend.Stamp before the last conclusive reading
	status  Status
	err     error
	ticket  identity
	epoch   uint64
}

// identity is what makes a ticket another ticket. Service tickets and the
// cache's name are no part of it.
type identity struct {
	principal                  string
	start, expires, renewUntil time.Time
}

// A reading is one Backend.Status call, shared by all who want it.
type reading struct {
	done chan struct{} // the backend has answered
	late chan struct{} // the deadline has passed first
}

// NewManager checks c. It does no I/O.
func NewManager(c Config) (*Manager, error) {
	if c.Backend == nil {
		return nil, errors.New("ticket manager: no backend given")
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		standard time.Duration
	}{
		{"deadline", &c.Deadline, 6 * time.Second},
		{"negative", &c.Negative, 10 * time.Second},
		{"poll", &c.Poll, 1800 * time.Millisecond},
		{"remind before", &c.RemindBefore, 30 * time.Minute},
	} {
		if *d.value < 0 {
			return nil, fmt.Errorf("ticket manager: %s is negative: %v", d.name, *d.value)
		}
		if *d.value == 0 {
			*d.value = d.standard
		}
	}
	switch c.Renew {
	case "":
		c.Renew = RenewAuto
	case RenewAuto, RenewAsk, RenewOff:
	default:
		return nil, fmt.Errorf("ticket manager: unknown way to renew %q", c.Renew)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Memory == nil {
		c.Memory = NewMemory()
	}
	ready, _ := c.Backend.(Readier)
	return &Manager{
		cfg:   c,
		ready: ready,
		kick:  make(chan struct{}, 1),
		guard: &guard{
			backend: c.Backend, deadline: c.Deadline, negative: c.Negative, log: c.Log,
			gates: map[string]*gate{},
		},
	}, nil
}

// Run watches the tickets and keeps them alive until ctx ends, and then
// returns nil. Call it once. Calls that hang in the library are left behind;
// they hold no lock and touch nothing a caller sees.
func (m *Manager) Run(ctx context.Context) error {
	select {
	case m.cfg.Memory.running <- struct{}{}:
		defer func() { <-m.cfg.Memory.running }()
	case <-ctx.Done():
		return nil
	}
	watching := make(chan error, 1)
	go func() {
		watching <- m.cfg.Backend.Watch(ctx, func() {
			m.mu.Lock()
			m.look = true
			m.mu.Unlock()
			m.wake()
		})
	}()
	every := recheck
	k := newKeeper(m)
	defer k.wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var told Snapshot
	for {
		if m.stale(every) {
			m.read(ctx)
		}
		if ctx.Err() != nil {
			if watching != nil {
				<-watching
			}
			return nil
		}
		s, now := m.snapshot(), time.Now()
		if !s.equal(told) {
			told = s
			m.cfg.Log.Info("ticket", "state", string(s.State), "principal", s.Status.Principal,
				"cache", s.Status.Cache, "expires", s.Status.Expires, "err", s.Err)
			if m.cfg.OnChange != nil {
				m.cfg.OnChange(s)
			}
		}
		k.step(ctx, now, s)
		timer.Reset(min(every, k.next(now, s)))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-m.kick:
		case o := <-k.done:
			k.finished(time.Now(), o)
		case err := <-watching:
			watching, every = nil, m.cfg.Poll
			if !errors.Is(err, errors.ErrUnsupported) && ctx.Err() == nil {
				m.cfg.Log.Warn("tickets cannot be watched, looking at them instead", "every", every, "err", err)
			}
		}
	}
}

// Token makes one new token for spn; the caller owns it and nobody else gets
// it. An answer that does not come within the deadline is [ErrKDCUnreachable].
// A caller that keeps what the token opened asks for Epoch first, so that a
// ticket changing in between is not missed.
func (m *Manager) Token(ctx context.Context, spn string) ([]byte, error) {
	if !m.changed() && ctx.Err() == nil && m.ready != nil {
		if over, _ := m.ended(); !over {
			if token := m.ready.Ready(spn); token != nil {
				return token, nil
			}
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, m.cfg.Deadline, errNoAnswer(m.cfg.Deadline))
	defer cancel()
	m.refresh(ctx) // a new ticket clears what was remembered about the old one
	if over, cache := m.ended(); over {
		// Libraries count in whole seconds and may go on for one; a token made
		// then would belong to no epoch.
		return nil, &OpError{"token", spn, fmt.Errorf("%w: %s", ErrExpired, cache)}
	}
	return m.guard.token(ctx, spn)
}

// Status reads the tickets now. When ctx ends or the backend hangs, it returns
// what is known.
func (m *Manager) Status(ctx context.Context) Snapshot {
	m.read(ctx)
	return m.snapshot()
}

// Epoch returns a number that changes when another principal signs in, when
// the ticket is renewed, and when it goes away, but not when a service ticket
// is added; it changes too when the ticket's time is over. Where the backend
// has a stamp this costs a few microseconds and
// sees a change at once; elsewhere a change is seen by the poll of Run.
func (m *Manager) Epoch() uint64 {
	m.refresh(context.Background())
	m.mu.Lock()
	defer m.mu.Unlock()
	const over = 1 << 31 // apart from every count of changes
	if m.over(time.Now()) {
		return m.epoch | over
	}
	return m.epoch
}

// ended reports whether the ticket has, and in which cache it lies.
func (m *Manager) ended() (over bool, cache string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.over(time.Now()), m.status.Cache
}

// over reports that the ticket has ended. The caller holds m.mu.
func (m *Manager) over(now time.Time) bool {
	return m.err == nil && !m.status.Expires.IsZero() && m.status.Left(now) == 0
}

// refresh reads the tickets if they may have changed.
func (m *Manager) refresh(ctx context.Context) {
	// Twice, because a reading under way may have begun before the change.
	for range 2 {
		if !m.changed() {
			return
		}
		m.join(ctx)
	}
}

// Forget drops what is remembered about failures, lets callers that wait for a
// silent KDC ask again, and tries at once what was put off. Call it when the
// network has changed or the machine has woken up.
func (m *Manager) Forget() {
	m.guard.reset()
	m.mu.Lock()
	m.afresh, m.look = true, true
	m.mu.Unlock()
	m.wake()
}

func (m *Manager) wake() {
	select {
	case m.kick <- struct{}{}:
	default:
	}
}

// changed reports whether the tickets may differ from what is known.
func (m *Manager) changed() bool {
	stamp := m.cfg.Backend.Stamp()
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.known || stamp != m.stamp
}

// stale reports that it is time to read the tickets again: something says so,
// or the last look, where nothing would, is that long ago.
func (m *Manager) stale(every time.Duration) bool {
	changed := m.changed()
	m.mu.Lock()
	defer m.mu.Unlock()
	look := m.look
	m.look = false
	age := time.Since(m.readAt)
	return changed || look || m.stamp == "" && age >= every || age >= recheck
}

// read waits for a reading of the tickets that begins now or later.
func (m *Manager) read(ctx context.Context) {
	if own := m.join(ctx); !own {
		m.join(ctx)
	}
}

// join waits for one reading of the tickets, its own or one under way, but no
// longer than the deadline of that reading or the end of ctx.
func (m *Manager) join(ctx context.Context) (own bool) {
	m.mu.Lock()
	r := m.reading
	if own = r == nil; own {
		r = &reading{done: make(chan struct{}), late: make(chan struct{})}
		m.reading = r
		go m.ask(r)
	}
	m.mu.Unlock()
	select {
	case <-r.done:
	case <-r.late:
	case <-ctx.Done():
	}
	return own
}

func (m *Manager) ask(r *reading) {
	ctx, cancel := context.WithTimeout(context.Background(), m.cfg.Deadline)
	defer cancel()
	overdue := time.AfterFunc(m.cfg.Deadline, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.reading == r {
			m.note("", Status{Cache: m.status.Cache}, &OpError{"status", m.status.Cache,
				fmt.Errorf("%w: nothing came back within %v", ErrCache, m.cfg.Deadline)})
		}
		close(r.late)
	})
	stamp := m.cfg.Backend.Stamp() // before the reading: what comes later is another change
	st, err := m.cfg.Backend.Status(ctx)
	overdue.Stop()

	m.mu.Lock()
	defer m.mu.Unlock()
	m.reading = nil
	m.note(stamp, st, err)
	close(r.done)
}

// note takes a reading in. The caller holds m.mu.
func (m *Manager) note(stamp string, st Status, err error) {
	before := Snapshot{Status: m.status, Err: m.err}
	m.readAt, m.status, m.err = time.Now(), st, err

	id := m.ticket
	switch {
	case err == nil:
		id = identity{st.Principal, st.Start, st.Expires, st.RenewUntil}
	case errors.Is(err, ErrNoTicket):
		id = identity{}
	default:
		stamp = "" // not conclusive: look again next time
	}
	m.stamp = stamp
	if !m.known || id != m.ticket {
		m.ticket = id
		m.epoch++
		m.guard.reset()
	}
	m.known = true
	if !before.equal(Snapshot{Status: st, Err: err}) {
		m.wake()
	}
}

// Known is what the last reading found, judged now; it reads nothing.
func (m *Manager) Known() Snapshot { return m.snapshot() }

func (m *Manager) snapshot() Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Snapshot{Status: m.status, Err: m.err, Backend: m.cfg.Backend.Name()}
	s.State = stateOf(m.status, m.err, m.known, time.Now(), m.cfg.RemindBefore)
	return s
}

func stateOf(st Status, err error, known bool, now time.Time, remind time.Duration) State {
	switch left := st.Left(now); {
	case errors.Is(err, ErrNoTicket):
		return StateNone
	case errors.Is(err, ErrExpired):
		return StateExpired
	case err != nil || !known:
		return StateUnavailable
	case left == 0:
		return StateExpired
	case left < remind:
		return StateExpiring
	}
	return StateValid
}

func (s Snapshot) equal(o Snapshot) bool {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	return s.Status == o.Status && s.State == o.State && s.Backend == o.Backend && text(s.Err) == text(o.Err)
}
