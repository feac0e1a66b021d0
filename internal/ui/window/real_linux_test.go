//go:build linux

package window_test

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ui/window"
)

// engines are the WebKitGTKs, and the libraries they are.
var engines = map[string]string{"webkitgtk-4.1": "libwebkit2gtk-4.1.so.0", "webkitgtk-6.0": "libwebkitgtk-6.0.so.4"}

// forEachEngine runs a test in each WebKitGTK of this machine.
func forEachEngine(t *testing.T, test func(t *testing.T, way string)) {
	for _, way := range slices.Sorted(maps.Keys(engines)) {
		t.Run(way, func(t *testing.T) {
			testenv.Tool(t, "Xvfb")
			if found, _ := filepath.Glob("/usr/lib/*/" + engines[way]); found == nil {
				testenv.Missing(t, "library %s", engines[way])
			}
			testenv.NoLeaks(t)
			test(t, way)
		})
	}
}

// newDesktop is a world on a display with one way that is real.
func newDesktop(t *testing.T, way, display string, change func(*window.Config)) *world {
	t.Helper()
	env := desktopEnv(t, display)
	return newWorld(t, way+"=real", func(c *window.Config) {
		c.Env, c.Preferred = env, way
		if change != nil {
			change(c)
		}
	})
}

func killPID(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// The page is painted although the person's proxy is dead, in a window with
// our title and icon, and closing it ends every process.
func TestWebKitWindow(t *testing.T) {
	forEachEngine(t, func(t *testing.T, way string) {
		display := startX(t)
		before := started(nil)
		w := newDesktop(t, way, display, nil)
		w.open(t)
		if w.pages != 1 {
			t.Errorf("got %d attempts, want the first to paint: %s", w.pages, w.logs)
		}
		waitFor(t, "the page's colour on the screen", func() bool { return coloured(screenshot(t, display, way)) > 0.5 })
		id := xdotool(t, display, "search", "--onlyvisible", "--name", "^Kerbpass$")
		if got := xdotool(t, display, "getwindowgeometry", id); !strings.Contains(got, "720x560") {
			t.Errorf("window: got %q, want 720x560", got)
		}
		properties, err := exec.Command(testenv.Tool(t, "xprop"), "-display", display, "-id", id, "WM_CLASS", "_NET_WM_ICON").Output()
		if err != nil || !strings.Contains(strings.ToLower(string(properties)), "kerbpass") || !strings.Contains(string(properties), "48 x 48") {
			t.Errorf("window class and icon: got %.200s, %v", properties, err)
		}
		running := started(before)
		if !loaded(running, engines[way]) {
			t.Errorf("none of %v has loaded %s", running, engines[way])
		}
		closeWindow(t, display, id)
		waitGone(t, running)
		waitFor(t, "the end was noticed", func() bool { return strings.Contains(w.logs.String(), "window closed") })
		if !strings.Contains(w.logs.String(), "reason=closed") {
			t.Errorf("closing it was not taken as that: %s", w.logs)
		}
	})
}

// loaded reports whether one of the processes has the library.
func loaded(processes map[int]string, soname string) bool {
	for id := range processes {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", id)); err == nil && strings.Contains(string(text), soname) {
			return true
		}
	}
	return false
}

func TestWebKitRaise(t *testing.T) {
	forEachEngine(t, func(t *testing.T, way string) {
		display := startX(t)
		w := newDesktop(t, way, display, nil)
		w.open(t)
		waitFor(t, "the window", func() bool { return coloured(screenshot(t, display, way+"-below")) > 0.5 })
		cover := exec.Command(testenv.Tool(t, "xmessage"), "-display", display, "-geometry", "900x700+0+0", "cover")
		if err := cover.Start(); err != nil {
			t.Fatal(err)
		}
		defer cover.Wait()
		defer cover.Process.Kill()
		waitFor(t, "the window is covered", func() bool { return coloured(screenshot(t, display, way+"-covered")) < 0.1 })
		w.open(t)
		waitFor(t, "the window is in front", func() bool { return coloured(screenshot(t, display, way+"-raised")) > 0.5 })
		if w.pages != 1 {
			t.Errorf("got %d windows, want one", w.pages)
		}
	})
}

func TestWebKitEndsWithParent(t *testing.T) {
	forEachEngine(t, func(t *testing.T, way string) {
		endsWithParent(t, way+"=real", desktopEnv(t, startX(t)))
	})
}

// endsWithParent kills the program without warning: everything below it goes.
func endsWithParent(t *testing.T, behaviours string, env []string) {
	t.Helper()
	w := newWorld(t, "", nil) // for its server only
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "parent", behaviours, w.server.URL+"/page?token=1")
	cmd.Env = env
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	waitFor(t, "the page painted", func() bool { return w.get(func() string { return fmt.Sprint(w.painted) }) != "0" })
	stdin.Close()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "open\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	below := descendants(cmd.Process.Pid)
	killPID(t, cmd.Process.Pid)
	waitGone(t, below)
}

