package tickettest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

// World is what [TestBackend] does to the tickets of the backend under test,
// and what it knows about them. A nil func means that the world cannot do so;
// its cases are left out.
type World struct {
	Principal string // who SignIn signs in
	SPN       string // a service the KDC knows, full name without the realm
	Unknown   string // one it does not

	// Expired is what an expired ticket is called; nil means ErrExpired. A
	// kernel keyring drops expired tickets, so there it is ErrNoTicket.
	Expired error

	Accept  func(token []byte) (principal string, err error) // an acceptor of somebody else's making
	SignIn  func(t testing.TB, life time.Duration)           // makes tickets, replacing what was there
	SignOut func(t testing.TB)                               // takes them away
	Corrupt func(t testing.TB)                               // damages the cache
	KDCDown func(t testing.TB)                               // closes the KDC's port
	KDCUp   func(t testing.TB)                               // opens it again
}

// noticed is how long a backend may take to see that tickets have changed.
const noticed = 2 * time.Second

// TestBackend is what every backend must pass. Open returns a backend on the
// cache that w's funcs change; it is called once.
func TestBackend(t *testing.T, open func(t testing.TB) ticket.Backend, w World) {
	b := open(t)
	stamps := b.Stamp() != ""
	signIn := func(t *testing.T, life time.Duration) {
		t.Helper()
		before := b.Stamp()
		w.SignIn(t, life)
		if stamps && b.Stamp() == before {
			t.Errorf("the stamp did not change with a new ticket: %s", before)
		}
		eventually(t, func() error { // where the backend trusts what it saw a moment ago
			token, err := b.Token(t.Context(), w.SPN)
			if err == nil && len(token) == 0 {
				err = errors.New("an empty token")
			}
			return err
		})
	}
	wantError := func(t *testing.T, want error) {
		t.Helper()
		eventually(t, func() error {
			token, err := b.Token(t.Context(), w.SPN)
			if errors.Is(err, want) && strings.Contains(err.Error(), w.SPN) && token == nil {
				return nil
			}
			return errors.Join(errors.New("want "+want.Error()+" naming "+w.SPN), err)
		})
	}

	t.Run("no ticket", func(t *testing.T) {
		w.SignOut(t)
		wantError(t, ticket.ErrNoTicket)
		st, err := b.Status(t.Context())
		if !errors.Is(err, ticket.ErrNoTicket) || st.Principal != "" || !st.Expires.IsZero() {
			t.Errorf("status: got %+v, %v; want %v", st, err, ticket.ErrNoTicket)
		}
		if st.Cache == "" || !strings.Contains(st.Cache, ":") {
			t.Errorf("status does not name the cache: %q", st.Cache)
		}
	})

	t.Run("valid", func(t *testing.T) {
		signIn(t, time.Hour)
		st, err := b.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, realm, _ := strings.Cut(w.Principal, "@")
		if st.Principal != w.Principal || st.Realm != realm {
			t.Errorf("got %q of %q, want %q of %q", st.Principal, st.Realm, w.Principal, realm)
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
		token, err := b.Token(t.Context(), w.SPN+"@"+realm)
		if err != nil {
			t.Fatalf("with the realm spelled out: %v", err)
		}
		if who, err := w.Accept(token); err != nil || who != w.Principal {
			t.Errorf("acceptor: got %q, %v; want %q", who, err, w.Principal)
		}
		if who, err := w.Accept(token); err == nil {
			t.Errorf("the acceptor took the same token of %s twice, so it does not prove that tokens differ", who)
		}
	})

	t.Run("caches", func(t *testing.T) {
		st, err := b.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		list, err := b.Caches(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, c := range list {
			if strings.HasPrefix(c.Name, "MEMORY:") {
				t.Errorf("lists a copy of its own: %s", c.Name)
			}
			if c.Name != st.Cache {
				continue
			}
			found = true
			if c.Principal != st.Principal || c.Realm != st.Realm || !c.Expires.Equal(st.Expires) {
				t.Errorf("got %+v, want the same as %+v", c, st)
			}
			for _, s := range c.Services {
				if strings.HasPrefix(s.Server, "krbtgt/") || strings.Contains(s.Server, "X-CACHECONF") || s.Expires.IsZero() {
					t.Errorf("not a service ticket: %+v", s)
				}
			}
		}
		if !found {
			t.Errorf("%s is not among %+v", st.Cache, list)
		}
	})

	t.Run("200 at once", func(t *testing.T) {
		const n = 200
		tokens := make([][]byte, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				token, err := b.Token(context.Background(), w.SPN)
				if err != nil {
					t.Error(err)
				}
				tokens[i] = token
			})
		}
		wg.Wait()
		seen := map[string]bool{}
		for _, token := range tokens {
			if seen[string(token)] {
				t.Fatal("the same token twice")
			}
			seen[string(token)] = true
			if who, err := w.Accept(token); err != nil || who != w.Principal {
				t.Fatalf("acceptor: got %q, %v; want %q", who, err, w.Principal)
			}
		}
	})

	t.Run("service ticket", func(t *testing.T) {
		before, err := b.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Token(t.Context(), w.SPN); err != nil {
			t.Fatal(err)
		}
		if after, err := b.Status(t.Context()); err != nil || after != before {
			t.Errorf("a service ticket changes the status from %+v to %+v, %v", before, after, err)
		}
	})

	t.Run("unknown service", func(t *testing.T) {
		_, err := b.Token(t.Context(), w.Unknown)
		if !errors.Is(err, ticket.ErrSPNUnknown) || !strings.Contains(err.Error(), w.Unknown) {
			t.Errorf("got %v, want %v naming %s", err, ticket.ErrSPNUnknown, w.Unknown)
		}
	})

	t.Run("impossible service", func(t *testing.T) {
		for _, spn := range []string{"", "HTTP/a\x00b", "HTTP/a b", "HTTP/a\n"} {
			if token, err := b.Token(t.Context(), spn); err == nil {
				t.Errorf("%q: got a token of %d bytes", spn, len(token))
			}
		}
	})

	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.Token(ctx, w.SPN); !errors.Is(err, context.Canceled) {
			t.Errorf("token: got %v, want %v", err, context.Canceled)
		}
		if _, err := b.Status(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("status: got %v, want %v", err, context.Canceled)
		}
		if _, err := b.Caches(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("caches: got %v, want %v", err, context.Canceled)
		}
	})

	if w.KDCDown != nil {
		t.Run("KDC down", func(t *testing.T) {
			signIn(t, time.Hour)
			w.KDCDown(t)
			defer w.KDCUp(t)
			if _, err := b.Token(t.Context(), w.SPN); err != nil {
				t.Errorf("with the service ticket at hand: %v", err)
			}
			if _, err := b.Token(t.Context(), w.Unknown); !errors.Is(err, ticket.ErrKDCUnreachable) {
				t.Errorf("without: got %v, want %v", err, ticket.ErrKDCUnreachable)
			}
		})
	}

	t.Run("expired", func(t *testing.T) {
		signIn(t, 2*time.Second)
		st, err := b.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(st.Expires.Add(time.Second))) // the library's clock cannot be wound
		if w.Expired != nil {
			wantError(t, w.Expired)
			return
		}
		wantError(t, ticket.ErrExpired)
		if st, err := b.Status(t.Context()); err != nil || st.Principal != w.Principal || st.Expires.IsZero() || st.Left(time.Now()) != 0 {
			t.Errorf("status: got %+v, %v; want the expired ticket", st, err)
		}
	})

	t.Run("renewed", func(t *testing.T) {
		signIn(t, time.Hour) // after an expired one
		st, err := b.Status(t.Context())
		if err != nil || st.Left(time.Now()) < 59*time.Minute {
			t.Errorf("got %+v, %v; want the new ticket", st, err)
		}
		token, err := b.Token(t.Context(), w.SPN)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := w.Accept(token); err != nil || who != w.Principal {
			t.Errorf("acceptor: got %q, %v; want %q", who, err, w.Principal)
		}
	})

	if w.Corrupt != nil {
		t.Run("corrupt", func(t *testing.T) {
			signIn(t, time.Hour)
			w.Corrupt(t)
			wantError(t, ticket.ErrCache)
			if _, err := b.Status(t.Context()); !errors.Is(err, ticket.ErrCache) {
				t.Errorf("status: got %v, want %v", err, ticket.ErrCache)
			}
			w.SignOut(t)
		})
	}

	t.Run("destroyed", func(t *testing.T) {
		signIn(t, time.Hour)
		before := b.Stamp()
		w.SignOut(t)
		if stamps && b.Stamp() == before {
			t.Error("the stamp did not change when the ticket went away")
		}
		wantError(t, ticket.ErrNoTicket)
	})
}

// eventually repeats ok until it returns nil, for at most the time in which a
// backend has to notice a change.
func eventually(t *testing.T, ok func() error) {
	t.Helper()
	var err error
	if !waitFor(noticed, func() bool { err = ok(); return err == nil }) {
		t.Error(err)
	}
}
