//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"kerbpass/internal/demo/realm"
)

// A runner is the world of a comparison: realm, upstreams, work folder.
type runner struct {
	options
	ctx       context.Context
	dir       string
	self      string
	cpu       int // for the rows; -1: not pinned
	realm     *realm.Realm
	cache     string
	begun     time.Time
	done, all int // samples
	upstreams map[string]*upstream
	negotiate []*negotiate
}

// A session is one fresh process of a row, warmed up, under one test.
type session struct {
	*client
	r       *runner
	row     row
	proc    *proc         // nil for the direct row; what follows goes with it
	cold    time.Duration // from start to the first answer
	release func() bool

	up   *upstream
	note string
}

// run compares. It ends early, with nothing left behind, when ctx does.
func run(ctx context.Context, o options) (_ *results, err error) {
	r := &runner{options: o, ctx: ctx, cpu: -1, upstreams: map[string]*upstream{}}
	if r.log == nil {
		r.log = io.Discard
	}
	if r.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if r.dir, err = os.MkdirTemp("", "kerbpass-bench-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(r.dir)
	if err := os.Chmod(r.dir, 0o755); err != nil { // squid gives root up
		return nil, err
	}
	out := &results{machine: describe(o)}
	if out.rows, out.machine.LeftOut, err = r.choose(); err != nil {
		return nil, err
	}
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	if most := (fileLimit() - 1000) / 6; r.idle > most {
		fmt.Fprintf(r.log, "open files are limited: holding %d idle tunnels, not %d\n", most, r.idle)
		r.idle, out.machine.Idle = most, most
	}
	out.machine.Pinned = "not pinned"
	if cpus := ownCPUs(); r.pin && len(cpus) > 1 {
		if err := pinSelf(cpus[0]); err != nil {
			return nil, err
		}
		r.cpu = cpus[1]
		out.machine.Pinned = "one core for the proxy, another for load, upstream and origin"
	}
	defer r.close()
	if err := r.open(); err != nil {
		return nil, err
	}

	// The same test on all rows back to back, in turned order.
	type job struct {
		round int
		test  test
		row   row
	}
	var jobs []job
	for round := range r.rounds {
		for _, t := range tests {
			for i := range out.rows {
				w := out.rows[(i+round)%len(out.rows)]
				if (r.tests == nil || slices.Contains(r.tests, t.name)) && w.takesPart(t.name) {
					jobs = append(jobs, job{round, t, w})
				}
			}
		}
	}
	r.begun, r.all = time.Now(), len(jobs)
	for i, j := range jobs {
		r.done = i
		s := r.sample(j.row, j.test)
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.Round = j.round
		out.samples = append(out.samples, s)
		fmt.Fprintf(r.log, "%4.0fs round %d %-7s %-20s %s\n", time.Since(r.begun).Seconds(), j.round+1, j.test.name, j.row.name, brief(s))
	}
	out.machine.Took = time.Since(r.begun).Round(time.Second).String()
	return out, nil
}

// late reports whether the samples so far took more than their part of the
// budget and a tenth.
func (r *runner) late() bool {
	return r.budget > 0 && time.Since(r.begun)*time.Duration(r.all) > r.budget*time.Duration(r.done+1+r.all/10)
}

func brief(s sample) string {
	if s.Err != "" {
		return "FAILED: " + s.Err
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(s.Values)) {
		fmt.Fprintf(&b, "%s=%s ", k, number(s.Values[k]))
	}
	fmt.Fprintf(&b, "others=%.0f%% %s", 100*s.Others, s.Note)
	return b.String()
}

// choose returns the rows that can run and names those that cannot.
func (r *runner) choose() (rows []row, leftOut []string, err error) {
	all := slices.Clone(debianRows)
	for _, build := range []struct {
		name string
		tags []string
	}{{kerbpass, nil}, {kerbpassGo, []string{"-tags", "nogss"}}} {
		if !r.wants(build.name) {
			continue
		}
		program := filepath.Join(r.dir, strings.ReplaceAll(build.name, " ", "-"))
		args := append([]string{"build", "-trimpath", "-o", program}, build.tags...)
		cmd := exec.CommandContext(r.ctx, "go", append(args, "./cmd/tray")...)
		cmd.Dir = r.root
		if text, err := cmd.CombinedOutput(); err != nil {
			return nil, nil, fmt.Errorf("build %s: %w\n%s", build.name, err, text)
		}
		all = append(all, ourRow(build.name, program))
	}
	for _, name := range slices.Sorted(maps.Keys(r.ours)) {
		program, err := filepath.Abs(r.ours[name])
		if err != nil {
			return nil, nil, err
		}
		all = append(all, ourRow(name, program))
	}
	for _, w := range all {
		if !r.wants(w.name) {
			continue
		}
		if len(w.argv) > 0 && w.argv[0] != "{self}" {
			program := find(w.argv[0])
			if program == "" {
				leftOut = append(leftOut, w.name)
				continue
			}
			w.argv = append([]string{program}, w.argv[1:]...)
		}
		rows = append(rows, w)
	}
	if len(rows) == 0 {
		return nil, nil, errors.New("no row is left to compare")
	}
	return rows, leftOut, nil
}

// wants reports whether a row was asked for; a build given by -ours always was.
func (r *runner) wants(name string) bool {
	return r.rows == nil || slices.Contains(r.rows, name) || r.ours[name] != ""
}

// open starts the realm and an upstream of each kind.
func (r *runner) open() (err error) {
	if r.realm, err = realm.Start(realm.Config{Dir: r.dir}); err != nil {
		return err
	}
	if r.cache, err = r.realm.Mint(realm.MintOptions{User: benchUser, Services: []string{benchService}}); err != nil {
		return err
	}
	for _, name := range []string{r.cache, r.realm.Krb5Conf()} {
		if err := os.Chmod(name, 0o644); err != nil {
			return err
		}
	}
	perConn := &negotiate{acceptor: r.realm.Acceptor(benchService)}
	perRequest := &negotiate{acceptor: r.realm.Acceptor(benchService), perRequest: true}
	r.negotiate = []*negotiate{perConn, perRequest}
	for kind, check := range map[string]checker{
		authNone: anybody{}, authBasic: basic{basicValue()}, authNTLM: ntlm{}, authNegotiate: perConn, authRequest: perRequest,
	} {
		if r.upstreams[kind], err = startUpstream(check); err != nil {
			return err
		}
	}
	return nil
}

func (r *runner) close() {
	for _, u := range r.upstreams {
		if u != nil {
			u.close()
		}
	}
	if r.realm != nil {
		r.realm.Close()
	}
}

// sample takes one measurement, and again if the machine was not quiet.
func (r *runner) sample(w row, t test) (best sample) {
	for try := 0; ; try++ {
		r.waitQuiet()
		s := r.once(w, t)
		if try == 0 || (s.Err == "" && (best.Err != "" || s.Others < best.Others)) {
			best = s
		}
		if r.ctx.Err() != nil || try >= r.retries || r.late() || (best.Err == "" && best.Others <= r.quiet) {
			return best
		}
	}
}

func (r *runner) waitQuiet() {
	c := &client{ctx: r.ctx}
	for range 10 {
		u := readUsage(nil)
		if c.pause(min(200*time.Millisecond, r.unit)) != nil || u.others(nil) <= r.quiet || r.late() {
			return
		}
	}
}

func (r *runner) once(w row, t test) sample {
	out := sample{Test: t.name, Row: w.name}
	s, err := r.start(w, t.name)
	if s != nil && s.proc != nil {
		defer s.proc.stop()
		defer s.release()
	}
	if err == nil {
		u := readUsage(s.proc)
		out.Values, err = t.run(s)
		out.Others, out.Note = u.others(s.proc), s.note
	}
	if err == nil {
		err = r.badToken()
	}
	if err == nil && s.proc != nil && !s.proc.alive() {
		err = errors.New("ended during the test")
	}
	if err != nil {
		out.Err, out.Values = err.Error(), nil
	}
	return out
}

// badToken says why an upstream refused a token of this session.
func (r *runner) badToken() error {
	for _, n := range r.negotiate {
		if err := n.err(); err != nil {
			return fmt.Errorf("a token was not good: %w", err)
		}
	}
	return nil
}

// start runs a fresh process and waits for its first good answer. The session
// is not nil when a process must be stopped.
func (r *runner) start(w row, test string) (*session, error) {
	kind := w.auth
	if test == "request" {
		kind = authRequest
	}
	up := r.upstreams[kind]
	s := &session{r: r, row: w, up: up, client: &client{ctx: r.ctx}}
	for _, n := range r.negotiate {
		n.expect(8)
	}
	if len(w.argv) == 0 {
		s.addr = fmt.Sprintf("127.0.0.1:%d", up.port())
		return s, nil
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(r.dir, "row-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		return nil, err
	}
	if w.class == ours { // it refuses folders that others may write to
		if err := os.Chmod(dir, 0o700); err != nil {
			return nil, err
		}
	}
	p := place{
		"self": r.self, "port": fmt.Sprint(port), "upstream": fmt.Sprint(up.port()), "dir": dir, "krb5conf": r.realm.Krb5Conf(),
		"cache": r.cache, "user": benchUser, "password": benchPassword, "basic": basicValue(),
	}
	for name, text := range w.files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(p.fill(text)), 0o644); err != nil {
			return nil, err
		}
	}
	env := append([]string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}, p.fillAll(w.env)...)
	s.addr = fmt.Sprintf("127.0.0.1:%d", port)
	t0 := time.Now()
	if s.proc, err = startProc(p.fillAll(w.argv), env, dir, r.cpu); err != nil {
		return nil, err
	}
	// Whoever waits for an answer is released when we are told to end.
	s.release = context.AfterFunc(r.ctx, s.proc.stop)
	for {
		_, err = s.freshGet()
		s.cold = time.Since(t0)
		if err == nil || r.ctx.Err() != nil {
			return s, err
		}
		if bad := r.badToken(); bad != nil {
			return s, bad
		}
		if !s.proc.alive() || s.cold > 15*time.Second {
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			return s, fmt.Errorf("does not answer: %v: %s", err, bytes.TrimSpace(log[max(0, len(log)-300):]))
		}
		wait := 20 * time.Millisecond
		if errors.Is(err, syscall.ECONNREFUSED) {
			wait = 500 * time.Microsecond
		}
		s.pause(wait)
	}
}

// freePort names a port that was free a moment ago, for programs that cannot
// be told to take any.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func describe(o options) machine {
	m := machine{Go: runtime.Version(), Date: time.Now().UTC(), Rounds: o.rounds, Unit: o.unit.String(), Idle: o.idle, Quiet: o.quiet, CPU: "unknown CPU", System: "Linux"}
	b, _ := os.ReadFile("/proc/stat")
	_, m.CPUs = parseBusy(b)
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	b, _ = os.ReadFile("/proc/cpuinfo")
	if v := lineValue(b, "model name", ":"); v != "" {
		m.CPU = v
	}
	b, _ = os.ReadFile("/etc/os-release")
	if v := lineValue(b, "PRETTY_NAME", "="); v != "" {
		m.System = strings.Trim(v, `"`)
	}
	cmd := exec.Command("git", "describe", "--always", "--dirty")
	cmd.Dir = o.root
	if b, err := cmd.Output(); err == nil {
		m.Commit = string(bytes.TrimSpace(b))
	}
	return m
}
