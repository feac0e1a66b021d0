package realm

import (
	"context"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/iana/msgtype"
	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/iana/patype"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

const (
	maxRequest = 64 << 10 // a TGS request carries one ticket; larger is an attack
	maxConns   = 128
	connIdle   = 10 * time.Second
	pauseLimit = 2 * time.Minute // no client waits longer for a paused KDC
)

// kdc is one listening life of the realm: from Start or Restart to Stop.
type kdc struct {
	realm *Realm
	tcp   *net.TCPListener
	udp   *net.UDPConn
	stop  context.CancelFunc
	wg    sync.WaitGroup
}

func newKDC(r *Realm, tcp *net.TCPListener, udp *net.UDPConn) *kdc {
	ctx, stop := context.WithCancel(context.Background())
	k := &kdc{realm: r, tcp: tcp, udp: udp, stop: stop}
	k.wg.Go(func() { k.serveTCP(ctx) })
	k.wg.Go(func() { k.serveUDP(ctx) })
	return k
}

func (k *kdc) close() error {
	k.stop()
	err := errors.Join(k.tcp.Close(), k.udp.Close())
	k.wg.Wait()
	return err
}

func (k *kdc) serveTCP(ctx context.Context) {
	slots := make(chan struct{}, maxConns) // counts connections
	for {
		conn, err := k.tcp.Accept()
		if err != nil {
			if ctx.Err() == nil {
				k.realm.log.Error("kdc stopped accepting", "err", err)
			}
			return
		}
		select {
		case slots <- struct{}{}:
			k.wg.Go(func() {
				defer func() { <-slots }()
				k.serveConn(ctx, conn)
			})
		default:
			conn.Close()
		}
	}
}

// serveConn answers requests framed as in RFC 4120 section 7.2.2 until the
// client is done or sends what no client would.
func (k *kdc) serveConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var head [4]byte
	for {
		conn.SetDeadline(time.Now().Add(connIdle))
		if _, err := io.ReadFull(conn, head[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(head[:])
		if n == 0 || n > maxRequest {
			return
		}
		req := make([]byte, n)
		if _, err := io.ReadFull(conn, req); err != nil {
			return
		}
		paused, cancel := context.WithTimeout(ctx, pauseLimit)
		ok := k.realm.waitAnswering(paused)
		cancel()
		if !ok {
			return
		}
		reply := k.realm.handle(req)
		if reply == nil {
			return
		}
		conn.SetDeadline(time.Now().Add(connIdle))
		if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(reply))), reply...)); err != nil {
			return
		}
	}
}

func (k *kdc) serveUDP(ctx context.Context) {
	buf := make([]byte, maxRequest)
	for {
		n, from, err := k.udp.ReadFromUDPAddrPort(buf)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			continue // an ICMP answer to an earlier reply; the socket is fine
		}
		select {
		case <-k.realm.answering():
		default:
			continue
		}
		if reply := k.realm.handle(buf[:n]); reply != nil {
			if _, err := k.udp.WriteToUDPAddrPort(reply, from); err != nil {
				k.realm.log.Debug("kdc reply lost", "err", err)
			}
		}
	}
}

// A refusal becomes a KRB-ERROR (RFC 4120 section 5.9.1).
type refusal struct {
	code  int32
	text  string
	edata []byte
}

func (e *refusal) Error() string { return errorcode.Lookup(e.code) }

func refuse(code int32, text string) error { return &refusal{code: code, text: text} }

