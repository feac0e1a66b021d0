package krb5

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/nametype"

	"kerbpass/internal/ticket"
)

const (
	standardLife  = 24 * time.Hour // MIT's
	standardRenew = 7 * 24 * time.Hour
	changeLife    = 5 * time.Minute // of a ticket that only serves to change the password
)

// SignIn implements [ticket.Backend]. With a keytab, l.Prompt is not called, and
// an empty l.Principal that no ticket fills in is the keytab's first.
func (b *Backend) SignIn(ctx context.Context, l ticket.Login) error {
	who, err := b.signIn(ctx, l)
	if err != nil {
		return &ticket.OpError{Op: "sign in", Subject: who, Err: err}
	}
	return nil
}

func (b *Backend) signIn(ctx context.Context, l ticket.Login) (who string, err error) {
	found, c, err := b.surveyNow(ctx)
	if err != nil {
		return l.Principal, err
	}
	keys, err := readKeytab(b.keytab)
	if err != nil {
		return l.Principal, err
	}
	client, err := chooseClient(l.Principal, found, keys, c.defaultRealm())
	if err != nil {
		return l.Principal, err
	}
	who = client.String()
	in := &login{conf: c, client: client, etypes: c.etypes("default_tkt_enctypes")}
	if b.keytab != "" {
		in.etypes, in.key, err = keys.source(client, in.etypes)
		if err != nil {
			return who, err
		}
	} else {
		in.person = &person{name: who, prompt: l.Prompt}
		in.key = in.person.key
		defer in.person.forget()
	}
	tgt, err := in.tgt(ctx)
	if b.keytab != "" && errors.Is(err, ticket.ErrPassword) {
		err = fmt.Errorf("the key in %s is out of date: %w", b.keytab, err)
	}
	if err != nil {
		return who, err
	}
	return who, b.keep(found.location, c, &cacheFile{client: client, offset: in.synced, creds: []cred{tgt.cred}})
}

// chooseClient is who signs in: the one named, else the one whose ticket is in
// use, else the keytab's first or the user of this system.
func chooseClient(name string, found *collection, keys keyTable, realm string) (principal, error) {
	if file := found.used().file; name == "" && file != nil {
		return file.client, nil
	}
	if name == "" && len(keys) > 0 {
		return keys[0].client, nil
	}
	if name == "" {
		u, err := user.Current()
		if err != nil {
			return principal{}, fmt.Errorf("who is to sign in: %w", err)
		}
		name = u.Username[strings.LastIndexByte(u.Username, '\\')+1:] // DOMAIN\alice on Windows
	}
	return parsePrincipal(name, realm)
}

// parsePrincipal reads alice, alice@REALM or alice/admin@REALM.
func parsePrincipal(s, defaultRealm string) (principal, error) {
	name, realm, given := strings.Cut(s, "@")
	p := principal{kind: nametype.KRB_NT_PRINCIPAL, realm: realm, parts: strings.Split(name, "/")}
	if !given {
		if p.realm = defaultRealm; p.realm == "" {
			return principal{}, fmt.Errorf("principal %q names no realm, and krb5.conf has no default_realm", s)
		}
	}
	if !p.plain() || len(p.parts) > maxComponents || strings.ContainsAny(s, `\ `) || strings.Contains(realm, "@") {
		return principal{}, fmt.Errorf("principal %q is not of the form alice or alice@REALM", s)
	}
	return p, nil
}

// A person answers for a sign-in with a password.
type person struct {
	name     string
	prompt   ticket.Prompter
	password ticket.Secret
}

// key is the [keySource] of a password. It asks for it the first time.
func (p *person) key(ctx context.Context, h hint) (longTermKey, error) {
	if p.password.Expose() == nil {
		answers, err := p.ask(ctx, "", ticket.Prompt{Kind: ticket.PromptPassword, Text: "Password for " + p.name, Hidden: true})
		if err != nil {
			return longTermKey{}, err
		}
		p.password = answers[0]
	}
	return stringToKey(ctx, h, p.password.Expose())
}

// newPassword asks for a new password twice. It is empty where the two answers
// differ, or where there is none.
func (p *person) newPassword(ctx context.Context, banner string) (ticket.Secret, error) {
	answers, err := p.ask(ctx, banner,
		ticket.Prompt{Kind: ticket.PromptNewPassword, Text: "New password for " + p.name, Hidden: true},
		ticket.Prompt{Kind: ticket.PromptNewAgain, Text: "New password again", Hidden: true})
	if err != nil {
		return ticket.Secret{}, err
	}
	defer answers[1].Wipe()
	if string(answers[0].Expose()) != string(answers[1].Expose()) {
		answers[0].Wipe()
		return ticket.Secret{}, errDiffer
	}
	return answers[0], nil
}

var errDiffer = errors.New("the two passwords are not the same")

// ask shows questions and returns as many answers, none of them empty.
func (p *person) ask(ctx context.Context, banner string, questions ...ticket.Prompt) ([]ticket.Secret, error) {
	if p.prompt == nil {
		return nil, errors.New("nobody is there to ask for a password")
	}
	answers, err := p.prompt(ctx, banner, questions)
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err == nil && len(answers) != len(questions) {
		err = fmt.Errorf("%d questions got %d answers", len(questions), len(answers))
	}
	if err == nil && slices.ContainsFunc(answers, func(s ticket.Secret) bool { return len(s.Expose()) == 0 }) {
		err = fmt.Errorf("%w: it is empty", ticket.ErrPassword) // surely; not worth an attempt
	}
	if err != nil {
		for _, a := range answers {
			a.Wipe()
		}
		return nil, err
	}
	return answers, nil
}

// change puts next in the place of the password.
func (p *person) change(next ticket.Secret) {
	p.forget()
	p.password = next
}

func (p *person) forget() {
	p.password.Wipe()
	p.password = ticket.Secret{}
}

// terms are what a ticket is asked for with.
type terms struct {
	life, renew time.Duration // renew 0: not renewable
	forwardable bool
}

func (c conf) tgtTerms() terms {
	return terms{
		life:        cmp.Or(c.lifetime("ticket_lifetime", standardLife), standardLife),
		renew:       c.lifetime("renew_lifetime", standardRenew),
		forwardable: c.forwardable(),
	}
}

// tgt gets a TGT, after a change of the password if that has expired.
func (in *login) tgt(ctx context.Context) (*pass, error) {
	tgt, err := in.initial(ctx, krbtgt(in.client.realm), in.conf.tgtTerms())
	if err == nil || in.person == nil || !errors.Is(err, ticket.ErrPasswordExpired) {
		return tgt, err
	}
	if err := in.changePassword(ctx); err != nil {
		return nil, err
	}
	return in.initial(ctx, krbtgt(in.client.realm), in.conf.tgtTerms())
}
