package gss

import (
	"errors"
	"testing"

	"kerbpass/internal/ticket"
)

func TestCodes(t *testing.T) {
	for code, want := range map[int32]error{
		-1765328352: ticket.ErrExpired, -1765328377: ticket.ErrSPNUnknown, -1765328347: ticket.ErrClockSkew,
		-1765328351: ticket.ErrClockSkew, -1765328228: ticket.ErrKDCUnreachable, -1765328230: ticket.ErrKDCUnreachable,
		-1765328243: nil, 2: nil, 0: nil, 100001: nil,
	} {
		if got := kindOf(code); got != want {
			t.Errorf("%d: got %v, want %v", code, got, want)
		}
		if want != nil && aboutCache(code) {
			t.Errorf("%d is said to be about the cache", code)
		}
	}
	for _, code := range []int32{-1765328243, -1765328189, -1765328185, -1765328191, 39756044, 2, 1} {
		if !aboutCache(code) {
			t.Errorf("%d is not said to be about the cache", code)
		}
	}
	for code, want := range map[int32]error{-1765328189: ticket.ErrNoTicket, 2: ticket.ErrNoTicket, -1765328185: ticket.ErrCache, -1765328244: ticket.ErrCache, 13: ticket.ErrCache} {
		if got := cacheKindOf(code); got != want {
			t.Errorf("reading a cache, %d: got %v, want %v", code, got, want)
		}
	}
}

func TestErrorText(t *testing.T) {
	e := &Error{Kind: ticket.ErrSPNUnknown, Text: "Server HTTP/x@R not found"}
	if got, want := e.Error(), "service principal not known to the KDC: Server HTTP/x@R not found"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(e, ticket.ErrSPNUnknown) {
		t.Error("the sentinel is not found")
	}
	if got := (&Error{}).Error(); got == "" {
		t.Error("an empty error text")
	}
}
