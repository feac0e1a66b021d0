//go:build linux

package window_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ui/window"
)

func TestNewChecks(t *testing.T) {
	page := func(context.Context) (string, error) { return "", nil }
	for name, c := range map[string]window.Config{
		"no command": {Page: page},
		"no page":    {Command: []string{"x"}},
		"icon":       {Command: []string{"x"}, Page: page, Icon: make([]byte, 4096)},
	} {
		if _, err := window.New(c); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Every way that fails, in whatever manner, leads to the next; nothing of it
// is left, and the way that worked is remembered.
func TestFallback(t *testing.T) {
	for _, tt := range []struct {
		name, behaviours, preferred string
		impatient                   bool // a way never paints: do not wait for long
		pages                       int
		remembered                  string
		log                         string
	}{
		{"first", "webkitgtk-4.1=paints", "", false, 1, "webkitgtk-4.1", "window shown"},
		{"library missing", "webkitgtk-6.0=paints", "", false, 2, "webkitgtk-6.0", "library missing"},
		{"dies", "webkitgtk-4.1=dies,webkitgtk-6.0=paints", "", false, 2, "webkitgtk-6.0", "signal: killed"},
		{"ends as if closed", "webkitgtk-4.1=exits,webkitgtk-6.0=paints", "", false, 2, "webkitgtk-6.0", "ended before it had painted"},
		{"never paints", "webkitgtk-4.1=blank,webkitgtk-6.0=paints", "", true, 2, "webkitgtk-6.0", "nothing painted within"},
		{"hangs", "webkitgtk-4.1=hang,webkitgtk-6.0=dies,browser-app=paints", "", true, 3, "browser-app", "nothing painted within"},
		{"all but the last", "webkitgtk-4.1=exits,webkitgtk-6.0=dies,browser=paints", "", false, 4, "browser", "window not shown"},
		{"preferred", "webkitgtk-4.1=paints,browser-app=paints", "browser-app", false, 1, "", "way=browser-app"},
		{"preferred no longer works", "webkitgtk-4.1=paints", "browser-app", false, 2, "webkitgtk-4.1", "way=browser-app"},
		{"preferred unknown here", "webkitgtk-4.1=paints", "webview2", false, 1, "webkitgtk-4.1", "way=webkitgtk-4.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testenv.NoLeaks(t)
			before := started(nil)
			w := newWorld(t, tt.behaviours, func(c *window.Config) {
				c.Preferred = tt.preferred
				if tt.impatient {
					c.Patience = 3 * time.Second // ample for a child that paints
				}
			})
			w.open(t)
			if w.pages != tt.pages {
				t.Errorf("got %d pages made, want %d: each attempt has its own", w.pages, tt.pages)
			}
			if got := strings.Join(w.remembered, " "); got != tt.remembered {
				t.Errorf("remembered: got %q, want %q", got, tt.remembered)
			}
			if !strings.Contains(w.logs.String(), tt.log) {
				t.Errorf("log: got %q, want %q in it", w.logs, tt.log)
			}
			if strings.Contains(w.logs.String(), "token=") {
				t.Errorf("the one-time address was logged: %s", w.logs)
			}
			w.stop()
			if left := started(before); len(left) != 0 {
				t.Errorf("processes left: %v", left)
			}
		})
	}
}

// What an earlier window painted does not count for the next.
func TestStalePaint(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t, "webkitgtk-4.1=blank,webkitgtk-6.0=paints", func(c *window.Config) { c.Patience = 3 * time.Second })
	w.Painted()
	w.open(t)
	if w.pages != 2 {
		t.Errorf("got %d attempts, want the blank one given up", w.pages)
	}
}

func TestNothingWorks(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t, "browser=exits,webkitgtk-4.1=dies", func(c *window.Config) { c.Patience = time.Second })
	err := w.tryOpen(t)
	if !errors.Is(err, window.ErrNotShown) {
		t.Fatalf("got %v, want ErrNotShown", err)
	}
	for _, words := range []string{"webkitgtk-4.1: ended before it had painted: signal: killed", "webkitgtk-6.0: ended before it had painted: library missing", "browser: nothing painted within 1s"} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("got %q, want %q in it", err, words)
		}
	}
	if w.remembered != nil {
		t.Errorf("remembered %q although nothing worked", w.remembered)
	}
}

func TestPageFails(t *testing.T) {
	broken := errors.New("no port")
	w := newWorld(t, "webkitgtk-4.1=paints", func(c *window.Config) {
		c.Page = func(context.Context) (string, error) { return "", broken }
	})
	if err := w.tryOpen(t); !errors.Is(err, broken) {
		t.Errorf("got %v, want the page's error", err)
	}
}

