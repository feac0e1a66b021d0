//go:build linux

package peer_test

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"kerbpass/internal/peer"
)

func TestOwner(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0"} {
		l, err := net.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		addr := l.Addr().(*net.TCPAddr).AddrPort()
		ask := addr
		if addr.Addr().IsUnspecified() {
			ask = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), addr.Port())
		}
		pid, program, err := peer.Owner(ask)
		if err != nil || pid != os.Getpid() || program == "" {
			t.Errorf("%s: got process %d %q, %v; want this one, %d", at, pid, program, err, os.Getpid())
		}
		l.Close()
		if _, _, err := peer.Owner(ask); !errors.Is(err, peer.ErrNotFound) {
			t.Errorf("%s after closing: got %v, want %v", at, err, peer.ErrNotFound)
		}
	}
}
