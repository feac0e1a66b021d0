package tickettest

import (
	"errors"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

var renewCases = []testCase{
	{name: "renew", needs: canRenew, run: testRenew},
	{name: "renew under load", needs: canRenew, run: testRenewUnderLoad},
	{name: "renew with nothing", run: testRenewNothing},
	{name: "renew of expired", needs: func(w World) bool { return canRenew(w) && w.Requests != nil }, run: testRenewExpired},
	{name: "not renewable", needs: canRenew, run: testNotRenewable},
	{name: "renew, KDC down", needs: func(w World) bool { return canRenew(w) && canGoDown(w) }, run: testRenewKDCDown},
}

func canRenew(w World) bool { return w.Renewable != nil }

func testRenew(t *testing.T, s suite) {
	s.changesStamp(t, "a new ticket", func() { s.w.Renewable(t, time.Hour, 4*time.Hour) })
	var before ticket.Status
	eventually(t, func() (err error) { before, err = s.b.Status(t.Context()); return err })
	time.Sleep(time.Until(before.Start.Add(1100 * time.Millisecond))) // ends are whole seconds
	s.changesStamp(t, "a renewal", func() {
		if err := s.b.Renew(t.Context(), s.w.SPN, s.w.Unknown); err != nil {
			t.Fatal(err)
		}
	})
	after := s.status(t)
	if !after.Expires.After(before.Expires) {
		t.Errorf("the end stays: %v, then %v", before.Expires, after.Expires)
	}
	if after.Cache != before.Cache || after.Principal != before.Principal || !after.RenewUntil.Equal(before.RenewUntil) {
		t.Errorf("got %+v, want the same cache, principal and last end as %+v", after, before)
	}
	s.listed(t)
	c := s.cache(t)
	s.hasService(t, c) // fetched along
	if len(c.TGTs) != 1 {
		t.Errorf("TGTs: got %+v, want one", c.TGTs)
	}
	s.accepted(t)
}

func testRenewUnderLoad(t *testing.T, s suite) {
	s.renewable(t, time.Hour, 4*time.Hour)
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 8 {
		load.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := s.b.Token(t.Context(), s.w.SPN); err != nil {
					t.Errorf("token: %v", err)
					return
				}
			}
		})
	}
	for i := range 20 {
		if err := s.b.Renew(t.Context(), s.w.SPN); err != nil {
			t.Errorf("renewal %d: %v", i+1, err)
			break
		}
	}
	close(stop)
	load.Wait()
	s.accepted(t)
}

func testRenewNothing(t *testing.T, s suite) {
	s.w.SignOut(t)
	s.hasNoTicket(t)
	if err := s.b.Renew(t.Context(), s.w.SPN); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("got %v, want %v", err, ticket.ErrNoTicket)
	}
}

func testRenewExpired(t *testing.T, s suite) {
	outlive(s.renewable(t, 2*time.Second, time.Hour))
	want := ticket.ErrExpired
	if s.w.Expired != nil {
		want = s.w.Expired
	}
	before := s.w.Requests(t)
	if err := s.b.Renew(t.Context(), s.w.SPN); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if n := s.w.Requests(t) - before; n != 0 {
		t.Errorf("the KDC was asked %d times, want never", n)
	}
	s.tokenFails(t, want)
}

func testNotRenewable(t *testing.T, s suite) {
	before := s.renewable(t, time.Hour, 0)
	if before.Renewable || !before.RenewUntil.IsZero() {
		t.Errorf("status: got %+v, want it not renewable", before)
	}
	if err := s.b.Renew(t.Context(), s.w.SPN); !errors.Is(err, ticket.ErrNotRenewable) {
		t.Errorf("got %v, want %v", err, ticket.ErrNotRenewable)
	}
	s.untouched(t, before)
}

func testRenewKDCDown(t *testing.T, s suite) {
	before := s.renewable(t, time.Hour, 4*time.Hour)
	s.w.KDCDown(t)
	defer s.w.KDCUp(t)
	isKDCError(t, s.b.Renew(t.Context(), s.w.SPN), ticket.ErrKDCUnreachable, s.w.realm())
	s.untouched(t, before)
}

// isKDCError checks an error that came of asking the KDC of realm.
func isKDCError(t *testing.T, err, want error, realm string) {
	t.Helper()
	e, ok := errors.AsType[*ticket.KDCError](err)
	if !errors.Is(err, want) || !ok || e.Realm != realm {
		t.Errorf("got %v (%T), want a KDCError of %s: %v", err, err, realm, want)
	}
}
