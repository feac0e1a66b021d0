//go:build linux

package peer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeProc is a /proc with processes of our own and the sockets they have.
type fakeProc struct {
	*finder
	t *testing.T
}

// alive stands for a connection that has not ended.
func alive() bool { return true }

// later lets time pass.
func (p *fakeProc) later(d time.Duration) {
	now := p.now().Add(d)
	p.now = func() time.Time { return now }
}

func newFakeProc(t *testing.T) *fakeProc {
	f := newFinder([]User{uidUser(uint32(os.Geteuid()))})
	f.proc = t.TempDir()
	for _, name := range []string{"self", "net", "1x", "-5"} {
		if err := os.Mkdir(filepath.Join(f.proc, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return &fakeProc{f, t}
}

// process makes a process whose descriptors 3 and on are these links.
func (p *fakeProc) process(pid int, links ...string) {
	p.t.Helper()
	fds := filepath.Join(p.proc, strconv.Itoa(pid), "fd")
	if err := os.MkdirAll(fds, 0o700); err != nil {
		p.t.Fatal(err)
	}
	for i, link := range links {
		name := filepath.Join(fds, strconv.Itoa(3+i))
		os.Remove(name)
		if err := os.Symlink(link, name); err != nil {
			p.t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(fds, "../comm"), fmt.Appendf(nil, "prog%d\n", pid), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// want finds a socket at pid, 0 for nowhere, with so many steps of searching.
func (p *fakeProc) want(inode uint64, pid, steps int) {
	p.t.Helper()
	p.steps = maxSteps
	got, program, err := p.find(inode, alive)
	name := fmt.Sprint("prog", pid)
	if pid == 0 {
		name = ""
	}
	if got != pid || program != name || (pid == 0) != errors.Is(err, ErrNotFound) || (pid != 0) != (err == nil) {
		p.t.Errorf("socket %d: got %d %q, %v, want %d", inode, got, program, err, pid)
	}
	if n := maxSteps - p.steps; n != steps {
		p.t.Errorf("socket %d: got %d steps, want %d", inode, n, steps)
	}
}

func TestFind(t *testing.T) {
	p := newFakeProc(t)
	p.process(100, "/dev/null", "socket:[11]", "socket:[12]")
	p.process(200, "pipe:[13]", "socket:[x]", "socket:[]", "anon_inode:[eventpoll]", "socket:[21]")
	p.process(300)
	p.want(11, 100, 3+5+3) // newest first: 300, 200 with five links, 100 with three
	p.want(12, 100, 0)     // seen on the way
	p.want(21, 200, 0)     // and that, too
	p.want(13, 0, 3+5+3+1) // a pipe; our own process is asked last, and is not there

	p.process(400, "socket:[41]")
	p.want(41, 400, 1+5+1+3+1+1) // 200 and 100 were found lately, so they come first, then 400
	p.process(400, "socket:[42]")
	p.want(42, 400, 0) // where 41 was
	p.want(41, 400, 0) // closed since, but it was seen
	p.later(freshFor + 1)
	p.want(41, 0, 4+1+5+3+1) // too long ago; now all four and ourselves
	if err := os.RemoveAll(filepath.Join(p.proc, "400")); err != nil {
		t.Fatal(err)
	}
	p.want(42, 0, 0) // seen a moment ago, but the process has gone
	p.later(freshFor + 1)
	p.want(42, 0, 4+5+3+1)
}

// A name is asked for anew after a while, and not for each socket.
func TestFindKeepsNames(t *testing.T) {
	p := newFakeProc(t)
	p.process(100, "socket:[11]", "socket:[12]")
	p.want(11, 100, 1+2)
	comm := filepath.Join(p.proc, "100", "comm")
	if err := os.WriteFile(comm, []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.want(12, 100, 0)
	p.process(100, "socket:[13]")
	if err := os.WriteFile(comm, []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.want(13, 100, 0) // where 11 was, under the old name
	p.later(freshFor + 1)
	if pid, name, err := p.find(13, alive); pid != 100 || name != "other" || err != nil {
		t.Errorf("later: got %d %q, %v, want its new name", pid, name, err)
	}
}

// A connection that has ended is not searched for.
func TestFindOfEnded(t *testing.T) {
	p := newFakeProc(t)
	p.process(100, "socket:[11]")
	p.steps = maxSteps
	if pid, _, err := p.find(11, func() bool { return false }); pid != 0 || !errors.Is(err, ErrNotFound) || p.steps != maxSteps {
		t.Errorf("got %d, %v after %d steps", pid, err, maxSteps-p.steps)
	}
	// Nor to the end, when it ends meanwhile.
	p.process(200, slices.Repeat([]string{"/dev/null"}, askSteps)...)
	asked := 0
	if pid, _, err := p.find(11, func() bool { asked++; return asked == 1 }); pid != 0 || !errors.Is(err, ErrNotFound) || maxSteps-p.steps != 1+askSteps {
		t.Errorf("ends meanwhile: got %d, %v after %d steps", pid, err, maxSteps-p.steps)
	}
}

// The process has gone between its descriptors and its name.
func TestFindWithoutName(t *testing.T) {
	p := newFakeProc(t)
	p.process(100, "socket:[11]")
	if err := os.Remove(filepath.Join(p.proc, "100", "comm")); err != nil {
		t.Fatal(err)
	}
	p.want(11, 0, 1+1)
}

func TestFindLooksAtAllowedUsersOnly(t *testing.T) {
	p := newFakeProc(t)
	p.process(100, "socket:[11]")
	p.users = []User{uidUser(uint32(os.Geteuid()) + 1)}
	p.want(11, 0, 1+1)
}

func TestFindIsBounded(t *testing.T) {
	p := newFakeProc(t)
	var links []string
	for i := range maxSeen + 10 {
		links = append(links, fmt.Sprintf("socket:[%d]", 1000+i))
	}
	p.process(100, links...)
	for pid := range 5 {
		dir := filepath.Join(p.proc, strconv.Itoa(101+pid))
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Symlink("../100/fd", filepath.Join(dir, "fd"))); err != nil {
			t.Fatal(err)
		}
	}
	p.process(50, "socket:[11]")
	p.want(11, 0, maxSteps) // 50 would have been the last
	if len(p.seen) > maxSeen {
		t.Errorf("%d sockets are remembered", len(p.seen))
	}
	p.budget = budget{left: -time.Hour, at: time.Now()}
	p.steps = maxSteps
	if _, _, err := p.find(11, alive); err != ErrBusy || p.steps != maxSteps {
		t.Errorf("without budget: got %v after %d steps", err, maxSteps-p.steps)
	}
	if _, _, err := p.find(11, func() bool { return false }); err != ErrNotFound {
		t.Errorf("ended, without budget: got %v, want no second question", err)
	}
	for range 2 * maxRecent {
		p.budget = budget{}
		pid := 1000 + len(p.recent)
		p.process(pid, fmt.Sprintf("socket:[%d]", 9*pid))
		p.find(uint64(9*pid), alive)
	}
	if len(p.recent) != maxRecent {
		t.Errorf("%d processes count as recent, want %d", len(p.recent), maxRecent)
	}
}

// A long search lets others have the processor, if it is the only one.
func TestFindYields(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := newFakeProc(t)
	p.process(100, slices.Repeat([]string{"/dev/null"}, 40*turnSteps)...)
	var turns atomic.Int64
	var done atomic.Bool
	var others sync.WaitGroup
	others.Go(func() {
		for !done.Load() {
			turns.Add(1)
			runtime.Gosched()
		}
	})
	before := turns.Load()
	p.find(11, alive)
	got := turns.Load() - before
	done.Store(true)
	others.Wait()
	if got < 20 {
		t.Errorf("others had %d turns while %d links were read", got, 40*turnSteps)
	}
}

func TestBudget(t *testing.T) {
	var b budget
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, step := range []struct {
		after, spend time.Duration
		want         bool
	}{
		{0, reserve - time.Millisecond, true}, // full at first
		{0, 3 * time.Millisecond, true},       // a millisecond is left; two too many are spent
		{0, 0, false},
		{99 * time.Millisecond, 0, false},
		{2 * time.Millisecond, 0, true}, // a fiftieth of the time is enough now
		{time.Hour, reserve, true},      // but not saved up without end
		{0, 0, false},
	} {
		now = now.Add(step.after)
		if got := b.allows(now); got != step.want {
			t.Errorf("step %d: got %v, want %v", i, got, step.want)
		}
		b.spend(step.spend)
	}
}
