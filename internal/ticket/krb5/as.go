package krb5

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"kerbpass/internal/ticket"
)

// A login is one sign-in: AS exchanges (RFC 4120 section 3.1) of one client.
type login struct {
	conf   conf
	client principal
	etypes []int32 // to offer, best first
	key    keySource
	person *person // nil: signs in with a keytab

	offset time.Duration // the KDC's clock minus ours, as its last refusal told
	synced time.Duration // the same by a reply that proved to be the KDC's
}

// A longTermKey is a client's own key. Its owner wipes it.
type longTermKey struct{ types.EncryptionKey }

func (k longTermKey) wipe() { clear(k.KeyValue) }

// A keySource makes the key that a KDC has described.
type keySource func(ctx context.Context, h hint) (longTermKey, error)

// initial gets a ticket for service by the client's own key. The first request
// carries nothing made of that key. If the KDC wants proof, a second one goes to
// the KDC that said so, and to no other: every further one could count as a
// wrong password.
func (in *login) initial(ctx context.Context, service types.PrincipalName, t terms) (*pass, error) {
	ex := &asExchange{login: in, service: service, terms: t}
	defer func() { ex.own.wipe() }()
	rep, err := ex.ask(ctx)
	if isCode(err, errorcode.KDC_ERR_PREAUTH_REQUIRED) {
		rep, err = ex.prove(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	if rep.EncPart.EType != ex.own.KeyType {
		if err := ex.makeKey(ctx, rep.PAData, rep.EncPart.EType); err != nil {
			return nil, err
		}
	}
	p, err := ex.open(rep)
	if err != nil {
		return nil, kdcError(in.client.realm, ex.kdc, err)
	}
	return p, nil
}

// An asExchange is one or two requests for one ticket.
type asExchange struct {
	*login
	service types.PrincipalName
	terms   terms

	kdc    string              // the one that answered
	body   messages.KDCReqBody // of the last request
	own    longTermKey         // zero: no use for it so far
	proved bool                // the KDC has accepted it
}

// ask makes the first request.
func (ex *asExchange) ask(ctx context.Context) (*messages.ASRep, error) {
	req, err := ex.request(nil)
	if err != nil {
		return nil, err
	}
	raw, kdc, err := ask(ctx, ex.conf, ex.client.realm, req)
	ex.kdc = kdc
	return ex.read(raw, err)
}

// prove answers the refusal of a KDC that wants an encrypted time stamp
// (RFC 4120 section 5.2.7.2).
func (ex *asExchange) prove(ctx context.Context, refused error) (*messages.ASRep, error) {
	r, _ := errors.AsType[*refusal](refused)
	if ex.conf.timesync() {
		ex.offset = time.Until(r.at)
	}
	offered, err := readOffer(r.data)
	if err != nil {
		return nil, kdcError(ex.client.realm, ex.kdc, err)
	}
	if err := ex.makeKey(ctx, offered, ex.etypes...); err != nil {
		return nil, err
	}
	stamp, err := ex.timestamp()
	if err != nil {
		return nil, err
	}
	req, err := ex.request(append(types.PADataSequence{stamp}, cookies(offered)...))
	if err != nil {
		return nil, err
	}
	raw, _, err := askOnce(ctx, []string{ex.kdc}, req)
	rep, err := ex.read(raw, err)
	switch {
	case isCode(err, errorcode.KRB_AP_ERR_BAD_INTEGRITY): // what some KDCs say instead
		err = kdcError(ex.client.realm, ex.kdc, fmt.Errorf("%w: %w", ticket.ErrPassword, err))
	case isCode(err, errorcode.KDC_ERR_PREAUTH_REQUIRED), isCode(err, moreNeeded):
		err = kdcError(ex.client.realm, ex.kdc, fmt.Errorf("the KDC wants a further factor beside the password: %w", errors.ErrUnsupported))
	}
	ex.proved = err == nil
	return rep, err
}

const moreNeeded = 91 // KDC_ERR_MORE_PREAUTH_DATA_REQUIRED, RFC 6113 section 5.2

// request builds an AS-REQ (RFC 4120 section 5.4.1) by the KDC's clock as far as
// it is known, with proof if there is any.
func (ex *asExchange) request(proof types.PADataSequence) (b []byte, err error) {
	defer recovered(&err)
	now := ex.now().Truncate(time.Second)
	ex.body = messages.KDCReqBody{
		KDCOptions: types.NewKrbFlags(), CName: ex.client.wire(), Realm: ex.client.realm, SName: ex.service,
		Till: now.Add(ex.terms.life), Nonce: newNonce(), EType: ex.etypes,
	}
	if ex.terms.forwardable {
		types.SetFlag(&ex.body.KDCOptions, flags.Forwardable)
	}
	if ex.terms.renew > 0 {
		types.SetFlag(&ex.body.KDCOptions, flags.Renewable)
		ex.body.RTime = now.Add(ex.terms.renew)
	}
	req := messages.ASReq{KDCReqFields: messages.KDCReqFields{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_AS_REQ, PAData: proof, ReqBody: ex.body,
	}}
	return req.Marshal()
}

func (in *login) now() time.Time { return time.Now().Add(in.offset).UTC() }

// timestamp is the proof of knowing the key.
func (ex *asExchange) timestamp() (pa types.PAData, err error) {
	defer recovered(&err)
	now := ex.now()
	plain, err := asn1.Marshal(types.PAEncTSEnc{PATimestamp: now.Truncate(time.Second), PAUSec: now.Nanosecond() / 1000})
	if err != nil {
		return pa, err
	}
	sealed, err := crypto.GetEncryptedData(plain, ex.own.EncryptionKey, keyusage.AS_REQ_PA_ENC_TIMESTAMP, 0)
	if err != nil {
		return pa, err
	}
	pa.PADataType = patype.PA_ENC_TIMESTAMP
	pa.PADataValue, err = sealed.Marshal()
	return pa, err
}

// read makes of an answer a reply or the KDC's error.
func (ex *asExchange) read(raw []byte, err error) (*messages.ASRep, error) {
	if err != nil {
		return nil, kdcError(ex.client.realm, "", err)
	}
	rep, err := readAS(raw)
	if err != nil {
		return nil, kdcError(ex.client.realm, ex.kdc, err)
	}
	return rep, nil
}

func readAS(raw []byte) (rep *messages.ASRep, err error) {
	defer recovered(&err)
	if no := readRefusal(raw); no != nil {
		return nil, no
	}
	rep = new(messages.ASRep)
	if err := rep.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("not a reply: %v", err)
	}
	return rep, nil
}

// makeKey makes the client's key of the first of etypes that the KDC has.
func (ex *asExchange) makeKey(ctx context.Context, offered types.PADataSequence, etypes ...int32) error {
	h, err := ex.choose(offered, etypes)
	if err != nil {
		return kdcError(ex.client.realm, ex.kdc, err)
	}
	ex.own.wipe()
	ex.own, err = ex.login.key(ctx, h)
	return err
}

// open decrypts a reply and checks that it answers the request
// (RFC 4120 section 3.1.5).
func (ex *asExchange) open(rep *messages.ASRep) (p *pass, err error) {
	defer recovered(&err)
	plain, err := crypto.DecryptEncPart(rep.EncPart, ex.own.EncryptionKey, keyusage.AS_REP_ENCPART)
	if err != nil {
		if ex.proved {
			return nil, fmt.Errorf("reply is not for this client: %v", err)
		}
		return nil, fmt.Errorf("%w: the reply cannot be opened with it", ticket.ErrPassword)
	}
	if err := rep.DecryptedEncPart.Unmarshal(plain); err != nil {
		return nil, fmt.Errorf("not a reply: %v", err)
	}
	if p, err = granted(&rep.KDCRepFields, ex.client, ex.body.Nonce); err != nil {
		return nil, err
	}
	offset := time.Until(p.auth)
	switch {
	case !slices.Equal(p.server.parts, ex.service.NameString) || p.server.realm != ex.client.realm:
		return nil, fmt.Errorf("reply with a ticket for %s", p.server)
	case p.end.After(ex.body.Till) || !p.renew.IsZero() && p.renew.After(ex.body.RTime) || !p.end.After(p.start):
		return nil, errors.New("reply with a ticket for times that nobody asked for")
	case !ex.conf.timesync() && offset.Abs() > clockSkew:
		return nil, fmt.Errorf("%w: the KDC's clock is %v off", ticket.ErrClockSkew, offset.Round(time.Second))
	case offset.Abs() > 2*time.Second: // less is the road and the missing fraction
		ex.synced = offset.Truncate(time.Second)
	default:
		ex.synced = 0
	}
	return p, nil
}
