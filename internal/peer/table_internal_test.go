//go:build linux

package peer

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// connection returns a live loopback connection as the look-ups name it.
func connection(t testing.TB, addr string) (client, server netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("no loopback at %s: %v", addr, err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); c.Close(); s.Close() })
	return c.LocalAddr().(*net.TCPAddr).AddrPort(), s.LocalAddr().(*net.TCPAddr).AddrPort()
}

func TestProcAgreesWithNetlink(t *testing.T) {
	n := newTable(slog.New(slog.DiscardHandler)).netlink
	defer n.close()
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		client, server := connection(t, addr)
		nobody := netip.AddrPortFrom(client.Addr(), 9)
		for _, q := range [][2]netip.AddrPort{{client, server}, {server, client}, {nobody, server}, {server, nobody}} {
			s1, err1 := n.owner(q[0], q[1])
			s2, err2 := procOwner("/proc/net", q[0], q[1])
			if s1 != s2 || errors.Is(err1, ErrNotFound) != errors.Is(err2, ErrNotFound) || (err1 == nil) != (err2 == nil) {
				t.Errorf("%v: netlink says %v, %v; /proc says %v, %v", q, s1, err1, s2, err2)
			}
		}
		if s, err := procOwner("/proc/net", client, server); err != nil || s.uid != uint32(os.Geteuid()) || s.inode == 0 {
			t.Errorf("%v: got %v, %v, want our own user", client, s, err)
		}
	}
}

func TestProcOwnerWithoutFiles(t *testing.T) {
	if _, err := procOwner(t.TempDir(), client4, server4); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no tcp: got %v, want an error", err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/tcp", []byte("header\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := procOwner(dir, client4, server4); !errors.Is(err, ErrNotFound) {
		t.Errorf("no tcp6: got %v, want not found", err)
	}
}

// Without netlink the answer still comes, and the log says so once, and once
// more when it is over.
func TestFallBack(t *testing.T) {
	client, server := connection(t, "127.0.0.1:0")
	var log bytes.Buffer
	tab := newTable(slog.New(slog.NewTextHandler(&log, nil)))
	defer tab.close()
	tab.open = func() (int, error) { return -1, unix.EPERM }
	own := uidUser(uint32(os.Geteuid()))
	for range 3 {
		if o, err := tab.owner(client, server); err != nil || o.user != own {
			t.Errorf("blocked: got %s, %v, want %s", o.user, err, own)
		}
	}
	tab.open = openDiag
	for range 3 {
		if o, err := tab.owner(client, server); err != nil || o.user != own {
			t.Errorf("open again: got %s, %v, want %s", o.user, err, own)
		}
	}
	if fails, works := strings.Count(log.String(), "look-up fails"), strings.Count(log.String(), "works again"); fails != 1 || works != 1 {
		t.Errorf("got %d and %d log lines, want one each:\n%s", fails, works, &log)
	}
}

// "No such entry" is believed only from a kernel that has named a socket.
func TestNoEntry(t *testing.T) {
	client, server := connection(t, "127.0.0.1:0")
	n := newTable(slog.New(slog.DiscardHandler)).netlink
	defer n.close()
	nobody := netip.MustParseAddrPort("127.0.0.2:9")
	if _, err := n.owner(nobody, server); !errors.Is(err, errNoEntry) {
		t.Errorf("before: got %v, want it left open", err)
	}
	if _, err := n.owner(client, server); err != nil {
		t.Fatal(err)
	}
	if _, err := n.owner(nobody, server); !errors.Is(err, ErrNotFound) {
		t.Errorf("after: got %v, want not found", err)
	}
}

// The kept socket may break or go deaf; the same question then gets its answer
// through a new one, without the fall-back.
func TestReopens(t *testing.T) {
	for name, replacement := range map[string]func(t *testing.T, client, server netip.AddrPort) int{
		"not a socket": func(t *testing.T, _, _ netip.AddrPort) int {
			fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			return fd
		},
		"deaf": func(t *testing.T, _, _ netip.AddrPort) int {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { unix.Close(pair[1]) })
			tv := unix.NsecToTimeval(20_000_000)
			if err := unix.SetsockoptTimeval(pair[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
				t.Fatal(err)
			}
			return pair[0]
		},
		// A full answer, with the right number, but not from the kernel.
		"forged": func(t *testing.T, client, server netip.AddrPort) int {
			fd := nlSocket(t)
			sender := nlSocket(t)
			defer unix.Close(sender)
			to, err := unix.Getsockname(fd)
			if err != nil {
				t.Fatal(err)
			}
			for seq := range uint32(5) {
				forged := diagSocket(seq, afInet, 1, client, server, 4242, 1)
				if err := unix.Sendto(sender, forged, 0, to); err != nil {
					t.Skipf("netlink between processes: %v", err)
				}
			}
			return fd
		},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := connection(t, "127.0.0.1:0")
			n := newTable(slog.New(slog.DiscardHandler)).netlink
			defer n.close()
			n.fd = replacement(t, client, server)
			if s, err := n.owner(client, server); err != nil || s.uid != uint32(os.Geteuid()) {
				t.Errorf("got %d, %v, want our own user", s.uid, err)
			}
		})
	}
}

func nlSocket(t *testing.T) int {
	fd, err := openDiag()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		t.Fatal(err)
	}
	return fd
}

func BenchmarkOwner(b *testing.B) {
	client, server := connection(b, "127.0.0.1:0")
	tab := newTable(slog.New(slog.DiscardHandler))
	defer tab.close()
	for name, find := range map[string]func() (socket, error){
		"netlink": func() (socket, error) { return tab.netlink.owner(client, server) },
		"proc":    func() (socket, error) { return procOwner("/proc/net", client, server) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := find(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
