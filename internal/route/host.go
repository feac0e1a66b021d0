// Package route decides where a request goes: straight to its target, through
// the upstream proxy, or nowhere. It holds the canonical form of a host
// ([ParseHost]), the exact list ([Exact]), the suffix list known as NO_PROXY
// ([Suffix]) and the order in which they are asked ([Table]); every answer
// carries the rule and the list entry behind it.
//
// The package promises that one host has one spelling, that a decision costs
// the same with ten entries and with ten thousand, and that whatever it cannot
// read matches nothing. It does no I/O, resolves no name, and refuses to guess:
// a host in an ambiguous form is an error, an unlisted host never goes direct.
//
// Everything here is immutable once made and safe for concurrent use.
package route

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Limits of a DNS name in text form (RFC 1035 section 2.3.4). The name's limit
// leaves out a trailing dot.
const (
	maxName  = 253
	maxLabel = 63
	// maxInput bounds what is handed to the Unicode conversion: four bytes for
	// each character of the longest name.
	maxInput = 4 * maxName
)

// A Host is a canonical host, a name or an address. Two hosts are the same
// exactly if they compare equal with ==. The zero Host is no host: no list
// matches it and no request may go to it.
type Host struct {
	text string
	addr netip.Addr // invalid for a name
}

// A HostError says why a text is no usable host.
type HostError struct {
	Host   string
	Reason string // a plain sentence, lower case, without full stop
}

func (e *HostError) Error() string { return "host " + quote(e.Host) + ": " + e.Reason }

// ParseHost returns the canonical form of the host part of a request target.
// An IPv6 literal comes without its brackets. Errors are [*HostError].
//
// Addresses compare by value; an IPv4-mapped IPv6 address is not folded into
// IPv4, and a zone is refused. ASCII names are lowered, and one trailing dot is
// dropped if there is another dot: "intranet." and "intranet" stay apart, since
// only the second one goes through the search domains. Labels hold letters,
// digits, hyphens and underscores, up to 63 of them; a name has up to 253
// characters. A last label that is a number, decimal or hexadecimal, in
// something that is not an IPv4 address in four decimal parts is refused,
// because some resolvers would make an address of it ("127.1", "2130706433").
//
// Names outside ASCII are converted with UTS 46 non-transitional lookup
// processing: "BÜCHER.example" becomes xn--bcher-kva.example, and "straße.de"
// is not strasse.de. The conversion is stricter than the ASCII path and refuses
// an underscore. Characters that nobody can see, U+200B and U+00AD among
// them, would vanish in it without a trace and are refused, and so is anything
// that turns into an address. An ASCII label that starts with xn-- is kept
// whether or not it is valid Punycode: DNS may hold it.
//
// A canonical ASCII name or address costs no allocation; the Host then shares
// the memory of s.
func ParseHost(s string) (Host, error) {
	h, reason := canon(s)
	if reason != "" {
		return Host{}, &HostError{Host: s, Reason: reason}
	}
	return h, nil
}

// String returns the canonical ASCII text, an IPv6 address without brackets.
func (h Host) String() string { return h.text }

// Addr returns the address if the host is one.
func (h Host) Addr() (netip.Addr, bool) { return h.addr, h.addr.IsValid() }

// IsLoopback reports whether the host is this computer by its spelling alone:
// localhost and every name below it (RFC 6761 section 6.3), 127.0.0.0/8, ::1,
// and ::ffff:127.0.0.0/104. The last one is not equal to its IPv4 twin in any
// list, but dialling it reaches the same place. No other address, the
// unspecified one included, and no other name counts.
func (h Host) IsLoopback() bool { return h.loopbackRule() != "" }

// loopbackRule names the block that makes h a loopback host, or "".
func (h Host) loopbackRule() string {
	switch {
	case h.addr.Is4() && h.addr.IsLoopback():
		return "127.0.0.0/8"
	case h.addr.Is4In6() && h.addr.Unmap().IsLoopback():
		return "::ffff:127.0.0.0/104"
	case h.addr.IsValid():
		if h.addr.IsLoopback() {
			return "::1"
		}
		return ""
	case h.text == "localhost", h.text == "localhost.":
		return "localhost"
	case strings.HasSuffix(h.text, ".localhost"):
		return "*.localhost"
	}
	return ""
}

// Classes of bytes in the ASCII path.
const (
	badByte = iota
	plainByte
	upperByte
)

var classes = func() (c [256]byte) {
	for b := range c {
		switch {
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', b == '-', b == '_':
			c[b] = plainByte
		case 'A' <= b && b <= 'Z':
			c[b] = upperByte
		}
	}
	return c
}()

