//go:build !linux && !windows && !darwin

package window

import (
	"errors"
	"os/exec"
)

var systemWays []string

func hasDisplay([]string) bool { return true }

func appBrowsers() []string { return nil }

func browse(string) error { return errors.ErrUnsupported }

func tie(*exec.Cmd) {}

func tieGroup(*exec.Cmd) {}
