package proxy

import (
	"bytes"
	"errors"
)

// target is a parsed request target. Its slices point into the head.
type target struct {
	host []byte // as sent, brackets stripped; not canonical yet
	port uint16
	path []byte // path and query of an absolute-form target; may be empty
}

// parseTarget parses the target of method. CONNECT takes authority-form only
// (RFC 9110 §9.3.6), everything else absolute-form with http (RFC 9112
// §3.2.2). Nothing is corrected: what is not plainly one of the two is an
// error whose text is shown to the client.
func parseTarget(connect bool, t []byte) (target, error) {
	for _, c := range t {
		if c <= ' ' || c == 0x7f {
			return target{}, errors.New("the request target contains a blank or control character")
		}
	}
	if connect {
		host, port, err := splitAuthority(t)
		if err == nil && port == 0 {
			err = errors.New("CONNECT needs a port: host:port")
		}
		return target{host: host, port: port}, err
	}
	switch {
	case len(t) > 0 && t[0] == '/' || len(t) == 1 && t[0] == '*':
		return target{}, errors.New("this is a proxy: it takes complete addresses (http://host/path), not paths of its own")
	case len(t) >= 8 && is(t[:8], "https://"):
		return target{}, errors.New("for https the program must use CONNECT; Kerbpass does not speak TLS in its place")
	case len(t) < 7 || !is(t[:7], "http://"):
		return target{}, errors.New("the request target is not an http:// address")
	}
	authority := t[7:]
	var path []byte
	if i := bytes.IndexAny(authority, "/?#"); i >= 0 {
		authority, path = authority[:i], authority[i:]
	}
	// A fragment is not part of a request target; clients that leave it in
	// mean the resource without it.
	if i := bytes.IndexByte(path, '#'); i >= 0 {
		path = path[:i]
	}
	// Userinfo is not used and not forwarded (RFC 9110 §4.2.4).
	if i := bytes.IndexByte(authority, '@'); i >= 0 {
		if bytes.IndexByte(authority[:i], '\\') >= 0 {
			return target{}, errors.New("the address contains a backslash")
		}
		authority = authority[i+1:]
	}
	host, port, err := splitAuthority(authority)
	if port == 0 {
		port = 80
	}
	return target{host, port, path}, err
}

// splitAuthority splits host[:port]. An empty port is returned as 0, a port of
// zero is an error. What may stand in a host beyond that is the Router's to
// say.
func splitAuthority(a []byte) (host []byte, port uint16, err error) {
	if i := bytes.IndexAny(a, "@/\\?#%"); i >= 0 {
		return nil, 0, errors.New("the host contains a character that does not belong there")
	}
	var rest []byte
	if len(a) > 0 && a[0] == '[' {
		end := bytes.IndexByte(a, ']')
		if end < 0 || bytes.IndexByte(a[:end], ':') < 0 || len(bytes.Trim(a[1:end], "0123456789abcdefABCDEF:.")) > 0 {
			return nil, 0, errors.New("the address in brackets is not an IPv6 address")
		}
		host, rest = a[1:end], a[end+1:]
		if len(rest) > 0 && rest[0] != ':' {
			return nil, 0, errors.New("something stands behind the closing bracket")
		}
	} else {
		host = a
		if i := bytes.IndexByte(a, ':'); i >= 0 {
			host, rest = a[:i], a[i:]
		}
		if bytes.IndexByte(host, ']') >= 0 || bytes.IndexByte(host, '[') >= 0 {
			return nil, 0, errors.New("the host contains a bracket")
		}
	}
	if len(host) == 0 {
		return nil, 0, errors.New("the host is missing")
	}
	if len(rest) <= 1 {
		return host, 0, nil
	}
	n := 0
	for _, c := range rest[1:] {
		if c < '0' || c > '9' {
			return nil, 0, errors.New("the port is not a number (an IPv6 address needs brackets)")
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return nil, 0, errors.New("the port is not between 1 and 65535")
		}
	}
	if n == 0 || len(rest) > 6 {
		return nil, 0, errors.New("the port is not between 1 and 65535")
	}
	return host, uint16(n), nil
}

// SplitAuthority splits host[:port] as a request target is split: brackets
// round IPv6 required and removed, a port between 1 and 65535; 0 means that
// none was given. It is for tools that must agree with the proxy.
func SplitAuthority(s string) (host string, port uint16, err error) {
	h, port, err := splitAuthority([]byte(s))
	return string(h), port, err
}
