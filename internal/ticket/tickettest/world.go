package tickettest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// World is the world of alice's tickets in the cache named cacheName, kept by
// the client programs of MIT. Other is the KDC of another realm without trust,
// nil for none; where cacheName is a collection its ticket can lie beside
// alice's, and it takes over k's [libdefaults] to find the same KCM. What takes
// kadmind is left out unless k was started [WithKpasswd].
//
// A keyring's Expired is left to the caller.
func (k *KDC) World(t testing.TB, cacheName string, other *KDC) World {
	t.Helper()
	// krb5.conf asks for a renewable ticket, and kinit has no option against it.
	plain := filepath.Join(k.Dir, "krb5-not-renewable.conf")
	conf, err := os.ReadFile(k.Krb5Conf)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, plain, strings.Replace(string(conf), "renew_lifetime", "# renew_lifetime", 1), 0o644)
	w := World{
		Principal: "alice@" + k.Realm,
		SPN:       "HTTP/proxy.world.test", Unknown: "HTTP/nobody.world.test",
		Password: k.Password, Short: "short",
		Nobody: "nobody@" + k.Realm, Locked: "locked@" + k.Realm,
		Attempts: k.Attempts, Requests: k.Requests,

		Accept: Acceptor(t, k.HTTPKeytab),
		SignIn: func(t testing.TB, life time.Duration) {
			t.Helper()
			k.Kinit(t, "alice", cacheName, "-l", seconds(life))
		},
		SignOut: func(t testing.TB) { k.destroyAll(cacheName) },
		Renewable: func(t testing.TB, life, renewable time.Duration) {
			t.Helper()
			if renewable != 0 {
				k.Kinit(t, "alice", cacheName, "-l", seconds(life), "-r", seconds(renewable))
				return
			}
			out, err := k.RunEnv([]string{"KRB5_CONFIG=" + plain}, cacheName, k.Password+"\n", "kinit", "-l", seconds(life), "alice")
			if err != nil {
				t.Fatalf("kinit: %v\n%s", err, out)
			}
		},
		Fetch: func(t testing.TB) {
			t.Helper()
			if out, err := k.Run(cacheName, "", "kvno", "HTTP/proxy.world.test"); err != nil {
				t.Fatalf("kvno: %v\n%s", err, out)
			}
		},
		KDCDown: func(testing.TB) { k.Stop() },
		KDCHang: k.Pause,
		KDCUp: func(t testing.TB) {
			t.Helper()
			if k.kdc == nil {
				k.Start(t)
			}
			k.Resume(t)
		},
	}
	if k.config.kpasswd {
		w.Stale = func(t testing.TB) string {
			t.Helper()
			k.ExpirePassword(t)
			return "expired@" + k.Realm
		}
	}
	if file, ok := strings.CutPrefix(cacheName, "FILE:"); ok {
		w.Corrupt = func(t testing.TB) {
			t.Helper()
			writeFile(t, file, "\x05\x04 not a ticket cache", 0o600)
		}
	}
	if other == nil {
		return w
	}
	other.config.libdefaults = k.config.libdefaults
	other.writeKrb5Conf(t, other.Krb5Conf, other.Addr())
	w.Elsewhere = func(t testing.TB) {
		t.Helper()
		k.destroyAll(cacheName)
		other.Kinit(t, "alice", cacheName)
	}
	if collection(cacheName) {
		w.Beside = func(t testing.TB) {
			t.Helper()
			other.Kinit(t, "alice", cacheName) // which also makes it the default
		}
		w.Switch = func(t testing.TB) {
			t.Helper()
			if out, err := k.Run(cacheName, "", "kswitch", "-p", w.Principal); err != nil {
				t.Fatalf("kswitch: %v\n%s", err, out)
			}
		}
	}
	return w
}

// collection reports whether kinit keeps one cache per principal there.
func collection(cacheName string) bool {
	kind, rest, _ := strings.Cut(cacheName, ":")
	switch kind {
	case "DIR":
		return !strings.HasPrefix(rest, ":")
	case "KCM":
		return rest == ""
	case "KEYRING":
		return strings.Count(rest, ":") == 1
	}
	return false
}

// destroyAll takes away every ticket of a cache or a collection. That there was
// none is no error.
func (k *KDC) destroyAll(cacheName string) {
	k.Run(cacheName, "", "kdestroy", "-q", "-A")
	if file, ok := strings.CutPrefix(cacheName, "FILE:"); ok {
		os.Remove(file) // kdestroy leaves a damaged one
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }
