//go:build windows

package peer_test

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"kerbpass/internal/peer"
	"kerbpass/internal/testenv"
)

func own(t *testing.T) peer.User {
	t.Helper()
	sid, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		t.Fatal(err)
	}
	return peer.User(sid.User.Sid.String())
}

// Wine names the process of IPv4 connections only.
var namesIPv6 = windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() != nil

func TestOwnUserAllowed(t *testing.T) {
	for addr, named := range map[string]bool{"127.0.0.1:0": true, "[::1]:0": namesIPv6} {
		_, server := dial(t, listen(t, "tcp", addr))
		err := checker(t).Allowed(ends(server))
		if named && err != nil {
			t.Errorf("%s: got %v, want allowed", addr, err)
		}
		if !named && !errors.Is(err, peer.ErrNotFound) {
			t.Errorf("%s without a name: got %v, want denied, not found", addr, err)
		}
	}
}

func TestIdentify(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, "tcp", "127.0.0.1:0")
	c := checker(t)
	_, mine := dial(t, l)
	pid, other := child(t, l)
	for want, conn := range map[int]net.Conn{os.Getpid(): mine, pid: other} {
		local, remote := ends(conn)
		if user, err := c.Lookup(local, remote); err != nil || user != own(t) {
			t.Errorf("got %s, %v, want our own user", user, err)
		}
		got, err := c.Identify(local, remote)
		if err != nil || got.PID != want || got.Program != filepath.Base(exe) {
			t.Errorf("got %+v, %v, want process %d of %s", got, err, want, exe)
		}
	}
}

// child connects to l from a process of its own.
func child(t *testing.T, l net.Listener) (pid int, server net.Conn) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CHILD=tcp", "CHILD_ADDR="+l.Addr().String())
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child: %v", err)
		}
	})
	if got := line(t, bufio.NewReader(out)); got != "true <nil>" {
		t.Fatalf("child could not connect: %s", got)
	}
	return cmd.Process.Pid, accept(t, l)
}

// A program that talks IPv4 through an IPv6 socket, as Java's do.
func TestMappedClient(t *testing.T) {
	l := listen(t, "tcp4", "127.0.0.1:0")
	s, err := windows.Socket(windows.AF_INET6, windows.SOCK_STREAM, windows.IPPROTO_TCP)
	if err != nil {
		t.Fatal(err)
	}
	defer windows.Closesocket(s)
	if err := windows.SetsockoptInt(s, windows.IPPROTO_IPV6, windows.IPV6_V6ONLY, 0); err != nil {
		t.Fatal(err)
	}
	mapped := netip.MustParseAddr("::ffff:127.0.0.1").As16()
	if err := windows.Connect(s, &windows.SockaddrInet6{Addr: mapped, Port: l.Addr().(*net.TCPAddr).Port}); err != nil {
		t.Fatal(err)
	}
	local, remote := ends(accept(t, l))
	to6 := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	for _, in := range [][2]netip.AddrPort{{local, remote}, {to6(local), to6(remote)}} {
		err := checker(t).Allowed(in[0], in[1])
		if namesIPv6 && err != nil {
			t.Errorf("%v: got %v, want allowed", in, err)
		}
		if !namesIPv6 && !errors.Is(err, peer.ErrNotFound) {
			t.Errorf("%v without a name: got %v, want denied, not found", in, err)
		}
	}
}

func TestClosedPeerDenied(t *testing.T) {
	client, server := dial(t, listen(t, "tcp", "127.0.0.1:0"))
	c := checker(t)
	if err := c.Allowed(ends(server)); err != nil {
		t.Fatalf("open: got %v, want allowed", err)
	}
	local, remote := ends(server)
	for _, step := range []func() error{client.Close, server.Close} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
		var denied *peer.DeniedError
		if err := c.Allowed(local, remote); !errors.As(err, &denied) || denied.User != "" {
			t.Errorf("closed: got %v, want denied", err)
		}
	}
}

// Wine names no process that listens, so that a name is seen on Windows only.
func TestOwnerOfFreePort(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	l.Close()
	if pid, program, err := peer.Owner(l.Addr().(*net.TCPAddr).AddrPort()); !errors.Is(err, peer.ErrNotFound) {
		t.Errorf("got process %d %q, %v, want not found", pid, program, err)
	}
}

// pipeEnd is as much of a connection as the check needs.
type pipeEnd struct {
	net.Conn
	*os.File
}

