package krb5

import (
	"errors"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/messages"

	"kerbpass/internal/ticket"
)

// A refusal is a KDC's KRB-ERROR (RFC 4120 section 5.9.1). It unwraps to what
// the caller can do about it, if there is a name for that.
type refusal struct {
	code int32
	at   time.Time // by the KDC's clock
	data []byte
}

func (r *refusal) Error() string { return strings.TrimSpace(errorcode.Lookup(r.code)) }

func (r *refusal) Unwrap() error { return meanings[r.code] }

var meanings = map[int32]error{
	errorcode.KDC_ERR_NAME_EXP:            ticket.ErrRevoked,
	errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN: ticket.ErrPrincipalUnknown,
	errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN: ticket.ErrSPNUnknown,
	errorcode.KDC_ERR_CLIENT_REVOKED:      ticket.ErrRevoked,
	errorcode.KDC_ERR_KEY_EXPIRED:         ticket.ErrPasswordExpired,
	errorcode.KDC_ERR_PREAUTH_FAILED:      ticket.ErrPassword,
	errorcode.KDC_ERR_SVC_UNAVAILABLE:     ticket.ErrKDCUnreachable,
	errorcode.KRB_AP_ERR_TKT_EXPIRED:      ticket.ErrExpired,
	errorcode.KRB_AP_ERR_TKT_NYV:          ticket.ErrClockSkew,
	errorcode.KRB_AP_ERR_SKEW:             ticket.ErrClockSkew,
}

// readRefusal returns the KRB-ERROR that raw is, or nil. It may panic.
func readRefusal(raw []byte) *refusal {
	var no messages.KRBError
	if no.Unmarshal(raw) != nil {
		return nil
	}
	return &refusal{no.ErrorCode, no.STime.Add(time.Duration(no.Susec%1e6) * time.Microsecond), no.EData}
}

// isCode reports whether err is a refusal for this reason.
func isCode(err error, code int32) bool {
	r, ok := errors.AsType[*refusal](err)
	return ok && r.code == code
}

// kdcError says which realm and which KDC err comes from; kdc is "" where none
// has answered.
func kdcError(realm, kdc string, err error) error {
	e := &ticket.KDCError{Realm: realm, KDC: kdc, Err: err}
	if r, ok := errors.AsType[*refusal](err); ok && r.Unwrap() != nil {
		e.Err, e.Text = r.Unwrap(), r.Error()
	}
	return e
}
