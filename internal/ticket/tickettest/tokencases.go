package tickettest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

var tokenCases = []testCase{
	{name: "no ticket", run: testNoTicket},
	{name: "valid", run: testValid},
	{name: "about to expire", run: testAboutToExpire},
	{name: "expired", run: testExpired},
	{name: "service ticket", run: testServiceTicket},
	{name: "unknown SPN", run: testUnknownSPN},
	{name: "impossible SPN", run: testImpossibleSPN},
	{name: "1,000 concurrent tokens", run: testConcurrentTokens},
	{name: "ready tokens", run: testReady},
	{name: "cache replaced during a call", run: testCacheReplaced},
	{name: "cancelled", run: testCancelled},
	{name: "KDC down", needs: canGoDown, run: testKDCDown},
	{name: "hanging KDC", needs: canHang, run: testHangingKDC},
	{name: "hanging KDC, cancelled", needs: canHang, run: testHangingKDCCancelled},
}

func canGoDown(w World) bool { return w.KDCDown != nil && w.KDCUp != nil }

func canHang(w World) bool { return w.KDCHang != nil && w.KDCUp != nil }

func testNoTicket(t *testing.T, s suite) {
	s.w.SignOut(t)
	s.hasNoTicket(t)
	s.signIn(t, time.Hour)
	s.changesStamp(t, "the ticket going away", func() { s.w.SignOut(t) })
	s.hasNoTicket(t)
}

func testValid(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	st, realm := s.status(t), s.w.realm()
	if st.Principal != s.w.Principal || st.Realm != realm {
		t.Errorf("got %q of %q, want %q of %q", st.Principal, st.Realm, s.w.Principal, realm)
	}
	if left := st.Left(time.Now()); left < 59*time.Minute || left > time.Hour+10*time.Second {
		t.Errorf("left: got %v, want about 1h", left)
	}
	if ago := time.Since(st.Start); ago < -10*time.Second || ago > time.Minute {
		t.Errorf("start: got %v", st.Start)
	}
	if st.Expires.Location() != time.UTC {
		t.Errorf("times are not in UTC: %v", st.Expires)
	}
	token, err := s.b.Token(t.Context(), s.w.SPN+"@"+realm)
	if err != nil {
		t.Fatalf("with the realm spelled out: %v", err)
	}
	s.accepts(t, token)
	if who, err := s.w.Accept(token); err == nil {
		t.Errorf("the acceptor took the same token of %s twice, so it does not prove that tokens differ", who)
	}
}

func testAboutToExpire(t *testing.T, s suite) {
	m, err := ticket.NewManager(ticket.Config{Backend: s.b})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		life time.Duration
		want ticket.State
	}{{time.Hour, ticket.StateValid}, {10 * time.Minute, ticket.StateExpiring}} {
		s.signIn(t, tt.life)
		if got := m.Status(t.Context()); got.State != tt.want {
			t.Errorf("a life of %v: got %q, want %q", tt.life, got.State, tt.want)
		}
	}
}

func testExpired(t *testing.T, s suite) {
	s.changesStamp(t, "a new ticket", func() { s.w.SignIn(t, 2*time.Second) })
	s.b.Token(t.Context(), s.w.SPN) // it may have ended by now
	eventually(t, func() error {
		if st, err := s.b.Status(t.Context()); err != nil || st.Left(time.Now()) > 10*time.Second {
			return fmt.Errorf("got %+v, %v; want the short ticket", st, err)
		}
		return nil
	})
	outlive(s.status(t))
	if s.w.Expired != nil {
		s.tokenFails(t, s.w.Expired)
	} else {
		s.tokenFails(t, ticket.ErrExpired)
		st := s.status(t)
		if st.Principal != s.w.Principal || st.Expires.IsZero() || st.Left(time.Now()) != 0 {
			t.Errorf("status: got %+v, want the expired ticket", st)
		}
	}
	s.signIn(t, time.Hour)
	if st := s.status(t); st.Left(time.Now()) < 59*time.Minute {
		t.Errorf("signed in again: got %+v, want the new ticket", st)
	}
	s.accepted(t)
}

