package tickettest_test

import (
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/tickettest"
)

const (
	alice = "alice@WORLD.TEST"
	spn   = "HTTP/proxy.world.test"
)

// fakeWorld is a realm in memory with everything the suite asks for.
func fakeWorld() (*tickettest.FakeRealm, tickettest.World) {
	const password, stale = "Correct-horse-7", "expired@WORLD.TEST"
	r := tickettest.NewFakeRealm("WORLD.TEST")
	r.AddService(spn)
	r.AddAccount(alice, tickettest.FakeAccount{Password: password})
	r.AddAccount("locked@WORLD.TEST", tickettest.FakeAccount{Password: password, Locked: true})
	other := func(testing.TB) { r.Put("alice@OTHER.TEST", 2*time.Hour, 0) }
	return r, tickettest.World{
		Principal: alice, SPN: spn, Unknown: "HTTP/nobody.world.test",
		Accept:    r.Accept,
		SignIn:    func(_ testing.TB, life time.Duration) { r.Put(alice, life, 0) },
		SignOut:   func(testing.TB) { r.Clear() },
		Corrupt:   func(testing.TB) { r.Damage() },
		KDCDown:   func(testing.TB) { r.Down() },
		KDCUp:     func(testing.TB) { r.Up() },
		KDCHang:   func(testing.TB) { r.Hang() },
		Renewable: func(_ testing.TB, life, renewable time.Duration) { r.Put(alice, life, renewable) },
		Fetch: func(t testing.TB) {
			if _, err := r.Backend().Token(t.Context(), spn); err != nil {
				t.Fatal(err)
			}
		},
		Beside:    other,
		Elsewhere: func(t testing.TB) { r.Clear(); other(t) },
		Switch:    func(testing.TB) { r.Switch(alice) },
		Password:  password, Short: "short",
		Nobody: "nobody@WORLD.TEST", Locked: "locked@WORLD.TEST",
		Stale: func(testing.TB) string {
			r.AddAccount(stale, tickettest.FakeAccount{Password: password, Expired: true})
			return stale
		},
		Attempts: func(testing.TB) int { return r.Attempts() },
		Requests: func(testing.TB) int { return r.Requests() },
	}
}

func TestFakePassesTheSuite(t *testing.T) {
	testenv.NoLeaks(t)
	r, w := fakeWorld()
	tickettest.TestBackend(t, func(testing.TB) ticket.Backend { return r.Backend() }, w)
}

func TestLacks(t *testing.T) {
	for name, tt := range map[string]struct {
		lacks map[string]string
		want  string
	}{
		"a case":       {map[string]string{"renew": "the library has no call for it"}, ""},
		"no such case": {map[string]string{"renewal": "the library has no call for it"}, "no case renewal"},
		"no reason":    {map[string]string{"renew": " "}, "no reason given for renew"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tickettest.CheckLacks(tt.lacks)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
