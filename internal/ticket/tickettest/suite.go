package tickettest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

// World is what [TestBackend] does to the tickets of the backend under test,
// and what it knows about them. A field that is nil or empty means that the
// world cannot do so; the cases that need it are left out, and say so.
// [KDC.World] fills all of it.
type World struct {
	Principal string // who SignIn signs in
	SPN       string // a service the KDC knows, full name without the realm
	Unknown   string // one it does not

	// Expired is what an expired ticket is called; nil means ErrExpired. A
	// kernel keyring drops expired tickets, so there it is ErrNoTicket.
	Expired error

	Accept  func(token []byte) (principal string, err error) // an acceptor of somebody else's making
	SignIn  func(t testing.TB, life time.Duration)           // makes tickets, replacing what was there
	SignOut func(t testing.TB)                               // takes them all away, other realms' too
	Corrupt func(t testing.TB)                               // damages the cache
	KDCDown func(t testing.TB)                               // closes the KDC's port
	KDCUp   func(t testing.TB)                               // opens it again, and ends KDCHang
	KDCHang func(t testing.TB)                               // leaves it open and answers nothing

	// Renewable is SignIn with a ticket that can be renewed for so long, or not
	// at all if that is 0. A KDC may give a life of a few seconds.
	Renewable func(t testing.TB, life, renewable time.Duration)

	// Fetch has another program get a ticket for SPN into the cache in use.
	Fetch func(t testing.TB)

	// Beside puts a valid ticket of another realm into a cache of its own in
	// the same collection, and makes it the default. The backend has to know
	// the service's realm. Nil where there is one cache only.
	Beside func(t testing.TB)

	// Elsewhere replaces all tickets by a valid one of another realm, whose KDC
	// has no way to Principal's. It may know a service of the same name.
	Elsewhere func(t testing.TB)

	// Switch makes another cache of the collection the default, as kswitch does.
	// It is called when there are several. Nil where there is one cache only.
	Switch func(t testing.TB)

	// What the backend's own SignIn meets. Password is the right one of every
	// account.
	Password string
	Nobody   string                    // a principal the KDC does not know
	Locked   string                    // one that is locked
	Stale    func(t testing.TB) string // makes anew, and names, one whose password has expired but can be changed
	Short    string                    // a new password that the KDC rejects
	Attempts func(t testing.TB) int    // wrong passwords that the KDC has seen
	Requests func(t testing.TB) int    // requests that the KDC has answered

	// Lacks names the cases that this backend is known not to pass in this
	// world, each with the reason, which is logged. They are not run.
	Lacks map[string]string
}

// realm is that of Principal.
func (w World) realm() string {
	_, realm, _ := strings.Cut(w.Principal, "@")
	return realm
}

// Times that the suite allows.
const (
	noticed  = 2 * time.Second  // for a backend to see that tickets have changed
	patience = 20 * time.Second // for a call that the KDC answers, on a busy machine
)

// A testCase is one property that every backend has.
type testCase struct {
	name  string
	needs func(w World) bool // nil: nothing beyond what every world has
	run   func(t *testing.T, s suite)
}

// A suite is what a case works with: the backend, and the world around it.
type suite struct {
	b ticket.Backend
	w World
}

// cases is what TestBackend runs, in this order. No case relies on the tickets
// that another has left behind.
var cases = [][]testCase{tokenCases, cacheCases, renewCases, loginCases, watchCases}

// TestBackend is what every backend must pass. Open returns a backend on the
// cache that w's funcs change; it is called once.
func TestBackend(t *testing.T, open func(t testing.TB) ticket.Backend, w World) {
	if err := checkLacks(w.Lacks); err != nil {
		t.Fatal(err)
	}
	s := suite{b: open(t), w: w}
	for _, group := range cases {
		for _, c := range group {
			t.Run(c.name, func(t *testing.T) {
				if reason, lacks := w.Lacks[c.name]; lacks {
					t.Log("left out:", reason)
					return
				}
				if c.needs != nil && !c.needs(w) {
					t.Log("left out: the world of this test cannot do what it takes")
					return
				}
				c.run(t, s)
			})
		}
	}
}

// checkLacks refuses names that are no case's, and reasons that say nothing.
func checkLacks(lacks map[string]string) error {
	known := map[string]bool{}
	for _, group := range cases {
		for _, c := range group {
			known[c.name] = true
		}
	}
	var wrong []error
	for name, reason := range lacks {
		if !known[name] {
			wrong = append(wrong, errors.New("Lacks: there is no case "+name))
		}
		if strings.TrimSpace(reason) == "" {
			wrong = append(wrong, errors.New("Lacks: no reason given for "+name))
		}
	}
	return errors.Join(wrong...)
}

