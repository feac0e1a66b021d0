//go:build linux

package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of one search and of what is remembered.
const (
	maxSteps  = 20_000 // links read and processes looked at, a microsecond or two each
	maxSeen   = 4096   // sockets
	maxRecent = 8      // processes
)

var errBusy = fmt.Errorf("searched too much lately: %w", ErrNotFound)

// finder finds the process that holds a socket.
type finder struct {
	proc  string // /proc
	users []User

	mu     sync.Mutex // guards what follows; one search at a time
	seen   map[uint64]place
	recent []int // processes found before, latest first
	budget budget
	steps  int // left in this search
}

// A place is where a socket was seen; both parts name folders below /proc.
type place struct {
	pid int
	fd  string
}

func newFinder(users []User) *finder {
	return &finder{proc: "/proc", users: users, seen: map[uint64]place{}}
}

// process returns the process at the other end of a connection.
func (f *finder) process(o owner) (pid int, program string, err error) { return f.find(o.key) }

// find returns the process that has the socket: first where it was seen on the
// way to another one, then in the processes found lately, then in all, newest
// first, because a program that has just started is the one that connects.
func (f *finder) find(inode uint64) (pid int, program string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.seen[inode]
	if ok = ok && f.inode(p) == inode; !ok {
		began := time.Now()
		if !f.budget.allows(began) {
			return 0, "", errBusy
		}
		p.pid, ok = f.search(inode)
		f.budget.spend(time.Since(began))
	}
	if !ok {
		return 0, "", ErrNotFound
	}
	f.recent = slices.DeleteFunc(f.recent, func(r int) bool { return r == p.pid })
	f.recent = slices.Insert(f.recent[:min(len(f.recent), maxRecent-1)], 0, p.pid)
	if program, err = comm(filepath.Join(f.proc, strconv.Itoa(p.pid))); err != nil {
		return 0, "", errors.Join(ErrNotFound, err)
	}
	return p.pid, program, nil
}

func (f *finder) search(inode uint64) (pid int, ok bool) {
	f.steps = maxSteps
	for _, pid := range f.recent {
		if f.has(pid, inode) {
			return pid, true
		}
	}
	all := f.processes()
	for _, pid := range all {
		if f.steps <= 0 {
			break
		}
		if !slices.Contains(f.recent, pid) && f.has(pid, inode) {
			return pid, true
		}
	}
	return 0, false
}

// processes returns all process ids, newest first, ourselves last: nobody else
// has as many sockets, and they are hardly ever the ones looked for.
func (f *finder) processes() (all []int) {
	dir, err := os.Open(f.proc)
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(maxSteps) // without an order or a system call each
	own := os.Getpid()
	for _, name := range names {
		if pid, err := strconv.ParseUint(name, 10, 31); err == nil && int(pid) != own {
			all = append(all, int(pid))
		}
	}
	slices.SortFunc(all, func(a, b int) int { return b - a })
	return append(all, own)
}

// has reports whether the process has the socket, and remembers all it has: a
// browser opens several connections at once.
func (f *finder) has(pid int, inode uint64) (found bool) {
	f.steps--
	base := filepath.Join(f.proc, strconv.Itoa(pid))
	var st unix.Stat_t
	if unix.Stat(base, &st) != nil || !slices.Contains(f.users, uidUser(st.Uid)) {
		return false
	}
	dir, err := os.Open(base + "/fd")
	if err != nil {
		return false
	}
	defer dir.Close()
	fds, _ := dir.Readdirnames(max(f.steps, 1))
	for _, fd := range fds {
		f.steps--
		p := place{pid, fd}
		n := f.inode(p)
		if n == 0 {
			continue
		}
		if len(f.seen) >= maxSeen {
			clear(f.seen)
		}
		f.seen[n] = p
		found = found || n == inode
	}
	return found
}

// inode returns the socket at p, 0 if there is none (any more).
func (f *finder) inode(p place) uint64 {
	link, err := os.Readlink(f.proc + "/" + strconv.Itoa(p.pid) + "/fd/" + p.fd)
	digits, ok := strings.CutPrefix(link, "socket:[")
	if err != nil || !ok {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// comm returns the short name of the process below dir.
func comm(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, "comm"))
	return strings.TrimSpace(string(b)), err
}

// budget lets searches have a tenth of one processor in the long run, and more
// for a moment. The zero budget is full.
type budget struct {
	left time.Duration
	at   time.Time
}

const reserve = 200 * time.Millisecond

func (b *budget) allows(now time.Time) bool {
	if b.at.IsZero() {
		b.left = reserve
	} else {
		b.left = min(b.left+now.Sub(b.at)/10, reserve)
	}
	b.at = now
	return b.left > 0
}

func (b *budget) spend(d time.Duration) { b.left -= d }
