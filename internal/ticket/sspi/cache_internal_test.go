package sspi

import (
	"errors"
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// tgt is a TGT of realm R for realm target, as Ex lists it.
func tgt(target, realm string, flags ticket.Flags) entry {
	return entry{
		client: "alice", clientRealm: realm, server: "krbtgt/" + target, serverRealm: realm,
		start: noon, end: noon.Add(10 * time.Hour), renew: noon.Add(7 * 24 * time.Hour), encType: 18, flags: flags,
	}
}

func TestOwn(t *testing.T) {
	const corp, other, cloud = "CORP.EXAMPLE", "OTHER.EXAMPLE", ticket.CloudRealm
	initial := tgt(corp, corp, ticket.FlagInitial)
	forwarded := tgt(corp, corp, 0)
	forwarded.end = initial.end.Add(time.Hour)
	primary := tgt(corp, corp, 0)
	primary.primary = true
	later := initial
	later.end = initial.end.Add(time.Minute)
	foreign := tgt(other, other, ticket.FlagInitial)
	foreign.clientRealm = corp
	cloudPrimary := tgt(cloud, cloud, ticket.FlagInitial)
	cloudPrimary.primary = true
	unnamed := tgt(corp, corp, 0)
	unnamed.client, unnamed.clientRealm = "", ""
	lower := tgt("corp.example", corp, ticket.FlagInitial)
	service := entry{client: "alice", clientRealm: corp, server: "HTTP/proxy.corp.example", serverRealm: corp, end: noon}

	for _, tt := range []struct {
		name  string
		list  []entry
		want  int    // index, -1 none
		realm string // of the service
	}{
		{"nothing", nil, -1, ""},
		{"services only", []entry{service}, -1, ""},
		{"one", []entry{service, initial}, 1, ""},
		{"initial before a longer forwarded one", []entry{forwarded, initial}, 1, ""},
		{"primary before initial", []entry{initial, primary}, 1, ""},
		{"later end", []entry{initial, later}, 1, ""},
		{"client's realm before another", []entry{foreign, forwarded}, 1, ""},
		{"not the way to another realm", []entry{tgt(other, corp, ticket.FlagInitial)}, -1, ""},
		{"cross-realm beside", []entry{tgt(other, corp, ticket.FlagInitial), forwarded}, 1, ""},
		{"cloud last, whatever speaks for it", []entry{cloudPrimary, unnamed}, 1, ""},
		{"cloud alone", []entry{cloudPrimary}, 0, ""},
		{"spelled differently", []entry{lower}, 0, ""},
		{"the service's realm before the primary", []entry{primary, foreign}, 1, other},
		{"the service's realm has none", []entry{primary, foreign}, 0, "THIRD.EXAMPLE"},
		{"cloud last, asked for", []entry{cloudPrimary, unnamed}, 1, cloud},
		{"no realm", []entry{{server: "krbtgt/"}}, -1, ""},
	} {
		got := own(tt.list, tt.realm)
		if tt.want < 0 && got != nil || tt.want >= 0 && got != &tt.list[tt.want] {
			t.Errorf("%s: got %+v, want number %d", tt.name, got, tt.want)
		}
	}
}

func TestViewOf(t *testing.T) {
	const corp = "CORP.EXAMPLE"
	nobody := func() account { t.Error("asked for the user"); return account{} }
	list := []entry{
		tgt(corp, corp, ticket.FlagInitial|ticket.FlagRenewable),
		tgt("OTHER.EXAMPLE", corp, ticket.FlagRenewable),
		tgt(ticket.CloudRealm, ticket.CloudRealm, ticket.FlagInitial),
		{client: "alice", clientRealm: corp, server: "HTTP/proxy.corp.example", serverRealm: corp, end: noon, encType: 17},
	}
	v := viewOf(list, "", nobody)
	c := v.cache
	if c.Name != "MSLSA:" || c.Principal != "alice@CORP.EXAMPLE" || c.Realm != corp || !c.Default || !c.Used || !c.Expires.Equal(list[0].end) {
		t.Errorf("got %+v", c)
	}
	if len(c.TGTs) != 3 || len(c.Services) != 1 || !c.TGTs[2].Cloud() || c.TGTs[1].Server != "krbtgt/OTHER.EXAMPLE@CORP.EXAMPLE" {
		t.Errorf("got %+v and %+v", c.TGTs, c.Services)
	}
	if s := c.Services[0]; s.Server != "HTTP/proxy.corp.example@CORP.EXAMPLE" || s.EncType != 17 || !s.RenewUntil.IsZero() {
		t.Errorf("service: got %+v", s)
	}
	want := ticket.Status{Principal: "alice@CORP.EXAMPLE", Realm: corp, Cache: "MSLSA:",
		Start: noon, Expires: list[0].end, RenewUntil: list[0].renew, Renewable: true}
	if v.none != nil || v.status != want {
		t.Errorf("got %+v, %v; want %+v", v.status, v.none, want)
	}

	last := list[:1:1]
	last[0].end = last[0].renew
	if v := viewOf(last, "", nobody); v.none != nil || v.status.Renewable || !v.status.RenewUntil.IsZero() {
		t.Errorf("at its last renewal: got %+v; want it not renewable", v)
	}
}

func TestCloudIsNoCorporateTicket(t *testing.T) {
	list := []entry{tgt(ticket.CloudRealm, ticket.CloudRealm, ticket.FlagInitial)}
	v := viewOf(list, "", nil)
	if !errors.Is(v.none, ticket.ErrNoTicket) || v.none != errCloudOnly || v.status != (ticket.Status{Cache: "MSLSA:"}) {
		t.Errorf("got %+v; want %v", v, errCloudOnly)
	}
	if v.cache.Used || ticket.Choose([]ticket.Cache{v.cache}, "", noon) != -1 {
		t.Errorf("used: %+v", v.cache)
	}
	if v := viewOf(nil, "", nil); v.none != ticket.ErrNoTicket || v.cache.Name != "MSLSA:" || v.cache.Used {
		t.Errorf("nothing at all: got %+v, want %v", v, ticket.ErrNoTicket)
	}
}

func TestAccountPrincipal(t *testing.T) {
	for _, tt := range []struct {
		upn, sam, want string
	}{
		{"alice@corp.example", `CORP\asmith`, "alice@CORP.EXAMPLE"},
		{"alice@mail.example", `CORP\asmith`, "asmith@CORP.EXAMPLE"},
		{"", `CORP\asmith`, "asmith@CORP.EXAMPLE"},
		{"", "asmith", "asmith@CORP.EXAMPLE"},
		{"", "", ""},
		{"", `CORP\`, ""},
	} {
		if got := (account{tt.upn, tt.sam}).principal("CORP.EXAMPLE"); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt, got, tt.want)
		}
	}
	// Where the LSA names no client, as in a reply to message 1.
	list := []entry{{server: "krbtgt/CORP.EXAMPLE", serverRealm: "CORP.EXAMPLE", end: noon}}
	c := viewOf(list, "", func() account { return account{sam: `CORP\asmith`} }).cache
	if c.Principal != "asmith@CORP.EXAMPLE" || c.Realm != "CORP.EXAMPLE" {
		t.Errorf("got %+v", c)
	}
}
