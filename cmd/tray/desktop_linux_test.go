//go:build linux

package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ui/tray/traytest"
)

// enabled and checked are conditions for [traytest.Item.Wait].
func enabled(r traytest.Row) bool   { return r.Enabled }
func checked(r traytest.Row) bool   { return r.Checked }
func unchecked(r traytest.Row) bool { return !r.Checked }
func shown(traytest.Row) bool       { return true }

// The bare program on a desktop: what the icon and the menu say follows the
// ticket, and what is clicked reaches the proxy.
func TestTray(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	desktop := traytest.Start(t)
	h := start(t, setup{world: w, cache: cache, bare: true, args: w.upstream("localhost"),
		env: []string{"DBUS_SESSION_BUS_ADDRESS=" + desktop.Address, "LANG=en_GB.UTF-8"}})
	web := w.url("web.world.test")
	icon := desktop.Item()

	icon.Wait("Ticket until ", shown)
	icon.Wait("Account: alice@"+w.kdc.Realm, shown)
	icon.Wait("Proxy on "+h.addr, shown)
	if tip := icon.Tooltip(); !strings.Contains(tip, "Ticket until ") {
		t.Errorf("tooltip: %q", tip)
	}
	valid := icon.Picture()
	h.want("200", "", web)

	icon.Wait("Kerberos proxy authentication", checked)
	icon.Click("Kerberos proxy authentication")
	icon.Wait("Kerberos proxy authentication", unchecked)
	h.want("502", "kerberos_off", web)
	off := icon.Picture()
	icon.Click("Kerberos proxy authentication")
	icon.Wait("Kerberos proxy authentication", checked)
	h.want("200", "", web)

	icon.Click("For 15 minutes")
	icon.Wait("Resume", enabled)
	h.want("502", "kerberos_off", web)
	icon.Click("Resume")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if status, _, _ := h.curl(web); status == "200" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the pause does not end")
		}
	}

	before := h.status().Ticket.Start
	time.Sleep(time.Second) // tickets count in seconds
	icon.Click("Renew now")
	for deadline := time.Now().Add(20 * time.Second); h.status().Ticket.Start == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not renewed")
		}
	}

	icon.Click("Start at login")
	icon.Wait("Start at login", checked)
	entry := h.home + "/config/autostart/kerbpass.desktop"
	if text := readFile(t, entry); !strings.Contains(text, h.bin) {
		t.Errorf("autostart:\n%s", text)
	}
	icon.Click("Start at login")
	icon.Wait("Start at login", unchecked)
	if _, err := os.Stat(entry); err == nil {
		t.Errorf("%s is still there", entry)
	}

	w.kdc.Run(cache, "", "kdestroy")
	icon.Wait("No ticket", shown)
	none := icon.Picture()
	if none == valid || off == valid || none == off {
		t.Error("the icon does not tell valid, off and none apart")
	}
	w.kdc.Kinit(t, "alice", cache)
	icon.Wait("Ticket until ", shown)
	if icon.Picture() != valid {
		t.Error("the icon is not what it was with a ticket")
	}

	icon.Click("Quit")
	select {
	case err := <-h.done:
		h.done <- nil
		if err != nil {
			t.Errorf("quit: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("Quit does not end it")
	}
}

// A reminder comes once, says what to do, and its action does it.
func TestReminders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "brief", cache)
	desktop := traytest.Start(t)
	h := start(t, setup{world: w, cache: cache, bare: true, args: w.upstream("localhost"), file: "[kerberos]\nrenew = \"off\"\n",
		env: []string{"DBUS_SESSION_BUS_ADDRESS=" + desktop.Address, "LANG=de_DE.UTF-8"}})
	icon := desktop.Item()
	note := desktop.Note() // after the time that others get to sign in
	if !strings.Contains(note.Title, "abgelaufen") || strings.Contains(note.Title+note.Body, "kerberos.") {
		t.Errorf("got %+v", note)
	}
	icon.Wait("Ticket abgelaufen", shown)
	if n := strings.Count(h.log.String(), "msg=reminder"); n != 1 {
		t.Errorf("%d reminders", n)
	}
}

// Without a desktop the program says so once and goes on.
func TestNoDesktop(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	h := start(t, setup{world: w, cache: cache, bare: true, args: w.upstream("localhost"), env: []string{"DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent"}})
	h.want("200", "", w.url("web.world.test"))
	for deadline := time.Now().Add(20 * time.Second); strings.Count(h.log.String(), "no tray can be shown") != 1; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not said once:\n%s", h.log)
		}
	}
	h.pageByLink()
	if out, code := h.kerbpass("quit"); code != 0 {
		t.Errorf("quit: exit code %d: %s", code, out)
	}
}

