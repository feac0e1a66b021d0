package sspi

import (
	"context"
	"errors"
	"fmt"

	"kerbpass/internal/ticket"
)

// An Error is a status code of Windows. Its Unwrap is one of the ticket
// sentinels, [errors.ErrUnsupported], or nil where none fits.
type Error struct {
	Code uint32 // a SECURITY_STATUS (0x8009....) or an NTSTATUS (0xC000....)
	Kind error
	Text string // in plain words
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s (0x%08X)", e.Text, e.Code)
	if e.Kind == nil {
		return text
	}
	return e.Kind.Error() + ": " + text
}

func (e *Error) Unwrap() error { return e.Kind }

// Codes that decide what is done next.
const (
	statusNoMemory   = 0x80090300 // SEC_E_INSUFFICIENT_MEMORY
	statusInternal   = 0x80090304 // SEC_E_INTERNAL_ERROR
	statusIncomplete = 0x80090318 // SEC_E_INCOMPLETE_MESSAGE
	statusTooSmall   = 0x80090321 // SEC_E_BUFFER_TOO_SMALL
)

// statuses is what codes mean. The LSA answers with codes of either kind.
var statuses = map[uint32]struct {
	kind error
	text string
}{
	0x80090302: {errors.ErrUnsupported, "this Windows does not know the function"},
	0x80090303: {ticket.ErrSPNUnknown, "no domain controller knows the service"},
	0x80090305: {errors.ErrUnsupported, "this Windows has no Kerberos package"},
	0x8009030C: {ticket.ErrNoTicket, "the domain controller no longer accepts what Windows signed in with; " + howToSignIn},
	0x8009030D: {ticket.ErrNoTicket, "Windows does not know the credentials"},
	0x8009030E: {ticket.ErrNoTicket, "Windows has no Kerberos credentials for this session"},
	0x80090311: {ticket.ErrKDCUnreachable, "Windows reached no domain controller"},
	0x80090317: {ticket.ErrExpired, "the credentials have expired"},
	0x80090322: {ticket.ErrSPNUnknown, "the service's name is not right"},
	0x80090324: {ticket.ErrClockSkew, "the clocks of this computer and of the domain controller differ too much"},
	0x80090342: {nil, "the domain controller and the service share no encryption type with this computer"},
	0x80090350: {ticket.ErrKDCUnreachable, "Windows could not reach the domain controller that it signed in at"},

	statusNoMemory:   {nil, "Windows is out of memory"},
	statusInternal:   {nil, "Windows gives no reason"},
	statusIncomplete: {nil, "the token is too large"},
	statusTooSmall:   {nil, "the token is too large"},

	0xC0000002: {errors.ErrUnsupported, "this Windows does not know the request"},
	0xC0000003: {errors.ErrUnsupported, "this Windows does not know the request"},
	0xC000000D: {nil, "Windows did not understand the request"},
	0xC0000022: {nil, "Windows does not allow it"},
	0xC000005E: {ticket.ErrKDCUnreachable, "Windows reached no domain controller"},
	0xC000005F: {ticket.ErrNoTicket, "the sign-in session is gone"},
	0xC0000064: {ticket.ErrPrincipalUnknown, "the domain controller does not know the account"},
	0xC000006A: {ticket.ErrPassword, "the domain controller does not accept the password that Windows signed in with"},
	0xC000006D: {ticket.ErrPassword, "the domain controller does not accept what Windows signed in with"},
	0xC0000071: {ticket.ErrPasswordExpired, "the domain controller wants a new password"},
	0xC0000072: {ticket.ErrRevoked, "the account is disabled"},
	0xC00000BB: {errors.ErrUnsupported, "this Windows does not know the request"},
	0xC00000FE: {errors.ErrUnsupported, "this Windows has no Kerberos package"},
	0xC0000133: {ticket.ErrClockSkew, "the clocks of this computer and of the domain controller differ too much"},
	0xC000018B: {ticket.ErrSPNUnknown, "no domain controller knows the service"},
	0xC0000193: {ticket.ErrRevoked, "the account has expired"},
	0xC0000224: {ticket.ErrPasswordExpired, "the domain controller wants a new password"},
	0xC0000234: {ticket.ErrRevoked, "the account is locked"},
}

// statusError puts a code into words; nil for 0.
func statusError(code uint32) error {
	if code == 0 {
		return nil
	}
	s, ok := statuses[code]
	if !ok {
		s.text = "Windows refused"
	}
	return &Error{Code: code, Kind: s.kind, Text: s.text}
}

// cacheError is what a failure to list the tickets means: an unreadable cache,
// where the code says nothing more telling.
func cacheError(err error) error {
	if e, ok := errors.AsType[*Error](err); ok && e.Kind != nil || errors.Is(err, ticket.ErrCache) {
		return err
	}
	return fmt.Errorf("%w: %w", ticket.ErrCache, err)
}

// notRenewed says why the TGT of realm ends no later than before. refusal is
// what Windows answered to the request, nil if it took it.
func notRenewed(realm string, refusal error) error {
	e, ok := errors.AsType[*Error](refusal)
	switch {
	case errors.Is(refusal, context.Canceled), errors.Is(refusal, context.DeadlineExceeded):
		return refusal
	case refusal == nil:
		return fmt.Errorf("%w: %s", ticket.ErrNotRenewable, howToRenew)
	case ok && e.Kind != nil && e.Kind != errors.ErrUnsupported:
		return &ticket.KDCError{Realm: realm, Text: e.Text, Err: e.Kind}
	}
	return fmt.Errorf("%w: %s (%w)", ticket.ErrNotRenewable, howToRenew, refusal)
}