// handle answers one message; nil means that it deserves no answer. It must
// hold against any bytes, so it does not trust the parsers it calls.
func (r *Realm) handle(req []byte) (reply []byte) {
	defer func() {
		if p := recover(); p != nil {
			r.log.Warn("kdc dropped a hostile message", "bytes", len(req), "cause", fmt.Sprint(p))
			reply = nil
		}
	}()
	if len(req) == 0 || len(req) > maxRequest {
		return nil
	}
	var body messages.KDCReqBody
	var err error
	kind := "AS"
	switch req[0] & 0x1f {
	case asnAppTag.ASREQ:
		var as messages.ASReq
		if as.Unmarshal(req) != nil {
			return nil
		}
		body = as.ReqBody
		reply, err = r.as(&as)
	case asnAppTag.TGSREQ:
		kind = "TGS"
		var tgs messages.TGSReq
		if tgs.Unmarshal(req) != nil {
			return nil
		}
		body = tgs.ReqBody
		reply, err = r.tgsExchange(&tgs, req)
	default:
		return nil
	}
	service := body.SName.PrincipalNameString()
	if err == nil {
		r.log.Debug("kdc issued a ticket", "exchange", kind, "service", service)
		return reply
	}
	no, ok := errors.AsType[*refusal](err)
	if !ok {
		r.log.Error("kdc failed", "exchange", kind, "err", err)
		no = &refusal{code: errorcode.KRB_ERR_GENERIC}
	}
	r.log.Debug("kdc refused", "exchange", kind, "service", service, "error", no.Error())
	return r.krbError(no, body)
}

func (r *Realm) krbError(no *refusal, body messages.KDCReqBody) []byte {
	t := r.clock().UTC()
	e := messages.KRBError{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_ERROR,
		STime: t.Truncate(time.Second), Susec: t.Nanosecond() / 1000,
		ErrorCode: no.code, EText: no.text, EData: no.edata,
		Realm: r.name, SName: body.SName,
	}
	if len(body.CName.NameString) > 0 {
		e.CRealm, e.CName = r.name, body.CName
	}
	b, err := e.Marshal()
	if err != nil {
		r.log.Error("kdc could not say what was wrong", "err", err)
		return nil
	}
	return b
}

// as is the initial exchange (RFC 4120 section 3.1).
func (r *Realm) as(req *messages.ASReq) ([]byte, error) {
	body := &req.ReqBody
	if body.Realm != r.name {
		return nil, refuse(errorcode.KDC_ERR_WRONG_REALM, "")
	}
	user, ok := r.users[body.CName.PrincipalNameString()]
	switch {
	case !ok:
		return nil, refuse(errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN, "")
	case user.Revoked:
		return nil, refuse(errorcode.KDC_ERR_CLIENT_REVOKED, "")
	case user.Expired:
		return nil, refuse(errorcode.KDC_ERR_KEY_EXPIRED, "")
	}
	keys, life, err := r.service(body.SName)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(body.EType, etype) {
		return nil, refuse(errorcode.KDC_ERR_ETYPE_NOSUPP, "")
	}
	key, _, err := r.userKeys.GetEncryptionKey(body.CName, r.name, kvno, etype)
	if err != nil {
		return nil, err
	}
	if err := r.preauth(req.PAData, key, body.CName); err != nil {
		return nil, err
	}

	now := r.now()
	t := grant{client: body.CName, auth: now, start: now, flags: []int{flags.Initial, flags.PreAuthent}}
	t.end = earlier(till(body.Till, now.Add(user.Life)), now.Add(user.Life))
	if life > 0 {
		t.end = earlier(t.end, now.Add(life))
	}
	if types.IsFlagSet(&body.KDCOptions, flags.Forwardable) {
		t.flags = append(t.flags, flags.Forwardable)
	}
	asked := types.IsFlagSet(&body.KDCOptions, flags.Renewable)
	rtime := body.RTime
	if !asked && types.IsFlagSet(&body.KDCOptions, flags.RenewableOK) && body.Till.After(t.end) {
		asked, rtime = true, body.Till
	}
	if asked && user.RenewLife > 0 {
		t.renew = earlier(till(rtime, now.Add(user.RenewLife)), now.Add(user.RenewLife))
		t.flags = append(t.flags, flags.Renewable)
	}
	if !t.end.After(now) {
		return nil, refuse(errorcode.KDC_ERR_NEVER_VALID, "")
	}
	ticket, part, err := r.issue(t, body, keys)
	if err != nil {
		return nil, err
	}
	plain, err := part.Marshal()
	if err != nil {
		return nil, err
	}
	enc, err := crypto.GetEncryptedData(plain, key, keyusage.AS_REP_ENCPART, kvno)
	if err != nil {
		return nil, err
	}
	rep := messages.ASRep{KDCRepFields: messages.KDCRepFields{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_AS_REP,
		PAData: []types.PAData{{PADataType: patype.PA_ETYPE_INFO2, PADataValue: r.etypeInfo2(body.CName)}},
		CRealm: r.name, CName: body.CName, Ticket: ticket, EncPart: enc,
	}}
	return rep.Marshal()
}