// signIn makes a ticket and waits until the backend makes tokens with it.
func (s suite) signIn(t *testing.T, life time.Duration) {
	t.Helper()
	s.changesStamp(t, "a new ticket", func() { s.w.SignIn(t, life) })
	s.makesTokens(t)
}

// renewable is signIn with a ticket that can, or cannot, be renewed.
func (s suite) renewable(t *testing.T, life, renewable time.Duration) ticket.Status {
	t.Helper()
	s.changesStamp(t, "a new ticket", func() { s.w.Renewable(t, life, renewable) })
	s.makesTokens(t)
	return s.status(t)
}

// signInRenewable is signIn with a ticket of an hour that can be renewed for
// two, where the world has such.
func (s suite) signInRenewable(t *testing.T) ticket.Status {
	t.Helper()
	if canRenew(s.w) {
		return s.renewable(t, time.Hour, 2*time.Hour)
	}
	s.signIn(t, time.Hour)
	return s.status(t)
}

// changesStamp does what changes the tickets, and checks that a backend with a
// stamp shows it at once.
func (s suite) changesStamp(t *testing.T, what string, do func()) {
	t.Helper()
	before := s.b.Stamp()
	do()
	if before != "" && s.b.Stamp() == before {
		t.Errorf("the stamp does not change with %s: %s", what, before)
	}
}

// makesTokens waits until the backend does, where it trusts what it saw a
// moment ago.
func (s suite) makesTokens(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		token, err := s.b.Token(t.Context(), s.w.SPN)
		if err == nil && len(token) == 0 {
			err = errors.New("an empty token")
		}
		return err
	})
}

// tokenFails waits until Token fails with want, naming the service.
func (s suite) tokenFails(t *testing.T, want error) {
	t.Helper()
	eventually(t, func() error {
		token, err := s.b.Token(t.Context(), s.w.SPN)
		if errors.Is(err, want) && strings.Contains(err.Error(), s.w.SPN) && token == nil {
			return nil
		}
		return errors.Join(errors.New("want "+want.Error()+" naming "+s.w.SPN), err)
	})
}

// accepted makes a token and shows it to the acceptor.
func (s suite) accepted(t *testing.T) {
	t.Helper()
	token, err := s.b.Token(t.Context(), s.w.SPN)
	if err != nil {
		t.Error(err)
		return
	}
	s.accepts(t, token)
}

func (s suite) accepts(t *testing.T, token []byte) {
	t.Helper()
	if who, err := s.w.Accept(token); err != nil || who != s.w.Principal {
		t.Errorf("acceptor: got %q, %v; want %q", who, err, s.w.Principal)
	}
}

func (s suite) status(t *testing.T) ticket.Status {
	t.Helper()
	st, err := s.b.Status(t.Context())
	if err != nil {
		t.Fatalf("status: %v", err)
	}
	return st
}

// hasNoTicket waits until Token and Status say so.
func (s suite) hasNoTicket(t *testing.T) {
	t.Helper()
	s.tokenFails(t, ticket.ErrNoTicket)
	st, err := s.b.Status(t.Context())
	if !errors.Is(err, ticket.ErrNoTicket) || st.Principal != "" || !st.Expires.IsZero() {
		t.Errorf("status: got %+v, %v; want %v", st, err, ticket.ErrNoTicket)
	}
	if !strings.Contains(st.Cache, ":") {
		t.Errorf("status does not name the cache: %q", st.Cache)
	}
}

// untouched checks that the ticket is the one that before describes, and that
// it still makes tokens.
func (s suite) untouched(t *testing.T, before ticket.Status) {
	t.Helper()
	if after, err := s.b.Status(t.Context()); err != nil || after != before {
		t.Errorf("the ticket has changed:\ngot  %+v, %v\nwant %+v", after, err, before)
	}
	s.accepted(t)
}

// cache returns the cache in use.
func (s suite) cache(t *testing.T) ticket.Cache {
	t.Helper()
	list, err := s.b.Caches(t.Context())
	if err != nil {
		t.Fatalf("caches: %v", err)
	}
	for _, c := range list {
		if c.Used {
			return c
		}
	}
	t.Fatalf("none of %+v is marked as used", list)
	return ticket.Cache{}
}

// outlive waits until the ticket has ended: the library's clock cannot be wound.
func outlive(st ticket.Status) { time.Sleep(time.Until(st.Expires.Add(time.Second))) }

// eventually repeats ok until it returns nil, for at most the time in which a
// backend has to notice a change.
func eventually(t *testing.T, ok func() error) {
	t.Helper()
	var err error
	if !waitFor(noticed, func() bool { err = ok(); return err == nil }) {
		t.Error(err)
	}
}
