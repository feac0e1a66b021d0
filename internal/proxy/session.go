package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// session is one client connection and what is reused between its requests.
type session struct {
	s     *Server
	c     net.Conn
	door  *door  // nil: the plain one
	guest *guest // nil: where it may go is not looked at
	rd    reader
	// local and remote are the addresses of c, IPv4 unmapped.
	local, remote netip.AddrPort
	req           request
	// d and ev belong to the present request; host is that of the last target.
	d    Decision
	ev   Event
	host string
	// mark is a time in the recent past, so that the clock is read rarely.
	mark time.Time
	// quiet is the deadline for reading the client.
	quiet bound
	// cancel ends what is done on behalf of a client that has left.
	watched context.Context
	cancel  context.CancelFunc
	// prefix is the head to send on, without credentials; out is scratch.
	prefix, out []byte
	resp        response
	// pinned is the upstream connection that a connection-bound
	// authentication of the client itself went over (RFC 4559 §6).
	pinned *upConn
	// wrote: a byte of the current answer has gone to the client.
	wrote bool
	// unanswered: no byte of an answer has come for what was sent last.
	unanswered bool
	// asked: an Expect was sent that the client had not asked for.
	asked bool
	// undialled: the last attempt got no connection to its upstream.
	undialled bool
	// handedOver: a tunnel has the connection now.
	handedOver bool
}

// errClientGone: nobody is left to answer.
var errClientGone = errors.New("client gone")

// serveConn serves one client's connection until it ends, or until a tunnel has
// taken it over.
func (s *Server) serveConn(ctx context.Context, conn net.Conn, d *door) (handedOver bool) {
	c := &session{s: s, c: conn, door: d}
	c.rd.c = conn
	defer func() {
		if c.cancel != nil {
			c.cancel()
		}
		c.rd.r, c.rd.w = 0, 0
		c.rd.release()
		if c.pinned != nil {
			c.s.pool.take(c.pinned)
			c.pinned.Close()
		}
	}()
	var err1, err2 error
	c.local, err1 = addrPort(conn.LocalAddr())
	c.remote, err2 = addrPort(conn.RemoteAddr())
	err := errors.Join(err1, err2)
	gate := d.guard()
	switch {
	case err != nil:
	case gate != nil:
		err = gate.admit(c.remote.Addr())
	default:
		err = s.cfg.Peer.Allowed(c.local, c.remote)
	}
	if err != nil {
		word := d.denial(&Error{Cause: CauseNotYourUser})
		if word != nil {
			conn.Write(word)
		}
		c.finish(&Event{Time: time.Now(), Route: RouteRefused, Cause: CauseNotYourUser, Status: 403, Err: err})
		if word != nil {
			c.linger()
		}
		return false
	}
	c.mark = time.Now()
	if gate == nil {
		s.obs.Accepted(c.local, c.remote)
	}
	if fixed := d.speech() == speaksNothing; fixed || gate != nil {
		c.guest = &guest{fixed: fixed}
		ctx = context.WithValue(ctx, guestKey{}, c.guest)
	}
	switch d.speech() {
	case speaksSOCKS:
		if c.socks() {
			c.handle(ctx, c.mark)
		}
	case speaksNothing:
		c.fixed()
		c.handle(ctx, c.mark)
	default:
		for c.next(ctx) {
		}
	}
	return c.handedOver
}

func addrPort(a net.Addr) (netip.AddrPort, error) {
	if t, ok := a.(*net.TCPAddr); ok {
		return unmap(t.AddrPort()), nil
	}
	p, err := netip.ParseAddrPort(a.String())
	return unmap(p), err
}

