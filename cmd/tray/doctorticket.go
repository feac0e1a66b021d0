package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"kerbpass/internal/doctor"
	"kerbpass/internal/proxy"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
)

// The checks of Kerberos: from the library to a token.

func (x *examination) kerberosOn() bool { return x.app.now.Load().kerberos && x.paused == nil }

// withKerberos leaves a check out while Kerberos is off: nothing depends on it
// then, and there may be no library to ask.
func (x *examination) withKerberos(check func(context.Context) doctor.Finding) func(context.Context) doctor.Finding {
	return func(ctx context.Context) doctor.Finding {
		if x.known().byPassword() {
			return needless("The upstream gets a password, no ticket.")
		}
		if !x.kerberosOn() {
			return needless("Kerberos is off.")
		}
		return check(ctx)
	}
}

func (x *examination) checkKerberos(context.Context) doctor.Finding {
	cur := x.app.tickets.cur.Load()
	if x.known().byPassword() {
		return needless("The upstream gets a password, no ticket.")
	}
	if !x.kerberosOn() {
		state, action := "Kerberos is switched off", "Switch it on: kerbpass kerberos on."
		if d := x.described[theSwitch]; d.Locked && d.Value == false {
			state, action = "Kerberos is switched off by "+d.Name, lockedHint
			if d.Source == string(settings.SourcePolicy) {
				state = "Kerberos is switched off by your organisation (" + d.Name + ")"
			}
		}
		if x.paused != nil {
			state, action = "Kerberos is paused until "+local(x.paused), "End the pause: kerbpass resume."
		}
		if x.known().asks {
			return broken(proxy.CauseKerberosOff, action, "%s, and the upstream wants it.", state)
		}
		return noted("", action, "%s.", state)
	}
	if cur.Manager == nil {
		return broken(proxy.CauseKerberosUnavailable, "", "There is no Kerberos that can be used (%v).", cur.err)
	}
	what := map[string]string{
		"gss-mit": "the system's MIT Kerberos library", "gss-heimdal": "the system's Heimdal library", "gss-apple": "macOS's own Kerberos",
		"sspi": "Windows' own Kerberos", "krb5": "the built-in Kerberos, because the system has no library; it knows caches in files only",
	}[cur.backend.Name()]
	return good("%s: %s.", cur.backend.Name(), what)
}

func (x *examination) checkCaches(ctx context.Context) doctor.Finding {
	caches := cachesWithin(ctx, x.app.tickets.cur.Load().backend)
	x.learn(func(f *facts) { f.caches = caches })
	var all []string
	unreadable := false
	for _, c := range caches {
		if c.Err != nil {
			unreadable = true
			all = append(all, fmt.Sprintf("%s cannot be read (%v)", c.Name, c.Err))
			continue
		}
		text := c.Principal + " in " + c.Name
		if c.Expires.IsZero() {
			text += ", without a ticket to get others by"
		} else {
			text += " " + until(utc(c.Expires), time.Now())
		}
		if c.Used {
			text += " (in use)"
		}
		all = append(all, text)
	}
	seen := strings.Join(all, "; ") + "."
	if len(all) == 0 {
		seen = "None holds a ticket."
	}
	if x.elsewhere != "" {
		seen += " The running helper uses " + x.elsewhere + ", which is not the one of this terminal."
	}
	if unreadable {
		return noted(proxy.CauseInternal, "Remove that cache (kdestroy), then sign in again: kerbpass login.", "%s", seen)
	}
	return good("%s", seen)
}

