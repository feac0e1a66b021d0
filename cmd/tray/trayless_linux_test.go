//go:build linux

package main_test

import (
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/ui/tray/traytest"
)

// Whoever starts it in a terminal is shown there why there is no tray, and an
// address that opens the settings once. The log file has no address.
func TestNoTrayInATerminal(t *testing.T) {
	h := prepare(t, setup{cache: fileCache(t), env: []string{"DBUS_SESSION_BUS_ADDRESS=" + traytest.Bus(t), "XDG_CURRENT_DESKTOP=ubuntu:GNOME", "LANG=C.UTF-8"}})
	master, slave := pty(t)
	cmd := exec.Command(h.bin, "--listen", "127.0.0.1:0")
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = h.env, slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() {
		cmd.Process.Signal(syscall.SIGINT) // as Ctrl-C
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("ended by Ctrl-C: %v", err)
			}
		case <-time.After(30 * time.Second):
			cmd.Process.Kill()
			t.Error("Ctrl-C does not end it")
		}
	}()

	text := readUntil(t, master, "within 10 minutes:\r\n")
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+/open/\S+`)
	for !address.MatchString(text) || !strings.HasSuffix(text, "\n") {
		text += readUntil(t, master, "\n")
	}
	for _, words := range []string{"GNOME shows no tray icons by itself", "gnome-shell-extension-appindicator", "Settings: kerbpass settings"} {
		if strings.Count(text, words) != 1 {
			t.Errorf("%q is not said once:\n%s", words, text)
		}
	}
	if strings.Contains(text, "systray") {
		t.Errorf("a library speaks to the person:\n%s", text)
	}
	link := address.FindString(text)
	noFollow := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, want := range []int{http.StatusSeeOther, http.StatusForbidden} {
		resp, err := noFollow.Get(link)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("the address: got %s, want %d", resp.Status, want)
		}
	}
	if log := readFile(t, h.home+"/.cache/kerbpass/kerbpass.log"); strings.Contains(log, "/open/") || !strings.Contains(log, "msg=listening") {
		t.Errorf("log file:\n%s", log)
	}
}
