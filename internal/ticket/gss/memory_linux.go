//go:build linux && !nogss

package gss

import (
	"errors"
	"sync"
	"time"

	"kerbpass/internal/ticket"
)

// copyTrust is how long a copy is used without asking whether its source is
// still the same.
const copyTrust = time.Second

// memoryCopy keeps a copy of a KCM cache in the library's own memory. The KCM
// daemon needs 6 to 20 ms for a token and collapses under concurrent ones; the
// copy needs 50 µs and does not notice a renewal half done.
type memoryCopy struct {
	refresh sync.Mutex // held by the one caller that asks the daemon

	mu      sync.Mutex // guards what follows
	current *copied
}

// A copied cache lives until it has been replaced and its last user is gone.
type copied struct {
	name      string // MEMORY:…
	principal string
	expires   time.Time

	// guarded by memoryCopy.mu
	users    int
	replaced bool
	checked  time.Time
}

// borrow returns the copy to use, which the caller gives back.
func (m *memoryCopy) borrow(l *library, source string) (*copied, error) {
	if c := m.use(false); c != nil {
		return c, nil
	}
	if !m.refresh.TryLock() {
		// Somebody is asking already. An old copy is good enough meanwhile;
		// without any, wait for what they get.
		if c := m.use(true); c != nil {
			return c, nil
		}
		m.refresh.Lock()
	}
	defer m.refresh.Unlock()
	if c := m.use(false); c != nil {
		return c, nil
	}

	st, err := l.status(source)
	m.mu.Lock()
	old := m.current
	same := old != nil && err == nil && old.principal == st.Principal && old.expires.Equal(st.Expires)
	// A daemon that is being restarted takes no ticket away.
	if same || old != nil && errors.Is(err, ticket.ErrCache) {
		old.checked = time.Now()
		old.users++
		m.mu.Unlock()
		return old, nil
	}
	m.current = nil
	m.mu.Unlock()
	m.retire(l, old)
	if err != nil {
		return nil, err
	}

	c := &copied{principal: st.Principal, expires: st.Expires, users: 1, checked: time.Now()}
	if c.name, err = l.copyToMemory(source); err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.current = c
	m.mu.Unlock()
	return c, nil
}

// compare drops the copy when the source, just read, holds another ticket or
// none. Whoever was told so must not get a token of the old one afterwards: it
// would count as made with what is there now.
func (m *memoryCopy) compare(l *library, st ticket.Status, err error) {
	m.mu.Lock()
	c := m.current
	m.mu.Unlock()
	if c == nil || err != nil && !errors.Is(err, ticket.ErrNoTicket) {
		return
	}
	if err != nil || c.principal != st.Principal || !c.expires.Equal(st.Expires) {
		m.drop(l)
	}
}

// use returns the current copy if it is fresh, or at any age.
func (m *memoryCopy) use(anyAge bool) *copied {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.current
	if c == nil || !anyAge && time.Since(c.checked) >= copyTrust {
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
		l.destroy(c.name)
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
		l.destroy(c.name)
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

func (l *library) copyToMemory(source string) (name string, err error) {
	err = l.withCache(source, func(ctx, from handle) error {
		var principal, to, s handle
		if code := l.ccPrincipal(ctx, from, &principal); code != 0 {
			return l.krb5Error(ctx, code)
		}
		defer l.freePrincipal(ctx, principal)
		code := l.ccNewUnique(ctx, "MEMORY", nil, &to)
		if code != 0 {
			return l.krb5Error(ctx, code)
		}
		if code = l.ccInit(ctx, to, principal); code == 0 {
			if code = l.ccCopy(ctx, from, to); code == 0 {
				code = l.ccFullName(ctx, to, &s)
			}
		}
		if code != 0 {
			err := l.krb5Error(ctx, code)
			l.ccDestroy(ctx, to)
			return err
		}
		name = goString(s)
		l.freeString(ctx, s)
		l.ccClose(ctx, to)
		return nil
	})
	return name, err
}

func (l *library) destroy(name string) {
	l.withContext(func(ctx handle) error {
		var cc handle
		if l.ccResolve(ctx, name, &cc) == 0 {
			l.ccDestroy(ctx, cc) // closes it too
		}
		return nil
	})
}
