package proxy

import (
	"net"
	"sync/atomic"
	"time"
)

// speech is what clients of a listener speak.
type speech int

const (
	speaksHTTP speech = iota
	speaksSOCKS
	speaksNothing // of its own: a tunnel to one place
)

// door is a listener that is not the plain HTTP one for the own user's programs.
type door struct {
	net.Listener
	speaks speech
	host   string // where a fixed forward leads
	port   uint16
	gate   *Gate // nil: the Config's PeerCheck decides
	// failing is why the last connection of a forward did not get through,
	// so that a repeated failure is logged once.
	failing atomic.Pointer[Cause]
}

// SOCKS returns l as a listener that speaks SOCKS5 (RFC 1928): CONNECT only,
// no authentication beyond the PeerCheck, names left to the upstream. What it
// carries is decided and done like a CONNECT.
func SOCKS(l net.Listener) net.Listener { return &door{Listener: l, speaks: speaksSOCKS} }

// Forward returns l as a listener whose every connection is a tunnel to host
// and port, decided and carried out like a CONNECT. A client that cannot be
// served sees its connection closed; the log says why.
func Forward(l net.Listener, host string, port uint16) net.Listener {
	return &door{Listener: l, speaks: speaksNothing, host: host, port: port}
}

// Guarded returns l as a listener for other machines: g stands in for the
// PeerCheck, and each request needs credentials. Its clients reach nothing on
// this machine's loopback.
func Guarded(l net.Listener, g *Gate) net.Listener { return &door{Listener: l, gate: g} }

// SetDeadline lets a listener be asked for a moment only, where it can be.
func (d *door) SetDeadline(t time.Time) error {
	if l, ok := d.Listener.(interface{ SetDeadline(time.Time) error }); ok {
		return l.SetDeadline(t)
	}
	return nil
}

// speech is what the client speaks; gate is who guards its listener, or nil.
func (d *door) speech() speech {
	if d == nil {
		return speaksHTTP
	}
	return d.speaks
}

func (d *door) guard() *Gate {
	if d == nil {
		return nil
	}
	return d.gate
}

// denial is what a client is told before it has said anything: e's page, or
// SOCKS5's "no acceptable methods"; nil says nothing.
func (d *door) denial(e *Error) []byte {
	switch {
	case d.guard() != nil:
		return nil
	case d.speech() == speaksHTTP:
		return page(e, false, true, false)
	case d.speech() == speaksSOCKS:
		return []byte{5, 0xff}
	}
	return nil
}

// method is what the Observer is told.
func (d *door) method(m string) string {
	switch d.speech() {
	case speaksSOCKS:
		return "SOCKS5"
	case speaksNothing:
		return "FORWARD"
	}
	return m
}

// fixed serves a client of a forward.
func (c *session) fixed() {
	c.req = request{method: "CONNECT", connect: true, minor: 1, maxFwd: -1, target: target{host: []byte(c.door.host), port: c.door.port}}
}

// told notes how a forward's connection went: what begins and what ends is
// logged, what goes on is not.
func (c *session) told(e *Error) {
	d := c.door
	if d.speech() != speaksNothing {
		return
	}
	var now *Cause
	if e != nil {
		now = &e.Cause
	}
	was := d.failing.Swap(now)
	switch {
	case e != nil && (was == nil || *was != e.Cause):
		c.s.log.Warn("forward does not work", "listen", d.Addr().String(), "to", join(d.host, d.port), "cause", string(e.Cause), "err", e)
	case e == nil && was != nil:
		c.s.log.Info("forward works again", "listen", d.Addr().String(), "to", join(d.host, d.port))
	}
}

// noTunnel words an upstream's answer to CONNECT that is none for a client who
// cannot read it.
func noTunnel(up *Upstream, status int) *Error {
	switch status {
	case 401, 403, 451:
		e := fail(CausePolicy, nil, "%s answered %d.", up.URL, status)
		e.Text = "The corporate proxy does not allow this tunnel."
		return e
	case 504:
		return fail(CauseTimeout, nil, "%s answered %d.", up.URL, status)
	}
	return fail(CauseDestinationUnreachable, nil, "%s answered %d.", up.URL, status)
}