// preauth checks the encrypted time stamp (RFC 4120 section 5.2.7.2), or says
// what is needed to make one.
func (r *Realm) preauth(offered types.PADataSequence, key types.EncryptionKey, client types.PrincipalName) error {
	i := slices.IndexFunc(offered, func(pa types.PAData) bool { return pa.PADataType == patype.PA_ENC_TIMESTAMP })
	if i < 0 {
		return &refusal{code: errorcode.KDC_ERR_PREAUTH_REQUIRED, edata: r.preauthHint(client)}
	}
	failed := &refusal{code: errorcode.KDC_ERR_PREAUTH_FAILED, edata: r.preauthHint(client)}
	var enc types.EncryptedData
	if enc.Unmarshal(offered[i].PADataValue) != nil {
		return failed
	}
	plain, err := crypto.DecryptEncPart(enc, key, keyusage.AS_REQ_PA_ENC_TIMESTAMP)
	if err != nil {
		return failed
	}
	var stamp types.PAEncTSEnc
	if stamp.Unmarshal(plain) != nil {
		return failed
	}
	if r.skewed(stamp.PATimestamp) {
		return refuse(errorcode.KRB_AP_ERR_SKEW, "")
	}
	return nil
}

func (r *Realm) skewed(t time.Time) bool { return r.clock().Sub(t).Abs() > clockSkew }

// preauthHint renders METHOD-DATA: an encrypted time stamp will do, made with
// this encryption type and salt.
func (r *Realm) preauthHint(client types.PrincipalName) []byte {
	pa := func(kind int32, value []byte) []byte {
		return tlv(0x30, tlv(0xa1, tlv(2, []byte{byte(kind)})), tlv(0xa2, tlv(4, value)))
	}
	return tlv(0x30, pa(patype.PA_ENC_TIMESTAMP, nil), pa(patype.PA_ETYPE_INFO2, r.etypeInfo2(client)))
}

func (r *Realm) etypeInfo2(client types.PrincipalName) []byte {
	const generalString = 0x1b
	return tlv(0x30, tlv(0x30, tlv(0xa0, tlv(2, []byte{byte(etype)})), tlv(0xa1, tlv(generalString, []byte(client.GetSalt(r.name))))))
}

// service finds the keys of a service and the longest life of its tickets,
// zero meaning no limit of its own.
func (r *Realm) service(name types.PrincipalName) (*keytab.Keytab, time.Duration, error) {
	s := name.PrincipalNameString()
	if s == r.tgs() {
		return r.tgsKeys, 0, nil
	}
	if svc, ok := r.services[s]; ok {
		return r.svcKeys, svc.Life, nil
	}
	return nil, 0, refuse(errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN, "")
}