func testServiceTicket(t *testing.T, s suite) {
	s.changesStamp(t, "a new ticket", func() { s.w.SignIn(t, time.Hour) })
	var before ticket.Status
	eventually(t, func() (err error) { before, err = s.b.Status(t.Context()); return err })
	s.makesTokens(t)
	s.untouched(t, before)
}

func testUnknownSPN(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	refused(t, s, ticket.ErrSPNUnknown)
}

// refused asks for a token that takes an answer of the KDC.
func refused(t *testing.T, s suite, want error) {
	t.Helper()
	token, err := s.b.Token(t.Context(), s.w.Unknown)
	if !errors.Is(err, want) || token != nil || !strings.Contains(err.Error(), s.w.Unknown) {
		t.Errorf("got %v, want %v naming %s", err, want, s.w.Unknown)
	}
}

func testImpossibleSPN(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	for _, spn := range []string{"", "HTTP/a\x00b", "HTTP/a b", "HTTP/a\n"} {
		if token, err := s.b.Token(t.Context(), spn); err == nil {
			t.Errorf("%q: got a token of %d bytes", spn, len(token))
		}
	}
}

func testConcurrentTokens(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	const n = 1000
	tokens := make([][]byte, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			token, err := s.b.Token(t.Context(), s.w.SPN)
			if err != nil {
				t.Error(err)
			}
			tokens[i] = token
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	seen := map[string]bool{}
	for _, token := range tokens {
		if seen[string(token)] {
			t.Fatal("the same token twice")
		}
		seen[string(token)] = true
		if s.accepts(t, token); t.Failed() {
			return
		}
	}
}

// testReady: tokens that are ready are as good as others, and end with the
// ticket.
func testReady(t *testing.T, s suite) {
	r, ok := s.b.(ticket.Readier)
	if !ok {
		t.Log("left out: this backend makes tokens with Token only")
		return
	}
	ready := func(what string) (token []byte) {
		t.Helper()
		if !waitFor(noticed, func() bool {
			if _, err := s.b.Token(t.Context(), s.w.SPN); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			token = r.Ready(s.w.SPN)
			return token != nil
		}) {
			t.Fatalf("%s: no token is ever ready", what)
		}
		return token
	}
	none := func(what string) {
		t.Helper()
		if token := r.Ready(s.w.SPN); token != nil {
			who, err := s.w.Accept(token)
			t.Errorf("%s: a token is ready (%s, %v)", what, who, err)
		}
	}
	s.signIn(t, time.Hour)
	for range 3 {
		s.accepts(t, ready("signed in"))
	}
	for _, spn := range []string{s.w.Unknown, "", "HTTP/a b"} {
		if r.Ready(spn) != nil {
			t.Errorf("a token for %q is ready", spn)
		}
	}
	if canGoDown(s.w) {
		s.w.KDCDown(t)
		s.accepts(t, ready("without a KDC"))
		s.w.KDCUp(t)
	}

	shows := s.b.Stamp() != "" // else changes are seen by polling
	s.w.SignIn(t, 2*time.Hour)
	if shows {
		none("another ticket")
	}
	s.makesTokens(t)
	s.accepts(t, ready("another ticket"))
	s.w.SignOut(t)
	if shows {
		none("signed out")
	}
	s.hasNoTicket(t)
	none("signed out")

	s.signIn(t, 3*time.Second)
	waitFor(noticed/2, func() bool { // a backend may find it too short to keep
		s.makesTokens(t)
		return r.Ready(s.w.SPN) != nil
	})
	outlive(s.status(t))
	none("expired")
}

// testCacheReplaced has another program sign in again and again while tokens
// are made.
func testCacheReplaced(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	tokens := 0
	during(t, func() {
		for range 20 {
			s.w.SignIn(t, time.Hour)
		}
	}, func() bool {
		token, err := s.b.Token(t.Context(), s.w.SPN)
		if err != nil {
			t.Errorf("after %d tokens: %v", tokens, err)
			return false
		}
		tokens++
		if tokens%10 == 1 { // each would only measure the acceptor
			s.accepts(t, token)
		}
		return !t.Failed()
	})
	if tokens == 0 {
		t.Error("no token was made in between")
	}
	s.accepted(t)
}

// during calls again until it says no or work is done, and waits for work.
func during(t *testing.T, work func(), again func() bool) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done) // also when work ends the test
		work()
	}()
	defer func() { <-done }()
	for again() {
		select {
		case <-done:
			return
		default:
		}
	}
}

