package proxy

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Replies of SOCKS5, RFC 1928 section 6.
const (
	socksGranted   = 0
	socksFailure   = 1
	socksNetwork   = 3
	socksHost      = 4
	socksRefused   = 5
	socksExpired   = 6
	socksNoCommand = 7
	socksNoAddress = 8
	socksNoMethod  = 0xff
)

// socksReply is the message for a code, with no address bound that would
// concern the client.
func socksReply(code byte) []byte { return []byte{socksVersion, code, 0, socksIPv4, 0, 0, 0, 0, 0, 0} }

// A socksError ends the handshake: the message for the client, nil for none,
// and the cause for everybody else.
type socksError struct {
	reply []byte
	text  string
}

func (e *socksError) Error() string { return e.text }

// errSocksMore: the message is not complete yet.
var errSocksMore = errors.New("more bytes are needed")

// socksGreeting reads the first message, and says how long it is. Nothing is
// read of a client that is plainly no SOCKS5 one.
func socksGreeting(b []byte) (n int, err error) {
	switch {
	case len(b) == 0:
		return 0, errSocksMore
	case b[0] == 4:
		// SOCKS4 and 4a: their own refusal (request rejected or failed).
		return 0, &socksError{[]byte{0, 0x5b, 0, 0, 0, 0, 0, 0}, "this is SOCKS4; only SOCKS5 is spoken here"}
	case b[0] != socksVersion && tchar[b[0]]:
		return 0, &socksError{page(&Error{Cause: CauseBadRequest, Detail: "This address speaks SOCKS5, not HTTP: set the program's proxy to socks5h://, or take the address of the HTTP proxy."}, false, true, false),
			"this is not SOCKS5"}
	case b[0] != socksVersion:
		return 0, &socksError{nil, "this is not SOCKS5"}
	case len(b) < 2:
		return 0, errSocksMore
	}
	n = 2 + int(b[1])
	if len(b) < n {
		return 0, errSocksMore
	}
	for _, method := range b[2:n] {
		if method == socksNoAuth {
			return n, nil
		}
	}
	return 0, &socksError{[]byte{socksVersion, socksNoMethod}, "the client insists on an authentication; none is needed here"}
}

// socksRequest reads the second message.
func socksRequest(b []byte) (t target, n int, err error) {
	bad := func(code byte, text string) (target, int, error) {
		return target{}, 0, &socksError{socksReply(code), text}
	}
	if len(b) < 4 {
		return t, 0, errSocksMore
	}
	switch {
	case b[0] != socksVersion || b[2] != 0:
		return bad(socksFailure, "the SOCKS5 request is malformed")
	case b[1] == 2 || b[1] == 3:
		return bad(socksNoCommand, "SOCKS5 BIND and UDP are not spoken here")
	case b[1] != socksConnect:
		return bad(socksNoCommand, "the SOCKS5 command is unknown")
	}
	var host string
	switch b[3] {
	case socksIPv4, socksIPv6:
		n = 4 + 4
		if b[3] == socksIPv6 {
			n = 4 + 16
		}
		if len(b) < n+2 {
			return t, 0, errSocksMore
		}
		a, _ := netip.AddrFromSlice(b[4:n])
		host = a.String()
	case socksName:
		if len(b) < 5 {
			return t, 0, errSocksMore
		}
		if n = 5 + int(b[4]); len(b) < n+2 {
			return t, 0, errSocksMore
		}
		host = string(b[5:n])
	default:
		return bad(socksNoAddress, "the SOCKS5 address type is unknown")
	}
	port := int(b[n])<<8 | int(b[n+1])
	n += 2
	// The same rules as for the target of a CONNECT.
	authority := host + ":" + strconv.Itoa(port)
	if strings.Contains(host, ":") {
		authority = "[" + host + "]:" + strconv.Itoa(port)
	}
	if t, err = parseTarget(true, []byte(authority)); err != nil {
		return bad(socksFailure, err.Error())
	}
	return t, n, nil
}

// socks takes a client's two messages and leaves the request in c.req. It
// reports whether it is to be carried out. The whole takes HeadTimeout at
// most, whatever the client is slow at.
func (c *session) socks() bool {
	c.patience(time.Now().Add(c.s.cfg.HeadTimeout))
	step := func(read func(b []byte) (int, error)) bool {
		for {
			n, err := read(c.rd.buffered())
			if err == nil {
				c.rd.r += n
				return true
			}
			var e *socksError
			if errors.As(err, &e) {
				ev := c.event(time.Now())
				ev.Method, ev.Route = c.door.method(""), RouteRefused
				c.socksEnd(ev, fail(CauseBadRequest, nil, "%s", sentence(err)), e.reply)
				return false
			}
			if c.rd.fill() != nil {
				return false
			}
		}
	}
	if !step(socksGreeting) {
		return false
	}
	if _, err := c.c.Write([]byte{socksVersion, socksNoAuth}); err != nil {
		return false
	}
	c.req = request{method: "CONNECT", connect: true, minor: 1, maxFwd: -1}
	if !step(func(b []byte) (n int, err error) { c.req.target, n, err = socksRequest(b); return n, err }) {
		return false
	}
	c.patience(noDeadline)
	c.mark = time.Now()
	return true
}

// socksEnd sends the last message of a handshake that leads nowhere.
func (c *session) socksEnd(ev *Event, e *Error, reply []byte) {
	ev.Cause, ev.Err, ev.Status = e.Cause, e, e.status()
	if reply != nil {
		c.c.SetWriteDeadline(time.Now().Add(10 * time.Second))
		c.c.Write(reply)
	}
	c.finish(ev)
	c.linger()
}

// socksCode is the reply for a cause: what the network says of the target is
// passed on, what lies on our side of it is a failure of the network or of the
// proxy.
func socksCode(e *Error) byte {
	switch e.Cause {
	case CausePolicy, CauseNotYourUser, CauseUpstreamNotAllowed, CauseLoop:
		return socksDenied
	case CauseUpstreamUnreachable, CauseUpstreamUnresolved, CauseUpstreamTLS:
		return socksNetwork
	case CauseDestinationUnresolved:
		return socksHost
	case CauseTimeout:
		return socksExpired
	case CauseDestinationUnreachable:
		switch {
		case errors.Is(e.Err, syscall.ECONNREFUSED):
			return socksRefused
		case errors.Is(e.Err, syscall.ENETUNREACH):
			return socksNetwork
		}
		return socksHost
	}
	return socksFailure
}