func (x *examination) checkTicket(ctx context.Context) doctor.Finding {
	t := x.app.tickets.cur.Load().snapshot(ctx)
	x.learn(func(f *facts) { f.status = t })
	st := t.Status
	switch t.State {
	case ticket.StateNone:
		seen := "There is none" + in(st.Cache) + "."
		if slices.ContainsFunc(x.known().caches, func(c ticket.Cache) bool { return slices.ContainsFunc(c.TGTs, ticket.Ticket.Cloud) }) {
			seen += " The cache holds one of Microsoft's cloud (" + ticket.CloudRealm + "), which opens no company proxy."
		}
		r := report{Ticket: ticketReport{Cache: st.Cache}}
		r.addElsewhere(ctx, x.app.cfg.store.Snapshot())
		if len(r.Problems) > 0 {
			return broken(proxy.CauseNoTicket, r.Problems[0].Hint, "%s %s", seen, r.Problems[0].Text)
		}
		return broken(proxy.CauseNoTicket, "", "%s", seen)
	case ticket.StateExpired:
		return broken(proxy.CauseTicketExpired, "", "The one of %s ended %s%s.", st.Principal, until(utc(st.Expires), time.Now()), in(st.Cache))
	case ticket.StateUnavailable:
		return broken(proxy.CauseKerberosUnavailable, "Check KRB5CCNAME and the setting kerberos.cache, or get a new ticket: kerbpass login.", "It cannot be read (%v).", t.Err)
	}
	seen := fmt.Sprintf("%s %s%s.", st.Principal, until(utc(st.Expires), time.Now()), in(st.Cache))
	if t.State == ticket.StateExpiring {
		return noted(proxy.CauseTicketExpired, "Renew it: kerbpass renew, or sign in again: kerbpass login.", "It ends soon: %s", seen)
	}
	return good("%s", seen)
}

// tokenTry is what came of asking for a token, once in a run.
type tokenTry struct {
	spn    string
	size   int
	kind   tokenKind
	err    error
	took   time.Duration
	cached string // until when the ticket for the upstream had been there before
}

type tokenKind string

const (
	kindSPNEGO tokenKind = "SPNEGO with Kerberos"
	kindKrb5   tokenKind = "Kerberos without SPNEGO"
	kindNTLM   tokenKind = "NTLM"
	kindOther  tokenKind = "of an unknown kind"
)

// kindOfToken looks at the first bytes: the object identifiers of SPNEGO (RFC
// 4178) and Kerberos (RFC 4121), and NTLM's signature.
func kindOfToken(tok []byte) tokenKind {
	head := tok[:min(len(tok), 256)]
	switch {
	case bytes.Contains(head, []byte("NTLMSSP\x00")):
		return kindNTLM
	case bytes.Contains(head[:min(len(head), 32)], []byte{0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02}):
		return kindSPNEGO
	case bytes.Contains(head[:min(len(head), 32)], []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}):
		return kindKrb5
	}
	return kindOther
}

// attempt asks for one token and throws it away.
func (x *examination) attempt(ctx context.Context) tokenTry {
	x.trying.Do(func() {
		t := &x.token
		cur := x.app.tickets.cur.Load()
		if cur.Manager == nil {
			t.err = &proxy.Error{Cause: proxy.CauseKerberosUnavailable, Err: cur.err}
			return
		}
		p := x.app.now.Load()
		if t.spn, t.err = servicePrincipal(ctx, x.known().upstream, p.spn, p.canonical); t.err != nil {
			return
		}
		for _, c := range x.known().caches {
			for _, s := range c.Services {
				if c.Used && strings.HasPrefix(s.Server, strings.Split(t.spn, "@")[0]+"@") && s.Expires.After(time.Now()) {
					t.cached = until(utc(s.Expires), time.Now())
				}
			}
		}
		ctx, cancel := context.WithTimeout(ctx, tokenLimit)
		defer cancel()
		began := time.Now()
		tok, err := cur.Token(ctx, t.spn)
		t.took, t.err, t.size = time.Since(began), err, len(tok)
		if err == nil {
			t.kind = kindOfToken(tok)
		}
		clear(tok)
	})
	return x.token
}

