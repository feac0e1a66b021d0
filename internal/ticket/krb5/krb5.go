// Package krb5 speaks Kerberos in pure Go, for systems without a Kerberos
// library. It reads ticket caches of type FILE and DIR, asks the KDC for
// service tickets and keeps those in memory. It writes to a cache only to sign
// in (with a password or a keytab), to renew and to sign out, and then puts a
// whole new file in the place of the old one, which MIT's and Heimdal's
// programs read as their own.
//
// A cache or keytab is checked byte by byte before the Kerberos library sees
// any of it; replies of a KDC are bounded and checked. A password goes to one
// KDC once. The package refuses what it cannot do: KEYRING, KCM, MSLSA and API
// caches, KDCs behind HTTPS, FAST armour, smart cards and one-time passwords.
package krb5

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/types"

	"kerbpass/internal/ticket"
)

var _ ticket.Backend = (*Backend)(nil)

const (
	clockSkew   = 5 * time.Minute
	nearlyOver  = 10 * time.Second // a service ticket this close to its end is not used
	maxServices = 256              // service tickets kept in memory
)

// Config says where tickets and settings lie. The zero value is usable.
type Config struct {
	Cache      string              // ticket cache name; "" means KRB5CCNAME, else krb5.conf, else the system's default
	ConfigPath string              // krb5.conf; "" means KRB5_CONFIG, else the system's place; may be a list
	Service    string              // the SPN that tickets are for: its realm decides between the caches of a collection
	Keytab     string              // file with the key to sign in with; "" means that the person knows a password
	Getenv     func(string) string // nil: nothing is set
	Log        *slog.Logger        // nil discards
}

// Backend is a [ticket.Backend] named krb5. It starts no goroutine that
// outlives a call, and every call ends with its context.
type Backend struct {
	cache   string // a cache name, or "": krb5.conf decides
	config  string
	service spn // zero: not known
	keytab  string
	log     *slog.Logger

	view    atomic.Pointer[view] // nil: not read, or changed a moment ago
	writing sync.Mutex           // held from looking at what a cache file holds to replacing it

	mu   sync.Mutex // guards what follows; not held while a KDC is asked
	conf confFile
	last *state // what the cache held when last read; nil: not read
}

// A confFile is krb5.conf as last read.
type confFile struct {
	files  []string // with what they include, missing ones too
	readAt string   // their stamp before they were read
	conf   conf
	err    error
}

// A state is the content of the cache in use at one time.
type state struct {
	name  string // full name of the cache
	path  string
	stamp string // of all that decides which cache it is
	conf  conf
	file  *cacheFile
	tgtAt *cred
	tgt   *pass

	mu       sync.Mutex          // guards services and the pass in each
	services map[string]*service // by SPN as given
}

// A view is a state with the files that decided about it, as they looked just
// before they were read. While they look the same, nobody has to read, or
// describe, them again.
type view struct {
	files *ticket.Glance
	stamp string // Backend.Stamp
	state *state
}

// same reports whether v, nil for none, still holds.
func (v *view) same() bool { return v != nil && v.files.Same() }

// A service is what is known of one service principal.
type service struct {
	asking chan struct{} // holds one value while the KDC is asked
	pass   *pass         // nil: not fetched yet
}

