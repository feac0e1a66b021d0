package sspi_test

import (
	"context"
	"errors"

	"kerbpass/internal/ticket"
)

// A Backend lives on Windows, the KDC and the acceptor that judge it on Linux.
// So the Windows test program, run under Wine, serves one over its standard
// input and output, in lines of JSON.

// childSwitch in the environment makes the test program serve.
const childSwitch = "KERBPASS_TEST_SSPI_CHILD"

type request struct {
	ID       int
	Op       string // name of a Backend method, in lower case; or "cancel", which ends the context of ID
	Arg      string
	Services []string
	Canceled bool // call with a context that has ended
}

type reply struct {
	ID     int
	Text   string
	Token  []byte
	Status ticket.Status
	Caches []ticket.Cache
	Err    string
	Kinds  []int // indexes into sentinels
}

var sentinels = []error{ticket.ErrNoTicket, ticket.ErrExpired, ticket.ErrKDCUnreachable, ticket.ErrSPNUnknown,
	ticket.ErrClockSkew, ticket.ErrCache, ticket.ErrNotRenewable, errors.ErrUnsupported, context.Canceled}
