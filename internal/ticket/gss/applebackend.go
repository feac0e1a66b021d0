//go:build (linux || darwin) && !nogss

package gss

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"kerbpass/internal/ticket"
)

// appleCollection stands for the caches of macOS where none has a name: they
// live in a daemon.
const appleCollection = "API:"

// How long the tools' answer is trusted while the credentials stay the same.
// Without a credential there is nothing to compare, so it is asked more often.
const (
	trustTools      = 30 * time.Second
	trustToolsBlind = 2 * time.Second
)

// codeNotPermitted is EPERM: Heimdal refuses a file that is just being linked
// into its place.
const codeNotPermitted = 1

// appleRetryAfter is how long another program takes to replace tickets.
const appleRetryAfter = 50 * time.Millisecond

// rounding is how far two clocks may differ because they count seconds.
const rounding = 2 * time.Second

// apple is the backend on GSS.framework. Who is signed in, until when, and
// tokens come from the library; names of caches, flags and the rest from
// tools, which are too slow to be asked every second.
type apple struct {
	lib   *appleLibrary
	tools Tools  // nil: none
	cache string // as configured
	realm string // of the service, "" unknown
	log   *slog.Logger

	mu     sync.Mutex     // guards what follows
	listed []ticket.Cache // what the tools said
	print  string         // the credentials then
	asked  time.Time
}

func newApple(c Config, path string) (*apple, error) {
	if strings.ContainsRune(c.Cache, 0) {
		return nil, openError("", errors.New("the cache name contains a NUL byte"))
	}
	lib, err := openApple(path)
	if err != nil {
		return nil, openError(path, fmt.Errorf("%w: %w", errors.ErrUnsupported, err))
	}
	a := &apple{lib: lib, tools: c.Tools, cache: c.Cache, realm: realmAfter(c.Service), log: c.Log}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.log.Debug("kerberos library opened", "backend", a.Name(), "path", path, "lists", lib.iterCreds != nil)
	return a, nil
}

// Name implements [ticket.Backend].
func (a *apple) Name() string { return "gss-apple" }

// A reading is all caches and the one in use, or -1.
type appleReading struct {
	caches []ticket.Cache
	used   int
	creds  []credential // open
}

// in returns the cache in use.
func (r appleReading) in() (ticket.Cache, error) {
	if r.used < 0 {
		return ticket.Cache{}, ticket.ErrNoTicket
	}
	return r.caches[r.used], nil
}

// read asks library and tools, the latter only if need be or if fresh is set,
// and lends f the result.
func (a *apple) read(ctx context.Context, realm string, fresh bool, f func(appleReading) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	creds, err := a.lib.credentials(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		a.log.Debug("no credential", "err", err) // the tools tell why
	}
	defer a.lib.release(creds)
	listed, err := a.list(ctx, creds, fresh)
	if err != nil && len(creds) == 0 {
		return err
	}
	r := appleReading{caches: join(listed, creds), creds: creds}
	r.used = a.choose(r.caches, realm)
	if r.used >= 0 {
		r.caches[r.used].Used = true
	}
	return f(r)
}

// list returns what the tools say, perhaps a while ago.
func (a *apple) list(ctx context.Context, creds []credential, fresh bool) ([]ticket.Cache, error) {
	if a.tools == nil {
		return nil, nil
	}
	var print strings.Builder
	for _, c := range creds {
		fmt.Fprintln(&print, c.principal, c.expires.Unix())
	}
	trust := trustTools
	if len(creds) == 0 {
		trust = trustToolsBlind
	}
	if !fresh {
		if list, ok := a.remembered(print.String(), trust); ok {
			return list, nil
		}
	}

	asked := time.Now()
	list, err := a.tools.List(ctx)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.listed, a.print, a.asked = list, print.String(), asked
	return slices.Clone(list), nil
}

// remembered returns the tools' last answer if it is still good.
func (a *apple) remembered(print string, trust time.Duration) ([]ticket.Cache, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked.IsZero() || a.print != print || time.Since(a.asked) >= trust {
		return nil, false
	}
	for _, c := range a.listed {
		// A ticket that was new then may have been replaced within its second.
		if t, ok := ownTGT(c); ok && a.asked.Sub(t.Start).Abs() < rounding {
			return nil, false
		}
	}
	return slices.Clone(a.listed), true
}

