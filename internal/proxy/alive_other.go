//go:build !unix

package proxy

import "time"

type peeker struct{}

// alive cannot look into a socket here without taking from it, so only a
// connection used a moment ago counts as alive.
func alive(u *upConn) bool {
	return u.rd.err == nil && len(u.rd.buffered()) == 0 && time.Since(u.since) < 3*time.Second
}

// maybeAlive reports whether a connection is worth a request that can be sent
// again.
func maybeAlive(u *upConn) bool { return u.rd.err == nil && len(u.rd.buffered()) == 0 }
