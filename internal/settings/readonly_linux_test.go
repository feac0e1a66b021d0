//go:build linux

package settings_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"kerbpass/internal/settings"
)

func TestReadOnlyFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	write(t, path, "pac = \"a\"\n")
	link := filepath.Join(t.TempDir(), "config.toml")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	lockFile := path + ".lock"
	write(t, lockFile, "") // left by an earlier edit, when the folder could be written
	for _, withLock := range []bool{true, false} {
		if !withLock {
			if err := os.Remove(lockFile); err != nil {
				t.Fatal(err)
			}
		}
		what := " cannot be written: permission denied"
		if !withLock {
			what = " cannot be locked for writing: permission denied"
		}
		asNobody(t, func() {
			for path, name := range map[string]string{path: path, link: link + " (a link to " + path + ")"} {
				s := open(t, "", settings.Config{Path: path})
				if err := s.Edit(set("pac", "b")); !errors.Is(err, fs.ErrPermission) || err.Error() != name+what {
					t.Errorf("got  %v\nwant %s", err, name+what)
				}
				if s.Snapshot().PAC != "a" {
					t.Errorf("got pac %q, want the one of the file", s.Snapshot().PAC)
				}
			}
			sub := filepath.Join(dir, "sub", "config.toml")
			err := open(t, "", settings.Config{Path: sub}).Edit(set("pac", "b"))
			if want := sub + " cannot be written: its folder cannot be made: permission denied"; !errors.Is(err, fs.ErrPermission) || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		}, dir)
	}
	if got := read(t, path); got != "pac = \"a\"\n" {
		t.Errorf("the file became %q", got)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("got %v, %v in the folder, want the file alone", left, err)
	}
}

func TestUnreadableFileHasNoPlace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret.toml")
	write(t, path, "pac = \"a\"\n")
	known := open(t, "", settings.Config{Path: path})
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	asNobody(t, func() {
		const what = ": the file cannot be read: permission denied. Make the file readable; until then the "
		for want, s := range map[string]*settings.Store{
			what + "last good settings count and nothing is saved.": known,
			what + "defaults count and nothing is saved.":           open(t, "", settings.Config{Path: path}),
		} {
			if err := s.Reload(); !errors.Is(err, fs.ErrPermission) || err.Error() != path+" cannot be read: permission denied" {
				t.Errorf("got %v", err)
			}
			p := s.Snapshot().Problems
			if len(p) != 1 || p[0].Line != 0 || p[0].Column != 0 || p[0].String() != path+want {
				t.Errorf("got  %v\nwant %s", p, path+want)
			}
		}
		if got := known.Snapshot().PAC; got != "a" {
			t.Errorf("got pac %q, want the last good one", got)
		}
	}, dir)
}

// asNobody runs f while dir cannot be written. Root may write anywhere, so it
// gives up its file rights, on a thread that ends with f's goroutine.
func asNobody(t *testing.T, f func(), dir string) {
	t.Helper()
	if os.Getuid() != 0 {
		if err := os.Chmod(dir, 0o500); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(dir, 0o700)
		f()
		return
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"config.toml", "config.toml.lock"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o666); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0); errno != 0 {
			t.Errorf("setfsuid: %v", errno)
			return
		}
		f()
	}()
	<-done
}
