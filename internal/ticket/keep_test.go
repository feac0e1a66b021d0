package ticket_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/tickettest"
)

// realm is a KDC and a cache on the bubble's clock, with a diary.
type realm struct {
	tickettest.Fake
	life, renewable time.Duration
	keyring         bool // a ticket vanishes at its end

	mu       sync.Mutex // guards what follows
	status   *ticket.Status
	refuse   error // what the KDC answers
	silent   bool  // it does not
	corrupt  bool  // the cache cannot be read
	password string
	renewals []time.Duration // remaining life at each
	services []string
	signIns  []string
	reads    int
	changed  func()
	told     []string
	last     ticket.Reminder
}

func newRealm(life, renewable time.Duration) *realm {
	r := &realm{life: life, renewable: renewable, password: "right"}
	r.StatusFunc = func(context.Context) (ticket.Status, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.reads++
		if r.corrupt {
			return ticket.Status{}, ticket.ErrCache
		}
		if r.status == nil || r.keyring && r.status.Left(time.Now()) == 0 {
			return ticket.Status{}, ticket.ErrNoTicket
		}
		return *r.status, nil
	}
	r.RenewFunc = func(ctx context.Context, services ...string) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.renewals = append(r.renewals, r.status.Left(time.Now()))
		r.services = services
		if r.silent {
			r.mu.Unlock()
			<-ctx.Done()
			r.mu.Lock()
			return context.Cause(ctx)
		}
		if r.refuse != nil {
			return &ticket.KDCError{Realm: "WORLD.TEST", Err: r.refuse}
		}
		r.issue(r.status.RenewUntil)
		return nil
	}
	r.SignInFunc = func(ctx context.Context, l ticket.Login) error {
		answers, err := l.Prompt(ctx, "", []ticket.Prompt{{Kind: ticket.PromptPassword, Text: "Password for " + l.Principal, Hidden: true}})
		if err != nil {
			return err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.signIns = append(r.signIns, l.Principal+" "+string(answers[0].Expose()))
		if r.refuse != nil {
			return &ticket.KDCError{Realm: "WORLD.TEST", Err: r.refuse}
		}
		r.issue(time.Now().Add(r.renewable))
		return nil
	}
	return r
}

// issue makes a new ticket. The caller holds r.mu.
func (r *realm) issue(until time.Time) {
	now := time.Now().UTC().Truncate(time.Second)
	st := ticket.Status{Principal: "alice@WORLD.TEST", Realm: "WORLD.TEST", Cache: "FAKE:", Start: now, Expires: now.Add(r.life)}
	if r.renewable > 0 {
		st.Renewable, st.RenewUntil = true, until.UTC().Truncate(time.Second)
		if st.Expires.After(st.RenewUntil) {
			st.Expires = st.RenewUntil
		}
	}
	r.status = &st
	if r.changed != nil {
		r.changed()
	}
}

func (r *realm) do(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// kinit and kdestroy change the tickets from outside.
func (r *realm) kinit()    { r.do(func() { r.issue(time.Now().Add(r.renewable)) }) }
func (r *realm) kdestroy() { r.do(func() { r.status = nil }) }

// run starts a manager and returns what to do when the test is over.
func (r *realm) run(t *testing.T, c ticket.Config) (*ticket.Manager, func()) {
	c.Backend = r
	c.Services = []string{spn}
	c.OnReminder = func(rem ticket.Reminder) {
		r.do(func() {
			r.told, r.last = append(r.told, string(rem.Stage)), rem
		})
	}
	m := newManager(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- m.Run(ctx) }()
	return m, func() {
		began := time.Now()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("Run went on for %v", waited)
		}
	}
}

func (r *realm) expect(t *testing.T, when, want string) {
	t.Helper()
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := strings.Join(r.told, " "); got != want {
		t.Errorf("%s: told %q, want %q", when, got, want)
	}
	r.told = nil
}

