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
			token := k.issue(now, tokenLife)
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
		issued = append(issued, k.issue(now, tokenLife))
	}
	if _, ok := k.redeem(issued[0], now); ok {
		t.Error("the oldest of too many tokens still opens a session")
	}
	if _, ok := k.redeem(issued[1], now); !ok {
		t.Error("a token within the bound opens no session")
	}
	for range 3 * maxSessions {
		if _, ok := k.redeem(k.issue(now, tokenLife), now); !ok {
			t.Fatal("a fresh token opens no session")
		}
	}
	if len(k.sessions) != maxSessions {
		t.Errorf("sessions: got %d, want %d", len(k.sessions), maxSessions)
	}
}

func TestCookieMustBeASessions(t *testing.T) {
	var k keys
	a, _ := k.redeem(k.issue(time.Now(), tokenLife), time.Now())
	b, _ := k.redeem(k.issue(time.Now(), tokenLife), time.Now())
	for _, c := range []struct {
		name        string
		cookie, val string
		good        bool
	}{
		{"own", a.Name, a.Value, true},
		{"of another session", a.Name, b.Value, false},
		{"empty", a.Name, "", false},
		{"shortened", a.Name, a.Value[:len(a.Value)-1], false},
		{"under a guessed name", "kerbpass", a.Value, false},
	} {
		r, _ := http.NewRequest(http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: c.cookie, Value: c.val})
		if _, got := k.open(r); got != c.good {
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
		u.expect(time.Now().Add(tokenLife))
		time.Sleep(unusedFor - time.Second)
		u.begin()
		u.begin()
		u.expect(time.Now()) // a second window must not start the wait under an open page
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

		// A link that somebody has to carry keeps the port open, until it is used.
		u = newUsage(unusedFor)
		u.expect(time.Now().Add(10 * time.Minute))
		time.Sleep(10*time.Minute - time.Second)
		if expired(u) {
			t.Fatal("unused while a link is good")
		}
		u.expect(time.Time{})
		time.Sleep(unusedFor)
		if !expired(u) {
			t.Fatal("not unused a minute after the link was used")
		}
	})
}
