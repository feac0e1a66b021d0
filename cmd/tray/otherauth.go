package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"kerbpass/internal/auth"
	"kerbpass/internal/control"
	"kerbpass/internal/doctor"
	"kerbpass/internal/proxy"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/keyring"
	"kerbpass/internal/ui"
)

// A login is one line of upstream_auth: who logs in at an upstream and how.
type login struct {
	upstream string // its URL, as in proxy.Upstream
	tls      bool
	scheme   auth.Scheme
	user     string
}

// keyringName is what the keyring knows the password by.
func (l login) keyringName() string { return l.upstream + " " + l.user }

// inClear reports whether everybody on the way can read the password.
func (l login) inClear() bool { return l.scheme == auth.Basic && !l.tls }

func (l login) String() string { return fmt.Sprintf("%s as %s at %s", l.scheme, l.user, l.upstream) }

// parseLogin reads a line of upstream_auth, already validated by the settings.
func parseLogin(line string) (login, error) {
	fields := strings.SplitN(line, " ", 3)
	if len(fields) != 3 {
		return login{}, fmt.Errorf("upstream_auth: %q is not URL, scheme and user", line)
	}
	up, err := parseUpstream(fields[0])
	if err != nil {
		return login{}, err
	}
	scheme, err := auth.ParseScheme(fields[1])
	if err == nil {
		err = auth.CheckUser(scheme, fields[2])
	}
	return login{up.URL, up.TLS, scheme, fields[2]}, err
}

// loginsOf reads upstream_auth. Of two lines for one upstream the first counts.
func loginsOf(snap *settings.Snapshot) (all []login, bad []error) {
	for _, line := range snap.UpstreamAuth {
		l, err := parseLogin(line)
		if err == nil && slices.ContainsFunc(all, func(x login) bool { return x.upstream == l.upstream }) {
			err = fmt.Errorf("upstream_auth: %s has two lines; the first one counts", l.upstream)
		}
		if err != nil {
			bad = append(bad, err)
			continue
		}
		all = append(all, l)
	}
	return all, bad
}

// loginPasswords is where the passwords for upstreams are: the keyring.
type loginPasswords interface {
	GetLogin(ctx context.Context, name string) (ticket.Secret, error)
}

// loginAccount is a login with what became of it.
type loginAccount struct {
	login
	*auth.Account
}

// accounts makes what snap says about logins, and goes on with those of old: a
// refused password stays refused. An account whose line cannot be used is none,
// and its upstream gets Kerberos.
func (a *app) accounts(snap *settings.Snapshot, old *policy) map[string]*loginAccount {
	logins, bad := loginsOf(snap)
	for _, err := range bad {
		a.log.Warn("line left out", "reason", err)
	}
	all := map[string]*loginAccount{}
	for _, l := range logins {
		if old != nil && old.logins[l.upstream] != nil && old.logins[l.upstream].login == l {
			all[l.upstream] = old.logins[l.upstream]
			continue
		}
		acc, err := auth.New(auth.Config{Scheme: l.scheme, User: l.user, Password: func(ctx context.Context) ([]byte, error) { return a.loginPassword(ctx, l) }})
		if err != nil {
			a.log.Warn("line left out", "reason", err)
			continue
		}
		all[l.upstream] = &loginAccount{l, acc}
		if l.inClear() {
			a.log.Warn("the password for the upstream travels in the clear: Basic over http", "upstream", l.upstream)
		}
	}
	return all
}

// loginPassword asks the keyring. A client that goes away does not end that: it
// would come back and open the keyring's dialog again.
func (a *app) loginPassword(ctx context.Context, l login) ([]byte, error) {
	if a.cfg.logins == nil {
		return nil, keyring.ErrUnavailable
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyringLimit)
	defer cancel()
	defer a.changed()
	secret, err := a.cfg.logins.GetLogin(ctx, l.keyringName())
	return secret.Expose(), err
}

