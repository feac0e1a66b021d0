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
	"sync"
	"syscall"
)

// ErrNotFound reports that no process of this machine holds the peer's end of
// the connection: it was closed, or it is not on this machine or in this
// network namespace.
var ErrNotFound = errors.New("no process holds the other end of this connection")

// ErrBusy reports that finding programs has taken its share of the processor
// for now. Somewhat later the same question may be answered, together with
// those that have come up meanwhile. It wraps [ErrNotFound].
var ErrBusy = fmt.Errorf("searched too much lately: %w", ErrNotFound)

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

	mu    sync.Mutex // guards what follows
	notes [maxNotes]note
}

// maxNotes is how many connections may lie between the check of one and its
// naming, a power of two.
const maxNotes = 256

// A note is what the check of one connection found out, kept so that naming
// the program behind it need not ask again. It never answers a check: the port
// of a connection that has ended may belong to another user a moment later, so
// each check asks the system, whatever was found before. At worst a note names
// the wrong program on somebody's screen.
type note struct {
	client, server netip.AddrPort
	owner          owner
}

// An owner is what the system tells of the peer's end of a connection: its
// user, and what to find its process by: on Linux the socket's inode, which
// names it in /proc/PID/fd, elsewhere the process id.
type owner struct {
	user User
	key  uint64
}

// New checks c. What the checks need open they get now, as far as it can be
// had, so that they go on when the process has run out of descriptors. Close
// the Checker when done.
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
	checker := &Checker{users: users, table: newTable(c.Log), finder: newFinder(users)}
	checker.table.prepare()
	return checker, nil
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
	client, server := unmap(remote), unmap(local)
	if !client.IsValid() || !server.IsValid() || client.Addr().Is4() != server.Addr().Is4() {
		return owner{}, fmt.Errorf("%v to %v is not a TCP connection", remote, local)
	}
	return c.table.owner(client, server)
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// noteDown keeps o for the naming that follows a check.
func (c *Checker) noteDown(local, remote netip.AddrPort, o owner) {
	n := note{unmap(remote), unmap(local), o}
	c.mu.Lock()
	c.notes[remote.Port()%maxNotes] = n
	c.mu.Unlock()
}

// takeNote returns what the last check of the connection found out, once.
func (c *Checker) takeNote(local, remote netip.AddrPort) (o owner, ok bool) {
	client, server := unmap(remote), unmap(local)
	c.mu.Lock()
	defer c.mu.Unlock()
	n := &c.notes[remote.Port()%maxNotes]
	if n.client != client || n.server != server || !client.IsValid() {
		return owner{}, false
	}
	o = n.owner
	*n = note{}
	return o, true
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
// users are looked at, and the work over time is bounded: where the share is
// used up, PID is 0 and the error is [ErrBusy], so that who waits gets the
// answers for many connections out of one search. The connection may have ended
// since its check if it was seen while it lasted.
//
// It can take milliseconds, so it has no place on the path of a request.
func (c *Checker) Identify(local, remote netip.AddrPort) (Identity, error) {
	o, noted := c.takeNote(local, remote)
	if !noted {
		var err error
		if o, err = c.lookup(local, remote); err != nil {
			return Identity{}, err
		}
	}
	var err error
	id := Identity{UID: o.user.number()}
	id.PID, id.Program, err = c.finder.process(o, func() bool {
		if !noted {
			return true // just looked up
		}
		now, err := c.lookup(local, remote)
		return err == nil && now == o
	})
	if errors.Is(err, ErrBusy) {
		c.noteDown(local, remote, o)
	}
	if err != nil {
		return id, fmt.Errorf("program behind %v: %w", remote, err)
	}
	return id, nil
}

// Allowed returns nil only if the socket at remote, connected to local,
// belongs to this process's effective user or to an allowed one. Everything
// else is a [*DeniedError], a failure to find out included.
func (c *Checker) Allowed(local, remote netip.AddrPort) error {
	o, err := c.lookup(local, remote)
	if err != nil {
		return &DeniedError{Remote: remote, Err: err}
	}
	if !slices.Contains(c.users, o.user) {
		return &DeniedError{Remote: remote, User: o.user}
	}
	c.noteDown(local, remote, o)
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
