// Package peer tells which user of this machine is at the other end of a
// local connection: a loopback TCP connection or a Unix socket. The proxy and
// the control channel use it so that a user's ticket serves that user only,
// also on a machine shared by many.
//
// For people it also names the program behind a connection; nothing is decided
// by that.
//
// It fails closed: whoever cannot be named is denied. The answer describes the
// user who created the peer's socket. A socket handed to another process, or a
// forwarder such as ssh -L, shows its creator.
//
// TCP is answered on Linux only, so far; elsewhere every look-up returns an
// error that wraps [errors.ErrUnsupported] and everyone is denied. Unix
// sockets are answered on Linux and macOS.
package peer

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"
)

// ErrNotFound reports that no process of this machine holds the peer's end of
// the connection: it was closed, or it is not on this machine or in this
// network namespace.
var ErrNotFound = errors.New("no process holds the other end of this connection")

// errOverflow: see overflowUID.
var errOverflow = errors.New("the peer's user has no number in this user namespace")

// invalidUID is (uid_t)-1, which setreuid and friends read as "no change".
const invalidUID = math.MaxUint32

// Config holds what a Checker needs.
type Config struct {
	AllowUIDs []uint32     // allowed beside this process's own effective user
	Log       *slog.Logger // nil discards
}

// Checker decides whether the program behind a loopback TCP connection may be
// served. It is safe for concurrent use.
type Checker struct {
	uids   []uint32
	table  table
	finder *finder
}

// A socket is what the system knows about the peer's end of a connection.
type socket struct {
	uid   uint32
	inode uint64 // names it in /proc/PID/fd
}

// New checks c and does no I/O. Close the Checker when done.
func New(c Config) (*Checker, error) {
	if slices.Contains(c.AllowUIDs, invalidUID) {
		return nil, fmt.Errorf("allowed user id %d is not a user", uint32(invalidUID))
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	uids := slices.Clone(c.AllowUIDs)
	if own := os.Geteuid(); own >= 0 { // negative: a system without user ids
		uids = append(uids, uint32(own))
	}
	return &Checker{uids: uids, table: newTable(c.Log), finder: newFinder(uids)}, nil
}

// Lookup returns the user id that created the socket at remote which is
// connected to local. The arguments are what an accepted connection's
// LocalAddr and RemoteAddr return; IPv4 may be given in its mapped IPv6 form.
// The error is [ErrNotFound] when there is no such live socket. A look-up
// takes microseconds, and is bounded to about a second at worst.
func (c *Checker) Lookup(local, remote netip.AddrPort) (uid uint32, err error) {
	s, err := c.lookup(local, remote)
	return s.uid, err
}

func (c *Checker) lookup(local, remote netip.AddrPort) (socket, error) {
	client := netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	server := netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	if !client.IsValid() || !server.IsValid() || client.Addr().Is4() != server.Addr().Is4() {
		return socket{}, fmt.Errorf("%v to %v is not a TCP connection", remote, local)
	}
	return c.table.owner(client, server)
}

// Identity says who is at the other end of a connection.
type Identity struct {
	UID     uint32
	PID     int    // 0: not found
	Program string // the process's own short name, as ps -o comm shows it; any bytes
}

// Identify finds the process at the other end of a connection, whose ends are
// those of [Checker.Lookup]. It is for showing to people, not for deciding: a
// process can call itself anything, and of several that share the socket one
// is named. Only processes of this process's user and of the allowed users are
// looked at, and the work over time is bounded, so that a busy machine may get
// no answer: then PID is 0 and the error wraps [ErrNotFound]. Outside Linux it
// wraps [errors.ErrUnsupported].
//
// It can take milliseconds, so it has no place on the path of a request.
func (c *Checker) Identify(local, remote netip.AddrPort) (Identity, error) {
	s, err := c.lookup(local, remote)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{UID: s.uid}
	id.PID, id.Program, err = c.finder.find(s.inode)
	if err != nil {
		return id, fmt.Errorf("program behind %v: %w", remote, err)
	}
	return id, nil
}

// Allowed returns nil only if the socket at remote, connected to local,
// belongs to this process's effective user or to an allowed one. Everything
// else is a [*DeniedError], a failure to find out included.
func (c *Checker) Allowed(local, remote netip.AddrPort) error {
	uid, err := c.Lookup(local, remote)
	if err != nil {
		return &DeniedError{Remote: remote, Err: err}
	}
	if !slices.Contains(c.uids, uid) {
		return &DeniedError{Remote: remote, UID: uid, Known: true}
	}
	return nil
}

// Close frees what the look-ups keep open. Look-ups after it fail.
func (c *Checker) Close() error { return c.table.close() }

// DeniedError reports a peer that may not be served.
type DeniedError struct {
	Remote netip.AddrPort
	UID    uint32 // the peer's user, if Known
	Known  bool   // false: the user could not be found out, Err says why
	Err    error
}

func (e *DeniedError) Error() string {
	if !e.Known {
		return fmt.Sprintf("the user behind %v is not known: %v", e.Remote, e.Err)
	}
	return fmt.Sprintf("the program at %v runs as user %d, who is not allowed here", e.Remote, e.UID)
}

func (e *DeniedError) Unwrap() error { return e.Err }

// UnixPeer returns the effective user id of the process at the other end of c,
// as it was when that process called connect or listen. It answers also after
// the peer has gone. Where the system cannot tell, the error wraps
// [errors.ErrUnsupported].
func UnixPeer(c *net.UnixConn) (uid uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("peer of unix socket: %w", err)
	}
	var credErr error
	err = raw.Control(func(fd uintptr) { uid, credErr = unixPeer(int(fd)) })
	if err := errors.Join(err, credErr); err != nil {
		return 0, fmt.Errorf("peer of unix socket: %w", err)
	}
	return uid, nil
}

// ParseUser resolves a user name, or a decimal user id, to the user id. A name
// made of digits is read as an id.
func ParseUser(name string) (uint32, error) {
	if id, err := strconv.ParseUint(name, 10, 32); err == nil {
		if id == invalidUID {
			return 0, fmt.Errorf("user id %s is not a user", name)
		}
		return uint32(id), nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, fmt.Errorf("user %q is not known here; a numeric user id works too: %w", name, err)
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("user %q has no numeric id on this system: %w", name, errors.ErrUnsupported)
	}
	return uint32(id), nil
}
