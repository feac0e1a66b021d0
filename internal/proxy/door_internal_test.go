package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A source that guessed often waits a minute; others do not, and the memory of
// them all is bounded.
func TestGateStrikes(t *testing.T) {
	g := NewGate(nil)
	now := time.Unix(1e9, 0)
	g.now = func() time.Time { return now }
	g.Set(GateRules{Open: true, Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/16")}})
	bad := []field{{[]byte("Proxy-Authorization"), []byte("Basic YTpi")}}
	a, b := netip.MustParseAddr("::ffff:10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for i := range maxWrong {
		if err := g.admit(a); err != nil {
			t.Fatalf("guess %d: %v", i, err)
		}
		if _, err := g.login(a, bad); !errors.Is(err, errGateSecret) {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	if err := g.admit(a); !errors.Is(err, errGateStrikes) {
		t.Errorf("after %d guesses: %v", maxWrong, err)
	}
	if err := g.admit(b); err != nil {
		t.Errorf("another source: %v", err)
	}
	now = now.Add(strikesLast)
	if err := g.admit(a); !errors.Is(err, errGateStrikes) {
		t.Errorf("in the minute: %v", err)
	}
	now = now.Add(time.Second)
	if err := g.admit(a); err != nil {
		t.Errorf("after the minute: %v", err)
	}
	// All of a /64 are one.
	for i := range maxWrong {
		g.login(netip.MustParseAddr(fmt.Sprintf("fd00::1:%x", i)), bad)
	}
	if err := g.admit(netip.MustParseAddr("fd00::2")); !errors.Is(err, errGateStrikes) {
		t.Errorf("the neighbour: %v", err)
	}
	for i := range 3 * maxSources {
		g.login(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), bad)
	}
	if len(g.wrong) > maxSources {
		t.Errorf("%d sources are remembered, want %d at most", len(g.wrong), maxSources)
	}
}

// Whatever a SOCKS client sends: a request that is taken names the same target
// as the bytes do, the rest is refused, and one byte less is never enough.
func FuzzSOCKS(f *testing.F) {
	for _, s := range []string{
		"\x05\x01\x00\x01\x7f\x00\x00\x01\x00\x50", "\x05\x01\x00\x03\x06a.test\x01\xbb", "\x05\x01\x00\x04" + strings.Repeat("\x20", 16) + "\x00\x16",
		"\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x50", "\x05\x01\x00\x03\x00\x00\x50", "\x05\x03\x00\x01\x02", "\x04\x01", "GET / HTTP/1.1\r\n",
		"\x05\x01\x00\x03\x05::1%x\x00\x50", "\x05\x01\x00\x03\x0aa:1@b\r\n \x00]\x00\x50",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		n, err := socksGreeting(in)
		if err == nil && (in[0] != 5 || n != 2+int(in[1]) || bytes.IndexByte(in[2:n], 0) < 0) {
			t.Fatalf("greeting of %d taken: %q", n, in)
		}
		target, n, err := socksRequest(in)
		if err != nil {
			return
		}
		if n > len(in) || in[0] != 5 || in[1] != 1 || in[2] != 0 || target.port == 0 || int(target.port) != int(in[n-2])<<8|int(in[n-1]) {
			t.Fatalf("taken: %q as %s %d", in, target.host, target.port)
		}
		var want string
		switch in[3] {
		case 1, 4:
			a, _ := netip.AddrFromSlice(in[4 : n-2])
			want = a.String()
		case 3:
			want = string(in[5 : n-2])
		}
		if string(target.host) != want || strings.ContainsAny(want, " \r\n\x00@/\\?#%[]") {
			t.Fatalf("taken: %q as %q", in, target.host)
		}
		for short := range n {
			if _, _, err := socksRequest(in[:short]); err != errSocksMore {
				t.Fatalf("%d of %d bytes of %q: %v", short, n, in[:n], err)
			}
		}
		// What is sent on is one CONNECT line and nothing behind it.
		r := request{method: "CONNECT", connect: true, minor: 1, maxFwd: -1, target: target}
		head := r.appendHead(nil, &Decision{Route: RouteProxy, Host: string(target.host), Port: target.port}, "me")
		if bytes.Count(head, []byte("\r\n")) != 3 {
			t.Fatalf("the head is %q", head)
		}
	})
}
