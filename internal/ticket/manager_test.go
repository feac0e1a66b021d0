package ticket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/tickettest"
)

const spn = "HTTP/proxy.world.test"

func newManager(t *testing.T, c ticket.Config) *ticket.Manager {
	t.Helper()
	m, err := ticket.NewManager(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// kdc is a backend whose token calls wait for the test's word.
type kdc struct {
	tickettest.Fake
	delay atomic.Int64 // time.Duration of each call
	fail  atomic.Pointer[error]
	hang  atomic.Pointer[chan struct{}] // calls wait until it is closed

	calls, running, most atomic.Int64

	mu     sync.Mutex
	tokens [][]byte // every token made

	status atomic.Pointer[ticket.Status] // nil: no ticket
	stamp  atomic.Pointer[string]        // nil: stampless
	reads  atomic.Int64
}

func newKDC() *kdc {
	k := &kdc{}
	k.signIn("alice@WORLD.TEST", 10*time.Hour)
	k.TokenFunc = func(_ context.Context, spn string) ([]byte, error) {
		n := k.calls.Add(1)
		now := k.running.Add(1)
		defer k.running.Add(-1)
		for most := k.most.Load(); now > most && !k.most.CompareAndSwap(most, now); most = k.most.Load() {
		}
		if h := k.hang.Load(); h != nil && spn != "HTTP/healthy" {
			<-*h
		}
		time.Sleep(time.Duration(k.delay.Load())) // the fake clock of the bubble
		if e := k.fail.Load(); e != nil {
			return nil, &ticket.OpError{Op: "token", Subject: spn, Err: *e}
		}
		token := fmt.Appendf(nil, "token %d", n)
		k.mu.Lock()
		k.tokens = append(k.tokens, token)
		k.mu.Unlock()
		return token, nil
	}
	k.StatusFunc = func(context.Context) (ticket.Status, error) {
		k.reads.Add(1)
		if st := k.status.Load(); st != nil {
			return *st, nil
		}
		return ticket.Status{}, &ticket.OpError{Op: "status", Err: ticket.ErrNoTicket}
	}
	k.StampFunc = func() string {
		if s := k.stamp.Load(); s != nil {
			return *s
		}
		return ""
	}
	return k
}

func (k *kdc) signIn(principal string, life time.Duration) {
	now := time.Now().UTC().Truncate(time.Second)
	k.status.Store(&ticket.Status{Principal: principal, Start: now, Expires: now.Add(life)})
}

func (k *kdc) failWith(err error) {
	if err == nil {
		k.fail.Store(nil)
		return
	}
	k.fail.Store(&err)
}

// hold makes calls hang until the func it returns is called.
func (k *kdc) hold() (release func()) {
	ch := make(chan struct{})
	k.hang.Store(&ch)
	return sync.OnceFunc(func() {
		k.hang.Store(nil)
		close(ch)
	})
}

func (k *kdc) stamped(s string) { k.stamp.Store(&s) }

func TestEveryCallerGetsItsOwnToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		k.delay.Store(int64(time.Millisecond))
		m := newManager(t, ticket.Config{Backend: k})
		var wg sync.WaitGroup
		var seen sync.Map
		for range 200 {
			wg.Go(func() {
				token, err := m.Token(t.Context(), spn)
				if err != nil {
					t.Error(err)
				}
				if _, twice := seen.LoadOrStore(string(token), true); twice {
					t.Errorf("%s was given out twice", token)
				}
			})
		}
		synctest.Wait()
		if n := k.calls.Load(); n != 1 {
			t.Errorf("calls before the first answer: got %d, want 1", n)
		}
		wg.Wait()
		if n := k.calls.Load(); n != 200 {
			t.Errorf("calls in all: got %d, want 200", n)
		}
		if n := k.most.Load(); n != 4 {
			t.Errorf("calls side by side: got %d, want 4", n)
		}
	})
}

func TestFailureOfTheFirstIsShared(t *testing.T) {
	for _, kind := range []error{ticket.ErrNoTicket, ticket.ErrExpired, ticket.ErrKDCUnreachable, ticket.ErrSPNUnknown, ticket.ErrClockSkew} {
		t.Run(kind.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKDC()
				k.delay.Store(int64(time.Second))
				k.failWith(kind)
				m := newManager(t, ticket.Config{Backend: k})
				var wg sync.WaitGroup
				for range 50 {
					wg.Go(func() {
						if _, err := m.Token(t.Context(), spn); !errors.Is(err, kind) {
							t.Errorf("got %v, want %v", err, kind)
						}
					})
				}
				wg.Wait()
				if n := k.calls.Load(); n != 1 {
					t.Errorf("calls: got %d, want 1", n)
				}
			})
		})
	}
}

