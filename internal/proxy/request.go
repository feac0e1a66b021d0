package proxy

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// framing is how a message body is delimited (RFC 9112 §6).
type framing int

const (
	noBody framing = iota
	sized          // Content-Length
	chunked
	untilClose // responses only
)

// request is one parsed request head. Its slices point into the reader's
// buffer and die with the next fill: what lives longer is copied into strings
// or into the outgoing head.
type request struct {
	method  string
	connect bool
	target  target
	minor   int // HTTP/1.minor
	fields  []field
	body    framing
	length  int64

	close  bool // the client wants or needs the connection closed afterwards
	expect bool // Expect: 100-continue, and it is to be heeded
	// saysExpect: the field is there.
	saysExpect bool
	upgrade    bool // Connection: upgrade, with an Upgrade field
	teTrail    bool // TE: trailers
	nominal    [][]byte
	// connAuth: the client itself sends a connection-bound scheme to the origin.
	connAuth bool
	html     bool
	maxFwd   int // Max-Forwards, -1: none
}

// idempotent reports whether the request may be sent again after a connection
// that died without an answer. A tunnel that nobody has used counts.
func (r *request) idempotent() bool {
	switch r.method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "CONNECT":
		return true
	}
	return false
}

var methods = map[string]string{}

func init() {
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "REPORT"} {
		methods[m] = m
	}
}

// parseRequest parses a head into r, reusing r's slices. The error's text is
// for the client.
func parseRequest(head []byte, r *request) error {
	*r = request{fields: r.fields[:0], nominal: r.nominal[:0], maxFwd: -1}
	start, fields, err := startAndFields(head, r.fields)
	if err != nil {
		return err
	}
	r.fields = fields
	method, rest, ok1 := bytes.Cut(start, []byte{' '})
	i := bytes.LastIndexByte(rest, ' ')
	if !ok1 || i <= 0 || !isToken(method) {
		return errStartLine
	}
	tgt, version := rest[:i], rest[i+1:]
	switch string(version) {
	case "HTTP/1.1":
		r.minor = 1
	case "HTTP/1.0":
		r.close = true // RFC 9112 §9.3: no persistence with HTTP/1.0 clients of a proxy
	default:
		return errors.New("only HTTP/1.0 and HTTP/1.1 are spoken here")
	}
	if m, ok := methods[string(method)]; ok {
		r.method = m
	} else {
		r.method = string(method)
	}
	r.connect = r.method == "CONNECT"
	if r.target, err = parseTarget(r.connect, tgt); err != nil {
		return err
	}
	return r.readFields()
}

func (r *request) readFields() error {
	hosts, lengths, codings := 0, 0, 0
	upgradeOption, upgradeField := false, false
	for _, f := range r.fields {
		switch {
		case is(f.name, "host"):
			hosts++
			if bytes.ContainsAny(f.value, " \t,/\\@?#") {
				return errors.New("the Host field is malformed")
			}
		case is(f.name, "content-length"):
			lengths++
			n, err := parseLength(f.value)
			if err != nil {
				return err
			}
			r.length = n
		case is(f.name, "transfer-encoding"):
			codings++
			if !is(f.value, "chunked") {
				return errors.New("Transfer-Encoding must be exactly chunked")
			}
		case is(f.name, "connection"), is(f.name, "proxy-connection"):
			eachToken(f.value, func(token []byte) {
				switch {
				case is(token, "close"):
					r.close = true
				case is(token, "upgrade"):
					upgradeOption = true
				case is(token, "keep-alive"):
				case is(f.name, "connection"):
					r.nominal = append(r.nominal, token)
				}
			})
		case is(f.name, "upgrade"):
			upgradeField = true
		case is(f.name, "expect"):
			if !is(f.value, "100-continue") {
				return errors.New("unknown expectation")
			}
			r.expect, r.saysExpect = true, true
		case is(f.name, "te"):
			eachToken(f.value, func(token []byte) { r.teTrail = r.teTrail || is(token, "trailers") })
		case is(f.name, "authorization"):
			r.connAuth = r.connAuth || connectionBound(f.value)
		case is(f.name, "accept"):
			r.html = r.html || acceptsHTML(f.value)
		case is(f.name, "max-forwards"):
			if n, err := parseLength(f.value); err == nil && n < 1<<20 {
				r.maxFwd = int(n)
			}
		}
	}
	if hosts > 1 || hosts == 0 && r.minor == 1 {
		return errors.New("HTTP/1.1 needs exactly one Host field")
	}
	if lengths > 1 {
		return errors.New("more than one Content-Length")
	}
	if codings > 0 && (lengths > 0 || codings > 1 || r.minor == 0) {
		return errors.New("Transfer-Encoding together with Content-Length, repeated, or in HTTP/1.0")
	}
	switch {
	case r.connect && (codings > 0 || r.length > 0):
		return errors.New("CONNECT has no body")
	case codings > 0:
		r.body = chunked
	case r.length > 0:
		r.body = sized
	}
	r.upgrade = upgradeOption && upgradeField && r.minor == 1
	r.expect = r.expect && r.minor == 1 && r.body != noBody
	return nil
}