func TestNoDisplay(t *testing.T) {
	w := newWorld(t, "webkitgtk-4.1=paints", func(c *window.Config) { c.Env = []string{"PATH=", "DISPLAY="} })
	if err := w.tryOpen(t); !errors.Is(err, window.ErrNoDisplay) {
		t.Errorf("got %v, want ErrNoDisplay", err)
	}
	if w.pages != 0 {
		t.Errorf("%d pages were made for nobody", w.pages)
	}
}

func TestSecondOpenRaises(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t, "webkitgtk-4.1=paints", nil)
	w.open(t)
	w.open(t)
	waitFor(t, "the child was asked to raise", func() bool {
		return w.get(func() string { return strings.Join(w.lines, " ") }) == "raise"
	})
	if w.pages != 1 {
		t.Errorf("got %d windows, want one", w.pages)
	}
}

// A browser cannot be raised, so the second request replaces its window.
func TestSecondOpenReplacesBrowser(t *testing.T) {
	testenv.NoLeaks(t)
	before := started(nil)
	w := newWorld(t, "browser-app=paints", nil)
	w.open(t)
	first := started(before)
	w.open(t)
	waitGone(t, first)
	if len(started(before)) != 1 {
		t.Errorf("got %v, want one new window", started(before))
	}
}

func TestOpenAfterClose(t *testing.T) {
	testenv.NoLeaks(t)
	before := started(nil)
	w := newWorld(t, "webkitgtk-4.1=paints", nil)
	w.open(t)
	for id := range started(before) {
		killPID(t, id)
	}
	waitFor(t, "the end was noticed", func() bool { return strings.Contains(w.logs.String(), "window closed") })
	w.open(t)
	if w.pages != 2 {
		t.Errorf("got %d pages made, want a second window", w.pages)
	}
}

func TestOpenAfterRun(t *testing.T) {
	testenv.NoLeaks(t)
	w := newWorld(t, "webkitgtk-4.1=paints", nil)
	w.stop()
	if err := w.tryOpen(t); !errors.Is(err, window.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}

// Whoever asked gives up, or the program ends, in the middle of opening: the
// attempt ends with its child.
func TestGiveUpOpening(t *testing.T) {
	for name, end := range map[string]func(*world, context.CancelFunc){
		"caller":  func(_ *world, cancel context.CancelFunc) { cancel() },
		"program": func(w *world, _ context.CancelFunc) { w.stop() },
	} {
		t.Run(name, func(t *testing.T) {
			testenv.NoLeaks(t)
			before := started(nil)
			w := newWorld(t, "webkitgtk-4.1=hang,webkitgtk-6.0=paints", nil)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			opened := make(chan error, 1)
			go func() { opened <- w.Open(ctx) }()
			waitFor(t, "the child is there", func() bool { return len(started(before)) == 1 })
			children := started(before)
			end(w, cancel)
			if err := <-opened; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want cancelled", err)
			}
			waitGone(t, children)
			if w.pages != 1 {
				t.Errorf("got %d attempts, want no other one", w.pages)
			}
		})
	}
}

// The person's own browser gets the page from xdg-open, keeps its proxy, and
// is not ours to end.
func TestDefaultBrowser(t *testing.T) {
	testenv.NoLeaks(t)
	bin := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nprintenv http_proxy >" + bin + "/proxy\nexec " + self + ` fetch "$1"` + "\n"
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, "browser=real", func(c *window.Config) {
		c.Env = []string{"DISPLAY=:fake", "HOME=" + bin, "PATH=" + bin + ":/usr/bin:/bin", "http_proxy=http://proxy.example:1"}
	})
	w.open(t)
	if got := strings.Join(w.remembered, " "); got != "browser" {
		t.Errorf("remembered: got %q", got)
	}
	if got, err := os.ReadFile(bin + "/proxy"); err != nil || string(got) != "http://proxy.example:1\n" {
		t.Errorf("the browser's proxy: got %q, %v", got, err)
	}
}

func TestDefaultBrowserFails(t *testing.T) {
	for name, script := range map[string]string{"fails": "#!/bin/sh\nexit 3\n", "missing": ""} {
		bin := t.TempDir()
		if script != "" {
			if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		w := newWorld(t, "browser=real", func(c *window.Config) { c.Env = []string{"DISPLAY=:fake", "HOME=" + bin, "PATH=" + bin} })
		if err := w.tryOpen(t); !errors.Is(err, window.ErrNotShown) || !strings.Contains(err.Error(), "browser: ended before it had painted: no browser could be started") {
			t.Errorf("%s: got %v, want at once why the browser could not be started", name, err)
		}
	}
}
