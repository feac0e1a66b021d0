//go:build windows

package notify_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"kerbpass/internal/ui/notify"
)

// These run on Windows or, by TestOnWindows, under Wine.

var (
	user32           = syscall.NewLazyDLL("user32.dll")
	registerClassEx  = user32.NewProc("RegisterClassExW")
	createWindowEx   = user32.NewProc("CreateWindowExW")
	defWindowProc    = user32.NewProc("DefWindowProcW")
	getMessage       = user32.NewProc("GetMessageW")
	dispatchMessage  = user32.NewProc("DispatchMessageW")
	sendMessage      = user32.NewProc("SendMessageW")
	postMessage      = user32.NewProc("PostMessageW")
	destroyWindow    = user32.NewProc("DestroyWindow")
	postQuitMessage  = user32.NewProc("PostQuitMessage")
	loadIcon         = user32.NewProc("LoadIconW")
	getModuleHandle  = syscall.NewLazyDLL("kernel32.dll").NewProc("GetModuleHandleW")
	shellNotifyIconW = syscall.NewLazyDLL("shell32.dll").NewProc("Shell_NotifyIconW")
)

const (
	wmDestroy = 0x0002
	wmClose   = 0x0010
	wmTray    = 0x0401
	leftUp    = 0x0202
	clicked   = 0x0405 // NIN_BALLOONUSERCLICK; Wine never sends it, so we do
)

// startIcon makes a window and an icon like those of the tray. taps gets what
// the window is told about the icon.
func startIcon(t *testing.T) (window uintptr, taps chan uintptr) {
	t.Helper()
	taps = make(chan uintptr, 100)
	made := make(chan uintptr)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		made <- makeIcon(taps)
		var msg [64]byte
		for {
			if more, _, _ := getMessage.Call(uintptr(unsafe.Pointer(&msg)), 0, 0, 0); int32(more) <= 0 {
				return
			}
			dispatchMessage.Call(uintptr(unsafe.Pointer(&msg)))
		}
	}()
	window = <-made
	if window == 0 {
		t.Fatal("no window with an icon")
	}
	t.Cleanup(func() {
		postMessage.Call(window, wmClose, 0, 0)
		<-ended
	})
	return window, taps
}

func makeIcon(taps chan<- uintptr) uintptr {
	class, _ := syscall.UTF16PtrFromString("SystrayClass")
	module, _, _ := getModuleHandle.Call(0)
	wc := struct {
		Size, Style                        uint32
		Proc                               uintptr
		ClassExtra, WindowExtra            int32
		Instance, Icon, Cursor, Background uintptr
		Menu, Class                        *uint16
		SmallIcon                          uintptr
	}{Proc: syscall.NewCallback(func(w, m, wp, lp uintptr) uintptr {
		switch m {
		case wmTray:
			taps <- lp
			return 0
		case wmClose:
			destroyWindow.Call(w)
			return 0
		case wmDestroy:
			postQuitMessage.Call(0)
			return 0
		}
		r, _, _ := defWindowProc.Call(w, m, wp, lp)
		return r
	}), Instance: module, Class: class}
	wc.Size = uint32(unsafe.Sizeof(wc))
	registerClassEx.Call(uintptr(unsafe.Pointer(&wc)))
	window, _, _ := createWindowEx.Call(0, uintptr(unsafe.Pointer(class)), 0, 0, 0, 0, 0, 0, 0, 0, module, 0)
	icon, _, _ := loadIcon.Call(0, 32512)
	nid := struct {
		Size                uint32
		Window              uintptr
		ID, Flags, Callback uint32
		Icon                uintptr
		Rest                [976 - 40]byte
	}{Window: window, ID: 100, Flags: 3, Callback: wmTray, Icon: icon}
	nid.Size = uint32(unsafe.Sizeof(nid))
	if ok, _, _ := shellNotifyIconW.Call(0, uintptr(unsafe.Pointer(&nid))); ok == 0 {
		return 0
	}
	return window
}

func TestBalloon(t *testing.T) {
	chosen := make(chan string, 100)
	n, err := notify.New(notify.Config{Name: "Kerbpass", OnAction: func(key, action string) { chosen <- key + " " + action }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	note := notify.Note{Key: "ticket", Title: "Ticket ends soon", Body: "at 18:10",
		Actions: []notify.Action{{ID: "renew", Label: "Renew now"}, {ID: "later", Label: "Later"}}}
	if err := n.Show(ctx, note); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("without an icon: got %v, want it to wrap ErrUnsupported", err)
	}

	window, taps := startIcon(t)
	show := func(note notify.Note) {
		t.Helper()
		if err := n.Show(ctx, note); err != nil {
			t.Error(err)
		}
	}
	show(note)
	// Sent, and so taken in when the call returns.
	click := func() { sendMessage.Call(window, wmTray, 100, clicked) }
	click()
	if got, want := receive(t, chosen), "ticket renew"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	click() // the note is gone
	show(notify.Note{Key: "no action", Title: "Signed in"})
	click()
	show(note)
	if err := n.Close(ctx, "another"); err != nil {
		t.Error(err)
	}
	second := note
	second.Key, second.Title, second.Body = "proxy", strings.Repeat("\U0001F511", 500), strings.Repeat("ä", 5000)
	show(second)
	click()
	if got, want := receive(t, chosen), "proxy renew"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	show(note)
	if err := n.Close(ctx, "ticket"); err != nil {
		t.Error(err)
	}
	click()

	sendMessage.Call(window, wmTray, 100, leftUp)
	for got := uintptr(0); got != leftUp; { // the icon hears what it heard before, clicks on balloons too
		got = receive(t, taps)
	}
	cancel()
	if err := receive(t, ended); err != nil {
		t.Error(err)
	}
	if len(chosen) > 0 {
		t.Errorf("got %q too", <-chosen)
	}
}

func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}
