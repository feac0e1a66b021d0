package auth

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf16"

	"kerbpass/internal/testenv"
)

const testPassword = "Geh-1m-und-lang"

// account is one whose password is there; calls counts how often it was asked for.
func account(t *testing.T, scheme Scheme, user string) (*Account, *atomic.Int64) {
	t.Helper()
	calls := new(atomic.Int64)
	a, err := New(Config{Scheme: scheme, User: user, Password: func(context.Context) ([]byte, error) {
		calls.Add(1)
		return []byte(testPassword), nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	return a, calls
}

func begin(t *testing.T, a *Account) *Exchange {
	t.Helper()
	x, err := a.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

func next(t *testing.T, x *Exchange, challenge string) string {
	t.Helper()
	var c []byte
	if challenge != "" {
		c = []byte(challenge)
	}
	out, err := x.Next(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestNewChecks(t *testing.T) {
	ask := func(context.Context) ([]byte, error) { return nil, nil }
	for _, c := range []Config{
		{}, {Scheme: "Negotiate", User: "a", Password: ask}, {Scheme: Basic, User: "", Password: ask}, {Scheme: Basic, User: "a"},
		{Scheme: Basic, User: "a:b", Password: ask}, {Scheme: Digest, User: "a:b", Password: ask}, {Scheme: NTLM, User: "a\r\nb", Password: ask},
		{Scheme: NTLM, User: strings.Repeat("a", 257), Password: ask}, {Scheme: NTLM, User: "\xff", Password: ask},
	} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	for in, want := range map[string]Scheme{"basic": Basic, "NTLM": NTLM, "Digest": Digest} {
		if got, err := ParseScheme(in); got != want || err != nil {
			t.Errorf("%s: got %q, %v", in, got, err)
		}
	}
	if _, err := ParseScheme("negotiate"); err == nil {
		t.Error("negotiate was taken")
	}
}

func TestBasic(t *testing.T) {
	a, calls := account(t, Basic, "älice")
	for range 3 {
		x := begin(t, a)
		if got := next(t, x, ""); got != "älice:"+testPassword {
			t.Errorf("got %q", got)
		}
		if _, err := x.Next(t.Context(), []byte("x")); !errors.Is(err, ErrChallenge) {
			t.Errorf("a challenge: got %v", err)
		}
		x.Judged(true)
		x.Close()
	}
	if st, err := a.State(); st != Accepted || err != nil || calls.Load() != 1 {
		t.Errorf("got %s, %v; the password was asked for %d times", st, err, calls.Load())
	}
}

// The guard: fifty requests at once with a wrong password cost one try, and the
// next try is after a reset.
func TestOneTry(t *testing.T) {
	for _, scheme := range []Scheme{Basic, NTLM, Digest} {
		a, calls := account(t, scheme, "alice")
		var tries atomic.Int64
		storm := func() {
			var wg sync.WaitGroup
			for range 50 {
				wg.Go(func() {
					x, err := a.Begin(t.Context())
					if err != nil {
						if !errors.Is(err, ErrRefused) {
							t.Errorf("%s: got %v", scheme, err)
						}
						return
					}
					defer x.Close()
					x.Asked("GET", "http://a.test/")
					x.Next(t.Context(), nil)
					switch scheme {
					case NTLM:
						x.Next(t.Context(), ntlmChallenge(false))
					case Digest:
						x.Next(t.Context(), []byte(`realm="r", nonce="n", qop="auth"`))
						x.Next(t.Context(), nil)
					}
					tries.Add(1)
					x.Judged(false)
				})
			}
			wg.Wait()
		}
		storm()
		if st, err := a.State(); tries.Load() != 1 || calls.Load() != 1 || st != Refused || !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %d tries, %d questions, %s, %v", scheme, tries.Load(), calls.Load(), st, err)
		}
		a.now = func() time.Time { return time.Now().Add(24 * time.Hour) } // time does not help
		storm()
		if tries.Load() != 1 {
			t.Errorf("%s: %d tries after a day", scheme, tries.Load())
		}
		a.Reset()
		storm()
		if tries.Load() != 2 || calls.Load() != 2 {
			t.Errorf("%s: %d tries, %d questions after a reset", scheme, tries.Load(), calls.Load())
		}
	}
}

// A password that has worked is not tried one at a time, until a while has gone.
func TestTrust(t *testing.T) {
	a, _ := account(t, Basic, "alice")
	now := time.Now()
	a.now = func() time.Time { return now }
	x := begin(t, a)
	next(t, x, "")
	x.Judged(true)
	begin(t, a)
	begin(t, a) // neither waits for the other
	now = now.Add(trust + time.Second)
	trial := begin(t, a)
	if trial.trial == nil {
		t.Error("an old success is trusted")
	}
	done := make(chan *Exchange)
	go func() {
		x, _ := a.Begin(t.Context())
		done <- x
	}()
	select {
	case <-done:
		t.Error("a second one goes on beside the trial")
	case <-time.After(50 * time.Millisecond):
	}
	next(t, trial, "")
	trial.Judged(true)
	(<-done).Close()
}

// A trial that ends without a verdict lets the next one try; so does one that
// takes too long, and ctx ends the wait.
func TestTrialsEnd(t *testing.T) {
	a, _ := account(t, Basic, "alice")
	x := begin(t, a)
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	if _, err := a.Begin(ctx); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	x.Close()
	y := begin(t, a)
	if y.trial == nil {
		t.Error("the next is no trial")
	}
	a.patience = time.Millisecond
	z := begin(t, a)
	y.Judged(true) // had nothing sent
	y.Close()
	if a.trial != z.trial {
		t.Error("an old trial ended a new one")
	}
}

func TestMissingPassword(t *testing.T) {
	why, calls := errors.New("locked"), 0
	a, err := New(Config{Scheme: Basic, User: "alice", Password: func(context.Context) ([]byte, error) {
		calls++
		return nil, why
	}})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a.now = func() time.Time { return now }
	for range 5 {
		if _, err := a.Begin(t.Context()); !errors.Is(err, ErrPassword) || !errors.Is(err, why) {
			t.Errorf("got %v", err)
		}
	}
	if st, err := a.State(); calls != 1 || st != Missing || !errors.Is(err, why) {
		t.Errorf("asked %d times; %s, %v", calls, st, err)
	}
	now = now.Add(missingTime + time.Second)
	a.Begin(t.Context())
	why = nil // an empty one is none
	a.Reset()
	if _, err := a.Begin(t.Context()); calls != 3 || !errors.Is(err, ErrPassword) {
		t.Errorf("asked %d times; %v", calls, err)
	}
}

// What was begun with a password that is gone sends nothing in its place.
func TestNothingWithoutThePassword(t *testing.T) {
	for _, scheme := range []Scheme{Basic, NTLM, Digest} {
		a, _ := account(t, scheme, "alice")
		x := begin(t, a)
		var err error
		switch scheme {
		case NTLM:
			next(t, x, "")
		case Digest:
			next(t, x, `realm="r", nonce="n", qop="auth"`)
		}
		a.Reset()
		var out []byte
		if scheme == NTLM {
			out, err = x.Next(t.Context(), ntlmChallenge(true))
		} else {
			out, err = x.Next(t.Context(), nil)
		}
		if out != nil || !errors.Is(err, ErrRefused) {
			t.Errorf("%s: got %q, %v", scheme, out, err)
		}
		x.Judged(false) // about the old one
		if st, _ := a.State(); st != Unused {
			t.Errorf("%s: %s after a verdict on the old password", scheme, st)
		}
	}
}

// A verdict that comes late is about the password that was sent.
func TestLateVerdict(t *testing.T) {
	a, _ := account(t, Basic, "alice")
	x := begin(t, a)
	next(t, x, "")
	a.Reset()
	x.Judged(false)
	if st, _ := a.State(); st != Unused {
		t.Errorf("%s after a verdict on the old password", st)
	}
}

func TestDigest(t *testing.T) {
	a, _ := account(t, Digest, "Mufasa")
	x := begin(t, a)
	x.Asked("GET", "/dir/index.html")
	if got := next(t, x, ""); got != "" {
		t.Errorf("without a nonce: %q", got)
	}
	x.Judged(true) // of nothing
	if st, _ := a.State(); st != Unused {
		t.Errorf("%s after an answer without a password", st)
	}
	challenge := `realm="http-auth@example.org", qop="auth, auth-int", algorithm=SHA-256, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
	unknown := `realm="x", qop="auth", algorithm=MD5-sess, nonce="other"`
	if got := next(t, x, unknown+"\n"+challenge); got != "" {
		t.Errorf("after the challenge: %q", got)
	}
	first := fields(t, next(t, x, ""))
	check := func(f map[string]string, method, uri, nc string) {
		t.Helper()
		h := func(parts ...string) string { return sha256hex(strings.Join(parts, ":")) }
		want := h(h("Mufasa", "http-auth@example.org", testPassword), f["nonce"], nc, f["cnonce"], "auth", h(method, uri))
		if f["response"] != want || f["nc"] != nc || f["uri"] != uri || f["qop"] != "auth" || f["algorithm"] != "SHA-256" ||
			f["username"] != "Mufasa" || !strings.HasPrefix(f["nonce"], "7ypf") || !strings.HasPrefix(f["opaque"], "FQhe") {
			t.Errorf("got %v, want response %s and count %s", f, want, nc)
		}
	}
	check(first, "GET", "/dir/index.html", "00000001")
	// Meanwhile no one else uses that nonce.
	x.Judged(true)
	y := begin(t, a)
	y.Asked("POST", "http://b.test/")
	z := begin(t, a)
	second := fields(t, next(t, y, ""))
	check(second, "POST", "http://b.test/", "00000002")
	if got := next(t, z, ""); got != "" {
		t.Errorf("two use one nonce at once: %q", got)
	}
	// A nonce that had worked and does no more is no refusal; a fresh one is,
	// unless the proxy calls it stale.
	next(t, y, challenge)
	if fields(t, next(t, y, ""))["nc"] != "00000001" {
		t.Error("a new nonce is not counted from one")
	}
	next(t, y, challenge+", stale=TRUE")
	next(t, y, "")
	if _, err := y.Next(t.Context(), []byte(challenge)); !errors.Is(err, ErrRefused) {
		t.Errorf("a fresh nonce refused: got %v", err)
	}
}

func TestDigestRefusesChallenges(t *testing.T) {
	for _, c := range []string{"", "realm=", `realm="r", qop="auth"`, `realm="r", nonce="n"`, `realm="r", nonce="n", qop="auth-int"`,
		`realm="r", nonce="n", qop="auth", algorithm=MD4`, `realm="r", nonce="n", qop="auth", algorithm=MD5-sess`, `"`, "\n\n"} {
		a, _ := account(t, Digest, "alice")
		x := begin(t, a)
		if out, err := x.Next(t.Context(), []byte(c)); out != nil || !errors.Is(err, ErrChallenge) {
			t.Errorf("%q: got %q, %v", c, out, err)
		}
		x.Close()
	}
}

func fields(t *testing.T, s string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for part := range strings.SplitSeq(s, ", ") {
		k, v, ok := strings.Cut(part, "=")
		if !ok {
			t.Fatalf("not parameters: %q", s)
		}
		all[k] = strings.Trim(v, `"`)
	}
	return all
}

// ntlmChallenge is a message of type 2, with target information or without.
func ntlmChallenge(info bool) []byte {
	flags := uint32(0x00008000 | 0x00000200 | 0x00080000 | 0x00000001)
	var target []byte
	if info {
		flags |= 0x00800000
		domain := utf16le("CORP")
		target = binary.LittleEndian.AppendUint16(target, 2)
		target = binary.LittleEndian.AppendUint16(target, uint16(len(domain)))
		target = append(append(target, domain...), 0, 0, 0, 0)
	}
	b := append([]byte("NTLMSSP\x00"), 2, 0, 0, 0)
	b = append(b, 0, 0, 0, 0, 56, 0, 0, 0) // target name: none
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(b, "\x01\x23\x45\x67\x89\xab\xcd\xef"...)
	b = append(b, make([]byte, 8)...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(target)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(target)))
	b = binary.LittleEndian.AppendUint32(b, 56)
	b = append(b, make([]byte, 8)...) // version
	return append(b, target...)
}

func TestNTLM(t *testing.T) {
	for _, tt := range []struct{ login, user, domain string }{
		{`CORP\Älice`, "Älice", "CORP"}, {"alice@corp.example", "alice@corp.example", ""}, {"alice", "alice", ""},
	} {
		a, _ := account(t, NTLM, tt.login)
		x := begin(t, a)
		first := next(t, x, "")
		if !strings.HasPrefix(first, "NTLMSSP\x00\x01\x00\x00\x00") || strings.Contains(first, "lice") {
			t.Errorf("the first message is %q", first)
		}
		x.Judged(false) // not of the password
		if st, _ := a.State(); st != Unused {
			t.Errorf("%s after the first message", st)
		}
		msg := []byte(next(t, x, string(ntlmChallenge(true))))
		field := func(at int) []byte {
			n, off := binary.LittleEndian.Uint16(msg[at:]), binary.LittleEndian.Uint32(msg[at+4:])
			return msg[off:][:n]
		}
		lm, nt, domain, user, workstation := field(12), field(20), field(28), field(36), field(44)
		if string(user) != string(utf16le(tt.user)) || string(domain) != string(utf16le(tt.domain)) || len(workstation) != 0 {
			t.Errorf("%s: user %q, domain %q, workstation %q", tt.login, user, domain, workstation)
		}
		if len(bytes.Trim(lm, "\x00")) > 0 {
			t.Errorf("it holds an LM response: %x", lm)
		}
		if len(nt) <= 24+16 { // 24 is what version 1 has
			t.Fatalf("the NT response has %d bytes", len(nt))
		}
		key := hmacMD5(md4(utf16le(testPassword)), utf16le(strings.ToUpper(tt.user)+tt.domain))
		if want := hmacMD5(key, []byte("\x01\x23\x45\x67\x89\xab\xcd\xef"), nt[16:]); !bytes.Equal(nt[:16], want) {
			t.Errorf("%s: the proof is %x, want %x", tt.login, nt[:16], want)
		}
		if _, err := x.Next(t.Context(), ntlmChallenge(true)); !errors.Is(err, ErrChallenge) {
			t.Errorf("a second challenge: got %v", err)
		}
		x.Judged(true)
		if st, _ := a.State(); st != Accepted {
			t.Errorf("%s after the last message", st)
		}
	}
}

func TestNTLMRefusesChallenges(t *testing.T) {
	lmKey, keyExchange, oem := ntlmChallenge(true), ntlmChallenge(true), ntlmChallenge(true)
	lmKey[20] |= 0x80
	keyExchange[23] |= 0x40
	oem[20] &^= 1
	for name, c := range map[string][]byte{"empty": {}, "noise": []byte("hello"), "type 1": []byte("NTLMSSP\x00\x01\x00\x00\x00"), "cut": ntlmChallenge(true)[:30],
		"LM key": lmKey, "key exchange": keyExchange, "no Unicode": oem} {
		a, _ := account(t, NTLM, "alice")
		x := begin(t, a)
		next(t, x, "")
		if out, err := x.Next(t.Context(), c); out != nil || !errors.Is(err, ErrChallenge) {
			t.Errorf("%s: got %x, %v", name, out, err)
		}
		x.Judged(false)
		if st, _ := a.State(); st != Unused {
			t.Errorf("%s: %s, although no password was sent", name, st)
		}
		x.Close()
	}
}

func FuzzChallenges(f *testing.F) {
	f.Add(ntlmChallenge(true))
	f.Add(ntlmChallenge(false))
	f.Add([]byte(`realm="r", nonce="n", qop="auth"`))
	f.Add([]byte(`realm="r", nonce="n", qop=auth, algorithm=SHA-256, userhash=true, opaque="\""`))
	f.Fuzz(func(t *testing.T, c []byte) {
		for _, scheme := range []Scheme{NTLM, Digest} {
			a, _ := account(t, scheme, "alice")
			x := begin(t, a)
			x.Asked("GET", "http://a.test/")
			x.Next(t.Context(), c)
			out, _ := x.Next(t.Context(), nil)
			if bytes.Contains(out, []byte(testPassword)) {
				t.Fatalf("%s: the password itself in %q", scheme, out)
			}
			x.Close()
		}
	})
}

func TestNothingIsPrinted(t *testing.T) {
	a, _ := account(t, Basic, "alice")
	x := begin(t, a)
	next(t, x, "")
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "account", a, "exchange", x, "secret", x.password)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%q", "%d"} {
		fmt.Fprintf(&log, verb+verb+verb, x.password, x, a)
	}
	if found := testenv.Secret(log.String(), testPassword, hex.EncodeToString([]byte(testPassword))); found != "" {
		t.Errorf("printed: %s", found)
	}
}

func sha256hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func utf16le(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func hmacMD5(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// md4 is RFC 1320's, for short input, so that the library is not its own judge.
func md4(in []byte) []byte {
	b := append(bytes.Clone(in), 0x80)
	for len(b)%64 != 56 {
		b = append(b, 0)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(len(in))*8)
	s := [4]uint32{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476}
	for ; len(b) > 0; b = b[64:] {
		var x [16]uint32
		for i := range x {
			x[i] = binary.LittleEndian.Uint32(b[4*i:])
		}
		v := s
		for _, r := range []struct {
			f     func(x, y, z uint32) uint32
			add   uint32
			shift [4]int
			order [16]int
		}{
			{func(x, y, z uint32) uint32 { return x&y | ^x&z }, 0, [4]int{3, 7, 11, 19}, [16]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
			{func(x, y, z uint32) uint32 { return x&y | x&z | y&z }, 0x5a827999, [4]int{3, 5, 9, 13}, [16]int{0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15}},
			{func(x, y, z uint32) uint32 { return x ^ y ^ z }, 0x6ed9eba1, [4]int{3, 9, 11, 15}, [16]int{0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15}},
		} {
			for i, k := range r.order {
				v[0] = bits.RotateLeft32(v[0]+r.f(v[1], v[2], v[3])+x[k]+r.add, r.shift[i%4])
				v[0], v[1], v[2], v[3] = v[3], v[0], v[1], v[2]
			}
		}
		for i := range s {
			s[i] += v[i]
		}
	}
	var out []byte
	for _, w := range s {
		out = binary.LittleEndian.AppendUint32(out, w)
	}
	return out
}

func TestMD4(t *testing.T) {
	if got := hex.EncodeToString(md4([]byte("abc"))); got != "a448017aaf21d8525fc10ae87aa6729d" {
		t.Errorf("got %s", got)
	}
}
