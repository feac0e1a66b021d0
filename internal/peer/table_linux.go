//go:build linux

package peer

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// askTimeout bounds one question to the kernel, which answers in microseconds.
const askTimeout = 500 * time.Millisecond

// errOverflow: see overflowUID.
var errOverflow = errors.New("the peer's user has no number in this user namespace")

// table asks the kernel for one socket over a netlink socket that stays open,
// and reads /proc/net where netlink is not to be had (gVisor, a sandbox or a
// systemd unit without AF_NETLINK).
type table struct {
	*netlink
	last *atomic.Pointer[namedUser] // the user named last, hardly ever another one
}

type namedUser struct {
	uid  uint32
	user User
}

func newTable(log *slog.Logger) table {
	return table{&netlink{log: log, open: openDiag, fd: -1}, &atomic.Pointer[namedUser]{}}
}

// prepare opens what the look-ups keep open. Where that fails they try again.
func (t table) prepare() {
	overflowUID()
	t.mu.Lock()
	defer t.mu.Unlock()
	if fd, err := t.open(); err == nil {
		t.fd = fd
	}
}

// name is [uidUser] without making the same text again and again.
func (t table) name(uid uint32) User {
	if n := t.last.Load(); n != nil && n.uid == uid {
		return n.user
	}
	n := &namedUser{uid, uidUser(uid)}
	t.last.Store(n)
	return n.user
}

// owner describes the socket bound to client, connected to server.
func (t table) owner(client, server netip.AddrPort) (owner, error) {
	s, err := t.netlink.owner(client, server)
	if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, net.ErrClosed) {
		s, err = procOwner("/proc/net", client, server)
	}
	switch {
	case err != nil:
		return owner{}, err
	case isOverflow(s.uid):
		return owner{}, errOverflow
	}
	return owner{user: t.name(s.uid), key: s.inode}, nil
}

type netlink struct {
	log  *slog.Logger
	open func() (fd int, err error)

	mu     sync.Mutex // guards what follows; one question at a time
	fd     int        // -1: not open
	seq    uint32
	asked  diagQuestion
	answer [1024]byte // here and not on the stack of each connection
	works  bool       // has named a socket
	failed bool       // and the log says so
	closed bool
}

func (n *netlink) owner(client, server netip.AddrPort) (socket, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return socket{}, fmt.Errorf("peer check: %w", net.ErrClosed)
	}
	s, err := n.ask(client, server)
	if !answered(err) {
		n.drop()
		s, err = n.ask(client, server)
	}
	switch {
	case err == nil:
		n.works = true
	case errors.Is(err, errNoEntry) && n.works:
		// The kernel also says "no entry" where it lacks the module tcp_diag,
		// so this is final only once it has named a socket.
		err = ErrNotFound
	}
	n.report(err)
	return s, err
}

// report logs when look-ups start to fail and when they work again. n.mu is
// held.
func (n *netlink) report(err error) {
	failed := err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, errNoEntry)
	switch {
	case failed && !n.failed:
		n.log.Warn("netlink socket look-up fails, reading /proc/net instead", "err", err)
	case !failed && n.failed:
		n.log.Info("netlink socket look-up works again")
	}
	n.failed = failed
}

// ask sends one question and waits for its answer.
func (n *netlink) ask(client, server netip.AddrPort) (socket, error) {
	if n.fd < 0 {
		fd, err := n.open()
		if err != nil {
			return socket{}, fmt.Errorf("open netlink socket: %w", err)
		}
		n.fd = fd
	}
	n.seq++
	deadline := time.Now().Add(askTimeout)
	// Written without an address, a netlink datagram goes to the kernel.
	question := n.asked.fill(n.seq, client, server)
	if err := retry(deadline, func() error {
		_, err := unix.Write(n.fd, question)
		return err
	}); err != nil {
		return socket{}, fmt.Errorf("ask netlink: %w", err)
	}
	for time.Now().Before(deadline) {
		var size int
		var from unix.Sockaddr
		if err := retry(deadline, func() (err error) {
			size, from, err = unix.Recvfrom(n.fd, n.answer[:], 0)
			return err
		}); err != nil {
			return socket{}, fmt.Errorf("netlink answer: %w", err)
		}
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue // not from the kernel: any process may write to us
		}
		if s, done, err := parseDiag(n.answer[:size], n.seq, client, server); done {
			return s, err
		}
	}
	return socket{}, fmt.Errorf("netlink answer: %w", os.ErrDeadlineExceeded)
}

// retry repeats call while signals interrupt it: with a socket time-out set
// the kernel does not restart it by itself (signal(7)).
func retry(deadline time.Time, call func() error) error {
	for {
		err := call()
		if err != unix.EINTR || !time.Now().Before(deadline) {
			return err
		}
	}
}

func (n *netlink) drop() {
	if n.fd >= 0 {
		unix.Close(n.fd)
	}
	n.fd = -1
}

func (n *netlink) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.drop()
	return nil
}

func openDiag() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return -1, err
	}
	tv := unix.NsecToTimeval(askTimeout.Nanoseconds())
	for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, opt, &tv); err != nil {
			unix.Close(fd)
			return -1, err
		}
	}
	return fd, nil
}

// procOwner looks the socket up in the tables under dir. An IPv4 connection
// stands in tcp6 when the client's socket is an IPv6 one.
func procOwner(dir string, client, server netip.AddrPort) (socket, error) {
	files := []string{"tcp", "tcp6"}
	if client.Addr().Is6() {
		files = files[1:]
	}
	for _, name := range files {
		f, err := os.Open(dir + "/" + name)
		if errors.Is(err, os.ErrNotExist) && name == "tcp6" {
			break // a kernel without IPv6
		}
		if err != nil {
			return socket{}, fmt.Errorf("socket table: %w", err)
		}
		s, err := findInProc(f, client, server)
		f.Close()
		if !errors.Is(err, ErrNotFound) {
			return s, err
		}
	}
	return socket{}, ErrNotFound
}

// isOverflow reports whether uid stands for "some user without a number here".
// In a user namespace the kernel shows every user it does not map under one
// number, so that number names nobody there, even if it is our own.
func isOverflow(uid uint32) bool {
	overflow, limited := overflowUID()
	return limited && uid == overflow
}

var overflowUID = sync.OnceValues(func() (uid uint32, limited bool) {
	uid = 65534
	if b, err := os.ReadFile("/proc/sys/kernel/overflowuid"); err == nil {
		if id, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 32); err == nil {
			uid = uint32(id)
		}
	}
	b, err := os.ReadFile("/proc/self/uid_map")
	// All users at their own numbers: the initial namespace, or one like it.
	whole := err == nil && strings.Join(strings.Fields(string(b)), " ") == "0 0 4294967295"
	return uid, !whole
})
