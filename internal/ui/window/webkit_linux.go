//go:build linux && !nogss

package window

import (
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// handle is a pointer that only C looks behind.
type handle uintptr

// gtk holds the functions of WebKitGTK and of the libraries below it. Those of
// one version of GTK only are nil in the other.
type gtk struct {
	setProgramName func(name string)
	initCheck      func(argc, argv handle) int32 // GTK 4's takes nothing and ignores these

	idleAdd       func(callback uintptr, data handle) uint32
	signalConnect func(object handle, signal string, callback uintptr, data, destroy handle, flags int32) uint64
	loopNew       func(context handle, running int32) handle
	loopRun       func(loop handle)
	loopQuit      func(loop handle)

	setTitle       func(window handle, title string)
	setDefaultSize func(window handle, width, height int32)
	setSizeRequest func(widget handle, width, height int32)
	present        func(window handle)

	viewNew     func() handle
	viewLoadURI func(view handle, uri string)
	actionOf    func(decision handle) (action handle)
	requestOf   func(action handle) (request handle)
	uriOf       func(request handle) string
	ignore      func(decision handle)

	gtk3
	gtk4
}

type gtk3 struct {
	windowNew    func(kind int32) handle
	containerAdd func(container, widget handle)
	showAll      func(widget handle)

	loaderNew   func() handle
	loaderWrite func(loader handle, data unsafe.Pointer, size uint64, err handle) int32
	loaderClose func(loader, err handle) int32
	loaderImage func(loader handle) handle
	setIcon     func(window, image handle)
}

type gtk4 struct {
	windowNew func() handle
	setChild  func(window, widget handle)

	bytesNew    func(data unsafe.Pointer, size uint64) handle
	textureNew  func(bytes, err handle) handle
	listAppend  func(list, data handle) handle
	realize     func(widget handle)
	surfaceOf   func(native handle) handle
	setIconList func(surface, list handle)
}

func (g *gtk) common() map[string]any {
	return map[string]any{
		"g_set_prgname": &g.setProgramName, "gtk_init_check": &g.initCheck,
		"g_idle_add": &g.idleAdd, "g_signal_connect_data": &g.signalConnect,
		"g_main_loop_new": &g.loopNew, "g_main_loop_run": &g.loopRun, "g_main_loop_quit": &g.loopQuit,
		"gtk_window_set_title": &g.setTitle, "gtk_window_set_default_size": &g.setDefaultSize,
		"gtk_widget_set_size_request": &g.setSizeRequest, "gtk_window_present": &g.present,
		"webkit_web_view_new": &g.viewNew, "webkit_web_view_load_uri": &g.viewLoadURI,
		"webkit_navigation_policy_decision_get_navigation_action": &g.actionOf,
		"webkit_navigation_action_get_request":                    &g.requestOf,
		"webkit_uri_request_get_uri":                              &g.uriOf,
		"webkit_policy_decision_ignore":                           &g.ignore,
	}
}

func (g *gtk3) functions() map[string]any {
	return map[string]any{
		"gtk_window_new": &g.windowNew, "gtk_container_add": &g.containerAdd, "gtk_widget_show_all": &g.showAll,
		"gdk_pixbuf_loader_new": &g.loaderNew, "gdk_pixbuf_loader_write": &g.loaderWrite,
		"gdk_pixbuf_loader_close": &g.loaderClose, "gdk_pixbuf_loader_get_pixbuf": &g.loaderImage,
		"gtk_window_set_icon": &g.setIcon,
	}
}

func (g *gtk4) functions() map[string]any {
	return map[string]any{
		"gtk_window_new": &g.windowNew, "gtk_window_set_child": &g.setChild,
		"g_bytes_new": &g.bytesNew, "gdk_texture_new_from_bytes": &g.textureNew, "g_list_append": &g.listAppend,
		"gtk_widget_realize": &g.realize, "gtk_native_get_surface": &g.surfaceOf,
		"gdk_toplevel_set_icon_list": &g.setIconList,
	}
}

// bind looks each function up in lib and in the libraries that it loaded.
func bind(lib uintptr, functions map[string]any) error {
	for name, function := range functions {
		address, err := purego.Dlsym(lib, name)
		if err != nil {
			return fmt.Errorf("%w: %w", errNoLibrary, err)
		}
		purego.RegisterFunc(function, address)
	}
	return nil
}

// A webkitView is a GTK window with a WebKit view in it.
type webkitView struct {
	gtk
	page         page
	window, view handle
	loop         handle
	onClose      uintptr // called back on GTK's thread
	onRaise      uintptr
	err          error // why it ended
}

func newNativeView(way string, p page) (view, error) {
	v := &webkitView{page: p}
	soname, build, version := "libwebkit2gtk-4.1.so.0", v.build3, v.gtk3.functions
	if way == wayWebKitGTK60 {
		soname, build, version = "libwebkitgtk-6.0.so.4", v.build4, v.gtk4.functions
	}
	lib, err := purego.Dlopen(soname, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoLibrary, err)
	}
	for _, functions := range []map[string]any{v.common(), version()} {
		if err := bind(lib, functions); err != nil {
			return nil, err
		}
	}
	v.setProgramName(program)
	if v.initCheck(0, 0) == 0 {
		return nil, ErrNoDisplay
	}
	v.loop = v.loopNew(0, 0)
	v.view = v.viewNew()
	v.setSizeRequest(v.view, minWidth, minHeight)
	build()
	v.setTitle(v.window, title)
	v.setDefaultSize(v.window, width, height)
	v.connect()
	return v, nil
}

