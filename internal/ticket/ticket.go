// Package ticket is the vocabulary for Kerberos tickets: what a helper needs
// to know about the one it uses, which caches exist, and how a token for an
// upstream proxy is asked for. Backends (gss, krb5, …) implement [Backend];
// [Manager] makes one of them safe to use from a proxy: bounded in time, one
// question to the KDC at a time, and aware of tickets that change outside.
//
// The package imports the standard library only and never reads a cache, or
// touches a library or the network itself.
package ticket

import (
	"context"
	"errors"
	"strings"
	"time"
)

// Errors that callers test for with [errors.Is]. Backends wrap them with the
// library's own text. What a system cannot do at all is reported as the
// standard [errors.ErrUnsupported].
var (
	// ErrNoTicket: no cache, an empty cache, or no TGT in it.
	ErrNoTicket = errors.New("no Kerberos ticket")
	// ErrExpired: the TGT has ended.
	ErrExpired = errors.New("the Kerberos ticket has expired")
	// ErrKDCUnreachable: no KDC answered in time, or none is known.
	ErrKDCUnreachable = errors.New("no KDC answers")
	// ErrSPNUnknown: the KDC does not know the service principal.
	ErrSPNUnknown = errors.New("service principal not known to the KDC")
	// ErrClockSkew: this machine's clock is too far from the KDC's.
	ErrClockSkew = errors.New("clock skew too great")
	// ErrPassword: the KDC did not accept the password, or the answer to one of
	// its questions. Asking again with the same one may lock the account.
	ErrPassword = errors.New("wrong password")
	// ErrPrincipalUnknown: the KDC does not know who wants to sign in.
	ErrPrincipalUnknown = errors.New("principal not known to the KDC")
	// ErrRevoked: the account is locked or disabled.
	ErrRevoked = errors.New("the account is locked")
	// ErrPasswordExpired: the password has, and no new one was given.
	ErrPasswordExpired = errors.New("the password has expired")
	// ErrNotRenewable: the TGT carries no renewable flag, or its renew-until
	// time has come. Only a sign-in helps.
	ErrNotRenewable = errors.New("the Kerberos ticket cannot be renewed")
	// ErrCache: the cache could not be read just now (it is being replaced, is
	// corrupt, or has an unknown type). One retry is worth while.
	ErrCache = errors.New("ticket cache not readable")
)

// An OpError says which step failed, and for what.
type OpError struct {
	Op      string // "status", "token", "caches", "open", "renew", "sign in", "sign out", "read password", …
	Subject string // an SPN, a cache name or a library
	Err     error
}

func (e *OpError) Error() string {
	if e.Subject == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Subject + ": " + e.Err.Error()
}

func (e *OpError) Unwrap() error { return e.Err }

// A KDCError is what came of asking a KDC for a TGT: its refusal, or its
// silence.
type KDCError struct {
	Realm string
	KDC   string // the one that answered, host:port; "" unknown, or none did
	Text  string // the library's or the KDC's own words, may be empty
	Err   error  // never nil; wraps one of the sentinels where one fits
}

func (e *KDCError) Error() string {
	text := e.Err.Error()
	if e.Text != "" {
		text += ": " + e.Text
	}
	if e.Realm != "" {
		text += " (realm " + e.Realm
		if e.KDC != "" {
			text += ", answer of " + e.KDC
		}
		text += ")"
	}
	return text
}

func (e *KDCError) Unwrap() error { return e.Err }

// Status describes the TGT that Token would use at this moment.
// The zero Status means "none". All times are UTC; a zero time is unknown.
type Status struct {
	Principal  string // alice@CORP.EXAMPLE
	Realm      string // the principal's realm
	Cache      string // full name, with type: FILE:/tmp/krb5cc_1000
	Start      time.Time
	Expires    time.Time // corrected for the KDC's clock offset where the library knows it
	RenewUntil time.Time // zero unless Renewable
	Renewable  bool      // a later end is to be had from the KDC
}

// Left returns the remaining lifetime at now, never negative.
func (s Status) Left(now time.Time) time.Duration {
	if s.Expires.IsZero() {
		return 0
	}
	return max(0, s.Expires.Sub(now))
}

