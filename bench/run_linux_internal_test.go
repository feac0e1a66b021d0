//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// TestMain makes the test's own program the relay that run starts, and, called
// as Kerbpass is, a proxy that takes connections and never answers.
func TestMain(m *testing.M) {
	if i := slices.Index(os.Args, "--listen"); i > 0 {
		if _, err := net.Listen("tcp4", os.Args[i+1]); err == nil {
			time.Sleep(time.Hour) // select {} alone would be a deadlock to the runtime
		}
		os.Exit(1)
	}
	if len(os.Args) > 1 && os.Args[1] == "relay" {
		fmt.Fprintln(os.Stderr, relay(os.Args[2:]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func shell(t *testing.T, script string, cpu int) *proc {
	t.Helper()
	p, err := startProc([]string{testenv.Tool(t, "sh"), "-c", script}, os.Environ(), t.TempDir(), cpu)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

// line waits for the child's first line of output.
func line(t *testing.T, p *proc) string {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if b, _ := os.ReadFile(filepath.Join(p.cmd.Dir, "log")); bytes.HasSuffix(b, []byte("\n")) {
			return strings.TrimSpace(string(b))
		}
	}
	t.Fatal("the child says nothing")
	return ""
}

const spin = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; "

// The work of a child that ended, of one that runs, and of the process itself
// must all be counted.
func TestAccountsForChildren(t *testing.T) {
	idle := shell(t, "echo; exec sleep 60", -1)
	line(t, idle)
	for name, script := range map[string]string{
		"the process itself":   spin + "echo done; exec sleep 60",
		"a child that ended":   "sh -c '" + spin + ":'; echo done; sleep 60; :",
		"a child that is left": "sh -c '" + spin + "echo done; sleep 60; :' & wait",
	} {
		p := shell(t, script, -1)
		line(t, p)
		if got, rest := p.ownTime(), idle.ownTime(); got < 20*time.Millisecond || got < 3*rest {
			t.Errorf("%s: got %v of CPU, an idle child has %v", name, got, rest)
		}
	}
	var none *proc
	if none.cpuTime() != 0 {
		t.Error("no process used CPU")
	}
}

func TestCountsMemoryAndFiles(t *testing.T) {
	one := shell(t, "exec 7</dev/null 8</dev/null; echo; exec sleep 60", -1)
	two := shell(t, "(exec 7</dev/null 8</dev/null; echo; exec sleep 60) & wait", -1)
	line(t, one)
	line(t, two)
	// The shell has a descriptor or two of its own; both processes must count.
	pss1, files1 := one.memory()
	pss2, files2 := two.memory()
	if files1 < 5 || files1 > 8 || files2 < files1+3 {
		t.Errorf("got %d and %d files, want 5 and at least 3 more", files1, files2)
	}
	if pss1 < 10<<10 || pss1 > 1<<30 || pss2 <= pss1/2 {
		t.Errorf("got %d and %d bytes", pss1, pss2)
	}
	if len(one.pids()) != 1 || len(two.pids()) != 2 {
		t.Errorf("got processes %v and %v, want 1 and 2", one.pids(), two.pids())
	}
	if one.peak() < pss1/2 {
		t.Errorf("got a peak of %d with %d in use", one.peak(), pss1)
	}
}

func TestChildIsPinnedAndStopped(t *testing.T) {
	cpus := ownCPUs()
	last := cpus[len(cpus)-1]
	p := shell(t, "grep Cpus_allowed_list /proc/self/status; sleep 60 & wait", last)
	if got := line(t, p); !strings.HasSuffix(got, fmt.Sprintf("\t%d", last)) {
		t.Errorf("got %q, want CPU %d alone", got, last)
	}
	const where = "grep Cpus_allowed_list /proc/self/status; sleep 60"
	if got := line(t, shell(t, where, -1)); len(cpus) > 1 && strings.HasSuffix(got, fmt.Sprintf("\t%d", last)) {
		t.Errorf("the next child, not to be pinned, has %q of CPUs %v", got, cpus)
	}
	if now := ownCPUs(); !slices.Equal(now, cpus) {
		t.Errorf("our own CPUs are %v now, were %v", now, cpus)
	}
	var pids []int
	for end := time.Now().Add(10 * time.Second); len(pids) < 2 && time.Now().Before(end); {
		pids = p.pids()
	}
	if len(pids) < 2 || !p.alive() {
		t.Fatalf("got processes %v, want the shell and its child", pids)
	}
	p.stop()
	p.stop()
	if p.alive() {
		t.Error("still alive")
	}
	for _, pid := range pids[1:] { // reaped by init: gone soon, or a zombie
		for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
			b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil || bytes.Contains(b, []byte(") Z ")) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the child %d is left behind", pid)
			}
		}
	}
}

// talk sends requests to an upstream and returns the answers' statuses.
func talk(t *testing.T, u *upstream, text string) (statuses []int) {
	t.Helper()
	d, err := net.Dial("tcp4", u.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(d, text); err != nil {
		t.Fatal(err)
	}
	d.(*net.TCPConn).CloseWrite()
	br := bufio.NewReader(d)
	for {
		status, _, err := answer(d.(*net.TCPConn), br)
		if err != nil {
			return statuses
		}
		statuses = append(statuses, status)
	}
}

func TestUpstream(t *testing.T) {
	testenv.NoLeaks(t)
	u, err := startUpstream(basic{"Basic x"})
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	const auth = "Proxy-Authorization: Basic x\r\n"
	post := func(path, fields, body string) string {
		return "POST " + uploadURL + path + " HTTP/1.1\r\n" + fields + "\r\n" + body
	}
	for _, tt := range []struct {
		name, text     string
		want           []int
		uploads, bytes int64
	}{
		{"a page", "GET / HTTP/1.1\r\n" + auth + "\r\n", []int{200}, 0, 0},
		{"two pages", strings.Repeat("GET / HTTP/1.1\r\n"+auth+"\r\n", 2), []int{200, 200}, 0, 0},
		{"challenged, then a page", "GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n" + auth + "\r\n", []int{407, 200}, 0, 0},
		{"an unknown target", "CONNECT x:1 HTTP/1.1\r\n" + auth + "\r\n", []int{404}, 0, 0},
		{"an upload", post("a", auth+"Content-Length: 5\r\n", "12345"), []int{200}, 1, 5},
		{"an empty upload", post("a", auth, ""), []int{200}, 1, 0},
		{"a chunked upload", post("a", auth+"Transfer-Encoding: chunked\r\n", "3\r\n123\r\n0\r\n\r\n"), []int{200}, 1, 3},
		{"half an upload", post("a", auth+"Content-Length: 5\r\n", "12"), nil, 0, 2},
		{"stale, drained, sent again", strings.Repeat(post("b?stale=drain", auth+"Content-Length: 5\r\n", "12345"), 2), []int{407, 200}, 1, 10},
		{"stale, closed", strings.Repeat(post("c?stale=close", auth+"Content-Length: 5\r\n", "12345"), 2), []int{407}, 0, -1},
		{"another connection after that", post("c?stale=close", auth+"Content-Length: 5\r\n", "12345"), []int{200}, 1, 5},
	} {
		posts, bytes := u.posts.Load(), u.uploaded.Load()
		if got := talk(t, u, tt.text); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
		if got := u.posts.Load() - posts; got != tt.uploads {
			t.Errorf("%s: %d uploads carried out, want %d", tt.name, got, tt.uploads)
		}
		if got := u.uploaded.Load() - bytes; tt.bytes >= 0 && got != tt.bytes {
			t.Errorf("%s: %d bytes read, want %d", tt.name, got, tt.bytes)
		}
	}
}

// A connection made before the client began costs its tunnel one trip, a later
// one two, a refused request one more.
func TestTrips(t *testing.T) {
	u := &upstream{}
	t0 := time.Now()
	u.mark.Store(t0.UnixNano())
	for _, tt := range []struct {
		name     string
		first    bool
		accepted time.Time
		want     int64
	}{
		{"made for it", true, t0.Add(1), 2}, {"spare", true, t0.Add(-1), 1}, {"asked again", false, t0.Add(1), 1},
	} {
		before := u.trips.Load()
		if u.trip(tt.first, tt.accepted); u.trips.Load()-before != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, u.trips.Load()-before, tt.want)
		}
	}
}

// TestSmoke runs the whole comparison with loads of 50 ms: the limits and our
// pure-Go build, real tokens, every test, tables and verdicts.
func TestSmoke(t *testing.T) {
	testenv.Tool(t, "go")
	starter() // its thread is kept on purpose
	testenv.NoLeaks(t)
	before := children(t)
	var log bytes.Buffer
	o := options{
		unit: 50 * time.Millisecond, rest: 100 * time.Millisecond, rounds: 1, idle: 40, quiet: 1, root: "..", log: &log,
		rows: []string{direct, bareRelay, kerbpassGo},
	}
	r, err := run(t.Context(), o)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	for _, s := range r.samples {
		if s.Err != "" || s.Note != "" {
			t.Errorf("%s, %s: %s%s", s.Row, s.Test, s.Err, s.Note)
		}
	}
	for key, want := range map[string]float64{"idle_held": 40, "idle_dead": 0, "up_status": 200, "up_posts": 1, "up_sent": 1, "tun1_refused": 0} {
		if v, ok := r.value(kerbpassGo, key, false); !ok || v != want {
			t.Errorf("%s: got %v, %v, want %v", key, v, ok, want)
		}
	}
	for _, key := range []string{"get64_rate", "get512_cpu", "pace_p50", "tun1_trips", "tun32_rate", "req_rate", "bulk1_gbs", "bulk8_cpu",
		"idle_kib", "idle_fds", "start_ms", "rss_mib", "up_ms", "drain_status", "close_status"} {
		if v, ok := r.value(kerbpassGo, key, false); !ok || v <= 0 {
			t.Errorf("%s: got %v, %v", key, v, ok)
		}
	}
	if v, _ := r.value(bareRelay, "tun1_trips", false); v < 1.9 || v > 2.1 {
		t.Errorf("the relay made %v trips per tunnel, want 2", v)
	}
	text := r.markdown()
	for _, want := range []string{"### GET of 1 KiB", "| **kerbpass nogss** |", "### Goals"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if found := testenv.Secret(text + log.String()); found != "" {
		t.Errorf("a secret was printed: %.20s…", found)
	}
	if after := children(t); after != before {
		t.Errorf("children: %q before, %q after", before, after)
	}
}

// A comparison that is told to end in the middle ends at once and leaves
// neither process nor file.
func TestInterrupted(t *testing.T) {
	starter()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, row, test string }{
		{"in a load", bareRelay, "get"}, {"in a pause", bareRelay, "rest"}, {"while nobody answers", "mute", "get"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testenv.NoLeaks(t)
			before := children(t)
			t.Setenv("TMPDIR", t.TempDir())
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			o := options{
				unit: 50 * time.Second, rest: 50 * time.Second, rounds: 1, idle: 1, quiet: 1, root: "..", log: io.Discard,
				rows: []string{tt.row}, tests: []string{tt.test}, ours: map[string]string{"mute": self},
			}
			if tt.row != "mute" {
				o.ours = nil
			}
			var stopped time.Time
			waited := make(chan struct{})
			go func() {
				defer close(waited)
				defer stop()
				inTheMiddle(ctx, tt.test == "get" && tt.row != "mute")
				stopped = time.Now()
			}()
			_, err := run(ctx, o)
			stop()
			<-waited
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got error %v", err)
			}
			if d := time.Since(stopped); d > 10*time.Second {
				t.Errorf("ended %v after it was told to", d)
			}
			if after := children(t); after != before {
				t.Errorf("children: %q before, %q after", before, after)
			}
			if left, _ := os.ReadDir(os.Getenv("TMPDIR")); len(left) > 0 {
				t.Errorf("left in the temporary folder: %v", left)
			}
		})
	}
}

// inTheMiddle waits until a row's process is at work, or else is at rest.
func inTheMiddle(ctx context.Context, work bool) {
	var used time.Duration
	still := 0
	for tick := time.NewTicker(20 * time.Millisecond); ctx.Err() == nil; <-tick.C {
		logs, _ := filepath.Glob(os.Getenv("TMPDIR") + "/*/row-*/log")
		if len(logs) == 0 {
			continue
		}
		var now time.Duration
		for _, pid := range (&proc{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}).pids()[1:] {
			now += clock(pid)
		}
		if still++; now != used {
			used, still = now, 0
		}
		if work && used > 200*time.Millisecond || !work && used > 0 && still > 20 {
			return
		}
	}
}

// children lists our child processes.
func children(t *testing.T) string {
	var all []string
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
			t.Error(err)
		}
		all = append(all, strings.Fields(string(b))...)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}
