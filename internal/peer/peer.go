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
// On Windows the answer describes the process that holds the peer's end now.
// On systems other than Linux, Windows and macOS every look-up returns an error
// that wraps [errors.ErrUnsupported], and everyone is denied.
package peer

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// ErrNotFound reports that no process of this machine holds the peer's end of
// the connection: it was closed, or it is not on this machine or in this
// network namespace.
var ErrNotFound = errors.New("no process holds the other end of this connection")

// A User is an account of this machine: a decimal user id, on Windows a SID
// ("S-1-5-..."). The zero User is nobody. Users are equal when their texts are.
type User string

// ParseUser resolves the name of a user to that User. A decimal user id, on
// Windows a SID, stands for itself; a name made of digits is read as an id. On
// Windows a name may be DOMAIN\name or name@domain; groups are not users.
func ParseUser(name string) (User, error) { return parseUser(name) }

// Config holds what a Checker needs.
type Config struct {
	Allow []User       // allowed beside this process's own effective user
	Log   *slog.Logger // nil discards
}

// Checker decides whether the program behind a loopback TCP connection may be
// served. It is safe for concurrent use.
type Checker struct {
	users  []User
	table  table
	finder *finder
}

// An owner is what the system tells of the peer's end of a connection: its
// user, and what to find its process by: on Linux the socket's inode, which
// names it in /proc/PID/fd, elsewhere the process id.
type owner struct {
	user User
	key  uint64
}

// New checks c. Close the Checker when done.
func New(c Config) (*Checker, error) {
	for _, u := range c.Allow {
		if err := checkUser(u); err != nil {
			return nil, fmt.Errorf("allowed user: %w", err)
		}
	}
	own, err := ownUser()
	if err != nil {
		return nil, fmt.Errorf("own user: %w", err)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	users := append(slices.Clone(c.Allow), own)
	return &Checker{users: users, table: newTable(c.Log), finder: newFinder(users)}, nil
}

// Lookup returns the user of the socket at remote which is connected to local.
// The arguments are what an accepted connection's LocalAddr and RemoteAddr
// return; IPv4 may be given in its mapped IPv6 form. The error is
// [ErrNotFound] when there is no such live socket. On Linux a look-up takes
// microseconds, and is bounded to about a second at worst; elsewhere the whole
// table of the system's connections is read.
func (c *Checker) Lookup(local, remote netip.AddrPort) (User, error) {
	o, err := c.lookup(local, remote)
	return o.user, err
}

func (c *Checker) lookup(local, remote netip.AddrPort) (owner, error) {
	client := netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	server := netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	if !client.IsValid() || !server.IsValid() || client.Addr().Is4() != server.Addr().Is4() {
		return owner{}, fmt.Errorf("%v to %v is not a TCP connection", remote, local)
	}
	return c.table.owner(client, server)
}

// Identity says who is at the other end of a connection.
type Identity struct {
	UID     uint32 // 0 on Windows, where users have no number
	PID     int    // 0: not found
	Program string // the process's own short name, as ps -o comm shows it, on Windows its file's; any bytes
}

// Identify finds the process at the other end of a connection, whose ends are
// those of [Checker.Lookup]. It is for showing to people, not for deciding: a
// process can call itself anything, and of several that share the socket one
// is named. On Linux only processes of this process's user and of the allowed
// users are looked at, and the work over time is bounded, so that a busy
// machine may get no answer: then PID is 0 and the error wraps [ErrNotFound].
//
// It can take milliseconds, so it has no place on the path of a request.
func (c *Checker) Identify(local, remote netip.AddrPort) (Identity, error) {
	o, err := c.lookup(local, remote)
	if err != nil {
		return Identity{}, err
	}
	id := Identity{UID: o.user.number()}
	id.PID, id.Program, err = c.finder.process(o)
	if err != nil {
		return id, fmt.Errorf("program behind %v: %w", remote, err)
	}
	return id, nil
}

// Allowed returns nil only if the socket at remote, connected to local,
// belongs to this process's effective user or to an allowed one. Everything
// else is a [*DeniedError], a failure to find out included.
func (c *Checker) Allowed(local, remote netip.AddrPort) error {
	user, err := c.Lookup(local, remote)
	if err != nil {
		return &DeniedError{Remote: remote, Err: err}
	}
	if !slices.Contains(c.users, user) {
		return &DeniedError{Remote: remote, User: user}
	}
	return nil
}

// Owner names the program that listens on addr, or on every address with that
// port. It sees other users' programs only as far as the system shows them.
func Owner(addr netip.AddrPort) (pid int, program string, err error) {
	pid, program, err = listener(addr)
	if err != nil {
		return 0, "", fmt.Errorf("listener on %v: %w", addr, err)
	}
	return pid, program, nil
}

// covers reports whether a socket bound to local is reached at addr.
func covers(local, addr netip.AddrPort) bool {
	return local.Port() == addr.Port() && (local.Addr() == addr.Addr().Unmap() || local.Addr().IsUnspecified())
}

// Close frees what the look-ups keep open. Look-ups after it fail.
func (c *Checker) Close() error { return c.table.close() }

// DeniedError reports a peer that may not be served.
type DeniedError struct {
	Remote netip.AddrPort
	User   User // "": the user could not be found out, Err says why
	Err    error
}

func (e *DeniedError) Error() string {
	if e.User == "" {
		return fmt.Sprintf("the user behind %v is not known: %v", e.Remote, e.Err)
	}
	return fmt.Sprintf("the program at %v runs as user %s, who is not allowed here", e.Remote, e.User)
}

func (e *DeniedError) Unwrap() error { return e.Err }

// UserOf returns the user of the process at the other end of c, a Unix socket
// or a Windows named pipe: its effective user when it called connect or listen,
// on Windows when it was started. On Linux and macOS it answers also after the
// peer has gone. Where the system cannot tell, the error wraps
// [errors.ErrUnsupported].
func UserOf(c net.Conn) (User, error) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return "", fmt.Errorf("peer of a %T: %w", c, errors.ErrUnsupported)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return "", fmt.Errorf("peer of local connection: %w", err)
	}
	var user User
	var userErr error
	err = raw.Control(func(fd uintptr) { user, userErr = userOf(fd) })
	if err := errors.Join(err, userErr); err != nil {
		return "", fmt.Errorf("peer of local connection: %w", err)
	}
	return user, nil
}

// SameUser returns nil only if [UserOf] c is this process's effective user.
func SameUser(c net.Conn) error {
	own, err := ownUser()
	if err != nil {
		return fmt.Errorf("own user: %w", err)
	}
	user, err := UserOf(c)
	if err != nil {
		return err
	}
	if user != own {
		return fmt.Errorf("the other end belongs to user %s", user)
	}
	return nil
}