// New checks cfg. It does no I/O: a cache that does not exist yet is fine. A
// cache type that needs the system's library is an error that wraps
// [errors.ErrUnsupported].
func New(cfg Config) (*Backend, error) {
	env := cfg.Getenv
	if env == nil {
		env = func(string) string { return "" }
	}
	b := &Backend{
		cache:  cmp.Or(cfg.Cache, env("KRB5CCNAME")),
		config: cmp.Or(cfg.ConfigPath, env("KRB5_CONFIG"), defaultConfig),
		keytab: cfg.Keytab,
		log:    cfg.Log,
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.cache != "" {
		if _, err := parseName(b.cache); err != nil {
			return nil, &ticket.OpError{Op: "open", Subject: b.cache, Err: err}
		}
	}
	if cfg.Service != "" {
		var err error
		if b.service, err = parseSPN(cfg.Service); err != nil {
			return nil, &ticket.OpError{Op: "open", Err: err}
		}
	}
	return b, nil
}

// Name implements [ticket.Backend].
func (*Backend) Name() string { return "krb5" }

// settings returns krb5.conf, read again when one of its files has changed.
// The caller holds b.mu.
func (b *Backend) settings() (conf, error) {
	if b.conf.files == nil || b.conf.stamp() != b.conf.readAt {
		root, files, readAt, err := loadProfile(b.config)
		b.conf = confFile{files: files, readAt: readAt, conf: conf{root}, err: err}
		b.last = nil
	}
	return b.conf.conf, b.conf.err
}

// stamp is the fingerprint of all files now.
func (c *confFile) stamp() string {
	var s strings.Builder
	for _, f := range c.files {
		s.WriteString(stampFile(f) + ";")
	}
	return s.String()
}

// locate finds the configured cache or collection. The caller holds b.mu.
func (b *Backend) locate() (l location, c conf, err error) {
	if c, err = b.settings(); err != nil {
		return l, c, err
	}
	name := b.cache
	if name == "" {
		if name, err = c.cacheName(); err != nil {
			return l, c, err
		}
		name = cmp.Or(name, defaultCache())
	}
	if name == "" {
		return l, c, fmt.Errorf("no ticket cache is named; set KRB5CCNAME=FILE:path: %w", errors.ErrUnsupported)
	}
	l, err = parseName(name)
	return l, c, err
}

// load returns what the cache in use holds now, reading it only if a stamp has
// changed. The name is set whenever it is known, error or not.
func (b *Backend) load(ctx context.Context) (s *state, name string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, b.cache, err
	}
	if v := b.view.Load(); v.same() && v.state.usable() == nil {
		return v.state, v.state.name, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l, c, err := b.locate()
	if err != nil {
		return nil, b.cache, err
	}
	b.view.Store(nil)
	files := ticket.GlanceAt(append(l.paths(), b.conf.files...))
	stamp, known := l.stamp(), b.conf.stamp() == b.conf.readAt
	defer func() {
		if files != nil && known && err == nil {
			b.view.Store(&view{files, b.conf.readAt + "|" + stamp, s})
		}
	}()
	if b.last != nil && b.last.stamp == stamp && (l.dir == "" || b.last.usable() == nil) {
		return b.last, b.last.name, nil
	}
	b.last = nil
	found, err := b.survey(l, c)
	if err != nil {
		return nil, b.cache, err
	}
	used := found.used()
	name = l.full(used.path)
	if used.err != nil {
		return nil, name, used.err
	}
	s = &state{name: name, path: used.path, stamp: stamp, conf: c, file: used.file, services: map[string]*service{}}
	if s.tgtAt = used.file.tgt(); s.tgtAt != nil {
		if s.tgt, err = newPass(s.tgtAt); err != nil {
			return nil, name, err
		}
	}
	b.log.Debug("ticket cache read", "cache", name, "tickets", len(used.file.creds))
	b.last = s
	return s, name, nil
}

// readCache reads and checks a cache file. No file and an empty one are
// ErrNoTicket, anything unreadable is ErrCache.
func readCache(file string, c conf) (*cacheFile, error) {
	raw, err := readFile(file, maxCacheSize, owned)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s does not exist", ticket.ErrNoTicket, file)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ticket.ErrCache, err)
	}
	parsed, err := parseCache(raw)
	if errors.Is(err, errEmpty) {
		return nil, fmt.Errorf("%w: %s is empty", ticket.ErrNoTicket, file)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ticket.ErrCache, file, err)
	}
	if !c.timesync() {
		parsed.offset = 0
	}
	return parsed, nil
}

// tgt picks the TGT for the client's own realm that lasts longest.
func (c *cacheFile) tgt() *cred {
	var best *cred
	for i := range c.creds {
		e := &c.creds[i]
		if e.isTGT(c.client) && (best == nil || e.end.After(best.end)) {
			best = e
		}
	}
	return best
}

func (e *cred) isTGT(client principal) bool {
	return e.client.String() == client.String() && e.server.String() == "krbtgt/"+client.realm+"@"+client.realm
}

// now is the KDC's time as far as the cache tells it.
func (s *state) now() time.Time { return time.Now().Add(s.file.offset) }

// next is now as a time stamp that was not handed out before.
func (s *state) next() time.Time { return ticket.NextStamp().Add(s.file.offset).UTC() }

// local turns the KDC's time into this machine's.
func (c *cacheFile) local(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.Add(-c.offset).UTC()
}

// Status implements [ticket.Backend].
func (b *Backend) Status(ctx context.Context) (ticket.Status, error) {
	s, name, err := b.load(ctx)
	if err != nil {
		return ticket.Status{Cache: name}, &ticket.OpError{Op: "status", Subject: name, Err: err}
	}
	st := ticket.Status{Cache: name, Principal: s.file.client.String(), Realm: s.file.client.realm}
	if err := s.present(); err != nil {
		return st, &ticket.OpError{Op: "status", Subject: name, Err: err}
	}
	t := s.file.describeTicket(s.tgtAt)
	st.Start, st.Expires, st.RenewUntil = t.Start, t.Expires, t.RenewUntil
	st.Renewable = !t.RenewUntil.IsZero()
	return st, nil
}

// Token implements [ticket.Backend].
func (b *Backend) Token(ctx context.Context, spn string) ([]byte, error) {
	token, err := b.token(ctx, spn)
	if err != nil {
		return nil, &ticket.OpError{Op: "token", Subject: spn, Err: err}
	}
	return token, nil
}

