//go:build linux

package peer

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of one search and of what is remembered.
const (
	maxSteps  = 20_000 // links read and processes looked at, a microsecond or so each
	askSteps  = 50     // of them until the next look whether the connection is still there
	turnSteps = 32     // of them until somebody else may have the processor
	maxSeen   = 4096   // sockets
	maxRecent = 8      // processes
	maxNear   = 8      // descriptors

	// freshFor is how long a socket counts as held by the process it was seen
	// at, and a process keeps its name. The number of a socket is not given
	// again for billions of sockets, that of a process is.
	freshFor = time.Second
)

// finder finds the process that holds a socket.
type finder struct {
	proc  string // /proc
	users []User
	now   func() time.Time

	mu     sync.Mutex // guards what follows; one search at a time
	seen   map[uint64]*process
	recent []*process // found before, latest first, each once
	near   []place    // where, latest first: programs use the same descriptors again
	budget budget
	used   time.Duration // the thread's time when this turn began
	steps  int           // left in this search
	link   [64]byte
}

// A process is one that was looked at.
type process struct {
	pid   int
	at    time.Time
	name  string // "" until somebody asks
	named time.Time
}

// A place names a descriptor; both parts are folders below /proc.
type place struct {
	pid int
	fd  string
}

func (p place) is(other place) bool { return p == other }

func newFinder(users []User) *finder {
	return &finder{proc: "/proc", users: users, now: time.Now, seen: map[uint64]*process{}}
}

// process returns the process at the other end of a connection, which is
// searched for only if alive says that the connection has not ended.
func (f *finder) process(o owner, alive func() bool) (pid int, program string, err error) {
	return f.find(o.key, alive)
}

// find returns the process that has the socket: the one it was seen at on the
// way to another socket, or one that has it where sockets were found lately, or
// one of the processes found lately, or any, newest first, because a program
// that has just started is the one that connects.
func (f *finder) find(inode uint64, alive func() bool) (pid int, program string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	runtime.LockOSThread() // whose time is counted
	defer runtime.UnlockOSThread()
	f.used = threadTime()
	began := f.now()
	p := f.seen[inode]
	if p == nil || began.Sub(p.at) > freshFor {
		if !f.budget.allows(began) {
			if !alive() {
				return 0, "", ErrNotFound // and never will be found
			}
			return 0, "", ErrBusy
		}
		delete(f.seen, inode)
		if p = f.nearby(inode, began); p == nil && alive() {
			p = f.search(inode, began, alive)
		}
		f.budget.spend(threadTime() - f.used)
	}
	if p == nil {
		return 0, "", ErrNotFound
	}
	if err := f.name(p, began); err != nil {
		return 0, "", errors.Join(ErrNotFound, err)
	}
	f.recent = toFront(f.recent, p, maxRecent, func(r *process) bool { return r.pid == p.pid })
	return p.pid, p.name, nil
}

// yield lets those go first who wait for this processor: reading many links is
// nothing but system calls too short for the scheduler to step in.
func (f *finder) yield() {
	f.budget.spend(threadTime() - f.used)
	runtime.UnlockOSThread()
	runtime.Gosched()
	runtime.LockOSThread()
	f.used = threadTime()
}

// name sees to it that p has a name, which it may have had a moment ago.
func (f *finder) name(p *process, now time.Time) (err error) {
	for _, r := range f.recent {
		if r.pid == p.pid && p.name == "" && now.Sub(r.named) <= freshFor {
			p.name, p.named = r.name, r.named
		}
	}
	if p.name == "" {
		p.named = now
		p.name, err = comm(f.proc + "/" + strconv.Itoa(p.pid))
	}
	return err
}

// toFront puts e before the others of list, in place of the one like it, or of
// the last if there are more than most.
func toFront[E any](list []E, e E, most int, like func(E) bool) []E {
	i := slices.IndexFunc(list, like)
	switch {
	case i >= 0:
	case len(list) < most:
		list = append(list, e)
		i = len(list) - 1
	default:
		i = len(list) - 1
	}
	copy(list[1:i+1], list[:i])
	list[0] = e
	return list
}

