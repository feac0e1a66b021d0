package tickettest_test

import (
	"os"
	"strings"
	"testing"

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
