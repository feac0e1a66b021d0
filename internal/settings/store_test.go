package settings_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"kerbpass/internal/settings"
	"kerbpass/internal/testenv"
)

// helperEnv makes the test binary one of several processes that edit.
const helperEnv = "SETTINGS_TEST_EDITOR"

func TestMain(m *testing.M) {
	if job := os.Getenv(helperEnv); job != "" {
		path, name, _ := strings.Cut(job, "|")
		if err := editMany(path, name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const editsEach = 20

// editMany adds, and for every second one removes, entries one edit at a time.
func editMany(path, name string) error {
	s, err := settings.Open(settings.Config{Path: path})
	if err != nil {
		return err
	}
	for i := range editsEach {
		entry := fmt.Sprintf("%s-%d.example", name, i)
		if err := s.Edit(add("bypass.exact", entry)); err != nil {
			return err
		}
		if i%2 == 1 {
			if err := s.Edit(remove("bypass.exact", entry)); err != nil {
				return err
			}
		}
	}
	return nil
}

func TestConcurrentEditsOfProcessesLoseNothing(t *testing.T) {
	testenv.NoLeaks(t)
	path := filepath.Join(t.TempDir(), "new", "config.toml") // the folder has to be made, too
	var wg sync.WaitGroup
	var want []string
	for p := range 4 {
		name := fmt.Sprintf("p%d", p)
		for i := 0; i < editsEach; i += 2 {
			want = append(want, fmt.Sprintf("%s-%d.example", name, i))
		}
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), helperEnv+"="+path+"|"+name)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("process %s: %v\n%s", name, err, out)
			}
		})
	}
	wg.Wait()
	got := slices.Sorted(slices.Values(open(t, "", settings.Config{Path: path}).Snapshot().BypassExact))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got %d entries %v\nwant %d", len(got), got, len(want))
	}
	if runtime.GOOS != "windows" {
		for name, mode := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
			if st, err := os.Stat(name); err != nil || st.Mode().Perm() != mode {
				t.Errorf("%s: got mode %v, %v, want %v", name, st.Mode().Perm(), err, mode)
			}
		}
	}
	left, _ := os.ReadDir(filepath.Dir(path))
	for _, e := range left {
		if e.Name() != "config.toml" && e.Name() != "config.toml.lock" {
			t.Errorf("left behind: %s", e.Name())
		}
	}
}

func TestConcurrentEditsInOneProcess(t *testing.T) {
	testenv.NoLeaks(t)
	s := open(t, "", settings.Config{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 10 {
				if err := s.Edit(add("bypass.exact", fmt.Sprintf("g%d-%d", g, i))); err != nil {
					t.Error(err)
				}
				s.Snapshot().Describe()
			}
		})
	}
	wg.Wait()
	if got := len(s.Snapshot().BypassExact); got != 40 {
		t.Errorf("got %d entries, want 40", got)
	}
}

// Whoever edits by hand takes no lock: what was saved between reading and
// writing must not be lost.
func TestEditNoticesAnEditByHand(t *testing.T) {
	s := open(t, "[bypass]\nexact = [\"a\"]\n", settings.Config{})
	calls := 0
	err := s.Edit(func(e *settings.Edit) error {
		if calls++; calls == 1 {
			write(t, s.Path(), "[bypass]\nexact = [\"a\", \"by hand\"]\n")
		}
		return e.Add("bypass.exact", "b")
	})
	if err != nil || calls != 2 {
		t.Fatalf("got %d calls, %v, want 2", calls, err)
	}
	if got, want := read(t, s.Path()), "[bypass]\nexact = [\"a\", \"by hand\", \"b\"]\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	calls = 0
	err = s.Edit(func(e *settings.Edit) error {
		calls++
		write(t, s.Path(), fmt.Sprintf("x = %d\n", calls))
		return e.Add("bypass.exact", "c")
	})
	if want := s.Path() + " was changed by another program each time it was about to be written"; !errors.Is(err, settings.ErrBusy) || err.Error() != want {
		t.Errorf("got %v after %d calls, want %s", err, calls, want)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.Path()), ".config-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestEditSeesTheFileAfresh(t *testing.T) {
	s := open(t, "pac = \"a\"\n", settings.Config{})
	write(t, s.Path(), "pac = \"b\"\nno_proxy = [\"n\"]\n") // not reloaded
	if err := s.Edit(set("ui.notify_valid", true)); err != nil {
		t.Fatal(err)
	}
	if got, want := read(t, s.Path()), "pac = \"b\"\nno_proxy = [\"n\"]\n\n[ui]\nnotify_valid = true\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if v := s.Snapshot().Values; v.PAC != "b" || !v.NotifyValid {
		t.Errorf("got %+v, want the snapshot to follow the edit at once", v)
	}
}

