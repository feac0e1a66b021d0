// Package apps knows other programs' proxy settings: where each program keeps
// them, what they say, how they are made to lead to Kerbpass, and how that is
// taken back.
//
// It promises: an edit only ever inserts, and is written only if reading the
// file again gives what was there before and the new settings, nothing else; a
// setting with another value is reported and stays; comments, order, line
// endings, byte order mark, file mode and symbolic links stay; taking back
// gives the old bytes where nobody has edited since, else takes out only what
// was put in. The record of what was put in holds nothing else of the file,
// which may have passwords in it. Where it is not sure it refuses, and says
// what to write by hand. It never edits what belongs to the whole computer.
package apps

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// A State says what a program's settings are.
type State string

// The states.
const (
	Absent      State = "absent"      // there is neither the program nor its settings file
	Unset       State = "unset"       // no proxy is set
	Applied     State = "applied"     // it is sent through Kerbpass, by Apply
	Outdated    State = "outdated"    // by Apply, with another address of Kerbpass
	Same        State = "same"        // it is sent through Kerbpass, by somebody else
	Changed     State = "changed"     // part of what Apply wrote is gone or changed
	Conflict    State = "conflict"    // another value is set
	ByHand      State = "by_hand"     // it is not edited; Hint says what to write
	Environment State = "environment" // it takes the variables of "kerbpass env" and "exec"
)

// A Status is what is known about one program.
type Status struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	State  State  `json:"state"`
	File   string `json:"file,omitempty"`   // where its settings are
	Detail string `json:"detail,omitempty"` // a sentence: what is in the way, or what else to know
	Hint   string `json:"hint,omitempty"`   // what to write or run by hand
}

// Errors that callers react to.
var (
	ErrUnknown  = errors.New("no such program")
	ErrConflict = errors.New("another value is set")
	ErrByHand   = errors.New("not edited")
	ErrNotOurs  = errors.New("nothing of ours")
)

// Config says where programs and their settings are. Nothing else is looked at.
type Config struct {
	OS        string                      // as runtime.GOOS
	Home      string                      // of the user
	LookupEnv func(string) (string, bool) // as os.LookupEnv
	LookPath  func(string) (string, error)
	Addr      string // of Kerbpass: host:port
	// Record is the file that keeps what was applied.
	Record string
}

// Apps are the programs of one user. Its methods are not safe for concurrent
// use, and two processes must not edit at the same time.
type Apps struct {
	cfg        Config
	host, port string
}

// New checks cfg; it does no I/O.
func New(cfg Config) (*Apps, error) {
	host, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, err
	}
	for _, c := range host + port {
		if !(c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune(".-:", c)) {
			return nil, fmt.Errorf("%q is not an address", cfg.Addr)
		}
	}
	if host == "" || port == "" || cfg.Home == "" || cfg.LookupEnv == nil || cfg.LookPath == nil || cfg.Record == "" {
		return nil, errors.New("apps: incomplete configuration")
	}
	return &Apps{cfg: cfg, host: host, port: port}, nil
}

// Names lists the programs, in the order in which they are shown.
func Names() (names []string) {
	for _, p := range programs {
		names = append(names, p.name)
	}
	return names
}

// List looks at every program.
func (a *Apps) List() ([]Status, error) {
	rec, err := a.readRecord()
	if err != nil {
		return nil, err
	}
	var all []Status
	for _, p := range programs {
		all = append(all, a.look(p, rec[p.name]).Status)
	}
	return all, nil
}

// Look looks at one program; [ErrUnknown].
func (a *Apps) Look(name string) (Status, error) {
	p, err := find(name)
	if err != nil {
		return Status{}, err
	}
	rec, err := a.readRecord()
	return a.look(p, rec[name]).Status, err
}

func find(name string) (program, error) {
	i := slices.IndexFunc(programs, func(p program) bool { return p.name == name })
	if i < 0 {
		return program{}, fmt.Errorf("%w: %q", ErrUnknown, name)
	}
	return programs[i], nil
}

// seen is a Status and what it was made of.
type seen struct {
	Status
	path    string // of the file, symbolic links followed
	exists  bool
	text    string
	entries []entry
	want    plan
}

