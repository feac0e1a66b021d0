//go:build darwin

package window

import (
	"fmt"
	"os/exec"
)

var systemWays = []string{wayWKWebView, wayBrowser}

func hasDisplay([]string) bool { return true }

func appBrowsers() []string { return nil }

// browse hands url to the person's choice of browser.
func browse(url string) error {
	if err := exec.Command("/usr/bin/open", url).Run(); err != nil {
		return fmt.Errorf("%w: %w", errNoBrowser, err)
	}
	return nil
}

// tie does nothing: a child ends with its standard input.
func tie(*exec.Cmd) {}

func tieGroup(*exec.Cmd) {}
