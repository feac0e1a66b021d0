package krb5

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	gokeytab "github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/types"

	"kerbpass/internal/demo/realm"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
)

// RFC 3962 appendix B, RFC 8009 appendix A, and what Windows makes of "foo".
func TestStringToKey(t *testing.T) {
	const raeburn = "ATHENA.MIT.EDUraeburn"
	sha2Salt := "\x10\xDF\x9D\xD7\x83\xE5\xBC\x8A\xCE\xA1\x73\x0E\x74\x35\x5F\x61" + raeburn
	for _, tt := range []struct {
		h              hint
		password, want string
	}{
		{hint{17, raeburn, []byte{0, 0, 0, 1}}, "password", "42263c6e89f4fc28b8df68ee09799f15"},
		{hint{18, raeburn, []byte{0, 0, 4, 0xb0}}, "password", "55a6ac740ad17b4846941051e1e8b0a7548d93b0ab30a8bc3ff16280382b8c2a"},
		{hint{19, sha2Salt, nil}, "password", "089bca48b105ea6ea77ca5d2f39dc5e7"},
		{hint{20, sha2Salt, []byte{0, 0, 0x80, 0}}, "password", "45bd806dbf6a833a9cffc1c94589a222367a79bc21c413718906e9f578a78467"},
		{hint{23, "", nil}, "foo", "ac8e657f83df82beea5d43bdaf7800cc"},
	} {
		k, err := stringToKey(t.Context(), tt.h, []byte(tt.password))
		if got := hex.EncodeToString(k.KeyValue); err != nil || got != tt.want || k.KeyType != tt.h.etype {
			t.Errorf("encryption type %d: got %s, %v; want %s", tt.h.etype, got, err, tt.want)
		}
	}
	if got, want := utf16LE([]byte("aü€😀")), "a\x00\xfc\x00\xac\x20\x3d\xd8\x00\xde"; string(got) != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A KDC cannot make us work for minutes.
func TestStringToKeyIsBounded(t *testing.T) {
	for name, h := range map[string]hint{
		"2^32 iterations":  {18, "s", []byte{0, 0, 0, 0}},
		"many iterations":  {20, "s", []byte{0x7f, 0xff, 0xff, 0xff}},
		"odd parameters":   {18, "s", []byte{1}},
		"no parameters":    {18, "s", []byte{}},
		"giant salt":       {18, strings.Repeat("s", maxSalt+1), nil},
		"type of no kind":  {99, "s", nil},
		"type of services": {16, "s", nil},
	} {
		if k, err := stringToKey(t.Context(), h, []byte("x")); err == nil {
			t.Errorf("%s: made %v", name, k.KeyType)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := stringToKey(ctx, hint{18, "s", []byte{0, 0x10, 0, 0}}, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestChooseKey(t *testing.T) {
	in := &login{client: alice, etypes: []int32{18, 17}}
	info := func(entries ...types.ETypeInfo2Entry) types.PADataSequence {
		b, err := asn1.Marshal(entries)
		if err != nil {
			t.Fatal(err)
		}
		return types.PADataSequence{{PADataType: 2}, {PADataType: 19, PADataValue: b}}
	}
	for _, tt := range []struct {
		name    string
		offered types.PADataSequence
		etypes  []int32
		want    hint // zero: an error
	}{
		{"nothing said", nil, in.etypes, hint{etype: 18, salt: "Aalice"}},
		{"our order counts", info(types.ETypeInfo2Entry{EType: 17, Salt: "x"}, types.ETypeInfo2Entry{EType: 18, Salt: "y"}), in.etypes, hint{etype: 18, salt: "y"}},
		{"standard salt", info(types.ETypeInfo2Entry{EType: 17}), in.etypes, hint{etype: 17, salt: "Aalice"}},
		{"iterations", info(types.ETypeInfo2Entry{EType: 17, Salt: "x", S2KParams: []byte{0, 0, 1, 0}}), in.etypes, hint{17, "x", []byte{0, 0, 1, 0}}},
		{"none that we offered", info(types.ETypeInfo2Entry{EType: 23}), in.etypes, hint{}},
		{"reply in one that we did not offer", info(types.ETypeInfo2Entry{EType: 23}), []int32{23}, hint{}},
		{"the same, unsaid", nil, []int32{23}, hint{}},
		{"garbage", types.PADataSequence{{PADataType: 19, PADataValue: []byte("garbage")}}, in.etypes, hint{}},
	} {
		got, err := in.choose(tt.offered, tt.etypes)
		if !reflect.DeepEqual(got, tt.want) || (err == nil) != (tt.want.etype != 0) {
			t.Errorf("%s: got %+v, %v; want %+v", tt.name, got, err, tt.want)
		}
	}
}

// A reply to another request, of another KDC or for other times is not taken,
// however damaged, and none makes the library panic through.
func TestASReplyMustMatchRequest(t *testing.T) {
	testenv.NoLeaks(t)
	r, err := realm.Start(realm.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := New(Config{ConfigPath: r.Krb5Conf()})
	if err != nil {
		t.Fatal(err)
	}
	_, c, err := b.surveyNow(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	client, err := parsePrincipal("alice", r.Name())
	if err != nil {
		t.Fatal(err)
	}
	in := &login{conf: c, client: client, etypes: c.etypes("default_tkt_enctypes")}
	in.key = func(ctx context.Context, h hint) (longTermKey, error) {
		return stringToKey(ctx, h, []byte("wonderland"))
	}
	ex := &asExchange{login: in, service: krbtgt(r.Name()), terms: c.tgtTerms()}
	_, err = ex.ask(t.Context())
	rep, err := ex.prove(t.Context(), err)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := rep.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	open := func(ex asExchange, raw []byte) (*pass, error) {
		rep, err := readAS(raw)
		if err != nil {
			return nil, err
		}
		return ex.open(rep)
	}
	if _, err := open(*ex, raw); err != nil {
		t.Fatalf("the reply itself: %v", err)
	}
	for name, change := range map[string]func(ex *asExchange){
		"another nonce":   func(ex *asExchange) { ex.body.Nonce++ },
		"another client":  func(ex *asExchange) { ex.login = &login{conf: c, client: alice} },
		"another service": func(ex *asExchange) { ex.service.NameString = []string{"kadmin", "changepw"} },
		"another key":     func(ex *asExchange) { ex.own.KeyValue = make([]byte, 32) },
		"a longer life":   func(ex *asExchange) { ex.body.Till = time.Now() },
		"renewable":       func(ex *asExchange) { ex.body.RTime = time.Time{} },
	} {
		changed := *ex
		change(&changed)
		if p, err := open(changed, raw); err == nil {
			t.Errorf("%s: taken as %+v", name, p)
		}
	}
	for i := range raw {
		if p, err := open(*ex, raw[:i]); err == nil {
			t.Errorf("a reply cut at %d was taken as %+v", i, p)
		}
		bad := bytes.Clone(raw)
		bad[i] ^= 0x41
		if p, err := open(*ex, bad); err == nil { // only the ticket itself is opaque to us
			newToken(p, time.Now()) //nolint:errcheck // it must not panic; it may refuse
		}
	}
	// Without time synchronisation a wrong clock is an error.
	c.root.kids = append(c.root.kids, &node{name: "libdefaults", kids: []*node{{name: "kdc_timesync", value: "0"}}})
	late := *ex
	late.login = &login{conf: c, client: client}
	if _, err := open(late, raw); err != nil {
		t.Errorf("clocks agree: %v", err)
	}
}

// What a KDC answers to the first, unauthenticated request is anybody's.
func FuzzKDCAnswer(f *testing.F) {
	unhex := func(s string) []byte { b, _ := hex.DecodeString(s); return b }
	f.Add(unhex("7e453043a003020105a10302011ea411180f32303236313132333137343231325aa505020301e240a603020119a9031b0141aa0f300da003020102a106300407"))
	f.Add(unhex("6b03300100"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		in := &login{client: alice, etypes: []int32{18}, conf: conf{&node{}}}
		rep, err := readAS(raw)
		if r, ok := errors.AsType[*refusal](err); ok {
			if offered, err := readOffer(r.data); err == nil {
				in.choose(offered, in.etypes) //nolint:errcheck // it must not panic; it may refuse
			}
		}
		if err == nil {
			ex := &asExchange{login: in, service: krbtgt("A"), own: longTermKey{types.EncryptionKey{KeyType: 18, KeyValue: make([]byte, 32)}}}
			if p, err := ex.open(rep); err == nil {
				t.Errorf("opened %+v with a key of zeros", p)
			}
		}
	})
}

func FuzzOffer(f *testing.F) {
	b, err := asn1.Marshal(types.PADataSequence{{PADataType: 2}, {PADataType: 19, PADataValue: []byte{0x30, 0}}, {PADataType: 133}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		offered, err := readOffer(data)
		if err != nil {
			return
		}
		in := &login{client: alice, etypes: []int32{18, 23}}
		if h, err := in.choose(offered, in.etypes); err == nil && !slices.Contains(in.etypes, h.etype) {
			t.Errorf("chose %+v", h)
		}
		cookies(offered)
	})
}

func FuzzPasswordServerAnswer(f *testing.F) {
	f.Add([]byte("\x00\x06\x00\x01\x00\x00"))
	f.Add([]byte("\x00\x0a\x00\x01\x00\x02ab\x75\x00"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := &change{pass: &pass{session: types.EncryptionKey{KeyType: 18, KeyValue: make([]byte, 32)}}}
		c.proof.SubKey = c.pass.session
		if err := c.read(raw); err == nil {
			t.Error("taken for success")
		}
	})
}

func TestPasswordServerResults(t *testing.T) {
	rules := make([]byte, 32)
	rules[1], rules[7], rules[11] = 4, 12, 24
	for _, tt := range []struct {
		data []byte
		want string // "": no error
	}{
		{[]byte{0, 0}, ""},
		{[]byte{0, 0, 'o', 'k'}, ""},
		{[]byte("\x00\x04too \x1bshort\n"), "the password was not changed: too  short"},
		{[]byte("\x00\x05\xff\xfe"), "the password was not changed (result 5)"},
		{rules, "the password was not changed: it must have at least 12 characters and differ from the last 24"},
		{[]byte{0}, "damaged answer from the password server"},
	} {
		got := ""
		if err := readResult(tt.data); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.data, got, tt.want)
		}
	}
}

func written(t testing.TB) []byte {
	t.Helper()
	kt := gokeytab.New()
	for i, etype := range []int32{18, 17, 18} {
		if err := kt.AddEntry("alice", "A", "x", time.Unix(int64(i), 0), uint8(i+1), etype); err != nil {
			t.Fatal(err)
		}
	}
	b, err := kt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseKeytab(t *testing.T) {
	b := written(t)
	keys, err := parseKeytab(b)
	if err != nil || len(keys) != 3 || keys[0].client.String() != "alice@A" || keys[2].version != 3 {
		t.Fatalf("got %+v, %v", keys, err)
	}
	etypes, key, err := keys.source(alice, []int32{20, 18, 17})
	if err != nil || !slices.Equal(etypes, []int32{18, 17}) {
		t.Fatalf("got %v, %v", etypes, err)
	}
	if k, err := key(t.Context(), hint{etype: 18}); err != nil || !bytes.Equal(k.KeyValue, keys[2].key) {
		t.Errorf("got %v, %v; want the newest", k.KeyType, err)
	}
	for _, tt := range []struct {
		who    string
		etypes []int32
	}{{"bob", []int32{18}}, {"alice", []int32{20}}} {
		who, err := parsePrincipal(tt.who, "A")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := keys.source(who, tt.etypes); !errors.Is(err, ticket.ErrPrincipalUnknown) {
			t.Errorf("%s %v: got %v", tt.who, tt.etypes, err)
		}
	}
	hole := slices.Concat(b[:2], []byte{0xff, 0xff, 0xff, 0xfc, 1, 2, 3, 4}, b[2:])
	if got, err := parseKeytab(hole); err != nil || len(got) != 3 {
		t.Errorf("with a removed entry: %+v, %v", got, err)
	}
	for name, bad := range map[string][]byte{
		"empty": nil, "version 1": {5, 1}, "no entries": {5, 2}, "cut": b[:len(b)-9], "giant": {5, 2, 0x7f, 0xff, 0xff, 0xff},
		"giant hole": {5, 2, 0x80, 0, 0, 0}, "many parts": {5, 2, 0, 0, 0, 2, 0xff, 0xff},
	} {
		if got, err := parseKeytab(bad); err == nil {
			t.Errorf("%s: taken as %+v", name, got)
		}
	}
}

func FuzzKeytab(f *testing.F) {
	b := written(f)
	f.Add(b)
	f.Add(b[:30])
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseKeytab(b)
		if (len(keys) == 0) == (err == nil) || len(keys) > maxKeys {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			if len(k.key) != keySize[k.etype] || !k.client.plain() {
				t.Errorf("unusable: %+v", k)
			}
		}
	})
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"36000": 10 * time.Hour, "10h": 10 * time.Hour, "1d12h": 36 * time.Hour, "7d 0h": 168 * time.Hour, "10:30": 10*time.Hour + 30*time.Minute,
		"1:2:3": time.Hour + 2*time.Minute + 3*time.Second, "0": 0, "2147483647d": maxLifetime,
		"": -1, "x": -1, "1w": -1, "h": -1, "-1": -1, "9999999999999": -1,
	} {
		got, ok := parseDuration(s)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: got %v, want %v", s, got, want)
		}
	}
}

func TestKpasswdServers(t *testing.T) {
	for _, tt := range []struct {
		relation, value, want string
	}{
		{"kpasswd_server", "host", "host:464"},
		{"kpasswd_server", "host:1464", "host:1464"},
		{"admin_server", "host:749", "host:464"},
		{"admin_server", "[::1]:749", "[::1]:464"},
		{"kdc", "host", ""},
	} {
		c := conf{&node{kids: []*node{{name: "realms", kids: []*node{{name: "A", kids: []*node{{name: tt.relation, value: tt.value}}}}}}}}
		if got := strings.Join(c.kpasswd("A"), " "); got != tt.want {
			t.Errorf("%s = %s: got %q, want %q", tt.relation, tt.value, got, tt.want)
		}
	}
}
