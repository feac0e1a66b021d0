//go:build linux

package netwatch

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

// The signal that logind (and elogind) sends with true before the machine goes
// to sleep and with false after it woke:
// https://www.freedesktop.org/software/systemd/man/latest/org.freedesktop.login1.html
const (
	logindName   = "org.freedesktop.login1"
	logindPath   = "/org/freedesktop/login1"
	logindSignal = logindName + ".Manager.PrepareForSleep"
)

// logind says when it is watched how long what may take.
type logind struct {
	setUp    time.Duration // bounds connecting to a bus that does not answer
	retry    time.Duration // after a bus that was there went, doubled up to
	retryMax time.Duration
}

// run reports [Resume] when logind says so. Without a bus at the start it
// gives up; a bus that was there and went is tried again.
func (l logind) run(ctx context.Context, log *slog.Logger, report func(string)) error {
	wait := time.Duration(0) // 0: never was connected
	for {
		conn, signals, err := l.listen(ctx)
		switch {
		case err == nil:
			log.Debug("watching")
			wait = l.retry
			if forwardResume(ctx, signals, report); ctx.Err() == nil {
				log.Debug("system bus gone, trying again")
			}
			conn.Close()
		case wait == 0:
			return err
		default:
			wait = min(2*wait, l.retryMax)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// listen subscribes on a connection of its own: on a shared one the
// signals of others would end up here, and closing it would hurt them. The
// channel closes with the connection, which ctx closes too. It starts no bus
// and asks for no service to be started.
func (l logind) listen(ctx context.Context) (*dbus.Conn, <-chan *dbus.Signal, error) {
	if addr := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS"); addr != "" {
		for part := range strings.SplitSeq(addr, ";") {
			// Others connect without a time limit, or run a program (unixexec).
			if !strings.HasPrefix(part, "unix:") {
				return nil, nil, fmt.Errorf("system bus at %q: only unix: addresses are used; correct DBUS_SYSTEM_BUS_ADDRESS", addr)
			}
		}
	}
	conn, err := dbus.SystemBusPrivate(dbus.WithContext(ctx))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the system bus: %w", err)
	}
	limit := time.AfterFunc(l.setUp, func() { conn.Close() })
	signals := make(chan *dbus.Signal, 1)
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil {
		err = conn.Hello()
	}
	if err == nil {
		conn.Signal(signals)
		err = conn.AddMatchSignal(dbus.WithMatchSender(logindName), dbus.WithMatchObjectPath(logindPath),
			dbus.WithMatchInterface(logindName+".Manager"), dbus.WithMatchMember("PrepareForSleep"))
	}
	if !limit.Stop() {
		err = fmt.Errorf("no answer in %v: %w", l.setUp, errors.Join(context.DeadlineExceeded, err))
	}
	if err != nil {
		conn.Close()
		return nil, nil, fmt.Errorf("subscribe to sleep signals on the system bus: %w", err)
	}
	return conn, signals, nil
}

// forwardResume reports every end of sleep until signals is closed.
func forwardResume(ctx context.Context, signals <-chan *dbus.Signal, report func(string)) {
	for {
		select {
		case <-ctx.Done():
			return
		case s, ok := <-signals:
			if !ok {
				return
			}
			if s.Name != logindSignal || s.Path != logindPath || len(s.Body) != 1 {
				continue // such as the bus naming us
			}
			if asleep, ok := s.Body[0].(bool); ok && !asleep {
				report(Resume)
			}
		}
	}
}