// readyKDC has tokens at hand for one service.
type readyKDC struct {
	*kdc
	spn string
}

func (k readyKDC) Ready(spn string) []byte {
	if spn != k.spn {
		return nil
	}
	return []byte("ready")
}

// A token that is ready takes no call, but is as little use as any other when
// the ticket has ended or the caller has left.
func TestReadyTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		k.stamped("1")
		m := newManager(t, ticket.Config{Backend: readyKDC{k, spn}})
		m.Epoch()
		want := func(spn, what string, calls int64) {
			t.Helper()
			token, err := m.Token(t.Context(), spn)
			if err != nil || string(token) != what || k.calls.Load() != calls {
				t.Errorf("got %q, %v after %d calls, want %q after %d", token, err, k.calls.Load(), what, calls)
			}
		}
		want(spn, "ready", 0)
		want("HTTP/another", "token 1", 1)
		k.failWith(ticket.ErrKDCUnreachable)
		if _, err := m.Token(t.Context(), "HTTP/third"); !errors.Is(err, ticket.ErrKDCUnreachable) {
			t.Errorf("got %v, want %v", err, ticket.ErrKDCUnreachable)
		}
		want(spn, "ready", 2)
		k.failWith(nil)

		reads := k.reads.Load()
		k.stamped("2")
		want(spn, "token 3", 3) // the backend looks at the new ticket
		if k.reads.Load() != reads+1 {
			t.Errorf("%d readings of the new ticket, want one", k.reads.Load()-reads)
		}
		want(spn, "ready", 3)

		gone, leave := context.WithCancel(t.Context())
		leave()
		if token, err := m.Token(gone, spn); !errors.Is(err, context.Canceled) || token != nil {
			t.Errorf("a caller who has left: got %q, %v", token, err)
		}
		time.Sleep(10 * time.Hour)
		if token, err := m.Token(t.Context(), spn); !errors.Is(err, ticket.ErrExpired) || token != nil {
			t.Errorf("after the end of the ticket: got %q, %v", token, err)
		}
	})
}

// Tokens made in advance, many and in the background, ask a KDC no more often
// than one caller would.
func TestTokensInAdvanceAskOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, cause := range []error{ticket.ErrKDCUnreachable, ticket.ErrSPNUnknown} {
			k := newKDC()
			k.failWith(cause)
			m := newManager(t, ticket.Config{Backend: k, Negative: 10 * time.Second})
			for range 5 {
				var wg sync.WaitGroup
				for range 100 {
					wg.Go(func() {
						if _, err := m.Token(t.Context(), spn); !errors.Is(err, cause) {
							t.Errorf("got %v, want %v", err, cause)
						}
					})
				}
				wg.Wait()
				time.Sleep(time.Second)
			}
			if n := k.calls.Load(); n != 1 {
				t.Errorf("%v: asked %d times in 5 s, want once", cause, n)
			}
		}
	})
}

func TestNegativeCache(t *testing.T) {
	remembered := map[error]bool{
		ticket.ErrKDCUnreachable: true, ticket.ErrSPNUnknown: true,
		ticket.ErrNoTicket: false, ticket.ErrExpired: false, ticket.ErrClockSkew: false, ticket.ErrCache: false,
	}
	for kind, want := range remembered {
		t.Run(kind.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKDC()
				k.failWith(kind)
				m := newManager(t, ticket.Config{Backend: k})
				if _, err := m.Token(t.Context(), spn); !errors.Is(err, kind) {
					t.Fatalf("got %v, want %v", err, kind)
				}
				k.failWith(nil)
				time.Sleep(10*time.Second - 1)
				_, err := m.Token(t.Context(), spn)
				if got := errors.Is(err, kind); got != want {
					t.Errorf("just before 10 s: got %v, want remembered = %t", err, want)
				}
				time.Sleep(time.Nanosecond)
				if _, err := m.Token(t.Context(), spn); err != nil {
					t.Errorf("after 10 s: %v", err)
				}
			})
		})
	}
}

