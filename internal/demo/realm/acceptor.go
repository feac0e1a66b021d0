package realm

import (
	"bytes"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// Why an Acceptor refused a token.
var (
	// ErrMalformed: not a Kerberos token, cut off, or not made with the key it
	// claims.
	ErrMalformed = errors.New("malformed token")
	// ErrWrongService: the ticket is for a service this acceptor has no key of.
	ErrWrongService = errors.New("ticket for another service")
	// ErrExpired: the service ticket has ended.
	ErrExpired = errors.New("ticket expired")
	// ErrSkew: the token was made at another time than now, or its ticket is
	// not valid yet.
	ErrSkew = errors.New("clock skew too great")
	// ErrReplay: this very token was accepted before.
	ErrReplay = errors.New("token replayed")
)

const (
	maxToken  = 256 << 10 // a ticket with the largest group list has 64 KB
	maxReplay = 1 << 21   // tokens remembered; then the acceptor refuses
)

// A Context is what an accepted token established.
type Context struct {
	Client  string    // alice@DEMO.INVALID
	Service string    // HTTP/proxy.demo.invalid@DEMO.INVALID
	Expires time.Time // of the service ticket
	SPNEGO  bool      // wrapped in a NegTokenInit (RFC 4178), not a raw Kerberos token
	Mutual  bool      // the client wants the server to prove itself
	Flags   uint32    // the GSS flags the client asked for (RFC 4121 section 4.1.1.1)
}

// An Acceptor judges tokens with the realm's service keys, as a proxy that
// demands Negotiate does. It works without the KDC. Safe for concurrent use.
type Acceptor struct {
	realm    string
	keys     *keytab.Keytab
	services []string // accepted; empty: any in the keytab
	clock    func() time.Time

	// mu guards the replay cache.
	mu    sync.Mutex
	seen  map[[16]byte]int64 // digest of an authenticator, when to forget it (Unix)
	prune int64              // when to look for entries to forget
}

// Acceptor makes an acceptor with a replay cache of its own. It takes tickets
// for the services given, or with none for every service in the keytab.
func (r *Realm) Acceptor(services ...string) *Acceptor {
	return &Acceptor{
		realm: r.name, keys: r.svcKeys, services: slices.Clone(services), clock: r.clock,
		seen: map[[16]byte]int64{},
	}
}

// Accept returns the client principal of a good token: a NegTokenInit whose
// first mechanism is Kerberos, a raw Kerberos GSS token, or a bare AP-REQ. The
// same token is good once. The error wraps one of the Err values.
func (a *Acceptor) Accept(token []byte) (string, error) {
	c, err := a.Inspect(token)
	return c.Client, err
}

// Inspect is Accept with everything the token said.
func (a *Acceptor) Inspect(token []byte) (c Context, err error) {
	defer func() {
		if p := recover(); p != nil { // the library's decryption does not check lengths
			c, err = Context{}, fmt.Errorf("%w: %v", ErrMalformed, p)
		}
	}()
	if len(token) > maxToken {
		return Context{}, fmt.Errorf("%w: %d bytes, the limit is %d", ErrMalformed, len(token), maxToken)
	}
	raw, spnego, err := unwrap(token)
	if err != nil {
		return Context{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var ap messages.APReq
	if err := ap.Unmarshal(raw); err != nil {
		return Context{}, fmt.Errorf("%w: %v", ErrMalformed, err)
	}
	t := &ap.Ticket
	name := t.SName.PrincipalNameString()
	c = Context{Service: name + "@" + t.Realm, SPNEGO: spnego, Mutual: types.IsFlagSet(&ap.APOptions, flags.APOptionMutualRequired)}
	if t.Realm != a.realm || len(a.services) > 0 && !slices.Contains(a.services, name) {
		return Context{}, fmt.Errorf("%w: %s", ErrWrongService, c.Service)
	}
	key, _, err := a.keys.GetEncryptionKey(t.SName, t.Realm, t.EncPart.KVNO, t.EncPart.EType)
	if err != nil {
		return Context{}, fmt.Errorf("%w: %s", ErrWrongService, c.Service)
	}
	if err := t.Decrypt(key); err != nil {
		return Context{}, fmt.Errorf("%w: ticket: %v", ErrMalformed, err)
	}
	// A PAC in the ticket is left alone: this realm issues none, and nobody
	// here decides by groups.
	part := &t.DecryptedEncPart
	c.Client, c.Expires = part.CName.PrincipalNameString()+"@"+part.CRealm, part.EndTime.UTC()
	if err := ap.DecryptAuthenticator(part.Key); err != nil {
		return Context{}, fmt.Errorf("%w: authenticator: %v", ErrMalformed, err)
	}
	auth := &ap.Authenticator
	if !auth.CName.Equal(part.CName) || auth.CRealm != part.CRealm {
		return Context{}, fmt.Errorf("%w: authenticator of %s in a ticket of %s", ErrMalformed, auth.CName.PrincipalNameString(), c.Client)
	}
	if c.Flags, err = gssFlags(auth.Cksum); err != nil {
		return Context{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	now := a.clock()
	if d := now.Sub(auth.CTime).Abs(); d > clockSkew {
		return Context{}, fmt.Errorf("%w: %v apart", ErrSkew, d.Round(time.Second))
	}
	if part.StartTime.After(now.Add(clockSkew)) {
		return Context{}, fmt.Errorf("%w: ticket starts at %s", ErrSkew, part.StartTime.UTC().Format(time.RFC3339))
	}
	if !part.EndTime.After(now.Add(-clockSkew)) {
		return Context{}, fmt.Errorf("%w: at %s", ErrExpired, c.Expires.Format(time.RFC3339))
	}
	if err := a.remember(ap.EncryptedAuthenticator.Cipher, now); err != nil {
		return Context{}, err
	}
	return c, nil
}

// remember records an authenticator for as long as its time stamp could pass
// (RFC 4120 section 3.2.3). The cipher text stands for it: it cannot be
// changed without the session key.
func (a *Acceptor) remember(cipher []byte, now time.Time) error {
	sum := sha256.Sum256(cipher)
	id := [16]byte(sum[:16])
	a.mu.Lock()
	defer a.mu.Unlock()
	if unix := now.Unix(); unix >= a.prune {
		for k, until := range a.seen {
			if until < unix {
				delete(a.seen, k)
			}
		}
		a.prune = unix + 60
	}
	if _, again := a.seen[id]; again {
		return ErrReplay
	}
	if len(a.seen) >= maxReplay {
		return fmt.Errorf("%w: replay cache full, so it cannot be ruled out", ErrReplay)
	}
	a.seen[id] = now.Add(2*clockSkew + time.Second).Unix()
	return nil
}

var (
	spnegoOID = []byte{6, 6, 0x2b, 6, 1, 5, 5, 2}
	krb5OID   = []byte{6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2}
	krb5Mechs = []asn1.ObjectIdentifier{
		{1, 2, 840, 113554, 1, 2, 2},
		{1, 2, 840, 48018, 1, 2, 2}, // Microsoft's typing error, sent by Windows to this day
	}
)

// unwrap finds the AP-REQ in a token.
func unwrap(token []byte) (apReq []byte, spnego bool, err error) {
	if bytes.HasPrefix(token, []byte("NTLMSSP\x00")) {
		return nil, false, errors.New("NTLM, not Kerberos")
	}
	if len(token) > 0 && token[0] == 0x6e { // APPLICATION 14
		return token, false, nil
	}
	inner, err := gssToken(token)
	if err != nil {
		return nil, false, err
	}
	if rest, ok := bytes.CutPrefix(inner, spnegoOID); ok {
		var choice asn1.RawValue
		if _, err := asn1.Unmarshal(rest, &choice); err != nil {
			return nil, false, err
		}
		if choice.Class != asn1.ClassContextSpecific || choice.Tag != 0 {
			return nil, false, errors.New("SPNEGO, but not a NegTokenInit")
		}
		var init struct {
			MechTypes []asn1.ObjectIdentifier `asn1:"explicit,tag:0"`
			Flags     asn1.BitString          `asn1:"optional,explicit,tag:1"`
			Token     []byte                  `asn1:"optional,explicit,tag:2"`
			MIC       []byte                  `asn1:"optional,explicit,tag:3"`
		}
		if _, err := asn1.Unmarshal(choice.Bytes, &init); err != nil {
			return nil, false, err
		}
		// The token that comes along belongs to the first mechanism.
		if len(init.MechTypes) == 0 || !slices.ContainsFunc(krb5Mechs, init.MechTypes[0].Equal) {
			return nil, false, fmt.Errorf("SPNEGO for %v, not Kerberos", init.MechTypes)
		}
		spnego = true
		if inner, err = gssToken(init.Token); err != nil {
			return nil, false, err
		}
	}
	rest, ok := bytes.CutPrefix(inner, krb5OID)
	if !ok {
		return nil, false, errors.New("mechanism is not Kerberos")
	}
	rest, ok = bytes.CutPrefix(rest, []byte{1, 0}) // TOK_ID of an AP-REQ, RFC 4121 section 4.1
	if !ok {
		return nil, false, errors.New("a Kerberos token, but no AP-REQ")
	}
	return rest, spnego, nil
}

// gssToken opens the frame of RFC 2743 section 3.1.
func gssToken(b []byte) ([]byte, error) {
	var frame asn1.RawValue
	rest, err := asn1.Unmarshal(b, &frame)
	if err != nil {
		return nil, err
	}
	if frame.Class != asn1.ClassApplication || frame.Tag != 0 || len(rest) > 0 {
		return nil, errors.New("not a GSS token")
	}
	return frame.Bytes, nil
}

// gssFlags reads the checksum field that GSS puts into an authenticator
// (RFC 4121 section 4.1.1). A bare AP-REQ may carry none.
func gssFlags(sum types.Checksum) (uint32, error) {
	if sum.CksumType != chksumtype.GSSAPI {
		return 0, nil
	}
	if len(sum.Checksum) < 24 || binary.LittleEndian.Uint32(sum.Checksum) != 16 {
		return 0, errors.New("GSS checksum field cut off")
	}
	return binary.LittleEndian.Uint32(sum.Checksum[20:]), nil
}
