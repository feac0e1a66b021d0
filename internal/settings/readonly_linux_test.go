//go:build linux

package settings_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"kerbpass/internal/settings"
)

func TestReadOnlyFolder(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.toml")
	write(t, path, "pac = \"a\"\n")
	lockFile := path + ".lock"
	write(t, lockFile, "") // left by an earlier edit, when the folder could be written
	for _, withLock := range []bool{true, false} {
		if !withLock {
			if err := os.Remove(lockFile); err != nil {
				t.Fatal(err)
			}
		}
		asNobody(t, func() {
			s := open(t, "", settings.Config{Path: path})
			err := s.Edit(set("pac", "b"))
			if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want no permission in %s", err, dir)
			}
			if s.Snapshot().PAC != "a" {
				t.Errorf("got pac %q, want the one of the file", s.Snapshot().PAC)
			}
			sub := open(t, "", settings.Config{Path: filepath.Join(dir, "sub", "config.toml")})
			if err := sub.Edit(set("pac", "b")); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "folder") {
				t.Errorf("got %v, want to hear that the folder cannot be made", err)
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
