package krb5

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/chksumtype"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"kerbpass/internal/ticket"
)

// someTicket is a ticket whose sealed part has so many bytes.
func someTicket(t testing.TB, sealed int) []byte {
	t.Helper()
	tkt := messages.Ticket{
		TktVNO: 5, Realm: "R.EXAMPLE", SName: types.PrincipalName{NameType: 2, NameString: []string{"HTTP", "proxy"}},
		EncPart: types.EncryptedData{EType: 18, KVNO: 3, Cipher: make([]byte, sealed)},
	}
	der, err := tkt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// apReqOf takes the AP-REQ out of a SPNEGO token, whose lengths are two bytes
// longer with every 2^8.
func apReqOf(token []byte) []byte {
	_, after, _ := bytes.Cut(token, []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01, 0x00})
	return after
}

// agrees checks a token of our own against the library: it opens what is
// sealed, and the library's encoding of all that it finds in there is the token
// again, byte by byte.
func agrees(t testing.TB, token []byte, s ticket.ServiceTicket) types.Authenticator {
	t.Helper()
	var ap messages.APReq
	if err := ap.Unmarshal(apReqOf(token)); err != nil {
		t.Fatalf("AP-REQ: %v", err)
	}
	key := types.EncryptionKey{KeyType: int32(s.EncType), KeyValue: s.Key}
	plain, err := crypto.DecryptEncPart(ap.EncryptedAuthenticator, key, keyusage.AP_REQ_AUTHENTICATOR)
	if err != nil {
		t.Fatalf("the library cannot open the authenticator: %v", err)
	}
	var proof types.Authenticator
	if err := proof.Unmarshal(plain); err != nil {
		t.Fatalf("authenticator: %v", err)
	}
	// What the library makes of the same content.
	again := types.Authenticator{
		AVNO: 5, CRealm: s.Realm, CName: types.PrincipalName{NameType: s.ClientType, NameString: s.Client},
		Cksum: types.Checksum{CksumType: chksumtype.GSSAPI, Checksum: append([]byte{16, 19: 0}, 0x30, 0, 0, 0)},
		CTime: proof.CTime, Cusec: proof.Cusec, SeqNumber: proof.SeqNumber,
	}
	der, err := again.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(der, plain) {
		t.Fatalf("authenticator\ngot  %x\nwant %x", plain, der)
	}
	var tkt messages.Ticket
	if err := tkt.Unmarshal(s.DER); err != nil {
		t.Fatal(err)
	}
	want := messages.APReq{
		PVNO: 5, MsgType: 14, APOptions: types.NewKrbFlags(), Ticket: tkt,
		EncryptedAuthenticator: types.EncryptedData{EType: int32(s.EncType), Cipher: ap.EncryptedAuthenticator.Cipher},
	}
	if der, err = want.Marshal(); err != nil {
		t.Fatal(err)
	}
	if whole := ticket.WrapSPNEGO(ticket.FrameAPReq(der)); !bytes.Equal(whole, token) {
		t.Fatalf("token\ngot  %x\nwant %x", token, whole)
	}
	return proof
}

// Tokens of our own are what the library would have made, for every encryption
// type, whatever the lengths.
func TestMakerAgreesWithTheLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	last := map[string]bool{}
	for etype, size := range map[ticket.EncType]int{17: 16, 18: 32, 19: 16, 20: 32} {
		for i := range 200 {
			key := make([]byte, size)
			for j := range key {
				key[j] = byte(random.Uint32())
			}
			s := ticket.ServiceTicket{
				Client: []string{strings.Repeat("a", 1+i)}, ClientType: 1, Realm: "R.EXAMPLE",
				DER: someTicket(t, []int{1, 100, 600, 60000}[i%4]), EncType: etype, Key: key,
			}
			switch i % 5 {
			case 1:
				s.Client = append(s.Client, "admin")
			case 2:
				s.ClientType = 10
			case 3:
				s.ClientType = -130
			}
			m, err := ticket.NewMaker(s)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				offset := time.Duration(i-100) * time.Minute
				token := m.Token(offset)
				proof := agrees(t, token, s)
				stamp := proof.CTime.Add(time.Duration(proof.Cusec) * time.Microsecond)
				if off := time.Until(stamp) - offset; off.Abs() > 20*time.Second {
					t.Errorf("the stamp %v is wrong by %v", stamp, off)
				}
				if at := stamp.Add(-offset).String(); last[at] {
					t.Errorf("two tokens with the stamp %s", at)
				} else {
					last[at] = true
				}
				if proof.SeqNumber < 0 || proof.SeqNumber >= 1<<30 {
					t.Errorf("sequence number %d", proof.SeqNumber)
				}
			}
		}
	}
}

// FuzzMaker has other names, keys and tickets.
func FuzzMaker(f *testing.F) {
	f.Add(byte(18), "alice", "", "R.EXAMPLE", int32(1), make([]byte, 32), 100)
	f.Add(byte(19), "host", "a.example", "R", int32(3), make([]byte, 16), 70000)
	f.Fuzz(func(t *testing.T, etype byte, first, second, realm string, kind int32, key []byte, size int) {
		s := ticket.ServiceTicket{
			Client: []string{first}, ClientType: kind, Realm: realm, EncType: ticket.EncType(etype), Key: key,
			DER: someTicket(t, size&0x1ffff),
		}
		if second != "" {
			s.Client = append(s.Client, second)
		}
		m, err := ticket.NewMaker(s)
		if err != nil {
			return
		}
		agrees(t, m.Token(0), s)
	})
}

// RC4 and DES are left to the library.
func TestLibraryStillMakesOtherTokens(t *testing.T) {
	for _, etype := range []int32{16, 23} {
		e := &cred{
			client: principal{1, "R.EXAMPLE", []string{"alice"}}, server: principal{2, "R.EXAMPLE", []string{"HTTP", "proxy"}},
			etype: etype, key: bytes.Repeat([]byte{3}, keySize[etype]), ticket: someTicket(t, 100),
		}
		p, err := newPass(e)
		if err != nil {
			t.Fatal(err)
		}
		token, err := p.token(0)
		if err != nil {
			t.Fatal(err)
		}
		var ap messages.APReq
		if err := ap.Unmarshal(apReqOf(token)); err != nil {
			t.Fatal(err)
		}
		if err := ap.DecryptAuthenticator(p.session); err != nil || types.IsFlagSet(&ap.APOptions, flags.APOptionMutualRequired) {
			t.Errorf("encryption type %d: %+v, %v", etype, ap.APOptions, err)
		}
	}
}
