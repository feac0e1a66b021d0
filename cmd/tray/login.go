package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	osuser "os/user"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/keyring"
)

// signLimit is how long a KDC may take for a renewal. A sign-in waits for the
// person and has the backend's own limits.
const signLimit = 60 * time.Second

// keyringLimit is how long the keyring may take when nobody is there to unlock
// it.
const keyringLimit = 20 * time.Second

func (c *cli) cmdLogin(ctx context.Context) *cobra.Command {
	var stdin, remember, forget bool
	cmd := c.addJSON(&cobra.Command{
		Use: "login [PRINCIPAL]", Short: "Sign in with your password and get a new ticket", Args: cobra.MaximumNArgs(1),
		Long: "Asks for the password in the terminal, gets a ticket from the KDC and stores it where the helper, and every other\n" +
			"program, finds it. PRINCIPAL is NAME@REALM or NAME; without it, whoever the ticket belongs to, else your user name.",
		RunE: func(_ *cobra.Command, args []string) error {
			who := ""
			if len(args) == 1 {
				who = args[0]
			}
			switch {
			case forget && (stdin || remember):
				return failf(exitUsage, "Use --forget alone.", "--forget removes a remembered password and does not sign in.")
			case forget:
				return c.forget(ctx, who)
			}
			return c.login(ctx, who, stdin, remember)
		},
	})
	f := cmd.Flags()
	f.BoolVar(&stdin, "password-stdin", false, "read the password from standard input, one line for each question")
	f.BoolVar(&remember, "remember", false, "keep the password in the system's keyring, to sign in again when the ticket has ended")
	f.BoolVar(&forget, "forget", false, "remove the password from the keyring")
	return cmd
}

func (c *cli) cmdRenew(ctx context.Context) *cobra.Command {
	return c.addJSON(&cobra.Command{
		Use: "renew", Short: "Renew the ticket without a password", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return c.renew(ctx) },
	})
}

func (c *cli) cmdLogout(ctx context.Context) *cobra.Command {
	return c.addJSON(&cobra.Command{
		Use: "logout", Short: "Destroy the ticket", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return c.logout(ctx) },
	})
}

// signer is what changes tickets: in this process, so that no password goes
// through any channel, but on the cache that the running helper uses.
type signer struct {
	*current
	store *settings.Store
}

