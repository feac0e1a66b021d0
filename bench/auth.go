package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"sync"

	"kerbpass/internal/demo/realm"
)

// Credentials of every peer. They open nothing but this process's upstream.
const (
	benchUser     = "alice"
	benchPassword = "wonderland"
	benchService  = "HTTP/localhost"
)

func basicValue() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(benchUser+":"+benchPassword))
}

// login is what the upstream remembers about one connection.
type login struct {
	ok    bool
	asked bool // an NTLM challenge is out
}

// A checker judges Proxy-Authorization. It is safe for concurrent use.
type checker interface {
	// check reports whether value is good; else challenge is what the 407 says.
	check(l *login, value []byte) (ok bool, challenge string)
}

// after cuts the scheme off a value, in any case of letters.
func after(value []byte, scheme string) (rest []byte, ok bool) {
	n := len(scheme)
	if len(value) <= n || value[n] != ' ' || !strings.EqualFold(string(value[:n]), scheme) {
		return nil, false
	}
	return bytes.TrimSpace(value[n:]), true
}

func unbase64(b []byte) []byte {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Decode(out, b)
	if err != nil {
		return nil
	}
	return out[:n]
}

// anybody lets everything pass: for limits that cannot authenticate.
type anybody struct{}

func (anybody) check(*login, []byte) (bool, string) { return true, "" }

// basic wants its value on every request, since Basic knows no session.
type basic struct{ want string }

func (b basic) check(_ *login, value []byte) (bool, string) {
	return string(value) == b.want, `Basic realm="bench"`
}

// ntlm plays the server's side of the handshake and takes any third message,
// so that a peer does all of its work and the upstream nearly none.
type ntlm struct{}

var ntlmChallenge = "NTLM " + base64.StdEncoding.EncodeToString(ntlmSecond())

func (ntlm) check(l *login, value []byte) (bool, string) {
	if l.ok {
		return true, ""
	}
	if rest, ok := after(value, "NTLM"); ok {
		if m := unbase64(rest); len(m) >= 12 && bytes.HasPrefix(m, []byte("NTLMSSP\x00")) {
			switch binary.LittleEndian.Uint32(m[8:]) {
			case 1:
				l.asked = true
				return false, ntlmChallenge
			case 3:
				l.ok = l.asked
				return l.ok, "NTLM"
			}
		}
	}
	return false, "NTLM"
}

// ntlmSecond is a CHALLENGE_MESSAGE (MS-NLMP 2.2.1.2) with the two names that
// clients look for.
func ntlmSecond() []byte {
	const flags = 0x1 | 0x4 | 0x200 | 0x8000 | 0x80000 | 0x800000 // Unicode, target, NTLM, always sign, extended, target info
	name := []byte("B\x00E\x00N\x00C\x00H\x00")
	le := binary.LittleEndian
	var info []byte
	for _, id := range []uint16{2, 1} { // domain, computer
		info = le.AppendUint16(le.AppendUint16(info, id), uint16(len(name)))
		info = append(info, name...)
	}
	info = append(info, 0, 0, 0, 0)
	field := func(b []byte, n, at int) []byte {
		b = le.AppendUint16(le.AppendUint16(b, uint16(n)), uint16(n))
		return le.AppendUint32(b, uint32(at))
	}
	const fixed = 56
	b := le.AppendUint32([]byte("NTLMSSP\x00"), 2)
	b = field(b, len(name), fixed)
	b = le.AppendUint32(b, flags)
	b = append(b, "\x01\x23\x45\x67\x89\xab\xcd\xef"...)
	b = append(b, make([]byte, 8)...)
	b = field(b, len(info), fixed+len(name))
	b = append(b, make([]byte, fixed-len(b))...) // version
	return append(append(b, name...), info...)
}

// negotiate takes Kerberos tokens, once per connection or with each request.
// The first tokens of a peer are verified with the service's key, replays
// included; of the rest only the shape is looked at, so that the upstream is
// not what is measured.
type negotiate struct {
	perRequest bool
	acceptor   *realm.Acceptor

	mu      sync.Mutex // guards what follows
	verify  int        // tokens still to be verified
	refused error      // why the last one was not good
}

// expect makes the next n tokens be verified and forgets about the last peer.
func (n *negotiate) expect(tokens int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.verify, n.refused = tokens, nil
}

func (n *negotiate) check(l *login, value []byte) (bool, string) {
	const challenge = "Negotiate"
	if l.ok && !n.perRequest {
		return true, ""
	}
	rest, ok := after(value, "Negotiate")
	if !ok {
		return false, challenge
	}
	token := unbase64(rest)
	if !kerberosShaped(token) {
		return false, challenge
	}
	l.ok = n.good(token)
	return l.ok, challenge
}

func (n *negotiate) good(token []byte) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.verify == 0 {
		return true
	}
	n.verify--
	if _, err := n.acceptor.Accept(token); err != nil {
		n.refused = err
		return false
	}
	return true
}

func (n *negotiate) err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.refused
}

var (
	oidSPNEGO = []byte("\x06\x06\x2b\x06\x01\x05\x05\x02")
	oidKrb5   = []byte("\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02")
)

// kerberosShaped reports whether token is a GSS-API token as long as it says,
// that holds an AP-REQ, bare or in SPNEGO.
func kerberosShaped(token []byte) bool {
	if len(token) < 64 || token[0] != 0x60 {
		return false
	}
	body := token[2:]
	n := int(token[1])
	if n > 0x80 {
		k := n & 0x7f
		if k > 3 {
			return false
		}
		n = 0
		for _, b := range body[:k] {
			n = n<<8 | int(b)
		}
		body = body[k:]
	}
	if n != len(body) {
		return false
	}
	if !bytes.HasPrefix(body, oidSPNEGO) && !bytes.HasPrefix(body, oidKrb5) {
		return false
	}
	at := bytes.LastIndex(body[:min(len(body), 256)], oidKrb5)
	return at >= 0 && bytes.HasPrefix(body[at+len(oidKrb5):], []byte("\x01\x00\x6e"))
}
