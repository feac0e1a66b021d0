package tickettest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"kerbpass/internal/ticket"
)

// A FakeRealm is a KDC, a collection of caches and an acceptor, all in memory.
// Its [FakeRealm.Backend] passes [TestBackend]. Times are the clock's, so it
// works in a synctest bubble. All methods are safe for concurrent use.
type FakeRealm struct {
	name string

	mu       sync.Mutex // guards what follows
	accounts map[string]*FakeAccount
	services map[string]bool
	mood     mood
	attempts int
	requests int

	caches  []*fakeCache
	primary *fakeCache // nil: no default
	version int        // counts changes of caches
	changed chan struct{}
	moved   chan struct{} // closed when mood changes

	made   int               // tokens, ever
	tokens map[string]string // not yet accepted, with their principals
}

// A FakeAccount is somebody the realm knows. Zero times are those of a usual
// KDC: ten hours, renewable for a week.
type FakeAccount struct {
	Password  string
	Locked    bool
	Expired   bool // the password has
	Life      time.Duration
	Renewable time.Duration // negative: not at all
}

type mood int

const (
	answering mood = iota
	down
	silent
)

type fakeCache struct {
	name, principal string
	tgt             ticket.Ticket
	services        []ticket.Ticket
	damaged         bool
}

// NewFakeRealm makes a realm that knows nobody, whose KDC answers.
func NewFakeRealm(name string) *FakeRealm {
	return &FakeRealm{
		name: name, accounts: map[string]*FakeAccount{}, services: map[string]bool{},
		tokens: map[string]string{}, changed: make(chan struct{}), moved: make(chan struct{}),
	}
}

// AddAccount makes principal, or makes it anew.
func (r *FakeRealm) AddAccount(principal string, a FakeAccount) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.accounts[principal] = &a
}

// AddService makes service principals, "HTTP/host".
func (r *FakeRealm) AddService(spn ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range spn {
		r.services[s] = true
	}
}

// Up has the KDC answer, as it does at first.
func (r *FakeRealm) Up() { r.setMood(answering) }

// Down closes the KDC's port.
func (r *FakeRealm) Down() { r.setMood(down) }

// Hang leaves the port open and answers nothing until Up.
func (r *FakeRealm) Hang() { r.setMood(silent) }

func (r *FakeRealm) setMood(m mood) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mood = m
	close(r.moved)
	r.moved = make(chan struct{})
}

// Attempts is the number of wrong passwords that the KDC has seen.
func (r *FakeRealm) Attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts
}

// Requests is the number of requests that the KDC has answered.
func (r *FakeRealm) Requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.requests
}

// Accept is the acceptor: it takes each token once.
func (r *FakeRealm) Accept(token []byte) (principal string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	principal, ok := r.tokens[string(token)]
	if !ok {
		return "", errors.New("not a token of this realm, or one seen before")
	}
	delete(r.tokens, string(token))
	return principal, nil
}

// Put is another program's kinit: it puts a ticket of principal, of any realm,
// into its cache, which becomes the default. It asks no KDC.
func (r *FakeRealm) Put(principal string, life, renewable time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store(principal, life, renewable)
}

// Clear is another program's kdestroy of all caches.
func (r *FakeRealm) Clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.caches, r.primary = nil, nil
	r.touch()
}

// Switch is another program's kswitch to principal's cache.
func (r *FakeRealm) Switch(principal string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.primary = r.cacheOf(principal)
	r.touch()
}

// Damage makes the default cache unreadable.
func (r *FakeRealm) Damage() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.primary != nil {
		r.primary.damaged = true
	}
	r.touch()
}

// Backend makes a backend on the realm's caches. Its funcs may be replaced
// before it is used.
func (r *FakeRealm) Backend() *Fake {
	return &Fake{
		StatusFunc:  r.status,
		CachesFunc:  r.list,
		TokenFunc:   r.token,
		StampFunc:   r.stamp,
		WatchFunc:   r.watch,
		RenewFunc:   r.renew,
		SignInFunc:  r.signIn,
		SignOutFunc: r.signOut,
	}
}

