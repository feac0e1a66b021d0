// Package ticket is the vocabulary for Kerberos tickets: what a helper needs
// to know about the one it uses, which caches exist, and how a token for an
// upstream proxy is asked for. Backends (gss, krb5, …) implement [Backend];
// [Manager] makes one of them safe to use from a proxy: bounded in time, one
// question to the KDC at a time, and aware of tickets that change outside.
//
// The package imports the standard library only and never touches a cache,
// a library or the network itself.
package ticket

import (
	"context"
	"errors"
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
	// ErrCache: the cache could not be read just now (it is being replaced, is
	// corrupt, or has an unknown type). One retry is worth while.
	ErrCache = errors.New("ticket cache not readable")
)

// An OpError says which step failed, and for what.
type OpError struct {
	Op      string // "status", "token", "caches", "open"
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

// Status describes the TGT that Token would use at this moment.
// The zero Status means "none". All times are UTC; a zero time is unknown.
type Status struct {
	Principal  string // alice@CORP.EXAMPLE
	Realm      string // the principal's realm
	Cache      string // full name, with type: FILE:/tmp/krb5cc_1000
	Start      time.Time
	Expires    time.Time // corrected for the KDC's clock offset where the library knows it
	RenewUntil time.Time
	Renewable  bool
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
	Principal string
	Realm     string
	Default   bool      // the collection's default
	Expires   time.Time // of the TGT for the principal's own realm; zero: no TGT
	Services  []Service // service tickets in it, TGTs left out
}

// A Service is one service ticket in a cache.
type Service struct {
	Name    string // HTTP/proxy.corp.example@CORP.EXAMPLE
	Expires time.Time
}

// Backend is one way to reach tickets. All methods are safe for concurrent
// use and honour ctx as far as the underlying library can; [Manager] adds the
// hard time limits.
type Backend interface {
	// Name is one of gss-mit, gss-heimdal, gss-apple, sspi, krb5.
	Name() string

	// Status describes the TGT in use. No ticket is [ErrNoTicket] (the Status
	// still names the cache where one is configured). An expired TGT is not an
	// error: Expires tells.
	Status(ctx context.Context) (Status, error)

	// Caches lists every cache of the collection.
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
}
