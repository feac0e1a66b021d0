package tickettest_test

import (
	"slices"
	"strings"
	"testing"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/tickettest"
)

// kinit ─AS-REQ in FAST armour→ krb5kdc with otp.so ─Access-Request→ RADIUS
func TestRADIUS(t *testing.T) {
	testenv.NoLeaks(t)
	const right, long = "123456", "a one-time password of more than sixteen bytes"
	radius := tickettest.StartRADIUS(t, right, long)
	k := tickettest.StartKDC(t, tickettest.WithOTP(radius.Addr, radius.Secret))
	armour, cache := "FILE:"+k.Dir+"/armour", "FILE:"+k.Dir+"/cc"
	k.Kinit(t, "alice", armour)
	for _, tt := range []struct {
		name, password string
		accepted       bool
	}{
		{"wrong", "654321", false},
		{"right", right, true},
		{"the same again", right, false},
		{"long", long, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := k.Run(cache, tt.password+"\n", "kinit", "-T", armour, "otp")
			if (err == nil) != tt.accepted {
				t.Errorf("kinit: got %v, want success to be %v:\n%s", err, tt.accepted, out)
			}
		})
	}
	if out, err := k.Run(cache, "", "klist"); err != nil || !strings.Contains(out, "otp@WORLD.TEST") {
		t.Errorf("klist: %v\n%s", err, out)
	}
	if got, want := radius.Asked(), []string{"otp: 654321", "otp: " + right, "otp: " + right, "otp: " + long}; !slices.Equal(got, want) {
		t.Errorf("the server was asked %q, want %q", got, want)
	}
	if n := k.Attempts(t); n != 2 {
		t.Errorf("the KDC counts %d wrong ones, want 2", n)
	}
}
