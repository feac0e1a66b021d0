// Package window shows one page of this program's own loopback web server in a
// small window. It promises that a second request raises the window that is
// open, that a way of showing it which paints nothing is given up for the next,
// and that no window outlives the program. It makes no page and keeps no
// settings.
//
// Each window is a child process: this program again, with a hidden subcommand
// that calls [Child]. A toolkit or browser engine that crashes, hangs or takes
// over signals and memory cannot hurt the program itself.
package window

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"time"
)

// Errors of [Window.Open] and [Child] that callers react to.
var (
	// ErrNotShown says that no way of showing the page led to a window.
	ErrNotShown = errors.New("no window could be shown")
	// ErrNoDisplay says that there is no desktop to show a window on.
	ErrNoDisplay = errors.New("no display")
	// ErrClosed says that Run has ended.
	ErrClosed = errors.New("window closed for good")
)

// Ways of showing the page, by the names that Remember and Child know.
const (
	wayWebKitGTK41 = "webkitgtk-4.1"
	wayWebKitGTK60 = "webkitgtk-6.0"
	wayWebView2    = "webview2"
	wayWKWebView   = "wkwebview"
	wayBrowserApp  = "browser-app" // a Chromium-family browser without its toolbars
	wayBrowser     = "browser"     // the person's own, as it is
)

// defaultPatience is over three times what the slowest cold start measured
// took.
const defaultPatience = 8 * time.Second

// maxIcon keeps everything a child is told at its start within the smallest
// pipe buffer (4 KiB, Windows): a child that hangs before reading cannot hold
// us up.
const maxIcon = 2048

// Config holds what a Window needs.
type Config struct {
	// Command is the child's argument list up to the name of the way, which is
	// appended; it must end in a call of [Child]. Required.
	Command []string
	// Page returns a new address for each attempt, on a loopback IP address.
	// Browsers show it to every user of the machine in their argument list, so
	// it should be good only once and for seconds. Required.
	Page func(ctx context.Context) (url string, err error)
	// Icon is the window's, a PNG of at most 2 KiB. Nil: the system's.
	Icon []byte
	// Preferred is tried first, if this system knows it: what Remember was
	// told last, or what the administrator wants.
	Preferred string
	// Remember is told the way that worked, when it is not the one preferred.
	// Nil: forgotten.
	Remember func(way string)
	// Env is the environment, as [os.Environ] returns it.
	Env []string
	// Patience is how long a way may take to paint; zero: eight seconds.
	Patience time.Duration
	Log      *slog.Logger // nil discards
}

// A Window is at most one window. Its methods are safe for concurrent use.
type Window struct {
	cfg      Config
	requests chan request
	painted  chan struct{} // capacity 1: the page has been seen by a person, or could be
	ended    chan struct{} // closed when Run has returned

	// What follows belongs to Run's goroutine.
	preferred string
	shown     *child // nil: none
}

type request struct {
	ctx    context.Context
	answer chan<- error // capacity 1
}

// New checks c.
func New(c Config) (*Window, error) {
	switch {
	case len(c.Command) == 0:
		return nil, errors.New("window: no command")
	case c.Page == nil:
		return nil, errors.New("window: no page")
	case len(c.Icon) > maxIcon:
		return nil, fmt.Errorf("window: icon of %d bytes, more than %d", len(c.Icon), maxIcon)
	}
	if c.Patience <= 0 {
		c.Patience = defaultPatience
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Window{
		cfg: c, preferred: c.Preferred,
		requests: make(chan request), painted: make(chan struct{}, 1), ended: make(chan struct{}),
	}, nil
}

// Painted is what the page's call-back must lead to once it is visible.
func (w *Window) Painted() {
	select {
	case w.painted <- struct{}{}:
	default:
	}
}

// Open raises the window or, if there is none, opens one and waits until it is
// painted. It needs a running [Window.Run] and reports ErrNoDisplay,
// ErrNotShown with the reason of each way, ErrClosed, or that ctx ended, which
// also gives up what is being opened.
func (w *Window) Open(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case w.requests <- request{ctx, answer}:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.ended:
		return ErrClosed
	}
	return <-answer // comes soon after ctx has ended, too
}

// Run owns the window until ctx ends, and then closes it. It returns nil when
// the child is gone. Call it once.
func (w *Window) Run(ctx context.Context) error {
	// On Linux a child dies with the thread that started it (see tie).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(w.ended)
	for {
		select {
		case <-ctx.Done():
			w.close()
			return nil
		case <-w.shown.ended():
			w.cfg.Log.Debug("window closed", "way", w.shown.way, "reason", w.shown.reason())
			w.close()
		case r := <-w.requests:
			r.answer <- w.open(ctx, r.ctx)
		}
	}
}

func (w *Window) close() {
	if w.shown != nil {
		w.shown.end()
		w.shown = nil
	}
}

func (w *Window) open(ctx, caller context.Context) error {
	if w.shown.raise() {
		return nil
	}
	w.close()
	if !hasDisplay(w.cfg.Env) {
		return ErrNoDisplay
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(caller, func() { cancel(context.Cause(caller)) })()
	var failed []error
	for _, way := range order(systemWays, w.preferred) {
		err := w.try(ctx, way)
		switch {
		case err == nil:
			w.won(way)
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		w.cfg.Log.Info("window not shown", "way", way, "err", err)
		failed = append(failed, fmt.Errorf("%s: %w", way, err))
	}
	return fmt.Errorf("%w: %w", ErrNotShown, errors.Join(failed...))
}

// order puts preferred first, if it is among the ways.
func order(ways []string, preferred string) []string {
	if !slices.Contains(ways, preferred) {
		return ways
	}
	rest := slices.DeleteFunc(slices.Clone(ways), func(way string) bool { return way == preferred })
	return append([]string{preferred}, rest...)
}

// won keeps the way for the next time.
func (w *Window) won(way string) {
	w.cfg.Log.Debug("window shown", "way", way)
	if way == w.preferred {
		return
	}
	w.preferred = way
	if w.cfg.Remember != nil {
		w.cfg.Remember(way)
	}
}

// try shows the page in one way and keeps the child if it paints in time.
func (w *Window) try(ctx context.Context, way string) error {
	select {
	case <-w.painted: // by the last one
	default:
	}
	ctx, cancel := context.WithTimeoutCause(ctx, w.cfg.Patience, fmt.Errorf("nothing painted within %v", w.cfg.Patience))
	defer cancel()
	url, err := w.cfg.Page(ctx)
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	c, err := start(w.cfg, way, url)
	if err != nil {
		return err
	}
	if err := w.waitPainted(ctx, c); err != nil {
		c.end()
		return err
	}
	w.shown = c
	return nil
}

func (w *Window) waitPainted(ctx context.Context, c *child) error {
	ended := c.ended()
	for {
		select {
		case <-w.painted:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ended:
			if c.way != wayBrowser || c.err != nil {
				return fmt.Errorf("ended before it had painted: %w", c.reason())
			}
			ended = nil // handed over to a browser that is running
		}
	}
}