// next serves one request and reports whether another may follow.
func (c *session) next(ctx context.Context) bool {
	c.wrote = false
	c.req = request{fields: c.req.fields[:0], nominal: c.req.nominal[:0]}
	if len(c.rd.buffered()) == 0 {
		c.rd.release()
		if t, ok := c.quiet.extend(c.mark, c.s.cfg.IdleTimeout); ok {
			c.c.SetReadDeadline(t)
		}
		if c.rd.fill() != nil {
			return false
		}
	}
	first := c.rd.buffered()[0]
	if !tchar[first] && first != '\r' {
		// TLS, SOCKS or noise: it would wait for us as we for its line end.
		return c.refuse(c.event(time.Now()), fail(CauseBadRequest, nil, "This is not HTTP. Set the program's proxy to http://, not https:// or socks://."), true)
	}
	if first == '\r' || !bytes.HasSuffix(c.rd.buffered(), headEnd) { // empty lines look like an end
		c.patience(time.Now().Add(c.s.cfg.HeadTimeout))
	}
	head, err := c.rd.head(maxRequestHead)
	start := time.Now()
	c.mark = start
	if err != nil {
		switch {
		case errors.Is(err, errBareLF), errors.Is(err, errHeadTooLarge), errors.Is(err, errStartLine):
			return c.refuse(c.event(start), fail(CauseBadRequest, nil, "%s", sentence(err)), true)
		}
		return false
	}
	if c.door == nil && isScript(head) {
		if more, served := c.serveScript(head); served {
			return more
		}
	}
	if err := parseRequest(head, &c.req); err != nil {
		ev := c.event(start)
		ev.Method = c.req.method
		return c.refuse(ev, fail(CauseBadRequest, nil, "%s", sentence(err)), true)
	}
	return c.handle(ctx, start)
}

// event starts the record of a request.
func (c *session) event(start time.Time) *Event {
	c.ev = Event{Time: start}
	return &c.ev
}

// patience bounds reading the client until t.
func (c *session) patience(t time.Time) {
	c.quiet.unsure = true
	c.c.SetReadDeadline(t)
}

