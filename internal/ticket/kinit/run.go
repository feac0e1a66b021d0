package kinit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"kerbpass/internal/ticket"
)

// maxOutput is more than a tool has any reason to print.
const maxOutput = 1 << 20

var (
	errTooLate      = errors.New("nothing came in time")
	errTooMuch      = fmt.Errorf("more than %d bytes of output", maxOutput)
	errNothingThere = errors.New("there was nothing")
)

// An exitError is a tool that ended by itself, and not well.
type exitError struct{ program, state string }

func (e *exitError) Error() string { return e.program + ": " + e.state }

// process is one run of a tool, which ends with ctx or after a long silence.
type process struct {
	program string
	cmd     *exec.Cmd
	ctx     context.Context
	stop    context.CancelCauseFunc
	limit   time.Duration
	silence *time.Timer // stops the process

	stdout, stderr capture
}

func (t *Tools) command(ctx context.Context, program string, args []string) *process {
	p := &process{program: program, limit: t.limit}
	p.ctx, p.stop = context.WithCancelCause(ctx)
	p.cmd = exec.CommandContext(p.ctx, filepath.Join(t.dir, program), args...)
	p.cmd.Env, p.cmd.Dir = t.env, "/"
	p.cmd.WaitDelay = time.Second // for what it has started and left behind
	separate(p.cmd)
	p.stdout.stop, p.stderr.stop = p.stop, p.stop
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	return p
}

// run gives program no input. It returns what is on standard output, and after
// a failure all there is.
func (t *Tools) run(ctx context.Context, program string, args ...string) ([]byte, error) {
	p := t.command(ctx, program, args)
	if err := p.start(); err != nil {
		return nil, err
	}
	if err := p.wait(); err != nil {
		return p.all(), err
	}
	return p.stdout.text, nil
}

// converse writes first, if there is one, as the first line of the input, and
// then what ask answers to the questions on standard output. Answers are
// wiped. It returns all the output.
func (t *Tools) converse(ctx context.Context, program string, args []string, first *ticket.Secret, ask asker) ([]byte, error) {
	p := t.command(ctx, program, args)
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if ask != nil {
		p.cmd.Stdout = &dialogue{process: p, stdin: stdin, ask: ask}
	}
	if err := p.start(); err != nil {
		return nil, err
	}
	if first != nil {
		writeLine(stdin, *first)
	}
	if ask == nil {
		stdin.Close()
	}
	err = p.wait()
	return p.all(), err
}

func (p *process) start() error {
	p.silence = time.AfterFunc(p.limit, func() { p.stop(fmt.Errorf("%s: %w (%v)", p.program, errTooLate, p.limit)) })
	err := p.cmd.Start()
	if err == nil {
		return nil
	}
	p.silence.Stop()
	p.stop(nil)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// wait returns when the tool and all it has started are gone.
func (p *process) wait() error {
	err := p.cmd.Wait()
	killGroup(p.cmd) // as a rule nobody is left; its number is not given out again so soon
	p.silence.Stop()
	cause := context.Cause(p.ctx)
	p.stop(nil)
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrWaitDelay): // somebody held the output
		return nil
	case cause != nil && err != nil:
		return cause
	case errors.As(err, &exit):
		return &exitError{p.program, exit.String()}
	}
	return err
}

// all is standard output and, where the reason of a failure stands, error.
func (p *process) all() []byte { return slices.Concat(p.stdout.text, []byte("\n"), p.stderr.text) }

// capture keeps what is written and stops a process that writes too much.
type capture struct {
	stop context.CancelCauseFunc
	text []byte
}

func (c *capture) Write(b []byte) (int, error) {
	if len(c.text)+len(b) > maxOutput {
		c.stop(errTooMuch)
		return 0, errTooMuch
	}
	c.text = append(c.text, b...)
	return len(b), nil
}

// An asker answers one question of a tool; banner is what was printed before.
type asker func(ctx context.Context, banner, question string) (ticket.Secret, error)

// dialogue is a standard output on which questions appear: text that ends with
// a colon and a space in place of a line end.
type dialogue struct {
	*process
	stdin io.Writer
	ask   asker
	seen  int // bytes of the output before the last answer
}

func (d *dialogue) Write(b []byte) (int, error) {
	if n, err := d.stdout.Write(b); err != nil {
		return n, err
	}
	said := d.stdout.text[d.seen:]
	line := bytes.LastIndexByte(said, '\n') + 1
	if !bytes.HasSuffix(said[line:], []byte(": ")) {
		return len(b), nil
	}
	d.seen = len(d.stdout.text)
	if err := d.reply(string(bytes.TrimSpace(said[:line])), string(said[line:])); err != nil {
		d.stop(err)
		return 0, err
	}
	return len(b), nil
}

// reply gives the person all the time that ctx leaves.
func (d *dialogue) reply(banner, question string) error {
	d.silence.Stop()
	answer, err := d.ask(d.ctx, banner, question)
	if err != nil {
		return err
	}
	defer answer.Wipe()
	d.silence.Reset(d.limit)
	writeLine(d.stdin, answer)
	return nil
}

// writeLine leaves no copy of the secret behind. An error means that the tool
// has ended, and then how it ended says more.
func writeLine(w io.Writer, s ticket.Secret) {
	line := make([]byte, 0, maxAnswer+1)
	line = append(append(line, s.Expose()...), '\n')
	defer clear(line)
	w.Write(line)
}
