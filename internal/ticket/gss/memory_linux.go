//go:build linux && !nogss

package gss

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"kerbpass/internal/ticket"
)

// copyTrust is how long a copy is used without asking whether its source is
// still the same.
const copyTrust = time.Second

// memoryCopy keeps a copy of a KCM or KEYRING cache in the library's own
// memory, where a token needs 50 µs and a renewal half done is not noticed. The
// KCM daemon needs 6 to 20 ms for one and collapses under concurrent ones.
type memoryCopy struct {
	log     *slog.Logger
	refresh sync.Mutex // held by the one caller that asks the daemon

	mu      sync.Mutex // guards what follows
	current *copied
}

// maxServices bounds copied.services.
const maxServices = 64

// A copied cache lives until it has been replaced and its last user is gone.
type copied struct {
	name      string // MEMORY:…
	source    string
	principal string
	tgt       ticket.Ticket
	services  []string // whose tickets the source was asked to hold before it was copied
	held      int      // how many tickets for services it did hold
	makers    makers

	// guarded by memoryCopy.mu
	users    int
	replaced bool
	checked  time.Time
}

// borrow returns the copy to use for a token for spn, which the caller gives
// back. The ticket for a new service goes into the source first: everybody else
// finds it there, and so does the next copy when no KDC answers.
func (m *memoryCopy) borrow(l *library, source, spn string) (*copied, error) {
	if c := m.use(source, spn, false); c != nil {
		return c, nil
	}
	if !m.refresh.TryLock() {
		// Somebody is asking already. An old copy is good enough meanwhile;
		// without any, wait for what they get.
		if c := m.use(source, spn, true); c != nil {
			return c, nil
		}
		m.refresh.Lock()
	}
	defer m.refresh.Unlock()
	if c := m.use(source, spn, false); c != nil {
		return c, nil
	}

	st, err := l.readCache(source)
	m.mu.Lock()
	old := m.current
	mine := old != nil && old.source == source && slices.Contains(old.services, spn)
	same := mine && err == nil && old.holds(st)
	// A daemon that is being restarted takes no ticket away.
	if same || mine && errors.Is(err, ticket.ErrCache) {
		old.checked = time.Now()
		old.users++
		m.mu.Unlock()
		return old, nil
	}
	m.mu.Unlock()
	if err != nil {
		m.drop(l)
		return nil, err
	}
	return m.renew(l, st, spn)
}

// renew replaces the copy by one of st, for spn and the services of the one
// before. The caller holds m.refresh.
func (m *memoryCopy) renew(l *library, st contents, spn string) (*copied, error) {
	c := &copied{source: st.Name, principal: st.Principal, tgt: st.tgt, users: 1, services: []string{spn}}
	m.mu.Lock()
	if old := m.current; old != nil && old.source == st.Name && old.holds(st) && len(old.services) < maxServices {
		c.services = append(c.services, old.services...)
	}
	m.mu.Unlock()
	err := l.withCache(st.Name, func(ctx, cc handle) error {
		l.prefetch(context.Background(), ctx, cc, []string{spn})
		return nil
	})
	if err == nil {
		c.name, c.held, err = l.copyToMemory(st.Name)
	}
	if err != nil {
		m.drop(l)
		return nil, err
	}
	m.log.Debug("ticket cache copied to memory", "cache", st.Name)
	c.checked = time.Now()
	m.mu.Lock()
	old := m.current
	m.current = c
	m.mu.Unlock()
	m.retire(l, old)
	return c, nil
}

// compare drops the copy when the source, which was read after seen, holds
// another ticket or none. Whoever was told so must not get a token of the old one afterwards: it
// would count as made with what is there now.
func (m *memoryCopy) compare(l *library, st contents, err error, seen time.Time) {
	m.mu.Lock()
	c := m.current
	m.mu.Unlock()
	if c == nil || err != nil && !errors.Is(err, ticket.ErrNoTicket) {
		return
	}
	if err != nil || c.source != st.Name || !c.holds(st) {
		m.drop(l)
		return
	}
	m.mu.Lock()
	c.checked = seen
	m.mu.Unlock()
}

// holds reports whether st is still what c was copied from. Of two kinits in
// one second the TGTs look alike, but the second one empties the cache.
func (c *copied) holds(st contents) bool {
	return c.principal == st.Principal && c.tgt == st.tgt && len(st.Services) >= c.held
}

// use returns the current copy of source for spn if it is fresh, or at any age.
func (m *memoryCopy) use(source, spn string, anyAge bool) *copied {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.current
	if c == nil || c.source != source || !slices.Contains(c.services, spn) ||
		!anyAge && time.Since(c.checked) >= copyTrust {
		return nil
	}
	c.users++
	return c
}

func (m *memoryCopy) giveBack(l *library, c *copied) {
	m.mu.Lock()
	c.users--
	gone := c.replaced && c.users == 0
	m.mu.Unlock()
	if gone {
		l.remove(c.name)
	}
}

// retire marks c, which is current no more, and destroys it if it is unused.
func (m *memoryCopy) retire(l *library, c *copied) {
	if c == nil {
		return
	}
	m.mu.Lock()
	c.replaced = true
	gone := c.users == 0
	m.mu.Unlock()
	if gone {
		l.remove(c.name)
	}
}

// drop makes the next borrow copy anew, after an error that the copy may be to
// blame for.
func (m *memoryCopy) drop(l *library) {
	m.mu.Lock()
	c := m.current
	m.current = nil
	m.mu.Unlock()
	m.retire(l, c)
}

// copyToMemory says how many tickets for services the copy holds.
func (l *library) copyToMemory(source string) (name string, held int, err error) {
	err = l.withCache(source, func(ctx, from handle) error {
		principal, err := l.principalOf(ctx, from)
		if err != nil {
			return err
		}
		defer l.freePrincipal(ctx, principal)
		var to handle
		code := l.ccNewUnique(ctx, "MEMORY", nil, &to)
		if code != 0 {
			return l.krb5Error(ctx, code)
		}
		if code = l.ccInit(ctx, to, principal); code == 0 {
			code = l.ccCopy(ctx, from, to)
		}
		if code != 0 {
			err := l.krb5Error(ctx, code)
			l.ccDestroy(ctx, to)
			return err
		}
		defer l.ccClose(ctx, to)
		c, err := l.read(ctx, to)
		name, held = c.Name, len(c.Services)
		if err != nil {
			l.remove(name)
		}
		return err
	})
	return name, held, err
}
