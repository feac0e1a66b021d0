//go:build unix

package kinit

import (
	"os/exec"
	"syscall"
)

const canRun = true

// separate gives cmd a session of its own: it has no terminal to ask at, and
// what it starts ends with it.
func separate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return killGroup(cmd) }
}

func killGroup(cmd *exec.Cmd) error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
