package keyring

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"kerbpass/internal/ticket"
)

// ask asks a child, within the limit. The answer is no failure.
func (s *Store) ask(ctx context.Context, op string, request message) (message, error) {
	answer, err := s.answer(ctx, request)
	if err != nil {
		return message{}, &ticket.OpError{Op: op, Subject: request.text, Err: err}
	}
	return answer, nil
}

func (s *Store) answer(ctx context.Context, request message) (message, error) {
	if err := request.check(); err != nil {
		return message{}, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.Limit,
		fmt.Errorf("%w, or does not answer: nothing came back within %v", ErrLocked, s.cfg.Limit))
	defer cancel()
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return message{}, context.Cause(ctx)
	}
	answer, err := s.call(ctx, request)
	switch {
	case err == nil:
		return answer, answer.err()
	case ctx.Err() != nil: // the child ended because it was killed
		return message{}, context.Cause(ctx)
	}
	return message{}, err
}

// call runs one child for one question. It returns after the child's end, which
// comes with the answer, with the first error, or with that of ctx.
func (s *Store) call(ctx context.Context, request message) (message, error) {
	cmd := exec.Command(s.cfg.Command[0], s.cfg.Command[1:]...)
	cmd.Env = environment(os.Environ())
	ownGroup(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return message{}, fmt.Errorf("keyring child: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return message{}, fmt.Errorf("keyring child: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return message{}, fmt.Errorf("keyring child: %w", err)
	}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		killGroup(cmd.Process)
	})
	answer, err := exchange(in, out, request)
	if !stop() {
		<-stopped // once Wait has returned, the number may be another process's
	}
	killGroup(cmd.Process) // what it does after its answer is of no use
	_ = cmd.Wait()         // its exit status says nothing: it was killed
	return answer, err
}

func exchange(in io.Writer, out io.Reader, request message) (message, error) {
	if err := request.write(in); err != nil {
		return message{}, fmt.Errorf("keyring child: it takes no question: %w", err)
	}
	answer, err := readMessage(out)
	switch {
	case errors.Is(err, io.EOF):
		return message{}, errors.New("keyring child: it ended without an answer")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return message{}, errors.New("keyring child: it ended in the middle of its answer")
	case err != nil:
		return message{}, fmt.Errorf("keyring child: %w", err)
	}
	return answer, nil
}

// needed are the variables by which the child finds the keyring, and a keyring
// the person's screen. PATH is left out on purpose: with it godbus would start
// dbus-launch where there is no session bus, and a stray bus would stay.
var needed = []string{
	"DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_CURRENT_DESKTOP", "HOME", "USER", "LOGNAME",
	"DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "LANG", "LANGUAGE", "LC_ALL", "LC_MESSAGES",
	"SystemRoot", "SystemDrive", "windir", "APPDATA", "LOCALAPPDATA", "USERPROFILE", "USERNAME", "USERDOMAIN", "TEMP", "TMP",
}

func environment(all []string) []string {
	env := []string{} // not nil, which would pass on everything
	for _, kv := range all {
		name, _, _ := strings.Cut(kv, "=")
		if slices.ContainsFunc(needed, func(n string) bool { return strings.EqualFold(n, name) }) {
			env = append(env, kv)
		}
	}
	return env
}