func (p pipeEnd) Close() error                       { return p.File.Close() }
func (p pipeEnd) Read(b []byte) (int, error)         { return p.File.Read(b) }
func (p pipeEnd) Write(b []byte) (int, error)        { return p.File.Write(b) }
func (p pipeEnd) SetDeadline(t time.Time) error      { return p.File.SetDeadline(t) }
func (p pipeEnd) SetReadDeadline(t time.Time) error  { return p.File.SetReadDeadline(t) }
func (p pipeEnd) SetWriteDeadline(t time.Time) error { return p.File.SetWriteDeadline(t) }
func (p pipeEnd) SyscallConn() (syscall.RawConn, error) {
	return p.File.SyscallConn()
}

// pipe connects to itself by way of a pipe that belongs to owner.
func pipe(t *testing.T, owner peer.User) (server, client net.Conn) {
	t.Helper()
	descriptor, err := windows.SecurityDescriptorFromString("O:" + string(owner) + "D:P(A;;GA;;;" + string(own(t)) + ")")
	if err != nil {
		t.Fatal(err)
	}
	security := &windows.SecurityAttributes{SecurityDescriptor: descriptor}
	security.Length = uint32(unsafe.Sizeof(*security))
	name, err := windows.UTF16PtrFromString(`\\.\pipe\kerbpass-peer-test-` + t.Name())
	if err != nil {
		t.Fatal(err)
	}
	s, err := windows.CreateNamedPipe(name, windows.PIPE_ACCESS_DUPLEX|windows.FILE_FLAG_OVERLAPPED, 0, 1, 0, 0, 0, security)
	if err != nil {
		if owner != own(t) {
			testenv.Missing(t, "the right to make what belongs to others: %v", err)
		}
		t.Fatal(err)
	}
	c, err := windows.CreateFile(name, windows.GENERIC_READ|windows.GENERIC_WRITE, 0, nil,
		windows.OPEN_EXISTING, windows.FILE_FLAG_OVERLAPPED, 0)
	if err != nil {
		t.Fatal(err)
	}
	server, client = pipeEnd{File: os.NewFile(uintptr(s), "server")}, pipeEnd{File: os.NewFile(uintptr(c), "client")}
	t.Cleanup(func() { server.Close(); client.Close() })
	return server, client
}

func TestUserOf(t *testing.T) {
	server, client := pipe(t, own(t))
	for name, c := range map[string]net.Conn{"client": server, "server": client} {
		if user, err := peer.UserOf(c); err != nil || user != own(t) {
			t.Errorf("the %s: got %s, %v, want %s", name, user, err, own(t))
		}
		if err := peer.SameUser(c); err != nil {
			t.Errorf("the %s: got %v, want the same user", name, err)
		}
	}
	_, tcp := dial(t, listen(t, "tcp", "127.0.0.1:0"))
	server.Close()
	for name, c := range map[string]net.Conn{"TCP": tcp, "closed": server} {
		if user, err := peer.UserOf(c); err == nil {
			t.Errorf("%s: got %s, want an error", name, user)
		}
		if err := peer.SameUser(c); err == nil {
			t.Errorf("%s: taken for the same user", name)
		}
	}
}

// The process that made the pipe is ours, or its number is by now; but the pipe
// is someone else's.
func TestForeignPipe(t *testing.T) {
	server, client := pipe(t, "S-1-5-18")
	if user, err := peer.UserOf(client); err == nil || !strings.Contains(err.Error(), "belongs to S-1-5-18") {
		t.Errorf("got %s, %v, want a refusal", user, err)
	}
	if err := peer.SameUser(server); err != nil {
		t.Errorf("the client, which is ours: got %v", err)
	}
}

func TestParseUser(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want peer.User
		err  string
	}{
		{in: "S-1-5-18", want: "S-1-5-18"},
		{in: "s-1-5-21-1-2-3-1001", want: "S-1-5-21-1-2-3-1001"},
		{in: `NT AUTHORITY\SYSTEM`, want: "S-1-5-18"},
		{in: `BUILTIN\Administrators`, err: "not a user"},
		{in: "no such user", err: "a SID works too"},
		{in: "", err: "not known"},
		{in: "S-1-5-", err: "not known"},
	} {
		got, err := peer.ParseUser(tt.in)
		if tt.err == "" && (err != nil || got != tt.want) {
			t.Errorf("%q: got %s, %v, want %s", tt.in, got, err, tt.want)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%q: got %s, %v, want an error with %q", tt.in, got, err, tt.err)
		}
	}
}
