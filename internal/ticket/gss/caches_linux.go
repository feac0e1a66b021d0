//go:build linux && !nogss

package gss

import (
	"errors"
	"strings"
	"time"
	"unsafe"

	"kerbpass/internal/ticket"
)

// cred is room for one krb5_creds of either library.
type cred [24]uint64

// credLayout says where the fields of a library's krb5_creds lie. The layouts
// are part of the ABI that the library's soname names.
type credLayout struct {
	server    uintptr // principal
	times     uintptr // auth, start, end, renew
	timeSize  uintptr // bytes in each
	flags     uintptr // 32 bits
	renewable uint32
}

var (
	mitCreds     = credLayout{server: 16, times: 48, timeSize: 4, flags: 68, renewable: 0x00800000}
	heimdalCreds = credLayout{server: 8, times: 40, timeSize: 8, flags: 136, renewable: 1 << 8}
)

func (o credLayout) principal(c *cred) handle {
	return *(*handle)(unsafe.Add(unsafe.Pointer(c), o.server))
}

// time returns the i-th time, minus offset; zero stays zero.
func (o credLayout) time(c *cred, i uintptr, offset time.Duration) time.Time {
	p := unsafe.Add(unsafe.Pointer(c), o.times+i*o.timeSize)
	var sec int64
	if o.timeSize == 4 {
		sec = int64(*(*uint32)(p)) // unsigned since MIT 1.16, so good until 2106
	} else {
		sec = *(*int64)(p)
	}
	if sec == 0 {
		return time.Time{}
	}
	return time.Unix(sec, 0).UTC().Add(-offset)
}

func (o credLayout) isRenewable(c *cred) bool {
	return *(*uint32)(unsafe.Add(unsafe.Pointer(c), o.flags))&o.renewable != 0
}

// contents is one cache, read.
type contents struct {
	ticket.Status
	services []ticket.Ticket
	expired  bool // by the library's clock, which knows the KDC's offset
}

// withContext lends f a krb5_context. Contexts are not safe for concurrent
// use and carry the error text, so each operation has its own.
func (l *library) withContext(f func(ctx handle) error) error {
	var ctx handle
	if code := l.initContext(&ctx); code != 0 {
		// Without a context the text has to be asked for without one.
		return &Error{Kind: ticket.ErrCache, Minor: code, Text: "krb5.conf is not usable: " + l.message(nil, code)}
	}
	defer l.freeContext(ctx)
	return f(ctx)
}

// withCache opens the cache called name, or the default one.
func (l *library) withCache(name string, f func(ctx, cc handle) error) error {
	return l.withContext(func(ctx handle) error {
		var cc handle
		var code int32
		if name == "" {
			code = l.ccDefault(ctx, &cc)
		} else {
			code = l.ccResolve(ctx, name, &cc)
		}
		if code != 0 {
			return l.krb5Error(ctx, code)
		}
		defer l.ccClose(ctx, cc)
		return f(ctx, cc)
	})
}

func (l *library) krb5Error(ctx handle, code int32) *Error {
	return &Error{Kind: cacheKindOf(code), Minor: code, Text: l.message(ctx, code)}
}

func (l *library) message(ctx handle, code int32) string {
	msg := l.getErrorMessage(ctx, code)
	defer l.freeErrorMessage(ctx, msg)
	return goString(msg)
}

// defaultName is the name of the default cache or collection, "" if unknown.
func (l *library) defaultName() (name string) {
	l.withContext(func(ctx handle) error {
		name = goString(l.ccDefaultName(ctx))
		return nil
	})
	return name
}

// status reads the cache called name ("" is the default one). With an error
// the contents still name the cache where that much is known.
func (l *library) status(name string) (c contents, err error) {
	c.Cache = name
	err = l.withCache(name, func(ctx, cc handle) error {
		c, err = l.read(ctx, cc)
		return err
	})
	return c, err
}

