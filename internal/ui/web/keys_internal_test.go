package web

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestTokenOpensOneSessionInTime(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		name  string
		after time.Duration
		uses  int
		good  bool
	}{
		{"at once", 0, 1, true},
		{"in time", tokenLife - 1, 1, true},
		{"too late", tokenLife, 1, false},
		{"second use", 0, 2, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var k keys
			token := k.issue(now)
			var ok bool
			for range c.uses {
				_, ok = k.redeem(token, now.Add(c.after))
			}
			if ok != c.good {
				t.Errorf("redeemed: got %v, want %v", ok, c.good)
			}
		})
	}
}

func TestKeysAreBounded(t *testing.T) {
	var k keys
	now := time.Now()
	var issued []string
	for range maxTokens + 1 {
		issued = append(issued, k.issue(now))
	}
	if _, ok := k.redeem(issued[0], now); ok {
		t.Error("the oldest of too many tokens still opens a session")
	}
	if _, ok := k.redeem(issued[1], now); !ok {
		t.Error("a token within the bound opens no session")
	}
	for range 3 * maxSessions {
		if _, ok := k.redeem(k.issue(now), now); !ok {
			t.Fatal("a fresh token opens no session")
		}
	}
	if len(k.sessions) != maxSessions {
		t.Errorf("sessions: got %d, want %d", len(k.sessions), maxSessions)
	}
}

func TestCookieMustBeASessions(t *testing.T) {
	var k keys
	a, _ := k.redeem(k.issue(time.Now()), time.Now())
	b, _ := k.redeem(k.issue(time.Now()), time.Now())
	for _, c := range []struct {
		name        string
		cookie, val string
		good        bool
	}{
		{"own", a.name, a.value, true},
		{"of another session", a.name, b.value, false},
		{"empty", a.name, "", false},
		{"shortened", a.name, a.value[:len(a.value)-1], false},
		{"under a guessed name", "kerbpass", a.value, false},
	} {
		r, _ := http.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: c.cookie, Value: c.val})
		if got := k.open(r); got != c.good {
			t.Errorf("%s: got %v, want %v", c.name, got, c.good)
		}
	}
}

func TestUnusedMeansNoPageForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		expired := func(u *usage) bool {
			synctest.Wait()
			select {
			case <-u.unused():
				return true
			default:
				return false
			}
		}
		u := newUsage(unusedFor)
		time.Sleep(unusedFor - time.Second)
		u.expect()
		time.Sleep(unusedFor - time.Second)
		u.begin()
		u.begin()
		u.expect() // a second window must not start the wait under an open page
		time.Sleep(time.Hour)
		u.end()
		time.Sleep(time.Hour)
		if expired(u) {
			t.Fatal("unused with a page open")
		}
		u.end()
		time.Sleep(unusedFor - time.Second)
		if expired(u) {
			t.Fatal("unused before the time is over")
		}
		time.Sleep(time.Second)
		if !expired(u) {
			t.Fatal("not unused after a minute without a page")
		}
	})
}