func TestWhatClearsTheNegativeCache(t *testing.T) {
	for name, change := range map[string]func(*kdc, *ticket.Manager){
		"ticket change": func(k *kdc, _ *ticket.Manager) { k.signIn("alice@WORLD.TEST", 11*time.Hour); k.stamped("2") },
		"forget":        func(_ *kdc, m *ticket.Manager) { m.Forget() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKDC()
				k.stamped("1")
				k.failWith(ticket.ErrKDCUnreachable)
				m := newManager(t, ticket.Config{Backend: k})
				m.Token(t.Context(), spn)
				k.failWith(nil)
				if _, err := m.Token(t.Context(), spn); !errors.Is(err, ticket.ErrKDCUnreachable) {
					t.Fatalf("not remembered: %v", err)
				}
				change(k, m)
				if _, err := m.Token(t.Context(), spn); err != nil {
					t.Errorf("after the change: %v", err)
				}
			})
		})
	}
}

func TestHangingKDC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		release := k.hold()
		m := newManager(t, ticket.Config{Backend: k})
		began := time.Now()
		var wg sync.WaitGroup
		for range 30 {
			wg.Go(func() {
				_, err := m.Token(t.Context(), spn)
				if !errors.Is(err, ticket.ErrKDCUnreachable) || !strings.Contains(fmt.Sprint(err), spn) {
					t.Errorf("got %v, want %v naming %s", err, ticket.ErrKDCUnreachable, spn)
				}
				if waited := time.Since(began); waited != 6*time.Second {
					t.Errorf("waited %v, want 6s", waited)
				}
			})
		}
		synctest.Wait()
		if _, err := m.Token(t.Context(), "HTTP/healthy"); err != nil || time.Since(began) != 0 {
			t.Errorf("another service: %v after %v", err, time.Since(began))
		}
		wg.Wait()
		synctest.Wait()
		before := k.calls.Load()
		if _, err := m.Token(t.Context(), spn); !errors.Is(err, ticket.ErrKDCUnreachable) || k.calls.Load() != before {
			t.Errorf("got %v after %d more calls, want the remembered answer", err, k.calls.Load()-before)
		}

		release()
		synctest.Wait()
		if token := k.tokens[len(k.tokens)-1]; len(bytes.Trim(token, "\x00")) != 0 {
			t.Errorf("the late token was kept: %q", token)
		}
		if _, err := m.Token(t.Context(), spn); err != nil {
			t.Errorf("after the late success: %v", err)
		}
	})
}

func TestWarmServiceThatHangsGoesCold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		m := newManager(t, ticket.Config{Backend: k})
		if _, err := m.Token(t.Context(), spn); err != nil {
			t.Fatal(err)
		}
		release := k.hold()
		defer release()
		began := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if _, err := m.Token(t.Context(), spn); !errors.Is(err, ticket.ErrKDCUnreachable) || time.Since(began) > 6*time.Second {
					t.Errorf("%v after %v", err, time.Since(began))
				}
			})
		}
		time.Sleep(3 * time.Second)
		if _, err := m.Token(t.Context(), spn); !errors.Is(err, ticket.ErrKDCUnreachable) || time.Since(began) != 6*time.Second {
			t.Errorf("who came later: %v after %v, want the same answer at the same time", err, time.Since(began))
		}
		wg.Wait()
		if n := k.calls.Load(); n != 1+4 {
			t.Errorf("calls: got %d, want 5", n)
		}
		// Cold, and all four slots stuck: nothing is started any more.
		time.Sleep(11 * time.Second)
		if _, err := m.Token(t.Context(), spn); !errors.Is(err, ticket.ErrKDCUnreachable) {
			t.Errorf("got %v", err)
		}
		if n := k.calls.Load(); n != 1+4 {
			t.Errorf("calls with all slots stuck: got %d, want 5", n)
		}
		release()
		synctest.Wait()
		if _, err := m.Token(t.Context(), spn); err != nil {
			t.Errorf("after the release: %v", err)
		}
	})
}

func TestStuckCallsAreCapped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		m := newManager(t, ticket.Config{Backend: k})
		m.Token(t.Context(), "HTTP/healthy")
		before := k.calls.Load()
		release := k.hold()
		defer release()
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				_, err := m.Token(t.Context(), fmt.Sprint("HTTP/", i))
				if !errors.Is(err, ticket.ErrKDCUnreachable) {
					t.Errorf("got %v", err)
				}
			})
		}
		wg.Wait()
		if n := k.calls.Load() - before; n != 16 {
			t.Errorf("calls: got %d, want 16", n)
		}
		if _, err := m.Token(t.Context(), "HTTP/healthy"); err != nil {
			t.Errorf("a service with a ticket is refused too: %v", err)
		}
		release()
		synctest.Wait()
		if _, err := m.Token(t.Context(), "HTTP/new"); err != nil {
			t.Errorf("after the release: %v", err)
		}
	})
}

func TestCancelledCallerLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		release := k.hold()
		m := newManager(t, ticket.Config{Backend: k})
		ctx, cancel := context.WithCancel(t.Context())
		began := time.Now()
		var wg sync.WaitGroup
		wg.Go(func() { // the leader, which leaves
			if _, err := m.Token(ctx, spn); !errors.Is(err, context.Canceled) {
				t.Errorf("leader: got %v, want %v", err, context.Canceled)
			}
		})
		synctest.Wait()
		wg.Go(func() { // a follower, which stays
			token, err := m.Token(t.Context(), spn)
			if err != nil || string(token) != "token 2" {
				t.Errorf("follower: got %q, %v; want a token of its own", token, err)
			}
		})
		wg.Go(func() { // a follower, which leaves
			if _, err := m.Token(ctx, spn); !errors.Is(err, context.Canceled) {
				t.Errorf("follower: got %v, want %v", err, context.Canceled)
			}
		})
		synctest.Wait()
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		if time.Since(began) != time.Second {
			t.Errorf("waited %v, want 1s", time.Since(began))
		}
		release()
		wg.Wait()
		if token := k.tokens[0]; len(bytes.Trim(token, "\x00")) != 0 {
			t.Errorf("the token nobody took was kept: %q", token)
		}
	})
}

func TestNewTicketOvertakesAHangingCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		k.stamped("1")
		release := k.hold()
		defer release()
		m := newManager(t, ticket.Config{Backend: k})
		began := time.Now()
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				if _, err := m.Token(t.Context(), spn); err != nil || time.Since(began) != 2*time.Second {
					t.Errorf("%v after %v, want a token after 2s", err, time.Since(began))
				}
			})
		}
		time.Sleep(2 * time.Second)
		k.hang.Store(nil) // the first call goes on hanging
		k.signIn("bob@WORLD.TEST", time.Hour)
		k.stamped("2")
		m.Epoch()
		wg.Wait()
		release()
		synctest.Wait()
	})
}

func TestEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		k.stamped("1")
		m := newManager(t, ticket.Config{Backend: k})
		last, reads := m.Epoch(), k.reads.Load()
		m.Epoch()
		if n := k.reads.Load(); n != reads {
			t.Errorf("an unchanged stamp was read again (%d readings)", n-reads)
		}
		n := 1
		step := func(name string, differs bool, change func()) {
			t.Helper()
			change()
			n++
			k.stamped(fmt.Sprint(n))
			now := m.Epoch()
			if (now != last) != differs {
				t.Errorf("%s: epoch %d after %d, want a change: %t", name, now, last, differs)
			}
			last = now
		}
		step("service ticket fetched", false, func() {})
		step("renewed", true, func() { k.signIn("alice@WORLD.TEST", 20*time.Hour) })
		step("other principal", true, func() { k.signIn("bob@WORLD.TEST", 20*time.Hour) })
		step("gone", true, func() { k.status.Store(nil) })
		step("still gone", false, func() {})
		step("back", true, func() { k.signIn("bob@WORLD.TEST", 20*time.Hour) })
		step("its time is over", true, func() { time.Sleep(21 * time.Hour) })
		if _, err := m.Token(t.Context(), "HTTP/a"); !errors.Is(err, ticket.ErrExpired) {
			t.Errorf("a token from a ticket that has ended: got %v, want %v", err, ticket.ErrExpired)
		}
		step("signed in again", true, func() { k.signIn("bob@WORLD.TEST", 20*time.Hour) })

		good := k.StatusFunc
		step("unreadable", false, func() {
			k.StatusFunc = func(context.Context) (ticket.Status, error) {
				k.reads.Add(1)
				return ticket.Status{}, ticket.ErrCache
			}
		})
		reads = k.reads.Load()
		k.StatusFunc = good
		m.Epoch()
		if k.reads.Load() == reads {
			t.Error("an unreadable cache was not looked at again")
		}
	})
}