func testCancelled(t *testing.T, s suite) {
	ctx, cancel := context.WithCancel(t.Context())
	s.signIn(t, time.Hour)
	cancel()
	_, token := s.b.Token(ctx, s.w.SPN)
	_, status := s.b.Status(ctx)
	_, caches := s.b.Caches(ctx)
	for what, err := range map[string]error{"token": token, "status": status, "caches": caches} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want %v", what, err, context.Canceled)
		}
	}
}

func testKDCDown(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	s.w.KDCDown(t)
	defer s.w.KDCUp(t)
	s.accepted(t) // the service ticket is at hand
	refused(t, s, ticket.ErrKDCUnreachable)
}

// testHangingKDC: behind the manager nobody waits longer than its deadline, or
// than he wants to.
func testHangingKDC(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	const deadline = time.Second
	m, err := ticket.NewManager(ticket.Config{Backend: s.b, Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	s.w.KDCHang(t)
	up := sync.OnceFunc(func() { s.w.KDCUp(t) })
	defer up()
	if _, err := m.Token(t.Context(), s.w.Unknown); !errors.Is(err, ticket.ErrKDCUnreachable) {
		t.Errorf("deadline: got %v, want %v", err, ticket.ErrKDCUnreachable)
	}
	m.Forget()
	ctx, cancel := context.WithTimeout(t.Context(), deadline/5)
	defer cancel()
	if _, err := m.Token(ctx, s.w.Unknown); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ticket.ErrKDCUnreachable) {
		t.Errorf("cancelled: got %v, want %v", err, context.DeadlineExceeded)
	}
	if _, err := m.Token(t.Context(), s.w.SPN); err != nil {
		t.Errorf("with the service ticket at hand: %v", err)
	}
	up()
	s.settled(t)
}

// settled waits until calls that were left behind no longer stand in the way
// of the next one.
func (s suite) settled(t *testing.T) {
	t.Helper()
	var err error
	if !waitFor(patience, func() bool {
		_, err = s.b.Token(t.Context(), s.w.Unknown)
		return errors.Is(err, ticket.ErrSPNUnknown)
	}) {
		t.Errorf("after the KDC has come back: got %v, want %v", err, ticket.ErrSPNUnknown)
	}
}

// testHangingKDCCancelled: the backend itself gives up when ctx ends.
func testHangingKDCCancelled(t *testing.T, s suite) {
	calls := map[string]func(ctx context.Context) error{
		"token": func(ctx context.Context) error { _, err := s.b.Token(ctx, s.w.Unknown); return err },
	}
	if canRenew(s.w) {
		calls["renew"] = func(ctx context.Context) error { return s.b.Renew(ctx, s.w.SPN) }
	}
	if canLogIn(s.w) {
		calls["sign in"] = func(ctx context.Context) error {
			return s.b.SignIn(ctx, ticket.Login{Principal: s.w.Principal, Prompt: newScript(s.w.Password).prompt})
		}
	}
	before := s.signInRenewable(t)
	s.w.KDCHang(t)
	up := sync.OnceFunc(func() { s.w.KDCUp(t) })
	defer up()
	for what, call := range calls {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		ended := make(chan error, 1)
		go func() { ended <- call(ctx) }()
		select {
		case err := <-ended:
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ticket.ErrKDCUnreachable) {
				t.Errorf("%s: got %v, want %v", what, err, context.DeadlineExceeded)
			}
		case <-time.After(patience / 4):
			t.Errorf("%s does not return when its context ends", what)
			up()
			<-ended
		}
		cancel()
	}
	up()
	s.settled(t)
	s.untouched(t, before)
}