func (x *examination) checkRealm(ctx context.Context) doctor.Finding {
	try := x.attempt(ctx)
	own := x.known().status.Status.Realm
	if _, realm, ok := strings.Cut(try.spn, "@"); ok {
		return good("%s, as the setting kerberos.spn says.", realm)
	}
	if try.err == nil {
		for _, c := range cachesWithin(ctx, x.app.tickets.cur.Load().backend) {
			for _, s := range c.Services {
				if realm, ok := strings.CutPrefix(s.Server, try.spn+"@"); c.Used && ok {
					if realm != own {
						return good("%s, by way of the account's own, %s.", realm, own)
					}
					return good("%s, which is the account's own.", realm)
				}
			}
		}
	}
	return good("Nothing says another than the account's own, %s.", own)
}

// causeOfTry is the cause of a token that could not be made.
func causeOfTry(err error, spn string) proxy.Cause {
	var e *proxy.Error
	if errors.As(err, &e) || errors.As(tokenError(err, spn), &e) {
		return e.Cause
	}
	return proxy.CauseTimeout
}

func (x *examination) checkSPN(ctx context.Context) doctor.Finding {
	try := x.attempt(ctx)
	origin := "made of the upstream's name"
	if x.app.now.Load().spn != "" {
		origin = "from the setting kerberos.spn"
	}
	switch {
	case try.err == nil:
		return good("%s, %s.", try.spn, origin)
	case try.spn == "":
		return brokenBy(try.err, "")
	case causeOfTry(try.err, try.spn) != proxy.CauseSPNUnknown:
		return good("%s, %s; whether the KDC knows it could not be found out.", try.spn, origin)
	}
	seen := fmt.Sprintf("The KDC does not know %s, %s.", try.spn, origin)
	if alias := x.known().alias; alias != "" && "HTTP/"+alias != try.spn {
		ctx, cancel := context.WithTimeout(ctx, tokenLimit)
		defer cancel()
		tok, err := x.app.tickets.cur.Load().Token(ctx, "HTTP/"+alias)
		clear(tok)
		if err == nil {
			return broken(proxy.CauseSPNUnknown, "Set canonicalize = \"cname\" under [kerberos] in the settings, or write "+alias+" as the upstream.",
				"%s It knows HTTP/%s, and the upstream's name is an alias of that.", seen, alias)
		}
		seen += fmt.Sprintf(" The upstream's name is an alias of %s, which it does not know either.", alias)
	}
	return broken(proxy.CauseSPNUnknown, "", "%s", seen)
}

func (x *examination) checkKDC(ctx context.Context) doctor.Finding {
	try := x.attempt(ctx)
	switch cause := causeOfTry(try.err, try.spn); {
	case try.err == nil && try.cached != "":
		return good("It was not needed: the ticket for the upstream is in the cache %s.", try.cached)
	case try.err == nil && try.took > 2*time.Second:
		return noted(proxy.CauseKDCUnreachable, "Check the network or VPN connection; one of the KDCs may be down.", "It answered, but only after %.1f s.", try.took.Seconds())
	case try.err == nil:
		return good("It answered after %d ms.", try.took.Milliseconds())
	case cause == proxy.CauseKDCUnreachable, cause == proxy.CauseClockSkew, cause == proxy.CauseTimeout:
		f := brokenBy(try.err, try.spn)
		if cause == proxy.CauseTimeout {
			f.Cause = string(proxy.CauseKDCUnreachable)
			_, f.Action, _ = proxy.CauseKDCUnreachable.Explain()
		}
		return f
	}
	return good("It is not to blame.")
}

func (x *examination) checkToken(ctx context.Context) doctor.Finding {
	try := x.attempt(ctx)
	switch {
	case try.err != nil:
		return brokenBy(try.err, try.spn)
	case try.kind == kindNTLM:
		return broken(proxy.CauseNTLM, "", "The system made an NTLM message instead of a Kerberos token. It is not sent.")
	case try.kind == kindOther:
		return broken(proxy.CauseInternal, "", "The library made a token of an unknown kind.")
	}
	return good("%s, %d bytes.", try.kind, try.size)
}
