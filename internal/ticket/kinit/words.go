package kinit

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"kerbpass/internal/ticket"
)

// words are what a tool says when it fails, in lower case, and what that means.
// The first that fits counts.
type words []struct {
	text string
	err  error
}

var (
	kdcWords = words{
		{"clock skew", ticket.ErrClockSkew},
		{"unable to reach any kdc", ticket.ErrKDCUnreachable},
		{"cannot contact any kdc", ticket.ErrKDCUnreachable},
		{"cannot find kdc", ticket.ErrKDCUnreachable},
		{"cannot resolve", ticket.ErrKDCUnreachable},
	}
	signInWords = append(words{
		{"password incorrect", ticket.ErrPassword},
		{"preauthentication failed", ticket.ErrPassword},
		{"not found in kerberos database", ticket.ErrPrincipalUnknown},
		{"client_not_found", ticket.ErrPrincipalUnknown},
		{") unknown", ticket.ErrPrincipalUnknown}, // Client (x@R) unknown
		{"revoked", ticket.ErrRevoked},
		{"locked out", ticket.ErrRevoked},
		{"password has expired", ticket.ErrPasswordExpired},
		{"password expired", ticket.ErrPasswordExpired},
	}, kdcWords...)
	renewWords = append(words{
		{"get-principal", ticket.ErrNoTicket},
		{"no credentials cache", ticket.ErrNoTicket},
		{"ticket expired", ticket.ErrExpired},
		{"matching credential not found", ticket.ErrExpired}, // Heimdal looks for valid ones only
		{"not renewable", ticket.ErrNotRenewable},
		{"requested option", ticket.ErrNotRenewable},
		{"badoption", ticket.ErrNotRenewable},
		{"bad option", ticket.ErrNotRenewable},
		{"revoked", ticket.ErrRevoked},
	}, kdcWords...)
	destroyWords = words{
		{"no credentials cache", ticket.ErrNoTicket},
		{"did not find a plugin", ticket.ErrNoTicket}, // Heimdal 7 without the file
		{"no such file", ticket.ErrNoTicket},
	}
)

// meaning turns how a tool ended into an error of package ticket. Only a tool
// that ended by itself and was not content has words that count.
func meaning(w words, realm string, out []byte, err error) error {
	var exit *exitError
	switch {
	case errors.Is(err, errTooLate):
		return &ticket.KDCError{Realm: realm, Text: err.Error(), Err: ticket.ErrKDCUnreachable}
	case !errors.As(err, &exit) && !errors.Is(err, errNothingThere):
		return err
	}
	text := lastWords(out)
	lower := strings.ToLower(text)
	for _, e := range w {
		if !strings.Contains(lower, e.text) {
			continue
		}
		switch e.err {
		case ticket.ErrNoTicket, ticket.ErrExpired, ticket.ErrNotRenewable: // the KDC was not asked
			return fmt.Errorf("%w: %s", e.err, text)
		}
		return &ticket.KDCError{Realm: realm, Text: text, Err: e.err}
	}
	if text == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, text)
}

// lastWords is the end of a tool's output in one line.
func lastWords(out []byte) string {
	const most = 400
	text := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(string(out[max(0, len(out)-most):]), "?"))
	return strings.Join(strings.Fields(text), " ")
}
