package krb5

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"kerbpass/internal/ticket"
)

// A pass is a ticket, with the key that proves the right to use it, in the
// library's form.
type pass struct {
	cred
	message messages.Ticket
	session types.EncryptionKey
	maker   *ticket.Maker // nil: the encryption type is left to the library
}

// keySize gives the bytes of a key by encryption type. The library's own table
// has one of them wrong (24 for type 20).
var keySize = map[int32]int{16: 24, 17: 16, 18: 32, 19: 16, 20: 32, 23: 16}

// newPass hands a checked cache entry to the library.
func newPass(e *cred) (p *pass, err error) {
	defer recovered(&err)
	if n, ok := keySize[e.etype]; !ok || n != len(e.key) {
		return nil, fmt.Errorf("%w: key of %d bytes with encryption type %d is not usable here", ticket.ErrCache, len(e.key), e.etype)
	}
	p = &pass{cred: *e, session: types.EncryptionKey{KeyType: e.etype, KeyValue: e.key}}
	if err := p.message.Unmarshal(e.ticket); err != nil {
		return nil, fmt.Errorf("%w: ticket for %s: %v", ticket.ErrCache, e.server, err)
	}
	if len(p.message.SName.NameString) == 0 {
		return nil, fmt.Errorf("%w: ticket for nobody", ticket.ErrCache)
	}
	p.maker, err = ticket.NewMaker(ticket.ServiceTicket{
		Client: e.client.parts, ClientType: e.client.kind, Realm: e.client.realm,
		DER: e.ticket, EncType: ticket.EncType(e.etype), Key: e.key,
	})
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, fmt.Errorf("%w: %w", ticket.ErrCache, err)
	}
	return p, nil
}

// recovered turns a panic of the library, which does not check every length,
// into an error.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("damaged Kerberos message: %v", p)
	}
}

func (p principal) String() string { return strings.Join(p.parts, "/") + "@" + p.realm }

func (p principal) wire() types.PrincipalName {
	return types.PrincipalName{NameType: p.kind, NameString: p.parts}
}

// newAuthenticator is the proof in an AP-REQ (RFC 4120 section 5.5.1), not yet
// sealed.
func newAuthenticator(p *pass, stamp time.Time) types.Authenticator {
	return types.Authenticator{
		AVNO: iana.PVNO, CRealm: p.client.realm, CName: p.client.wire(),
		CTime: stamp.Truncate(time.Second), Cusec: stamp.Nanosecond() / 1000,
		// Below 2^30: some acceptors read the number as signed.
		SeqNumber: int64(random32() & 0x3fffffff),
	}
}

func random32() uint32 {
	var b [4]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint32(b[:])
}

// newNonce ties a reply to its request. It is positive wherever it is read.
func newNonce() int { return int(random32() & 0x7fffffff) }

// token makes a SPNEGO token of a service ticket: krb5 mechanism only, no mutual
// authentication, no delegation, no channel binding. Offset is the KDC's clock
// minus this machine's.
func (p *pass) token(offset time.Duration) ([]byte, error) {
	if p.maker != nil {
		return p.maker.Token(offset), nil
	}
	return newToken(p, ticket.NextStamp().Add(offset))
}

// newToken is the same by the library, for RC4 and DES.
func newToken(p *pass, stamp time.Time) (token []byte, err error) {
	defer recovered(&err)
	// RFC 4121 section 4.1.1: length and hash of no channel bindings, flags.
	const confidential, integrity = 0x10, 0x20
	sum := make([]byte, 24)
	sum[0], sum[20] = 16, confidential|integrity
	proof := newAuthenticator(p, stamp)
	proof.Cksum = types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: sum}
	ap, err := messages.NewAPReq(p.message, p.session, proof)
	if err != nil {
		return nil, err
	}
	b, err := ap.Marshal()
	if err != nil {
		return nil, err
	}
	return ticket.WrapSPNEGO(ticket.FrameAPReq(b)), nil
}

func krbtgt(realm string) types.PrincipalName {
	return types.PrincipalName{NameType: nametype.KRB_NT_SRV_INST, NameString: []string{"krbtgt", realm}}
}

// fetch asks for a service ticket, realm by realm as the KDCs refer
// (RFC 4120 section 3.3, RFC 6806 section 8). target may be "": then the
// client's KDC is asked and knows.
func (s *state) fetch(ctx context.Context, service types.PrincipalName, target string) (*pass, error) {
	at, realm := s.tgt, s.tgt.client.realm
	for range 6 {
		name := service
		if target != "" && realm != target {
			name = krbtgt(target)
		}
		next, err := s.tgs(ctx, realm, at, name, flags.Canonicalize) // or the KDC will not refer
		if err != nil {
			return nil, err
		}
		got := next.server.parts
		if len(got) != 2 || got[0] != "krbtgt" {
			if name.NameString[0] == "krbtgt" {
				return nil, fmt.Errorf("KDC of %s answered with a ticket for %s, not for realm %s", realm, strings.Join(got, "/"), target)
			}
			return next, nil
		}
		if got[1] == realm {
			return nil, fmt.Errorf("KDC of %s refers to itself: %w", realm, ticket.ErrSPNUnknown)
		}
		at, realm = next, got[1]
	}
	return nil, fmt.Errorf("too many referrals between realms for %s", service.PrincipalNameString())
}