// look never fails: what cannot be read is a state.
func (a *Apps) look(p program, rec *applied) (s seen) {
	s.Name, s.Title = p.name, p.title
	installed := slices.ContainsFunc(p.commands, func(c string) bool { _, err := a.cfg.LookPath(c); return err == nil })
	if p.note != nil {
		s.Detail = p.note(a)
	}
	if p.plan == nil {
		s.State = Environment
		if p.hint != nil {
			s.State, s.Hint = ByHand, p.hint(a)
		}
		if !installed && len(p.commands) > 0 {
			s.State = Absent
		}
		return s
	}
	s.want = p.plan(a)
	s.File = s.want.file
	if s.want.file == "" {
		s.State = Absent
		return s
	}
	s.Hint = s.want.shown()
	byHand := func(format string, args ...any) seen {
		s.State, s.Detail = ByHand, fmt.Sprintf(format, args...)
		return s
	}
	if rec != nil && rec.File != s.want.file {
		rec = nil // of another place; the file there is left alone
	}
	var err error
	if s.path, s.text, s.exists, err = readFile(s.want.file); err != nil {
		return byHand("It cannot be read: %v.", err)
	}
	if !utf8.ValidString(s.text) || strings.ContainsRune(s.text, 0) {
		return byHand("It is not UTF-8 text.")
	}
	if s.entries, err = s.want.format.parse(s.text); err != nil {
		return byHand("It is not understood: %v.", err)
	}
	if rec != nil {
		switch n := present(s.entries, rec.Entries); {
		case n == len(rec.Entries) && rec.Addr == a.cfg.Addr:
			s.State = Applied
			return s
		case n == len(rec.Entries):
			s.State, s.Detail = Outdated, "It leads to "+rec.Addr+", where Kerbpass was when this was set."
			return s
		case n > 0:
			s.State, s.Detail = Changed, "It was edited since: part of what was written is gone or has another value."
			return s
		}
	}
	same := 0
	for _, w := range s.want.set {
		got, ok := w.in(s.entries)
		switch {
		case w.optional:
		case ok && got == w.value:
			same++
		case ok:
			s.State, s.Detail = Conflict, fmt.Sprintf("%s is %s.", w.key, hidden(got))
			return s
		}
	}
	if s.want.clash != nil && same == 0 {
		if what := s.want.clash(s.entries); what != "" {
			s.State, s.Detail = Conflict, what
			return s
		}
	}
	switch needed := countNeeded(s.want.set); {
	case same >= needed && same > 0:
		s.State = Same
	case !installed && !s.exists && len(p.commands) > 0 && !a.exists(p.folder):
		s.State = Absent
	case s.want.refuse != "":
		s.State, s.Detail = ByHand, s.want.refuse
	default:
		s.State = Unset
	}
	return s
}

func countNeeded(set []setting) (n int) {
	for _, w := range set {
		if !w.optional {
			n++
		}
	}
	return n
}

func (a *Apps) exists(folder func(*Apps) string) bool {
	if folder == nil {
		return false
	}
	_, err := os.Stat(folder(a))
	return err == nil
}

// hidden shows a value without the password of its URL.
func hidden(value string) string {
	at := strings.LastIndexByte(value, '@')
	if at < 0 {
		return value
	}
	scheme := ""
	if s, _, ok := strings.Cut(value[:at], "://"); ok {
		scheme = s + "://"
	}
	return scheme + "…@" + value[at+1:]
}

// Apply sends one program through Kerbpass. What is so already stays as it is.
// [ErrConflict] and [ErrByHand] come with a Status that says more.
func (a *Apps) Apply(name string) (Status, error) {
	p, err := find(name)
	if err != nil {
		return Status{}, err
	}
	rec, err := a.readRecord()
	if err != nil {
		return Status{}, err
	}
	s := a.look(p, rec[name])
	if s.want.refuse != "" && (s.State == Outdated || s.State == Unset || s.State == Absent) {
		s.State, s.Detail = ByHand, s.want.refuse
		return s.Status, ErrByHand
	}
	if s.State == Outdated {
		if _, err := a.Revert(name); err != nil {
			return s.Status, err
		}
		delete(rec, name)
		s = a.look(p, nil)
	}
	switch s.State {
	case Applied, Same:
		return s.Status, nil
	case Conflict, Changed:
		return s.Status, ErrConflict
	case ByHand, Environment:
		return s.Status, ErrByHand
	}
	if s.File == "" {
		s.State, s.Detail = ByHand, "It has no such settings on this system."
		return s.Status, ErrByHand
	}
	var set []setting
	for _, w := range s.want.set {
		if _, ok := w.in(s.entries); !ok {
			set = append(set, w)
		}
	}
	edits, entries, err := s.want.format.insert(s.text, set)
	after := s.text
	if err == nil {
		after, err = splice(s.text, edits)
	}
	if err == nil {
		err = checkEdit(s.want.format, s.entries, after, entries)
	}
	if err != nil {
		s.State, s.Detail = ByHand, fmt.Sprintf("It is not edited, to be on the safe side: %v.", err)
		return s.Status, ErrByHand
	}
	made, err := makeFolder(filepath.Dir(s.path))
	if err != nil {
		return s.Status, err
	}
	rec[name] = &applied{File: s.File, Addr: a.cfg.Addr, Existed: s.exists, Folders: made, Edits: edits, Entries: entries, Before: sum(s.text), After: sum(after)}
	if err := a.writeRecord(rec); err != nil {
		removeFolders(made)
		return s.Status, err
	}
	if err := replaceFile(s.path, s.exists, s.text, after); err != nil {
		delete(rec, name)
		removeFolders(made)
		return s.Status, errors.Join(err, a.writeRecord(rec))
	}
	return a.look(p, rec[name]).Status, nil
}

