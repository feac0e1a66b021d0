//go:build darwin && !nogss

package window

import (
	"fmt"
	"runtime"
	"structs"
	"unsafe"

	"github.com/ebitengine/purego"
	"github.com/ebitengine/purego/objc"
)

// AppKit works on the process's first thread only, which is the one that runs
// package initialization and then main.
func init() { runtime.LockOSThread() }

type (
	point struct {
		_    structs.HostLayout
		x, y float64
	}
	size struct {
		_             structs.HostLayout
		width, height float64
	}
	rect struct {
		_      structs.HostLayout
		origin point
		size   size
	}
)

// A webkitView is a Cocoa window with a WKWebView in it. What it is told from
// other goroutines goes through its delegate on the first thread.
type webkitView struct {
	page                  page
	app, window, delegate objc.ID
	err                   error // why it ended
}

func newNativeView(_ string, p page) (view, error) {
	for _, framework := range []string{"Cocoa", "WebKit"} {
		path := fmt.Sprintf("/System/Library/Frameworks/%[1]s.framework/%[1]s", framework)
		if _, err := purego.Dlopen(path, purego.RTLD_GLOBAL|purego.RTLD_LAZY); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoLibrary, err)
		}
	}
	v := &webkitView{page: p}
	if err := v.makeDelegate(); err != nil {
		return nil, err
	}
	const regular = 0 // with a place in the Dock while the window is open
	v.app = class("NSApplication").Send(selector("sharedApplication"))
	v.app.Send(selector("setActivationPolicy:"), regular)
	if len(p.icon) > 0 {
		data := class("NSData").Send(selector("dataWithBytes:length:"), &p.icon[0], uint64(len(p.icon)))
		v.app.Send(selector("setApplicationIconImage:"), alloc("NSImage").Send(selector("initWithData:"), data))
	}
	v.makeWindow()
	return v, nil
}

func (v *webkitView) makeWindow() {
	const titled, closable, miniaturizable, resizable, buffered = 1, 2, 4, 8, 2
	frame := rect{size: size{width: width, height: height}}
	v.window = alloc("NSWindow").Send(selector("initWithContentRect:styleMask:backing:defer:"),
		frame, uint64(titled|closable|miniaturizable|resizable), uint64(buffered), false)
	v.window.Send(selector("setTitle:"), text(title))
	v.window.Send(selector("setContentMinSize:"), size{width: minWidth, height: minHeight})
	v.window.Send(selector("setReleasedWhenClosed:"), false)
	v.window.Send(selector("setDelegate:"), v.delegate)
	v.window.Send(selector("center"))

	web := alloc("WKWebView").Send(selector("initWithFrame:configuration:"), frame, class("WKWebViewConfiguration").Send(selector("new")))
	web.Send(selector("setNavigationDelegate:"), v.delegate)
	v.window.Send(selector("setContentView:"), web)
	address := class("NSURL").Send(selector("URLWithString:"), text(v.page.url.String()))
	web.Send(selector("loadRequest:"), class("NSURLRequest").Send(selector("requestWithURL:"), address))
}

// makeDelegate makes the object that Cocoa and WebKit call back.
func (v *webkitView) makeDelegate() error {
	c, err := objc.RegisterClass("KerbpassWindow", objc.GetClass("NSObject"), nil, nil, []objc.MethodDef{
		{Cmd: selector("windowWillClose:"), Fn: func(objc.ID, objc.SEL, objc.ID) { v.stop() }},
		{Cmd: selector("stop"), Fn: func(objc.ID, objc.SEL) { v.stop() }},
		{Cmd: selector("raise"), Fn: func(objc.ID, objc.SEL) { v.present() }},
		{Cmd: selector("webViewWebContentProcessDidTerminate:"), Fn: func(objc.ID, objc.SEL, objc.ID) {
			v.err = errCrashed
			v.stop()
		}},
		{Cmd: selector("webView:decidePolicyForNavigationAction:decisionHandler:"), Fn: v.decidePolicy},
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errNoLibrary, err)
	}
	v.delegate = objc.ID(c).Send(selector("new"))
	return nil
}

// decidePolicy keeps the window on its page's origin. Links that want a new
// window get none, because there is no UI delegate.
func (v *webkitView) decidePolicy(_ objc.ID, _ objc.SEL, _, action, decide objc.ID) {
	const cancel, allow = 0, 1 // WKNavigationActionPolicy
	address := action.Send(selector("request")).Send(selector("URL")).Send(selector("absoluteString"))
	policy := uintptr(cancel)
	if v.page.sameOrigin(objc.Send[string](address, selector("UTF8String"))) {
		policy = allow
	}
	invokeBlock(decide, policy)
}

// invokeBlock calls a block that is not Go's, by the layout that Clang's block
// ABI gives it. The block is read through a pointer to the argument because it
// is no Go address.
func invokeBlock(block objc.ID, argument uintptr) {
	literal := *(**struct {
		isa             uintptr
		flags, reserved int32
		invoke          uintptr
	})(unsafe.Pointer(&block))
	purego.SyscallN(literal.invoke, uintptr(block), argument)
}

// stop ends run. NSApplication looks at the flag only after an event.
func (v *webkitView) stop() {
	v.app.Send(selector("stop:"), objc.ID(0))
	const applicationDefined = 15
	event := class("NSEvent").Send(
		selector("otherEventWithType:location:modifierFlags:timestamp:windowNumber:context:subtype:data1:data2:"),
		uint64(applicationDefined), point{}, uint64(0), float64(0), 0, objc.ID(0), int16(0), 0, 0)
	v.app.Send(selector("postEvent:atStart:"), event, true)
}

func (v *webkitView) present() {
	v.window.Send(selector("makeKeyAndOrderFront:"), objc.ID(0))
	v.app.Send(selector("activateIgnoringOtherApps:"), true)
}

func (v *webkitView) run() error {
	v.present()
	v.app.Send(selector("run"))
	return v.err
}

func (v *webkitView) raise() { v.onFirstThread("raise") }
func (v *webkitView) close() { v.onFirstThread("stop") }

func (v *webkitView) onFirstThread(method string) {
	v.delegate.Send(selector("performSelectorOnMainThread:withObject:waitUntilDone:"), selector(method), objc.ID(0), false)
}

func class(name string) objc.ID     { return objc.ID(objc.GetClass(name)) }
func alloc(name string) objc.ID     { return class(name).Send(selector("alloc")) }
func selector(name string) objc.SEL { return objc.RegisterName(name) }
func text(s string) objc.ID         { return class("NSString").Send(selector("stringWithUTF8String:"), s) }