// nearby looks where sockets were found lately.
func (f *finder) nearby(inode uint64, now time.Time) *process {
	for _, at := range f.near {
		base := f.proc + "/" + strconv.Itoa(at.pid)
		if f.inode(unix.AT_FDCWD, base+"/fd/"+at.fd) == inode && f.mayName(base) {
			f.near = toFront(f.near, at, maxNear, at.is)
			return &process{pid: at.pid, at: now}
		}
	}
	return nil
}

// search looks at processes until one has the socket, or alive says that none
// has it any more.
func (f *finder) search(inode uint64, now time.Time, alive func() bool) *process {
	f.steps = maxSteps
	next := f.steps - askSteps
	missed := func(pid int) (p *process, more bool) {
		if p = f.has(pid, inode, now); p != nil || f.steps <= 0 {
			return p, false
		}
		if f.steps <= next {
			next = f.steps - askSteps
			return nil, alive()
		}
		return nil, true
	}
	for _, r := range f.recent {
		if p, more := missed(r.pid); !more {
			return p
		}
	}
	for _, pid := range f.processes() {
		if slices.ContainsFunc(f.recent, func(r *process) bool { return r.pid == pid }) {
			continue
		}
		if p, more := missed(pid); !more {
			return p
		}
	}
	return nil
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

// mayName reports whether the process below base is of a user that is looked
// at.
func (f *finder) mayName(base string) bool {
	var st unix.Stat_t
	return unix.Stat(base, &st) == nil && slices.Contains(f.users, uidUser(st.Uid))
}

// has returns the process if it has the socket, and remembers all it has: a
// browser opens several connections at once.
func (f *finder) has(pid int, inode uint64, now time.Time) (found *process) {
	f.steps--
	base := f.proc + "/" + strconv.Itoa(pid)
	if !f.mayName(base) {
		return nil
	}
	dir, err := os.Open(base + "/fd")
	if err != nil {
		return nil
	}
	defer dir.Close()
	p := &process{pid: pid, at: now}
	for {
		fds, err := dir.Readdirnames(max(1, min(f.steps, turnSteps)))
		for _, fd := range fds {
			f.steps--
			n := f.inode(int(dir.Fd()), fd)
			if n == 0 {
				continue
			}
			if len(f.seen) >= maxSeen {
				clear(f.seen)
			}
			f.seen[n] = p
			if n == inode {
				found = p
				at := place{pid, fd}
				f.near = toFront(f.near, at, maxNear, at.is)
			}
		}
		if err != nil || f.steps <= 0 {
			return found
		}
		f.yield()
	}
}

// inode returns the socket that a link in the folder dir leads to, 0 if there
// is none (any more).
func (f *finder) inode(dir int, name string) (inode uint64) {
	size, err := unix.Readlinkat(dir, name, f.link[:])
	if err != nil {
		return 0
	}
	digits, ok := bytes.CutPrefix(f.link[:size], []byte("socket:["))
	if digits, closed := bytes.CutSuffix(digits, []byte("]")); ok && closed && len(digits) < 20 {
		for _, d := range digits {
			if d < '0' || d > '9' {
				return 0
			}
			inode = 10*inode + uint64(d-'0')
		}
	}
	return inode
}

// comm returns the short name of the process below dir.
func comm(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, "comm"))
	return strings.TrimSpace(string(b)), err
}

// threadTime is the processor time that the current thread has had: on a busy
// machine a search takes longer, but costs no more.
func threadTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// budget lets searches have a small share of one processor in the long run, and
// more for a moment. The zero budget is full.
type budget struct {
	left time.Duration
	at   time.Time
}

const (
	share   = 50 // one part in so many
	reserve = 50 * time.Millisecond
)

func (b *budget) allows(now time.Time) bool {
	if b.at.IsZero() {
		b.left = reserve
	} else {
		b.left = min(b.left+now.Sub(b.at)/share, reserve)
	}
	b.at = now
	return b.left > 0
}

func (b *budget) spend(d time.Duration) { b.left -= d }
