//go:build linux && !nogss

package gss

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"kerbpass/internal/ticket"
)

const (
	// maxSignIns is how many sign-ins may be under way, those left behind with
	// a silent KDC included.
	maxSignIns = 4
	// renewFor is what is asked for where krb5.conf does not say; the KDC cuts
	// it down to what it allows.
	renewFor = 7 * 24 * time.Hour
	// maxNewPasswords is how many new passwords may be tried in one sign-in.
	maxNewPasswords = 3
)

// SignIn implements [ticket.Backend]. When ctx ends it returns at once; the
// call that hangs in the library asks nothing and stores nothing any more.
func (b *Backend) SignIn(ctx context.Context, l ticket.Login) error {
	err := b.signInAside(ctx, l)
	if _, asked := errors.AsType[*ticket.KDCError](err); err == nil || asked {
		return err
	}
	return &ticket.OpError{Op: "sign in", Subject: l.Principal, Err: err}
}

func (b *Backend) signInAside(ctx context.Context, l ticket.Login) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.Prompt == nil {
		return errors.New("nobody to ask for the password")
	}
	select {
	case b.signIns <- struct{}{}:
	default:
		return fmt.Errorf("%w: %d sign-ins are waiting for it already", ticket.ErrKDCUnreachable, maxSignIns)
	}
	s := &signIn{backend: b, talk: &conversation{ctx: ctx, ask: l.Prompt}}
	done := make(chan error, 1)
	go func() {
		defer func() { <-b.signIns }()
		done <- s.run(l.Principal)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		if s.decided.CompareAndSwap(false, true) {
			return context.Cause(ctx)
		}
		return <-done // it is storing the ticket
	}
}

// signIn is one sign-in, on a goroutine of its own.
type signIn struct {
	backend *Backend
	talk    *conversation
	decided atomic.Bool // the ticket will be stored, or the caller has gone
}

func (s *signIn) run(principal string) error {
	b, l := s.backend, s.backend.lib
	id, end := s.talk.register()
	defer end()
	name, err := b.whoSignsIn(principal)
	if err != nil {
		return err
	}
	return l.withContext(func(ctx handle) error {
		if err := l.setDefaultName(ctx, b.cache); err != nil {
			return err
		}
		l.listen(ctx, id)
		var client handle
		if code := l.parseName(ctx, name, &client); code != 0 {
			return &Error{Minor: code, Text: l.message(ctx, code)}
		}
		defer l.freePrincipal(ctx, client)
		full := l.unparse(ctx, client)
		x := &exchange{lib: l, ctx: ctx, client: client, id: id, name: full, realm: realmOf(full), talk: s.talk}
		return l.inMemory(ctx, func(mem handle) error {
			if err := x.ticketInto(mem); err != nil {
				return err
			}
			return s.store(ctx, mem)
		})
	})
}

// whoSignsIn is principal, or who it stands for if it is empty.
func (b *Backend) whoSignsIn(principal string) (string, error) {
	if principal == "" {
		b.gate.enter()
		c, _ := b.look()
		b.gate.leave()
		principal = c.Principal
	}
	if principal == "" {
		u, err := user.Current()
		if err != nil {
			return "", err
		}
		principal = u.Username
	}
	if len(principal) > maxText || strings.ContainsFunc(principal, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "", errors.New("the principal is too long or contains a control character")
	}
	return principal, nil
}

// store puts mem where kinit would.
func (s *signIn) store(ctx, mem handle) error {
	b, l := s.backend, s.backend.lib
	if !s.decided.CompareAndSwap(false, true) {
		return context.Cause(s.talk.ctx)
	}
	name, collection, err := b.target(ctx, mem)
	if err != nil {
		return err
	}
	if err := b.commit(ctx, mem, name); err != nil || !collection {
		return err
	}
	return l.switchTo(ctx, name)
}

