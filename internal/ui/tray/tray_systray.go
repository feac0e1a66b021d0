//go:build linux || windows || (darwin && cgo)

package tray

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fyne.io/systray"

	"kerbpass/internal/ui"
)

// startLimit is how long the desktop may take to accept the icon. Windows
// sometimes refuses it while somebody is signing in; the library then never
// tells us that it is ready.
const startLimit = 30 * time.Second

// shown tells that this process has shown a tray; the library cannot show
// another.
var shown atomic.Bool

var errAgain = errors.New("this process has already shown a tray, which works only once")

// display is the tray while it is shown.
type display struct {
	cfg   Config
	menu  *menu
	items map[string]*systray.MenuItem
	drawn ui.State        // its Icon and Tooltip; its Menu as last wanted
	known map[string]bool // unknown items that were logged
}

func (t *Tray) run(ctx context.Context) error {
	if shown.Load() {
		return errAgain
	}
	h, err := openHost(ctx, t.cfg.Log)
	if err != nil || h == nil {
		return err
	}
	defer h.close()
	var first ui.State
	select {
	case <-ctx.Done():
		return nil
	case <-h.gone():
		return ErrGone
	case first = <-t.latest:
	}
	if !shown.CompareAndSwap(false, true) {
		return errAgain
	}
	log.SetFlags(0)
	log.SetOutput(libraryLog{t.cfg.Log})
	return t.show(ctx, h, first)
}

// libraryLog takes what the library says to standard error into our log. Most
// of it is no news: it complains of a desktop that has no place for icons.
type libraryLog struct{ log *slog.Logger }

// Write implements [io.Writer].
func (l libraryLog) Write(line []byte) (int, error) {
	l.log.Debug("from the library of the tray", "text", strings.TrimSpace(string(line)))
	return len(line), nil
}

// show draws first and what comes after it until ctx ends or the desktop does.
func (t *Tray) show(parent context.Context, h *host, first ui.State) error {
	runtime.LockOSThread() // a window belongs to the thread that made it
	defer runtime.UnlockOSThread()
	ctx, end := context.WithCancelCause(parent)
	defer end(nil)
	var wg sync.WaitGroup
	defer wg.Wait()

	d := &display{cfg: t.cfg, items: map[string]*systray.MenuItem{}, known: map[string]bool{}}
	start := func() {
		if err := d.build(ctx, &wg, first); err != nil {
			end(err)
		}
	}
	d.setTapped(ctx, &wg)
	if drawBefore {
		start()
	}
	ready := make(chan struct{})
	onReady := func() {
		if !drawBefore {
			start()
		}
		close(ready)
	}

	redraw := make(chan struct{}, 1)
	wg.Go(func() { end(stopAtEnd(ctx, ready)) })
	wg.Go(func() {
		select {
		case <-ready:
			end(h.watch(ctx, t.sees(), redraw))
		case <-ctx.Done():
		}
	})
	wg.Go(func() {
		select {
		case <-ready:
			end(d.follow(ctx, t.latest, redraw))
		case <-ctx.Done():
		}
	})
	err := protect(func() { systray.Run(onReady, nil) })
	if err == nil {
		err = ErrGone // closed by the desktop, unless something of ours came first
	}
	end(err)
	if parent.Err() != nil {
		return nil
	}
	return context.Cause(ctx)
}

// stopAtEnd makes the library stop when ctx ends, or when it does not get
// ready. On Windows it cannot be stopped earlier than it is ready.
func stopAtEnd(ctx context.Context, ready <-chan struct{}) (err error) {
	select {
	case <-ready:
		<-ctx.Done()
	case <-time.After(startLimit):
		err = fmt.Errorf("%w: the icon was not accepted in %v", ErrNoTray, startLimit)
	}
	systray.Quit()
	return err
}

// protect turns a panic of the library into an error that wraps [ErrGone]: it
// panics where the desktop went away between two of its calls.
func protect(call func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", ErrGone, p)
		}
	}()
	call()
	return nil
}

