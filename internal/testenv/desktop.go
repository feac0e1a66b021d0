package testenv

import (
	"bufio"
	"bytes"
	"image"
	"image/png"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Screen starts an X server without a monitor and returns its DISPLAY. It ends
// with t.
func Screen(t testing.TB) string {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.Command(Tool(t, "Xvfb"), "-displayfd", "3", "-screen", "0", "1000x700x24", "-nolisten", "tcp")
	cmd.ExtraFiles = []*os.File{write}
	err = cmd.Start()
	write.Close()
	if err != nil {
		t.Fatal(err)
	}
	endWith(t, cmd)
	number, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		t.Fatalf("Xvfb: %v", err)
	}
	return ":" + strings.TrimSpace(number)
}

// Bus starts a session bus, whose services get env, and returns its address.
// It ends with t.
func Bus(t testing.TB, env []string) string {
	t.Helper()
	cmd := exec.Command(Tool(t, "dbus-daemon"), "--session", "--nofork", "--nosyslog", "--print-address=1")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	endWith(t, cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon: %v", err)
	}
	return strings.TrimSpace(line)
}

// Program starts a program of a desktop that lives as long as t.
func Program(t testing.TB, env []string, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(Tool(t, name), args...)
	cmd.Env = env
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	endWith(t, cmd)
}

func endWith(t testing.TB, cmd *exec.Cmd) {
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// Look returns what display shows.
func Look(t testing.TB, display string) image.Image {
	t.Helper()
	cmd := exec.Command(Tool(t, "import"), "-display", display, "-window", "root", "png:-")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("import: %v", err)
	}
	img, err := png.Decode(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// See looks at display until it shows what is wanted, for half a minute.
func See(t testing.TB, display, what string, wanted func(image.Image) bool) image.Image {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		img := Look(t, display)
		if wanted(img) {
			return img
		}
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s", what)
		}
	}
}
