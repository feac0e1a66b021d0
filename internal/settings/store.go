package settings

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// lockWait bounds how long an edit waits for another process's edit.
const lockWait = 10 * time.Second

// Store keeps the current [Snapshot], edits the settings file and watches it.
// All methods are safe for concurrent use.
type Store struct {
	cfg  Config
	path string
	snap atomic.Pointer[Snapshot]

	newWatcher func() (*fsnotify.Watcher, error) // replaced in a test
	lockWait   time.Duration                     // shortened in a test

	edit sync.Mutex // one edit of this process at a time

	load sync.Mutex // guards good, kept and law; held while subscribers are told, so that they hear in order
	good *file      // as last understood
	kept fileValues // what counts where it has become unusable
	law  lastRules  // what the organisation said

	subs struct {
		sync.Mutex // guards next and all
		next       int
		all        map[int]func(*Snapshot)
	}
}

// Open reads all layers once. A missing, broken or unreadable file is no
// error: it gives a [Problem], and the other layers count. An upstream that is
// unusable or is the helper itself lets the next source speak; any other
// unusable value gives the default. A list is used without its bad entries.
func Open(cfg Config) (*Store, error) {
	if cfg.Path == "" {
		return nil, errors.New("settings: the path of the settings file is missing")
	}
	for key := range cfg.Flags {
		if settingFor(key) == nil {
			return nil, fmt.Errorf("settings: there is no setting %q", key)
		}
	}
	for key := range cfg.Check {
		if settingFor(key) == nil {
			return nil, fmt.Errorf("settings: a check for %q, which is no setting", key)
		}
	}
	path, err := filepath.Abs(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	empty, _ := parseFile(path, "")
	s := &Store{cfg: cfg, path: path, good: empty, newWatcher: fsnotify.NewWatcher, lockWait: lockWait}
	s.subs.all = map[int]func(*Snapshot){}
	s.Reload() // what it reports is in the snapshot
	return s, nil
}

// Path returns the absolute path of the settings file.
func (s *Store) Path() string { return s.path }

// Snapshot returns the current settings without locking.
func (s *Store) Snapshot() *Snapshot { return s.snap.Load() }

// Subscribe has f called with every snapshot that differs from the one before,
// in order, one at a time, on the goroutine that noticed. F must not call
// [Store.Edit] or [Store.Reload]. A call under way may still end after cancel
// has returned.
func (s *Store) Subscribe(f func(*Snapshot)) (cancel func()) {
	s.subs.Lock()
	defer s.subs.Unlock()
	id := s.subs.next
	s.subs.next++
	s.subs.all[id] = f
	return func() {
		s.subs.Lock()
		defer s.subs.Unlock()
		delete(s.subs.all, id)
	}
}

// Reload reads every layer again. A key for which the file has become unusable
// keeps the value it had from the file until now, if any; a key that is gone
// from the file does not. The error is that of a file that could not be used as
// a whole ([ErrBroken] if it does not parse), which changes no value; the
// snapshot is current in any case.
func (s *Store) Reload() error {
	s.load.Lock()
	defer s.load.Unlock()
	var broken *Problem
	text, err := readFile(s.path)
	switch {
	case err != nil:
		broken = unreadable(s.path, err)
		err = fmt.Errorf("%s cannot be read: %w", s.path, reason(err))
	case text != s.good.text:
		var f *file
		if f, broken = parseFile(s.path, text); broken == nil {
			s.good = f
		} else {
			err = refuse(ErrBroken, "%s", broken.clause())
		}
	}
	var next *Snapshot
	r := s.law.read(s.cfg.Policy)
	next, s.kept = build(&s.cfg, s.good, broken, s.kept, r)
	s.law.keep(r)
	if old := s.snap.Load(); old != nil && old.same(next) {
		return err
	}
	s.snap.Store(next)
	s.subs.Lock()
	var tell []func(*Snapshot)
	for _, id := range slices.Sorted(maps.Keys(s.subs.all)) {
		tell = append(tell, s.subs.all[id])
	}
	s.subs.Unlock()
	for _, f := range tell {
		f(next)
	}
	return err
}

// A refusal says in its own words what is wrong; kind is for [errors.Is].
type refusal struct{ kind, err error }

func (r *refusal) Error() string   { return r.err.Error() }
func (r *refusal) Unwrap() []error { return []error{r.kind, r.err} }

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind, fmt.Errorf(format, args...)}
}

