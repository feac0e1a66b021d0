package window

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
)

// raiseLine is the line that asks a child to bring its window to the front.
const raiseLine = "raise"

// maxLine bounds each line to a child.
const maxLine = 4096

// The window's look.
const (
	title     = "Kerbpass"
	program   = "kerbpass" // to the window manager
	width     = 720
	height    = 560
	minWidth  = 360
	minHeight = 320
)

// Errors by which a child ends.
var (
	errNoLibrary   = errors.New("library missing or too old")
	errNoBrowser   = errors.New("no browser could be started")
	errCrashed     = errors.New("the page's process crashed")
	errNotOurs     = errors.New("not a loopback page")
	errClosedEarly = errors.New("closed")
)

// exits are the exit codes by which a child tells its parent why it ended.
var exits = map[int]error{
	20: errNoLibrary,
	21: ErrNoDisplay,
	22: errNoBrowser,
	23: errCrashed,
	24: errNotOurs,
	25: errors.ErrUnsupported,
}

// ExitCode is the code with which the hidden subcommand must end on Child's
// error.
func ExitCode(err error) int {
	if err == nil {
		return 0
	}
	for code, reason := range exits {
		if errors.Is(err, reason) {
			return code
		}
	}
	return 1
}

// exitReason is ExitCode's inverse, nil for a code that says nothing.
func exitReason(code int) error { return exits[code] }

// A view is a window in the making.
type view interface {
	// run shows the window and returns when it is closed, nil if by the person
	// or by close. It is called on the thread that made the view.
	run() error
	// raise and close are called from any goroutine, also before run.
	raise()
	close()
}

// Child shows what the parent writes to in, in the given way, and returns when
// the window is closed or in ends. The process must end then, by [ExitCode];
// one goroutine may still be reading. It must be called on the main goroutine.
func Child(in io.Reader, way string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := bufio.NewReaderSize(in, maxLine)
	p, err := readPage(r)
	if err != nil {
		return err
	}
	v, err := newView(way, p)
	if err != nil {
		return fmt.Errorf("%s: %w", way, err)
	}
	go obey(r, v)
	return v.run()
}

func newView(way string, p page) (view, error) {
	switch way {
	case wayBrowserApp:
		return newAppView(p)
	case wayBrowser:
		return newBrowserView(p), nil
	}
	return newNativeView(way, p)
}

// obey does what the parent asks, until it is gone or says nonsense.
func obey(r *bufio.Reader, v view) {
	defer v.close()
	for {
		line, err := readLine(r)
		if err != nil {
			return
		}
		if line == raiseLine {
			v.raise()
		}
	}
}

// A page is what a child is told to show.
type page struct {
	url  *url.URL
	icon []byte // PNG; empty: none
}

// readPage reads the two lines that a child begins with.
func readPage(r *bufio.Reader) (page, error) {
	address, err := readLine(r)
	if err != nil {
		return page{}, err
	}
	u, err := parsePage(address)
	if err != nil {
		return page{}, err
	}
	encoded, err := readLine(r)
	if err != nil {
		return page{}, err
	}
	icon, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return page{}, fmt.Errorf("icon: %w", err)
	}
	return page{u, icon}, nil
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return "", err
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

// parsePage accepts plain HTTP to a loopback IP address. The address carries a
// one-time token, so no error repeats it.
func parsePage(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.User != nil {
		return nil, errNotOurs
	}
	if host, err := netip.ParseAddrPort(u.Host); err != nil || !host.Addr().IsLoopback() {
		return nil, errNotOurs
	}
	return u, nil
}

// sameOrigin reports whether a window that shows p may go to address.
func (p page) sameOrigin(address string) bool {
	u, err := parsePage(address)
	return err == nil && u.Host == p.url.Host
}
