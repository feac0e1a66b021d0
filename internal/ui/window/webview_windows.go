//go:build windows

package window

import (
	"fmt"
	"syscall"
	"unsafe"

	"github.com/wailsapp/go-webview2/pkg/edge"
	"github.com/wailsapp/go-webview2/webviewloader"
)

var (
	user32              = syscall.NewLazyDLL("user32.dll")
	adjustWindowRect    = user32.NewProc("AdjustWindowRect")
	createIcon          = user32.NewProc("CreateIconFromResourceEx")
	createWindow        = user32.NewProc("CreateWindowExW")
	defWindowProc       = user32.NewProc("DefWindowProcW")
	dispatchMessage     = user32.NewProc("DispatchMessageW")
	getMessage          = user32.NewProc("GetMessageW")
	postMessage         = user32.NewProc("PostMessageW")
	postQuitMessage     = user32.NewProc("PostQuitMessage")
	registerClass       = user32.NewProc("RegisterClassExW")
	sendMessage         = user32.NewProc("SendMessageW")
	setForegroundWindow = user32.NewProc("SetForegroundWindow")
	showWindow          = user32.NewProc("ShowWindow")
	translateMessage    = user32.NewProc("TranslateMessage")
)

// Messages, of which the last is our own.
const (
	wmDestroy       = 0x0002
	wmMove          = 0x0003
	wmSize          = 0x0005
	wmSetFocus      = 0x0007
	wmClose         = 0x0010
	wmGetMinMaxInfo = 0x0024
	wmSetIcon       = 0x0080
	wmRaise         = 0x8000
)

const overlapped = 0x00CF0000 // WS_OVERLAPPEDWINDOW

// Windows' structures.
type (
	windowClass struct {
		size, style                        uint32
		procedure                          uintptr
		classExtra, windowExtra            int32
		instance, icon, cursor, background uintptr
		menu, name                         *uint16
		smallIcon                          uintptr
	}
	message struct {
		window         uintptr
		kind           uint32
		wParam, lParam uintptr
		time           uint32
		x, y           int32
		_              uint32
	}
	bounds       struct{ left, top, right, bottom int32 }
	point        struct{ x, y int32 }
	minMaxInfo   struct{ _, _, _, minTrackSize, _ point }
	webView2View struct {
		page     page
		profile  string
		window   uintptr
		embedded *edge.Chromium // nil until run
		err      error          // why it ended
	}
)

func newNativeView(_ string, p page) (view, error) {
	// What is wrong later, the library answers by ending the process.
	if version, err := webviewloader.GetAvailableCoreWebView2BrowserVersionString(""); err != nil || version == "" {
		return nil, fmt.Errorf("%w: WebView2: %v", errNoLibrary, err)
	}
	profile, err := profileFolder(wayWebView2)
	if err != nil {
		return nil, err
	}
	v := &webView2View{page: p, profile: profile}
	return v, v.makeWindow()
}

func (v *webView2View) makeWindow() error {
	name, err := syscall.UTF16PtrFromString(title)
	if err != nil {
		return err
	}
	class := windowClass{procedure: syscall.NewCallback(v.procedure), name: name}
	class.size = uint32(unsafe.Sizeof(class))
	if atom, _, err := registerClass.Call(uintptr(unsafe.Pointer(&class))); atom == 0 {
		return fmt.Errorf("register window class: %w", err)
	}
	outer := outerSize(width, height)
	const useDefault = 0x80000000
	v.window, _, err = createWindow.Call(0, uintptr(unsafe.Pointer(name)), uintptr(unsafe.Pointer(name)), overlapped,
		useDefault, useDefault, uintptr(outer.x), uintptr(outer.y), 0, 0, 0, 0)
	if v.window == 0 {
		return fmt.Errorf("%w: %w", ErrNoDisplay, err)
	}
	v.setIcon()
	return nil
}

// outerSize is the size of a window with so much inside.
func outerSize(width, height int32) point {
	b := bounds{right: width, bottom: height}
	adjustWindowRect.Call(uintptr(unsafe.Pointer(&b)), overlapped, 0)
	return point{b.right - b.left, b.bottom - b.top}
}

func (v *webView2View) setIcon() {
	if len(v.page.icon) == 0 {
		return
	}
	const isIcon, iconVersion = 1, 0x00030000
	icon, _, _ := createIcon.Call(uintptr(unsafe.Pointer(&v.page.icon[0])), uintptr(len(v.page.icon)), isIcon, iconVersion, 0, 0, 0)
	if icon == 0 {
		return
	}
	for _, which := range []uintptr{0, 1} { // small and big
		sendMessage.Call(v.window, wmSetIcon, which, icon)
	}
}

// procedure is called by Windows on the thread that made the window.
func (v *webView2View) procedure(window uintptr, kind uint32, wParam, lParam uintptr) uintptr {
	switch kind {
	case wmDestroy:
		postQuitMessage.Call(0)
		return 0
	case wmRaise:
		v.present()
		return 0
	case wmGetMinMaxInfo:
		// Windows' pointer, valid during the call; read through a pointer to
		// the argument because it is no Go address.
		(*(**minMaxInfo)(unsafe.Pointer(&lParam))).minTrackSize = outerSize(minWidth, minHeight)
		return 0
	}
	if v.embedded != nil {
		switch kind {
		case wmSize:
			v.embedded.Resize()
		case wmMove:
			v.embedded.NotifyParentWindowPositionChanged()
		case wmSetFocus:
			v.embedded.Focus()
		}
	}
	result, _, _ := defWindowProc.Call(window, uintptr(kind), wParam, lParam)
	return result
}

func (v *webView2View) present() {
	const restore = 9
	showWindow.Call(v.window, restore)
	setForegroundWindow.Call(v.window)
}

func (v *webView2View) run() error {
	web := edge.NewChromium()
	web.DataPath = v.profile
	web.AdditionalBrowserArgs = []string{
		"--disable-gpu", "--disable-features=CalculateNativeWinOcclusion", // both hang when a remote session reconnects
		"--no-proxy-server",
	}
	web.ProcessFailedCallback = func(*edge.ICoreWebView2, *edge.ICoreWebView2ProcessFailedEventArgs) {
		v.err = errCrashed
		v.close()
	}
	v.present()
	web.Embed(v.window)
	if err := restrict(web); err != nil {
		return err
	}
	v.embedded = web
	web.Resize()
	web.Navigate(v.page.url.String())
	web.Focus()
	return v.loop()
}

// restrict takes from the page what belongs to browsers.
func restrict(web *edge.Chromium) error {
	settings, err := web.GetSettings()
	if err != nil {
		return err
	}
	for _, forbid := range []func(bool) error{
		settings.PutAreDevToolsEnabled, settings.PutAreDefaultContextMenusEnabled, settings.PutIsStatusBarEnabled,
	} {
		if err := forbid(false); err != nil {
			return err
		}
	}
	return nil
}

// loop returns when the window is destroyed.
func (v *webView2View) loop() error {
	var m message
	for {
		switch result, _, err := getMessage.Call(uintptr(unsafe.Pointer(&m)), 0, 0, 0); int32(result) {
		case 0:
			return v.err
		case -1:
			return fmt.Errorf("next message: %w", err)
		}
		translateMessage.Call(uintptr(unsafe.Pointer(&m)))
		dispatchMessage.Call(uintptr(unsafe.Pointer(&m)))
	}
}

func (v *webView2View) raise() { postMessage.Call(v.window, wmRaise, 0, 0) }
func (v *webView2View) close() { postMessage.Call(v.window, wmClose, 0, 0) }