// tgsExchange turns a TGT into a service ticket or a younger TGT
// (RFC 4120 section 3.3).
func (r *Realm) tgsExchange(req *messages.TGSReq, raw []byte) ([]byte, error) {
	body := &req.ReqBody
	tgt, auth, err := r.tgsAuth(req.PAData, raw)
	if err != nil {
		return nil, err
	}
	if body.Realm != r.name {
		return nil, refuse(errorcode.KDC_ERR_WRONG_REALM, "")
	}
	keys, life, err := r.service(body.SName)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(body.EType, etype) {
		return nil, refuse(errorcode.KDC_ERR_ETYPE_NOSUPP, "")
	}
	for _, option := range []int{flags.EncTktInSkey, flags.Validate, flags.Proxy, flags.PostDated} {
		if types.IsFlagSet(&body.KDCOptions, option) {
			return nil, refuse(errorcode.KDC_ERR_BADOPTION, "option not offered by this KDC")
		}
	}

	now := r.now()
	t := grant{client: tgt.CName, auth: tgt.AuthTime, start: now}
	if types.IsFlagSet(&tgt.Flags, flags.PreAuthent) {
		t.flags = append(t.flags, flags.PreAuthent)
	}
	if types.IsFlagSet(&tgt.Flags, flags.Forwardable) && types.IsFlagSet(&body.KDCOptions, flags.Forwardable) {
		t.flags = append(t.flags, flags.Forwardable)
	}
	if types.IsFlagSet(&body.KDCOptions, flags.Renew) {
		if !types.IsFlagSet(&tgt.Flags, flags.Renewable) || body.SName.PrincipalNameString() != r.tgs() {
			return nil, refuse(errorcode.KDC_ERR_BADOPTION, "ticket is not renewable")
		}
		if !tgt.RenewTill.After(now) {
			return nil, refuse(errorcode.KRB_AP_ERR_TKT_EXPIRED, "renewable life is over")
		}
		t.end = earlier(now.Add(tgt.EndTime.Sub(tgt.StartTime)), tgt.RenewTill)
		t.renew = tgt.RenewTill
		t.flags = append(t.flags, flags.Renewable)
	} else {
		t.end = earlier(till(body.Till, tgt.EndTime), tgt.EndTime)
		if life > 0 {
			t.end = earlier(t.end, now.Add(life))
		}
	}
	if !t.end.After(now) {
		return nil, refuse(errorcode.KDC_ERR_NEVER_VALID, "")
	}
	ticket, part, err := r.issue(t, body, keys)
	if err != nil {
		return nil, err
	}
	plain, err := part.Marshal()
	if err != nil {
		return nil, err
	}
	plain[0] = 0x60 | asnAppTag.EncTGSRepPart // Marshal knows the tag of the AS part only
	replyKey, usage := tgt.Key, uint32(keyusage.TGS_REP_ENCPART_SESSION_KEY)
	if len(auth.SubKey.KeyValue) > 0 {
		replyKey, usage = auth.SubKey, keyusage.TGS_REP_ENCPART_AUTHENTICATOR_SUB_KEY
	}
	enc, err := crypto.GetEncryptedData(plain, replyKey, usage, 0)
	if err != nil {
		return nil, err
	}
	rep := messages.TGSRep{KDCRepFields: messages.KDCRepFields{
		PVNO: iana.PVNO, MsgType: msgtype.KRB_TGS_REP,
		CRealm: r.name, CName: tgt.CName, Ticket: ticket, EncPart: enc,
	}}
	return rep.Marshal()
}

