package main

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
)

// token is shaped like a GSS-API token in SPNEGO that holds an AP-REQ.
func token(n int) []byte {
	body := append([]byte(nil), oidSPNEGO...)
	body = append(body, 0xa0, 0x10)
	body = append(append(body, oidKrb5...), "\x01\x00\x6e"...)
	body = append(body, make([]byte, n)...)
	return append([]byte{0x60, 0x82, byte(len(body) >> 8), byte(len(body))}, body...)
}

func TestKerberosShaped(t *testing.T) {
	good := token(400)
	change := func(at int, b byte) []byte {
		c := append([]byte(nil), good...)
		c[at] ^= b
		return c
	}
	for name, tt := range map[string]struct {
		token []byte
		want  bool
	}{
		"good":              {good, true},
		"cut off":           {good[:len(good)-1], false},
		"one byte too many": {append(good[:len(good):len(good)], 0), false},
		"another tag":       {change(0, 1), false},
		"another mechanism": {change(8, 1), false},
		"no AP-REQ":         {change(4+8+2+11+2, 1), false},
		"NTLM":              {append([]byte("NTLMSSP\x00"), make([]byte, 100)...), false},
		"short":             {good[:10], false},
		"a huge length":     {append([]byte{0x60, 0x84}, good[2:]...), false},
		"nothing":           {nil, false},
	} {
		if got := kerberosShaped(tt.token); got != tt.want {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
}

func TestNegotiateOncePerConnectionOrRequest(t *testing.T) {
	value := []byte("negotiate " + base64.StdEncoding.EncodeToString(token(400)))
	for _, tt := range []struct {
		perRequest bool
		bare       bool // a request without a token behind one with it
	}{{false, true}, {true, false}} {
		n := &negotiate{perRequest: tt.perRequest}
		var l login
		if ok, challenge := n.check(&l, nil); ok || challenge != "Negotiate" {
			t.Errorf("without a token: got %v, %q", ok, challenge)
		}
		if ok, _ := n.check(&l, value); !ok {
			t.Error("a good token was refused")
		}
		if ok, _ := n.check(&l, nil); ok != tt.bare {
			t.Errorf("per request %v: got %v for a request without a token, want %v", tt.perRequest, ok, tt.bare)
		}
		if ok, _ := n.check(new(login), []byte("Negotiate YWJj")); ok {
			t.Error("a token that is none was taken")
		}
	}
}

func TestNTLMHandshake(t *testing.T) {
	message := func(kind uint32) []byte {
		m := binary.LittleEndian.AppendUint32([]byte("NTLMSSP\x00"), kind)
		return []byte("NTLM " + base64.StdEncoding.EncodeToString(m))
	}
	var l login
	if ok, _ := (ntlm{}).check(&l, message(3)); ok {
		t.Error("a third message was taken before the second was sent")
	}
	ok, challenge := ntlm{}.check(&l, message(1))
	if second := unbase64([]byte(strings.TrimPrefix(challenge, "NTLM "))); ok || len(second) < 56 || second[8] != 2 {
		t.Fatalf("got %v, %q, want a second message", ok, challenge)
	} else {
		le := binary.LittleEndian
		at, n := le.Uint32(second[44:]), le.Uint16(second[40:])
		if int(at)+int(n) != len(second) {
			t.Errorf("target information at %d, %d long, in a message of %d", at, n, len(second))
		}
		if name := second[le.Uint32(second[16:]):][:le.Uint16(second[12:])]; string(name) != "B\x00E\x00N\x00C\x00H\x00" {
			t.Errorf("got target name %q", name)
		}
	}
	if ok, _ := (ntlm{}).check(&l, message(3)); !ok {
		t.Error("the third message was refused")
	}
	if ok, _ := (ntlm{}).check(&l, nil); !ok {
		t.Error("the connection was forgotten")
	}
}

func TestBasic(t *testing.T) {
	b := basic{basicValue()}
	if ok, _ := b.check(nil, []byte(basicValue())); !ok {
		t.Error("the credentials were refused")
	}
	if ok, challenge := b.check(nil, []byte(basicValue()+"x")); ok || !strings.HasPrefix(challenge, "Basic ") {
		t.Errorf("others: got %v, %q", ok, challenge)
	}
}
