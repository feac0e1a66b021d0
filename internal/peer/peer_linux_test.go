//go:build linux

package peer_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"kerbpass/internal/peer"
	"kerbpass/internal/testenv"
)

// start runs the test binary as another user. A binary below a private folder
// is out of that user's reach, but not through the link of the running one.
func start(t *testing.T, attr *syscall.SysProcAttr, env ...string) *bufio.Reader {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Dir, cmd.Stderr, cmd.SysProcAttr = "/", os.Stderr, attr
	cmd.Env = append(os.Environ(), append(env, "GORACE=atexit_sleep_ms=0")...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		testenv.Missing(t, "running a child as %+v: %v", attr, err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	})
	return bufio.NewReader(out)
}

func asUser(uid uint32) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
}

// connectAs returns the server's end of a connection made by a child.
func connectAs(t *testing.T, uid uint32, l net.Listener) net.Conn {
	t.Helper()
	out := start(t, asUser(uid), "CHILD="+l.Addr().Network(), "CHILD_ADDR="+l.Addr().String())
	if got := line(t, out); got != "true <nil>" {
		t.Fatalf("child could not connect: %s", got)
	}
	return accept(t, l)
}

func TestOwnUserAllowed(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			_, server := dial(t, listen(t, "tcp", addr))
			if err := checker(t).Allowed(ends(server)); err != nil {
				t.Errorf("own connection: got %v, want allowed", err)
			}
		})
	}
}

func TestOtherUsersDenied(t *testing.T) {
	testenv.Root(t)
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		for _, uid := range []uint32{1001, 65534} {
			user := peer.User(fmt.Sprint(uid))
			t.Run(addr+" "+string(user), func(t *testing.T) {
				server := connectAs(t, uid, listen(t, "tcp", addr))
				err := checker(t).Allowed(ends(server))
				var denied *peer.DeniedError
				if !errors.As(err, &denied) || denied.User != user {
					t.Errorf("got %v, want denied as user %s", err, user)
				}
				if err := checker(t, "7").Allowed(ends(server)); err == nil {
					t.Error("allowed although only user 7 is on the list")
				}
				if err := checker(t, "7", user).Allowed(ends(server)); err != nil {
					t.Errorf("on the list: got %v, want allowed", err)
				}
			})
		}
	}
}

// Root runs the server and 1001 owns the client end: the server's own end of
// the connection must not be taken for the client's.
func TestSwappedEndsDenied(t *testing.T) {
	testenv.Root(t)
	server := connectAs(t, 1001, listen(t, "tcp", "127.0.0.1:0"))
	local, remote := ends(server)
	if user, err := checker(t).Lookup(remote, local); err != nil || user != "0" {
		t.Errorf("the server's end: got %s, %v, want 0", user, err)
	}
	if user, err := checker(t).Lookup(local, remote); err != nil || user != "1001" {
		t.Errorf("the client's end: got %s, %v, want 1001", user, err)
	}
}

// socket6 opens an IPv6 socket that takes mapped IPv4 addresses, as Java's are.
func socket6(t *testing.T) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		testenv.Missing(t, "IPv6 sockets: %v", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
		t.Fatal(err)
	}
	return fd
}

var mapped = netip.MustParseAddr("::ffff:127.0.0.1").As16()

func TestMappedClient(t *testing.T) {
	l := listen(t, "tcp4", "127.0.0.1:0")
	fd := socket6(t)
	defer unix.Close(fd)
	port := l.Addr().(*net.TCPAddr).Port
	if err := unix.Connect(fd, &unix.SockaddrInet6{Addr: mapped, Port: port}); err != nil {
		t.Fatal(err)
	}
	local, remote := ends(accept(t, l))
	if err := checker(t).Allowed(local, remote); err != nil {
		t.Errorf("mapped client: got %v, want allowed", err)
	}
}

func TestMappedServer(t *testing.T) {
	testenv.Root(t)
	fd := socket6(t)
	if err := unix.Bind(fd, &unix.SockaddrInet6{Addr: mapped}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 5); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "listener")
	l, err := net.FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to4 := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
	to6 := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	local, remote := ends(connectAs(t, 1001, l))
	for _, in := range [][2]netip.AddrPort{{to4(local), to4(remote)}, {to6(local), to6(remote)}, {to6(local), to4(remote)}} {
		if user, err := checker(t).Lookup(in[0], in[1]); err != nil || user != "1001" {
			t.Errorf("%v: got %s, %v, want 1001", in, user, err)
		}
	}
}