func (c *cli) signer(ctx context.Context) (*signer, error) {
	store, err := c.readable()
	if err != nil {
		return nil, err
	}
	cfg := ticketConfigOf(store.Snapshot())
	var r report
	err = c.ask(ctx, func(ctx context.Context, cl *control.Client) error { return cl.Get(ctx, "/v1/status", nil, &r) })
	switch {
	case err == nil:
		if cfg.cache == "" { // else the helper looks at that one only
			cfg.cache = ticket.Collection(r.Ticket.Cache)
		}
		if up, err := parseUpstream(r.Proxy.Upstream); err == nil {
			cfg.service, _ = servicePrincipal(ctx, up, store.Snapshot().KerberosSPN, "off")
		}
	case !errors.Is(err, control.ErrNotRunning):
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	if c.logLevel == "debug" {
		if log, err = c.logger(); err != nil {
			return nil, err
		}
	}
	cur := openTickets(cfg, ticket.Config{Log: log})
	if cur.Manager == nil {
		return nil, failf(exitFailed, "Install the system's Kerberos library (libgssapi-krb5-2, krb5-libs).", "Kerberos is not available here: %v.", cur.err)
	}
	return &signer{cur, store}, nil
}

func (c *cli) login(ctx context.Context, who string, stdin, remember bool) error {
	s, err := c.signer(ctx)
	if err != nil {
		return err
	}
	if err := keyring.Harden(); err != nil {
		return failf(exitFailed, "Try again from another terminal.", "The password cannot be kept out of core dumps: %v.", err)
	}
	p := &prompter{cli: c, keep: remember}
	if stdin {
		p.lines = newLineReader(c.in)
	} else if p.term, err = openTerminal(c.in); err != nil {
		return failf(exitUsage, "Give the password with --password-stdin.", "There is no terminal to ask for the password: %v.", err)
	}
	defer p.close()
	if who == "" {
		who = s.whoever(ctx)
	}
	err = s.SignIn(ctx, ticket.Login{Principal: who, Prompt: p.prompt})
	if errors.Is(err, ticket.ErrPrincipalUnknown) {
		return failf(exitFailed, "Give it as NAME@REALM, the realm in capital letters.", "%s does not know %s.", realmOf(err), printable(who))
	}
	if err != nil {
		return loginError(err)
	}
	if remember {
		if err := c.remember(ctx, s, who, p.password); err != nil {
			c.printSigned(ctx, s, "Signed in")
			return err
		}
	}
	return c.printSigned(ctx, s, "Signed in")
}

// whoever is who signs in without a name, as [ticket.Login] has it.
func (s *signer) whoever(ctx context.Context) string {
	if p := s.Status(ctx).Status.Principal; p != "" {
		return p
	}
	u, err := osuser.Current()
	if err != nil {
		return "" // the backend says so
	}
	return u.Username[strings.LastIndexByte(u.Username, '\\')+1:] // DOMAIN\alice on Windows
}

// principal is the full name of who, who has just signed in. The ticket in use
// may be somebody else's, because one of the upstream's realm goes first; the
// password must not be remembered for that one.
func principal(caches []ticket.Cache, who string) (string, error) {
	var found []string
	for _, c := range caches {
		name, _, _ := strings.Cut(c.Principal, "@")
		named := strings.EqualFold(c.Principal, who) || strings.EqualFold(name, who)
		if named && (c.Default || c.Used) && !slices.Contains(found, c.Principal) {
			found = append(found, c.Principal)
		}
	}
	if len(found) != 1 {
		return "", failf(exitFailed, "Name the principal: kerbpass login --remember NAME@REALM",
			"It is not clear which realm %s has signed in at. The password was not saved.", who)
	}
	return found[0], nil
}

// remember keeps the password that has just worked for who.
func (c *cli) remember(ctx context.Context, s *signer, who string, password ticket.Secret) error {
	name, err := principal(cachesWithin(ctx, s.backend), who)
	if err != nil {
		return err
	}
	k, err := newKeyring()
	if err == nil {
		err = k.Set(ctx, name, password)
	}
	if err != nil {
		return keyringError(err)
	}
	err = settingsError(s.store.Edit(func(e *settings.Edit) error { return e.Set("kerberos.remember", name) }))
	if err != nil {
		k.Delete(ctx, name) // of no use to a helper that is not told of it
	}
	return err
}

func (c *cli) forget(ctx context.Context, who string) error {
	store, err := c.readable()
	if err != nil {
		return err
	}
	if who == "" {
		who = store.Snapshot().KerberosRemember
	}
	if who == "" {
		return failf(exitFailed, "Name the principal: kerbpass login --forget NAME@REALM", "No password is remembered.")
	}
	k, err := newKeyring()
	if err == nil {
		err = k.Delete(ctx, who)
	}
	if err != nil {
		return keyringError(err)
	}
	if store.Snapshot().KerberosRemember == who {
		return settingsError(store.Edit(func(e *settings.Edit) error { return e.Set("kerberos.remember", "") }))
	}
	return nil
}

func (c *cli) renew(ctx context.Context) error {
	s, err := c.signer(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, signLimit, fmt.Errorf("%w: nothing came back within %v", ticket.ErrKDCUnreachable, signLimit))
	defer cancel()
	if err := s.Renew(ctx); err != nil {
		return loginError(err)
	}
	return c.printSigned(ctx, s, "Renewed")
}

func (c *cli) logout(ctx context.Context) error {
	s, err := c.signer(ctx)
	if err != nil {
		return err
	}
	before := s.Status(ctx).Status
	if err := s.SignOut(ctx); err != nil {
		return loginError(err)
	}
	if c.json {
		return c.printSigned(ctx, s, "")
	}
	who := before.Principal
	if who == "" {
		who = "nobody"
	}
	fmt.Fprintf(c.out, "Signed out: the ticket of %s is gone%s.\n", who, in(before.Cache))
	return nil
}

// printSigned shows the ticket as it is now.
func (c *cli) printSigned(ctx context.Context, s *signer, done string) error {
	t := ticketReportOf(s.Status(ctx))
	if c.json {
		return c.printJSON(map[string]any{"ticket": t})
	}
	fmt.Fprintf(c.out, "%s: %s %s%s\n", done, t.Principal, until(t.Expires, time.Now()), in(t.Cache))
	return nil
}

// loginError words why a ticket was not to be had.
func loginError(err error) error {
	if errors.Is(err, context.Canceled) {
		return failf(exitFailed, "", "Given up; nothing was changed.")
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit
	}
	realm, kdc := realmOf(err), ""
	if refusal, ok := errors.AsType[*ticket.KDCError](err); ok && refusal.KDC != "" {
		kdc = " (KDC " + refusal.KDC + ")"
	}
	for _, c := range []struct {
		kind       error
		code       int
		text, hint string
	}{
		{ticket.ErrPassword, exitFailed, realm + " does not accept the password" + kdc + ".", "Check Caps Lock and the keyboard layout; too many attempts lock an account."},
		{ticket.ErrPrincipalUnknown, exitFailed, realm + " does not know this principal" + kdc + ".", "Give it as NAME@REALM, the realm in capital letters."},
		{ticket.ErrRevoked, exitFailed, realm + " has locked or disabled this account" + kdc + ".", "Ask your help desk to unlock it."},
		{ticket.ErrPasswordExpired, exitFailed, realm + " says that the password has expired" + kdc + ".", "Change it: kpasswd, or where you usually do."},
		{ticket.ErrClockSkew, exitFailed, realm + " says that this computer's clock is wrong" + kdc + ".", "Set the clock; Kerberos allows a difference of five minutes."},
		{ticket.ErrKDCUnreachable, exitFailed, "No KDC answers" + because(err) + ".", "Connect to the company's network or VPN, and check the realm's name: it is in capital letters."},
		{ticket.ErrNotRenewable, exitNoTicket, "The ticket cannot be renewed any more.", "Sign in again: kerbpass login"},
		{ticket.ErrExpired, exitNoTicket, "The ticket has expired; that cannot be renewed.", "Sign in again: kerbpass login"},
		{ticket.ErrNoTicket, exitNoTicket, "There is no ticket.", "Sign in: kerbpass login"},
		{errors.ErrUnsupported, exitFailed, "That is not possible here: " + printable(err.Error()) + ".", "Use the system's own way to sign in."},
		{ticket.ErrCache, exitFailed, "The ticket cache cannot be used: " + printable(err.Error()) + ".", "Check KRB5CCNAME and the setting kerberos.cache."},
	} {
		if errors.Is(err, c.kind) {
			return failf(c.code, c.hint, "%s", c.text)
		}
	}
	return failf(exitFailed, "Run it again with --log-level debug to see why.", "It did not work: %s.", printable(err.Error()))
}

// realmOf names the realm that an error is about.
func realmOf(err error) string {
	if refusal, ok := errors.AsType[*ticket.KDCError](err); ok && refusal.Realm != "" {
		return "Realm " + printable(refusal.Realm)
	}
	return "The realm"
}

// because is the library's reason for a KDC that cannot be asked, in one line.
func because(err error) string {
	text := err.Error()
	if refusal, ok := errors.AsType[*ticket.KDCError](err); ok {
		text = refusal.Text
	}
	text, _, _ = strings.Cut(text, "\n")
	if text == "" {
		return ""
	}
	return ": " + strings.TrimSuffix(printable(text), ".")
}

// prompter asks the questions of a sign-in: in the terminal, or line by line
// from standard input.
type prompter struct {
	cli   *cli
	term  *terminal   // nil: lines are read
	lines *lineReader // nil: the terminal is asked
	keep  bool

	mu       sync.Mutex    // held while a question is open; guards what follows
	password ticket.Secret // with keep, a copy of the last password that was given
}

// close waits for an open question, which ends with its context and leaves the
// terminal as it was, and wipes what was kept.
func (p *prompter) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.password.Wipe()
}

