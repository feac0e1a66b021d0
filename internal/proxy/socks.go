package proxy

import (
	"context"
	"errors"
	"io"
	"net/netip"
)

// Of RFC 1928. No authentication is all that is offered: a SOCKS proxy gets no
// credentials.
const (
	socksVersion = 5
	socksNoAuth  = 0
	socksConnect = 1
	socksIPv4    = 1
	socksName    = 3
	socksIPv6    = 4

	socksDenied = 2 // the reply "not allowed by ruleset"
)

var socksReplies = map[byte]string{1: "general failure", 2: "not allowed by its rules", 3: "network unreachable", 4: "host unreachable",
	5: "connection refused", 6: "TTL expired", 7: "command not supported", 8: "address type not supported"}

// throughSOCKS makes u, a connection to the SOCKS proxy up, lead to the target
// of d. The host goes as a name: the proxy resolves it. What comes behind the
// reply is not touched. After an error u must be closed.
func (s *Server) throughSOCKS(ctx context.Context, u *upConn, up *Upstream, d *Decision) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.DialTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { u.Conn.SetDeadline(past) })
	err := socksHandshake(u.Conn, up, d)
	if !stop() {
		err = context.Cause(ctx) // whatever came, the deadline is set
	}
	var own *Error
	switch {
	case err == nil, errors.As(err, &own):
		return err
	case isTimeout(err):
		return fail(CauseUpstreamUnreachable, err, "%s did not answer in time.", up.URL)
	}
	return fail(CauseUpstreamUnreachable, err, "%s ended the connection.", up.URL)
}

func socksHandshake(c io.ReadWriter, up *Upstream, d *Decision) error {
	if _, err := c.Write([]byte{socksVersion, 1, socksNoAuth}); err != nil {
		return err
	}
	var b [256]byte
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return err
	}
	switch {
	case b[0] != socksVersion:
		return fail(CauseUpstreamUnreachable, nil, "%s does not speak SOCKS5.", up.URL)
	case b[1] != socksNoAuth:
		e := fail(CauseUpstreamUnreachable, nil, "%s wants a login.", up.URL)
		e.Hint = "A SOCKS proxy is used without a login only. Use the company's HTTP proxy instead."
		return e
	}
	msg := append(b[:0], socksVersion, socksConnect, 0)
	if a, err := netip.ParseAddr(d.Host); err == nil {
		if a.Is4() {
			msg = append(msg, socksIPv4)
		} else {
			msg = append(msg, socksIPv6)
		}
		msg = append(msg, a.AsSlice()...)
	} else {
		if len(d.Host) > 255 {
			return fail(CauseBadRequest, nil, "The host name is too long.")
		}
		msg = append(append(msg, socksName, byte(len(d.Host))), d.Host...)
	}
	if _, err := c.Write(append(msg, byte(d.Port>>8), byte(d.Port))); err != nil {
		return err
	}
	if _, err := io.ReadFull(c, b[:5]); err != nil {
		return err
	}
	if b[0] != socksVersion {
		return fail(CauseUpstreamUnreachable, nil, "%s gave an answer that is not SOCKS5.", up.URL)
	}
	if code := b[1]; code != 0 {
		return socksRefusal(code, up, d)
	}
	rest := 2 // the port; one byte of the address is read
	switch b[3] {
	case socksIPv4:
		rest += 3
	case socksIPv6:
		rest += 15
	case socksName:
		rest += int(b[4])
	default:
		return fail(CauseUpstreamUnreachable, nil, "%s gave an answer that is not SOCKS5.", up.URL)
	}
	var skip [257]byte
	_, err := io.ReadFull(c, skip[:rest])
	return err
}

// socksRefusal names a reply that says no. The proxy itself is well.
func socksRefusal(code byte, up *Upstream, d *Decision) *Error {
	why, ok := socksReplies[code]
	if !ok {
		why = "unknown reply"
	}
	if code == socksDenied {
		e := fail(CausePolicy, nil, "%s refused it (%s).", up.URL, why)
		e.Text = "The SOCKS proxy does not allow this connection."
		return e
	}
	return fail(CauseDestinationUnreachable, nil, "%s could not connect to %s (%s).", up.URL, d.Host, why)
}

// beyond reports whether err is about what lies behind an upstream that is
// itself well.
func beyond(err error) bool {
	switch asError(err).Cause {
	case CauseDestinationUnreachable, CauseDestinationUnresolved, CausePolicy, CauseBadRequest:
		return true
	}
	return false
}
