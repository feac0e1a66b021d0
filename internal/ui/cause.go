package ui

import (
	"slices"
	"time"
)

// scope says what of the person's way out a cause blocks.
type scope int

const (
	always       scope = iota // everything that goes to the company's proxy
	withKerberos              // the same, but nothing while Kerberos is off or paused
	byTicket                  // so too; the ticket's own icon tells it
	elsewhere                 // one request, or what the switch tells
)

// causes are the contract's.
var causes = map[string]scope{
	"no_ticket":                byTicket,
	"ticket_expired":           byTicket,
	"kdc_unreachable":          withKerberos,
	"spn_unknown":              withKerberos,
	"clock_skew":               withKerberos,
	"ntlm_instead_of_kerberos": withKerberos,
	"negotiate_not_offered":    withKerberos,
	"token_refused":            withKerberos,
	"token_too_large":          withKerberos,
	"kerberos_off":             elsewhere,
	"kerberos_unavailable":     withKerberos,
	"upstream_unreachable":     always,
	"upstream_unresolved":      always,
	"upstream_tls":             always,
	"upstream_not_allowed":     always,
	"destination_unreachable":  elsewhere,
	"destination_unresolved":   elsewhere,
	"timeout":                  always,
	"loop_detected":            always,
	"bad_request":              elsewhere,
	"not_your_user":            elsewhere,
	"body_not_replayable":      elsewhere,
	"no_password":              always,
	"password_in_clear":        elsewhere,
	"policy":                   elsewhere,
	"internal":                 always,
}

// Cause words one cause of the contract for people who do not know Kerberos:
// what happened, without a full stop, and what to do next. The detail is a
// host or another name that the sentence ends with; "" leaves it out. A cause
// that is not of the contract gets a general sentence.
func (p *Printer) Cause(cause, detail string) (sentence, hint string) {
	if _, known := causes[cause]; !known {
		cause = "unknown"
	}
	sentence, hint = p.text("cause."+cause), p.text("hint."+cause)
	if detail = name(detail); detail != "" {
		sentence = p.text("cause_detail", sentence, detail)
	}
	return sentence, hint
}

// blocked returns the gravest problem that keeps programs from the company's
// proxy as things are, or nil. A cause that is not of the contract does.
func (f Facts) blocked(now time.Time) *Problem {
	return f.first(func(s scope) bool { return s == always || s == withKerberos && f.authenticates(now) })
}

// gravest returns the problem to tell of: one that blocks the way, else the
// first that matters while Kerberos is as it is; or nil.
func (f Facts) gravest(now time.Time) *Problem {
	if x := f.blocked(now); x != nil {
		return x
	}
	return f.first(func(s scope) bool { return s == elsewhere || f.authenticates(now) })
}

func (f Facts) first(match func(scope) bool) *Problem {
	i := slices.IndexFunc(f.Problems, func(x Problem) bool { return match(causes[x.Cause]) })
	if i < 0 {
		return nil
	}
	return &f.Problems[i]
}
