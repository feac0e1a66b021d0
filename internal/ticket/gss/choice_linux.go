//go:build linux && !nogss

package gss

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"kerbpass/internal/ticket"
)

// A choice is the cache in use, as of one reading, and what tokens need to
// know about it so that they need not read it again.
type choice struct {
	cache string // full name, or "" for the default where there is only one
	name  string // full name
	realm string // its principal's
	stamp string // of all caches, before the reading
	quiet bool   // they had not changed just before, so stamp tells every later change

	makers *makers // not nil; for a cache that is not copied

	mu   sync.Mutex
	full map[string]string // guarded by mu: services with the realms that krb5.conf gives them
}

// maxRealms bounds choice.full.
const maxRealms = 64

// current is the choice as long as nothing has changed, else a new one. The
// caller is inside the gate.
func (b *Backend) current() (*choice, error) {
	if ch := b.choice.Load(); ch != nil && b.holds(ch) {
		return ch, nil
	}
	b.looking.Lock()
	defer b.looking.Unlock()
	if ch := b.choice.Load(); ch != nil && b.holds(ch) {
		return ch, nil
	}
	_, ch, err := b.lookLocked()
	return ch, err
}

// holds reports whether nothing has changed since ch was made.
func (b *Backend) holds(ch *choice) bool {
	stamp, quiet := b.stampNow()
	return ch.stamp == stamp && (ch.quiet || !quiet)
}

// look reads the caches and chooses the one to use. With an error the contents
// still name it. The caller is inside the gate.
func (b *Backend) look() (contents, error) {
	b.looking.Lock()
	defer b.looking.Unlock()
	c, _, err := b.lookLocked()
	return c, err
}

func (b *Backend) lookLocked() (contents, *choice, error) {
	where := b.locate()
	ch := &choice{cache: b.cache, full: map[string]string{}, makers: &makers{}}
	ch.stamp, ch.quiet = b.stampNow()
	began := time.Now()
	var c contents
	var err error
	if single(where) {
		c, err = b.lib.readCache(b.cache)
	} else if c, err = b.pick(); err == nil {
		ch.cache = c.Name
	}
	if c.Name == "" {
		c.Name = where
	}
	if err == nil && strings.EqualFold(c.Realm, ticket.CloudRealm) {
		err = &Error{Kind: ticket.ErrNoTicket, Text: "the cache holds a ticket for Microsoft's cloud only"}
	}
	b.copies.compare(b.lib, c, err, began)
	if err != nil {
		b.choice.Store(nil)
		return c, nil, err
	}
	ch.realm, ch.name = c.Realm, c.Name
	if old := b.choice.Load(); old != nil && old.quiet && old.stamp == ch.stamp && old.name == ch.name && ch.stamp != "" {
		ch.makers = old.makers
	}
	b.choice.Store(ch)
	b.good.Store(time.Now().UnixNano())
	return c, ch, nil
}

// pick reads the collection and chooses from it. Where nothing can be chosen,
// the default cache says why.
func (b *Backend) pick() (contents, error) {
	list, err := b.lib.collection(b.cache)
	if err != nil {
		return contents{}, err
	}
	if i := b.choose(list); i >= 0 {
		return list[i], nil
	}
	return b.lib.readCache(b.cache)
}

// choose returns the index of the cache to use, or -1.
func (b *Backend) choose(list []contents) int {
	caches := make([]ticket.Cache, len(list))
	kind := kindOfCache(*b.where.Load())
	for i, c := range list {
		if kindOfCache(c.Name) == kind { // Heimdal lists the default FILE cache with every collection
			caches[i] = c.Cache
		}
	}
	realm := ""
	b.lib.withContext(func(ctx handle) error {
		if b.service != "" {
			realm = b.lib.realmOfService(ctx, b.service)
		}
		if realm == "" {
			realm = b.lib.defaultRealmName(ctx)
		}
		return nil
	})
	return ticket.Choose(caches, realm, time.Now())
}

// qualified is spn with a realm: the one krb5.conf gives its host, else that
// of the ticket, whose KDC refers onward.
func (b *Backend) qualified(ch *choice, spn string) string {
	full, known := ch.known(spn)
	if known {
		return full
	}
	realm := ""
	b.lib.withContext(func(ctx handle) error {
		realm = b.lib.realmOfService(ctx, spn)
		return nil
	})
	if realm == "" {
		realm = ch.realm
	}
	full = spn + "@" + realm
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if len(ch.full) < maxRealms {
		ch.full[spn] = full
	}
	return full
}

// known is spn with a realm, if it is known already which.
func (ch *choice) known(spn string) (full string, known bool) {
	if realmOf(spn) != "" {
		return spn, true
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	full, known = ch.full[spn]
	return full, known
}

// Caches implements [ticket.Backend].
func (b *Backend) Caches(ctx context.Context) ([]ticket.Cache, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.gate.enter()
	defer b.gate.leave()
	list, err := b.everything()
	if err != nil {
		return nil, &ticket.OpError{Op: "caches", Subject: *b.where.Load(), Err: err}
	}
	used := b.inUse(list)
	caches := make([]ticket.Cache, len(list))
	for i, c := range list {
		caches[i] = c.Cache
		caches[i].Used = i == used
	}
	return caches, nil
}

// everything lists what is configured first, then the default collection.
func (b *Backend) everything() ([]contents, error) {
	list, err := b.lib.collection(b.cache)
	if err != nil || b.cache == "" {
		return list, err
	}
	others, _ := b.lib.collection("") // what the default is, matters little beside it
	for _, c := range others {
		known := slices.ContainsFunc(list, func(k contents) bool { return k.Name == c.Name })
		if !known {
			c.Default = false // of another collection
			list = append(list, c)
		}
	}
	return list, nil
}

// inUse is the index of the cache in use in what everything returned, or -1.
func (b *Backend) inUse(list []contents) int {
	where := b.locate()
	if !single(where) {
		return b.choose(list)
	}
	return slices.IndexFunc(list, func(c contents) bool { return c.Name == where })
}

// single reports whether name is that of one cache, not of a collection to
// choose from.
func single(name string) bool {
	kind, rest, _ := strings.Cut(name, ":")
	switch kind {
	case "DIR":
		return strings.HasPrefix(rest, ":")
	case "KCM":
		return rest != ""
	case "KEYRING": // anchor:collection:cache; without an anchor one old-style cache
		return strings.Count(rest, ":") != 1
	}
	return true
}

func kindOfCache(name string) string {
	kind, _, _ := strings.Cut(name, ":")
	return kind
}

// retrying calls f again while it fails as it does when another program is
// just replacing the cache: kinit -R and sssd empty it before they fill it
// again. It does so times times, and patiently times where there was a ticket
// a moment ago.
func (b *Backend) retrying(ctx context.Context, times, patiently int, f func() error) error {
	if b.choice.Load() != nil || time.Since(time.Unix(0, b.good.Load())) < time.Second {
		times = patiently
	}
	for {
		err := f()
		if times == 0 || !errors.Is(err, ticket.ErrCache) && !errors.Is(err, ticket.ErrNoTicket) {
			return err
		}
		times--
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryAfter):
		}
	}
}
