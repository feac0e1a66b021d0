package pac

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"time"
)

const (
	maxRunners = 4               // processes of one script
	restAfter  = 2 * time.Minute // without a question, they end
	waitLimit  = 15 * time.Second
)

// pool runs one version of a script in up to maxRunners processes, which it
// starts as they are needed and ends when they rest. Safe for concurrent use.
type pool struct {
	command []string
	name    string
	source  string
	log     *slog.Logger
	slots   chan struct{} // one for each process that works

	mu     sync.Mutex // guards what follows
	idle   []*runner
	closed bool
	rest   *time.Timer
}

func newPool(command []string, name, source string, log *slog.Logger) *pool {
	return &pool{command: command, name: name, source: source, log: log, slots: make(chan struct{}, maxRunners)}
}

// runner is one process.
type runner struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	dec *json.Decoder
	enc *json.Encoder
}

// find asks the script in one of the processes.
func (p *pool) find(ctx context.Context, url, host string) (line string, varies bool, err error) {
	wait := time.NewTimer(waitLimit)
	defer wait.Stop()
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return "", false, ctx.Err()
	case <-wait.C:
		return "", false, errBusy
	}
	r, fresh := p.take(), false
	if r == nil {
		if r, err = p.start(); err != nil {
			return "", false, err
		}
		fresh = true
	}
	answer, err := p.ask(r, order{URL: url, Host: host})
	if err != nil && !fresh && !errors.Is(err, ErrTooLong) { // it may have ended while it rested
		if r, err = p.start(); err != nil {
			return "", false, err
		}
		answer, err = p.ask(r, order{URL: url, Host: host})
	}
	if err != nil {
		return "", false, err
	}
	if answer.Spent {
		r.end()
	} else {
		p.put(r)
	}
	return answer.Line, answer.Varies, answer.err()
}

// check starts a first process, and so tells whether the script can be loaded.
func (p *pool) check() error {
	r, err := p.start()
	if err == nil {
		p.put(r)
	}
	return err
}

func (p *pool) start() (*runner, error) {
	cmd := exec.Command(p.command[0], p.command[1:]...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "GOTRACEBACK=none")
	cmd.Dir = os.TempDir()
	hideWindow(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("%w: no process for it: %w", ErrScript, err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		in.Close()
		return nil, fmt.Errorf("%w: no process for it: %w", ErrScript, err)
	}
	r := &runner{cmd, in, json.NewDecoder(io.LimitReader(out, 1<<40)), json.NewEncoder(in)}
	answer, err := p.ask(r, order{Load: true, Name: p.name, Script: p.source})
	if err != nil {
		return nil, err
	}
	if err := answer.err(); err != nil {
		r.end()
		return nil, err
	}
	return r, nil
}

// ask waits for the answer of r, and ends r if none comes: the process limits
// itself, but not if the system stops it or it runs out of memory at once.
func (p *pool) ask(r *runner, o order) (answer result, err error) {
	kill := time.AfterFunc(killAfter, func() { r.cmd.Process.Kill() })
	if err = r.enc.Encode(o); err == nil {
		err = r.dec.Decode(&answer)
	}
	if !kill.Stop() {
		r.end()
		return answer, ErrTooLong
	}
	if err != nil {
		r.end()
		return answer, fmt.Errorf("%w: the process that ran it ended (%v)", ErrScript, r.cmd.ProcessState)
	}
	for _, a := range answer.Alerts {
		p.log.Debug("configuration script says", "text", a)
	}
	return answer, nil
}

// end stops the process and waits for it.
func (r *runner) end() {
	r.in.Close()
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

func (p *pool) take() *runner {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.idle)
	if n == 0 {
		return nil
	}
	r := p.idle[n-1]
	p.idle = p.idle[:n-1]
	return r
}

func (p *pool) put(r *runner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		r.end()
		return
	}
	p.idle = append(p.idle, r)
	if p.rest == nil {
		p.rest = time.AfterFunc(restAfter, p.drop)
	} else {
		p.rest.Reset(restAfter)
	}
}

// drop ends the processes that rest.
func (p *pool) drop() {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, r := range idle {
		r.end()
	}
}

// close ends the processes; those that work end with their question.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	if p.rest != nil {
		p.rest.Stop()
	}
	p.mu.Unlock()
	p.drop()
}
