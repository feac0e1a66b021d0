//go:build windows

package main

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"
)

var (
	getConsoleProcessList = syscall.NewLazyDLL("kernel32.dll").NewProc("GetConsoleProcessList")
	messageBox            = syscall.NewLazyDLL("user32.dll").NewProc("MessageBoxW")
)

// desktopProgram starts the tray where no terminal is looked at.
func desktopProgram(exe string) string { return twin(exe) }

// handOver starts the windowed program instead of this one where that was
// opened without a terminal, by a double click: its console has nobody else.
func handOver(args []string) bool {
	self, err := os.Executable()
	if err != nil || strings.EqualFold(twin(self), self) || !ownConsole() {
		return false
	}
	const detached = 0x8 // DETACHED_PROCESS
	cmd := exec.Command(twin(self), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: detached}
	return cmd.Start() == nil
}

func ownConsole() bool {
	var pids [2]uint32
	n, _, _ := getConsoleProcessList.Call(uintptr(unsafe.Pointer(&pids[0])), uintptr(len(pids)))
	return n == 1
}

// tell shows what ended the program in a box, where nobody sees standard error.
func tell(text string) {
	if syscall.Stderr != 0 && syscall.Stderr != syscall.InvalidHandle {
		return
	}
	words, err := syscall.UTF16PtrFromString(strings.ReplaceAll(text, "\x00", ""))
	if err != nil {
		return
	}
	title, _ := syscall.UTF16PtrFromString("Kerbpass")
	const warning, foreground = 0x30, 0x10000
	messageBox.Call(0, uintptr(unsafe.Pointer(words)), uintptr(unsafe.Pointer(title)), warning|foreground)
}

// noConsole keeps a console window from opening for a child of the windowed
// program.
func noConsole(cmd *exec.Cmd) *exec.Cmd {
	const createNoWindow = 0x08000000
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: createNoWindow}
	return cmd
}