// target names the cache for the tickets in mem: the single one there is, or
// of a collection the principal's own, else the default one if it is nobody's,
// else a new one.
func (b *Backend) target(ctx, mem handle) (name string, collection bool, err error) {
	l, where := b.lib, b.locate()
	kind := kindOfCache(where)
	if single(where) || l.ccCanSwitch(ctx, kind) == 0 {
		return where, false, nil
	}
	client, err := l.principalOf(ctx, mem)
	if err != nil {
		return "", true, err
	}
	defer l.freePrincipal(ctx, client)
	principal := l.unparse(ctx, client)
	list, err := l.collection(b.cache)
	if err != nil {
		return "", true, err
	}
	name = l.primary(ctx)
	for _, c := range list {
		if kindOfCache(c.Name) != kind {
			continue
		}
		if c.Principal == principal {
			return c.Name, true, nil
		}
		if c.Name == name {
			name = ""
		}
	}
	if name != "" {
		return name, true, nil
	}
	var cc handle
	if code := l.ccNewUnique(ctx, kind, nil, &cc); code != 0 {
		return "", true, l.krb5Error(ctx, code)
	}
	defer l.ccClose(ctx, cc)
	name, err = l.fullName(ctx, cc)
	return name, true, err
}

// An exchange asks the KDC for the first tickets of client. It uses
// krb5_init_creds_get, which unlike krb5_get_init_creds_password does not
// repeat a refused password at the primary KDC: that would be a second failed
// attempt, and can lock the account. See also [library.once].
type exchange struct {
	lib         *library
	ctx, client handle
	id          uintptr // of talk
	name, realm string  // of client
	talk        *conversation
}

// ticketInto gets a TGT into mem, with a new password if the old one has
// expired.
func (x *exchange) ticketInto(mem handle) error {
	err := x.get("", mem)
	if !errors.Is(err, ticket.ErrPasswordExpired) {
		return err
	}
	if err := x.changePassword(); err != nil {
		return err
	}
	return x.get("", mem)
}

// get asks for a ticket for service, "" for the TGT, and puts it into mem.
func (x *exchange) get(service string, mem handle) error {
	return x.ask(service, mem, func(ic handle) error {
		if x.lib.initCredsStore == nil {
			return nil // stored already, because the options named mem
		}
		if code := x.lib.initCredsStore(x.ctx, ic, mem); code != 0 {
			return x.lib.krb5Error(x.ctx, code)
		}
		return nil
	})
}

// ask runs one exchange and lends f what came of it. Mem may be nil.
func (x *exchange) ask(service string, mem handle, f func(ic handle) error) error {
	l := x.lib
	if l.prompter() == 0 && x.talk.password == nil {
		question := ticket.Prompt{Kind: ticket.PromptPassword, Text: "Password for " + x.name, Hidden: true}
		answers, err := x.talk.put("", []ticket.Prompt{question})
		wipe(answers)
		if err != nil {
			return err
		}
	}
	opt, err := x.options(mem)
	if err != nil {
		return err
	}
	defer l.optFree(x.ctx, opt)
	var ic handle
	if code := l.initCredsInit(x.ctx, x.client, l.prompter(), x.id, 0, opt, &ic); code != 0 {
		return x.failed(code)
	}
	defer l.initCredsFree(x.ctx, ic)
	if service != "" {
		if code := l.initCredsService(x.ctx, ic, service); code != 0 {
			return x.failed(code)
		}
	}
	if x.talk.password != nil {
		code := withCString(x.talk.password, func(p *byte) int32 { return l.initCredsPassword(x.ctx, ic, p) })
		if code != 0 {
			return x.failed(code)
		}
	}
	if code := l.once(x.ctx, ic); code != 0 {
		return x.failed(code)
	}
	return f(ic)
}

// prompter is the callback for the library's questions. Heimdal's asks none
// but for a new password, and forgets what came of that.
func (l *library) prompter() uintptr {
	if l.promptTypes == nil {
		return 0
	}
	return callbacks().prompter
}

func (x *exchange) failed(code int32) error {
	return x.lib.kdcError(x.ctx, code, x.realm, x.talk)
}