func parseLength(v []byte) (int64, error) {
	if len(v) == 0 || len(v) > 18 {
		return 0, errors.New("Content-Length is not a number")
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, errors.New("Content-Length is not a number")
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}

// connectionBound reports whether credentials or a challenge belong to a
// scheme that authenticates the connection and not the request (RFC 4559 §6).
func connectionBound(v []byte) bool {
	scheme, _, _ := bytes.Cut(v, []byte{' '})
	return is(scheme, "negotiate") || is(scheme, "ntlm")
}

// hopByHop reports whether a field ends here, in either direction: those of
// RFC 9110 §7.6.1, proxy credentials (§11.7), and the framing and Host fields
// that are written anew.
func hopByHop(name []byte) bool {
	switch len(name) {
	case 2:
		return is(name, "te")
	case 4:
		return is(name, "host")
	case 7:
		return is(name, "upgrade")
	case 10:
		return is(name, "connection") || is(name, "keep-alive")
	case 14:
		return is(name, "content-length")
	case 16:
		return is(name, "proxy-connection")
	case 17:
		return is(name, "transfer-encoding")
	case 18:
		return is(name, "proxy-authenticate")
	case 19:
		return is(name, "proxy-authorization")
	case 25:
		return is(name, "proxy-authentication-info")
	}
	return false
}

func contains(names [][]byte, name []byte) bool {
	for _, n := range names {
		if bytes.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// appendHead writes the head to send on, without the empty line: in
// absolute-form for an upstream that speaks HTTP, else in origin-form.
func (r *request) appendHead(out []byte, d *Decision, via string) []byte {
	authority := func(out []byte) []byte {
		if strings.IndexByte(d.Host, ':') >= 0 {
			out = append(append(append(out, '['), d.Host...), ']')
		} else {
			out = append(out, d.Host...)
		}
		if r.connect || d.Port != 80 {
			out = strconv.AppendUint(append(out, ':'), uint64(d.Port), 10)
		}
		return out
	}
	out = append(append(out, r.method...), ' ')
	switch path := r.target.path; {
	case r.connect:
		out = authority(out)
	default:
		if d.asks() {
			out = authority(append(out, "http://"...))
		}
		switch {
		case len(path) == 0 && r.method == "OPTIONS":
			// RFC 9112 §3.2.4: the last proxy asks with "*"; earlier ones keep
			// the empty path.
			if !d.asks() {
				out = append(out, '*')
			}
		case len(path) == 0 || path[0] == '?':
			out = append(append(out, '/'), path...)
		default:
			out = append(out, path...)
		}
	}
	out = append(authority(append(out, " HTTP/1.1\r\nHost: "...)), '\r', '\n')
	for _, f := range r.fields {
		if hopByHop(f.name) || contains(r.nominal, f.name) {
			continue
		}
		if r.maxFwd >= 0 && is(f.name, "max-forwards") && (r.method == "TRACE" || r.method == "OPTIONS") {
			out = strconv.AppendInt(append(out, "Max-Forwards: "...), int64(max(0, r.maxFwd-1)), 10)
			out = append(out, '\r', '\n')
			continue
		}
		out = appendField(out, f)
	}
	out = append(append(append(out, "Via: 1.1 "...), via...), '\r', '\n')
	switch r.body {
	case sized:
		out = strconv.AppendInt(append(out, "Content-Length: "...), r.length, 10)
		out = append(out, '\r', '\n')
	case chunked:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case noBody:
		// An explicit zero is kept: servers tell "no body" from "not said".
		if r.method == "POST" || r.method == "PUT" || r.method == "PATCH" {
			out = append(out, "Content-Length: 0\r\n"...)
		}
	}
	switch {
	case r.upgrade:
		out = append(out, "Connection: Upgrade\r\n"...)
		for _, f := range r.fields {
			if is(f.name, "upgrade") {
				out = appendField(out, f)
			}
		}
	case r.teTrail && !r.connect:
		out = append(out, "TE: trailers\r\nConnection: TE\r\n"...)
	}
	return out
}

func appendField(out []byte, f field) []byte {
	out = append(append(out, f.name...), ':', ' ')
	return append(append(out, f.value...), '\r', '\n')
}

// looped reports whether the request has been here before: its Via names us.
func (r *request) looped(name string) bool {
	for _, f := range r.fields {
		if !is(f.name, "via") {
			continue
		}
		found := false
		eachToken(f.value, func(member []byte) {
			_, by, _ := bytes.Cut(member, []byte{' '})
			by, _, _ = bytes.Cut(trimOWS(by), []byte{' '})
			found = found || string(by) == name
		})
		if found {
			return true
		}
	}
	return false
}
