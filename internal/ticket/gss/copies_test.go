//go:build linux && !nogss

package gss_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
)

// Thirty connections at once cost one copy of the cache, not one each: the
// daemon collapses under such a load.
func TestParallelTokensShareACopy(t *testing.T) {
	testenv.NoLeaks(t)
	for _, kind := range []string{"KCM", "KEYRING"} {
		t.Run(kind, func(t *testing.T) {
			w := begin(t, place{"mit", kind, false})
			w.signIn(t, time.Hour)
			r, err := w.child.ask(t.Context(), request{Op: "parallel", Of: 30}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if r.Text != "1" && r.Text != "2" {
				t.Errorf("30 tokens took %s copies, want 1 or 2", r.Text)
			}
		})
	}
}

// A ticket for the service that we have fetched lies in the cache, not in our
// copy only, so that a new copy needs no KDC.
func TestCopyKeepsNoTicketToItself(t *testing.T) {
	testenv.NoLeaks(t)
	for _, kind := range []string{"KCM", "KEYRING"} {
		t.Run(kind, func(t *testing.T) {
			w := begin(t, place{"mit", kind, false})
			w.signIn(t, time.Hour)
			if _, err := w.child.Token(t.Context(), spn); err != nil {
				t.Fatal(err)
			}
			w.Stop()
			if err := w.child.Renew(t.Context(), spn); err == nil {
				t.Error("a renewal without a KDC")
			}
			if _, err := w.child.ask(t.Context(), request{Op: "parallel", Of: 1}, nil); err != nil {
				t.Errorf("from a new copy: %v", err)
			}
			if _, err := w.child.Token(t.Context(), spn); err != nil {
				t.Errorf("after a refused renewal: %v", err)
			}
		})
	}
}

// A copy is not taken for one of the tickets of a second kinit, not even where
// both came in the same second and so look alike.
func TestCopyEndsWithAnotherKinit(t *testing.T) {
	testenv.NoLeaks(t)
	for _, kind := range []string{"KCM", "KEYRING"} {
		t.Run(kind, func(t *testing.T) {
			w := begin(t, place{"mit", kind, false})
			for range 6 {
				w.signIn(t, time.Hour)
				if _, err := w.child.Status(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := w.child.Token(t.Context(), spn); err != nil {
					t.Fatal(err)
				}
				list, err := w.child.Caches(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				i := slices.IndexFunc(list, func(c ticket.Cache) bool { return c.Used })
				if i < 0 || len(list[i].Services) != 1 {
					t.Fatalf("got %+v, want the token's service ticket in the cache: it came from an old copy", list)
				}
			}
		})
	}
}

// A copy that nobody has compared with its source for a while makes no token by
// itself: the ticket may be gone.
func TestReadyEndsWithACopy(t *testing.T) {
	testenv.NoLeaks(t)
	for _, kind := range []string{"KCM", "KEYRING"} {
		t.Run(kind, func(t *testing.T) {
			w := begin(t, place{"mit", kind, false})
			w.signIn(t, time.Hour)
			for i := 0; w.child.Ready(spn) == nil; i++ {
				if _, err := w.child.Token(t.Context(), spn); err != nil || i == 100 {
					t.Fatalf("no token is ready: %v", err)
				}
			}
			w.signOut(t)
			for end := time.Now().Add(10 * time.Second); w.child.Ready(spn) != nil; {
				if time.Now().After(end) {
					t.Fatal("tokens of a ticket that went away 10 s ago")
				}
				time.Sleep(20 * time.Millisecond)
			}
			if _, err := w.child.Token(t.Context(), spn); !errors.Is(err, ticket.ErrNoTicket) {
				t.Errorf("got %v, want %v", err, ticket.ErrNoTicket)
			}
		})
	}
}

// A cache that has just changed may change once more without looking different,
// so for a moment the library reads it for every token.
func TestReadyNeedsAQuietCache(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t, place{"mit", "FILE", true})
	w.signIn(t, time.Hour)
	if out, err := w.Run(w.cache, "", "kvno", spn); err != nil {
		t.Fatalf("kvno: %v\n%s", err, out)
	}
	file := strings.TrimPrefix(w.cache, "FILE:")
	for range 20 {
		began := time.Now()
		if err := os.Chmod(file, 0o600); err != nil { // a change, as far as the file system tells
			t.Fatal(err)
		}
		if _, err := w.child.Token(t.Context(), spn); err != nil {
			t.Fatal(err)
		}
		token := w.child.Ready(spn)
		if time.Since(began) > 40*time.Millisecond {
			continue // a busy machine
		}
		if token != nil {
			t.Error("a token is ready from a cache that has just changed")
		}
		return
	}
	t.Error("this machine never makes a token within 40 ms")
}