// forget makes the next reading ask the tools.
func (a *apple) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = time.Time{}
}

// join corrects caches, which the tools have seen, by the credentials of the
// library, which knows the offset of the KDC's clock. A principal that the
// tools do not know has a cache without a proper name.
func join(caches []ticket.Cache, creds []credential) []ticket.Cache {
	for _, c := range creds {
		if c.expires.IsZero() {
			continue
		}
		i := slices.IndexFunc(caches, func(k ticket.Cache) bool { return k.Principal == c.principal && !k.Expires.IsZero() })
		if i < 0 {
			caches = append(caches, ticket.Cache{
				Name: appleCollection + c.principal, Principal: c.principal, Realm: realmAfter(c.principal),
				Default: len(caches) == 0, Expires: c.expires,
			})
		} else if caches[i].Expires.Sub(c.expires).Abs() > rounding {
			caches[i].Expires = c.expires
		}
	}
	return caches
}

// choose returns the index of the configured cache, or of the best for realm.
func (a *apple) choose(caches []ticket.Cache, realm string) int {
	if a.cache == "" {
		return ticket.Choose(caches, realm, time.Now())
	}
	return slices.IndexFunc(caches, func(c ticket.Cache) bool { return c.Name == a.cache && !c.Expires.IsZero() })
}

// where is the best name for the place without tickets.
func (a *apple) where(caches []ticket.Cache) string {
	if a.cache != "" {
		return a.cache
	}
	for _, c := range caches {
		if c.Default {
			return c.Name
		}
	}
	return appleCollection
}

// Status implements [ticket.Backend].
func (a *apple) Status(ctx context.Context) (st ticket.Status, err error) {
	st.Cache = a.where(nil)
	err = a.read(ctx, a.realm, false, func(r appleReading) error {
		st.Cache = a.where(r.caches)
		c, err := r.in()
		if err == nil {
			st = statusOf(c)
		}
		return err
	})
	if err != nil {
		return st, &ticket.OpError{Op: "status", Subject: st.Cache, Err: err}
	}
	return st, nil
}

// statusOf describes the TGT for the realm of c's principal.
func statusOf(c ticket.Cache) ticket.Status {
	st := ticket.Status{Principal: c.Principal, Realm: c.Realm, Cache: c.Name, Expires: c.Expires}
	if t, ok := ownTGT(c); ok {
		st.Start, st.RenewUntil = t.Start, t.RenewUntil
		st.Renewable = t.Flags&ticket.FlagRenewable != 0
	}
	return st
}

// ownTGT finds the one that lasts longest; a renewed one may lie beside the
// old.
func ownTGT(c ticket.Cache) (tgt ticket.Ticket, ok bool) {
	for _, t := range c.TGTs {
		if t.Server == "krbtgt/"+c.Realm+"@"+c.Realm && !t.Expires.Before(tgt.Expires) {
			tgt, ok = t, true
		}
	}
	return tgt, ok
}

// Caches implements [ticket.Backend].
func (a *apple) Caches(ctx context.Context) (list []ticket.Cache, err error) {
	err = a.read(ctx, a.realm, true, func(r appleReading) error {
		list = r.caches
		return nil
	})
	if err != nil {
		return nil, &ticket.OpError{Op: "caches", Subject: a.where(nil), Err: err}
	}
	return list, nil
}

// Token implements [ticket.Backend]. A name without a realm is a host-based
// one, whose realm the library finds.
func (a *apple) Token(ctx context.Context, spn string) ([]byte, error) {
	token, err := a.try(ctx, spn)
	if errors.Is(err, ticket.ErrCache) || errors.Is(err, ticket.ErrNoTicket) {
		// Another program may be replacing the tickets.
		a.forget()
		select {
		case <-ctx.Done():
		case <-time.After(appleRetryAfter):
			token, err = a.try(ctx, spn)
		}
	}
	if err != nil {
		return nil, &ticket.OpError{Op: "token", Subject: spn, Err: err}
	}
	return token, nil
}