func (b *Backend) token(ctx context.Context, spn string) ([]byte, error) {
	name, err := parseSPN(spn)
	if err != nil {
		return nil, err
	}
	s, _, err := b.load(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.usable(); err != nil {
		return nil, err
	}
	p, err := s.service(ctx, spn, name)
	if err != nil {
		return nil, err
	}
	return p.token(s.file.offset)
}

// Ready implements [ticket.Readier].
func (b *Backend) Ready(spn string) []byte {
	v := b.view.Load()
	if !v.same() || v.state.usable() != nil {
		return nil
	}
	s := v.state
	s.mu.Lock()
	var p *pass
	if e := s.services[spn]; e != nil {
		p = e.pass
	}
	s.mu.Unlock()
	if !p.fresh(s.now()) {
		return nil
	}
	token, _ := p.token(s.file.offset) // an error is told by Token
	return token
}

// present reports that there is no TGT to speak of.
func (s *state) present() error {
	switch {
	case s.tgtAt == nil:
		return fmt.Errorf("%w: no TGT in %s", ticket.ErrNoTicket, s.name)
	case strings.EqualFold(s.file.client.realm, ticket.CloudRealm):
		return fmt.Errorf("%w: %s holds one of Microsoft's cloud only", ticket.ErrNoTicket, s.name)
	}
	return nil
}

// usable reports what is wrong with the TGT.
func (s *state) usable() error {
	if err := s.present(); err != nil {
		return err
	}
	switch now := s.now(); {
	case !s.tgtAt.end.After(now):
		return fmt.Errorf("%w at %s", ticket.ErrExpired, s.file.local(s.tgtAt.end).Format(time.RFC3339))
	case s.tgtAt.start.After(now.Add(clockSkew)):
		return fmt.Errorf("%w: the ticket is valid from %s on", ticket.ErrClockSkew, s.file.local(s.tgtAt.start).Format(time.RFC3339))
	case s.tgtAt.flags&ticket.FlagInvalid != 0:
		return fmt.Errorf("%w: the TGT in %s is postdated and not validated", ticket.ErrNoTicket, s.name)
	}
	return nil
}

// service returns a ticket for name, remembered as it was given: from memory,
// from the cache, or from the KDC. The KDC gets one question per name at a time;
// who comes meanwhile waits for the answer, as long as its context allows.
func (s *state) service(ctx context.Context, as string, name spn) (*pass, error) {
	e, p := s.known(as)
	if p.fresh(s.now()) {
		return p, nil
	}
	select {
	case e.asking <- struct{}{}:
		defer func() { <-e.asking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", ticket.ErrKDCUnreachable, ctx.Err())
	}
	s.mu.Lock()
	p = e.pass
	s.mu.Unlock()
	if p.fresh(s.now()) {
		return p, nil
	}
	realm := name.realmBy(s.conf)
	if p = s.cached(name, realm); p == nil {
		var err error
		if p, err = s.fetch(ctx, name.wire(), realm); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	e.pass = p
	s.mu.Unlock()
	return p, nil
}

// known returns the entry for spn, new if need be, and the ticket in it.
func (s *state) known(spn string) (*service, *pass) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.services[spn]
	if e == nil {
		if len(s.services) >= maxServices {
			clear(s.services)
		}
		e = &service{asking: make(chan struct{}, 1)}
		s.services[spn] = e
	}
	return e, e.pass
}

func (p *pass) fresh(now time.Time) bool {
	return p != nil && p.end.After(now.Add(nearlyOver)) && !p.start.After(now.Add(clockSkew))
}

// cached finds a usable service ticket in the cache. An entry that the library
// cannot read is passed over: the KDC has a better one.
func (s *state) cached(name spn, realm string) *pass {
	for i := range s.file.creds {
		e := &s.file.creds[i]
		if !slices.Equal(e.server.parts, []string{name.service, name.host}) || realm != "" && e.server.realm != realm ||
			e.client.String() != s.file.client.String() || e.flags&ticket.FlagInvalid != 0 {
			continue
		}
		if p, err := newPass(e); err == nil && p.fresh(s.now()) {
			return p
		}
	}
	return nil
}

// An spn is the name of a service principal.
type spn struct{ service, host, realm string } // realm "": not given

// parseSPN takes "HTTP/host" or "HTTP/host@REALM" apart.
func parseSPN(s string) (spn, error) {
	name, realm, given := strings.Cut(s, "@")
	service, host, _ := strings.Cut(name, "/")
	bad := service == "" || host == "" || given && realm == "" || len(s) > 1024 ||
		strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r == '\\' }) ||
		strings.ContainsAny(host, "/") || strings.Contains(realm, "@") || service == "krbtgt"
	if bad {
		return spn{}, fmt.Errorf("service principal %q is not of the form HTTP/host or HTTP/host@REALM", s)
	}
	return spn{service, host, realm}, nil
}

func (n spn) wire() types.PrincipalName {
	return types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{n.service, n.host}}
}

// realmBy is the service's realm as given or as krb5.conf maps the host, ""
// where the KDC should know.
func (n spn) realmBy(c conf) string { return cmp.Or(n.realm, c.realmOf(n.host)) }

// Stamp implements [ticket.Backend].
func (b *Backend) Stamp() string {
	if v := b.view.Load(); v.same() {
		return v.stamp
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l, _, err := b.locate()
	if err != nil {
		return "error " + err.Error()
	}
	return b.conf.readAt + "|" + l.stamp()
}
