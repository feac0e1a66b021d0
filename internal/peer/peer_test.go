package peer_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/user"
	"strings"
	"testing"

	"kerbpass/internal/peer"
	"kerbpass/internal/testenv"
)

// The test binary is also another program, or another user's: with CHILD set it does
// one thing, prints one line and waits until its standard input ends.
func TestMain(m *testing.M) {
	switch what := os.Getenv("CHILD"); what {
	case "":
		os.Exit(m.Run())
	case "check":
		childCheck()
	default: // a network
		c, err := net.Dial(what, os.Getenv("CHILD_ADDR"))
		fmt.Println(c != nil, err)
		io.Copy(io.Discard, os.Stdin)
	}
}

// childCheck is a server that serves its own user: it prints its address, then
// what it thinks of the one client that connects.
func childCheck() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(l.Addr())
	c, err := l.Accept()
	if err != nil {
		fmt.Println(err)
		return
	}
	checker, err := peer.New(peer.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(os.Geteuid(), "allows:", checker.Allowed(ends(c)))
}

func line(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	s, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("child said %q: %v", s, err)
	}
	return strings.TrimSpace(s)
}

func accept(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func listen(t testing.TB, network, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, addr)
	if err != nil {
		if addr == "[::1]:0" {
			testenv.Missing(t, "IPv6 loopback: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func dial(t testing.TB, l net.Listener) (client, server net.Conn) {
	t.Helper()
	client, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client, accept(t, l)
}

func ends(c net.Conn) (local, remote netip.AddrPort) {
	return c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
}

func checker(t testing.TB, allow ...peer.User) *peer.Checker {
	t.Helper()
	c, err := peer.New(peer.Config{Allow: allow})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestNewRefusesNoUser(t *testing.T) {
	for _, user := range []peer.User{"", "no id", "4294967295", "-1", "007", "S-1-5"} {
		if _, err := peer.New(peer.Config{Allow: []peer.User{user}}); err == nil {
			t.Errorf("%q was taken as a user", user)
		}
	}
}

func TestParseOwnName(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{me.Username, me.Uid} {
		if got, err := peer.ParseUser(name); err != nil || string(got) != me.Uid {
			t.Errorf("%s: got %s, %v, want %s", name, got, err, me.Uid)
		}
	}
}

// Nothing here has a peer, so nothing may be allowed, on any system.
func TestAllowedFailsClosed(t *testing.T) {
	c, err := peer.New(peer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct{ name, local, remote string }{
		{"nobody there", "127.0.0.1:1", "127.0.0.1:2"},
		{"two families", "127.0.0.1:1", "[::1]:2"},
		{"not an address", "", "127.0.0.1:2"},
		{"not on this machine", "127.0.0.1:1", "192.0.2.1:2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			local, _ := netip.ParseAddrPort(tt.local)
			remote, _ := netip.ParseAddrPort(tt.remote)
			err := c.Allowed(local, remote)
			var denied *peer.DeniedError
			if !errors.As(err, &denied) || denied.User != "" {
				t.Errorf("got %v, want a DeniedError about an unknown user", err)
			}
			if tt.name == "nobody there" && !errors.Is(err, peer.ErrNotFound) {
				t.Errorf("got %v, want not found", err)
			}
			if id, err := c.Identify(local, remote); err == nil || id != (peer.Identity{}) {
				t.Errorf("identified as %+v, %v", id, err)
			}
		})
	}
}