// withLogin sets how up is answered. It is for each upstream that the settings,
// or a PAC, name; up is not shared yet.
func (p *policy) withLogin(up *proxy.Upstream) *proxy.Upstream {
	if acc := p.logins[up.URL]; acc != nil && !p.withheld { // a broken policy may have forbidden it
		up.Scheme = string(acc.login.scheme)
	}
	return up
}

// sameLogins reports whether two policies log in at the same places in the same
// way.
func sameLogins(a, b *policy) bool { return maps.Equal(a.logins, b.logins) }

// resetLogins forgets passwords, and which were refused: there may be others.
func (a *app) resetLogins() {
	for _, acc := range a.now.Load().logins {
		acc.Reset()
	}
	a.forget("passwords changed")
	a.state.path.good()
	a.changed()
}

// beginLogin is Begin for an upstream that wants a password.
func (a *app) beginLogin(ctx context.Context, up *proxy.Upstream) (proxy.Exchange, error) {
	acc := a.now.Load().logins[up.URL]
	if acc == nil || string(acc.login.scheme) != up.Scheme {
		return nil, &proxy.Error{Cause: proxy.CauseNoPassword, Detail: "The settings have just changed.", Hint: "Try again."}
	}
	x, err := acc.Begin(ctx)
	if err != nil {
		return nil, acc.error(err)
	}
	return &loginExchange{x, a, acc}, nil
}

// loginExchange words the errors of an exchange.
type loginExchange struct {
	*auth.Exchange
	app *app
	acc *loginAccount
}

// Next implements [proxy.Exchange].
func (x *loginExchange) Next(ctx context.Context, challenge []byte) ([]byte, error) {
	out, err := x.Exchange.Next(ctx, challenge)
	if err != nil {
		return nil, x.acc.error(err)
	}
	return out, nil
}

// Judged implements [proxy.Watcher].
func (x *loginExchange) Judged(accepted bool) {
	before, _ := x.acc.State()
	x.Exchange.Judged(accepted)
	if after, _ := x.acc.State(); after != before {
		x.app.changed()
	}
}

// error words what went wrong with a login; errors of a context pass through.
func (l login) error(err error) error {
	e := &proxy.Error{Cause: proxy.CauseNegotiateNotOffered, Err: err}
	switch {
	case errors.Is(err, auth.ErrRefused):
		e.Cause, e.Text, e.Hint = proxy.CauseTokenRefused, proxy.PasswordRefusedText, proxy.PasswordRefusedHint
		e.Detail = fmt.Sprintf("The login was %s.", l)
	case errors.Is(err, keyring.ErrNotFound):
		e.Cause, e.Text = proxy.CauseNoPassword, "There is no password for the corporate proxy in the keyring."
		e.Detail, e.Hint = fmt.Sprintf("The login would be %s.", l), "Put it there: kerbpass password set "+l.upstream
	case errors.Is(err, keyring.ErrLocked):
		e.Cause, e.Text = proxy.CauseNoPassword, "The keyring with the password for the corporate proxy is locked."
		e.Detail, e.Hint = fmt.Sprintf("The login would be %s.", l), "Unlock the keyring, then try again in half a minute."
	case errors.Is(err, auth.ErrPassword):
		e.Cause, e.Detail = proxy.CauseNoPassword, fmt.Sprintf("The login would be %s; the keyring is %s.", l, keyring.Provider())
	case errors.Is(err, auth.ErrChallenge):
		e.Text, e.Hint = "The corporate proxy asks for a login in a way that cannot be answered.", "Ask its administrator for Kerberos, or for another scheme, and correct upstream_auth."
		e.Detail = fmt.Sprintf("The login would be %s.", l)
	default:
		return err
	}
	return e
}

// loginReport is one login in a status report.
type loginReport struct {
	Upstream string     `json:"upstream"`
	Scheme   string     `json:"scheme"`
	User     string     `json:"user"`
	State    auth.State `json:"state"` // unused, accepted, refused, missing
	InClear  bool       `json:"in_clear"`
}

