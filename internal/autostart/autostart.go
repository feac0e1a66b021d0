// Package autostart starts a desktop program when its user logs in: by an XDG
// autostart file on Linux, a value below the Run key on Windows and a launch
// agent on macOS.
//
// It writes the user's own entry only, never the administrator's, and leaves
// alone what others wrote or decided: an entry with another command is not
// overwritten, and what the user turned off in the Task Manager stays off.
// Nothing is started or ended at once; an entry counts from the next login.
package autostart

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Errors that callers test for with [errors.Is]. On a system that is neither
// Linux nor Windows nor macOS, New returns [errors.ErrUnsupported].
var (
	// ErrForeign says that the user's entry has our name but another command.
	ErrForeign = errors.New("the entry was not made by this program")
	// ErrNotRegular says that a link or a folder is where the entry belongs.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTurnedOff says that the entry is there, and that the user turned it off
	// with the system's own means, which alone can turn it on again.
	ErrTurnedOff = errors.New("turned off by the user")
	// ErrByAdmin says that the administrator's entry starts the program.
	ErrByAdmin = errors.New("started by the administrator's entry")
)

// Config describes the program.
type Config struct {
	ID      string   // of letters, digits, "-", "_" and ".": file name, registry value, launch agent's label
	Name    string   // for people
	Comment string   // one sentence for people; may be empty
	Icon    string   // a path or the name of a themed icon; may be empty; Linux only
	Command []string // absolute path of the program, and its arguments
	Also    []string // other file names of the program: an entry with one of them is ours

	// LookupEnv finds the user's folders (HOME, XDG_CONFIG_HOME,
	// XDG_CONFIG_DIRS); nil means [os.LookupEnv].
	LookupEnv func(string) (string, bool)
}

// By says who decided what happens at login.
type By string

// The values of By.
const (
	ByNobody By = "" // there is no entry
	ByUser   By = "user"
	ByAdmin  By = "admin"
)

// Status is what happens at the next login, as far as the entries say. Whether
// macOS was told to ignore a launch agent cannot be read.
type Status struct {
	Enabled bool
	By      By
	Stale   bool   // what starts is another command than Config.Command
	Where   string // file or registry value that decides, or would be written
	Detail  string // why nothing starts, or what starts instead; may be empty
}

// An Entry is the start of one program at the login of one user. Its methods
// may be called at any time; the last of two writers wins.
type Entry struct {
	command []string
	also    []string
	sys     system
}

// found is what one place says.
type found struct {
	where   string
	present bool
	command []string // nil if there is none, or none that can be understood
	off     string   // why an entry that is present starts nothing
}

func (f found) on() bool { return f.present && f.off == "" }

// system is where one operating system keeps what starts at login.
type system interface {
	user() (found, error)
	admin() (found, error)
	shadows() bool // the user's entry, on or off, replaces the administrator's
	write() error  // makes or replaces the user's entry
	remove() error // removes the user's entry, if there is one
	hide() error   // keeps the administrator's entry from starting, or ErrByAdmin
}

// New checks cfg. It does not look at the entries yet.
func New(cfg Config) (*Entry, error) {
	if !validID(cfg.ID) {
		return nil, fmt.Errorf("autostart: the id %q is not made of letters, digits, dots, - and _", cfg.ID)
	}
	if len(cfg.Command) == 0 || cfg.Command[0] == "" {
		return nil, errors.New("autostart: the command is missing")
	}
	if cfg.Name == "" {
		return nil, errors.New("autostart: the name is missing")
	}
	for _, text := range append([]string{cfg.Name, cfg.Comment, cfg.Icon}, cfg.Command...) {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return nil, fmt.Errorf("autostart: %q has characters that no entry can hold", text)
		}
	}
	if cfg.LookupEnv == nil {
		cfg.LookupEnv = os.LookupEnv
	}
	cfg.Command = slices.Clone(cfg.Command)
	sys, err := newSystem(cfg)
	if err != nil {
		return nil, fmt.Errorf("autostart: %w", err)
	}
	return &Entry{command: cfg.Command, also: slices.Clone(cfg.Also), sys: sys}, nil
}

