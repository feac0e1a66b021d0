//go:build linux && amd64

package testenv

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// recipe is the version of what makePrefix does; a prefix of another recipe or
// another Wine is made again.
const recipe = "1"

// Wine returns this user's prefix, or ends the test with [Missing] where Wine
// is not installed. The first call after a boot makes it, which takes a quarter of
// a minute and 700 MB in the folder for temporary files; callers in other
// processes wait meanwhile.
//
// Wine's server ends by itself some seconds after the last program.
func Wine(t testing.TB) *WinePrefix {
	t.Helper()
	wine := Tool(t, "wine")
	Tool(t, "wineboot")
	Tool(t, "winecfg")
	Tool(t, "wineserver")
	home := filepath.Join(os.TempDir(), fmt.Sprintf("kerbpass-wine-%d", os.Getuid()))
	if err := ownFolder(home); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	unlock, err := lockFile(ctx, filepath.Join(home, "lock"))
	if err != nil {
		t.Fatalf("wait for the Wine prefix: %v", err)
	}
	defer unlock()

	w := &WinePrefix{Dir: filepath.Join(home, "prefix"), wine: wine}
	version, err := exec.CommandContext(ctx, wine, "--version").Output()
	if err != nil {
		t.Fatalf("wine --version: %v", err)
	}
	want := recipe + " " + string(version)
	marker := filepath.Join(home, "ready")
	if have, _ := os.ReadFile(marker); string(have) == want {
		return w
	}
	if err := errors.Join(os.RemoveAll(marker), os.RemoveAll(w.Dir), makePrefix(ctx, w, home)); err != nil {
		t.Fatalf("make a Wine prefix: %v", err)
	}
	if err := os.WriteFile(marker, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
	return w
}

func makePrefix(ctx context.Context, w *WinePrefix, scratch string) error {
	run := func(program string, args ...string) error {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = w.Env()
		out, err := output(cmd, scratch)
		if err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, out)
		}
		return nil
	}
	if err := run("wineboot", "-u"); err != nil {
		return err
	}
	// Newer Wine brings its own.
	lib := filepath.Join(w.Dir, "drive_c/windows/system32/bcryptprimitives.dll")
	if _, err := os.Stat(lib); errors.Is(err, fs.ErrNotExist) {
		dll := forwarderDLL("bcryptprimitives.dll", "ProcessPrng", "ADVAPI32.SystemFunction036")
		if err := os.WriteFile(lib, dll, 0o644); err != nil {
			return err
		}
	}
	if err := run("winecfg", "-v", "win10"); err != nil {
		return err
	}
	// The server writes the registry to disk when it ends.
	return run("wineserver", "-w")
}

// ownFolder makes dir, or makes sure that nobody else did: the folder for
// temporary files is everybody's.
func ownFolder(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || !info.IsDir() || int(st.Uid) != os.Getuid() || info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s is not a folder of this user alone", dir)
	}
	return nil
}

// lockFile locks path against other processes; the lock ends with the process.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
