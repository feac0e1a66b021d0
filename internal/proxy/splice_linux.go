//go:build linux

package proxy

import (
	"io"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
)

// fill is called when src may have something. It takes a pipe, or a buffer for
// a few bytes or where there is no pipe to be had, and moves what is there into
// it; false means that nothing is there, and that what was taken has gone back.
func (f *flow) fill(fd uintptr) (done bool) {
	if f.p == nil && f.to != nil && f.bulk {
		f.p = pipes.take()
	}
	if f.p == nil {
		return f.read(fd)
	}
	for {
		// The pipe is empty, so EAGAIN speaks of the connection.
		n, err := syscall.Splice(int(fd), nil, f.p.w, nil, f.atMost(maxSplice), spliceNonblock)
		switch err {
		case nil:
			f.n, f.err = int(n), nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			f.giveBack()
			return false
		case syscall.EINVAL, syscall.ENOSYS, syscall.EPERM:
			// Not between these two, or not on this kernel.
			f.giveBack()
			f.to = nil
			return f.read(fd)
		default:
			f.n, f.err = 0, os.NewSyscallError("splice", err)
		}
		return true
	}
}

// drain moves what is in the pipe to dst; false means that dst takes no more at
// present.
func (f *flow) drain(fd uintptr) (done bool) {
	for f.n > 0 {
		n, err := syscall.Splice(f.p.r, nil, int(fd), nil, f.n, spliceNonblock)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return false
		case err != nil:
			f.err = os.NewSyscallError("splice", err)
			return true
		case n == 0:
			f.err = io.ErrNoProgress
			return true
		default:
			f.n -= int(n)
		}
	}
	return true
}

const (
	spliceNonblock = 2    // SPLICE_F_NONBLOCK; the sockets themselves never block
	setPipeSize    = 1031 // F_SETPIPE_SZ
	maxSplice      = 1 << 20

	// pipeSize is what a pipe is asked to hold. The kernel counts pages here,
	// and counts them against this user's other programs too.
	pipeSize = 512 << 10
	// maxPipes are open at a time; more streams than that, at the same moment,
	// go through buffers. Few are needed: a pipe is taken only for as long as
	// bytes are on their way.
	maxPipes = 32
	// minPipes are opened without looking at how many files are left: connLimit
	// leaves room for them.
	minPipes  = 16
	spareFDs  = 100
	pipesIdle = 5 * time.Second // a pipe nobody needed for so long is closed
)

// pipe is a pipe that nobody waits on.
type pipe struct{ r, w int }

// pipePool keeps the process's pipes. The newest is taken first, so that a
// burst's surplus is closed; nothing is left after a while without traffic.
type pipePool struct {
	mu    sync.Mutex // guards all below
	idle  []*pipe
	open  int // idle or not
	low   int // the fewest that were idle at once since the last sweep
	timer *time.Timer
}

var pipes pipePool

// take returns an empty pipe, or nil when there is none to be had.
func (p *pipePool) take() *pipe {
	p.mu.Lock()
	if last := len(p.idle) - 1; last >= 0 {
		got := p.idle[last]
		p.idle = p.idle[:last]
		p.low = min(p.low, last)
		p.mu.Unlock()
		return got
	}
	if p.open >= maxPipes {
		p.mu.Unlock()
		return nil
	}
	p.open++
	many := p.open > minPipes
	p.mu.Unlock()
	got := newPipe(many)
	if got == nil {
		p.mu.Lock()
		p.open--
		p.mu.Unlock()
	}
	return got
}

// newPipe opens a pipe. careful leaves the last files of the process to
// connections.
func newPipe(careful bool) *pipe {
	var fds [2]int
	if syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK) != nil {
		return nil
	}
	got := &pipe{fds[0], fds[1]}
	if careful {
		// The lowest free number is what a new file gets.
		var lim syscall.Rlimit
		if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) != nil || uint64(got.w)+spareFDs >= lim.Cur {
			got.close()
			return nil
		}
	}
	// A refusal leaves a smaller pipe, which works as well.
	syscall.Syscall(syscall.SYS_FCNTL, uintptr(got.w), setPipeSize, pipeSize)
	return got
}

func (p *pipe) close() {
	syscall.Close(p.r)
	syscall.Close(p.w)
}

// put takes a pipe back; one that is not empty is closed.
func (p *pipePool) put(got *pipe, empty bool) {
	p.mu.Lock()
	if empty {
		p.idle = append(p.idle, got)
		if p.timer == nil {
			p.low = 0
			p.timer = time.AfterFunc(pipesIdle, p.sweep)
		}
	} else {
		p.open--
	}
	p.mu.Unlock()
	if !empty {
		got.close()
	}
}

// sweep closes the pipes that nobody needed since the last time. The timer runs
// only while there are any.
func (p *pipePool) sweep() {
	p.mu.Lock()
	old := p.cut(p.low)
	p.low = len(p.idle)
	if p.timer = nil; p.low > 0 {
		p.timer = time.AfterFunc(pipesIdle, p.sweep)
	}
	p.mu.Unlock()
	for _, o := range old {
		o.close()
	}
}

// shed closes every idle pipe, for a process that is out of files, and reports
// whether there was one.
func (p *pipePool) shed() bool {
	p.mu.Lock()
	old := p.cut(len(p.idle))
	p.mu.Unlock()
	for _, o := range old {
		o.close()
	}
	return len(old) > 0
}

// cut takes the n oldest idle pipes out.
func (p *pipePool) cut(n int) []*pipe {
	old := slices.Clone(p.idle[:n])
	p.idle = slices.Delete(p.idle, 0, n)
	p.open -= n
	p.low = min(p.low, len(p.idle))
	return old
}