func TestRunTellsChanges(t *testing.T) {
	for _, stampless := range []bool{false, true} {
		t.Run(fmt.Sprintf("stampless=%t", stampless), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKDC()
				touch := func(s string) {
					if !stampless {
						k.stamped(s)
					}
				}
				k.status.Store(nil)
				touch("1")
				var mu sync.Mutex
				var seen []string
				m := newManager(t, ticket.Config{Backend: k, Poll: time.Second, OnChange: func(s ticket.Snapshot) {
					mu.Lock()
					defer mu.Unlock()
					seen = append(seen, fmt.Sprintf("%v %s %s", s.State, s.Status.Principal, s.Backend))
				}})
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error)
				go func() { ended <- m.Run(ctx) }()
				expect := func(want string) {
					t.Helper()
					synctest.Wait()
					mu.Lock()
					defer mu.Unlock()
					if got := strings.TrimSpace(strings.Join(seen, ", ")); got != want {
						t.Errorf("told %q, want %q", got, want)
					}
					seen = nil
				}
				expect("none  fake")
				epoch := m.Epoch()
				k.signIn("alice@WORLD.TEST", time.Hour)
				touch("2")
				time.Sleep(time.Second)
				expect("valid alice@WORLD.TEST fake")
				if m.Epoch() == epoch {
					t.Error("the epoch did not change")
				}
				time.Sleep(29 * time.Minute)
				expect("")
				time.Sleep(2 * time.Minute)
				expect("expiring alice@WORLD.TEST fake")
				time.Sleep(30 * time.Minute)
				expect("expired alice@WORLD.TEST fake")
				k.status.Store(nil)
				touch("3")
				time.Sleep(time.Second)
				expect("none  fake")
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("Run: %v", err)
				}
			})
		})
	}
}

func TestStatusOfAHangingBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		k.stamped("1")
		good := k.StatusFunc
		hang := make(chan struct{})
		var asked atomic.Int64
		k.StatusFunc = func(ctx context.Context) (ticket.Status, error) {
			asked.Add(1)
			<-hang
			return good(ctx)
		}
		m := newManager(t, ticket.Config{Backend: k})
		began := time.Now()
		s := m.Status(t.Context())
		if s.State != ticket.StateUnavailable || !errors.Is(s.Err, ticket.ErrCache) || time.Since(began) != 6*time.Second {
			t.Errorf("got %v, %v after %v; want unavailable after 6s", s.State, s.Err, time.Since(began))
		}
		for range 10 {
			m.Epoch()
			m.Status(t.Context())
		}
		if time.Since(began) != 6*time.Second || asked.Load() != 1 {
			t.Errorf("later callers waited %v more and started %d calls", time.Since(began)-6*time.Second, asked.Load()-1)
		}
		close(hang)
		synctest.Wait()
		if s := m.Status(t.Context()); s.State != ticket.StateValid {
			t.Errorf("afterwards: got %v %v, want valid", s.State, s.Err)
		}
	})
}

// Tickets that are renewed faster than tokens are made: there are tokens all
// the same.
func TestTokensInAStormOfRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		k.stamped("0")
		k.delay.Store(int64(100 * time.Millisecond))
		m := newManager(t, ticket.Config{Backend: k})
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for n := 1; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(40 * time.Millisecond):
					k.signIn("alice@WORLD.TEST", time.Hour+time.Duration(n)*time.Second)
					k.stamped(fmt.Sprint(n))
					m.Epoch()
				}
			}
		}()
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 5 {
					if _, err := m.Token(t.Context(), spn); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		close(stop)
		<-stopped
	})
}

func TestRepeatedFailureIsLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKDC()
		var log bytes.Buffer
		m := newManager(t, ticket.Config{Backend: k, Log: slog.New(slog.NewTextHandler(&log, nil))})
		k.failWith(ticket.ErrNoTicket)
		for range 5 {
			m.Token(t.Context(), spn)
		}
		k.failWith(nil)
		for range 5 {
			m.Token(t.Context(), spn)
		}
		if n := strings.Count(log.String(), "no token"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%s", n, &log)
		}
		if n := strings.Count(log.String(), "tokens again"); n != 1 {
			t.Errorf("%d all-clears, want 1:\n%s", n, &log)
		}
	})
}

func TestNewManagerRefuses(t *testing.T) {
	for name, c := range map[string]ticket.Config{
		"no backend":        {},
		"negative deadline": {Backend: newKDC(), Deadline: -1},
		"negative poll":     {Backend: newKDC(), Poll: -1},
	} {
		if _, err := ticket.NewManager(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
