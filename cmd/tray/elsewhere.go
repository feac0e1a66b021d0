package main

import (
	"context"
	"fmt"

	"kerbpass/internal/proxy"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
)

// maxElsewhere bounds the caches that are looked at; sessions leave theirs behind.
const maxElsewhere = 16

// addElsewhere explains a ticket that is missing here but lies in a cache of
// this user that the helper does not look at: sign-in through PAM or sssd names
// a cache of its own for each session, which only the programs of that session
// are told of.
func (r *report) addElsewhere(ctx context.Context, snap *settings.Snapshot) {
	all := likelyCaches()
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	for _, cache := range all[max(0, len(all)-maxElsewhere):] {
		if cache == r.Ticket.Cache || ticket.Collection(cache) == ticket.Collection(r.Ticket.Cache) {
			continue
		}
		t := openTickets(ticketConfig{cache: cache}, ticket.Config{}).snapshot(ctx)
		if !alive(t.State) {
			continue
		}
		st := t.Status
		where := "KRB5CCNAME is not set to it here."
		if snap.KerberosCache != "" {
			where = "The setting kerberos.cache names another one."
		}
		r.Problems = append(r.Problems, problem{proxy.CauseNoTicket,
			fmt.Sprintf("A ticket of %s lies in %s, where this program does not look. %s", st.Principal, st.Cache, where),
			fmt.Sprintf("To use it, set cache = %q under [kerberos] in the settings.", cache)})
	}
}