// pageByLink opens the settings page by an address that is printed on demand,
// and demands that the log holds none. It returns what the page asks for next.
func (h *helper) pageByLink() (page *http.Request) {
	h.t.Helper()
	out, code := h.kerbpass("settings", "--link")
	if code != 0 || !strings.Contains(out, "/open/") {
		h.t.Fatalf("settings --link: exit code %d: %s", code, out)
	}
	noFollow := http.Client{Transport: &http.Transport{}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer noFollow.CloseIdleConnections()
	resp, err := noFollow.Get(strings.TrimSpace(out))
	if err != nil {
		h.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSeeOther {
		h.t.Errorf("the link leads to %s", resp.Status)
	}
	if strings.Contains(h.log.String(), "/open/") {
		h.t.Errorf("a link in the log:\n%s", h.log)
	}
	page, err = http.NewRequest("GET", "http://"+resp.Request.URL.Host+"/v1/status", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, c := range resp.Cookies() {
		page.AddCookie(c)
	}
	return page
}

// waitLog waits until the log holds a text.
func (h *helper) waitLog(text string) {
	h.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !strings.Contains(h.log.String(), text); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("not said: %s\n%s", text, h.log)
		}
	}
}

// A session without a place for icons is told of once, with the way out, and
// nothing pops up.
func TestNoTrayOnThisDesktop(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	h := start(t, setup{world: w, cache: fileCache(t), bare: true,
		env: []string{"DBUS_SESSION_BUS_ADDRESS=" + traytest.Bus(t), "XDG_CURRENT_DESKTOP=ubuntu:GNOME", "DISPLAY=" + testenv.Screen(t)}})
	h.waitLog("AppIndicator and KStatusNotifierItem Support")
	h.pageByLink()
	if n := h.children(); n != 0 {
		t.Errorf("%d windows without a tray", n)
	}
	if n := strings.Count(h.log.String(), "no tray can be shown"); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// At the first start the welcome opens by itself, and never again. The log is
// in a file of the user's own.
func TestFirstStart(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	desktop := traytest.Start(t)
	h := start(t, setup{world: w, cache: cache, bare: true, env: []string{"DBUS_SESSION_BUS_ADDRESS=" + desktop.Address, "DISPLAY=" + testenv.Screen(t)}})
	desktop.Item().Wait("Settings…", shown)
	h.waitLog("window shown")
	if n := h.children(); n != 1 {
		t.Errorf("%d windows, want the welcome", n)
	}
	if _, err := os.Stat(h.config()); err != nil {
		t.Errorf("the welcome is not remembered: %v", err)
	}
	log, err := filepath.Glob(h.home + "/*/kerbpass/kerbpass.log")
	if err != nil || len(log) != 1 {
		t.Fatalf("log files: %q, %v", log, err)
	}
	if st, err := os.Stat(log[0]); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("log file: %v, %v", st.Mode(), err)
	}
	if text := readFile(t, log[0]); !strings.Contains(text, "msg=listening") || strings.Contains(text, "/open/") {
		t.Errorf("log file:\n%s", text)
	}
	open := h.pageByLink()
	h.kerbpass("quit")
	err = <-h.done
	h.done <- err

	again := exec.Command(h.bin, "--listen", "127.0.0.1:0", "--log-level", "debug")
	out := &logBuffer{addr: make(chan string, 1)}
	again.Env, again.Stderr = h.env, out
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	defer again.Wait()
	defer again.Process.Kill()
	h.log = out
	desktop.Item().Wait("Settings…", shown)
	if n := h.children(); n != 0 || strings.Contains(out.String(), "window shown") {
		t.Errorf("%d windows at the second start", n)
	}
	fresh := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if resp, err := fresh.Do(open); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the page that was open does not come back: %v, %v", resp, err)
	} else {
		resp.Body.Close()
	}
	if out, code := h.kerbpass("settings"); code != 0 {
		t.Errorf("settings: exit code %d: %s", code, out)
	}
	if out, code := h.kerbpass("quit"); code != 0 {
		t.Errorf("quit: exit code %d: %s", code, out)
	}
}

// children counts the helper's window processes.
func (h *helper) children() (n int) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		line, _ := os.ReadFile(path)
		if args := strings.Split(string(line), "\x00"); len(args) > 2 && args[0] == h.bin && args[1] == "settings-window" {
			n++
		}
	}
	return n
}

// The settings window opens by command and by a second start, once, and goes
// with the program.
func TestSettingsWindow(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	desktop := traytest.Start(t)
	h := start(t, setup{world: w, cache: cache, bare: true, args: w.upstream("localhost"),
		env: []string{"DBUS_SESSION_BUS_ADDRESS=" + desktop.Address, "DISPLAY=" + testenv.Screen(t), "http_proxy=http://127.0.0.1:9"}})
	for _, args := range [][]string{{"settings"}, {"settings"}, {}} {
		if out, code := h.kerbpass(args...); code != 0 {
			t.Fatalf("%q: exit code %d: %s\n%s", args, code, out, h.log)
		}
		if n := h.children(); n != 1 {
			t.Errorf("%q: %d windows", args, n)
		}
	}
	if out, code := h.kerbpass("quit"); code != 0 {
		t.Errorf("quit: exit code %d: %s", code, out)
	}
	select {
	case err := <-h.done:
		h.done <- err
	case <-time.After(30 * time.Second):
		t.Fatal("quit does not end it")
	}
	for deadline := time.Now().Add(20 * time.Second); h.children() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the window outlives the program")
		}
	}
}

// Without a desktop the window is an error that names the file.
func TestNoSettingsWindow(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	for _, bare := range []bool{false, true} {
		h := start(t, setup{world: w, cache: fileCache(t), bare: bare, args: w.upstream("localhost"), env: []string{"DBUS_SESSION_BUS_ADDRESS=unix:path=/nonexistent"}})
		out, code := h.kerbpass("settings")
		if code != 1 || bare && !strings.Contains(out, h.config()) || !bare && !strings.Contains(out, "kerbpass run") {
			t.Errorf("bare=%t: exit code %d: %s", bare, code, out)
		}
	}
}
