package sspi

import (
	"context"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
	"testing"

	"kerbpass/internal/ticket"
)

func TestCheckSPN(t *testing.T) {
	for spn, want := range map[string]bool{
		"HTTP/proxy.corp.example": true, "HTTP/proxy.corp.example@CORP.EXAMPLE": true,
		"": false, "HTTP/a b": false, "HTTP/a\x00b": false, "HTTP/a\n": false, "HTTP/a\x7f": false,
	} {
		if err := checkSPN(spn); (err == nil) != want {
			t.Errorf("%q: got %v, want ok %v", spn, err, want)
		}
	}
}

func TestCheckToken(t *testing.T) {
	apReq := []byte{0x6e, 0x03, 0x30, 0x01, 0x00}
	good := ticket.FrameAPReq(apReq)
	other, err := asn1.Marshal(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 2, 10}) // NTLM
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		token []byte
		want  string // in the error; "" is none
	}{
		{"krb5 token", good, ""},
		{"nothing", nil, "not a Kerberos token"},
		{"NTLM", []byte("NTLMSSP\x00\x01\x00\x00\x00"), "not a Kerberos token"},
		{"raw AP-REQ", apReq, "not a Kerberos token"},
		{"cut short", good[:len(good)-1], "not a Kerberos token"},
		{"something behind", append(good[:len(good):len(good)], 0), "not a Kerberos token"},
		{"SPNEGO already", ticket.WrapSPNEGO(good), "another mechanism"},
		{"NTLM in a frame", append([]byte{0x60, byte(len(other))}, other...), "another mechanism"},
		{"frame without a mechanism", []byte{0x60, 0}, "another mechanism"},
		{"AP-REP", append(good[:13:13], append([]byte{2, 0}, apReq...)...), "without an AP-REQ"},
		{"no message", append([]byte{0x60, 11}, good[2:13]...), "without an AP-REQ"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := checkToken(tt.token)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzCheckToken(f *testing.F) {
	f.Add(ticket.FrameAPReq([]byte{0x6e, 0}))
	f.Add([]byte("NTLMSSP\x00"))
	f.Fuzz(func(t *testing.T, token []byte) {
		if checkToken(token) == nil && (token[0] != 0x60 || strings.Contains(string(token[:8]), "NTLMSSP")) {
			t.Errorf("accepted % x", token)
		}
	})
}

func TestStatusError(t *testing.T) {
	for _, tt := range []struct {
		code uint32
		want error // nil: no sentinel
		text string
	}{
		{0x8009030E, ticket.ErrNoTicket, "no Kerberos credentials"},
		{0x8009030C, ticket.ErrNoTicket, "Win+L"},
		{0x80090303, ticket.ErrSPNUnknown, "no domain controller knows the service"},
		{0xC000018B, ticket.ErrSPNUnknown, "no domain controller knows the service"},
		{0x80090311, ticket.ErrKDCUnreachable, "reached no domain controller"},
		{0xC000005E, ticket.ErrKDCUnreachable, "reached no domain controller"},
		{0x80090324, ticket.ErrClockSkew, "clocks"},
		{0xC0000133, ticket.ErrClockSkew, "clocks"},
		{0x80090317, ticket.ErrExpired, "expired"},
		{0x80090302, errors.ErrUnsupported, "does not know the function"},
		{0xC0000002, errors.ErrUnsupported, "does not know the request"},
		{0xC000006A, ticket.ErrPassword, "password"},
		{0xC0000064, ticket.ErrPrincipalUnknown, "account"},
		{0xC0000234, ticket.ErrRevoked, "locked"},
		{0xC0000071, ticket.ErrPasswordExpired, "new password"},
		{0x80090304, nil, "no reason"},
		{0xC0000022, nil, "does not allow"},
		{0x80091234, nil, "Windows refused"},
	} {
		err := statusError(tt.code)
		number := fmt.Sprintf("(0x%08X)", tt.code)
		if err == nil || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), number) {
			t.Errorf("%#x: got %v, want %q and %s", tt.code, err, tt.text, number)
		}
		if got := errors.Unwrap(err); got != tt.want {
			t.Errorf("%#x: got the sentinel %v, want %v", tt.code, got, tt.want)
		}
	}
	if err := statusError(0); err != nil {
		t.Errorf("success: got %v", err)
	}
	for code, s := range statuses {
		if code < 0x80000000 || s.text == "" {
			t.Errorf("%#x: no failure, or no words for it: %q", code, s.text)
		}
	}
}

func TestCacheError(t *testing.T) {
	plain, allowed := errors.New("cannot be parsed"), statusError(0xC0000022)
	gone := statusError(0xC000005F)
	for err, want := range map[error]error{plain: ticket.ErrCache, allowed: ticket.ErrCache, gone: ticket.ErrNoTicket} {
		got := cacheError(err)
		if !errors.Is(got, want) || !errors.Is(got, err) {
			t.Errorf("%v: got %v, want %v", err, got, want)
		}
	}
}

func TestNotRenewed(t *testing.T) {
	for _, tt := range []struct {
		name    string
		refusal error
		want    error
		kdc     bool
	}{
		{"Windows kept the end", nil, ticket.ErrNotRenewable, false},
		{"not allowed", statusError(0xC0000022), ticket.ErrNotRenewable, false},
		{"not known", statusError(0xC0000002), ticket.ErrNotRenewable, false},
		{"no domain controller", statusError(0xC000005E), ticket.ErrKDCUnreachable, true},
		{"clock", statusError(0x80090324), ticket.ErrClockSkew, true},
		{"cancelled", context.Canceled, context.Canceled, false},
		{"deadline", context.DeadlineExceeded, context.DeadlineExceeded, false},
	} {
		err := notRenewed("CORP.EXAMPLE", tt.refusal)
		kdc, isKDC := errors.AsType[*ticket.KDCError](err)
		if !errors.Is(err, tt.want) || isKDC != tt.kdc || isKDC && kdc.Realm != "CORP.EXAMPLE" {
			t.Errorf("%s: got %v (%T), want %v", tt.name, err, err, tt.want)
		}
		if tt.want == ticket.ErrNotRenewable && !strings.Contains(err.Error(), howToRenew) {
			t.Errorf("%s: %v does not say what to do", tt.name, err)
		}
	}
}
