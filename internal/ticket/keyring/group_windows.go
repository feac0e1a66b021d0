//go:build windows

package keyring

import (
	"os"
	"os/exec"
	"syscall"
)

const createNoWindow = 0x08000000 // CREATE_NO_WINDOW

// ownGroup keeps a console window from opening for the child.
func ownGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: createNoWindow | syscall.CREATE_NEW_PROCESS_GROUP}
}

// killGroup ends the child, which starts no programs here.
func killGroup(p *os.Process) { _ = p.Kill() }