func TestTicketIsRenewedInTime(t *testing.T) {
	for _, tt := range []struct {
		life, renewable, watched time.Duration
		least, most              int           // renewals
		left                     time.Duration // at the least, at each
	}{
		{10 * time.Hour, 7 * 24 * time.Hour, 5 * 24 * time.Hour, 23, 28, 5 * time.Hour},
		{time.Minute, 10 * time.Minute, 9 * time.Minute, 16, 21, 30 * time.Second},
		{40 * time.Minute, 24 * time.Hour, 4 * time.Hour, 23, 28, 30 * time.Minute},
	} {
		t.Run(tt.life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRealm(tt.life, tt.renewable)
				r.kinit()
				m, stop := r.run(t, ticket.Config{})
				defer stop()
				epoch := m.Epoch()
				for end := time.Now().Add(tt.watched); time.Now().Before(end); time.Sleep(10 * time.Second) {
					if s := m.Status(t.Context()); s.State != ticket.StateValid && tt.life > time.Hour || s.State == ticket.StateExpired {
						t.Fatalf("state %s, %v left", s.State, s.Status.Left(time.Now()))
					}
				}
				r.do(func() {
					if n := len(r.renewals); n < tt.least || n > tt.most {
						t.Errorf("%d renewals, want %d to %d", n, tt.least, tt.most)
					}
					for _, left := range r.renewals {
						if left < tt.left-2*time.Second {
							t.Errorf("renewed with %v left, want %v", left, tt.left)
						}
					}
					if !slices.Equal(r.services, []string{spn}) {
						t.Errorf("services: %q", r.services)
					}
				})
				if m.Epoch() == epoch {
					t.Error("the epoch did not change")
				}
				r.expect(t, "all went well", "")
			})
		})
	}
}

func TestFailedRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(10*time.Hour, 7*24*time.Hour)
		r.kinit()
		r.refuse = ticket.ErrKDCUnreachable
		m, stop := r.run(t, ticket.Config{})
		defer stop()
		time.Sleep(9*time.Hour + 29*time.Minute)
		var n int
		r.do(func() { n = len(r.renewals) })
		// Half-life to the reminder is 4.5 to 5 hours at 4 to 6 minutes each, after a few quick ones.
		if n < 40 || n > 85 {
			t.Errorf("%d attempts", n)
		}
		r.expect(t, "before the reminder", "")
		time.Sleep(2 * time.Minute)
		r.expect(t, "half an hour before the end", "expiring")
		if !errors.Is(r.last.Err, ticket.ErrKDCUnreachable) || !r.last.CanRenew || r.last.Status.Principal != "alice@WORLD.TEST" {
			t.Errorf("got %+v", r.last)
		}
		if p := m.Plan(); !errors.Is(p.Err, ticket.ErrKDCUnreachable) || time.Until(p.RenewAt) > 6*time.Minute || p.RenewAt.Before(time.Now()) {
			t.Errorf("plan: %+v", p)
		}
		time.Sleep(28 * time.Minute)
		r.expect(t, "once for each stage", "")
		r.do(func() { n, r.refuse = len(r.renewals), nil })
		m.Forget()
		time.Sleep(5 * time.Second) // there may just have been an attempt
		r.do(func() {
			if len(r.renewals) != n+1 {
				t.Errorf("%d attempts at the network change, want 1", len(r.renewals)-n)
			}
		})
		time.Sleep(time.Minute)
		r.expect(t, "renewed at last", "valid")
		if p := m.Plan(); p.Err != nil || time.Until(p.RenewAt) < 4*time.Hour {
			t.Errorf("plan after it: %+v", p)
		}
	})
}

func TestHopelessRenewals(t *testing.T) {
	for _, refusal := range []error{ticket.ErrNotRenewable, errors.ErrUnsupported} {
		synctest.Test(t, func(t *testing.T) {
			r := newRealm(10*time.Hour, 7*24*time.Hour)
			r.kinit()
			r.refuse = refusal
			_, stop := r.run(t, ticket.Config{})
			defer stop()
			time.Sleep(9*time.Hour + 31*time.Minute)
			r.do(func() {
				if len(r.renewals) != 1 {
					t.Errorf("%v: %d attempts, want 1", refusal, len(r.renewals))
				}
			})
			r.expect(t, "reminder", "expiring")
			if r.last.CanRenew {
				t.Errorf("%v: offers to renew", refusal)
			}
			time.Sleep(time.Hour)
			r.expect(t, "end", "expired")
			r.do(func() {
				if len(r.renewals) != 1 {
					t.Errorf("%v: %d attempts after the end", refusal, len(r.renewals)-1)
				}
			})
		})
	}
}

func TestExpiredTicketIsNeverRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(10*time.Hour, 7*24*time.Hour)
		r.do(func() { r.issue(time.Now().Add(7 * 24 * time.Hour)); r.status.Expires = time.Now().Add(-time.Minute) })
		m, stop := r.run(t, ticket.Config{})
		defer stop()
		m.Forget()
		time.Sleep(19 * time.Second)
		r.expect(t, "while others may be signing in", "")
		time.Sleep(time.Hour)
		r.expect(t, "after the grace", "expired")
		r.do(func() {
			if len(r.renewals) != 0 {
				t.Errorf("%d renewals of an expired ticket", len(r.renewals))
			}
		})
		r.kinit()
		time.Sleep(5 * time.Second)
		r.expect(t, "signed in again", "valid")
	})
}

func TestWaysToRenew(t *testing.T) {
	for mode, canRenew := range map[ticket.RenewMode]bool{ticket.RenewAsk: true, ticket.RenewOff: true} {
		synctest.Test(t, func(t *testing.T) {
			r := newRealm(10*time.Hour, 7*24*time.Hour)
			r.kinit()
			m, stop := r.run(t, ticket.Config{Renew: mode})
			defer stop()
			time.Sleep(9*time.Hour + 31*time.Minute)
			r.expect(t, "reminder", "expiring")
			if r.last.CanRenew != canRenew || r.last.Err != nil {
				t.Errorf("%s: got %+v", mode, r.last)
			}
			r.do(func() {
				if len(r.renewals) != 0 {
					t.Errorf("%s: renewed without being asked", mode)
				}
			})
			if err := m.Renew(t.Context()); err != nil {
				t.Error(err)
			}
			r.expect(t, "renewed by hand", "valid")
		})
	}
}

func TestOneChangeAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(10*time.Hour, 7*24*time.Hour)
		r.kinit()
		r.silent = true
		m, stop := r.run(t, ticket.Config{})
		time.Sleep(5*time.Hour + time.Second) // the automatic renewal hangs
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := m.Renew(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		r.do(func() {
			if len(r.renewals) == 0 {
				t.Fatal("no renewal is under way")
			}
			for _, left := range r.renewals {
				if left < 5*time.Hour-time.Second {
					t.Errorf("a second call began beside the hanging one, %v left", left)
				}
			}
		})
		stop() // checks that Run does not wait for it
		r.do(func() { r.silent = false })
	})
}

