//go:build linux

package window

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// GTK 3's WebKit comes first because screen readers see the whole page in it.
var systemWays = []string{wayWebKitGTK41, wayWebKitGTK60, wayBrowserApp, wayBrowser}

// hasDisplay keeps xdg-open from starting a text browser.
func hasDisplay(env []string) bool {
	display := false
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		display = display || value != "" && (name == "DISPLAY" || name == "WAYLAND_DISPLAY")
	}
	return display
}

func appBrowsers() []string {
	return []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable",
		"microsoft-edge", "microsoft-edge-stable", "brave-browser",
	}
}

// browse hands url to the desktop's choice of browser, in a session of its own
// so that nothing that ends us ends it.
func browse(url string) error {
	for _, opener := range []string{"xdg-open", "x-www-browser"} {
		path, err := exec.LookPath(opener)
		if err != nil {
			continue
		}
		cmd := exec.Command(path, url)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%w: %s: %w", errNoBrowser, opener, err)
		}
		return nil
	}
	return errNoBrowser
}

// tie makes the kernel kill cmd when the calling thread ends: the thread must
// be locked until cmd is gone. It helps where a child hangs and does not see
// its standard input end.
func tie(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// tieGroup is tie for a program with helpers of its own, all of which are told
// to end when cmd's context does.
func tieGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		if errors.Is(err, syscall.ESRCH) {
			return nil
		}
		return err
	}
}
