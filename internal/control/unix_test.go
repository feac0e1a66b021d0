//go:build linux || darwin

package control_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kerbpass/internal/control"
	"kerbpass/internal/testenv"
)

// shortDir is short enough for a socket, which t.TempDir may not be.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "kp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func channelPath(t *testing.T) string { return filepath.Join(shortDir(t), "kerbpass", "control.sock") }

// leftByCrash tells that a crash leaves a socket, which must not be in anyone's
// way.
func leftByCrash(t *testing.T, path string) {
	t.Helper()
	if st, err := os.Lstat(path); err != nil || st.Mode().Type() != os.ModeSocket {
		t.Fatalf("the crash left no socket behind: %v", err)
	}
}

func TestListenModes(t *testing.T) {
	path := channelPath(t)
	l, err := control.Listen(path)
	must(t, err)
	for name, want := range map[string]os.FileMode{
		filepath.Dir(path): os.ModeDir | 0o700,
		path:               os.ModeSocket | 0o600,
		path + ".lock":     0o600,
	} {
		if st, err := os.Lstat(name); err != nil || st.Mode() != want {
			t.Errorf("%s: got %v, %v, want %v", name, st.Mode(), err, want)
		}
	}
	must(t, l.Close())
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there after Close: %v", err)
	}
}

func TestListenRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		prepare    func(t *testing.T, path string)
	}{
		{"file in the socket's place", "is none", func(t *testing.T, path string) {
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.WriteFile(path, []byte("kept"), 0o600))
		}},
		{"folder that others can write", "chmod 700", func(t *testing.T, path string) {
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.Chmod(filepath.Dir(path), 0o770))
		}},
		{"link to a folder", "not a folder", func(t *testing.T, path string) {
			must(t, os.Symlink(t.TempDir(), filepath.Dir(path)))
		}},
		{"another user's folder", "another user", func(t *testing.T, path string) {
			testenv.Root(t)
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.Chown(filepath.Dir(path), 1001, 1001))
		}},
		{"lock that is a link", "lock", func(t *testing.T, path string) {
			must(t, os.Mkdir(filepath.Dir(path), 0o700))
			must(t, os.Symlink(filepath.Join(t.TempDir(), "elsewhere"), path+".lock"))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := channelPath(t)
			tt.prepare(t, path)
			l, err := control.Listen(path)
			if err == nil {
				l.Close()
			}
			if err == nil || errors.Is(err, control.ErrRunning) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if b, err := os.ReadFile(path); err == nil && string(b) != "kept" {
				t.Errorf("the file in the way was changed to %q", b)
			}
		})
	}
}

func TestLongPath(t *testing.T) {
	path := filepath.Join(shortDir(t), strings.Repeat("x", 104), "control.sock")
	_, err := control.Listen(path)
	for name, err := range map[string]error{
		"listen": err,
		"call":   control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil),
	} {
		if err == nil || !strings.Contains(err.Error(), "bytes") || errors.Is(err, control.ErrNotRunning) {
			t.Errorf("%s: got %v, want an error about the length", name, err)
		}
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("a folder was made for a path that cannot be used")
	}
}

func TestNotRunning(t *testing.T) {
	testenv.NoLeaks(t)
	file := filepath.Join(shortDir(t), "file")
	must(t, os.WriteFile(file, nil, 0o600))
	for name, path := range map[string]string{"no folder": channelPath(t), "folder is a file": filepath.Join(file, "control.sock")} {
		err := control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil)
		if !errors.Is(err, control.ErrNotRunning) {
			t.Errorf("%s: got %v, want ErrNotRunning", name, err)
		}
	}
}
