package ticket_test

import (
	"reflect"
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

func TestChoose(t *testing.T) {
	now := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	cache := func(realm string, left time.Duration, dflt bool) ticket.Cache {
		c := ticket.Cache{Realm: realm, Default: dflt}
		if left != 0 {
			c.Expires = now.Add(left)
		}
		return c
	}
	const h = time.Hour
	for _, tt := range []struct {
		name   string
		realm  string
		caches []ticket.Cache
		want   int
	}{
		{"nothing", "A", nil, -1},
		{"no TGT", "A", []ticket.Cache{cache("A", 0, true)}, -1},
		{"only one, another realm", "A", []ticket.Cache{cache("B", h, true)}, 0},
		{"the upstream's realm, not the first", "B", []ticket.Cache{cache("A", h, true), cache("B", h, false)}, 1},
		{"the upstream's realm though expired", "B", []ticket.Cache{cache("A", h, true), cache("B", -h, false)}, 1},
		{"realms are case-sensitive", "b", []ticket.Cache{cache("A", h, true), cache("B", h, false)}, 0},
		{"valid before default", "A", []ticket.Cache{cache("A", -h, true), cache("A", h, false)}, 1},
		{"default before longer", "A", []ticket.Cache{cache("A", 2*h, false), cache("A", h, true)}, 1},
		{"longer", "A", []ticket.Cache{cache("A", h, false), cache("A", 2*h, false)}, 1},
		{"realm not known", "", []ticket.Cache{cache("A", h, false), cache("B", h, true)}, 1},
		{"realm not known is no match", "", []ticket.Cache{cache("", -h, false), cache("B", h, false)}, 1},
		{"the cloud's alone", "", []ticket.Cache{cache("KERBEROS.MICROSOFTONLINE.COM", h, true)}, -1},
		{"the cloud's, in small letters", "kerberos.microsoftonline.com", []ticket.Cache{cache("kerberos.microsoftonline.com", h, true), cache("A", -h, false)}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ticket.Choose(tt.caches, tt.realm, now); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestFlagsAndEncTypes(t *testing.T) {
	if got, want := ticket.Flags(0x40e10000).Names(), []string{"forwardable", "renewable", "initial", "pre-authent", "enc-pa-rep"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want) // what MIT's klist -f prints as FRIA for the same number
	}
	if got := ticket.Flags(0).Names(); got == nil || len(got) != 0 {
		t.Errorf("no flags: got %#v, want an empty list", got)
	}
	if f := ticket.FlagRenewable | ticket.FlagInitial | ticket.FlagInvalid | ticket.FlagForwardable; f != 0x41c00000 {
		t.Errorf("got %#x", uint32(f))
	}
	for e, want := range map[ticket.EncType]string{0: "", 18: "aes256-cts-hmac-sha1-96", 23: "rc4-hmac", 999: "etype 999", -133: "etype -133"} {
		if got := e.String(); got != want {
			t.Errorf("%d: got %q, want %q", int(e), got, want)
		}
	}
}

func TestCloud(t *testing.T) {
	for server, want := range map[string]bool{
		"krbtgt/KERBEROS.MICROSOFTONLINE.COM@KERBEROS.MICROSOFTONLINE.COM": true,
		"krbtgt/CORP.EXAMPLE@CORP.EXAMPLE":                                 false,
		"krbtgt/KERBEROS.MICROSOFTONLINE.COM@CORP.EXAMPLE":                 false, // a referral
	} {
		if got := (ticket.Ticket{Server: server}).Cloud(); got != want {
			t.Errorf("%s: got %v", server, got)
		}
	}
}

func TestCollection(t *testing.T) {
	for cache, want := range map[string]string{
		"FILE:/tmp/krb5cc_1000": "FILE:/tmp/krb5cc_1000", "": "",
		"DIR:/tmp/d": "DIR:/tmp/d", "DIR::/tmp/d/tktA": "DIR:/tmp/d", "DIR::tkt": "DIR:",
		"KCM:": "KCM:", "KCM:1000": "KCM:", "KCM:1000:5": "KCM:", "API:ABC": "API:",
		"KEYRING:persistent:1000": "KEYRING:persistent:1000", "KEYRING:persistent:1000:krb_x": "KEYRING:persistent:1000",
		"KEYRING:session:a:b": "KEYRING:session:a", "KEYRING:legacy": "KEYRING:legacy", "MSLSA:": "MSLSA:",
	} {
		if got := ticket.Collection(cache); got != want {
			t.Errorf("%s: got %s, want %s", cache, got, want)
		}
	}
}
