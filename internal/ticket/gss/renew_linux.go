//go:build linux && !nogss

package gss

import (
	"context"
	"errors"

	"kerbpass/internal/ticket"
)

// Renew implements [ticket.Backend].
func (b *Backend) Renew(ctx context.Context, services ...string) error {
	for _, spn := range services {
		if err := checkSPN(spn); err != nil {
			return &ticket.OpError{Op: "renew", Subject: spn, Err: err}
		}
	}
	cache, err := b.renew(ctx, services)
	if err != nil {
		return &ticket.OpError{Op: "renew", Subject: cache, Err: err}
	}
	return nil
}

func (b *Backend) renew(ctx context.Context, services []string) (cache string, err error) {
	if err := ctx.Err(); err != nil {
		return *b.where.Load(), err
	}
	var c contents
	err = b.retrying(ctx, 0, patientLook, func() (err error) {
		b.gate.enter()
		defer b.gate.leave()
		c, err = b.look()
		return err
	})
	switch {
	case err != nil:
		return c.Name, err
	case c.expired:
		return c.Name, ticket.ErrExpired
	case c.tgt.RenewUntil.IsZero(): // no later end is to be had
		return c.Name, ticket.ErrNotRenewable
	}
	ch := &choice{realm: c.Realm, full: map[string]string{}}
	names := make([]string, len(services))
	for i, spn := range services {
		names[i] = b.qualified(ch, spn)
	}
	talk := &conversation{ctx: ctx}
	id, end := talk.register()
	defer end()
	return c.Name, b.lib.withCache(c.Name, func(kctx, cc handle) error {
		b.lib.listen(kctx, id)
		return b.lib.inMemory(kctx, func(mem handle) error {
			if err := b.lib.renewInto(kctx, cc, mem, talk); err != nil {
				return err
			}
			b.lib.prefetch(ctx, kctx, mem, names)
			return b.commit(kctx, mem, c.Name)
		})
	})
}

// commit replaces the cache called name by mem, while no reader of ours looks.
func (b *Backend) commit(ctx, mem handle, name string) error {
	return b.gate.alone(func() error {
		defer b.copies.drop(b.lib)
		return b.lib.replace(ctx, mem, name)
	})
}

// renewInto puts a renewed TGT of cc into mem, with the library's notes.
func (l *library) renewInto(ctx, cc, mem handle, talk *conversation) error {
	client, err := l.principalOf(ctx, cc)
	if err != nil {
		return err
	}
	defer l.freePrincipal(ctx, client)
	tgt := new(cred)
	if code := l.renewedCreds(ctx, tgt, client, cc, nil); code != 0 {
		return l.kdcError(ctx, code, realmOf(l.unparse(ctx, client)), talk)
	}
	defer l.freeCred(ctx, tgt)
	if code := l.ccInit(ctx, mem, client); code != 0 {
		return l.krb5Error(ctx, code)
	}
	if code := l.ccStore(ctx, mem, tgt); code != 0 {
		return l.krb5Error(ctx, code)
	}
	return l.each(ctx, cc, func(cr *cred, server string) {
		if isNote(server) {
			l.ccStore(ctx, mem, cr) // a lost note costs a round trip, no more
		}
	})
}

// prefetch gets tickets for services into cc until stop ends. A service that
// the KDC refuses is the token's business, later.
func (l *library) prefetch(stop context.Context, ctx, cc handle, services []string) {
	client, err := l.principalOf(ctx, cc)
	if err != nil {
		return
	}
	defer l.freePrincipal(ctx, client)
	for _, name := range services {
		if stop.Err() != nil {
			return
		}
		var server, got handle
		if l.parseName(ctx, name, &server) != 0 {
			continue
		}
		in := new(cred)
		*l.creds.principal(in, l.creds.client) = client
		*l.creds.principal(in, l.creds.server) = server
		if l.credentials(ctx, 0, cc, in, &got) == 0 {
			l.freeCreds(ctx, got)
		}
		l.freePrincipal(ctx, server)
	}
}

// listen notes in the conversation called id which KDC answers on ctx.
func (l *library) listen(ctx handle, id uintptr) {
	if l.traceCallback != nil {
		l.traceCallback(ctx, callbacks().trace, id)
	}
}

// kdcError is what asking a KDC of realm came to.
func (l *library) kdcError(ctx handle, code int32, realm string, talk *conversation) error {
	if talk.err != nil {
		return talk.err
	}
	text := l.message(ctx, code)
	e := &ticket.KDCError{Realm: realm, KDC: talk.kdc, Text: text, Err: signInKindOf(code)}
	if e.Err == nil {
		e.Err, e.Text = &Error{Minor: code, Text: text}, ""
	}
	if errors.Is(e.Err, ticket.ErrKDCUnreachable) {
		e.KDC = "" // an answer before that was of another exchange
	}
	return e
}

// SignOut implements [ticket.Backend].
func (b *Backend) SignOut(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.gate.enter()
	c, err := b.look()
	b.gate.leave()
	if c.Principal != "" || errors.Is(err, ticket.ErrCache) {
		err = b.gate.alone(func() error { return b.lib.remove(c.Name) })
		b.copies.drop(b.lib)
		b.choice.Store(nil)
	}
	if err != nil {
		return &ticket.OpError{Op: "sign out", Subject: c.Name, Err: err}
	}
	return nil
}

// remove destroys the cache called name.
func (l *library) remove(name string) error {
	return l.withContext(func(ctx handle) error {
		var cc handle
		code := l.ccResolve(ctx, name, &cc)
		if code == 0 {
			code = l.ccDestroy(ctx, cc) // closes it too
		}
		if code != 0 {
			return l.krb5Error(ctx, code)
		}
		return nil
	})
}
