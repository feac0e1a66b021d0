package tickettest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

var cacheCases = []testCase{
	{name: "caches", run: testCaches},
	{name: "corrupt cache", needs: func(w World) bool { return w.Corrupt != nil }, run: testCorrupt},
	{name: "wrong realm beside", needs: func(w World) bool { return w.Beside != nil }, run: testWrongRealmBeside},
	{name: "wrong realm only", needs: func(w World) bool { return w.Elsewhere != nil }, run: testWrongRealmOnly},
}

func testCaches(t *testing.T, s suite) {
	st := s.signInRenewable(t)
	if s.w.Fetch != nil {
		s.w.Fetch(t)
	}
	s.listed(t)
	c := s.cache(t)
	if !c.Default || c.Principal != st.Principal || c.Realm != st.Realm || !c.Expires.Equal(st.Expires) || c.Err != nil {
		t.Errorf("got %+v, want the default cache and the same as %+v", c, st)
	}
	s.checkTGT(t, c, st)
	for _, v := range c.Services {
		if strings.HasPrefix(v.Server, "krbtgt/") || strings.Contains(v.Server, "X-CACHECONF") {
			t.Errorf("not a service ticket: %+v", v)
		}
	}
	if s.w.Fetch != nil {
		s.hasService(t, c)
	}
}

// hasService checks that c holds a ticket for the service.
func (s suite) hasService(t *testing.T, c ticket.Cache) {
	t.Helper()
	server := s.w.SPN + "@" + s.w.realm()
	for _, v := range c.Services {
		if v.Server == server {
			checkTicket(t, v, server)
			return
		}
	}
	t.Errorf("no ticket for %s among %+v", server, c.Services)
}

// listed checks that exactly one cache is marked as used, the one that Status
// describes, and that at most one is the default.
func (s suite) listed(t *testing.T) {
	t.Helper()
	st := s.status(t)
	list, err := s.b.Caches(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var used, defaults []string
	for _, c := range list {
		if c.Used {
			used = append(used, c.Name)
		}
		if c.Default {
			defaults = append(defaults, c.Name)
		}
		if strings.HasPrefix(c.Name, "MEMORY:") {
			t.Errorf("lists a copy of its own: %s", c.Name)
		}
	}
	if len(used) != 1 || used[0] != st.Cache {
		t.Errorf("marked as used: got %q, want %q, which Status names", used, st.Cache)
	}
	if len(defaults) > 1 {
		t.Errorf("several defaults: %q", defaults)
	}
}

// checkTGT checks the one TGT of c against st.
func (s suite) checkTGT(t *testing.T, c ticket.Cache, st ticket.Status) {
	t.Helper()
	server := "krbtgt/" + st.Realm + "@" + st.Realm
	if len(c.TGTs) != 1 {
		t.Fatalf("TGTs: got %+v, want the one of %s", c.TGTs, server)
	}
	tgt := c.TGTs[0]
	checkTicket(t, tgt, server)
	if !tgt.Expires.Equal(st.Expires) || !tgt.RenewUntil.Equal(st.RenewUntil) || !tgt.Start.Equal(st.Start) {
		t.Errorf("times: got %+v, want those of %+v", tgt, st)
	}
	want := ticket.FlagInitial
	if canRenew(s.w) {
		want |= ticket.FlagRenewable
		if left := time.Until(st.RenewUntil); !st.Renewable || left < time.Hour || left > 2*time.Hour+10*time.Second {
			t.Errorf("status: renewable %v until %v, want about 2h", st.Renewable, st.RenewUntil)
		}
	}
	if tgt.Flags&(want|ticket.FlagInvalid) != want {
		t.Errorf("flags: got %v, want at least %v", tgt.Flags.Names(), want.Names())
	}
}

// checkTicket checks what every ticket of the world has.
func checkTicket(t *testing.T, got ticket.Ticket, server string) {
	t.Helper()
	const aes256 = 18
	if got.Server != server || got.Expires.IsZero() || got.Expires.Location() != time.UTC || got.EncType != aes256 {
		t.Errorf("got %+v, want a ticket for %s, times in UTC, encryption type %d", got, server, aes256)
	}
}

func testCorrupt(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	s.w.Corrupt(t)
	defer s.w.SignOut(t)
	s.tokenFails(t, ticket.ErrCache)
	if _, err := s.b.Status(t.Context()); !errors.Is(err, ticket.ErrCache) {
		t.Errorf("status: got %v, want %v", err, ticket.ErrCache)
	}
	s.signIn(t, time.Hour) // nothing is remembered of the damage
}

func testWrongRealmBeside(t *testing.T, s suite) {
	s.signIn(t, time.Hour)
	defer s.w.SignOut(t)
	before := s.status(t)
	s.w.Beside(t)
	eventually(t, func() error {
		list, err := s.b.Caches(t.Context())
		if err == nil && len(list) < 2 {
			err = errors.New("the other realm's cache is not listed")
		}
		return err
	})
	s.listed(t)
	s.untouched(t, before)
	if c := s.cache(t); c.Principal != s.w.Principal || c.Default {
		t.Errorf("used: got %+v, want the one of %s, which is not the default", c, s.w.Principal)
	}
}

func testWrongRealmOnly(t *testing.T, s suite) {
	s.signIn(t, time.Hour) // what is remembered of it is no help
	defer s.w.SignOut(t)
	s.w.Elsewhere(t)
	eventually(t, func() error {
		token, err := s.b.Token(t.Context(), s.w.SPN)
		if token == nil && (errors.Is(err, ticket.ErrSPNUnknown) || errors.Is(err, ticket.ErrKDCUnreachable)) {
			return nil
		}
		return fmt.Errorf("got a token of %d bytes, %v; want %v or %v", len(token), err, ticket.ErrSPNUnknown, ticket.ErrKDCUnreachable)
	})
	if st := s.status(t); st.Realm == s.w.realm() {
		t.Errorf("status: got %+v, want the other realm's ticket", st)
	}
}