func TestSilentSignIn(t *testing.T) {
	var password ticket.Secret
	recall := func(_ context.Context, principal string) (ticket.Secret, error) {
		password = ticket.NewSecret([]byte("right"))
		return password, nil
	}
	start := func(t *testing.T, r *realm) (*ticket.Manager, *[]string, func()) {
		var rejected []string
		m, stop := r.run(t, ticket.Config{Remembered: "alice@WORLD.TEST", Recall: recall,
			Rejected: func(principal string, why error) { rejected = append(rejected, fmt.Sprint(principal, " ", why)) }})
		return m, &rejected, stop
	}
	count := func(t *testing.T, r *realm, when string, want int) {
		t.Helper()
		synctest.Wait()
		r.do(func() {
			if len(r.signIns) != want {
				t.Errorf("%s: %d sign-ins, want %d: %q", when, len(r.signIns), want, r.signIns)
			}
			r.signIns = nil
		})
	}
	for _, keyring := range []bool{false, true} {
		t.Run(fmt.Sprintf("at the end, keyring=%t", keyring), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRealm(time.Hour, 0)
				r.keyring = keyring
				r.kinit()
				_, _, stop := start(t, r)
				defer stop()
				time.Sleep(59 * time.Minute)
				count(t, r, "before", 0)
				r.expect(t, "before", "expiring")
				time.Sleep(2 * time.Minute)
				count(t, r, "at the end", 1)
				r.expect(t, "at the end", "valid")
				if string(password.Expose()) != strings.Repeat("\x00", 5) {
					t.Error("the password was not wiped")
				}
			})
		})
	}
	t.Run("at the start", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRealm(time.Hour, 0)
			_, _, stop := start(t, r)
			defer stop()
			time.Sleep(time.Second)
			count(t, r, "without a ticket", 1)
			r.kdestroy()
			time.Sleep(2 * time.Hour)
			count(t, r, "after kdestroy", 0)
			r.expect(t, "after kdestroy", "")
		})
	})
	for _, refusal := range []error{ticket.ErrPassword, ticket.ErrRevoked, ticket.ErrPasswordExpired, ticket.ErrPrincipalUnknown} {
		t.Run(refusal.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRealm(time.Hour, 0)
				r.kinit()
				r.refuse = refusal
				m, rejected, stop := start(t, r)
				defer stop()
				for range 60 {
					time.Sleep(10 * time.Minute)
					m.Forget()
				}
				count(t, r, "refused", 1)
				r.expect(t, "refused", "expiring expired")
				if len(*rejected) != 1 || !strings.HasPrefix((*rejected)[0], "alice@WORLD.TEST wrong") && refusal == ticket.ErrPassword {
					t.Errorf("told to forget: %q", *rejected)
				}
				if !errors.Is(r.last.Err, refusal) {
					t.Errorf("the reminder says %v", r.last.Err)
				}
			})
		})
	}
	t.Run("KDC away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRealm(time.Hour, 0)
			r.kinit()
			r.refuse = ticket.ErrKDCUnreachable
			m, rejected, stop := start(t, r)
			defer stop()
			time.Sleep(2 * time.Hour)
			r.do(func() {
				if n := len(r.signIns); n < 10 || n > 25 {
					t.Errorf("%d attempts in an hour", n)
				}
				r.refuse, r.signIns = nil, nil
			})
			m.Forget()
			time.Sleep(5 * time.Second) // there may just have been an attempt
			count(t, r, "network change", 1)
			if s := m.Status(t.Context()); s.State == ticket.StateExpired || len(*rejected) != 0 {
				t.Errorf("got %s, forgotten %q", s.State, *rejected)
			}
		})
	})
	t.Run("more than a password", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRealm(time.Hour, 0)
			calls := 0
			r.SignInFunc = func(ctx context.Context, l ticket.Login) error {
				calls++
				if _, err := l.Prompt(ctx, "", []ticket.Prompt{{Kind: ticket.PromptPassword}, {Kind: ticket.PromptOther}}); err != nil {
					return err
				}
				t.Error("answered a question for a one-time password")
				return nil
			}
			m, rejected, stop := start(t, r)
			defer stop()
			time.Sleep(time.Hour)
			m.Forget()
			time.Sleep(time.Hour)
			if calls != 1 || len(*rejected) != 0 {
				t.Errorf("%d attempts, forgotten %q", calls, *rejected)
			}
		})
	})
	t.Run("somebody else's ticket", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := newRealm(time.Hour, 0)
			r.kinit()
			r.do(func() { r.status.Principal = "bob@WORLD.TEST" })
			_, _, stop := start(t, r)
			defer stop()
			time.Sleep(2 * time.Hour)
			count(t, r, "bob's ended", 0)
		})
	})
}

// A backend that tells of changes is not asked in between.
func TestWatchedTicketsAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(10*time.Hour, 0)
		r.WatchFunc = func(ctx context.Context, changed func()) error {
			r.do(func() { r.changed = changed })
			<-ctx.Done()
			return nil
		}
		var states []string
		_, stop := r.run(t, ticket.Config{OnChange: func(s ticket.Snapshot) { states = append(states, string(s.State)) }})
		defer stop()
		time.Sleep(time.Hour)
		r.do(func() {
			if r.reads > 125 {
				t.Errorf("%d looks in an hour", r.reads)
			}
		})
		r.kinit()
		synctest.Wait()
		if got := strings.Join(states, " "); got != "none valid" {
			t.Errorf("at once: %s", got)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(10*time.Hour, 0)
		m, stop := r.run(t, ticket.Config{})
		defer stop()
		time.Sleep(time.Hour)
		epoch := m.Epoch()
		r.kinit()
		time.Sleep(1900 * time.Millisecond)
		r.do(func() {
			if r.reads < 1900 || r.reads > 2200 {
				t.Errorf("%d looks in an hour where nothing tells", r.reads)
			}
		})
		if m.Epoch() == epoch {
			t.Error("a new ticket is not seen within two seconds")
		}
	})
}