// loginReports tells about the logins of snap, and what accounts know of them.
func loginReports(snap *settings.Snapshot, accounts map[string]*loginAccount) (all []loginReport, problems []problem) {
	all = []loginReport{}
	logins, _ := loginsOf(snap)
	add := func(err error) {
		var e *proxy.Error
		if errors.As(err, &e) {
			problems = append(problems, problem{e.Cause, strings.TrimSpace(e.Text + " " + e.Detail), e.Hint})
		}
	}
	for _, l := range logins {
		r := loginReport{l.upstream, string(l.scheme), l.user, auth.Unused, l.inClear()}
		if acc := accounts[l.upstream]; acc != nil && acc.login == l {
			var err error
			if r.State, err = acc.State(); err != nil {
				add(l.error(err))
			}
		}
		if r.InClear {
			text, hint, _ := proxy.CausePasswordInClear.Explain()
			add(&proxy.Error{Cause: proxy.CausePasswordInClear, Text: text, Hint: hint, Detail: fmt.Sprintf("The login is %s.", l)})
		}
		all = append(all, r)
	}
	return all, problems
}

// loginProblems are those that the window and the menu tell of beside others.
func (a *app) loginProblems(others []ui.Problem, now time.Time) (all []ui.Problem) {
	_, problems := loginReports(a.cfg.store.Snapshot(), a.now.Load().logins)
	for _, p := range problems {
		if !slices.ContainsFunc(others, func(x ui.Problem) bool { return x.Cause == string(p.Cause) }) {
			all = append(all, ui.Problem{Cause: string(p.Cause), At: now})
		}
	}
	return all
}

// byPassword reports whether the upstream gets a password instead of a token.
func (f facts) byPassword() bool { return f.upstream != nil && f.upstream.Scheme != "" }

// judgeLogin looks for the scheme that an upstream is set to be answered in.
func judgeLogin(up *proxy.Upstream, schemes []string, list string) doctor.Finding {
	switch {
	case !has(schemes, up.Scheme):
		return broken(proxy.CauseNegotiateNotOffered, "Correct its line in upstream_auth in the settings, or take it out: without one Kerberos is used.",
			"%s is to be answered in %s, and does not offer that. It offers: %s.", up.URL, up.Scheme, cmp.Or(list, "nothing"))
	case up.Scheme == proxy.SchemeBasic && !up.TLS:
		return noted(proxy.CausePasswordInClear, "", "407, and it offers %s. As upstream_auth says, it gets a password from the keyring in Basic over http://, which everybody on the way can read.", list)
	}
	return good("407, and it offers %s. As upstream_auth says, it gets a password from the keyring in %s.", list, up.Scheme)
}

// loginAt is the login at an upstream, nil if it wants none.
func (p *proxyReport) loginAt(url string) *loginReport {
	if i := slices.IndexFunc(p.Logins, func(l loginReport) bool { return l.Upstream == url }); i >= 0 {
		return &p.Logins[i]
	}
	return nil
}

func (l *loginReport) text() string {
	text := fmt.Sprintf("%s as %s, password from the keyring", l.Scheme, l.User)
	switch l.State {
	case auth.Accepted:
		text += ", accepted"
	case auth.Refused:
		text += ", refused; not tried again until it is set anew"
	case auth.Missing:
		text += ", which does not give it"
	}
	if l.InClear {
		text += "; sent in the clear"
	}
	return text
}

