//go:build windows

package sspi

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// lookAgain is how often Watch reports although nothing was heard: the LSA
// tells nobody about new tickets.
const lookAgain = time.Minute

// Watch implements [ticket.Backend]: it reports at each unlock and sign-in, at
// the end of each minute, and once at the beginning.
func (b *Backend) Watch(ctx context.Context, changed func()) error {
	heard := make(chan struct{}, 1)
	s, err := openSession(heard)
	if err != nil { // early in a sign-in the service may not be up
		b.log.Warn("unlocking the screen will be noticed late", "err", err)
	} else {
		defer s.close()
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for ctx.Err() == nil {
		changed()
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-heard:
		}
	}
	return nil
}

var (
	user32           = syscall.NewLazyDLL(systemFile("user32.dll"))
	registerClass    = user32.NewProc("RegisterClassExW")
	createWindow     = user32.NewProc("CreateWindowExW")
	destroyWindow    = user32.NewProc("DestroyWindow")
	defWindowProc    = user32.NewProc("DefWindowProcW")
	getMessage       = user32.NewProc("GetMessageW")
	dispatchMessage  = user32.NewProc("DispatchMessageW")
	postMessage      = user32.NewProc("PostMessageW")
	wtsapi32         = syscall.NewLazyDLL(systemFile("wtsapi32.dll"))
	wtsRegister      = wtsapi32.NewProc("WTSRegisterSessionNotification")
	wtsUnregister    = wtsapi32.NewProc("WTSUnRegisterSessionNotification")
	watchRequirement = []*syscall.LazyProc{registerClass, createWindow, destroyWindow, defWindowProc,
		getMessage, dispatchMessage, postMessage, wtsRegister, wtsUnregister}
)

// Window messages. The last two are ours.
const (
	msgSessionChange = 0x2B1 // WM_WTSSESSION_CHANGE
	msgStop          = 0x8000
	msgNews          = 0x8001
)

// news reports whether a session change may have brought tickets.
func news(event uintptr) bool {
	const consoleConnect, remoteConnect, logon, unlock = 1, 3, 5, 8
	return event == consoleConnect || event == remoteConnect || event == logon || event == unlock
}

// A session is a window that nobody sees, and that Windows tells what happens
// to this session. It belongs to one OS thread, which runs its message loop.
type session struct {
	window uintptr
	ended  chan struct{}
}

// openSession starts the thread; each piece of news is a mark in heard.
func openSession(heard chan<- struct{}) (*session, error) {
	if err := findAll(watchRequirement); err != nil {
		return nil, err
	}
	s := &session{ended: make(chan struct{})}
	opened := make(chan error)
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // never unlocked: the thread ends with its window
		err := s.open()
		opened <- err
		if err == nil {
			s.run(heard)
		}
	}()
	if err := <-opened; err != nil {
		return nil, err
	}
	return s, nil
}

func (s *session) close() {
	postMessage.Call(s.window, msgStop, 0, 0)
	<-s.ended
}

func (s *session) open() error {
	class, err := windowClass()
	if err != nil {
		return err
	}
	const messageOnly = ^uintptr(2) // HWND_MESSAGE, -3
	var err2 error
	s.window, _, err2 = createWindow.Call(0, class, 0, 0, 0, 0, 0, 0, messageOnly, 0, 0, 0)
	if s.window == 0 {
		return fmt.Errorf("make a window: %w", err2)
	}
	const thisSession = 0
	if ok, _, err := wtsRegister.Call(s.window, thisSession); ok == 0 {
		destroyWindow.Call(s.window)
		return fmt.Errorf("ask for session notifications: %w", err)
	}
	return nil
}

func (s *session) run(heard chan<- struct{}) {
	defer destroyWindow.Call(s.window)
	defer wtsUnregister.Call(s.window)
	var m struct { // MSG
		window         uintptr
		message        uint32
		wparam, lparam uintptr
		time           uint32
		x, y           int32
		private        uint32
	}
	for {
		if ok, _, _ := getMessage.Call(uintptr(unsafe.Pointer(&m)), s.window, 0, 0); int32(ok) <= 0 {
			return
		}
		switch m.message {
		case msgStop:
			return
		case msgNews:
			select {
			case heard <- struct{}{}:
			default: // a mark is there already
			}
		default:
			dispatchMessage.Call(uintptr(unsafe.Pointer(&m)))
		}
	}
}

// windowClass registers the class of our windows, once: the runtime never
// frees a callback. Windows may call the procedure from within any function
// of user32, so it only leaves a message for the loop.
var windowClass = sync.OnceValues(func() (class uintptr, err error) {
	procedure := syscall.NewCallback(func(window, message, wparam, lparam uintptr) uintptr {
		if message == msgSessionChange {
			if news(wparam) {
				postMessage.Call(window, msgNews, 0, 0)
			}
			return 0
		}
		result, _, _ := defWindowProc.Call(window, message, wparam, lparam)
		return result
	})
	name, err := syscall.UTF16PtrFromString(className)
	if err != nil {
		return 0, err
	}
	c := struct { // WNDCLASSEXW
		size, style                        uint32
		procedure                          uintptr
		classExtra, windowExtra            int32
		instance, icon, cursor, background uintptr
		menu, name                         *uint16
		smallIcon                          uintptr
	}{procedure: procedure, name: name}
	c.size = uint32(unsafe.Sizeof(c))
	class, _, err = registerClass.Call(uintptr(unsafe.Pointer(&c)))
	if class == 0 {
		return 0, fmt.Errorf("register a window class: %w", err)
	}
	return class, nil
})

const className = "KerbpassSession"

// systemFile returns the path of a system library. By its bare name Windows
// would first look beside the program, where a download folder may hold
// another one.
func systemFile(name string) string {
	var buf [syscall.MAX_PATH]uint16
	n, _, _ := syscall.NewLazyDLL("kernel32.dll").NewProc("GetSystemDirectoryW").Call(uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	if n == 0 || int(n) > len(buf) {
		return `C:\Windows\System32\` + name
	}
	return filepath.Join(syscall.UTF16ToString(buf[:n]), name)
}
