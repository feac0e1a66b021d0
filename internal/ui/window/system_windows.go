//go:build windows

package window

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"unsafe"
)

var systemWays = []string{wayWebView2, wayBrowserApp, wayBrowser}

func hasDisplay([]string) bool { return true }

func appBrowsers() (paths []string) {
	for _, program := range []string{`Microsoft\Edge\Application\msedge.exe`, `Google\Chrome\Application\chrome.exe`} {
		for _, folder := range []string{"ProgramFiles(x86)", "ProgramFiles", "LocalAppData"} {
			if root := os.Getenv(folder); root != "" {
				paths = append(paths, filepath.Join(root, program))
			}
		}
	}
	return paths
}

var shellExecute = syscall.NewLazyDLL("shell32.dll").NewProc("ShellExecuteW")

// browse hands url to the person's choice of browser.
func browse(url string) error {
	address, err := syscall.UTF16PtrFromString(url)
	if err != nil {
		return err
	}
	const showNormal = 1
	// Results up to 32 are errors, from the days of 16 bits.
	if code, _, _ := shellExecute.Call(0, 0, uintptr(unsafe.Pointer(address)), 0, 0, showNormal); code <= 32 {
		return fmt.Errorf("%w: ShellExecute says %d", errNoBrowser, code)
	}
	return nil
}

// tie gives cmd no console window. It ends with its standard input.
func tie(cmd *exec.Cmd) {
	const createNoWindow = 0x08000000
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: createNoWindow}
}

// tieGroup does nothing: a browser's helpers end with its first process.
func tieGroup(*exec.Cmd) {}
