//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A proc is a process that we started, and all its descendants.
type proc struct {
	cmd  *exec.Cmd
	cpu  int           // that it is pinned to; -1: not pinned
	base time.Duration // of ksoftirqd, before it started
	done chan struct{}
}

// startProc starts a program in a process group of its own. It ends with us,
// however we end. Its output goes to the file log in dir.
func startProc(argv, env []string, dir string, cpu int) (*proc, error) {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p := &proc{cmd: cmd, cpu: cpu, done: make(chan struct{})}
	p.base = p.softirq()

	// The thread that forks dies with nobody: a child is told when the thread
	// that started it ends, so that one must live as long as we do.
	err = onStarter(func() error {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		if cpu < 0 {
			return cmd.Start()
		}
		var old unix.CPUSet
		if err := unix.SchedGetaffinity(0, &old); err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(0, cpuSet(cpu)); err != nil { // the child inherits it
			return err
		}
		return errors.Join(cmd.Start(), unix.SchedSetaffinity(0, &old))
	})
	if err != nil {
		return nil, err
	}
	go func() { cmd.Wait(); close(p.done) }()
	return p, nil
}

var starter = sync.OnceValue(func() chan func() {
	jobs := make(chan func())
	go func() {
		runtime.LockOSThread()
		for job := range jobs {
			job()
		}
	}()
	return jobs
})

// onStarter runs f on the one thread that starts all children.
func onStarter(f func() error) (err error) {
	done := make(chan struct{})
	starter() <- func() { err = f(); close(done) }
	<-done
	return err
}

func cpuSet(cpu int) *unix.CPUSet {
	var set unix.CPUSet
	set.Set(cpu)
	return &set
}

// ownCPUs lists the CPUs that this process may use.
func ownCPUs() (cpus []int) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(0, &set) != nil {
		return nil
	}
	for i := range 1024 {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	return cpus
}

// pinSelf moves all threads of this process to one CPU. New ones inherit that,
// so the second pass catches those that were being made.
func pinSelf(cpu int) error {
	for range 2 {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return err
		}
		for _, t := range tasks {
			tid, _ := strconv.Atoi(t.Name())
			if err := unix.SchedSetaffinity(tid, cpuSet(cpu)); err != nil && err != unix.ESRCH {
				return fmt.Errorf("pin to CPU %d: %w", cpu, err)
			}
		}
	}
	runtime.GOMAXPROCS(1)
	return nil
}

// stop kills the process group and waits for the process. More than once is fine.
func (p *proc) stop() {
	if p.alive() {
		syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.done
}

func (p *proc) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// pids lists the process and its living descendants.
func (p *proc) pids() []int {
	all := []int{p.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", all[i]))
		for _, f := range files {
			b, _ := os.ReadFile(f)
			for _, pid := range strings.Fields(string(b)) {
				if n, err := strconv.Atoi(pid); err == nil {
					all = append(all, n)
				}
			}
		}
	}
	return all
}

// cpuTime is ownTime and, because on loopback the kernel's ksoftirqd does part
// of a forwarder's work, that of the peer's own core. A nil proc uses nothing.
func (p *proc) cpuTime() time.Duration {
	if p == nil {
		return 0
	}
	return p.ownTime() + p.softirq() - p.base
}

// ownTime is what the process and its descendants, ended ones included, have used.
func (p *proc) ownTime() (d time.Duration) {
	for _, pid := range p.pids() {
		d += clock(pid)
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		_, reaped, _ := parseStat(b)
		d += reaped
	}
	return d
}

func (p *proc) softirq() time.Duration {
	if pid, ok := softirqd()[p.cpu]; ok {
		return clock(pid)
	}
	return 0
}

// clock reads another process's CPU clock, in nanoseconds where /proc/PID/stat
// counts hundredths of a second; that one is the fallback.
func clock(pid int) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|2), &ts) == nil { // CPUCLOCK_SCHED of pid
		return time.Duration(ts.Nano())
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	own, _, _ := parseStat(b)
	return own
}

// softirqd maps each CPU to its ksoftirqd.
var softirqd = sync.OnceValue(func() map[int]int {
	m := map[int]int{}
	files, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, f := range files {
		b, _ := os.ReadFile(f)
		if cpu, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "ksoftirqd/"); ok {
			n, err := strconv.Atoi(cpu)
			if pid, perr := strconv.Atoi(strings.Split(f, "/")[2]); err == nil && perr == nil {
				m[n] = pid
			}
		}
	}
	return m
})

// memory is the proportional set size in bytes, where shared pages count once,
// and files the open descriptors.
func (p *proc) memory() (pss int64, files int) {
	for _, pid := range p.pids() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		pss += parseKiB(b, "Pss")
		fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		files += len(fds)
	}
	return pss, files
}

// peak is the most memory that was resident since resetPeak.
func (p *proc) peak() (n int64) {
	for _, pid := range p.pids() {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		n += parseKiB(b, "VmHWM")
	}
	return n
}

func (p *proc) resetPeak() {
	for _, pid := range p.pids() {
		os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
	}
}

// usage is a reading of the whole machine.
type usage struct {
	at        time.Time
	busy, own time.Duration
	cpus      int
}

// readUsage counts this process, p and the kernel's own network work as ours.
func readUsage(p *proc) usage {
	b, _ := os.ReadFile("/proc/stat")
	u := usage{at: time.Now()}
	u.busy, u.cpus = parseBusy(b)
	u.own = clock(os.Getpid()) + p.cpuTime()
	for cpu, pid := range softirqd() {
		if p == nil || p.cpu != cpu {
			u.own += clock(pid)
		}
	}
	return u
}

// others is the share of the machine that anybody else used since u.
func (u usage) others(p *proc) float64 {
	now := readUsage(p)
	wall := now.at.Sub(u.at) * time.Duration(max(1, now.cpus))
	return max(0, float64((now.busy-u.busy)-(now.own-u.own))/float64(wall))
}

// fileLimit raises the limit on open files as far as it goes and returns it.
// Children inherit it, as they would a user's.
func fileLimit() int {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) != nil {
		return 1024
	}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: l.Max, Max: l.Max}) == nil {
		l.Cur = l.Max
	}
	return int(min(l.Cur, 1<<20))
}
