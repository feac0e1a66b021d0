package proxy

import (
	"bytes"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// response is a parsed response head; its slices die with the next fill.
type response struct {
	status int
	reason []byte
	fields []field
	body   framing
	length int64 // -1: no Content-Length
	// close: the connection cannot be used after this response.
	close    bool
	nominal  [][]byte
	connAuth bool      // challenges with a connection-bound scheme
	date     time.Time // of a 407
}

var errResponse = errors.New("malformed response")

// parseResponse parses a head that answers method into r (RFC 9112 §4, §6.3).
func parseResponse(head []byte, method string, r *response) error {
	*r = response{fields: r.fields[:0], nominal: r.nominal[:0], length: -1}
	start, fields, err := startAndFields(head, r.fields)
	if err != nil {
		return err
	}
	r.fields = fields
	if len(start) < 12 || string(start[:7]) != "HTTP/1." || start[7] < '0' || start[7] > '9' || start[8] != ' ' || len(start) > 12 && start[12] != ' ' {
		return errResponse
	}
	for _, c := range start[9:12] {
		if c < '0' || c > '9' {
			return errResponse
		}
		r.status = r.status*10 + int(c-'0')
	}
	if r.status < 100 || r.status > 599 {
		return errResponse
	}
	if len(start) > 13 && isFieldValue(start[13:]) {
		r.reason = start[13:]
	}
	old := start[7] == '0'
	r.close = old
	lengths, codings, last := 0, 0, false
	for _, f := range r.fields {
		switch {
		case method == "CONNECT" && r.status/100 == 2 && is(f.name, "content-length"):
			// Ignored, whatever it says (RFC 9110 §9.3.6).
		case is(f.name, "content-length"):
			n, err := parseLength(f.value)
			if err != nil || lengths > 0 && n != r.length {
				return errResponse
			}
			lengths, r.length = lengths+1, n
		case is(f.name, "transfer-encoding"):
			codings++
			last = is(f.value, "chunked")
		case is(f.name, "connection"), is(f.name, "proxy-connection"):
			eachToken(f.value, func(token []byte) {
				switch {
				case is(token, "close"):
					r.close = true
				case is(token, "keep-alive"):
					r.close = r.close && !old
				case !is(token, "upgrade"):
					r.nominal = append(r.nominal, token)
				}
			})
		case is(f.name, "www-authenticate"):
			r.connAuth = r.connAuth || connectionBound(f.value)
		case r.status == 407 && is(f.name, "date"):
			r.date, _ = http.ParseTime(string(f.value))
		}
	}
	switch {
	case codings > 0 && (codings > 1 || !last) && (method != "CONNECT" || r.status/100 != 2):
		return errResponse // a coding we cannot delimit
	case r.status < 200 || r.status == 204 || r.status == 304 || method == "HEAD" || method == "CONNECT" && r.status < 300:
		r.body = noBody
	case codings == 1 && last && !old:
		// Content-Length beside it is overridden and not forwarded; such a
		// connection is not used again (RFC 9112 §6.3).
		r.body = chunked
		r.close = r.close || lengths > 0
		r.length = -1
	case codings > 0:
		return errResponse // HTTP/1.0 knows none
	case lengths > 0 && r.length > 0:
		r.body = sized
	case lengths > 0:
		r.body = noBody
	default:
		r.body, r.close = untilClose, true
	}
	return nil
}

// appendHead writes the head for the client. http10 is a client that knows no
// chunks, close announces the end of its connection.
func (r *response) appendHead(out []byte, method, via string, http10, close bool) []byte {
	out = strconv.AppendInt(append(out, "HTTP/1.1 "...), int64(r.status), 10)
	out = append(append(append(out, ' '), r.reason...), '\r', '\n')
	support := false
	for _, f := range r.fields {
		if r.status == 101 && is(f.name, "upgrade") {
			out = appendField(out, f)
			continue
		}
		if hopByHop(f.name) || contains(r.nominal, f.name) {
			continue
		}
		support = support || is(f.name, "proxy-support")
		out = appendField(out, f)
	}
	if r.connAuth && !support {
		// RFC 4559 §6: tells the client that connection-bound authentication
		// survives this proxy.
		out = append(out, "Proxy-Support: Session-Based-Authentication\r\n"...)
	}
	out = append(append(append(out, "Via: 1.1 "...), via...), '\r', '\n')
	switch {
	case r.body == chunked && !http10:
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	case r.length >= 0 && r.status >= 200 && r.status != 204 && (r.body != chunked):
		out = strconv.AppendInt(append(out, "Content-Length: "...), r.length, 10)
		out = append(out, '\r', '\n')
	}
	switch {
	case r.status == 101:
		out = append(out, "Connection: Upgrade\r\n"...)
	case close && r.status >= 200:
		out = append(out, "Connection: close\r\n"...)
	}
	return append(out, '\r', '\n')
}

// values calls f with every value of a field.
func (r *response) values(lowerName string, f func(value []byte)) {
	for _, x := range r.fields {
		if is(x.name, lowerName) {
			f(bytes.TrimSpace(x.value))
		}
	}
}