// A child that its parent no longer wants ends by itself and without error.
func TestChildEndsWithInput(t *testing.T) {
	forEachEngine(t, func(t *testing.T, way string) {
		endsWithInput(t, way, desktopEnv(t, startX(t)))
	})
	t.Run("browser-app", func(t *testing.T) {
		testenv.NoLeaks(t)
		display, path := startX(t), browserPath(t)
		endsWithInput(t, "browser-app", append(desktopEnv(t, display), "PATH="+path+":/usr/bin:/bin"))
	})
}

func endsWithInput(t *testing.T, way string, env []string) {
	t.Helper()
	w := newWorld(t, "", nil) // for its server only
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "child", way+"=real", way)
	cmd.Env = append(env, "GIO_USE_PROXY_RESOLVER=dummy")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	fmt.Fprintf(stdin, "%s/page?token=1\n\n", w.server.URL)
	waitFor(t, "the page painted", func() bool { return w.get(func() string { return fmt.Sprint(w.painted) }) != "0" })
	below := descendants(cmd.Process.Pid)
	stdin.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("got %v, want exit code 0", err)
		}
	case <-time.After(patience):
		cmd.Process.Kill()
		t.Fatalf("the child stays: %v", <-ended)
	}
	waitGone(t, below)
}

// Nor does a child stay that no longer reads.
func TestHungChildEndsWithParent(t *testing.T) {
	testenv.NoLeaks(t)
	endsWithParent(t, "webkitgtk-4.1=paints and hangs", []string{"DISPLAY=:fake"})
}

// A page cannot lead its window to another place.
func TestWebKitStaysOnPage(t *testing.T) {
	forEachEngine(t, func(t *testing.T, way string) {
		display := startX(t)
		other := newWorld(t, "", nil) // another origin
		w := newDesktop(t, way, display, nil)
		leave := fmt.Sprintf(`<!doctype html><body style="background:%s"><a id=out href="%s/outside">x</a><script>
			document.getElementById("out").click(); window.open("%[2]s/outside")
			setTimeout(() => requestAnimationFrame(() => fetch("/page?painted")), 500)</script>`, pageColour, other.server.URL)
		w.content = leave
		w.open(t)
		if got := other.get(func() string { return fmt.Sprint(other.outside) }); got != "0" {
			t.Errorf("the window left its page: %s requests elsewhere", got)
		}
	})
}

// The process that draws the page crashes: an empty window does not stay.
func TestWebKitCrash(t *testing.T) {
	forEachEngine(t, func(t *testing.T, way string) {
		display := startX(t)
		before := started(nil)
		w := newDesktop(t, way, display, nil)
		w.open(t)
		running := started(before)
		killed := false
		for id, name := range running {
			if strings.HasPrefix(name, "WebKitWebProces") {
				killed = killed || syscall.Kill(id, syscall.SIGKILL) == nil
			}
		}
		if !killed {
			t.Fatalf("no page process among %v", running)
		}
		waitGone(t, running)
		waitFor(t, "the end was noticed", func() bool { return strings.Contains(w.logs.String(), "crashed") })
	})
}

// A display that does not answer is told apart from a library that is missing.
func TestWrongDisplay(t *testing.T) {
	forEachEngine(t, func(t *testing.T, way string) {
		env := desktopEnv(t, ":7777")
		w := newWorld(t, way+"=real", func(c *window.Config) { c.Env = env })
		if err := w.tryOpen(t); !errors.Is(err, window.ErrNotShown) || !errors.Is(err, window.ErrNoDisplay) {
			t.Errorf("got %v, want ErrNotShown because of ErrNoDisplay", err)
		}
	})
}

// browserPath returns a PATH whose only browser is the real one, able to run
// as root.
func browserPath(t *testing.T) string {
	t.Helper()
	chromium := testenv.Tool(t, "chromium")
	bin := t.TempDir()
	script := "#!/bin/sh\nexec " + chromium + ` --no-sandbox "$@"` + "\n"
	if err := os.WriteFile(filepath.Join(bin, "chromium"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return bin
}

func TestBrowserApp(t *testing.T) {
	testenv.NoLeaks(t)
	display, path := startX(t), browserPath(t)
	env := append(desktopEnv(t, display), "PATH="+path+":/usr/bin:/bin")
	before := started(nil)
	w := newWorld(t, "browser-app=real", func(c *window.Config) { c.Env = env })
	w.open(t)
	waitFor(t, "the page's colour on the screen", func() bool { return coloured(screenshot(t, display, "browser-app")) > 0.5 })
	running := started(before)
	w.stop()
	waitGone(t, running)
}

func TestBrowserAppEndsWithParent(t *testing.T) {
	testenv.NoLeaks(t)
	display, path := startX(t), browserPath(t)
	endsWithParent(t, "browser-app=real", append(desktopEnv(t, display), "PATH="+path+":/usr/bin:/bin"))
}

func TestChildRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		in, way string
		code    int
	}{
		"foreign page": {"http://192.0.2.1:80/\n\n", "webkitgtk-4.1", 24},
		"nothing":      {"", "webkitgtk-4.1", 1},
		"endless line": {strings.Repeat("x", 1<<20), "webkitgtk-4.1", 1},
	} {
		if got := window.ExitCode(window.Child(strings.NewReader(tt.in), tt.way)); got != tt.code {
			t.Errorf("%s: got exit code %d, want %d", name, got, tt.code)
		}
	}
}
