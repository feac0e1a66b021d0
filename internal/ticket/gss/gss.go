// Package gss makes tokens with the system's own Kerberos library (MIT
// libgssapi_krb5 or Heimdal libgssapi), loaded at run time without cgo. It
// sees every cache the library sees: FILE, DIR, KEYRING, KCM.
//
// The library gets and judges the service tickets. On Linux it makes the first
// token with each; the next ones are made here, of the session key that the
// library hands out, because its own way takes thirty times as long. They end
// with the first change of the cache.
//
// It promises tokens that need no second leg (the krb5 mechanism in our own
// SPNEGO wrapping, RFC 4178) and errors that say whether the ticket, the KDC,
// the service name or the clock is at fault. It never delegates, never asks
// for mutual authentication and never offers NTLM.
//
// A call may hang for a minute when a KDC does not answer; nothing can cancel
// it. [ticket.Manager] keeps such calls away from callers.
//
// The library reads KRB5CCNAME and KRB5_CONFIG with getenv, which is not safe
// beside a setenv: a program that sets them does so before the first [New].
package gss

import (
	"errors"
	"log/slog"

	"kerbpass/internal/ticket"
)

// Config says which tickets a [Backend] uses.
type Config struct {
	// Cache is the full name of a ticket cache (FILE:/tmp/krb5cc_1000), which
	// is used and no other, or of a collection (DIR:/run/user/1000/krb5, KCM:)
	// to choose from; "" is the system's default, which KRB5CCNAME decides.
	Cache string

	// Service is the principal of the upstream, "HTTP/host" or with its realm.
	// That realm decides which of several caches is used. May be empty.
	Service string

	// Flavour is "mit", "heimdal", or "" for MIT and, where that is missing,
	// Heimdal. A process uses one of them for its whole life.
	Flavour string

	// Tools does what GSS.framework cannot do in process; only macOS needs it.
	// Nil: that much is not to be had.
	Tools Tools

	Log *slog.Logger // nil discards
}

// Built on every system: a backend that drifts from the contract stops
// compiling everywhere at once.
var _ ticket.Backend = (*Backend)(nil)

// An Error is what the library said. Its Unwrap is one of the ticket
// sentinels, or nil where none fits.
type Error struct {
	Kind  error  // a sentinel of package ticket, or nil
	Major uint32 // GSS routine error (RFC 2744 section 3.9.1); 0 for libkrb5 calls
	Minor int32  // com_err code, the same numbers in MIT and Heimdal
	Text  string // the library's own words
}

func (e *Error) Error() string {
	text := e.Text
	if text == "" {
		text = "the library gave no reason"
	}
	if e.Kind == nil {
		return text
	}
	return e.Kind.Error() + ": " + text
}

func (e *Error) Unwrap() error { return e.Kind }

// Error codes of libkrb5 that decide what a failure means.
const (
	codeTicketExpired  = -1765328352 // KRB5KRB_AP_ERR_TKT_EXPIRED
	codeNotYetValid    = -1765328351 // KRB5KRB_AP_ERR_TKT_NYV
	codeSkew           = -1765328347 // KRB5KRB_AP_ERR_SKEW
	codeServerUnknown  = -1765328377 // KRB5KDC_ERR_S_PRINCIPAL_UNKNOWN
	codeKDCUnreachable = -1765328228 // KRB5_KDC_UNREACH
	codeRealmUnknown   = -1765328230 // KRB5_REALM_UNKNOWN: no KDC known
	codeCacheNotFound  = -1765328243 // KRB5_CC_NOTFOUND
	codeCacheEnd       = -1765328242 // KRB5_CC_END
	codeCacheBadName   = -1765328245 // KRB5_CC_BADNAME
	codeCacheType      = -1765328244 // KRB5_CC_UNKNOWN_TYPE
	codeCacheIO        = -1765328191 // KRB5_CC_IO
	codeCachePerm      = -1765328190 // KRB5_FCC_PERM
	codeCacheNoFile    = -1765328189 // KRB5_FCC_NOFILE
	codeCacheFormat    = -1765328185 // KRB5_CC_FORMAT
	codeCacheEmpty     = 39756044    // KG_EMPTY_CCACHE
	codeNoEntry        = 2           // ENOENT, as Heimdal passes it on
	codeBeingReplaced  = 1           // EPERM: Heimdal found the file just being replaced, or not private

	codeBadOption        = -1765328371 // KRB5KDC_ERR_BADOPTION
	codePrincipalUnknown = -1765328378 // KRB5KDC_ERR_C_PRINCIPAL_UNKNOWN
	codeRevoked          = -1765328366 // KRB5KDC_ERR_CLIENT_REVOKED
	codePasswordExpired  = -1765328361 // KRB5KDC_ERR_KEY_EXP
	codePreauthFailed    = -1765328360 // KRB5KDC_ERR_PREAUTH_FAILED
	codeBadIntegrity     = -1765328353 // KRB5KRB_AP_ERR_BAD_INTEGRITY
	codeInterrupted      = -1765328253 // KRB5_LIBOS_PWDINTR
)

// kindOf names the cause that a code from a token call proves by itself. Codes
// about the cache prove none: MIT answers "not found" for a corrupt cache and
// Heimdal for an expired ticket, so the caller must look at the cache.
func kindOf(minor int32) error {
	switch minor {
	case codeTicketExpired:
		return ticket.ErrExpired
	case codeSkew, codeNotYetValid:
		return ticket.ErrClockSkew
	case codeServerUnknown:
		return ticket.ErrSPNUnknown
	case codeKDCUnreachable, codeRealmUnknown:
		return ticket.ErrKDCUnreachable
	}
	return nil
}

// signInKindOf is the same for a call that asks a KDC for a TGT.
func signInKindOf(code int32) error {
	switch code {
	case codePreauthFailed, codeBadIntegrity:
		return ticket.ErrPassword
	case codePrincipalUnknown:
		return ticket.ErrPrincipalUnknown
	case codeRevoked:
		return ticket.ErrRevoked
	case codePasswordExpired:
		return ticket.ErrPasswordExpired
	case codeBadOption: // RFC 4120 section 3.3.3.1: asked to renew what cannot be
		return ticket.ErrNotRenewable
	}
	return kindOf(code)
}

// cacheKindOf is the same for a libkrb5 call that only reads a cache.
func cacheKindOf(code int32) error {
	switch code {
	case codeCacheNoFile, codeCacheNotFound, codeCacheEmpty, codeCacheEnd, codeNoEntry:
		return ticket.ErrNoTicket
	}
	return ticket.ErrCache
}

// aboutCache reports whether a token call failed for want of a usable cache,
// which also happens while another program replaces it.
func aboutCache(minor int32) bool {
	switch minor {
	case codeCacheNotFound, codeCacheEnd, codeCacheBadName, codeCacheType, codeCacheIO, codeCachePerm,
		codeCacheNoFile, codeCacheFormat, codeCacheEmpty, codeNoEntry, codeBeingReplaced:
		return true
	}
	return false
}

// checkSPN refuses what no library should see: a NUL would cut the name short
// and so ask for another service than the log says.
func checkSPN(spn string) error {
	if spn == "" {
		return errors.New("the service principal is empty; want one like HTTP/proxy.corp.example")
	}
	for _, r := range spn {
		if r <= ' ' || r == 0x7f {
			return errors.New("the service principal contains a space or control character")
		}
	}
	return nil
}
