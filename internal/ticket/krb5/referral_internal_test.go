package krb5

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
)

// A forest answers for several realms on one port. It knows the session key of
// every ticket it gave out, so it need not open them.
type forest struct {
	t      *testing.T
	refers map[string]string // realm: where its KDC sends strangers
	keys   *keytab.Keytab
	mu     sync.Mutex
	key    types.EncryptionKey // of the last ticket given out
	asked  []string            // "REALM service"
}

func (f *forest) issue(realm string, name types.PrincipalName) (messages.Ticket, messages.EncKDCRepPart) {
	service := strings.Join(name.NameString, "/")
	if _, _, err := f.keys.GetEncryptionKey(name, realm, 1, 18); err != nil {
		f.keys.AddEntry(service, realm, "x", time.Unix(1, 0), 1, 18)
	}
	now := time.Now().UTC().Truncate(time.Second)
	flags := types.NewKrbFlags()
	tkt, key, err := messages.NewTicket(alice.wire(), alice.realm, name, realm, flags, f.keys, 18, 1, now, now, now.Add(time.Hour), time.Time{})
	if err != nil {
		f.t.Error(err)
	}
	return tkt, messages.EncKDCRepPart{
		Key: key, LastReqs: []messages.LastReq{{LRValue: now}}, Flags: flags,
		AuthTime: now, StartTime: now, EndTime: now.Add(time.Hour), SRealm: realm, SName: name,
	}
}

var alice = principal{kind: 1, realm: "A", parts: []string{"alice"}}

func (f *forest) answer(raw []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	var req messages.TGSReq
	if err := req.Unmarshal(raw); err != nil {
		f.t.Error(err)
		return nil
	}
	realm, name := req.ReqBody.Realm, req.ReqBody.SName
	f.asked = append(f.asked, realm+" "+name.PrincipalNameString())
	if next := f.refers[realm]; next != "" && name.NameString[0] != "krbtgt" {
		name = types.PrincipalName{NameType: 2, NameString: []string{"krbtgt", next}}
	}
	tkt, part := f.issue(realm, name)
	part.Nonce = req.ReqBody.Nonce
	plain, _ := part.Marshal()
	plain[0] = 0x7a
	enc, err := crypto.GetEncryptedData(plain, f.key, 8, 0)
	if err != nil {
		f.t.Error(err)
	}
	f.key = part.Key
	rep := messages.TGSRep{KDCRepFields: messages.KDCRepFields{PVNO: 5, MsgType: 13, CRealm: alice.realm, CName: alice.wire(), Ticket: tkt, EncPart: enc}}
	b, err := rep.Marshal()
	if err != nil {
		f.t.Error(err)
	}
	return b
}

func (f *forest) start() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var head [4]byte
			io.ReadFull(c, head[:])
			req := make([]byte, binary.BigEndian.Uint32(head[:])&0xffff)
			io.ReadFull(c, req)
			reply := f.answer(req)
			c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(reply))), reply...))
			c.Close()
		}
	}()
	f.t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// errAny stands for an error that no caller tells apart.
var errAny = errors.New("any error")

func TestReferrals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		refers map[string]string
		target string
		asked  string // by realm
		want   error
	}{
		{"own realm", nil, "", "A HTTP/x", nil},
		{"one hop, by referral", map[string]string{"A": "B"}, "", "A HTTP/x, B HTTP/x", nil},
		{"two hops", map[string]string{"A": "B", "B": "C"}, "", "A HTTP/x, B HTTP/x, C HTTP/x", nil},
		{"realm known", nil, "B", "A krbtgt/B, B HTTP/x", nil},
		{"refers to itself", map[string]string{"A": "A"}, "", "A HTTP/x", ticket.ErrSPNUnknown},
		{"round and round", map[string]string{"A": "B", "B": "A"}, "", strings.TrimSuffix(strings.Repeat("A HTTP/x, B HTTP/x, ", 3), ", "), errAny},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testenv.NoLeaks(t)
			f := &forest{t: t, refers: tt.refers, keys: keytab.New()}
			tgt, part := f.issue("A", types.PrincipalName{NameType: 2, NameString: []string{"krbtgt", "A"}})
			f.key = part.Key
			addr := f.start()
			var realms []*node
			for _, r := range []string{"A", "B", "C"} {
				realms = append(realms, &node{name: r, kids: []*node{{name: "kdc", value: addr}}})
			}
			s := &state{
				conf: conf{&node{kids: []*node{{name: "realms", kids: realms}}}}, file: &cacheFile{},
				tgt: &pass{cred: cred{client: alice, end: part.EndTime}, message: tgt, session: part.Key},
			}
			p, err := s.fetch(t.Context(), types.PrincipalName{NameType: 2, NameString: []string{"HTTP", "x"}}, tt.target)
			if got := strings.Join(f.asked, ", "); got != tt.asked {
				t.Errorf("asked %q, want %q", got, tt.asked)
			}
			switch {
			case tt.want == nil && (err != nil || p.message.SName.PrincipalNameString() != "HTTP/x"):
				t.Errorf("got %+v, %v", p, err)
			case tt.want == errAny && err == nil, tt.want == ticket.ErrSPNUnknown && !errors.Is(err, tt.want):
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}