// read returns what is in cc. A cache without a TGT for the principal's own
// realm is [ticket.ErrNoTicket].
func (l *library) read(ctx, cc handle) (c contents, err error) {
	var s handle
	if code := l.ccFullName(ctx, cc, &s); code != 0 {
		return c, l.krb5Error(ctx, code)
	}
	c.Cache = goString(s)
	l.freeString(ctx, s)

	var principal handle
	if code := l.ccPrincipal(ctx, cc, &principal); code != 0 {
		return c, l.krb5Error(ctx, code)
	}
	defer l.freePrincipal(ctx, principal)
	c.Principal = l.unparse(ctx, principal)
	c.Realm = realmOf(c.Principal)
	tgt := "krbtgt/" + c.Realm + "@" + c.Realm

	offset := l.offset(ctx, cc) // known once the cache has been read
	var cursor handle
	if code := l.ccStart(ctx, cc, &cursor); code != 0 {
		return c, l.krb5Error(ctx, code)
	}
	defer l.ccEnd(ctx, cc, &cursor)
	for {
		cr := new(cred)
		code := l.ccNext(ctx, cc, &cursor, cr)
		if code == codeCacheEnd {
			break
		}
		if code != 0 {
			e := l.krb5Error(ctx, code)
			e.Kind = ticket.ErrCache // it exists, so it is damaged or being replaced
			return c, e
		}
		server := l.unparse(ctx, l.creds.principal(cr))
		end := l.creds.time(cr, 2, offset)
		switch {
		case strings.HasSuffix(server, "@X-CACHECONF:"): // the library's own notes
		case server == tgt:
			if end.After(c.Expires) { // a renewed TGT may lie beside the old one
				c.Start, c.Expires, c.RenewUntil = l.creds.time(cr, 1, offset), end, l.creds.time(cr, 3, offset)
				c.Renewable = l.creds.isRenewable(cr)
				if c.Start.IsZero() {
					c.Start = l.creds.time(cr, 0, offset) // RFC 4120 section 5.3: absent means authtime
				}
				if !c.Renewable {
					c.RenewUntil = time.Time{}
				}
			}
		case strings.HasPrefix(server, "krbtgt/"): // another realm's
		default:
			c.services = append(c.services, ticket.Ticket{Server: server, Expires: end})
		}
		l.freeCred(ctx, cr)
	}
	if c.Expires.IsZero() {
		return c, &Error{Kind: ticket.ErrNoTicket, Text: "the cache holds no ticket-granting ticket for " + c.Realm}
	}
	var now int64
	if l.timeOfDay(ctx, &now) == 0 {
		c.expired = !c.Expires.Add(offset).After(time.Unix(now, 0))
	}
	return c, nil
}

// offset is how far the KDC's clock was ahead when the ticket was issued. The
// library keeps it in the cache and adds it to the local clock.
func (l *library) offset(ctx, cc handle) time.Duration {
	if l.kdcOffset != nil {
		var sec int64
		if l.kdcOffset(ctx, cc, &sec) != 0 {
			return 0
		}
		return time.Duration(sec) * time.Second
	}
	var sec, usec int32
	if l.timeOffsets(ctx, &sec, &usec) != 0 {
		return 0
	}
	return time.Duration(sec) * time.Second
}

func (l *library) unparse(ctx, principal handle) string {
	var s handle
	if principal == nil || l.unparseName(ctx, principal, &s) != 0 {
		return ""
	}
	defer l.freeUnparsed(ctx, s)
	return goString(s)
}

// caches lists the collection, and the cache called extra if it is outside.
// An unreadable cache is listed by name only.
func (l *library) caches(extra string) (list []ticket.Cache, err error) {
	err = l.withContext(func(ctx handle) error {
		var dflt, cc, cursor handle
		primary := ""
		if l.ccDefault(ctx, &dflt) == 0 {
			c, _ := l.read(ctx, dflt)
			primary = c.Cache
			l.ccClose(ctx, dflt)
		}
		if code := l.colNew(ctx, &cursor); code != 0 {
			return l.krb5Error(ctx, code)
		}
		defer l.colFree(ctx, &cursor)
		for l.colNext(ctx, cursor, &cc) == 0 && cc != nil {
			c, err := l.read(ctx, cc)
			l.ccClose(ctx, cc)
			// MEMORY caches, where a library lists them, are our own copies; a default cache that
			// does not exist is no cache.
			if strings.HasPrefix(c.Cache, "MEMORY:") || errors.Is(err, ticket.ErrNoTicket) && c.Principal == "" {
				continue
			}
			list = append(list, c.listed(primary))
		}
		return nil
	})
	if err != nil || extra == "" {
		return list, err
	}
	c, err := l.status(extra)
	if err != nil && c.Principal == "" {
		return list, nil
	}
	for _, known := range list {
		if known.Name == c.Cache {
			return list, nil
		}
	}
	return append(list, c.listed("")), nil
}

func (c contents) listed(primary string) ticket.Cache {
	return ticket.Cache{
		Name: c.Cache, Principal: c.Principal, Realm: c.Realm,
		Default: c.Cache == primary, Expires: c.Expires, Services: c.services,
	}
}

// realmOf returns what follows the last unescaped "@" of an unparsed name.
func realmOf(principal string) string {
	for i := len(principal) - 1; i >= 0; i-- {
		if principal[i] == '@' && (i == 0 || principal[i-1] != '\\') {
			return principal[i+1:]
		}
	}
	return ""
}