func (v *webkitView) build3() {
	const topLevel = 0
	v.window = v.gtk3.windowNew(topLevel)
	v.containerAdd(v.window, v.view)
	if len(v.page.icon) > 0 {
		loader := v.loaderNew()
		v.loaderWrite(loader, unsafe.Pointer(&v.page.icon[0]), uint64(len(v.page.icon)), 0)
		v.loaderClose(loader, 0)
		if image := v.loaderImage(loader); image != 0 {
			v.setIcon(v.window, image)
		}
	}
	v.showAll(v.view)
}

func (v *webkitView) build4() {
	v.window = v.gtk4.windowNew()
	v.setChild(v.window, v.view)
	if len(v.page.icon) > 0 {
		image := v.textureNew(v.bytesNew(unsafe.Pointer(&v.page.icon[0]), uint64(len(v.page.icon))), 0)
		if image == 0 {
			return
		}
		v.realize(v.window) // makes the surface
		v.setIconList(v.surfaceOf(v.window), v.listAppend(0, image))
	}
}

// connect installs the call-backs. GTK calls them on the thread that runs its
// loop, which is the one of run.
func (v *webkitView) connect() {
	const done, handled = 0, 1
	v.onClose = purego.NewCallback(func(handle) uintptr {
		v.loopQuit(v.loop)
		return done
	})
	v.onRaise = purego.NewCallback(func(handle) uintptr {
		v.present(v.window)
		return done
	})
	v.signalConnect(v.window, "destroy", v.onClose, 0, 0, 0)
	v.signalConnect(v.view, "context-menu", purego.NewCallback(func() uintptr { return handled }), 0, 0, 0)
	v.signalConnect(v.view, "web-process-terminated", purego.NewCallback(func() uintptr {
		v.err = errCrashed
		v.loopQuit(v.loop)
		return done
	}), 0, 0, 0)
	v.signalConnect(v.view, "decide-policy", purego.NewCallback(func(_, decision handle, kind int32, _ handle) uintptr {
		if v.allowed(decision, kind) {
			return done
		}
		v.ignore(decision)
		return handled
	}), 0, 0, 0)
}

// allowed keeps the window on its page's origin and in itself.
func (v *webkitView) allowed(decision handle, kind int32) bool {
	const navigation, newWindow = 0, 1
	switch kind {
	case navigation:
		return v.page.sameOrigin(v.uriOf(v.requestOf(v.actionOf(decision))))
	case newWindow:
		return false
	}
	return true
}

func (v *webkitView) run() error {
	v.viewLoadURI(v.view, v.page.url.String())
	v.present(v.window)
	v.loopRun(v.loop)
	return v.err
}

func (v *webkitView) raise() { v.idleAdd(v.onRaise, 0) }
func (v *webkitView) close() { v.idleAdd(v.onClose, 0) }
