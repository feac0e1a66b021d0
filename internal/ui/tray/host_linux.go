//go:build linux

package tray

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	mnemonic = "_"
	// drawBefore: what is drawn between the moment in which the library
	// publishes the icon and that in which it is ready would be lost.
	drawBefore = true
)

// The protocol between icons and what shows them:
// https://www.freedesktop.org/wiki/Specifications/StatusNotifierItem/
const (
	watcherName  = "org.kde.StatusNotifierWatcher"
	watcherPath  = "/StatusNotifierWatcher"
	busInterface = "org.freedesktop.DBus"
)

const (
	busLimit = 5 * time.Second // for any answer on the bus
	// settle is how long the library is given to register the icon with a
	// watcher that came. Registered by both of us it would be shown twice.
	settle = 2 * time.Second
)

// host is the session bus, on a connection of our own: on the one that the
// library shares with others, a foreign signal ends its watch for watchers.
// What the library misses is made good from here.
type host struct {
	conn   *dbus.Conn
	log    *slog.Logger
	item   string        // the name that the library gives the icon
	settle time.Duration // see the constant
}

// openHost connects to the session bus. Without one it returns [ErrNoTray],
// and it starts none: the library must not run then, because it would start
// one that outlives us, or panic.
func openHost(ctx context.Context, log *slog.Logger) (*host, error) {
	conn, err := sessionBus(ctx)
	switch {
	case ctx.Err() != nil:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoTray, err)
	}
	item := fmt.Sprintf("org.kde.StatusNotifierItem-%d-1", os.Getpid())
	return &host{conn: conn, log: log, item: item, settle: settle}, nil
}

// sessionBus returns a connection of our own, which the end of ctx closes.
func sessionBus(ctx context.Context) (*dbus.Conn, error) {
	for part := range strings.SplitSeq(os.Getenv("DBUS_SESSION_BUS_ADDRESS"), ";") {
		// Others connect without a time limit.
		if part != "" && part != "autolaunch:" && !strings.HasPrefix(part, "unix:") {
			return nil, fmt.Errorf("session bus at %q: only unix: addresses are used; correct DBUS_SESSION_BUS_ADDRESS", part)
		}
	}
	conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("connect to the session bus: %w", err)
	}
	limit := time.AfterFunc(busLimit, func() { conn.Close() })
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil {
		err = conn.Hello()
	}
	if !limit.Stop() {
		err = fmt.Errorf("no answer in %v: %w", busLimit, errors.Join(context.DeadlineExceeded, err))
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("sign in at the session bus: %w", err)
	}
	return conn, nil
}

func (h *host) close() { h.conn.Close() }

// gone is closed when the bus is.
func (h *host) gone() <-chan struct{} { return h.conn.Context().Done() }

// watch tells whether the icon has a place to be shown, and sees to it that it
// is, until ctx ends or the bus is gone, which is [ErrGone]. It asks once for
// the icon to be drawn again: see drawBefore.
func (h *host) watch(ctx context.Context, visible func(bool), redraw chan<- struct{}) error {
	signals := make(chan *dbus.Signal, 1)
	h.conn.Signal(signals)
	if err := h.subscribe(ctx); err != nil {
		return h.verdict(ctx, err)
	}
	settled := time.NewTimer(h.settle)
	defer settled.Stop()
	visible(h.hasPlace(ctx))
	for first := true; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-settled.C:
			if first {
				first = false
				redraw <- struct{}{} // capacity 1, and nobody else sends
			}
			h.ensureRegistered(ctx)
			visible(h.hasPlace(ctx))
		case s, ok := <-signals:
			if !ok {
				return h.verdict(ctx, errors.New("connection closed"))
			}
			switch {
			case s.Sender == busInterface && s.Name == busInterface+".NameOwnerChanged":
				settled.Reset(h.settle)
				visible(h.hasPlace(ctx))
			case strings.HasPrefix(s.Name, watcherName+".StatusNotifierHost"):
				visible(h.hasPlace(ctx))
			}
		}
	}
}

// verdict makes the end of the connection [ErrGone] unless ctx was its cause.
func (h *host) verdict(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("%w: session bus: %w", ErrGone, err)
}

// subscribe asks for the coming and going of watchers and of their hosts.
func (h *host) subscribe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, busLimit)
	defer cancel()
	return errors.Join(
		h.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(busInterface),
			dbus.WithMatchInterface(busInterface), dbus.WithMatchMember("NameOwnerChanged"),
			dbus.WithMatchArg(0, watcherName)),
		h.conn.AddMatchSignalContext(ctx, dbus.WithMatchSender(watcherName),
			dbus.WithMatchObjectPath(watcherPath), dbus.WithMatchInterface(watcherName)))
}

// call asks the watcher, or with to = busInterface the bus, and starts neither.
func (h *host) call(ctx context.Context, to string, path dbus.ObjectPath, method string, args ...any) *dbus.Call {
	ctx, cancel := context.WithTimeout(ctx, busLimit)
	defer cancel()
	return h.conn.Object(to, path).CallWithContext(ctx, method, dbus.FlagNoAutoStart, args...)
}

// property reads one of the watcher's.
func (h *host) property(ctx context.Context, name string, value any) error {
	var v dbus.Variant
	err := h.call(ctx, watcherName, watcherPath, busInterface+".Properties.Get", watcherName, name).Store(&v)
	if err != nil {
		return err
	}
	return v.Store(value)
}

// hasPlace reports whether there is a watcher, and something that draws what is
// registered with it.
func (h *host) hasPlace(ctx context.Context) bool {
	var host bool
	return h.property(ctx, "IsStatusNotifierHostRegistered", &host) == nil && host
}

// ensureRegistered registers the icon with a watcher that does not know it.
func (h *host) ensureRegistered(ctx context.Context) {
	var registered []string
	if err := h.property(ctx, "RegisteredStatusNotifierItems", &registered); err != nil {
		return // there is no watcher; we hear of one that comes
	}
	var owner string
	err := h.call(ctx, busInterface, "/org/freedesktop/DBus", busInterface+".GetNameOwner", h.item).Store(&owner)
	if err == nil && !listed(registered, h.item, owner) {
		err = h.call(ctx, watcherName, watcherPath, watcherName+".RegisterStatusNotifierItem", h.item).Err
		h.log.Debug("registered the icon again", slog.Any("err", err))
		return
	}
	if err != nil && ctx.Err() == nil {
		h.log.Warn("the icon is not on the bus", slog.Any("err", err))
	}
}

// listed reports whether a watcher's list has an item of one of these names on
// the bus. Watchers add the item's path, with or without a mark between.
func listed(registered []string, names ...string) bool {
	for _, r := range registered {
		for _, name := range names {
			if rest, ok := strings.CutPrefix(r, name); ok && (rest == "" || rest[0] == '/' || rest[0] == '@') {
				return true
			}
		}
	}
	return false
}