// tgs makes one TGS exchange. Its error is a [*ticket.KDCError] wherever the
// KDC has a part in it.
func (s *state) tgs(ctx context.Context, realm string, tgt *pass, service types.PrincipalName, options ...int) (*pass, error) {
	req, nonce, err := s.tgsRequest(realm, tgt, service, options...)
	if err != nil {
		return nil, err
	}
	raw, kdc, err := ask(ctx, s.conf, realm, req)
	if err != nil {
		return nil, kdcError(realm, "", err)
	}
	p, err := readTGS(raw, tgt, nonce)
	if err != nil {
		return nil, kdcError(realm, kdc, err)
	}
	if asked, got := service.NameString[0], p.server.parts[0]; asked != "krbtgt" && got != "krbtgt" && got != asked {
		return nil, kdcError(realm, kdc, fmt.Errorf("answer with a ticket for %s", p.server))
	}
	return p, nil
}

// tgsRequest builds a TGS-REQ (RFC 4120 section 5.4.1) stamped with the KDC's
// time as far as the cache tells it.
func (s *state) tgsRequest(realm string, tgt *pass, service types.PrincipalName, options ...int) (b []byte, nonce int, err error) {
	defer recovered(&err)
	nonce = newNonce()
	body := messages.KDCReqBody{
		KDCOptions: types.NewKrbFlags(), Realm: realm, SName: service,
		Till: tgt.end, Nonce: nonce, EType: s.conf.etypes("default_tgs_enctypes"),
	}
	types.SetFlags(&body.KDCOptions, options)
	sealed, err := body.Marshal()
	if err != nil {
		return nil, 0, err
	}
	et, err := crypto.GetEtype(tgt.session.KeyType)
	if err != nil {
		return nil, 0, err
	}
	sum, err := et.GetChecksumHash(tgt.session.KeyValue, sealed, keyusage.TGS_REQ_PA_TGS_REQ_AP_REQ_AUTHENTICATOR_CHKSUM)
	if err != nil {
		return nil, 0, err
	}
	proof := newAuthenticator(tgt, s.next())
	proof.Cksum = types.Checksum{CksumType: et.GetHashID(), Checksum: sum}
	ap, err := messages.NewAPReq(tgt.message, tgt.session, proof)
	if err != nil {
		return nil, 0, err
	}
	apb, err := ap.Marshal()
	if err != nil {
		return nil, 0, err
	}
	req := messages.TGSReq{KDCReqFields: messages.KDCReqFields{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_TGS_REQ, ReqBody: body,
		PAData: types.PADataSequence{{PADataType: patype.PA_TGS_REQ, PADataValue: apb}},
	}}
	b, err = req.Marshal()
	return b, nonce, err
}

// readTGS opens a TGS-REP and checks that it answers this request
// (RFC 4120 section 3.3.4).
func readTGS(raw []byte, tgt *pass, nonce int) (p *pass, err error) {
	defer recovered(&err)
	if no := readRefusal(raw); no != nil {
		return nil, no
	}
	var rep messages.TGSRep
	if err := rep.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("not a reply: %v", err)
	}
	if err := rep.DecryptEncPart(tgt.session); err != nil {
		return nil, fmt.Errorf("reply is not for this ticket: %v", err)
	}
	return granted(&rep.KDCRepFields, tgt.client, nonce)
}

// granted takes the ticket out of an opened reply, once it has been found to
// answer the request of this client with this nonce.
func granted(rep *messages.KDCRepFields, client principal, nonce int) (*pass, error) {
	part := &rep.DecryptedEncPart
	switch {
	case part.Nonce != nonce:
		return nil, errors.New("reply to another request")
	case !rep.CName.Equal(client.wire()) || rep.CRealm != client.realm:
		return nil, errors.New("reply for another client")
	case len(part.SName.NameString) == 0 || !part.SName.Equal(rep.Ticket.SName) || part.SRealm != rep.Ticket.Realm:
		return nil, errors.New("reply contradicts itself")
	case len(part.Key.KeyValue) != keySize[part.Key.KeyType] || len(part.Key.KeyValue) == 0:
		return nil, fmt.Errorf("session key of encryption type %d is not usable here", part.Key.KeyType)
	}
	der, err := rep.Ticket.Marshal()
	if err != nil {
		return nil, err
	}
	e := cred{
		client: client, server: principal{part.SName.NameType, part.SRealm, part.SName.NameString},
		etype: part.Key.KeyType, key: part.Key.KeyValue,
		auth: part.AuthTime, start: part.StartTime, end: part.EndTime, renew: part.RenewTill, ticket: der,
	}
	if e.start.IsZero() {
		e.start = e.auth // RFC 4120 section 5.3: absent means authtime
	}
	if len(part.Flags.Bytes) >= 4 {
		e.flags = ticket.Flags(binary.BigEndian.Uint32(part.Flags.Bytes))
	}
	if !e.isTicket() {
		return nil, fmt.Errorf("reply with an impossible ticket, for %q", e.server)
	}
	return newPass(&e)
}