// options are krb5.conf's for a TGT that goes to mem; without mem they are for
// a ticket that only lives for a moment.
func (x *exchange) options(mem handle) (opt handle, err error) {
	l := x.lib
	if code := l.optAlloc(x.ctx, &opt); code != 0 {
		return nil, l.krb5Error(x.ctx, code)
	}
	switch {
	case mem == nil:
		l.optTicketLife(opt, 300)
		l.optRenewLife(opt, 0)
		l.optForwardable(opt, 0)
		l.optProxiable(opt, 0)
	case l.optDefaults != nil:
		l.optRenewLife(opt, int32(renewFor/time.Second))
		l.optDefaults(x.ctx, "kinit", x.realm, opt) // overrides that
	default:
		if !l.hasLibdefault(x.ctx, x.realm, "renew_lifetime") {
			l.optRenewLife(opt, int32(renewFor/time.Second))
		}
		if code := l.optOutCache(x.ctx, opt, mem); code != 0 {
			l.optFree(x.ctx, opt)
			return nil, l.krb5Error(x.ctx, code)
		}
	}
	return opt, nil
}

// changePassword replaces the expired password (RFC 3244). What the server
// says of a new one that it refuses is shown with the next question.
func (x *exchange) changePassword() error {
	l := x.lib
	return x.ask("kadmin/changepw", nil, func(ic handle) error {
		permit := new(cred)
		if code := l.initCredsCreds(x.ctx, ic, permit); code != 0 {
			return x.failed(code)
		}
		defer l.freeCred(x.ctx, permit)
		banner := "The password of " + x.name + " has expired. Choose a new one."
		for range maxNewPasswords {
			refusal, err := x.tryNewPassword(permit, banner)
			if err != nil || refusal == "" {
				return err
			}
			banner = refusal
		}
		return &ticket.KDCError{Realm: x.realm, KDC: x.talk.kdc, Text: banner, Err: ticket.ErrPasswordExpired}
	})
}

// tryNewPassword asks for a new password and sets it. Refusal says why it was
// not taken, so that another one may be.
func (x *exchange) tryNewPassword(permit *cred, banner string) (refusal string, err error) {
	answers, err := x.talk.put(banner, []ticket.Prompt{
		{Kind: ticket.PromptNewPassword, Text: "New password", Hidden: true},
		{Kind: ticket.PromptNewAgain, Text: "New password again", Hidden: true},
	})
	defer wipe(answers)
	if err != nil {
		return "", err
	}
	password := answers[0].Expose()
	switch {
	case string(password) != string(answers[1].Expose()):
		return "The two passwords differ.", nil
	case len(password) == 0:
		return "The new password is empty.", nil
	}
	var result int32
	var resultText, serverText data
	l := x.lib
	code := withCString(password, func(p *byte) int32 {
		return l.changePassword(x.ctx, permit, p, &result, &resultText, &serverText)
	})
	if code != 0 {
		return "", x.failed(code)
	}
	defer l.freeData(x.ctx, &resultText)
	defer l.freeData(x.ctx, &serverText)
	if result == 0 {
		x.talk.keep(password)
		return "", nil
	}
	refusal = joinLines(l.text(&resultText), l.refusal(x.ctx, &serverText))
	if refusal == "" {
		refusal = "The new password was refused."
	}
	const softError = 4 // RFC 3244 section 2: policy
	if result != softError {
		return "", &ticket.KDCError{Realm: x.realm, KDC: x.talk.kdc, Text: refusal, Err: ticket.ErrPasswordExpired}
	}
	return refusal, nil
}

// refusal is what the password server says. MIT's library also understands
// the binary policy of Active Directory.
func (l *library) refusal(ctx handle, d *data) string {
	var s handle
	if l.passwordMessage == nil || l.passwordMessage(ctx, d, &s) != 0 {
		return l.text(d)
	}
	defer l.freeString(ctx, s)
	return tidy(goString(s))
}

func (l *library) text(d *data) string {
	return tidy(string(l.prompts.bytes(handle(d), maxText)))
}

// withCString lends f a copy of secret that ends in NUL, and clears it.
func withCString(secret []byte, f func(p *byte) int32) int32 {
	text := make([]byte, len(secret)+1)
	copy(text, secret)
	defer clear(text)
	var pin runtime.Pinner
	pin.Pin(&text[0])
	defer pin.Unpin()
	return f(&text[0])
}
