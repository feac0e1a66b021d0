package krb5

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"kerbpass/internal/demo/realm"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
)

func confWith(addrs ...string) conf {
	r := &node{name: "R", kids: []*node{}}
	for _, a := range addrs {
		r.kids = append(r.kids, &node{name: "kdc", value: a})
	}
	return conf{&node{kids: []*node{{name: "realms", kids: []*node{r}}, {name: "libdefaults", kids: []*node{{name: "dns_lookup_kdc", value: "false"}}}}}}
}

// answer runs a TCP server that reads one request and replies with raw bytes.
func answer(t *testing.T, raw []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
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
			io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[:])))
			c.Write(raw)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func TestAskHostileReplies(t *testing.T) {
	testenv.NoLeaks(t)
	for name, raw := range map[string]string{
		"nothing":      "",
		"length cut":   "\x00\x00",
		"giant length": "\xff\xff\xff\xffabc",
		"zero length":  "\x00\x00\x00\x00",
		"short":        "\x00\x00\x00\x09abc",
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			addr := answer(t, []byte(raw))
			runtime.ReadMemStats(&before)
			_, _, err := ask(t.Context(), confWith(addr), "R", []byte("request"))
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ticket.ErrKDCUnreachable) {
				t.Errorf("got %v, want %v", err, ticket.ErrKDCUnreachable)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
				t.Errorf("cost %d bytes of memory", n)
			}
		})
	}
}

func TestAskSecondKDCAndUDP(t *testing.T) {
	testenv.NoLeaks(t)
	good := answer(t, []byte("\x00\x00\x00\x03yes"))
	if got, _, err := ask(t.Context(), confWith(answer(t, nil), good), "R", []byte("x")); err != nil || string(got) != "yes" {
		t.Errorf("second KDC: %q, %v", got, err)
	}
	u, err := net.ListenPacket("udp", "127.0.0.1:0") // and nothing on the TCP port
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 100)
		if n, from, err := u.ReadFrom(buf); err == nil {
			u.WriteTo(append([]byte("udp "), buf[:n]...), from)
		}
	}()
	defer func() { u.Close(); <-done }()
	if got, _, err := ask(t.Context(), confWith(u.LocalAddr().String()), "R", []byte("x")); err != nil || string(got) != "udp x" {
		t.Errorf("UDP: %q, %v", got, err)
	}
}

func TestAskEndsWithContext(t *testing.T) {
	testenv.NoLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, in the kernel, and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	begin := time.Now()
	_, _, err = ask(ctx, confWith(l.Addr().String()), "R", []byte("x"))
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ticket.ErrKDCUnreachable) {
		t.Errorf("got %v", err)
	}
	if d := time.Since(begin); d > perKDC-time.Second {
		t.Errorf("gave up after %v, which is not because of the context", d)
	}
	if _, _, err := ask(t.Context(), confWith(), "R", nil); !errors.Is(err, ticket.ErrKDCUnreachable) || !strings.Contains(err.Error(), "[realms]") {
		t.Errorf("no KDC known: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	for code, want := range map[int32]error{
		7: ticket.ErrSPNUnknown, 32: ticket.ErrExpired, 33: ticket.ErrClockSkew, 37: ticket.ErrClockSkew, 29: ticket.ErrKDCUnreachable,
	} {
		e := messages.NewKRBError(types.PrincipalName{NameString: []string{"x"}}, "R", code, "")
		raw, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readTGS(raw, &pass{}, 1); !errors.Is(err, want) {
			t.Errorf("KDC error %d: got %v, want %v", code, err, want)
		}
	}
}

// A reply for another request, client or ticket, however well sealed, is not
// taken; nor is a damaged one, and none makes the library panic through.
func TestReplyMustMatchRequest(t *testing.T) {
	testenv.NoLeaks(t)
	r, err := realm.Start(realm.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Mint(realm.MintOptions{}); err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{ConfigPath: r.Krb5Conf()})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := b.load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name, _ := parseSPN("HTTP/localhost")
	req, nonce, err := s.tgsRequest(r.Name(), s.tgt, name.wire())
	if err != nil {
		t.Fatal(err)
	}
	raw, _, err := ask(t.Context(), s.conf, r.Name(), req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readTGS(raw, s.tgt, nonce); err != nil {
		t.Fatalf("the reply itself: %v", err)
	}
	if _, err := readTGS(raw, s.tgt, nonce+1); err == nil {
		t.Error("a reply to another request was taken")
	}
	other := *s.tgt
	other.client.parts = []string{"bob"}
	if _, err := readTGS(raw, &other, nonce); err == nil {
		t.Error("a reply for another client was taken")
	}
	other = *s.tgt
	other.session = types.EncryptionKey{KeyType: 18, KeyValue: make([]byte, 32)}
	if _, err := readTGS(raw, &other, nonce); err == nil {
		t.Error("a reply sealed with another key was taken")
	}
	for i := range raw {
		if p, err := readTGS(raw[:i], s.tgt, nonce); err == nil {
			t.Errorf("a reply cut at %d was taken as %+v", i, p)
		}
		bad := bytes.Clone(raw)
		bad[i] ^= 0x41
		if p, err := readTGS(bad, s.tgt, nonce); err == nil { // only the ticket itself is opaque to us
			newToken(p, time.Now()) //nolint:errcheck // it must not panic; it may refuse
		}
	}
}