// A silent KDC and a network that comes and goes: attempts stay apart, and the
// person is told all the same.
func TestForgetStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(time.Hour, 7*24*time.Hour)
		r.kinit()
		r.refuse = ticket.ErrKDCUnreachable
		m, stop := r.run(t, ticket.Config{})
		defer stop()
		time.Sleep(35*time.Minute + 500*time.Millisecond)
		r.do(func() { r.renewals, r.told = nil, nil })
		for range 60 {
			m.Forget()
			time.Sleep(time.Second)
		}
		r.do(func() {
			if n := len(r.renewals); n < 10 || n > 16 {
				t.Errorf("%d attempts in a minute of network changes, want one in 5 s, give or take a fifth", n)
			}
		})
		time.Sleep(20 * time.Minute)
		r.do(func() { r.told = nil })
		for range 10 * 60 {
			m.Forget()
			time.Sleep(time.Second)
		}
		r.expect(t, "in spite of network changes", "expired")
	})
}

// Some KDCs and Windows answer a renewal with the ticket that there is.
func TestRenewalWithoutGain(t *testing.T) {
	for name, again := range map[string]func(st *ticket.Status){
		"the same ticket":       func(*ticket.Status) {},
		"a new start, same end": func(st *ticket.Status) { st.Start = time.Now().UTC().Truncate(time.Second) },
		"an earlier end":        func(st *ticket.Status) { st.Start, st.Expires = st.Start.Add(-time.Hour), st.Expires.Add(-time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRealm(10*time.Hour, 7*24*time.Hour)
				r.kinit()
				calls := 0
				r.RenewFunc = func(context.Context, ...string) error {
					r.do(func() { calls++; again(r.status) })
					return nil
				}
				m, stop := r.run(t, ticket.Config{})
				defer stop()
				time.Sleep(9 * time.Hour)
				r.do(func() {
					if calls < 2 || calls > 85 {
						t.Errorf("%d renewals in four hours", calls)
					}
				})
				if m.Plan().Err == nil && name != "a new start, same end" {
					t.Error("the plan says that all is well")
				}
				time.Sleep(45 * time.Minute)
				r.expect(t, "told once", "expiring")
			})
		})
	}
}

// restart is what other settings do: another manager takes the first one's place.
func (r *realm) restart(t *testing.T, c ticket.Config, stop func()) func() {
	t.Helper()
	_, next := r.run(t, c)
	stop()
	return next
}

func TestRemindersSurviveOtherSettings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(time.Hour, 0)
		r.kinit()
		c := ticket.Config{Memory: ticket.NewMemory()}
		_, stop := r.run(t, c)
		time.Sleep(45 * time.Minute)
		r.expect(t, "first manager", "expiring")
		r.do(func() { r.corrupt = true })
		stop = r.restart(t, c, stop)
		synctest.Wait() // it has begun with a cache that is just being replaced
		r.do(func() { r.corrupt = false })
		time.Sleep(5 * time.Minute)
		r.expect(t, "second manager", "")
		time.Sleep(time.Hour)
		r.expect(t, "at the end", "expired")
		stop = r.restart(t, c, stop)
		defer func() { stop() }()
		time.Sleep(time.Hour)
		r.expect(t, "third manager", "")
		r.kinit()
		time.Sleep(5 * time.Second)
		r.expect(t, "signed in", "valid")
	})
}