func validID(id string) bool {
	return len(id) <= 64 && strings.Trim(id, ".") != "" && !strings.ContainsFunc(id, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.", r)
	})
}

// Enable makes the program start at login. An entry of ours whose program has
// moved is corrected, one with another command gives [ErrForeign]. Where the
// administrator starts the same command, the user's own entry is removed.
// [ErrTurnedOff] means that the entry is written and stays off.
func (e *Entry) Enable() error {
	user, admin, err := e.read()
	if err != nil {
		return err
	}
	switch {
	case user.present && !e.replaceable(user):
		return foreign(user)
	case admin.on() && slices.Equal(admin.command, e.command):
		return e.sys.remove()
	case user.on() && slices.Equal(user.command, e.command):
		return nil
	}
	if err := e.sys.write(); err != nil {
		return err
	}
	user, err = e.sys.user()
	if err == nil && !user.on() {
		err = fmt.Errorf("%s: %w: %s", user.where, ErrTurnedOff, user.off)
	}
	return err
}

// Disable ends the start at login. An entry of ours is removed whatever its
// arguments are, one of another program gives [ErrForeign]. Where the
// administrator starts the program, the user's entry says not to; on a system
// that knows no such thing the result is [ErrByAdmin].
func (e *Entry) Disable() error {
	user, admin, err := e.read()
	switch {
	case err != nil:
		return err
	case user.on() && !e.sameProgram(user):
		return foreign(user)
	case !admin.on():
		return e.sys.remove()
	case e.sys.shadows() && user.present && !user.on():
		return nil
	}
	return e.sys.hide()
}

// Repair corrects the user's entry if the program it starts is gone and was
// this one, with the same arguments: the program has moved. It never turns the
// start at login on, and leaves the entry of a second copy alone.
func (e *Entry) Repair() error {
	user, err := e.sys.user()
	if err != nil || !user.on() || slices.Equal(user.command, e.command) || !e.replaceable(user) {
		return err
	}
	if _, err := os.Stat(user.command[0]); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return e.sys.write()
}

// Status reads the entries.
func (e *Entry) Status() (Status, error) {
	user, admin, err := e.read()
	if err != nil {
		return Status{}, err
	}
	f, by := user, ByUser
	if admin.present && (!user.present || !user.on() && !e.sys.shadows()) {
		f, by = admin, ByAdmin
	}
	if !f.present {
		return Status{By: ByNobody, Where: f.where}, nil
	}
	s := Status{Enabled: f.on(), By: by, Where: f.where, Detail: f.off}
	switch {
	case !f.on() || slices.Equal(f.command, e.command):
	case len(f.command) == 0:
		s.Stale, s.Detail = true, "its command is not understood"
	default:
		s.Stale, s.Detail = true, "starts "+strings.Join(f.command, " ")
	}
	return s, nil
}

func (e *Entry) read() (user, admin found, err error) {
	user, userErr := e.sys.user()
	admin, adminErr := e.sys.admin()
	return user, admin, errors.Join(userErr, adminErr)
}

// replaceable reports whether nothing is lost when f is written anew: it starts
// this program with these arguments, from wherever, or is off and says no
// command.
func (e *Entry) replaceable(f found) bool {
	if !f.on() && len(f.command) == 0 {
		return true
	}
	return e.sameProgram(f) && slices.Equal(f.command[1:], e.command[1:])
}

func (e *Entry) sameProgram(f found) bool {
	return len(f.command) > 0 && slices.ContainsFunc(append([]string{fileName(e.command[0])}, e.also...),
		func(name string) bool { return strings.EqualFold(fileName(f.command[0]), name) })
}

// fileName is the last part of a path of any system.
func fileName(path string) string { return path[strings.LastIndexAny(path, `/\`)+1:] }

func foreign(f found) error {
	return fmt.Errorf("%s starts %q: %w", f.where, f.command, ErrForeign)
}
