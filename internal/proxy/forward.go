package proxy

import (
	"context"
	"errors"
	"net"
	"time"
)

// forward carries out one plain request.
func (c *session) forward(ctx context.Context, d *Decision, ev *Event) bool {
	r := &c.req
	var b *upload
	if r.body != noBody {
		b = &upload{bodyReader: bodyReader{rd: &c.rd, kind: r.body, left: r.length}}
		c.patience(noDeadline)
	}
	u, err := c.roundTrip(ctx, d, b)
	d.record(ev)
	if err != nil {
		if b != nil {
			ev.Up = b.sent
		}
		return c.failed(ev, err, r.close || b != nil)
	}
	if c.resp.status == 407 {
		// An origin's 407 would make the client send us its credentials.
		c.settle(u, b)
		if b != nil {
			ev.Up = b.sent
		}
		u.Close()
		return c.refuse(ev, fail(CauseDestinationUnreachable, nil, "The server answered 407, which only a proxy may."), true)
	}
	ev.Status = c.resp.status
	if c.resp.status == 101 {
		// What follows on the client's connection is the new protocol only if
		// the body has ended (RFC 9110 §7.8).
		if !c.settle(u, b) {
			u.Close()
			return c.refuse(ev, fail(CauseDestinationUnreachable, nil, "The server switched protocols in the middle of the request."), true)
		}
		return c.switchProtocols(u, ev)
	}
	return c.relay(u, b, ev)
}

// failed ends a request that got no answer.
func (c *session) failed(ev *Event, err error, closing bool) bool {
	if errors.Is(err, errClientGone) {
		ev.Err = err
		c.finish(ev)
		return false
	}
	return c.refuse(ev, asError(err), closing)
}

// relay passes the response in c.resp on and settles both connections.
func (c *session) relay(u *upConn, b *upload, ev *Event) bool {
	r, resp := &c.req, &c.resp
	uploading := b.running()
	http10 := r.minor == 0
	closing := r.close || b != nil && (uploading || !b.finished) || resp.body == untilClose || resp.body == chunked && http10
	pin := r.connAuth || resp.connAuth
	upClose := resp.close
	body := bodyReader{rd: &u.rd, kind: resp.body, left: max(0, resp.length)}
	asChunks := resp.body == chunked && !http10
	if b != nil {
		b.disarm(u)
	}

	c.out = resp.appendHead(c.out[:0], r.method, c.s.cfg.Name, http10, closing)
	c.wrote = true
	var readErr, writeErr error
	var sent bool
	if rest := u.rd.buffered(); body.kind == noBody || body.kind == sized && int64(len(rest)) >= body.left && body.left <= 32<<10 {
		// Head and body in one write: one packet, one wake-up. The upstream
		// connection is free before the client can ask again.
		if body.kind == sized {
			ev.Down = body.left
			c.out = append(c.out, rest[:ev.Down]...)
			u.rd.r += int(ev.Down)
		}
		sent = c.settle(u, b)
		c.keep(u, sent && !upClose, pin)
		_, writeErr = c.c.Write(c.out)
	} else {
		if _, writeErr = c.c.Write(c.out); writeErr == nil {
			ev.Down, readErr, writeErr = c.stream(u, b, &body, asChunks)
		}
		sent = c.settle(u, b)
		c.keep(u, readErr == nil && writeErr == nil && sent && !upClose, pin)
	}
	if b != nil {
		ev.Up = b.sent
	}
	if readErr != nil && (resp.body == untilClose || resp.body == chunked && http10) {
		// An orderly end would make a whole body of it (RFC 9112 §8).
		if t, ok := c.c.(*net.TCPConn); ok {
			t.SetLinger(0)
		}
	}
	whole := readErr == nil && writeErr == nil
	if !whole {
		ev.Err = errors.Join(readErr, writeErr)
	}
	c.finish(ev)
	if whole && (closing || !sent) {
		c.linger()
	}
	return whole && sent && !closing
}

// keep pools, pins or closes a connection after its response.
func (c *session) keep(u *upConn, usable, pin bool) {
	switch {
	case !usable || len(u.rd.buffered()) > 0:
		u.Close()
	case c.s.guarded && u.up == nil && !c.d.Loopback && isLoopback(u.RemoteAddr()):
		u.Close() // a name has led to this machine: a guest must not find it
	case pin || u.pinned:
		u.pinned, u.since = true, time.Now()
		u.lift() // the client may take its time
		if !c.s.pool.hold(u) {
			u.Close()
			return
		}
		c.pinned = u
	default:
		c.s.put(u)
	}
}

// connectTunnel carries out CONNECT.
func (c *session) connectTunnel(ctx context.Context, d *Decision, ev *Event) bool {
	u, err := c.roundTrip(ctx, d, nil)
	d.record(ev)
	if d.Route == RouteDirect && d.Port == 25 {
		c.s.log.Warn("direct tunnel to the mail port")
	}
	if err != nil {
		return c.failed(ev, err, true)
	}
	if c.resp.status >= 300 {
		if c.door.speech() != speaksHTTP {
			u.Close()
			return c.refuse(ev, noTunnel(d.Upstream, c.resp.status), true)
		}
		// No tunnel: the upstream's own words, and nothing is relayed (RFC
		// 9110 §9.3.6).
		c.req.close = true
		ev.Status = c.resp.status
		return c.relay(u, nil, ev)
	}
	u.lift()
	// RFC 9110 §9.3.6: no Content-Length, no Transfer-Encoding; the upstream's
	// fields concern nobody behind us.
	opened := []byte("HTTP/1.1 200 Connection established\r\n\r\n")
	switch c.door.speech() {
	case speaksSOCKS:
		opened = socksReply(socksGranted)
	case speaksNothing:
		opened = nil
	}
	if _, err := c.c.Write(opened); err != nil {
		u.Close()
		return c.failed(ev, errClientGone, true)
	}
	c.told(nil)
	ev.Status = 200
	c.tunnel(u, ev)
	return false
}

// switchProtocols passes a 101 on and then bytes (RFC 9110 §7.8).
func (c *session) switchProtocols(u *upConn, ev *Event) bool {
	u.lift()
	c.out = c.resp.appendHead(c.out[:0], c.req.method, c.s.cfg.Name, false, false)
	if _, err := c.c.Write(c.out); err != nil {
		u.Close()
		return c.failed(ev, errClientGone, true)
	}
	c.tunnel(u, ev)
	return false
}