func (a *apple) try(ctx context.Context, spn string) (token []byte, err error) {
	if err := checkSPN(spn); err != nil {
		return nil, err
	}
	realm := realmAfter(spn)
	if realm == "" {
		realm = a.realm
	}
	err = a.read(ctx, realm, false, func(r appleReading) error {
		token, err = a.token(r, spn)
		return err
	})
	return token, err
}

func (a *apple) token(r appleReading, spn string) ([]byte, error) {
	c, err := r.in()
	if err != nil {
		return nil, err
	}
	if !c.Expires.After(time.Now()) {
		return nil, fmt.Errorf("%w: %s", ticket.ErrExpired, c.Name)
	}
	i := slices.IndexFunc(r.creds, func(k credential) bool { return k.principal == c.Principal })
	if i < 0 {
		return nil, fmt.Errorf("%w: the library does not hand out the one of %s in %s", ticket.ErrCache, c.Principal, c.Name)
	}
	name, nameType := spn, a.lib.ntPrincipal
	if service, host, ok := strings.Cut(spn, "/"); ok && realmAfter(spn) == "" {
		name, nameType = service+"@"+host, a.lib.ntHostbased
	}
	token, err := a.lib.token(name, nameType, func(cred *handle) error {
		*cred, r.creds[i].cred = r.creds[i].cred, nil // token releases it
		return nil
	})
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == nil && (aboutCache(e.Minor) || e.Minor == codeNotPermitted) {
		e.Kind = ticket.ErrCache // it was there a moment ago
	}
	return token, err
}

// Stamp implements [ticket.Backend]: the daemon has none.
func (a *apple) Stamp() string { return "" }

// Watch implements [ticket.Backend].
func (a *apple) Watch(context.Context, func()) error { return errors.ErrUnsupported }

// Renew implements [ticket.Backend].
func (a *apple) Renew(ctx context.Context, services ...string) error {
	name := a.where(nil)
	err := a.use(ctx, func(c ticket.Cache) error {
		name = c.Name
		switch t, ok := ownTGT(c); {
		case !c.Expires.After(time.Now()):
			return ticket.ErrExpired
		case ok && t.Flags != 0 && (t.Flags&ticket.FlagRenewable == 0 || !t.RenewUntil.After(time.Now())):
			return ticket.ErrNotRenewable
		}
		return a.tools.Renew(ctx, c.Name)
	})
	if err != nil {
		return &ticket.OpError{Op: "renew", Subject: name, Err: err}
	}
	for _, spn := range services {
		if _, err := a.Token(ctx, spn); err != nil {
			a.log.Debug("no service ticket after renewal", "service", spn, "err", err)
		}
	}
	return nil
}

// use lends f the cache in use, if there are tools to do something with it.
func (a *apple) use(ctx context.Context, f func(ticket.Cache) error) error {
	if a.tools == nil {
		return errors.ErrUnsupported
	}
	defer a.forget()
	return a.read(ctx, a.realm, true, func(r appleReading) error {
		c, err := r.in()
		if err != nil {
			return err
		}
		return f(c)
	})
}

// SignIn implements [ticket.Backend].
func (a *apple) SignIn(ctx context.Context, l ticket.Login) error {
	if a.tools == nil {
		return &ticket.OpError{Op: "sign in", Subject: l.Principal, Err: errors.ErrUnsupported}
	}
	if l.Principal == "" {
		if st, err := a.Status(ctx); err == nil {
			l.Principal = st.Principal
		}
	}
	defer a.forget()
	if err := a.tools.SignIn(ctx, a.cache, l); err != nil {
		return &ticket.OpError{Op: "sign in", Subject: l.Principal, Err: err}
	}
	return nil
}

// SignOut implements [ticket.Backend].
func (a *apple) SignOut(ctx context.Context) error {
	name := a.where(nil)
	err := a.use(ctx, func(c ticket.Cache) error {
		name = c.Name
		return a.tools.SignOut(ctx, c.Name)
	})
	if err != nil {
		return &ticket.OpError{Op: "sign out", Subject: name, Err: err}
	}
	return nil
}

// realmAfter returns what follows the last unescaped "@" of a name, or "".
func realmAfter(name string) string {
	for i := len(name) - 1; i > 0; i-- {
		if name[i] == '@' && name[i-1] != '\\' {
			return name[i+1:]
		}
	}
	return ""
}
