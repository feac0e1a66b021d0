package proxy

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
)

// challenges is what the Proxy-Authenticate fields of a 407 offer.
type challenges struct {
	negotiate bool
	data      []byte // behind Negotiate, decoded; nil: none
	bad       bool   // data was there but is no base64
	offered   []string
}

// add parses one field value into its challenges (RFC 9110 §11.3, §11.6.1): a
// comma separates challenges as well as their parameters, quoted strings hide
// commas, empty members are skipped, a scheme is compared without case.
func (c *challenges) add(value []byte) {
	for _, member := range splitList(value) {
		scheme, rest, _ := bytes.Cut(member, []byte{' '})
		rest = trimOWS(rest)
		// "realm=…" or "realm = …" continues the previous challenge.
		if !isToken(scheme) || len(rest) > 0 && rest[0] == '=' {
			continue
		}
		name := string(scheme)
		if !containsFold(c.offered, name) && len(c.offered) < 16 && len(name) <= 64 {
			c.offered = append(c.offered, name)
		}
		if !strings.EqualFold(name, "negotiate") {
			continue
		}
		c.negotiate = true
		if len(rest) > 0 && c.data == nil {
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

// negotiateHeader renders a token as the one header line of RFC 4559 §4.2, or
// says why it must not be sent. The line is as secret as the token.
func negotiateHeader(scheme string, token []byte) ([]byte, error) {
	if bytes.Contains(token[:min(len(token), 256)], ntlmSignature) {
		return nil, fail(CauseNTLM, nil, "The token made for the corporate proxy is an NTLM message. It was not sent.")
	}
	if len(token) == 0 {
		return nil, &Error{Cause: CauseInternal, Err: errors.New("empty token")}
	}
	const name = "Proxy-Authorization: "
	line := make([]byte, 0, len(name)+len(scheme)+1+base64.StdEncoding.EncodedLen(len(token))+2)
	line = append(append(append(line, name...), scheme...), ' ')
	return append(base64.StdEncoding.AppendEncode(line, token), '\r', '\n'), nil
}