// A Cache is one credential cache of the collection.
type Cache struct {
	Name      string // full name, with type
	Principal string // "" where the cache cannot be read
	Realm     string
	Default   bool      // the collection's default
	Used      bool      // Status and Token use this one; at most one of a list
	Expires   time.Time // of the TGT for the principal's own realm; zero: no TGT
	TGTs      []Ticket  // all of them: the principal's own realm's, other realms', the cloud's
	Services  []Ticket  // service tickets, TGTs left out
	Err       error     // why it cannot be read; then only Name is certain
}

// A Ticket is one ticket in a cache. Times are UTC, corrected for the KDC's
// clock offset where it is known; a zero time is unknown.
type Ticket struct {
	Server     string // HTTP/proxy.corp.example@CORP.EXAMPLE, krbtgt/CORP.EXAMPLE@CORP.EXAMPLE
	Start      time.Time
	Expires    time.Time
	RenewUntil time.Time // zero unless a later end is to be had
	Flags      Flags
	EncType    EncType // of its session key; on Windows of the ticket
}

// Cloud reports whether t is a TGT for Microsoft's cloud realm.
func (t Ticket) Cloud() bool {
	return strings.EqualFold(t.Server, "krbtgt/"+CloudRealm+"@"+CloudRealm)
}

// Backend is one way to reach tickets. All methods are safe for concurrent
// use and honour ctx as far as the underlying library can; [Manager] adds the
// hard time limits. What a backend cannot do is [errors.ErrUnsupported].
type Backend interface {
	// Name is one of gss-mit, gss-heimdal, gss-apple, sspi, krb5.
	Name() string

	// Status describes the TGT in use, which [Choose] picks where there are
	// several caches. No ticket is [ErrNoTicket] (the Status still names the
	// cache where one is configured). An expired TGT is not an error: Expires
	// tells.
	Status(ctx context.Context) (Status, error)

	// Caches lists every cache of the collection, and the one in use if that
	// lies outside.
	Caches(ctx context.Context) ([]Cache, error)

	// Token makes one new SPNEGO NegTokenInit carrying a Kerberos AP-REQ for
	// spn, "HTTP/host" or "HTTP/host@REALM", used exactly as given: krb5
	// mechanism only, no mutual authentication, no delegation, no channel
	// binding (RFC 4121, RFC 4178, RFC 4559). Each call returns a different
	// token. The caller owns the bytes.
	Token(ctx context.Context, spn string) ([]byte, error)

	// Stamp is a cheap fingerprint of where the tickets lie (for a FILE cache
	// device, inode, size and times: microseconds, no library call). It changes
	// whenever the tickets may have. Empty: there is no cheap way to tell.
	Stamp() string

	// Watch calls changed whenever the tickets may have changed (kinit,
	// kdestroy, kswitch, an unlocked screen), soon after and at least once, and
	// returns nil when ctx ends. It costs nothing while nothing happens.
	// ErrUnsupported, at once: the caller has to poll.
	Watch(ctx context.Context, changed func()) error

	// Renew asks the KDC for a TGT with a later end (RFC 4120 section 3.3.3.1)
	// and stores it in the cache in use, in one step: no reader finds the cache
	// without a TGT. Tickets for services, "HTTP/host", are fetched along; that
	// one of them is not to be had is no error. The error is [ErrNoTicket],
	// [ErrExpired] (never sent to the KDC), [ErrNotRenewable], or a [*KDCError].
	Renew(ctx context.Context, services ...string) error

	// SignIn gets a TGT for l.Principal and stores it, in one step, where
	// kinit would: in the cache that is configured or in use, in a collection
	// in the principal's own cache, which becomes the default. Each call makes
	// one attempt with one password at one KDC at a time, and never tries
	// another KDC after a refusal. The error is a [*KDCError], l.Prompt's own,
	// or about the cache. Nothing is stored then.
	SignIn(ctx context.Context, l Login) error

	// SignOut destroys the cache in use, with all its tickets. [ErrNoTicket]:
	// there is none.
	SignOut(ctx context.Context) error
}

// A Readier is a [Backend] that can make many tokens in the caller's own time.
type Readier interface {
	// Ready makes a token as Token does, if that takes nothing but memory and a
	// look at where the tickets lie: no KDC, no daemon, no call that could hang.
	// Else, and after any change of the tickets, it returns nil; then Token is
	// the way. It costs a few microseconds.
	Ready(spn string) []byte
}
