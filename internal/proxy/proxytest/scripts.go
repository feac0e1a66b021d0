package proxytest

import (
	"context"
	"testing"

	"kerbpass/internal/proxy"
)

// Routed is [Via] with every decision changed by change.
func Routed(addr string, change func(d *proxy.Decision)) proxy.RouterFunc {
	via := Via(addr)
	return func(ctx context.Context, host string, port uint16) (proxy.Decision, error) {
		d, err := via(ctx, host, port)
		change(&d)
		return d, err
	}
}

// WhenChallenged is [Via] with tokens only after a 407.
func WhenChallenged(addr string) proxy.RouterFunc {
	return Routed(addr, func(d *proxy.Decision) { d.Preemptive = false })
}

// SwitchedOff is [Via] with Kerberos off.
func SwitchedOff(addr string) proxy.RouterFunc {
	return Routed(addr, func(d *proxy.Decision) { d.Kerberos = false })
}

// Answering starts a server that reads each request whole and gives the same
// answer to all; it serves as an origin and as an upstream that wants nothing.
func Answering(t testing.TB, answer string) *Server {
	return Serve(t, func(c *Conn) {
		for {
			h, err := c.ReadHead()
			if err != nil {
				return
			}
			if _, err := c.ReadBody(h); err != nil {
				return
			}
			c.Send("%s", answer)
		}
	})
}
