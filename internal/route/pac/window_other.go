//go:build !windows

package pac

import "os/exec"

func hideWindow(*exec.Cmd) {}