// The password is tried once, whatever happens to the manager meanwhile.
func TestOneSilentAttempt(t *testing.T) {
	type world struct {
		*realm
		asked, answered, rejected int
		release                   chan struct{} // the KDC answers when it is closed
		beforePrompt              bool          // it hangs before it asks, not after
		got                       []string
	}
	start := func(beforePrompt bool) (*world, ticket.Config) {
		w := &world{realm: newRealm(time.Hour, 0), release: make(chan struct{}), beforePrompt: beforePrompt}
		w.SignInFunc = func(ctx context.Context, l ticket.Login) error { // like a library: deaf to ctx
			w.do(func() { w.asked++ })
			if w.beforePrompt {
				<-w.release
			}
			answers, err := l.Prompt(ctx, "", []ticket.Prompt{{Kind: ticket.PromptPassword}})
			if err != nil {
				return err
			}
			w.do(func() { w.answered++; w.got = append(w.got, string(answers[0].Expose())) })
			if !w.beforePrompt {
				<-w.release
			}
			return &ticket.KDCError{Realm: "WORLD.TEST", Err: ticket.ErrPassword}
		}
		return w, ticket.Config{
			Memory: ticket.NewMemory(), Remembered: "alice@WORLD.TEST",
			Recall:   func(context.Context, string) (ticket.Secret, error) { return ticket.NewSecret([]byte("wrong")), nil },
			Rejected: func(string, error) { w.do(func() { w.rejected++ }) },
		}
	}
	check := func(t *testing.T, w *world, answered, rejected int) {
		t.Helper()
		synctest.Wait()
		w.do(func() {
			if w.answered != answered || w.rejected != rejected {
				t.Errorf("the password was given %d times, want %d; forgotten %d times, want %d", w.answered, answered, w.rejected, rejected)
			}
			for _, p := range w.got {
				if p != "wrong" {
					t.Errorf("a wiped password was given: %q", p)
				}
			}
		})
	}
	t.Run("refused late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, c := start(false)
			_, stop := w.run(t, c)
			defer stop()
			time.Sleep(10 * time.Minute) // long after the limit
			close(w.release)
			time.Sleep(time.Hour)
			check(t, w, 1, 1)
		})
	})
	t.Run("other settings meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, c := start(false)
			_, stop := w.run(t, c)
			for range 3 {
				time.Sleep(time.Second)
				stop = w.restart(t, c, stop)
			}
			defer func() { stop() }()
			time.Sleep(time.Second)
			close(w.release)
			time.Sleep(time.Hour)
			check(t, w, 1, 1)
			stop = w.restart(t, c, stop)
			time.Sleep(time.Hour)
			check(t, w, 1, 1)
		})
	})
	t.Run("forgotten before the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, c := start(false)
			close(w.release)
			c.Rejected = func(string, error) { time.Sleep(time.Minute); w.do(func() { w.rejected++ }) }
			c.Backend = w
			m := newManager(t, c)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
			if w.rejected != 1 { // by Run's own word it is over
				t.Error("Run ended before the password was forgotten")
			}
		})
	})
	t.Run("asked late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, c := start(true)
			_, stop := w.run(t, c)
			time.Sleep(time.Minute)
			stop()
			close(w.release)
			check(t, w, 0, 0)
		})
	})
	t.Run("works but shows nowhere", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, c := start(false)
			n := 0
			w.SignInFunc = func(context.Context, ticket.Login) error { w.do(func() { n++ }); return nil }
			_, stop := w.run(t, c)
			defer stop()
			time.Sleep(time.Hour)
			w.do(func() {
				if n != 1 {
					t.Errorf("%d sign-ins", n)
				}
			})
		})
	})
	t.Run("after a sign-out", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, c := start(false)
			w.kinit()
			w.SignOutFunc = func(context.Context) error { w.kdestroy(); return nil }
			n := 0
			w.SignInFunc = func(context.Context, ticket.Login) error {
				w.do(func() { n++ })
				return &ticket.KDCError{Err: ticket.ErrKDCUnreachable}
			}
			m, stop := w.run(t, c)
			time.Sleep(61 * time.Minute) // it has ended, and the KDC is away
			w.do(func() {
				if n == 0 {
					t.Error("no attempt at the end of the ticket")
				}
			})
			if err := m.SignOut(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.do(func() { n = 0 })
			time.Sleep(time.Hour)
			stop = w.restart(t, c, stop)
			defer func() { stop() }()
			time.Sleep(time.Hour)
			w.do(func() {
				if n != 0 {
					t.Errorf("%d sign-ins of somebody who has signed out", n)
				}
			})
		})
	})
}

// What changes while the tickets are being read is seen by the next reading.
func TestChangeDuringAReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRealm(10*time.Hour, 0)
		slow := r.StatusFunc
		r.StatusFunc = func(ctx context.Context) (ticket.Status, error) {
			st, err := slow(ctx)
			time.Sleep(time.Second)
			return st, err
		}
		r.WatchFunc = func(ctx context.Context, changed func()) error {
			r.do(func() { r.changed = changed })
			<-ctx.Done()
			return nil
		}
		var states []string
		m, stop := r.run(t, ticket.Config{OnChange: func(s ticket.Snapshot) { r.do(func() { states = append(states, string(s.State)) }) }})
		defer stop()
		time.Sleep(10 * time.Second)
		go m.Status(t.Context())
		time.Sleep(time.Second / 2)
		r.kinit()
		time.Sleep(2 * time.Second)
		r.do(func() {
			if got := strings.Join(states, " "); got != "none valid" {
				t.Errorf("two seconds after kinit: %s", got)
			}
		})
	})
}
