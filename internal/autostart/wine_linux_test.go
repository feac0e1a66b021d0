//go:build linux && amd64

package autostart_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// One test after the other: both use the same registry value.
func TestOnWindows(t *testing.T) {
	id := fmt.Sprintf("ENTRY_ID=kerbpass-test-%d", os.Getpid())
	testenv.GoTestInWine(t, ".", []string{id}, ".")

	w := testenv.Wine(t)
	l := listen(t)
	// A space in the path needs the quotation marks.
	exe := filepath.Join(t.TempDir(), "a b.exe")
	if out, err := exec.Command("cp", w.GoTestBuild(t, "."), exe).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	run := func(program string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		cmd := w.Command(ctx, program, args...)
		cmd.Env = append(cmd.Env, id, "REPORT_TO="+l.Addr().String())
		if err := cmd.Run(); err != nil {
			t.Errorf("%s: %v", cmd, err)
		}
	}
	t.Cleanup(func() { run(exe, "-test.run=^TestLeaveAfterStart$") })
	run(exe, "-test.run=^TestEnterForStart$")
	run("wineboot") // what happens at login
	got := reported(t, l)
	if want := []string{"report", l.Addr().String(), `a "b\`}; len(got) < 1 || !strings.HasSuffix(got[0], `\a b.exe`) || !slices.Equal(got[1:], want) {
		t.Errorf("started with %q, want %q", got, want)
	}
}
