//go:build unix

package keyring

import (
	"os"
	"os/exec"
	"syscall"
)

// ownGroup keeps the child apart, with the programs it starts (macOS's
// security): a Ctrl+C in the terminal is not for them, and they end together.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup ends a child that was not waited for yet.
func killGroup(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }
