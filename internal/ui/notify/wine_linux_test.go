//go:build linux && amd64

package notify_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// TestOnWindows runs this room's tests for Windows under Wine, on a desktop of
// their own: one that other tests started may have no place for icons.
func TestOnWindows(t *testing.T) {
	w := testenv.Wine(t)
	exe := w.GoTestBuild(t, ".")
	display := testenv.Screen(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := w.Command(ctx, "explorer", fmt.Sprintf("/desktop=kerbpass-notify-%d,800x600", os.Getpid()),
		"Z:"+strings.ReplaceAll(exe, "/", `\`), "-test.v", "-test.timeout=90s")
	cmd.Env = append(cmd.Env, "DISPLAY="+display)
	out, err := os.Create(filepath.Join(t.TempDir(), "output")) // Wine's servers would keep a pipe open
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Run(); err != nil {
		t.Errorf("wine: %v", err)
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	lines := "\n" + strings.ReplaceAll(string(text), "\r\n", "\n")
	if !strings.HasSuffix(lines, "\nPASS\n") || !strings.Contains(lines, "\n--- PASS: TestBalloon ") || strings.Contains(lines, "--- FAIL") {
		t.Errorf("under Wine: %s", text)
	}
}
