// Package sspi uses the tickets of the Windows sign-in: tokens come from SSPI's
// package "Kerberos", what is known about tickets from the LSA's cache.
//
// It promises tokens that need no second leg, in our own SPNEGO wrapping (RFC
// 4178), so that Windows cannot turn to NTLM behind our back; times in UTC;
// and errors that say whether the ticket, the domain controller, the service
// name or the clock is at fault. It never delegates, never asks for mutual
// authentication, and purges tickets in SignOut only.
//
// Windows signs in itself and keeps the secret to itself: [Backend.SignIn] is
// unsupported, and a renewal is a request that Windows may leave unheard.
//
// No call can be cancelled; [ticket.Manager] keeps those that hang away from
// callers. Wine, under which this package is tested, lists tickets without
// their client: there the principal is the user's name in the TGT's realm.
package sspi

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"

	"kerbpass/internal/ticket"
)

// Config says how a [Backend] works.
type Config struct {
	// Service is the principal of the upstream, "HTTP/host" or with its realm.
	// A realm decides which TGT is shown, should Windows hold those of several
	// sign-ins. May be empty.
	Service string

	Log *slog.Logger // nil discards
}

// Built on every system: a backend that drifts from the contract stops
// compiling everywhere at once.
var _ ticket.Backend = (*Backend)(nil)

// cacheName is what MIT Kerberos calls the LSA's cache.
const cacheName = "MSLSA:"

const (
	howToSignIn = "lock Windows (Win+L) and unlock it with your password: Windows then gets a new ticket"
	howToRenew  = "lock and unlock Windows (Win+L) to get a new ticket"
)

// errCloudOnly: what Windows holds opens no company proxy.
var errCloudOnly = fmt.Errorf("%w: Windows holds one for Microsoft's cloud only; a company network or VPN is needed to get one", ticket.ErrNoTicket)

// checkSPN refuses what Windows should not see: a NUL would cut the name short
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

var oidKrb5 = asn1.ObjectIdentifier{1, 2, 840, 113554, 1, 2, 2}

// checkToken accepts the krb5 initial token of RFC 4121 section 4.1 with an
// AP-REQ in it, and nothing else: an NTLM message in the place of a ticket
// would let the proxy see a password's hash.
func checkToken(token []byte) error {
	var frame asn1.RawValue
	rest, err := asn1.Unmarshal(token, &frame)
	if err != nil || len(rest) != 0 || frame.Class != asn1.ClassApplication || frame.Tag != 0 || !frame.IsCompound {
		return fmt.Errorf("got %d bytes from Windows that are not a Kerberos token", len(token))
	}
	var mechanism asn1.ObjectIdentifier
	message, err := asn1.Unmarshal(frame.Bytes, &mechanism)
	if err != nil || !mechanism.Equal(oidKrb5) {
		return errors.New("got a token from Windows for another mechanism than Kerberos")
	}
	if len(message) < 2 || message[0] != 1 || message[1] != 0 {
		return errors.New("got a Kerberos token from Windows without an AP-REQ")
	}
	return nil
}
