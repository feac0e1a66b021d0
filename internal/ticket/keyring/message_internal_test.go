package keyring

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func encode(t testing.TB, m message) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestMessageRoundTrip(t *testing.T) {
	for _, want := range []message{
		{kind: opPrincipal},
		{kind: opGet, text: "alice@CORP.EXAMPLE"},
		{kind: opSet, text: "ålice/ädmin@CORP.EXAMPLE", secret: []byte("a\x00b\nc ü 🔑")},
		{kind: done, secret: bytes.Repeat([]byte{0xff}, MaxSecret)},
		{kind: unavailable, text: strings.Repeat("x", maxText)},
	} {
		r := bytes.NewReader(append(encode(t, want), "next"...))
		got, err := readMessage(r)
		if err != nil || got.kind != want.kind || got.text != want.text || !bytes.Equal(got.secret, want.secret) {
			t.Errorf("kind %d: got kind %d, %d and %d bytes, %v", want.kind, got.kind, len(got.text), len(got.secret), err)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "next" {
			t.Errorf("kind %d: what follows was read too, left is %q", want.kind, rest)
		}
	}
}

func TestMessageRefusesWhatIsOutOfBounds(t *testing.T) {
	for _, tt := range []struct {
		name string
		in   string
		want error
	}{
		{"nothing", "", io.EOF},
		{"half a header", "\x01\x00", io.ErrUnexpectedEOF},
		{"no body", "\x01\x00\x05\x00\x00\x00\x00", io.ErrUnexpectedEOF},
		{"half a body", "\x02\x00\x01\x00\x00\x00\x05axy", io.ErrUnexpectedEOF},
		{"kind 0", "\x00\x00\x00\x00\x00\x00\x00", errMalformed},
		{"kind 13", "\x0d\x00\x00\x00\x00\x00\x00", errMalformed},
		{"long text", "\x01\x04\x01\x00\x00\x00\x00", errMalformed},
		{"long secret", "\x02\x00\x00\x00\x01\x00\x01", errMalformed},
		{"4 GiB", "\x02\x00\x00\xff\xff\xff\xff", errMalformed},
		{"words", "keyring child: no bus\n", errMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := readMessage(strings.NewReader(tt.in)); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// wiped sees the buffer that write uses, after write is through with it.
type wiped struct{ b []byte }

func (w *wiped) Write(b []byte) (int, error) {
	w.b = b
	return len(b), nil
}

func TestMessageLeavesNoCopyBehind(t *testing.T) {
	var w wiped
	secret := []byte("hunter2")
	if err := (message{kind: opSet, text: "a", secret: secret}).write(&w); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(w.b, secret) {
		t.Errorf("the buffer still holds the secret: %q", w.b)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte("\x02\x00\x01\x00\x00\x00\x05ahello and more"))
	f.Add([]byte("\x05\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x07\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := readMessage(bytes.NewReader(b))
		if err != nil {
			return
		}
		if len(m.text) > maxText || len(m.secret) > MaxSecret {
			t.Fatalf("%d and %d bytes are out of bounds", len(m.text), len(m.secret))
		}
		if got := encode(t, m); !bytes.HasPrefix(b, got) {
			t.Errorf("read from %x, written as %x", b, got)
		}
		if err := m.err(); (err == nil) != (m.kind == done) {
			t.Errorf("kind %d is the error %v", m.kind, err)
		}
		m.check() // does not panic
	})
}
