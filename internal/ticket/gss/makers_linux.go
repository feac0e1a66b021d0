//go:build linux && !nogss

package gss

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"time"
	"unsafe"

	"kerbpass/internal/ticket"
)

// makers make tokens without the library, which opens and reads the cache for
// each: 170 µs against 5. The library gets the service tickets, judges what may
// be used, and makes the first token with each, so that it is the one to say
// what is wrong; from then on its session key is enough. A ticket that is not
// for [ticket.Maker] stays with the library.
//
// They hold for one state of one cache, and go with it. Safe for concurrent use.
type makers struct {
	mu sync.Mutex
	of map[string]*making // guarded by mu: by service, with its realm
}

// A making is the maker for one service, as long as its ticket is valid.
type making struct {
	*ticket.Maker               // nil: it is for the library
	start, end    time.Time     // by the KDC's clock
	offset        time.Duration // the KDC's clock minus this machine's
}

// maxMakers bounds makers.of.
const maxMakers = 64

// token is a new token for service, nil if the library has to make it.
func (m *makers) token(service string) []byte {
	m.mu.Lock()
	k := m.of[service]
	m.mu.Unlock()
	if k == nil || k.Maker == nil || !k.valid(time.Now()) {
		return nil
	}
	return k.Token(k.offset)
}

// valid is as strict as the library, which counts in whole seconds.
func (k *making) valid(now time.Time) bool {
	now = now.Add(k.offset)
	return !k.start.After(now) && k.end.After(now.Add(time.Second))
}

// learn takes the ticket for service from the cache, which the library has just
// made a token of. No KDC is asked.
func (m *makers) learn(l *library, cache, service string) {
	m.mu.Lock()
	old := m.of[service]
	full := old == nil && len(m.of) >= maxMakers
	m.mu.Unlock()
	if full || old != nil && (old.Maker == nil || old.valid(time.Now())) {
		return
	}
	k, err := l.making(cache, service)
	if err != nil {
		k = &making{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.of == nil {
		m.of = map[string]*making{}
	}
	m.of[service] = k
}

// making reads the ticket for service.
func (l *library) making(cache, service string) (k *making, err error) {
	err = l.withCache(cache, func(ctx, cc handle) error {
		client, err := l.principalOf(ctx, cc)
		if err != nil {
			return err
		}
		defer l.freePrincipal(ctx, client)
		var server, got handle
		if code := l.parseName(ctx, service, &server); code != 0 {
			return l.krb5Error(ctx, code)
		}
		defer l.freePrincipal(ctx, server)
		in := new(cred)
		*l.creds.principal(in, l.creds.client) = client
		*l.creds.principal(in, l.creds.server) = server
		if code := l.credentials(ctx, l.onlyCached, cc, in, &got); code != 0 {
			return l.krb5Error(ctx, code)
		}
		defer l.freeCreds(ctx, got)
		k, err = l.makingOf((*cred)(got), l.unparse(ctx, *l.creds.principal((*cred)(got), l.creds.client)))
		if err == nil {
			k.offset = l.offset(ctx, cc)
		}
		return err
	})
	return k, err
}

// makingOf prepares c, whose client is known already.
func (l *library) makingOf(c *cred, client string) (*making, error) {
	realm := realmOf(client)
	name := strings.TrimSuffix(client, "@"+realm)
	if strings.Contains(client, `\`) {
		return nil, errors.New("a name with special characters")
	}
	der, key := l.creds.der(c), l.creds.key(c)
	defer clear(key)
	t := l.creds.ticket(c, "", 0)
	maker, err := ticket.NewMaker(ticket.ServiceTicket{
		Client: strings.Split(name, "/"), ClientType: ntPrincipalType, Realm: realm,
		DER: der, EncType: t.EncType, Key: key,
	})
	return &making{Maker: maker, start: t.Start, end: t.Expires}, err
}

// ntPrincipalType is the type of the client's name in an authenticator. A
// server does not look at it (RFC 4120 section 6.2).
const ntPrincipalType = 1

// key copies the session key of c.
func (o credLayout) key(c *cred) []byte { return o.bytes(c, o.keyLength, o.keyData, 64) }

// der copies the ticket of c.
func (o credLayout) der(c *cred) []byte { return o.bytes(c, o.derLength, o.derData, 1<<20) }

// bytes copies what a length and a pointer say, nil for more than most bytes.
func (o credLayout) bytes(c *cred, length, value uintptr, most uint32) []byte {
	n := *(*uint32)(unsafe.Add(unsafe.Pointer(c), length)) // Heimdal's has 64 bits; little-endian on every system built for
	p := *(*handle)(unsafe.Add(unsafe.Pointer(c), value))
	if p == nil || n > most {
		return nil
	}
	return bytes.Clone(unsafe.Slice((*byte)(p), n))
}

// Ready implements [ticket.Readier].
func (b *Backend) Ready(spn string) []byte {
	ch := b.choice.Load()
	if ch == nil || !b.holds(ch) {
		return nil
	}
	service, known := ch.known(spn)
	if !known {
		return nil
	}
	if !b.copied() {
		return ch.makers.token(service)
	}
	c := b.copies.use(ch.cache, service, false)
	if c == nil {
		return nil
	}
	defer b.copies.giveBack(b.lib, c)
	return c.makers.token(service)
}