// touch tells that the caches have changed. The caller holds r.mu, as it does
// for every function below that says nothing else.
func (r *FakeRealm) touch() {
	r.version++
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *FakeRealm) cacheOf(principal string) *fakeCache {
	for _, c := range r.caches {
		if c.principal == principal {
			return c
		}
	}
	return nil
}

func realmOf(principal string) string {
	_, realm, _ := strings.Cut(principal, "@")
	return realm
}

// store replaces principal's cache by one with a new TGT.
func (r *FakeRealm) store(principal string, life, renewable time.Duration) {
	c := r.cacheOf(principal)
	if c == nil {
		c = &fakeCache{name: "FAKE:" + principal, principal: principal}
		r.caches = append(r.caches, c)
	}
	now, realm := time.Now().UTC().Truncate(time.Second), realmOf(principal)
	c.damaged, c.services = false, nil
	c.tgt = ticket.Ticket{
		Server: "krbtgt/" + realm + "@" + realm, Start: now, Expires: now.Add(life),
		Flags: ticket.FlagInitial | ticket.FlagForwardable, EncType: 18,
	}
	if renewable > life {
		c.tgt.Flags |= ticket.FlagRenewable
		c.tgt.RenewUntil = now.Add(renewable)
	}
	r.primary = c
	r.touch()
}

// model describes the caches and returns the one in use, nil for none.
func (r *FakeRealm) model() (list []ticket.Cache, used *fakeCache) {
	for _, c := range r.caches {
		m := ticket.Cache{Name: c.name, Default: c == r.primary}
		if c.damaged {
			m.Err = ticket.ErrCache
		} else {
			m.Principal, m.Realm, m.Expires = c.principal, realmOf(c.principal), c.tgt.Expires
			m.TGTs, m.Services = []ticket.Ticket{c.tgt}, slices.Clone(c.services)
		}
		list = append(list, m)
	}
	if i := ticket.Choose(list, r.name, time.Now()); i >= 0 {
		list[i].Used = true
		used = r.caches[i]
	}
	return list, used
}

// inUse returns the cache in use, or why there is none.
func (r *FakeRealm) inUse() (*fakeCache, error) {
	list, used := r.model()
	switch {
	case used != nil:
		return used, nil
	case slices.ContainsFunc(list, func(c ticket.Cache) bool { return c.Err != nil }):
		return nil, fmt.Errorf("%w: it is damaged", ticket.ErrCache)
	}
	return nil, ticket.ErrNoTicket
}

// ask is one exchange with the KDC. The caller does not hold r.mu.
func (r *FakeRealm) ask(ctx context.Context) error {
	for {
		r.mu.Lock()
		mood, moved := r.mood, r.moved
		if mood == answering {
			r.requests++
		}
		r.mu.Unlock()
		switch mood {
		case answering:
			return nil
		case down:
			return ticket.ErrKDCUnreachable
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ticket.ErrKDCUnreachable, context.Cause(ctx))
		}
	}
}

// The methods of the backend follow. They do not hold r.mu when called.