func (c *cli) cmdPassword(ctx context.Context) *cobra.Command {
	cmd := &cobra.Command{
		Use: "password", Short: "Set or forget the password for a proxy that does not take Kerberos",
		Long: "For upstreams with a line in the setting upstream_auth. The password is kept in the system's keyring and nowhere else.\n" +
			"URL can be left out where only one upstream has a line.",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return failf(exitUsage, "Use: kerbpass password set|forget [URL]", "A command is missing.")
		},
	}
	var stdin bool
	set := &cobra.Command{Use: "set [URL]", Short: "Ask for the password and put it into the keyring", Args: cobra.MaximumNArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		l, err := c.loginFor(args)
		if err != nil {
			return err
		}
		return c.setLoginPassword(ctx, l, stdin)
	}}
	set.Flags().BoolVar(&stdin, "password-stdin", false, "read the password from standard input, one line")
	cmd.AddCommand(set, &cobra.Command{Use: "forget [URL]", Short: "Take the password out of the keyring", Args: cobra.MaximumNArgs(1), RunE: func(_ *cobra.Command, args []string) error {
		l, err := c.loginFor(args)
		if err != nil {
			return err
		}
		k, err := newKeyring()
		if err == nil {
			err = k.DeleteLogin(ctx, l.keyringName())
		}
		if err != nil {
			return keyringError(err)
		}
		fmt.Fprintf(c.out, "Forgotten: %s\n", printable(l.String()))
		return c.tellPasswords(ctx)
	}})
	return cmd
}

// loginFor finds the line of upstream_auth that a command is about.
func (c *cli) loginFor(args []string) (login, error) {
	store, err := c.readable()
	if err != nil {
		return login{}, err
	}
	logins, _ := loginsOf(store.Snapshot())
	if len(args) == 1 {
		address := args[0]
		if !strings.Contains(address, "://") {
			address = "http://" + address
		}
		up, err := parseUpstream(address)
		if err != nil {
			return login{}, err
		}
		logins = slices.DeleteFunc(logins, func(l login) bool { return l.upstream != up.URL })
	}
	switch len(logins) {
	case 0:
		return login{}, failf(exitFailed, `Add one to the settings: upstream_auth = ["http://proxy.corp.example:8080 basic alice"]`, "No upstream has such a line in upstream_auth.")
	case 1:
		return logins[0], nil
	}
	return login{}, failf(exitUsage, "Name one: kerbpass password set "+logins[0].upstream, "Several upstreams have a line in upstream_auth.")
}

func (c *cli) setLoginPassword(ctx context.Context, l login, stdin bool) error {
	if err := keyring.Harden(); err != nil {
		return failf(exitFailed, "Try again from another terminal.", "The password cannot be kept out of core dumps: %v.", err)
	}
	var b []byte
	if stdin {
		var err error
		if b, err = newLineReader(c.in).ask(ctx); err != nil {
			return failf(exitFailed, "Give the password as one line.", "Standard input cannot be read: %v.", err)
		}
	} else {
		term, err := openTerminal(c.in)
		if err != nil {
			return failf(exitUsage, "Give the password with --password-stdin.", "There is no terminal to ask for the password: %v.", err)
		}
		if b, err = term.ask(ctx, c.err, "Password of "+printable(l.user)+" at "+l.upstream, true); err != nil {
			return failf(exitFailed, "", "Given up; nothing was changed.")
		}
	}
	secret := ticket.NewSecret(b)
	defer secret.Wipe()
	if len(b) == 0 || slices.Contains(b, 0) {
		return failf(exitFailed, "Type it again.", "The password is empty, or holds a zero byte.")
	}
	k, err := newKeyring()
	if err == nil {
		err = k.SetLogin(ctx, l.keyringName(), secret)
	}
	if err != nil {
		return keyringError(err)
	}
	fmt.Fprintf(c.out, "In the keyring now: %s\n", printable(l.String()))
	if l.inClear() {
		text, hint, _ := proxy.CausePasswordInClear.Explain()
		fmt.Fprintf(c.err, "%s\n%s\n", text, hint)
	}
	return c.tellPasswords(ctx)
}

// tellPasswords lets a running helper try again.
func (c *cli) tellPasswords(ctx context.Context) error {
	err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error {
		return cl.Post(ctx, "/v1/passwords", struct{}{}, nil)
	})
	if errors.Is(err, control.ErrNotRunning) {
		return nil
	}
	return err
}