func sentence(err error) string {
	text := err.Error()
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// handle decides the parsed request and carries it out.
func (c *session) handle(ctx context.Context, start time.Time) bool {
	r, d := &c.req, &c.d
	ev := c.event(start)
	ev.Method = c.door.method(r.method)
	if e := c.login(ev); e != nil {
		ev.Route = RouteRefused
		// Only who has not tried yet may try again on the same connection.
		return c.refuse(ev, e, r.close || r.connect || r.body != noBody || !errors.Is(e.Err, errGateLogin))
	}
	if string(r.target.host) != c.host {
		c.host = string(r.target.host)
	}
	var err error
	if t, ok := c.s.cfg.Router.(TunnelRouter); ok && r.connect {
		*d, err = t.RouteTunnel(ctx, c.host, r.target.port)
	} else {
		*d, err = c.s.cfg.Router.Route(ctx, c.host, r.target.port)
	}
	if err != nil {
		return c.refuse(ev, fail(CauseBadRequest, err, "The host in the request is not valid: %v.", err), true)
	}
	ev.Host, ev.Port, ev.Route, ev.Rule, ev.Entry = d.Host, d.Port, d.Route, d.Rule, d.Entry
	if d.Upstream != nil {
		ev.Upstream = d.Upstream.URL
	}
	// Everything that could be misread as a next request is closed over.
	closing := r.close || r.connect || r.body != noBody
	if e := c.refuseGuest(d); e != nil {
		return c.refuse(ev, e, closing)
	}
	switch {
	case d.Route == RouteRefused:
		e := d.Refusal
		if e == nil {
			e = &Error{Cause: CausePolicy}
		}
		return c.refuse(ev, e, closing)
	case r.connect && d.NoTunnel:
		return c.refuse(ev, fail(CausePolicy, nil, "Tunnels to port %d are not allowed here (setting access.connect_ports).", d.Port), closing)
	case r.looped(c.s.cfg.Name):
		return c.refuse(ev, &Error{Cause: CauseLoop}, closing)
	case r.maxFwd == 0 && (r.method == "OPTIONS" || r.method == "TRACE"):
		return c.answerHere(ev, closing)
	case r.method == "TRACE" && d.shows():
		// Whoever answers it repeats the head, credentials included (RFC 9110
		// §9.3.8).
		return c.refuse(ev, fail(CausePolicy, nil, "TRACE is not sent through a proxy that is authenticated to."), closing)
	case r.connect:
		return c.connectTunnel(ctx, d, ev)
	}
	return c.forward(ctx, d, ev)
}

// answerHere is the final recipient of an OPTIONS or TRACE that may go no
// further (RFC 9110 §7.6.2, §9.3.8): the reflection leaves credentials out.
func (c *session) answerHere(ev *Event, closing bool) bool {
	head := "HTTP/1.1 200 OK\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE, CONNECT\r\n"
	var body []byte
	if c.req.method == "TRACE" {
		head = "HTTP/1.1 200 OK\r\nContent-Type: message/http\r\n"
		body = append(body, "TRACE "+join(ev.Host, ev.Port)+" HTTP/1.1\r\n"...)
		for _, f := range c.req.fields {
			if !hopByHop(f.name) && !is(f.name, "authorization") && !is(f.name, "cookie") {
				body = appendField(body, f)
			}
		}
	}
	if closing {
		head += "Connection: close\r\n"
	}
	_, err := c.c.Write(append([]byte(head+"Content-Length: "+itoa(len(body))+"\r\n\r\n"), body...))
	ev.Status = 200
	c.finish(ev)
	if closing {
		c.linger()
	}
	return err == nil && !closing
}

// refuse answers with e's page and reports whether the connection goes on.
func (c *session) refuse(ev *Event, e *Error, closing bool) bool {
	ev.Cause, ev.Err, ev.Status = e.Cause, e, e.status()
	if c.wrote {
		c.finish(ev)
		return false
	}
	switch c.door.speech() {
	case speaksSOCKS:
		c.socksEnd(ev, e, socksReply(socksCode(e)))
		return false
	case speaksNothing:
		c.told(e)
		c.finish(ev)
		return false
	}
	closing = closing || c.req.minor == 0
	c.c.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := c.c.Write(page(e, c.req.html, closing, c.req.method == "HEAD"))
	c.c.SetWriteDeadline(noDeadline)
	c.finish(ev)
	if closing {
		c.linger()
	}
	return err == nil && !closing
}

func (c *session) finish(ev *Event) {
	c.mark = time.Now()
	ev.Took = c.mark.Sub(ev.Time)
	ev.Local, ev.Remote = c.local, c.remote
	c.s.obs.Request(*ev)
}

// lingerTime is what a client that is still sending gets to see the answer.
const lingerTime = 2 * time.Second

// linger ends our side and reads on for a moment: closing with unread bytes in
// the socket would reset the connection and could destroy the answer before
// the client has read it (RFC 9112 §9.6).
func (c *session) linger() {
	if closeWrite(c.c) != nil {
		return
	}
	c.patience(time.Now().Add(lingerTime))
	io.Copy(io.Discard, c.c)
}

// left reports whether the client has ended its side, or broken off, while an
// answer to it stands still. It is for the goroutine that reads the client.
func (c *session) left() bool {
	if c.rd.err == nil && len(c.rd.buffered()) < firstBuf {
		c.patience(time.Now().Add(time.Millisecond))
		err := c.rd.fill()
		c.patience(noDeadline)
		if err != nil && !isTimeout(err) {
			c.rd.err = err
		}
	}
	return c.rd.err != nil
}

// watchAfter is how long something may take before the client is looked at
// meanwhile: most of what could be slow is not.
const watchAfter = 10 * time.Millisecond

// watch looks out for the client while something slow happens on its behalf:
// ctx ends when the connection breaks, and for CONNECT also when the client
// ends its side. (A plain request's client may end its side and still wait.)
// What arrives meanwhile stays in the buffer. stop must be called before the
// client is read again.
func (c *session) watch(ctx context.Context) (_ context.Context, stop func()) {
	if c.cancel == nil {
		c.watched, c.cancel = context.WithCancel(ctx)
	}
	if c.rd.err != nil || len(c.rd.buffered()) > 0 {
		return c.watched, func() {}
	}
	done := make(chan struct{})
	// A forward's client may have said all it has to say.
	connect := c.req.connect && c.door.speech() != speaksNothing
	timer := time.AfterFunc(watchAfter, func() {
		defer close(done)
		if err := c.rd.fill(); err != nil && !isTimeout(err) {
			c.rd.err = err
			if connect || err != io.EOF {
				c.cancel()
			}
		}
	})
	return c.watched, func() {
		if timer.Stop() {
			return
		}
		c.patience(past)
		<-done
		c.patience(noDeadline)
	}
}