// Edit changes the settings file: it locks out other processes, reads the file
// afresh, lets f make its changes, and writes the result in one step. If f
// fails, or a change is refused, the file stays as it is; an error of f is
// returned as it is. F may be called more than once, because whoever edits the
// file by hand takes no lock; it must not call [Store.Edit] or [Store.Reload].
// Edit waits at most ten seconds for others ([ErrBusy]); see also [ErrBroken],
// [ErrNewer] and [ErrLocked]. Errors name the settings file, not the files
// that help to write it.
func (s *Store) Edit(f func(*Edit) error) error {
	s.edit.Lock()
	defer s.edit.Unlock()
	// A symbolic link stays one: what it points to is written.
	path, err := target(s.path)
	if err != nil {
		return fmt.Errorf("%s cannot be followed: %w", s.path, reason(err))
	}
	name := s.path
	if path != name {
		name += " (a link to " + path + ")"
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%s cannot be written: its folder cannot be made: %w", name, reason(err))
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.lockWait)
	defer cancel()
	unlock, err := lock(ctx, path+".lock")
	switch {
	case errors.Is(err, ErrBusy):
		return refuse(ErrBusy, "%s is being edited by another program", name)
	case err != nil:
		return fmt.Errorf("%s cannot be locked for writing: %w", name, reason(err))
	}
	defer unlock()
	for range 5 {
		done, err := s.tryEdit(path, name, f)
		if err != nil {
			return err
		}
		if done {
			s.Reload() // what it reports is in the snapshot
			return nil
		}
	}
	return refuse(ErrBusy, "%s was changed by another program each time it was about to be written", name)
}

// Create makes the settings file, if there is none, with nothing set in it.
func (s *Store) Create() error {
	return s.Edit(func(e *Edit) error {
		e.create = true
		return nil
	})
}

// tryEdit is one attempt, under the lock. Not done means that the file was
// changed by someone who takes no lock. Name is path in messages.
func (s *Store) tryEdit(path, name string, f func(*Edit) error) (done bool, err error) {
	before, err := readFile(path)
	if err != nil {
		return false, fmt.Errorf("%s cannot be read: %w", name, reason(err))
	}
	base := before
	if base == "" {
		base = fmt.Sprintf("version = %d\n", knownVersion)
	}
	was, broken := parseFile(s.path, base)
	if broken != nil {
		return false, refuse(ErrBroken, "%s", broken.clause())
	}
	if was.readOnly {
		return false, refuse(ErrNewer, "%s", was.problems[0].clause())
	}
	e := &Edit{file: was, now: s.Snapshot(), check: s.cfg.Check}
	if err := f(e); err != nil {
		return false, err
	}
	if e.file.text == base && (before != "" || !e.create) {
		return true, nil
	}
	if done, err = replaceFile(path, before, e.file.text); err != nil {
		err = fmt.Errorf("%s cannot be written: %w", name, reason(err))
	}
	return done, err
}

// replaceFile writes text beside path, owner-only, and renames it into place,
// unless the file does not hold before any more.
func replaceFile(path, before, text string) (done bool, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".config-*.tmp") // mode 0600
	if err != nil {
		return false, err
	}
	defer func() {
		if !done {
			os.Remove(tmp.Name())
		}
	}()
	_, err = tmp.WriteString(text)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return false, err
	}
	if now, err := readFile(path); err != nil || now != before {
		return false, err
	}
	if err := rename(tmp.Name(), path); err != nil {
		return false, err
	}
	// The new name should survive a power cut; not every system can be asked
	// for that, and the edit itself is done.
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		dir.Sync()
		dir.Close()
	}
	return true, nil
}

// target follows symbolic links to the file they end at, which need not exist.
func target(path string) (string, error) {
	links, err := hops(path)
	return links[len(links)-1], err
}

// hops returns path and what each symbolic link on the way points to.
func hops(path string) ([]string, error) {
	all := []string{path}
	for range 40 {
		st, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && st.Mode()&fs.ModeSymlink == 0 {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		to, err := os.Readlink(path)
		if err != nil {
			return all, err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
		all = append(all, path)
	}
	return all, &fs.PathError{Op: "follow", Path: path, Err: errors.New("too many symbolic links")}
}
