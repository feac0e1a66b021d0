package main

import (
	"context"
	"errors"
	"net/http"

	"kerbpass/internal/autostart"
	"kerbpass/internal/control"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
)

// refusal is the body of every answer that says no. Error and Hint are English
// and as exact as can be; they are for the command line and the log. Code is
// for the settings page, which has a sentence and a hint for each in its
// languages, and adds Detail, what a library or the settings say of this very
// case, as it is.
type refusal struct {
	Error  string `json:"error"`
	Hint   string `json:"hint"`
	Code   string `json:"code,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// Refusals that no room has an error for.
var (
	errManySignIns   = errors.New("too many sign-ins")
	errSignInEnded   = errors.New("sign-in ended")
	errNoQuestion    = errors.New("no such question")
	errNotListed     = errors.New("not on the list")
	errNoSwitch      = errors.New("cannot be switched here")
	errNoKerberos    = errors.New("no Kerberos")
	errNoLog         = errors.New("no log file")
	errNothingOpens  = errors.New("no program to open it")
	errBadRequest    = errors.New("request not understood")
	errEntries       = errors.New("entries refused")
	errNoHost        = errors.New("no host")
	errNoReport      = errors.New("nothing was checked yet")
	errNoDiagnosis   = errors.New("the check failed")
	errAutostartElse = errors.New("start at login failed")
)

// refusalCodes is in order of preference: an error may be several of them.
var refusalCodes = []struct {
	is     error
	code   string
	detail bool // what the error itself says is worth showing
}{
	{errManySignIns, "many_sign_ins", false},
	{errSignInEnded, "sign_in_ended", false},
	{errNoQuestion, "no_question", false},
	{errNotListed, "not_listed", false},
	{errNoSwitch, "no_switch", false},
	{errNoKerberos, "no_kerberos", true},
	{errNoLog, "no_log", false},
	{errNothingOpens, "nothing_opens", true},
	{errBadRequest, "bad_request", false},
	{errEntries, "entries", false},
	{errNoHost, "no_host", false},
	{errNoReport, "no_report", false},
	{errNoDiagnosis, "no_diagnosis", true},

	{autostart.ErrForeign, "autostart_foreign", true},
	{autostart.ErrNotRegular, "autostart_foreign", true},
	{autostart.ErrTurnedOff, "autostart_off", false},
	{autostart.ErrByAdmin, "autostart_admin", false},
	{errAutostartElse, "autostart", true},

	{settings.ErrLocked, "locked", false},
	{settings.ErrInvalid, "invalid", true},
	{settings.ErrBroken, "broken", true},
	{settings.ErrByHand, "by_hand", true},
	{settings.ErrNewer, "newer", false},
	{settings.ErrBusy, "busy", false},
	{errNotSaved, "not_saved", true},

	{context.Canceled, "given_up", false},
	{ticket.ErrPassword, "password", false},
	{ticket.ErrPrincipalUnknown, "principal_unknown", false},
	{ticket.ErrRevoked, "revoked", false},
	{ticket.ErrPasswordExpired, "password_expired", false},
	{ticket.ErrClockSkew, "clock_skew", false},
	{ticket.ErrKDCUnreachable, "kdc_unreachable", true},
	{ticket.ErrNotRenewable, "not_renewable", false},
	{ticket.ErrExpired, "expired", false},
	{ticket.ErrNoTicket, "no_ticket", false},
	{errors.ErrUnsupported, "unsupported", true},
	{ticket.ErrCache, "cache", true},
	{errSignInElse, "sign_in", true},
}

var (
	errNotSaved   = errors.New("not saved")
	errSignInElse = errors.New("ticket not changed")
)

// causedBy is an error of a kind, with the words of another.
type causedBy struct{ kind, err error }

func (b *causedBy) Error() string   { return b.err.Error() }
func (b *causedBy) Unwrap() []error { return []error{b.kind, b.err} }

// caused notes why a refusal came about, for [refusalOf]. Whatever else err is,
// it is of the kinds too.
func caused(worded, err error, kinds ...error) error {
	var e *exitError
	if !errors.As(worded, &e) {
		return worded
	}
	if e.cause != nil {
		return worded
	}
	for _, kind := range kinds {
		err = &causedBy{kind, err}
	}
	e.cause = err
	return worded
}

// noKerberos words that there is no backend.
func noKerberos(err error) error {
	return caused(failf(exitFailed, "Install the system's Kerberos library (libgssapi-krb5-2, krb5-libs).", "Kerberos is not available here: %v.", err), err, errNoKerberos)
}

// refusalIn is the body for an error: sentence, hint, and what the page makes
// its own words of.
func refusalIn(err error) refusal {
	r := refusal{Error: err.Error()}
	var e *exitError
	if errors.As(err, &e) {
		r.Hint = e.hint
	}
	r.Code, r.Detail = refusalOf(err)
	return r
}

func writeRefusal(w http.ResponseWriter, status int, err error) {
	control.WriteStatus(w, status, refusalIn(err))
}

// refusalOf returns the page's word for an error, "" where it has none, and
// what is to be added in the original.
func refusalOf(err error) (code, detail string) {
	var e *exitError
	if !errors.As(err, &e) || e.cause == nil {
		return "", ""
	}
	for _, r := range refusalCodes {
		if errors.Is(e.cause, r.is) {
			if r.detail {
				detail = printable(e.cause.Error())
			}
			return r.code, detail
		}
	}
	return "", ""
}

// entryCodes are the page's words for why an entry of the exact list is
// refused, by the reason in English.
var entryCodes = map[string]string{
	"a block of addresses does not work in the exact list; enter each address, or use the suffix list":                          "block",
	"wildcards do not work in the exact list; enter each name in full, or use the suffix list":                                  "wildcard",
	"a leading dot stands for subdomains, which the exact list does not cover; enter each name in full, or use the suffix list": "dot",
	"the exact list holds hosts without a port; an entry counts for every port":                                                 "port",
	"the entry is empty":                          "empty",
	"quotation marks are not part of a host name": "quotes",
	"it looks like several entries; enter them one by one, or with commas between them":     "several",
	`a backslash does not occur in host names; programs disagree about what comes after it`: "backslash",
	"this is a URL; enter the host alone":                                                   "url",
	"there is a path behind the host; enter the host alone":                                 "path",
	"there is a user name before the host; enter the host alone":                            "user",
	"a part between its dots is empty":                                                      "empty_part",
	"a part between its dots is longer than 63 characters":                                  "long",
	"the name is longer than 253 characters":                                                "long",
	"it ends in a number, but it is not an IPv4 address of four decimal parts":              "ipv4",
	`it contains ":", but it is not an IPv6 address`:                                        "ipv6",
	"an address with a zone is not accepted":                                                "zone",
	"it is an address written in unusual characters":                                        "characters",
	"it is not a valid international name":                                                  "characters",
	"it is not valid UTF-8":                                                                 "characters",
}

// entryCode is the page's word for a reason; what remains is about single
// characters that no host name has.
func entryCode(reason string) string {
	if code, ok := entryCodes[reason]; ok {
		return code
	}
	return "characters"
}
