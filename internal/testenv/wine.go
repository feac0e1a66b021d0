package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// WinePrefix is a Windows to run programs in: Wine's folder with registry and
// drive C, set to Windows 10 and with what Go programs need to start. Every
// test of this user shares it, at the same time too, so a test leaves the
// registry and drive C as it found them. It needs no display.
type WinePrefix struct {
	Dir  string // WINEPREFIX; drive C is the folder drive_c in it
	wine string // the program
}

// Env is the environment of a program in the prefix: the caller's own without
// what concerns Wine, Kerberos, the time zone or a display, then extra. Wine's
// Kerberos obeys the Unix KRB5_CONFIG and KRB5CCNAME, its tray a DISPLAY.
func (w *WinePrefix) Env(extra ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return slices.ContainsFunc([]string{"WINE", "KRB5", "DISPLAY=", "WAYLAND_DISPLAY=", "TZ="},
			func(prefix string) bool { return strings.HasPrefix(v, prefix) })
	})
	return append(append(env,
		"WINEPREFIX="+w.Dir, "WINEARCH=win64", "WINEDEBUG=-all",
		"WINEDLLOVERRIDES=mscoree,mshtml=", // no questions about Mono and Gecko
	), extra...)
}

// Command prepares a Windows program, whose path may be a Unix one. The caller
// appends to its Env. It is killed when ctx ends.
//
// Wine reports success for a program that it cannot run at all (a 32-bit one
// in a 64-bit prefix), so judge by what the program did, not by its exit code.
func (w *WinePrefix) Command(ctx context.Context, exe string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.wine, append([]string{exe}, args...)...)
	cmd.Env = w.Env()
	cmd.WaitDelay = 10 * time.Second // Wine's own servers may keep a pipe open
	return cmd
}

// GoBuild builds the main package pkg for Windows, args being flags of go
// build, and returns the program's path. It is gone when t ends.
func (w *WinePrefix) GoBuild(t testing.TB, pkg string, args ...string) string {
	t.Helper()
	return w.goTool(t, pkg, append([]string{"build"}, args...)...)
}

// GoTestBuild is GoBuild for pkg's test program.
func (w *WinePrefix) GoTestBuild(t testing.TB, pkg string) string {
	t.Helper()
	return w.goTool(t, pkg, "test", "-c")
}

func (w *WinePrefix) goTool(t testing.TB, pkg string, args ...string) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "built.exe")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, Tool(t, "go"), append(args, "-o", exe, pkg)...)
	cmd.Env = append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go %s %s for Windows: %v\n%s", strings.Join(args, " "), pkg, err, out)
	}
	if _, err := os.Stat(exe); err != nil {
		t.Fatalf("go %s %s for Windows built nothing: %s", strings.Join(args, " "), pkg, out)
	}
	return exe
}

// GoTestInWine builds pkg's tests for Windows and runs those that match run
// under Wine, with env and flags of test programs added, and returns their
// output. It fails t with it when one fails and when none ran. The working
// directory is the caller's, not pkg's.
func GoTestInWine(t testing.TB, pkg string, env []string, run string, flags ...string) string {
	t.Helper()
	w := Wine(t)
	exe := w.GoTestBuild(t, pkg)
	const limit = 2 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), limit+30*time.Second)
	defer cancel()
	cmd := w.Command(ctx, exe, append(flags, "-test.v", "-test.run="+run, "-test.timeout="+limit.String())...)
	cmd.Env = append(cmd.Env, env...)
	out, err := output(cmd, t.TempDir())
	if err := verdict(out, err); err != nil {
		t.Fatalf("%s under Wine: %v\n%s", pkg, err, out)
	}
	return out
}

// verdict judges a run of a test program by what it printed, and by its exit
// code only for the worse.
func verdict(out string, err error) error {
	passed, ended := 0, false
	for line := range strings.Lines(out) {
		switch line = strings.TrimRight(line, "\r\n"); {
		case strings.HasPrefix(line, "--- PASS: "):
			passed++
		case strings.HasPrefix(strings.TrimLeft(line, " "), "--- FAIL: "):
			err = errors.Join(err, errors.New(strings.TrimSpace(line)))
		}
		ended = ended || strings.TrimRight(line, "\r\n") == "PASS"
	}
	switch {
	case err != nil:
		return err
	case !ended:
		return errors.New("the test program did not come to its end")
	case passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

// output runs cmd and returns all it printed. It goes through a file in dir:
// Wine's servers, started along, would keep a pipe open.
func output(cmd *exec.Cmd, dir string) (string, error) {
	f, err := os.CreateTemp(dir, "output")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	runErr := cmd.Run()
	text, err := os.ReadFile(f.Name())
	if runErr != nil {
		runErr = fmt.Errorf("%s: %w", filepath.Base(cmd.Path), runErr)
	}
	return string(text), errors.Join(runErr, err)
}