// Revert takes out what Apply put in: to the byte what was there before, if
// nobody has edited since. [ErrNotOurs] if there is nothing of ours;
// [ErrByHand] if it cannot be found any more.
func (a *Apps) Revert(name string) (Status, error) {
	p, err := find(name)
	if err != nil {
		return Status{}, err
	}
	rec, err := a.readRecord()
	if err != nil {
		return Status{}, err
	}
	r := rec[name]
	if r == nil || p.plan == nil {
		return a.look(p, nil).Status, ErrNotOurs
	}
	want := p.plan(a)
	path, text, exists, err := readFile(r.File)
	if err != nil {
		return a.look(p, r).Status, err
	}
	forget := func() (Status, error) {
		delete(rec, name)
		err := a.writeRecord(rec)
		return a.look(p, nil).Status, err
	}
	entries, err := want.format.parse(text)
	if err == nil && (!exists || present(entries, r.Entries) == 0) {
		return forget() // somebody else has taken it out
	}
	before, ok := "", false
	if err == nil {
		before, ok = takeOut(want.format, text, entries, r)
	}
	if !ok {
		s := a.look(p, r).Status
		s.State, s.Detail = ByHand, "It was edited since, and what was put in cannot be told from the rest. Take out by hand what leads to Kerbpass."
		return s, ErrByHand
	}
	if !r.Existed && strings.TrimSpace(before) == "" {
		if err = os.Remove(path); err == nil {
			handOn(rec, r, removeFolders(r.Folders))
		}
	} else {
		err = replaceFile(path, true, text, before)
	}
	if err != nil {
		return a.look(p, r).Status, err
	}
	return forget()
}

// file joins a path below the home folder, in the way of the system.
func (a *Apps) home(elem ...string) string {
	return filepath.Join(append([]string{a.cfg.Home}, elem...)...)
}

// env is a variable that names an absolute path, or "".
func (a *Apps) env(name string) string {
	if v, ok := a.cfg.LookupEnv(name); ok && (filepath.IsAbs(v) || path.IsAbs(v)) {
		return v
	}
	return ""
}

// config is below the configuration folder of XDG.
func (a *Apps) config(elem ...string) string {
	if dir := a.env("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(append([]string{dir}, elem...)...)
	}
	return a.home(append([]string{".config"}, elem...)...)
}

// appData is below a folder that a variable of Windows names.
func (a *Apps) appData(variable, usual string, elem ...string) string {
	if dir := a.env(variable); dir != "" {
		return filepath.Join(append([]string{dir}, elem...)...)
	}
	return a.home(append([]string{"AppData", usual}, elem...)...)
}

func (a *Apps) url() string { return "http://" + net.JoinHostPort(a.host, a.port) }

// readFile follows symbolic links. A file that is missing is empty.
func readFile(name string) (path, text string, exists bool, err error) {
	path = name
	for range 40 {
		st, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return path, "", false, nil
		}
		if err != nil {
			return path, "", false, err
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			if !st.Mode().IsRegular() {
				return path, "", false, errors.New("it is not a file")
			}
			if st.Size() > 4<<20 {
				return path, "", false, errors.New("it is larger than 4 MiB")
			}
			b, err := os.ReadFile(path)
			return path, string(b), true, err
		}
		to, err := os.Readlink(path)
		if err != nil {
			return path, "", false, err
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return path, "", false, errors.New("too many symbolic links")
}

// replaceFile puts text in place of before in one step, with the mode and
// owner of the file that is there.
func replaceFile(path string, exists bool, before, text string) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".kerbpass-*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(text)
	if exists && err == nil {
		var st fs.FileInfo
		if st, err = os.Stat(path); err == nil {
			err = likeOriginal(tmp, st)
		}
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	now, err := os.ReadFile(path)
	if exists != (err == nil) || !bytes.Equal(now, []byte(before)) {
		return fmt.Errorf("%s was changed by another program in this moment", path)
	}
	return os.Rename(tmp.Name(), path)
}

// makeFolder returns the folders it had to make, innermost first.
func makeFolder(dir string) (made []string, err error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); err == nil || d == filepath.Dir(d) {
			break
		}
		made = append(made, d)
	}
	return made, os.MkdirAll(dir, 0o700)
}

// removeFolders removes those that are empty, and returns the rest.
func removeFolders(made []string) []string {
	for i, dir := range made {
		if os.Remove(dir) != nil {
			return made[i:]
		}
	}
	return nil
}

// handOn leaves folders that r's program needed first to another one that we
// have put a file into.
func handOn(rec map[string]*applied, r *applied, folders []string) {
	for _, dir := range folders {
		for _, other := range rec {
			if other != r && strings.HasPrefix(other.File, dir+string(filepath.Separator)) {
				other.Folders = append(other.Folders, dir)
				break
			}
		}
	}
}

func there(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
