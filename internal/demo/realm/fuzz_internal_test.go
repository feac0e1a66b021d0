package realm

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// requests returns a realm and messages it answers well: an AS request without
// and with pre-authentication, and a TGS request.
func requests(t testing.TB) (*Realm, [][]byte) {
	t.Helper()
	r, err := Start(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	cfg, err := config.Load(r.Krb5Conf())
	if err != nil {
		t.Fatal(err)
	}
	as, err := messages.NewASReqForTGT(r.Name(), cfg, principal("alice"))
	if err != nil {
		t.Fatal(err)
	}
	bare, err := as.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	key, _, err := r.userKeys.GetEncryptionKey(principal("alice"), r.name, kvno, etype)
	if err != nil {
		t.Fatal(err)
	}
	stamp, err := types.GetPAEncTSEncAsnMarshalled()
	if err != nil {
		t.Fatal(err)
	}
	enc, err := crypto.GetEncryptedData(stamp, key, keyusage.AS_REQ_PA_ENC_TIMESTAMP, kvno)
	if err != nil {
		t.Fatal(err)
	}
	value, err := enc.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	as.PAData = types.PADataSequence{{PADataType: 2, PADataValue: value}}
	full, err := as.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	path, err := r.Mint(MintOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cc, err := credentials.LoadCCache(path)
	if err != nil {
		t.Fatal(err)
	}
	var tgt messages.Ticket
	if err := tgt.Unmarshal(cc.Credentials[0].Ticket); err != nil {
		t.Fatal(err)
	}
	req, err := messages.NewTGSReq(principal("alice"), r.Name(), cfg, tgt, cc.Credentials[0].Key, principal("HTTP/localhost"), false)
	if err != nil {
		t.Fatal(err)
	}
	tgs, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return r, [][]byte{bare, full, tgs}
}

// judge gives the message to the KDC and bounds what it costs.
func judge(t *testing.T, r *Realm, msg []byte) []byte {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	reply := r.handle(msg)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("a message of %d bytes cost %d bytes of memory", len(msg), n)
	}
	if len(reply) > maxRequest {
		t.Errorf("reply of %d bytes", len(reply))
	}
	return reply
}

func TestHandleKnownMessages(t *testing.T) {
	r, msgs := requests(t)
	for i, want := range []byte{0x7e, 0x6b, 0x6d} { // KRB-ERROR, AS-REP, TGS-REP
		if reply := judge(t, r, msgs[i]); len(reply) == 0 || reply[0] != want {
			t.Errorf("message %d: reply % x, want it to start with %x", i, reply[:min(len(reply), 4)], want)
		}
	}
}

// No damaged request is answered with a ticket: the pre-authenticated parts
// are sealed, and whatever else was hit is either noticed or harmless. Only
// the AS request has fields that nothing seals.
func TestHandleDamagedMessages(t *testing.T) {
	r, msgs := requests(t)
	for m, msg := range msgs {
		for i := range msg {
			if reply := r.handle(msg[:i]); reply != nil {
				t.Errorf("message %d cut at %d was answered", m, i)
			}
			for _, bit := range []byte{0x01, 0x40, 0x80} {
				bad := bytes.Clone(msg)
				bad[i] ^= bit
				reply := judge(t, r, bad)
				if m == 2 && len(reply) > 0 && reply[0] == 0x6d && !sameTicketAsked(msg, bad) {
					t.Errorf("TGS request with bit %x of byte %d flipped got a ticket", bit, i)
				}
			}
		}
	}
}

// sameTicketAsked reports whether the sealed body is untouched.
func sameTicketAsked(a, b []byte) bool { return bytes.Equal(requestBody(a), requestBody(b)) }

func TestHandleRecovers(t *testing.T) {
	r, msgs := requests(t)
	r.clock = func() time.Time { panic("as a parser would") }
	if reply := r.handle(msgs[1]); reply != nil {
		t.Errorf("a message that made the handler panic was answered: %x", reply)
	}
}

func TestErrorCodesReachTheWire(t *testing.T) {
	r, msgs := requests(t)
	var e messages.KRBError
	if err := e.Unmarshal(r.handle(msgs[0])); err != nil {
		t.Fatal(err)
	}
	if e.ErrorCode != errorcode.KDC_ERR_PREAUTH_REQUIRED {
		t.Fatalf("error code %d, want %d", e.ErrorCode, errorcode.KDC_ERR_PREAUTH_REQUIRED)
	}
	var hint types.PADataSequence
	if err := hint.Unmarshal(e.EData); err != nil {
		t.Fatal(err)
	}
	if len(hint) != 2 {
		t.Fatalf("pre-authentication hint has %d entries, want 2", len(hint))
	}
	info, err := hint[1].GetETypeInfo2()
	if err != nil || len(info) != 1 || info[0].EType != etype || info[0].Salt != "DEMO.INVALIDalice" {
		t.Errorf("ETYPE-INFO2 %+v, %v", info, err)
	}
}

func FuzzHandle(f *testing.F) {
	r, msgs := requests(f)
	for _, m := range msgs {
		f.Add(m)
	}
	f.Add([]byte{0x6a, 0x84, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, msg []byte) { judge(t, r, msg) })
}

func FuzzAccept(f *testing.F) {
	r, msgs := requests(f)
	acc := r.Acceptor()
	f.Add(msgs[2])
	f.Add(tlv(0x60, spnegoOID, tlv(0xa0, tlv(0x30, tlv(0xa0, tlv(0x30, krb5OID)), tlv(0xa2, tlv(4, tlv(0x60, krb5OID, []byte{1, 0}, tlv(0x6e))))))))
	f.Add([]byte("NTLMSSP\x00"))
	f.Fuzz(func(t *testing.T, token []byte) {
		if who, err := acc.Accept(token); err == nil || who != "" {
			t.Errorf("accepted %q for %q", token, who)
		}
	})
}