func (p *prompter) prompt(ctx context.Context, banner string, questions []ticket.Prompt) (answers []ticket.Secret, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer func() {
		if err != nil {
			for _, a := range answers {
				a.Wipe()
			}
			answers = nil
		}
	}()
	if banner != "" {
		fmt.Fprintln(p.cli.err, printable(banner))
	}
	for _, q := range questions {
		var answer []byte
		if p.lines != nil {
			if answer, err = p.lines.ask(ctx); ctx.Err() == nil && err != nil {
				err = noAnswer(q, err)
			}
		} else {
			answer, err = p.term.ask(ctx, p.cli.err, printable(q.Text), q.Hidden)
		}
		if err != nil {
			return answers, err
		}
		answers = append(answers, ticket.NewSecret(answer))
		if q.Kind != ticket.PromptOther && (len(answer) == 0 || slices.Contains(answer, 0)) {
			return answers, failf(exitFailed, "Type it again.", "The answer to %q is empty, or holds a zero byte.", printable(q.Text))
		}
		if p.keep && (q.Kind == ticket.PromptPassword || q.Kind == ticket.PromptNewPassword) {
			p.password.Wipe()
			p.password = ticket.NewSecret(append([]byte(nil), answer...))
		}
	}
	return answers, nil
}

func noAnswer(q ticket.Prompt, err error) error {
	if errors.Is(err, io.EOF) {
		return failf(exitFailed, "Give one line for each question, or sign in from a terminal.", "There is no line on standard input for the question %q.", printable(q.Text))
	}
	return failf(exitFailed, "Give the password as one line.", "Standard input cannot be read: %v.", err)
}

// printable takes out of what a KDC wants shown whatever could steer a terminal.
func printable(s string) string {
	clean := []rune(s)
	for i, r := range clean {
		if r != '\n' && !unicode.IsGraphic(r) {
			clean[i] = '?'
		}
	}
	return string(clean)
}
