package proxy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strconv"
	"time"
)

// scriptPath is the one thing here that is asked for as of a web server.
const scriptPath = "/kerbpass.pac"

// isScript reports whether a head may ask for it.
func isScript(head []byte) bool {
	return bytes.HasPrefix(head, []byte("GET "+scriptPath+" ")) || bytes.HasPrefix(head, []byte("HEAD "+scriptPath+" "))
}

// serveScript answers a request for the auto-configuration, if there is one and
// the request was meant for this listener: its Host is the listener's own
// address, so no page can have it by way of a name of its own. A page that
// embeds it as a script or fetches it gets nothing: it names hosts.
func (c *session) serveScript(head []byte) (more, served bool) {
	if c.s.cfg.Script == nil {
		return false, false
	}
	r := &c.req
	*r = request{fields: r.fields[:0], nominal: r.nominal[:0], maxFwd: -1}
	start, fields, err := startAndFields(head, r.fields)
	if err != nil {
		return false, false
	}
	r.fields = fields
	parts := bytes.Split(start, []byte{' '})
	if len(parts) != 3 || string(parts[2]) != "HTTP/1.1" && string(parts[2]) != "HTTP/1.0" {
		return false, false
	}
	if r.minor = 1; string(parts[2]) == "HTTP/1.0" {
		r.minor, r.close = 0, true
	}
	if r.readFields() != nil || r.body != noBody {
		return false, false
	}
	var host, etag, mode, dest string
	for _, f := range fields {
		switch {
		case is(f.name, "host"):
			host = string(f.value)
		case is(f.name, "if-none-match"):
			etag = string(f.value)
		case is(f.name, "sec-fetch-mode"):
			mode = string(f.value)
		case is(f.name, "sec-fetch-dest"):
			dest = string(f.value)
		}
	}
	own := c.local.String()
	if host != own && host != net.JoinHostPort("localhost", strconv.Itoa(int(c.local.Port()))) || mode != "" && mode != "navigate" || dest != "" && dest != "document" {
		return false, false
	}
	body := c.s.cfg.Script(own)
	sum := sha256.Sum256([]byte(body))
	tag := `"` + hex.EncodeToString(sum[:16]) + `"`
	out := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/x-ns-proxy-autoconfig\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n")
	whole := string(parts[0]) == "GET"
	if etag == tag {
		whole, out = false, []byte("HTTP/1.1 304 Not Modified\r\n")
	}
	out = append(out, "ETag: "+tag+"\r\nCache-Control: no-cache\r\nX-Content-Type-Options: nosniff\r\nCross-Origin-Resource-Policy: same-origin\r\n"...)
	if r.close {
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "\r\n"...)
	if whole {
		out = append(out, body...)
	}
	c.c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err = c.c.Write(out)
	c.c.SetWriteDeadline(noDeadline)
	c.mark = time.Now()
	if r.close {
		c.linger()
	}
	return err == nil && !r.close, true
}
