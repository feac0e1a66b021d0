//go:build linux && amd64

package main_test

import (
	"encoding/json"
	"image"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/tickettest"
)

// browser is what Wine calls to open a link. A browser outside Wine would be
// refused: Windows' tables do not tell whose it is.
const browser = "#!/bin/sh\necho \"$1\" >\"$0.link\"\n"

// A double click on the Windows program brings icon and menu. Without a web
// view the settings go to the browser, and where nothing shows them the words
// say what was tried, and where the file is.
func TestWindowsDesktop(t *testing.T) {
	xdotool := testenv.Tool(t, "xdotool")
	w := &world{kdc: tickettest.StartKDC(t)}
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "xdg-open"), []byte(browser), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	display := testenv.Screen(t)
	win := startWindows(t, w, cache, "upstream = [\"http://proxy.corp.example:8080\"]\n[access]\nsame_user_only = false\n", display)

	bar, above := image.Rect(800, 680, 1000, 700), image.Rect(500, 300, 1000, 680)
	seen := testenv.See(t, display, "the icon of a valid ticket", func(img image.Image) bool { return count(img, bar, green) > 40 })
	icon := middle(seen, bar, green)
	empty := count(seen, above, light)
	do(t, xdotool, display, "mousemove", strconv.Itoa(icon.X), strconv.Itoa(icon.Y), "click", "3")
	menu := testenv.See(t, display, "the menu", func(img image.Image) bool { return count(img, above, light) > empty+20_000 })
	box := changed(seen, menu)
	save(t, "windows-tray", menu, box.Union(image.Rect(999, 699, 1000, 700)))
	line := box.Dy() * 105 / 237 // where the switch stands among the lines and separators
	do(t, xdotool, display, "mousemove", strconv.Itoa(box.Min.X+80), strconv.Itoa(box.Min.Y+line), "click", "1")
	testenv.See(t, display, "the icon of a switch that is off", func(img image.Image) bool { return count(img, bar, green) < 10 })
	var st struct{ Proxy struct{ Kerberos bool } }
	out := win.run("status", "--json")
	if err := json.Unmarshal([]byte(out), &st); err != nil || st.Proxy.Kerberos {
		t.Errorf("the switch in the menu does nothing: %v\n%s", err, out)
	}

	out = win.run("settings")
	for _, want := range []string{"webview2: ", "browser-app: ", "browser: nothing painted", "config.toml"} {
		if !strings.Contains(out, want) {
			t.Errorf("settings does not say %q: %s", want, out)
		}
	}
	if link := readFile(t, filepath.Join(bin, "xdg-open.link")); !strings.HasPrefix(link, "http://127.0.0.1:") {
		t.Errorf("the browser was given %q", link)
	}
}
