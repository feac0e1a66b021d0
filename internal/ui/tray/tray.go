// Package tray shows one icon with a menu in the desktop's notification area
// and turns clicks into commands. It promises that a desktop which is missing,
// late, restarted or dying never hurts the rest of the program, and that the
// icon comes back when the desktop does. It decides nothing: what is shown is
// a [ui.State] made elsewhere.
//
// The library below draws with the global state of the process, so a process
// shows one tray, once.
package tray

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"kerbpass/internal/ui"
)

// Errors of [Tray.Run] that callers react to.
var (
	// ErrNoTray says that there is no desktop to show a tray on, or that it
	// did not take the icon. The caller goes on without.
	ErrNoTray = errors.New("no tray on this desktop")
	// ErrGone says that the desktop ended while the tray was shown: the
	// session is over.
	ErrGone = errors.New("the desktop is gone")
)

// Config holds what a Tray needs.
type Config struct {
	// Icon returns an image: ICO on Windows, PNG elsewhere, on macOS a
	// template. It is called again whenever the icon changes. Required.
	Icon func(icon ui.Icon) []byte
	// Title names the program to the desktop, which remembers the icon by it.
	// Required.
	Title string
	// OnCommand is told what was clicked. Clicks on one item are told one
	// after the other, those on different items also at the same time, so
	// that a slow command does not hold up another. While it is busy, further
	// clicks on the same item become one. It must not wait for Run to end,
	// because Run waits for it. Required.
	OnCommand func(command ui.Command, arg string)
	// Tapped is the command of a left click on the icon, where the desktop
	// tells us of one. Empty: it opens the menu, as a right click does.
	Tapped ui.Command
	// OnVisible is told when [Tray.Visible] changes, and once at the start. It
	// must return soon. Nil: nobody is.
	OnVisible func(visible bool)
	Log       *slog.Logger // nil discards
}

// A Tray is the icon and its menu.
type Tray struct {
	cfg     Config
	latest  chan ui.State // capacity 1: the newest state that is not drawn yet
	visible atomic.Bool
}

// New checks c.
func New(c Config) (*Tray, error) {
	switch {
	case c.Icon == nil:
		return nil, errors.New("tray: no icons given")
	case c.Title == "":
		return nil, errors.New("tray: no title given")
	case c.OnCommand == nil:
		return nil, errors.New("tray: nothing given to tell commands to")
	}
	if c.OnVisible == nil {
		c.OnVisible = func(bool) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Tray{cfg: c, latest: make(chan ui.State, 1)}, nil
}

// Show makes s what the tray shows, at once or as soon as Run shows it; of
// several that were not drawn yet the last one wins. It never blocks and may be
// called at any time, also where there is no tray.
//
// The first state decides which items there are. Later ones change how these
// look; an item that is missing is hidden, an unknown one is ignored.
// Separators stay as they are.
func (t *Tray) Show(s ui.State) {
	for {
		select {
		case t.latest <- s:
			return
		default:
		}
		select {
		case <-t.latest:
		default:
		}
	}
}

// Visible reports whether the desktop has a place where the icon is shown. It
// has none before Run, and where the desktop lacks one (GNOME without its
// extension), which may change at any time.
func (t *Tray) Visible() bool { return t.visible.Load() }

// sees returns what is told of places for the icon, by one goroutine.
func (t *Tray) sees() func(visible bool) {
	first := true
	return func(visible bool) {
		if t.visible.Swap(visible) != visible || first {
			first = false
			t.cfg.OnVisible(visible)
		}
	}
}

// Run shows the tray, from the first state on, until ctx ends. Without a
// desktop it returns [ErrNoTray] at once; it may then be called again later. It
// returns [ErrGone] when the desktop ends, and an error that wraps
// [errors.ErrUnsupported] where this build cannot show a tray at all.
//
// On macOS it must be called by the program's main goroutine.
func (t *Tray) Run(ctx context.Context) error {
	defer t.visible.Store(false)
	return t.run(ctx)
}