func TestEditWithoutChangeWritesNothing(t *testing.T) {
	s := open(t, "pac = 'a'\n", settings.Config{})
	before, err := os.Stat(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Edit(set("pac", "a")); err != nil {
		t.Fatal(err)
	}
	after, err := os.Stat(s.Path())
	if err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Error("the file was written")
	}
}

func TestSymlinkStaysOne(t *testing.T) {
	dir := t.TempDir()
	for _, exists := range []bool{true, false} {
		t.Run(fmt.Sprintf("target exists %v", exists), func(t *testing.T) {
			base := t.TempDir()
			real := filepath.Join(dir, fmt.Sprintf("dotfiles%v", exists), "kerbpass.toml")
			link, middle := filepath.Join(base, "config.toml"), filepath.Join(base, "middle.toml")
			if err := errors.Join(os.Symlink("middle.toml", link), os.Symlink(real, middle)); err != nil {
				testenv.Missing(t, "symbolic links: %v", err)
			}
			if exists {
				if err := os.Mkdir(filepath.Dir(real), 0o700); err != nil {
					t.Fatal(err)
				}
				write(t, real, "pac = \"a\"\n")
			}
			s := open(t, "", settings.Config{Path: link})
			if err := s.Edit(set("pac", "b")); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(read(t, real), "pac = \"b\"\n") || s.Snapshot().PAC != "b" {
				t.Error("the link's target was not written")
			}
			for _, l := range []string{link, middle} {
				if st, err := os.Lstat(l); err != nil || st.Mode()&os.ModeSymlink == 0 {
					t.Errorf("%s is no link any more", l)
				}
			}
		})
	}
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink("loop", loop); err != nil {
		t.Fatal(err)
	}
	s := open(t, "", settings.Config{Path: loop})
	err := s.Edit(set("pac", "b"))
	if want := loop + " cannot be followed: too many symbolic links"; err == nil || err.Error() != want || len(s.Snapshot().Problems) != 1 {
		t.Errorf("a link to itself: got %v, problems %v, want %s", err, s.Snapshot().Problems, want)
	}
}

func TestBrokenFileKeepsTheLastGood(t *testing.T) {
	s := open(t, "pac = \"good\"\n", settings.Config{})
	write(t, s.Path(), "pac = \"ne")
	if err := s.Reload(); !errors.Is(err, settings.ErrBroken) || !strings.Contains(err.Error(), "config.toml:1:") {
		t.Errorf("got %v, want ErrBroken with its place", err)
	}
	snap := s.Snapshot()
	if snap.PAC != "good" || snap.Origins["pac"].Source != settings.SourceFile || len(snap.Problems) != 1 || snap.Problems[0].Line != 1 {
		t.Errorf("got pac %q from %+v, problems %v", snap.PAC, snap.Origins["pac"], snap.Problems)
	}
	if err := s.Edit(set("pac", "x")); !errors.Is(err, settings.ErrBroken) {
		t.Errorf("got %v, want ErrBroken", err)
	}
	if got := read(t, s.Path()); got != "pac = \"ne" {
		t.Errorf("the broken file became %q", got)
	}
	if err := os.Remove(s.Path()); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err != nil || s.Snapshot().PAC != "" || len(s.Snapshot().Problems) != 0 {
		t.Errorf("after deletion got %v, %+v, want defaults", err, s.Snapshot())
	}
}

func TestSubscribe(t *testing.T) {
	s := open(t, "", settings.Config{})
	var got []string
	cancel := s.Subscribe(func(snap *settings.Snapshot) {
		if snap != s.Snapshot() {
			t.Error("told of a snapshot that is not the current one")
		}
		got = append(got, snap.PAC)
	})
	for _, pac := range []string{"a", "a", "b"} {
		if err := s.Edit(set("pac", pac)); err != nil {
			t.Fatal(err)
		}
	}
	s.Reload()
	cancel()
	if err := s.Edit(set("pac", "c")); err != nil {
		t.Fatal(err)
	}
	if strings.Join(got, " ") != "a b" {
		t.Errorf("got %v, want each change once until cancelled", got)
	}
}

func TestReloadAsksAllSources(t *testing.T) {
	system := "http://one"
	s := open(t, "", settings.Config{System: func() []string { return []string{system} }})
	system = "http://two"
	if err := s.Reload(); err != nil || s.Snapshot().Upstream[0] != "http://two" {
		t.Errorf("got %v, %v", s.Snapshot().Upstream, err)
	}
}