// As root this is sharp: the kernel shows closed sockets as root's.
func TestClosedPeerDenied(t *testing.T) {
	testenv.Root(t)
	client, server := dial(t, listen(t, "tcp", "127.0.0.1:0"))
	c := checker(t)
	if err := c.Allowed(ends(server)); err != nil {
		t.Fatalf("open: got %v, want allowed", err)
	}
	local, remote := ends(server)
	for _, step := range []struct {
		name  string
		close func() error
	}{{"FIN_WAIT2", client.Close}, {"TIME_WAIT", server.Close}} {
		if err := step.close(); err != nil {
			t.Fatal(err)
		}
		err := c.Allowed(local, remote)
		var denied *peer.DeniedError
		if !errors.As(err, &denied) || denied.User != "" || !errors.Is(err, peer.ErrNotFound) {
			t.Errorf("%s: got %v, want denied, not found", step.name, err)
		}
	}
}

// The kernel answers a question about a connection that does not exist with
// the listener on that port, if there is one, and that may well be our own.
func TestListenerIsNoPeer(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	_, server := dial(t, l)
	c := checker(t)
	if err := c.Allowed(ends(server)); err != nil {
		t.Fatalf("got %v, want allowed", err)
	}
	nobody := netip.MustParseAddrPort("127.0.0.1:9")
	if err := c.Allowed(nobody, l.Addr().(*net.TCPAddr).AddrPort()); !errors.Is(err, peer.ErrNotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

// In a user namespace every unmapped user looks alike. A server that itself
// has that number there must not take them all for itself.
func TestUserNamespace(t *testing.T) {
	testenv.Root(t)
	for _, tt := range []struct {
		name     string
		inside   int
		client   uint32
		expected string
	}{
		{"own user", 1000, 0, "1000 allows: <nil>"},
		{"unmapped user", 1000, 1001, "no number in this user namespace"},
		{"unmapped user at our own number", 65534, 1001, "no number in this user namespace"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := start(t, &syscall.SysProcAttr{
				Cloneflags:  syscall.CLONE_NEWUSER,
				UidMappings: []syscall.SysProcIDMap{{ContainerID: tt.inside, HostID: 0, Size: 1}},
			}, "CHILD=check")
			addr := line(t, out)
			if got := line(t, start(t, asUser(tt.client), "CHILD=tcp", "CHILD_ADDR="+addr)); got != "true <nil>" {
				t.Fatalf("child could not connect to %s: %s", addr, got)
			}
			if got := line(t, out); !strings.Contains(got, tt.expected) {
				t.Errorf("got %q, want %q", got, tt.expected)
			}
		})
	}
}

func TestConcurrentAndClosed(t *testing.T) {
	testenv.NoLeaks(t)
	own := listen(t, "tcp", "127.0.0.1:0")
	c := checker(t)
	var wg sync.WaitGroup
	for range 8 {
		_, server := dial(t, own)
		wg.Go(func() {
			for range 50 {
				if err := c.Allowed(ends(server)); err != nil {
					t.Errorf("got %v, want allowed", err)
				}
			}
		})
	}
	wg.Wait()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	_, server := dial(t, own)
	if err := c.Allowed(ends(server)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: got %v, want denied, closed", err)
	}
}

func TestUserOf(t *testing.T) {
	testenv.Root(t)
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l := listen(t, "unix", path)
	for name, mode := range map[string]os.FileMode{dir: 0o755, path: 0o777} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	_, own := dial(t, l)
	for user, c := range map[peer.User]net.Conn{"0": own, "1001": connectAs(t, 1001, l), "65534": connectAs(t, 65534, l)} {
		if got, err := peer.UserOf(c); err != nil || got != user {
			t.Errorf("got %s, %v, want %s", got, err, user)
		}
		if err := peer.SameUser(c); (err == nil) != (user == "0") {
			t.Errorf("user %s: got %v from SameUser", user, err)
		}
	}
	alone, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "alone"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer alone.Close()
	if _, err := peer.UserOf(alone); !errors.Is(err, peer.ErrNotFound) {
		t.Errorf("a socket without a peer: got %v, want not found", err)
	}
	own.Close()
	if _, err := peer.UserOf(own); err == nil {
		t.Error("a closed connection was given an owner")
	}
	_, tcp := dial(t, listen(t, "tcp", "127.0.0.1:0"))
	if _, err := peer.UserOf(tcp); err == nil {
		t.Error("a TCP connection was given an owner")
	}
	ours, _ := net.Pipe()
	if _, err := peer.UserOf(ours); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("no connection of the system: got %v, want unsupported", err)
	}
}
