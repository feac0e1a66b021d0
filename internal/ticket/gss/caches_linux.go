//go:build linux && !nogss

package gss

import (
	"errors"
	"math/bits"
	"path/filepath"
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
	client, server uintptr // principals
	encType        uintptr // 32 bits
	times          uintptr // auth, start, end, renew
	timeSize       uintptr // bytes in each
	flags          uintptr // 32 bits
	keyLength      uintptr // of the session key; 32 bits suffice
	keyData        uintptr // pointer
	derLength      uintptr // the same of the ticket
	derData        uintptr
	flagsReversed  bool // a C bit field: bit 0 of RFC 4120 is the least significant
}

var (
	mitCreds = credLayout{client: 8, server: 16, encType: 28, times: 48, timeSize: 4, flags: 68,
		keyLength: 32, keyData: 40, derLength: 84, derData: 88}
	heimdalCreds = credLayout{client: 0, server: 8, encType: 16, times: 40, timeSize: 8, flags: 136, flagsReversed: true,
		keyLength: 24, keyData: 32, derLength: 72, derData: 80}
)

func (o credLayout) principal(c *cred, at uintptr) *handle {
	return (*handle)(unsafe.Add(unsafe.Pointer(c), at))
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

// ticket describes c, whose server is known already.
func (o credLayout) ticket(c *cred, server string, offset time.Duration) ticket.Ticket {
	flags := *(*uint32)(unsafe.Add(unsafe.Pointer(c), o.flags))
	if o.flagsReversed {
		flags = bits.Reverse32(flags)
	}
	t := ticket.Ticket{
		Server: server, Flags: ticket.Flags(flags),
		EncType: ticket.EncType(*(*int32)(unsafe.Add(unsafe.Pointer(c), o.encType))),
		Start:   o.time(c, 1, offset), Expires: o.time(c, 2, offset),
	}
	if t.Start.IsZero() {
		t.Start = o.time(c, 0, offset) // RFC 4120 section 5.3: absent means authtime
	}
	// MIT's KDC leaves the flag where the two times are equal.
	if until := o.time(c, 3, offset); t.Flags&ticket.FlagRenewable != 0 && until.After(t.Expires) {
		t.RenewUntil = until
	}
	return t
}

// contents is one cache, read.
type contents struct {
	ticket.Cache
	tgt     ticket.Ticket // the one for the principal's own realm that lasts longest
	expired bool          // by the library's clock, which knows the KDC's offset
}

func (c contents) status() ticket.Status {
	return ticket.Status{
		Principal: c.Principal, Realm: c.Realm, Cache: c.Name,
		Start: c.tgt.Start, Expires: c.tgt.Expires,
		RenewUntil: c.tgt.RenewUntil, Renewable: !c.tgt.RenewUntil.IsZero(),
	}
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

// readCache reads the cache called name ("" is the default one). With an error
// the contents still name the cache where that much is known.
func (l *library) readCache(name string) (c contents, err error) {
	c.Name = name
	err = l.withCache(name, func(ctx, cc handle) error {
		c, err = l.read(ctx, cc)
		return err
	})
	return c, err
}

// read returns what is in cc. A cache without a TGT for the principal's own
// realm is [ticket.ErrNoTicket].
func (l *library) read(ctx, cc handle) (c contents, err error) {
	if c.Name, err = l.fullName(ctx, cc); err != nil {
		return c, err
	}
	principal, err := l.principalOf(ctx, cc)
	if err != nil {
		return c, err
	}
	defer l.freePrincipal(ctx, principal)
	c.Principal = l.unparse(ctx, principal)
	c.Realm = realmOf(c.Principal)

	offset := l.offset(ctx, cc) // known once the cache has been read
	err = l.each(ctx, cc, func(cr *cred, server string) {
		c.add(l.creds.ticket(cr, server, offset))
	})
	if err != nil {
		return c, err
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

// maxCreds is how many entries of one cache are looked at.
const maxCreds = 10000

// each calls f for every entry of cc, the library's own notes included.
func (l *library) each(ctx, cc handle, f func(cr *cred, server string)) error {
	var cursor handle
	if code := l.ccStart(ctx, cc, &cursor); code != 0 {
		return l.krb5Error(ctx, code)
	}
	defer l.ccEnd(ctx, cc, &cursor)
	for range maxCreds {
		cr := new(cred)
		switch code := l.ccNext(ctx, cc, &cursor, cr); code {
		case 0:
			f(cr, l.unparse(ctx, *l.creds.principal(cr, l.creds.server)))
			l.freeCred(ctx, cr)
		case codeCacheEnd:
			return nil
		default:
			e := l.krb5Error(ctx, code)
			e.Kind = ticket.ErrCache // it exists, so it is damaged or being replaced
			return e
		}
	}
	return nil
}

// isNote reports whether a cache entry holds no ticket but what the library
// remembers about a KDC.
func isNote(server string) bool { return strings.HasSuffix(server, "@X-CACHECONF:") }

// add files t under what it is.
func (c *contents) add(t ticket.Ticket) {
	switch {
	case isNote(t.Server):
	case !strings.HasPrefix(t.Server, "krbtgt/"):
		c.Services = append(c.Services, t)
	default:
		c.TGTs = append(c.TGTs, t)
		// A renewed TGT may lie beside the old one.
		if t.Server == "krbtgt/"+c.Realm+"@"+c.Realm && t.Expires.After(c.Expires) {
			c.tgt, c.Expires = t, t.Expires
		}
	}
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

// collection lists the caches of the collection called name, of the default
// one if that is "". A name of a single cache lists only that.
func (l *library) collection(name string) (list []contents, err error) {
	err = l.withContext(func(ctx handle) error {
		if err := l.setDefaultName(ctx, name); err != nil {
			return err
		}
		primary := l.primary(ctx)
		return l.eachCache(ctx, func(cc handle) {
			c, err := l.read(ctx, cc)
			// MEMORY caches, where a library lists them, are our own copies; a default cache that
			// does not exist is no cache.
			if strings.HasPrefix(c.Name, "MEMORY:") || errors.Is(err, ticket.ErrNoTicket) && c.Principal == "" {
				return
			}
			c.Default = c.Name == primary
			if !errors.Is(err, ticket.ErrNoTicket) { // a cache may well hold no TGT
				c.Err = err
			}
			list = append(list, c)
		})
	})
	return list, err
}

// eachCache lends f every cache of the default collection of ctx.
func (l *library) eachCache(ctx handle, f func(cc handle)) error {
	folder, isDir := strings.CutPrefix(goString(l.ccDefaultName(ctx)), "DIR:")
	if isDir && l.ccMove == nil {
		return l.eachInFolder(ctx, folder, f)
	}
	var cc, cursor handle
	if code := l.colNew(ctx, &cursor); code != 0 {
		return l.krb5Error(ctx, code)
	}
	defer l.colFree(ctx, &cursor)
	for range maxCaches {
		if l.colNext(ctx, cursor, &cc) != 0 || cc == nil {
			break
		}
		f(cc)
		l.ccClose(ctx, cc)
	}
	return nil
}

// eachInFolder is for Heimdal, which crashes when it lists a DIR collection
// (seen with 7.8).
func (l *library) eachInFolder(ctx handle, folder string, f func(cc handle)) error {
	names := []string{folder} // of one cache, ":/path"
	if !strings.HasPrefix(folder, ":") {
		names = nil
		for _, name := range collectionFiles(folder) {
			if name != "primary" {
				names = append(names, ":"+filepath.Join(folder, name))
			}
		}
	}
	for _, name := range names {
		var cc handle
		if code := l.ccResolve(ctx, "DIR:"+name, &cc); code != 0 {
			return l.krb5Error(ctx, code)
		}
		f(cc)
		l.ccClose(ctx, cc)
	}
	return nil
}

// maxCaches is how many caches of a collection are looked at.
const maxCaches = 256

// setDefaultName makes name the default of ctx, unless it is "".
func (l *library) setDefaultName(ctx handle, name string) error {
	if name == "" {
		return nil
	}
	if code := l.ccSetDefaultName(ctx, name); code != 0 {
		return l.krb5Error(ctx, code)
	}
	return nil
}

// primary is the full name of the default cache of ctx, "" if unknown.
func (l *library) primary(ctx handle) string {
	var cc handle
	if l.ccDefault(ctx, &cc) != 0 {
		return ""
	}
	defer l.ccClose(ctx, cc)
	name, _ := l.fullName(ctx, cc)
	return name
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
