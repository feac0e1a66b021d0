package proxy

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
)

// challenges is what the Proxy-Authenticate fields of a 407 offer.
type challenges struct {
	want    string // the scheme that is looked for
	found   bool
	data    []byte // behind it, decoded; for Digest the parameters, a line for each time; nil: none
	bad     bool   // data was there but is no base64
	offered []string
}

// add parses one field value into its challenges (RFC 9110 §11.3, §11.6.1): a
// comma separates challenges as well as their parameters, quoted strings hide
// commas, empty members are skipped, a scheme is compared without case.
func (c *challenges) add(value []byte) {
	ours := false // the member before belongs to a Digest that is wanted
	for _, member := range splitList(value) {
		scheme, rest, _ := bytes.Cut(member, []byte{' '})
		rest = trimOWS(rest)
		// "realm=…" or "realm = …" continues the previous challenge.
		if !isToken(scheme) || len(rest) > 0 && rest[0] == '=' {
			if ours {
				c.data = append(append(c.data, ',', ' '), member...)
			}
			continue
		}
		ours = false
		name := string(scheme)
		if !containsFold(c.offered, name) && len(c.offered) < 16 && len(name) <= 64 {
			c.offered = append(c.offered, name)
		}
		if !strings.EqualFold(name, c.want) {
			continue
		}
		c.found = true
		switch {
		case len(rest) == 0, c.want == SchemeBasic: // it says a realm only
		case c.want == SchemeDigest:
			if c.data != nil {
				c.data = append(c.data, '\n')
			}
			c.data, ours = append(c.data, rest...), true
		case c.data == nil:
			data, err := base64.StdEncoding.DecodeString(string(rest))
			c.data, c.bad = data, err != nil
		}
	}
}

func containsFold(list []string, s string) bool {
	for _, x := range list {
		if strings.EqualFold(x, s) {
			return true
		}
	}
	return false
}

// splitList splits at commas outside quoted strings and drops empty members.
func splitList(v []byte) (members [][]byte) {
	start, quoted := 0, false
	for i := 0; i <= len(v); i++ {
		switch {
		case i == len(v) || v[i] == ',' && !quoted:
			if m := trimOWS(v[start:i]); len(m) > 0 {
				members = append(members, m)
			}
			start = i + 1
		case v[i] == '"':
			quoted = !quoted
		case v[i] == '\\' && quoted:
			i++
			if i == len(v) {
				i--
			}
		}
	}
	return members
}

var ntlmSignature = []byte("NTLMSSP\x00")

// credentials renders what an Exchange answers as the one header line for
// scheme, or says why it must not be sent. The line is as secret as the token.
func credentials(scheme string, token []byte) ([]byte, error) {
	const name = "Proxy-Authorization: "
	if scheme == SchemeDigest {
		if !isFieldValue(token) {
			return nil, &Error{Cause: CauseInternal, Err: errors.New("parameters that are no header")}
		}
		line := make([]byte, 0, len(name)+len(scheme)+1+len(token)+2)
		line = append(append(append(line, name...), scheme...), ' ')
		return append(append(line, token...), '\r', '\n'), nil
	}
	if scheme != SchemeNTLM && scheme != SchemeBasic && bytes.Contains(token[:min(len(token), 256)], ntlmSignature) {
		return nil, fail(CauseNTLM, nil, "The token made for the corporate proxy is an NTLM message. It was not sent.")
	}
	if len(token) == 0 {
		return nil, &Error{Cause: CauseInternal, Err: errors.New("empty token")}
	}
	line := make([]byte, 0, len(name)+len(scheme)+1+base64.StdEncoding.EncodedLen(len(token))+2)
	line = append(append(append(line, name...), scheme...), ' ')
	return append(base64.StdEncoding.AppendEncode(line, token), '\r', '\n'), nil
}