// tgsAuth checks the AP-REQ of a TGS request: the TGT, the authenticator and
// its checksum over the body (RFC 4120 sections 3.3.2 and 5.4.1).
func (r *Realm) tgsAuth(offered types.PADataSequence, raw []byte) (*messages.EncTicketPart, *types.Authenticator, error) {
	i := slices.IndexFunc(offered, func(pa types.PAData) bool { return pa.PADataType == patype.PA_TGS_REQ })
	if i < 0 {
		return nil, nil, refuse(errorcode.KDC_ERR_PADATA_TYPE_NOSUPP, "no PA-TGS-REQ")
	}
	var ap messages.APReq
	if err := ap.Unmarshal(offered[i].PADataValue); err != nil {
		return nil, nil, refuse(errorcode.KRB_AP_ERR_MSG_TYPE, "PA-TGS-REQ is not an AP-REQ")
	}
	if ap.Ticket.Realm != r.name || ap.Ticket.SName.PrincipalNameString() != r.tgs() {
		return nil, nil, refuse(errorcode.KRB_AP_ERR_NOT_US, "not a TGT of this realm")
	}
	if err := ap.Ticket.DecryptEncPart(r.tgsKeys, nil); err != nil {
		return nil, nil, refuse(errorcode.KRB_AP_ERR_BAD_INTEGRITY, "")
	}
	tgt := &ap.Ticket.DecryptedEncPart
	switch now := r.now(); {
	case !tgt.EndTime.After(now):
		return nil, nil, refuse(errorcode.KRB_AP_ERR_TKT_EXPIRED, "")
	case tgt.StartTime.After(now.Add(clockSkew)):
		return nil, nil, refuse(errorcode.KRB_AP_ERR_TKT_NYV, "")
	}
	if err := ap.DecryptAuthenticator(tgt.Key); err != nil {
		return nil, nil, refuse(errorcode.KRB_AP_ERR_BAD_INTEGRITY, "")
	}
	auth := &ap.Authenticator
	if !auth.CName.Equal(tgt.CName) || auth.CRealm != tgt.CRealm {
		return nil, nil, refuse(errorcode.KRB_AP_ERR_BADMATCH, "")
	}
	if r.skewed(auth.CTime) {
		return nil, nil, refuse(errorcode.KRB_AP_ERR_SKEW, "")
	}
	sum, err := crypto.GetChksumEtype(auth.Cksum.CksumType)
	if err != nil || sum.GetETypeID() != tgt.Key.KeyType {
		return nil, nil, refuse(errorcode.KRB_AP_ERR_INAPP_CKSUM, "")
	}
	if !sum.VerifyChecksum(tgt.Key.KeyValue, requestBody(raw), auth.Cksum.Checksum, keyusage.TGS_REQ_PA_TGS_REQ_AP_REQ_AUTHENTICATOR_CHKSUM) {
		return nil, nil, refuse(errorcode.KRB_AP_ERR_MODIFIED, "")
	}
	return tgt, auth, nil
}

// requestBody cuts the KDC-REQ-BODY out of a request, byte for byte: the
// checksum is over what was sent, not over what it means.
func requestBody(raw []byte) []byte {
	var outer, seq, field asn1.RawValue
	if _, err := asn1.Unmarshal(raw, &outer); err != nil {
		return nil
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &seq); err != nil {
		return nil
	}
	for rest := seq.Bytes; len(rest) > 0; {
		var err error
		if rest, err = asn1.Unmarshal(rest, &field); err != nil {
			return nil
		}
		if field.Class == asn1.ClassContextSpecific && field.Tag == 4 {
			return field.Bytes
		}
	}
	return nil
}

// A grant is what a new ticket says, whoever it is for.
type grant struct {
	client                  types.PrincipalName
	auth, start, end, renew time.Time // renew zero: not renewable
	flags                   []int     // bit numbers of RFC 4120 section 5.3
}

// issue makes the ticket and the part of the reply that the client can read.
func (r *Realm) issue(t grant, body *messages.KDCReqBody, keys *keytab.Keytab) (messages.Ticket, messages.EncKDCRepPart, error) {
	bits := types.NewKrbFlags()
	types.SetFlags(&bits, t.flags)
	ticket, session, err := messages.NewTicket(t.client, r.name, body.SName, r.name, bits, keys, etype, kvno, t.auth, t.start, t.end, t.renew)
	if err != nil {
		return messages.Ticket{}, messages.EncKDCRepPart{}, err
	}
	return ticket, messages.EncKDCRepPart{
		Key:      session,
		LastReqs: []messages.LastReq{{LRType: 0, LRValue: t.start}},
		Nonce:    body.Nonce, Flags: bits,
		AuthTime: t.auth, StartTime: t.start, EndTime: t.end, RenewTill: t.renew,
		SRealm: r.name, SName: body.SName,
	}, nil
}

// till reads a requested end; 1970 means "as long as possible"
// (RFC 4120 section 5.4.1).
func till(asked, longest time.Time) time.Time {
	if asked.Unix() <= 0 {
		return longest
	}
	return asked.UTC().Truncate(time.Second)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// principal turns "HTTP/host" or "alice" into the form that goes on the wire.
func principal(name string) types.PrincipalName {
	kind := int32(nametype.KRB_NT_PRINCIPAL)
	if strings.Contains(name, "/") {
		kind = nametype.KRB_NT_SRV_INST
	}
	return types.NewPrincipalName(kind, name)
}
