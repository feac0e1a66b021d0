package tickettest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/tickettest"
)

func TestKDCSignsIn(t *testing.T) {
	testenv.NoLeaks(t)
	k := tickettest.StartKDC(t, tickettest.WithRealm("OTHER.TEST"), tickettest.WithSPN("HTTP/extra.world.test"))
	cache := "FILE:" + k.Dir + "/alice"
	k.Kinit(t, "alice", cache)
	for _, spn := range []string{"HTTP/localhost", "HTTP/127.0.0.1", "HTTP/proxy.world.test", "HTTP/extra.world.test"} {
		if out, err := k.Run(cache, "", "kvno", "-k", k.HTTPKeytab, spn); err != nil {
			t.Errorf("kvno %s: %v\n%s", spn, err, out)
		}
	}
	out, err := k.Run(cache, "", "klist")
	if err != nil || !strings.Contains(out, "alice@OTHER.TEST") {
		t.Errorf("klist: %v\n%s", err, out)
	}

	for principal, want := range map[string]string{"expired": "expired", "locked": "revoked"} {
		out, err := k.Run(cache, k.Password+"\n", "kinit", principal)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("kinit %s: got %v, want a failure that says %q:\n%s", principal, err, want, out)
		}
	}

	k.Stop()
	if out, err := k.Run(cache, k.Password+"\n", "kinit", "alice"); err == nil {
		t.Errorf("kinit works with the KDC stopped:\n%s", out)
	}
	k.Start(t)
	k.Kinit(t, "shorty", cache)
}

// kinit reads its answers one line each: the password, then the new one twice.
func kinit(k *tickettest.KDC, cache string, args []string, answers ...string) (string, error) {
	return k.Run(cache, strings.Join(answers, "\n")+"\n", "kinit", args...)
}

func TestKpasswd(t *testing.T) {
	testenv.NoLeaks(t)
	k := tickettest.StartKDC(t, tickettest.WithKpasswd())
	cache, user := "FILE:"+k.Dir+"/cc", []string{"expired"}
	const fresh = "Another-horse-8"
	if out, err := kinit(k, cache, user, k.Password, "short", "short"); err == nil || !strings.Contains(out, "too short") {
		t.Errorf("a short new password: got %v, want it rejected as too short:\n%s", err, out)
	}
	if out, err := kinit(k, cache, user, k.Password, fresh, fresh); err != nil {
		t.Fatalf("a new password: %v\n%s", err, out)
	}
	if out, err := kinit(k, cache, user, k.Password); err == nil {
		t.Errorf("the old password still works:\n%s", out)
	}
	if out, err := kinit(k, cache, user, fresh); err != nil {
		t.Errorf("the new password does not work: %v\n%s", err, out)
	}
	k.Stop()
	k.Start(t)
}

func TestTrust(t *testing.T) {
	testenv.NoLeaks(t)
	k := tickettest.StartKDC(t)
	other := tickettest.StartKDC(t, tickettest.WithRealm("OTHER.TEST"), tickettest.WithSPN("HTTP/proxy.other.test"))
	k.Trust(t, other)
	for _, tt := range []struct {
		home       *tickettest.KDC
		spn, realm string
	}{{k, "HTTP/proxy.other.test", other.Realm}, {other, "HTTP/proxy.world.test", k.Realm}} {
		cache := "FILE:" + tt.home.Dir + "/alice"
		tt.home.Kinit(t, "alice", cache)
		out, err := tt.home.Run(cache, "", "kvno", "-S", "HTTP", strings.TrimPrefix(tt.spn, "HTTP/"))
		if err != nil || !strings.Contains(out, tt.spn+"@"+tt.realm) {
			t.Errorf("kvno %s from %s: %v\n%s", tt.spn, tt.home.Realm, err, out)
		}
	}
}

func TestAttemptsAndRequests(t *testing.T) {
	testenv.NoLeaks(t)
	for _, tt := range []struct {
		name string
		opts []tickettest.KDCOption
		want int
	}{
		{"one way to the KDC", nil, 1},
		{"the primary is elsewhere", []tickettest.KDCOption{tickettest.WithPrimary("127.0.0.2")}, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := tickettest.StartKDC(t, tt.opts...)
			cache := "FILE:" + k.Dir + "/cc"
			k.Kinit(t, "alice", cache)
			if n := k.Attempts(t); n != 0 {
				t.Errorf("after a right password: got %d, want none", n)
			}
			before := k.Requests(t)
			if before == 0 {
				t.Error("the KDC does not count its requests")
			}
			if out, err := kinit(k, cache, []string{"alice"}, "wrong"); err == nil {
				t.Errorf("a wrong password is accepted:\n%s", out)
			}
			if n := k.Attempts(t); n != tt.want {
				t.Errorf("after a wrong password: got %d attempts, want %d", n, tt.want)
			}
			if k.Requests(t) <= before {
				t.Error("the count of requests stands still")
			}
		})
	}
}

// Lives below a minute are honoured, and so is the end of renewing.
func TestBriefTickets(t *testing.T) {
	testenv.NoLeaks(t)
	k := tickettest.StartKDC(t)
	cache := "FILE:" + k.Dir + "/cc"
	k.Kinit(t, "brief", cache)
	out, err := k.Run(cache, "", "klist", "-f")
	if err != nil || !strings.Contains(out, "renew until") {
		t.Errorf("not renewable: %v\n%s", err, out)
	}
	if out, err := k.Run(cache, "", "kinit", "-R"); err != nil {
		t.Errorf("kinit -R: %v\n%s", err, out)
	}
	gone := func() bool { _, err := k.Run(cache, "", "klist", "-s"); return err != nil }
	for end := time.Now().Add(30 * time.Second); !gone(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the ticket outlives its five seconds by far")
		}
	}
}

func TestAcceptorRefusesRubbish(t *testing.T) {
	testenv.NoLeaks(t)
	k := tickettest.StartKDC(t)
	accept := tickettest.Acceptor(t, k.HTTPKeytab)
	if user, err := accept([]byte("not a token")); err == nil {
		t.Errorf("rubbish accepted as %q", user)
	}
	if _, err := os.Stat(k.HTTPKeytab); err != nil {
		t.Error(err)
	}
}
