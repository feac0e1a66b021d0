package ticket

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrRejected: the other side ended the negotiation.
var ErrRejected = errors.New("the negotiation was rejected")

// oidKrb5 is the Kerberos V5 mechanism, 1.2.840.113554.1.2.2 (RFC 4121), and
// oidMSKrb5 the number that Windows uses for the same thing.
var (
	oidKrb5   = []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}
	oidMSKrb5 = []byte{0x2a, 0x86, 0x48, 0x82, 0xf7, 0x12, 0x01, 0x02, 0x02}
	oidSPNEGO = []byte{0x06, 0x06, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x02} // 1.3.6.1.5.5.2, with its header
)

// WrapSPNEGO wraps a krb5 initial token in the SPNEGO NegTokenInit of RFC 4178
// §4.2.1, behind the framing of RFC 2743 §3.1. The one mechanism offered is
// krb5, so there is nothing to negotiate and the exchange is complete with one
// token; optional fields are left out.
func WrapSPNEGO(krb5 []byte) []byte {
	return tlv(0x60, oidSPNEGO,
		tlv(0xa0, tlv(0x30,
			tlv(0xa0, tlv(0x30, tlv(0x06, oidKrb5))),
			tlv(0xa2, tlv(0x04, krb5)))))
}

// FrameAPReq makes an AP-REQ the krb5 initial token of RFC 4121 §4.1.
func FrameAPReq(apReq []byte) []byte {
	return tlv(0x60, tlv(0x06, oidKrb5), []byte{0x01, 0x00}, apReq)
}

// tlv encodes one DER element with definite length (X.690 §8.1.3).
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, n+6)
	out = append(out, tag)
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// CheckReply reads the NegTokenResp (RFC 4178 §4.2.2) that an acceptor sent
// back to a token of [WrapSPNEGO]. Nil means that it accepted and stayed with
// Kerberos. A rejection, another mechanism, a wish for more (a MIC, a further
// leg) or bytes that are no NegTokenResp are errors that wrap [ErrRejected]:
// our token was complete, so there is nothing to add.
func CheckReply(reply []byte) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrRejected, fmt.Sprintf(format, args...))
	}
	resp, rest, ok := element(reply, 0xa1)
	if !ok || len(rest) != 0 {
		return bad("not a NegTokenResp")
	}
	seq, rest, ok := element(resp, 0x30)
	if !ok || len(rest) != 0 {
		return bad("malformed NegTokenResp")
	}
	state := -1
	for len(seq) > 0 {
		var value []byte
		switch tag := seq[0]; tag {
		case 0xa0:
			value, seq, ok = element(seq, tag)
			enum, rest, enumOK := element(value, 0x0a)
			if !ok || !enumOK || len(enum) != 1 || len(rest) != 0 {
				return bad("malformed negState")
			}
			state = int(enum[0])
		case 0xa1:
			value, seq, ok = element(seq, tag)
			oid, rest, oidOK := element(value, 0x06)
			if !ok || !oidOK || len(rest) != 0 {
				return bad("malformed supportedMech")
			}
			if !bytes.Equal(oid, oidKrb5) && !bytes.Equal(oid, oidMSKrb5) {
				return bad("a mechanism was chosen that was not offered")
			}
		case 0xa2, 0xa3: // responseToken, mechListMIC: nothing we asked for
			if _, seq, ok = element(seq, tag); !ok {
				return bad("malformed NegTokenResp")
			}
		default:
			return bad("malformed NegTokenResp")
		}
	}
	switch state {
	case 0, -1: // accept-completed; absent means the mechanism's own success
		return nil
	case 1:
		return bad("another leg was asked for")
	case 2:
		return bad("rejected")
	case 3:
		return bad("a MIC was asked for")
	}
	return bad("unknown negState %d", state)
}

// element takes one DER element with that tag off b.
func element(b []byte, tag byte) (value, rest []byte, ok bool) {
	if len(b) < 2 || b[0] != tag {
		return nil, nil, false
	}
	n, head := int(b[1]), 2
	if n >= 0x80 {
		count := n & 0x7f
		if count == 0 || count > 3 || len(b) < 2+count {
			return nil, nil, false
		}
		n, head = 0, 2+count
		for _, c := range b[2:head] {
			n = n<<8 | int(c)
		}
	}
	if len(b)-head < n {
		return nil, nil, false
	}
	return b[head : head+n], b[head+n:], true
}
