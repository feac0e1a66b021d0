//go:build windows

package tray

import (
	"context"
	"log/slog"
	"syscall"
	"time"
	"unsafe"
)

const (
	mnemonic   = "&"
	drawBefore = false // its menu does not exist before the library runs
)

// taskbarPoll is how often a taskbar that is not there is looked for.
const taskbarPoll = 500 * time.Millisecond

var findWindow = syscall.NewLazyDLL("user32.dll").NewProc("FindWindowW")

// host is the taskbar.
type host struct{}

// openHost waits for the taskbar: the library would try to add the icon once,
// and never again. It returns nil when ctx ends first.
func openHost(ctx context.Context, log *slog.Logger) (*host, error) {
	for waiting := false; !taskbar(); waiting = true {
		if !waiting {
			log.Info("waiting for the taskbar")
		}
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(taskbarPoll):
		}
	}
	return &host{}, nil
}

// taskbar reports whether the session has one.
func taskbar() bool {
	class, err := syscall.UTF16PtrFromString("Shell_TrayWnd")
	if err != nil {
		return false
	}
	w, _, _ := findWindow.Call(uintptr(unsafe.Pointer(class)), 0) // the class name outlives the call
	return w != 0
}

func (*host) close() {}

func (*host) gone() <-chan struct{} { return nil }

// watch has nothing to do: the library adds the icon again when the taskbar
// comes back.
func (*host) watch(ctx context.Context, visible func(bool), _ chan<- struct{}) error {
	visible(true)
	<-ctx.Done()
	return nil
}