func (r *FakeRealm) status(ctx context.Context) (ticket.Status, error) {
	if err := ctx.Err(); err != nil {
		return ticket.Status{}, &ticket.OpError{Op: "status", Err: err}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.inUse()
	if err != nil {
		return ticket.Status{Cache: "FAKE:"}, &ticket.OpError{Op: "status", Subject: "FAKE:", Err: err}
	}
	return ticket.Status{
		Principal: c.principal, Realm: realmOf(c.principal), Cache: c.name,
		Start: c.tgt.Start, Expires: c.tgt.Expires,
		RenewUntil: c.tgt.RenewUntil, Renewable: c.tgt.Flags&ticket.FlagRenewable != 0,
	}, nil
}

func (r *FakeRealm) list(ctx context.Context) ([]ticket.Cache, error) {
	if err := ctx.Err(); err != nil {
		return nil, &ticket.OpError{Op: "caches", Err: err}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	list, _ := r.model()
	return list, nil
}

func (r *FakeRealm) stamp() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strconv.Itoa(r.version)
}

func (r *FakeRealm) token(ctx context.Context, spn string) ([]byte, error) {
	c, tgt, err := r.valid(ctx)
	if err == nil {
		err = r.fetch(ctx, c, tgt, spn)
	}
	if err != nil {
		return nil, &ticket.OpError{Op: "token", Subject: spn, Err: err}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.made++
	token := fmt.Sprintf("token %d of %s for %s", r.made, c.principal, spn)
	r.tokens[token] = c.principal
	return []byte(token), nil
}

// valid returns the cache in use and its TGT, or why it makes no tokens.
func (r *FakeRealm) valid(ctx context.Context) (*fakeCache, ticket.Ticket, error) {
	if err := ctx.Err(); err != nil {
		return nil, ticket.Ticket{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.inUse()
	if err != nil {
		return nil, ticket.Ticket{}, err
	}
	if !c.tgt.Expires.After(time.Now()) {
		return nil, ticket.Ticket{}, fmt.Errorf("%w: %s", ticket.ErrExpired, c.name)
	}
	return c, c.tgt, nil
}

// fetch gets the ticket for spn unless it lies in c.
func (r *FakeRealm) fetch(ctx context.Context, c *fakeCache, tgt ticket.Ticket, spn string) error {
	name, host, ok := strings.Cut(spn, "/")
	if !ok || name == "" || host == "" || strings.ContainsFunc(spn, func(x rune) bool { return x <= ' ' }) {
		return errors.New("not of the form service/host")
	}
	name, realm, given := strings.Cut(spn, "@")
	if !given {
		realm = r.name
	}
	server := name + "@" + realm
	r.mu.Lock()
	cached := slices.ContainsFunc(c.services, func(s ticket.Ticket) bool { return s.Server == server })
	r.mu.Unlock()
	if cached {
		return nil
	}
	if err := r.ask(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.services[name] || realm != r.name || realmOf(c.principal) != r.name {
		return ticket.ErrSPNUnknown
	}
	if c.tgt == tgt { // else it belongs to a ticket that is gone
		tgt.Server, tgt.Flags = server, tgt.Flags&^ticket.FlagInitial
		c.services = append(c.services, tgt)
		r.touch()
	}
	return nil
}

func (r *FakeRealm) watch(ctx context.Context, changed func()) error {
	r.mu.Lock()
	next := r.changed
	r.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		}
		r.mu.Lock()
		next = r.changed
		r.mu.Unlock()
		changed()
	}
}

func (r *FakeRealm) renew(ctx context.Context, services ...string) error {
	c, tgt, err := r.valid(ctx)
	if err == nil && tgt.Flags&ticket.FlagRenewable == 0 {
		err = ticket.ErrNotRenewable
	}
	if err != nil {
		return &ticket.OpError{Op: "renew", Err: err}
	}
	if err := r.ask(ctx); err != nil {
		return r.refusal("renew", c.name, c.principal, err)
	}
	r.mu.Lock()
	now := time.Now().UTC().Truncate(time.Second)
	c.tgt.Expires = now.Add(tgt.Expires.Sub(tgt.Start))
	if c.tgt.Expires.After(tgt.RenewUntil) {
		c.tgt.Expires = tgt.RenewUntil
	}
	c.tgt.Start, c.services = now, nil
	tgt = c.tgt
	r.touch()
	r.mu.Unlock()
	for _, spn := range services {
		r.fetch(ctx, c, tgt, spn) // one that is not to be had is no error
	}
	return nil
}

// refusal is what came of asking the KDC for a TGT.
func (r *FakeRealm) refusal(op, subject, principal string, err error) error {
	return &ticket.OpError{Op: op, Subject: subject, Err: &ticket.KDCError{Realm: realmOf(principal), KDC: "fake:88", Err: err}}
}

func (r *FakeRealm) signIn(ctx context.Context, l ticket.Login) error {
	principal := l.Principal
	if principal == "" {
		st, err := r.status(ctx)
		if err != nil {
			return err
		}
		principal = st.Principal
	}
	if !strings.Contains(principal, "@") {
		principal += "@" + r.name
	}
	fail := func(err error) error { return r.refusal("sign in", principal, principal, err) }
	if err := r.ask(ctx); err != nil {
		return fail(err)
	}
	r.mu.Lock()
	account := r.accounts[principal]
	r.mu.Unlock()
	switch {
	case account == nil:
		return fail(ticket.ErrPrincipalUnknown)
	case account.Locked:
		return fail(ticket.ErrRevoked)
	}
	answers, err := l.Prompt(ctx, "", []ticket.Prompt{{Kind: ticket.PromptPassword, Text: "Password for " + principal, Hidden: true}})
	defer wipe(answers)
	if err == nil && len(answers) != 1 {
		err = errors.New("not one answer")
	}
	if err != nil {
		return &ticket.OpError{Op: "sign in", Subject: principal, Err: err}
	}
	if err := r.ask(ctx); err != nil {
		return fail(err)
	}
	if !r.check(account, answers[0]) {
		return fail(ticket.ErrPassword)
	}
	if account.Expired {
		if err := r.change(ctx, account, l.Prompt); err != nil {
			return fail(err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.store(principal, orElse(account.Life, 10*time.Hour), orElse(account.Renewable, 7*24*time.Hour))
	return nil
}

func orElse(d, standard time.Duration) time.Duration {
	if d == 0 {
		return standard
	}
	return d
}

func wipe(answers []ticket.Secret) {
	for _, a := range answers {
		a.Wipe()
	}
}

// check counts a wrong password. The caller does not hold r.mu.
func (r *FakeRealm) check(a *FakeAccount, password ticket.Secret) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.Password == string(password.Expose()) {
		return true
	}
	r.attempts++
	return false
}

// change asks for a new password until there is one that will do. The caller
// does not hold r.mu.
func (r *FakeRealm) change(ctx context.Context, a *FakeAccount, prompt ticket.Prompter) error {
	banner := "Password expired. You must change it now."
	for range 3 {
		answers, err := prompt(ctx, banner, []ticket.Prompt{
			{Kind: ticket.PromptNewPassword, Text: "Enter new password", Hidden: true},
			{Kind: ticket.PromptNewAgain, Text: "Enter it again", Hidden: true},
		})
		if err != nil || len(answers) != 2 {
			wipe(answers)
			return errors.Join(ticket.ErrPasswordExpired, err)
		}
		first, again := string(answers[0].Expose()), string(answers[1].Expose())
		wipe(answers)
		switch {
		case first != again:
			banner = "The passwords do not match. Please try again."
		case len(first) < MinPassword:
			banner = "The new password is too short. Please try again."
		default:
			r.mu.Lock()
			defer r.mu.Unlock()
			a.Password, a.Expired = first, false
			return nil
		}
	}
	return ticket.ErrPasswordExpired
}

func (r *FakeRealm) signOut(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, err := r.inUse()
	if errors.Is(err, ticket.ErrCache) {
		c, err = r.primary, nil
	}
	if err != nil || c == nil {
		return &ticket.OpError{Op: "sign out", Err: ticket.ErrNoTicket}
	}
	r.caches = slices.DeleteFunc(r.caches, func(x *fakeCache) bool { return x == c })
	if r.primary == c {
		r.primary = nil
	}
	r.touch()
	return nil
}
