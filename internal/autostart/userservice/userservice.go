// Package userservice runs a program without a desktop: as a service of one
// user, under systemd on Linux and launchd on macOS. It is started again when
// it fails, and stays ended when it was told to end.
//
// It refuses Windows: a service there runs in another logon session, which has
// none of the user's tickets. A file of another making is neither replaced nor
// followed if it is a link, and a failed installation leaves nothing behind.
package userservice

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Errors that callers test for with [errors.Is]; where the system has no
// service manager that would do, it is [errors.ErrUnsupported].
var (
	ErrNotInstalled = errors.New("the service is not installed")
	// ErrDiffers says that a service of this name is installed, but not as it
	// would be now: the program has moved, or somebody changed or made the file.
	ErrDiffers = errors.New("another service of this name is installed")
)

// Config describes the service.
type Config struct {
	Name        string   // of letters, digits, "-" and "_": name of the unit or label of the launch agent
	Description string   // one sentence for people
	Command     []string // absolute path of the program, and its arguments
}

// Status is what is known about the service.
type Status struct {
	Installed bool
	Running   bool
	Stale     bool   // see [ErrDiffers]
	Where     string // the file that describes the service, also if it is not there
	Detail    string // what the service manager adds; may be empty
}

// A Service is installed for the user that runs this program. Its methods wait
// for the service manager, whose own time limits count.
type Service struct {
	file string // that describes the service
	text string // what it should hold
	mgr  manager
}

// manager is the system's service manager, for one service.
type manager interface {
	answers() error // whether it can be asked at all, with its reason
	install() error // writes the file and has it started at login
	uninstall() error
	start() error
	stop() error
	running() (yes bool, detail string, err error)
	leftovers() []string // what a failed installation may leave behind
}

// New checks cfg. It does not look at the service yet.
func New(cfg Config) (*Service, error) {
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("user service: %w", err)
	}
	s, err := newService(cfg)
	if err != nil {
		return nil, fmt.Errorf("user service: %w", err)
	}
	if strings.Contains(s.text, "{{") {
		return nil, errors.New("user service: a path or text with {{ in it cannot be written")
	}
	return s, nil
}

func (c Config) check() error {
	if c.Name == "" || len(c.Name) > 64 || strings.ContainsFunc(c.Name, func(r rune) bool {
		return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_", r)
	}) {
		return fmt.Errorf("the name %q is not made of letters, digits, - and _", c.Name)
	}
	if len(c.Command) == 0 || !filepath.IsAbs(c.Command[0]) {
		return errors.New("the command has no absolute path")
	}
	for _, text := range append([]string{c.Description}, c.Command...) {
		if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return fmt.Errorf("%q has characters that no service can hold", text)
		}
	}
	return nil
}

// Install has the service started at every login, from the next one on. To
// install it again changes nothing; see also [ErrDiffers].
func (s *Service) Install() error {
	if err := s.mgr.answers(); err != nil {
		return err
	}
	present, same, err := s.look()
	switch {
	case err != nil:
		return err
	case present && !same:
		return fmt.Errorf("%s: %w", s.file, ErrDiffers)
	case present:
		// The manager refuses to write over it.
		if err := os.Remove(s.file); err != nil {
			return err
		}
	}
	if err := s.mgr.install(); err != nil {
		return errors.Join(fmt.Errorf("install the service: %w", err), removeAll(s.mgr.leftovers()))
	}
	return nil
}

func removeAll(paths []string) error {
	var errs []error
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Uninstall ends the service and removes it, even one that differs. One that
// is not installed is no error.
func (s *Service) Uninstall() error {
	if err := s.mgr.answers(); err != nil {
		return err
	}
	present, _, err := s.look()
	if err != nil || !present {
		return err
	}
	if yes, _, err := s.mgr.running(); err != nil {
		return err
	} else if yes {
		if err := s.mgr.stop(); err != nil {
			return fmt.Errorf("stop the service: %w", err)
		}
	}
	if err := s.mgr.uninstall(); err != nil {
		return fmt.Errorf("uninstall the service: %w", err)
	}
	return nil
}

// Start starts the installed service, and does nothing if it runs.
func (s *Service) Start() error { return s.do("start", s.mgr.start, false) }

// Stop ends the service until the next login or [Service.Start].
func (s *Service) Stop() error { return s.do("stop", s.mgr.stop, true) }

// do acts on an installed service that runs, or does not, as the action needs.
func (s *Service) do(name string, action func() error, whenRunning bool) error {
	if err := s.mgr.answers(); err != nil {
		return err
	}
	present, _, err := s.look()
	if err == nil && !present {
		err = ErrNotInstalled
	}
	if err != nil {
		return err
	}
	running, _, err := s.mgr.running()
	if err == nil && running == whenRunning {
		err = action()
	}
	if err != nil {
		return fmt.Errorf("%s the service: %w", name, err)
	}
	return nil
}

// Status asks the service manager, if the service is installed.
func (s *Service) Status() (Status, error) {
	present, same, err := s.look()
	st := Status{Installed: present, Stale: present && !same, Where: s.file}
	if err != nil || !present {
		return st, err
	}
	if err := s.mgr.answers(); err != nil {
		return st, err
	}
	st.Running, st.Detail, err = s.mgr.running()
	return st, err
}

// look compares the file with what it should be. It must be a regular one: a
// link would have the manager write and remove elsewhere.
func (s *Service) look() (present, same bool, err error) {
	info, err := os.Lstat(s.file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, false, nil
	case err != nil:
		return false, false, err
	case !info.Mode().IsRegular():
		return false, false, fmt.Errorf("%s is not a regular file; it is left alone", s.file)
	case info.Size() != int64(len(s.text)):
		return true, false, nil
	}
	text, err := os.ReadFile(s.file)
	return true, slices.Equal(text, []byte(s.text)), err
}