// canon is the one rule behind [ParseHost] and both lists. A refusal is a
// reason in plain words; it is the caller's to wrap.
func canon(s string) (h Host, reason string) {
	if s == "" {
		return Host{}, "there is no host"
	}
	label, dots, upper := 0, 0, false // label: where the current one starts
	for i := range len(s) {
		switch b := s[i]; {
		case classes[b] == plainByte:
		case b == '.':
			if reason := checkLabel(i - label); reason != "" {
				return Host{}, reason
			}
			dots++
			label = i + 1
		case classes[b] == upperByte:
			upper = true
		case b == ':':
			return canonIPv6(s)
		case b >= utf8.RuneSelf:
			return canonUnicode(s)
		default:
			return Host{}, badRune(rune(b))
		}
	}

	name := s
	if label == len(s) { // the last dot was the last byte
		name = s[:len(s)-1]
	} else if reason := checkLabel(len(s) - label); reason != "" {
		return Host{}, reason
	}
	if len(name) > maxName {
		return Host{}, "the name is longer than 253 characters"
	}
	if isNumber(name[strings.LastIndexByte(name, '.')+1:]) {
		// Compared with s, not name: an address takes no trailing dot.
		addr, err := netip.ParseAddr(s)
		if err != nil {
			return Host{}, "it ends in a number, but it is not an IPv4 address of four decimal parts"
		}
		return Host{text: s, addr: addr}, ""
	}
	if dots > 1 {
		s = name // one dropped, another one left; without a trailing dot they are the same
	}
	if upper {
		s = strings.ToLower(s)
	}
	return Host{text: s}, ""
}

func checkLabel(length int) (reason string) {
	switch {
	case length == 0:
		return "a part between its dots is empty"
	case length > maxLabel:
		return "a part between its dots is longer than 63 characters"
	}
	return ""
}

// isNumber follows the "ends in a number" rule of the WHATWG URL standard.
func isNumber(label string) bool {
	if label[0] < '0' || label[0] > '9' {
		return false
	}
	digits := "0123456789"
	if len(label) > 1 && label[0] == '0' && label[1]|0x20 == 'x' {
		label, digits = label[2:], "0123456789abcdefABCDEF"
	}
	return strings.Trim(label, digits) == ""
}

func canonIPv6(s string) (h Host, reason string) {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		return Host{}, `it contains ":", but it is not an IPv6 address`
	case addr.Zone() != "":
		return Host{}, "an address with a zone is not accepted"
	}
	var buf [64]byte
	if text := addr.AppendTo(buf[:0]); string(text) != s {
		s = string(text)
	}
	return Host{text: s, addr: addr}, ""
}

func canonUnicode(s string) (h Host, reason string) {
	if len(s) > maxInput {
		return Host{}, "the name is longer than 253 characters"
	}
	if !utf8.ValidString(s) {
		return Host{}, "it is not valid UTF-8"
	}
	for _, r := range s {
		if r < utf8.RuneSelf && r != '.' && classes[r] == badByte || invisible(r) || unicode.IsSpace(r) || unicode.IsControl(r) {
			return Host{}, badRune(r)
		}
	}
	ascii, err := idna.Lookup.ToASCII(s)
	if err != nil {
		return Host{}, fmt.Sprintf("it is not a valid international name (%v)", err)
	}
	// Full-width letters and dots have turned into ASCII only now, so the whole
	// rule applies again. It cannot come back here.
	if strings.IndexFunc(ascii, func(r rune) bool { return r >= utf8.RuneSelf }) >= 0 {
		return Host{}, "it is not a valid international name"
	}
	h, reason = canon(ascii)
	if h.addr.IsValid() {
		return Host{}, "it is an address written in unusual characters"
	}
	return h, reason
}

func badRune(r rune) string {
	switch {
	case r == '%':
		return `"%" is not accepted, neither as an escape nor before a zone`
	case invisible(r):
		return fmt.Sprintf("it contains the invisible character U+%04X", r)
	case unicode.IsSpace(r):
		return "it contains a blank, a tab or a line end"
	case unicode.IsControl(r):
		return fmt.Sprintf("it contains the control character U+%04X", r)
	}
	return fmt.Sprintf("%q does not occur in host names", string(r))
}

// invisible reports characters that leave no mark on the screen. Most of them
// also leave none in UTS 46 output.
func invisible(r rune) bool {
	return unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// quote makes a text that came from outside fit for one line of a log.
func quote(s string) string {
	const most = 80
	if len(s) <= most {
		return fmt.Sprintf("%+q", s)
	}
	return fmt.Sprintf("%+q…", s[:most])
}
