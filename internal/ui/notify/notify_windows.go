//go:build windows

package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"unicode/utf16"
	"unsafe"
)

// Notes are balloons of the tray's icon, which Windows 10 and later draw as
// toasts. Windows shows one at a time. The window and the icon's number are
// those of the tray (fyne.io/systray); its messages pass through a hook.
const (
	trayClass = "SystrayClass"
	trayIcon  = 100

	wmTray       = 0x0400 + 1 // WM_USER + 1, the icon's messages
	balloonClick = 0x0405     // NIN_BALLOONUSERCLICK

	nimModify = 1
	nifInfo   = 0x10
	gwlProc   = ^uintptr(3) // GWLP_WNDPROC, -4
)

var (
	user32              = syscall.NewLazyDLL("user32.dll")
	findWindowEx        = user32.NewProc("FindWindowExW")
	getWindowProcess    = user32.NewProc("GetWindowThreadProcessId")
	setWindowLongPtr    = user32.NewProc("SetWindowLongPtrW")
	callWindowProc      = user32.NewProc("CallWindowProcW")
	getCurrentProcessID = syscall.NewLazyDLL("kernel32.dll").NewProc("GetCurrentProcessId")
	shellNotifyIcon     = syscall.NewLazyDLL("shell32.dll").NewProc("Shell_NotifyIconW")
)

// notifyIconData is NOTIFYICONDATAW.
type notifyIconData struct {
	Size                uint32
	Window              uintptr
	ID, Flags, Callback uint32
	Icon                uintptr
	Tip                 [128]uint16
	State, StateMask    uint32
	Info                [256]uint16
	Version             uint32 // a union with Timeout
	Title               [64]uint16
	InfoFlags           uint32
	GUID                [16]byte
	BalloonIcon         uintptr
}

// infoFlags are the pictures NIIF_INFO, NIIF_INFO and NIIF_WARNING.
var infoFlags = map[Urgency]uint32{Low: 1, Normal: 1, Critical: 2}

// hook passes the messages of the tray's window on and picks the clicks on
// balloons. There is one for the process because Windows never gives the
// memory of a callback back.
var hook struct {
	install sync.Once
	proc    uintptr
	clicks  chan struct{} // capacity 1

	// mu guards all below.
	mu     sync.Mutex
	window uintptr // whose messages pass, 0 none
	next   uintptr // the procedure that had them before
}

// serve shows one balloon at a time.
func (n *Notifier) serve(ctx context.Context, choose func(key, action string)) error {
	hook.install.Do(func() {
		hook.clicks = make(chan struct{}, 1)
		hook.proc = syscall.NewCallback(windowProc)
	})
	current := Note{} // without Key: none
	withdraw := func() error {
		current = Note{}
		return balloon(Note{})
	}
	for {
		select {
		case <-ctx.Done():
			if current.Key != "" && withdraw() != nil {
				n.cfg.Log.Debug("the last note stays")
			}
			return nil
		case <-hook.clicks:
			note := current
			current = Note{}
			if note.Key != "" && len(note.Actions) > 0 {
				choose(note.Key, note.Actions[0].ID)
			}
		case r := <-n.requests:
			var err error
			switch {
			case r.note != nil:
				if err = balloon(*r.note); err == nil {
					current = *r.note
				}
			case r.key == current.Key:
				err = withdraw()
			}
			r.done <- err
		}
	}
}

// balloon shows note, or with one without title takes the balloon away.
func balloon(note Note) error {
	window, err := trayWindow()
	if err != nil {
		return err
	}
	if err := watch(window); err != nil {
		return err
	}
	title, body := note.Title, withHint(note)
	if body == "" {
		title, body = "", title // without a body nothing would show
	}
	d := notifyIconData{Window: window, ID: trayIcon, Flags: nifInfo, InfoFlags: infoFlags[note.Urgency]}
	d.Size = uint32(unsafe.Sizeof(d))
	put(d.Title[:], title)
	put(d.Info[:], body)
	if ok, _, err := shellNotifyIcon.Call(nimModify, uintptr(unsafe.Pointer(&d))); ok == 0 { // reads d during the call only
		return fmt.Errorf("the taskbar refuses the note: %w", err)
	}
	return nil
}

// put writes as much of text as there is room for, and a zero.
func put(room []uint16, text string) {
	used := 0
	for _, r := range text {
		units := utf16.AppendRune(nil, r)
		if used+len(units) >= len(room) {
			break
		}
		used += copy(room[used:], units)
	}
	room[used] = 0
}

// trayWindow returns the window of this process that owns the tray's icon.
func trayWindow() (uintptr, error) {
	class, err := syscall.UTF16PtrFromString(trayClass)
	if err != nil {
		return 0, err
	}
	self, _, _ := getCurrentProcessID.Call()
	for window := uintptr(0); ; {
		window, _, _ = findWindowEx.Call(0, window, uintptr(unsafe.Pointer(class)), 0) // reads class during the call only
		if window == 0 {
			return 0, fmt.Errorf("no tray icon to show the note at: %w", errors.ErrUnsupported)
		}
		var process uint32
		getWindowProcess.Call(window, uintptr(unsafe.Pointer(&process))) // writes process during the call only
		if uintptr(process) == self {
			return window, nil
		}
	}
}

// watch puts the hook into the window, once.
func watch(window uintptr) error {
	hook.mu.Lock()
	defer hook.mu.Unlock()
	if hook.window == window {
		return nil
	}
	next, _, err := setWindowLongPtr.Call(window, gwlProc, hook.proc)
	if next == 0 {
		return fmt.Errorf("listen to clicks on the note: %w", err)
	}
	hook.window, hook.next = window, next
	return nil
}

// windowProc runs on the tray's thread. A message that comes while the hook is
// being put in waits for it to be in.
func windowProc(window, message, wParam, lParam uintptr) uintptr {
	if message == wmTray && lParam&0xffff == balloonClick {
		select {
		case hook.clicks <- struct{}{}:
		default:
		}
	}
	hook.mu.Lock()
	next := hook.next
	hook.mu.Unlock()
	result, _, _ := callWindowProc.Call(next, window, message, wParam, lParam)
	return result
}
