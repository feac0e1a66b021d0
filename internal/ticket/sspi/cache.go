package sspi

import (
	"strings"

	"kerbpass/internal/ticket"
)

// An account is what Windows calls its user.
type account struct {
	upn string // alice@corp.example; may differ from the Kerberos principal, may be ""
	sam string // CORP\alice
}

// principal guesses the Kerberos name in realm where the LSA does not say it.
func (a account) principal(realm string) string {
	if user, suffix, ok := strings.Cut(a.upn, "@"); ok && strings.EqualFold(suffix, realm) {
		return user + "@" + realm
	}
	user := a.sam
	if i := strings.LastIndexByte(user, '\\'); i >= 0 {
		user = user[i+1:]
	}
	if user == "" {
		return ""
	}
	return user + "@" + realm
}

const tgtService = "krbtgt/"

// tgtRealm returns the realm that e is a TGT for, "" if it is none.
func (e entry) tgtRealm() string {
	realm, ok := strings.CutPrefix(e.server, tgtService)
	if !ok {
		return ""
	}
	return realm
}

// home reports that e is a TGT of a realm for itself, not on the way from one
// to another.
func (e entry) home() bool {
	return e.serverRealm != "" && strings.EqualFold(e.tgtRealm(), e.serverRealm)
}

func (e entry) cloud() bool { return strings.EqualFold(e.serverRealm, ticket.CloudRealm) }

// own returns the TGT that the sign-in of Windows gave, nil if there is none.
// Where there are several, one of realm, "" where that is not known, comes
// first; that of the cloud comes last, whatever else speaks for it.
func own(list []entry, realm string) *entry {
	score := func(e *entry) (s int) {
		for _, speaks := range []bool{ // the weightiest first
			!e.cloud(),
			realm != "" && strings.EqualFold(e.serverRealm, realm),
			e.primary,
			strings.EqualFold(e.clientRealm, e.serverRealm),
			e.flags&ticket.FlagInitial != 0,
		} {
			s *= 2
			if speaks {
				s++
			}
		}
		return s
	}
	var best *entry
	for i := range list {
		e := &list[i]
		if !e.home() {
			continue
		}
		if best == nil || score(e) > score(best) || score(e) == score(best) && e.end.After(best.end) {
			best = e
		}
	}
	return best
}

// A view is what the LSA's cache holds, in this program's words.
type view struct {
	cache  ticket.Cache
	status ticket.Status
	none   error // why status describes no ticket; nil if it does
}

// viewOf describes the tickets in list as one cache. user is asked for only where
// the LSA does not say whose they are.
func viewOf(list []entry, realm string, user func() account) view {
	v := view{cache: ticket.Cache{Name: cacheName, Default: true}, status: ticket.Status{Cache: cacheName}}
	for _, e := range list {
		if e.tgtRealm() != "" {
			v.cache.TGTs = append(v.cache.TGTs, e.ticket())
		} else {
			v.cache.Services = append(v.cache.Services, e.ticket())
		}
	}
	tgt := own(list, realm)
	if tgt == nil {
		v.none = ticket.ErrNoTicket
		return v
	}
	t := tgt.ticket()
	v.cache.Principal, v.cache.Realm = tgt.principal(user)
	v.cache.Expires = t.Expires
	if tgt.cloud() {
		v.none = errCloudOnly
		return v
	}
	v.cache.Used = true
	v.status = ticket.Status{
		Principal: v.cache.Principal, Realm: v.cache.Realm, Cache: cacheName,
		Start: t.Start, Expires: t.Expires, RenewUntil: t.RenewUntil,
		Renewable: !t.RenewUntil.IsZero(),
	}
	return v
}

// principal returns whose TGT e is.
func (e entry) principal(user func() account) (name, realm string) {
	switch {
	case e.client == "":
		return user().principal(e.serverRealm), e.serverRealm
	case e.clientRealm == "":
		return e.client + "@" + e.serverRealm, e.serverRealm
	}
	return e.client + "@" + e.clientRealm, e.clientRealm
}

func (e entry) ticket() ticket.Ticket {
	t := ticket.Ticket{Server: e.server, Start: e.start, Expires: e.end, Flags: e.flags, EncType: e.encType}
	if e.serverRealm != "" {
		t.Server += "@" + e.serverRealm
	}
	// At its last renewal a ticket keeps the flag, but has nothing left to gain.
	if e.flags&ticket.FlagRenewable != 0 && e.renew.After(e.end) {
		t.RenewUntil = e.renew
	}
	return t
}