// setTapped must come before the library runs: it tells the desktop once
// whether a left click is of any use.
func (d *display) setTapped(ctx context.Context, wg *sync.WaitGroup) {
	if d.cfg.Tapped == "" {
		return
	}
	taps := make(chan struct{}, 1)
	systray.SetOnTapped(func() { // on the thread that the desktop waits for
		select {
		case taps <- struct{}{}:
		default:
		}
	})
	wg.Go(func() { pump(ctx, taps, func() { d.cfg.OnCommand(d.cfg.Tapped, "") }) })
}

// build draws the first state and begins to listen to clicks.
func (d *display) build(ctx context.Context, wg *sync.WaitGroup, s ui.State) error {
	systray.SetTitle(plain(d.cfg.Title, maxTooltip))
	d.menu = newMenu(s.Menu)
	d.add(nil, s.Menu)
	d.drawn = s
	for id, item := range d.items {
		wg.Go(func() { pump(ctx, item.ClickedCh, func() { d.click(id) }) })
	}
	return d.drawFace()
}

// add draws items below parent, nil being the menu itself.
func (d *display) add(parent *systray.MenuItem, items []ui.Item) {
	for _, it := range items {
		if it.Kind == ui.KindSeparator {
			if parent == nil {
				systray.AddSeparator()
			} else {
				parent.AddSeparator()
			}
			continue
		}
		item := newItem(parent, it)
		// The library drops a click that nobody is waiting for.
		item.ClickedCh = make(chan struct{}, 1)
		d.items[it.ID] = item
		d.add(item, it.Items)
		if !clickable(it) {
			item.Disable()
		}
		if it.Hidden {
			item.Hide() // last: any other change shows it on Windows
		}
	}
}

func newItem(parent *systray.MenuItem, it ui.Item) *systray.MenuItem {
	text := label(it.Label, mnemonic)
	switch {
	case parent == nil && it.Kind == ui.KindCheck:
		return systray.AddMenuItemCheckbox(text, "", it.Checked)
	case parent == nil:
		return systray.AddMenuItem(text, "")
	case it.Kind == ui.KindCheck:
		return parent.AddSubMenuItemCheckbox(text, "", it.Checked)
	default:
		return parent.AddSubMenuItem(text, "")
	}
}

// pump calls do for clicks until ctx ends. It always listens again at once, so
// the click that comes while do is busy waits in the channel.
func pump(ctx context.Context, clicks <-chan struct{}, do func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-clicks:
			do()
		}
	}
}

func (d *display) click(id string) {
	if command, arg, ok := d.menu.clicked(id); ok {
		d.cfg.OnCommand(command, arg)
	}
}

// follow draws every state until ctx ends.
func (d *display) follow(ctx context.Context, states <-chan ui.State, redraw <-chan struct{}) error {
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-redraw:
			err = d.drawFace()
		case s := <-states:
			err = d.draw(s)
		}
		if err != nil {
			return err
		}
	}
}

// draw changes what differs from the state drawn before.
func (d *display) draw(s ui.State) error {
	before := d.drawn
	d.drawn = s
	ops, unknown := d.menu.update(s.Menu)
	for _, o := range ops {
		apply(d.items[o.ID], o)
	}
	for _, id := range unknown {
		if !d.known[id] {
			d.known[id] = true
			d.cfg.Log.Warn("menu item that the first state did not have", slog.String("id", id))
		}
	}
	if before.Icon == s.Icon && before.Tooltip == s.Tooltip {
		return nil
	}
	return d.drawFace()
}

func apply(item *systray.MenuItem, o op) {
	switch o.Step {
	case relabel:
		item.SetTitle(label(o.Label, mnemonic))
	case enable:
		item.Enable()
	case disable:
		item.Disable()
	case check:
		item.Check()
	case uncheck:
		item.Uncheck()
	case reveal:
		item.Show()
	case hide:
		item.Hide()
	}
}

// drawFace draws what is seen of the tray without a click.
func (d *display) drawFace() error {
	return protect(func() {
		systray.SetTooltip(plain(d.drawn.Tooltip, maxTooltip))
		icon := d.cfg.Icon(d.drawn.Icon)
		if len(icon) == 0 {
			d.cfg.Log.Error("no image for an icon", slog.String("icon", string(d.drawn.Icon)))
			return
		}
		systray.SetTemplateIcon(icon, icon)
	})
}
