//go:build linux && !nogss

package gss_test

import (
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/tickettest"
)

// Of two principals of one realm the default one is used, and Status never
// names another one than the next token carries.
func TestStatusAndTokenFollowKswitch(t *testing.T) {
	testenv.NoLeaks(t)
	for _, p := range []place{{"mit", "DIR", true}, {"mit", "KEYRING", true}, {"mit", "KCM", false}, {"heimdal", "DIR", true}} {
		t.Run(p.String(), func(t *testing.T) {
			w := begin(t, p)
			accept := tickettest.Acceptor(t, w.HTTPKeytab)
			for _, principal := range []string{"alice", "shorty"} {
				w.Kinit(t, principal, w.cache)
			}
			for _, principal := range []string{"alice", "shorty", "alice", "shorty"} {
				want := principal + "@" + w.Realm
				if out, err := w.Run(w.cache, "", "kswitch", "-p", want); err != nil {
					t.Fatal(err, out)
				}
				st, err := w.child.Status(t.Context())
				if err != nil || st.Principal != want {
					t.Fatalf("status: got %+v, %v; want %s", st, err, want)
				}
				token, err := w.child.Token(t.Context(), spn)
				if err != nil {
					t.Fatal(err)
				}
				if who, err := accept(token); err != nil || who != want {
					t.Errorf("token: got %s, %v; want %s", who, err, want)
				}
			}
		})
	}
}

// A proxy of a trusted realm takes a token of ours, whose ticket two KDCs had
// to be asked for.
func TestTokenForATrustedRealm(t *testing.T) {
	testenv.NoLeaks(t)
	const foreign = "HTTP/proxy.other.test"
	for _, p := range []place{{"mit", "FILE", true}, {"mit", "KCM", false}, {"heimdal", "FILE", true}} {
		t.Run(p.String(), func(t *testing.T) {
			w := begin(t, p)
			other := tickettest.StartKDC(t, tickettest.WithRealm("OTHER.TEST"), tickettest.WithSPN(foreign))
			w.Trust(t, other)
			accept := tickettest.Acceptor(t, other.HTTPKeytab)
			w.signIn(t, time.Hour)
			for _, name := range []string{foreign, foreign + "@OTHER.TEST"} {
				token, err := w.child.Token(t.Context(), name)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if who, err := accept(token); err != nil || who != "alice@"+w.Realm {
					t.Errorf("%s: got %s, %v; want alice@%s", name, who, err, w.Realm)
				}
			}
			st, err := w.child.Status(t.Context())
			if err != nil || st.Realm != w.Realm {
				t.Errorf("status: got %+v, %v; want a ticket of %s", st, err, w.Realm)
			}
		})
	}
}

// A ticket that has reached the end of its renewing is not renewable, whatever
// its flags say: MIT's KDC leaves the flag.
func TestLastLifeIsNotRenewable(t *testing.T) {
	testenv.NoLeaks(t)
	for _, library := range []string{"mit", "heimdal"} {
		t.Run(library, func(t *testing.T) {
			w := begin(t, place{library, "FILE", true})
			w.Kinit(t, "alice", w.cache, "-l", "10m", "-r", "10m")
			list, err := w.child.Caches(t.Context())
			if err != nil || len(list) == 0 || len(list[0].TGTs) != 1 {
				t.Fatalf("got %+v, %v", list, err)
			}
			tgt := list[0].TGTs[0]
			if tgt.Flags&ticket.FlagRenewable == 0 {
				t.Fatal("the KDC has taken the flag away, so this shows nothing")
			}
			if !tgt.RenewUntil.IsZero() {
				t.Errorf("renewable until %v, ends %v", tgt.RenewUntil, tgt.Expires)
			}
			st, err := w.child.Status(t.Context())
			if err != nil || st.Renewable || !st.RenewUntil.IsZero() {
				t.Errorf("status: got %+v, %v; want it not renewable", st, err)
			}
		})
	}
}
