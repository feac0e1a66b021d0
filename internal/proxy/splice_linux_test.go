//go:build linux

package proxy

import (
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// openPipes counts this process's own pipe ends.
func openPipes(t *testing.T) (n int) {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range dir {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

func TestPipePool(t *testing.T) {
	base := openPipes(t)
	var p pipePool
	// The pool's own timer may come in between on a slow machine.
	look := func() (open, idle int, timed bool) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.open, len(p.idle), p.timer != nil
	}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.timer != nil {
			p.timer.Stop()
		}
	})
	var all []*pipe
	for range maxPipes {
		got := p.take()
		if got == nil {
			t.Fatalf("no pipe after %d", len(all))
		}
		all = append(all, got)
	}
	if got := p.take(); got != nil {
		t.Errorf("one more than %d pipes", maxPipes)
	}
	for i, got := range all {
		p.put(got, i != 0)
	}
	if open, idle, _ := look(); open != maxPipes-1 || idle != maxPipes-1 || openPipes(t)-base != 2*(maxPipes-1) {
		t.Errorf("a pipe with something in it was kept: %d open, %d idle", open, idle)
	}
	if got := p.take(); got != all[maxPipes-1] {
		t.Error("the newest pipe is not the first to be taken")
	} else {
		p.put(got, true)
	}
	// The first sweep sees what was not needed since the first pipe came back,
	// the second what nobody needed in between.
	p.sweep()
	a, b := p.take(), p.take()
	p.put(a, true)
	p.put(b, true)
	p.sweep()
	open, idle, timed := look()
	if open != 2 || idle != 2 {
		t.Errorf("%d pipes are open, %d idle; want the two that are needed", open, idle)
	}
	if !timed {
		t.Error("nothing will close the last pipes")
	}
	p.sweep()
	p.sweep()
	if open, _, timed := look(); open != 0 || openPipes(t) != base || timed {
		t.Errorf("%d pipes and %d files are left without traffic, timed %v", open, openPipes(t)-base, timed)
	}
	p.put(p.take(), true)
	p.shed()
	if open, _, _ := look(); open != 0 || openPipes(t) != base {
		t.Errorf("%d pipes and %d files are left after shed", open, openPipes(t)-base)
	}
}

// Without any pipe bytes move all the same.
func TestNoPipeToBeHad(t *testing.T) {
	testenv.NoLeaks(t)
	pipes.shed()
	count := func(n int) {
		pipes.mu.Lock()
		defer pipes.mu.Unlock()
		pipes.open += n
	}
	count(maxPipes)
	defer count(-maxPipes)
	client, origin := randomScripts(3)
	c, o := between(t, forwarders["tunnel"], client, origin)
	if string(c.got) != string(origin.content()) || string(o.got) != string(client.content()) {
		t.Errorf("got %d and %d bytes, want %d and %d", len(c.got), len(o.got), len(origin.content()), len(client.content()))
	}
	if len(pipes.idle) != 0 {
		t.Error("a pipe was opened")
	}
}

// A few bytes take no pipe, a stream that pauses holds none; one that cannot go
// on holds one until it ends.
func TestPipesAreHeldWhileBytesAreInThem(t *testing.T) {
	testenv.NoLeaks(t)
	held := func() int {
		pipes.mu.Lock()
		defer pipes.mu.Unlock()
		return pipes.open - len(pipes.idle)
	}
	until := func(what string, want int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); held() != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %d pipes are held, want %d", what, held(), want)
			}
		}
	}
	opened := func() int {
		pipes.mu.Lock()
		defer pipes.mu.Unlock()
		return pipes.open
	}
	sender, src := tcpPair(t)
	dst, receiver := tcpPair(t)
	done := make(chan struct{})
	pipes.shed()
	go func() { defer close(done); pump(dst, src, nil, nil) }()
	exchange := func(n int) {
		t.Helper()
		go sender.Write(make([]byte, n))
		if _, err := io.ReadFull(receiver, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	exchange(4)
	if n := opened(); n != 0 {
		t.Errorf("%d pipes were opened for a word", n)
	}
	exchange(1 << 20)
	if opened() == 0 {
		t.Error("no pipe was opened for a megabyte")
	}
	until("after a megabyte", 0)
	sent := make(chan struct{})
	go func() { defer close(sent); io.Copy(sender, neverending{}) }()
	until("nobody reads", 1)
	receiver.SetLinger(0)
	receiver.Close()
	<-done
	until("broken off", 0)
	sender.Close()
	<-sent
}

// Moving bytes allocates nothing per piece; small buffers are taken again.
func TestMoveAllocatesNothing(t *testing.T) {
	for size, most := range map[int]float64{
		4:     1, // a buffer would be two; the race detector's pools lose some
		16384: 0,
	} {
		sender, src := tcpPair(t)
		dst, receiver := tcpPair(t)
		done := make(chan struct{})
		go func() { defer close(done); moveTCP(dst, src, -1) }()
		piece, got := make([]byte, size), make([]byte, size)
		if n := testing.AllocsPerRun(200, func() {
			sender.Write(piece)
			io.ReadFull(receiver, got)
		}); n > most {
			t.Errorf("%v allocations for %d bytes", n, size)
		}
		sender.Close()
		<-done
	}
}

// The last files of the process are left to connections.
func TestPipesLeaveFilesToConnections(t *testing.T) {
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	low := lim
	low.Cur = uint64(len(mustDir(t))) + spareFDs
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lim)
	var p pipePool
	defer func() { p.shed() }()
	var all []*pipe
	for range maxPipes {
		if got := p.take(); got != nil {
			all = append(all, got)
		}
	}
	if len(all) != minPipes || p.open != minPipes {
		t.Errorf("%d pipes near the limit, %d counted, want %d", len(all), p.open, minPipes)
	}
	for _, got := range all {
		p.put(got, true)
	}
}

func mustDir(t *testing.T) []os.DirEntry {
	t.Helper()
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
