// Package keyring remembers passwords in the operating system's keyring: the
// Secret Service (gnome-keyring, KWallet), Keychain or Credential Manager. One is
// a principal's, the others are for logins at proxies.
//
// A keyring may wait for ever for the person to unlock it, and the library
// that talks to it cannot be stopped. So each call runs in a child process,
// which is killed when its time is over. The password goes through the child's
// standard input and output, never through an argument or the environment.
// There is no other place for it: without a keyring nothing is remembered, and
// nothing is ever written to a file.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"kerbpass/internal/ticket"
)

// Errors that callers test for with [errors.Is].
var (
	// ErrNotFound: no password is remembered for this principal.
	ErrNotFound = errors.New("no password is remembered")
	// ErrUnavailable: there is no keyring, or it refuses.
	ErrUnavailable = errors.New("no keyring answers (" + Provider() + ")")
	// ErrLocked: the keyring waits for the person, who has not unlocked it or
	// does not want to; or there is none yet inside a running service.
	ErrLocked = errors.New("the keyring is locked")
	// ErrTooLarge: the password is longer than the keyring takes (2560 bytes in
	// Windows, about 3000 in macOS, [MaxSecret] here).
	ErrTooLarge = errors.New("the password is too long for the keyring")
)

// Bounds of what can be remembered, in bytes.
const (
	MaxSecret    = 64 << 10
	MaxPrincipal = 512 // Windows takes 513 characters
)

// Provider is what people know this system's keyring as.
func Provider() string {
	switch runtime.GOOS {
	case "windows":
		return "Credential Manager"
	case "darwin":
		return "Keychain"
	}
	return "Secret Service: gnome-keyring or KWallet"
}

// Harden makes this process dump no core, and on Linux closes its memory to
// other processes of the same user. For a process that is about to hold a
// password; it cannot be undone.
func Harden() error { return harden() }

// Config holds what a [Store] needs.
type Config struct {
	// Command is the argv of a program that calls [Serve] with its standard
	// input and output: this program, with a subcommand for that. Required.
	Command []string

	// Limit is the longest wait for one answer, and for the person at an unlock
	// dialog; 60 s if it is zero.
	Limit time.Duration
}

// Store reaches the keyring. All methods are safe for concurrent use; one call
// is under way at a time, because each may open a dialog. They end with an
// error when ctx does, and with [ErrLocked] after the limit; the child is gone
// then. Errors are a [*ticket.OpError]. Call them only after an action of the
// person: a locked keyring opens its dialog.
type Store struct {
	cfg  Config
	turn chan struct{} // capacity 1: held by the call under way
}

// New checks c. It does no I/O.
func New(c Config) (*Store, error) {
	if len(c.Command) == 0 {
		return nil, errors.New("keyring: no command given")
	}
	if c.Limit < 0 {
		return nil, fmt.Errorf("keyring: limit is negative: %v", c.Limit)
	}
	if c.Limit == 0 {
		c.Limit = time.Minute
	}
	return &Store{cfg: c, turn: make(chan struct{}, 1)}, nil
}

// Get returns the password remembered for principal, or [ErrNotFound]. The
// caller wipes it.
func (s *Store) Get(ctx context.Context, principal string) (ticket.Secret, error) {
	answer, err := s.ask(ctx, "read password", message{kind: opGet, text: principal})
	if err != nil {
		return ticket.Secret{}, err
	}
	return ticket.NewSecret(answer.secret), nil
}

// Set remembers the password of principal, and forgets that of anyone else.
// Afterwards password still belongs to the caller.
func (s *Store) Set(ctx context.Context, principal string, password ticket.Secret) error {
	_, err := s.ask(ctx, "remember password", message{kind: opSet, text: principal, secret: password.Expose()})
	return err
}

// Delete forgets the password of principal. That none was remembered is no
// error.
func (s *Store) Delete(ctx context.Context, principal string) error {
	_, err := s.ask(ctx, "forget password", message{kind: opDelete, text: principal})
	return err
}

// Principal returns whose password is remembered, "" for nobody's, so that a
// start without a ticket knows who to sign in.
func (s *Store) Principal(ctx context.Context) (string, error) {
	answer, err := s.ask(ctx, "read whose password is remembered", message{kind: opPrincipal})
	return answer.text, err
}

// GetLogin returns the password of a login, or [ErrNotFound]. Any text can name
// one, within the bounds of a principal. The caller wipes the password.
func (s *Store) GetLogin(ctx context.Context, name string) (ticket.Secret, error) {
	answer, err := s.ask(ctx, "read password", message{kind: opGetLogin, text: name})
	if err != nil {
		return ticket.Secret{}, err
	}
	return ticket.NewSecret(answer.secret), nil
}

// SetLogin remembers the password of a login, and leaves all others alone.
// Afterwards password still belongs to the caller.
func (s *Store) SetLogin(ctx context.Context, name string, password ticket.Secret) error {
	_, err := s.ask(ctx, "remember password", message{kind: opSetLogin, text: name, secret: password.Expose()})
	return err
}

// DeleteLogin forgets the password of a login. That there is none is no error.
func (s *Store) DeleteLogin(ctx context.Context, name string) error {
	_, err := s.ask(ctx, "forget password", message{kind: opDeleteLogin, text: name})
	return err
}
