//go:build linux

package sysproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	busLimit    = 5 * time.Second // to connect and subscribe
	busRetry    = 5 * time.Second // after a bus that was there went, doubled up to
	busRetryMax = 5 * time.Minute
)

func systemBus(c Config) string {
	return cmp.Or(c.env("DBUS_SYSTEM_BUS_ADDRESS"), "unix:path=/run/dbus/system_bus_socket")
}

// sessionBus returns the address of the user's bus, "" if there is none.
func sessionBus(c Config) string {
	if addr := c.env("DBUS_SESSION_BUS_ADDRESS"); addr != "" {
		return addr
	}
	if dir := c.env("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		path := filepath.Join(dir, "bus")
		if st, err := os.Stat(path); err == nil && st.Mode()&os.ModeSocket != 0 {
			return "unix:path=" + path
		}
	}
	return ""
}

// dial opens a connection of our own, which ends with ctx. It starts no bus.
func dial(ctx context.Context, addr string) (*dbus.Conn, error) {
	for part := range strings.SplitSeq(addr, ";") {
		// Others connect without a time limit, or run a program (unixexec).
		if !strings.HasPrefix(part, "unix:") {
			return nil, fmt.Errorf("bus at %q: only unix: addresses are used", addr)
		}
	}
	conn, err := dbus.Dial(addr, dbus.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("connect to the bus: %w", err)
	}
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	if err == nil {
		err = conn.Hello()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("sign in at the bus: %w", err)
	}
	return conn, nil
}

// A bus is watched for signals that match one of rules and are a change.
type bus struct {
	addr   string
	rules  []string
	change func(*dbus.Signal) bool
}

// watch gives up where there is no bus at the beginning; one that was there
// and went is tried again.
func (b bus) watch(ctx context.Context, _ Config, report func()) error {
	wait := time.Duration(0) // 0: never was connected
	for {
		switch was, err := b.until(ctx, report); {
		case was:
			wait = busRetry
		case wait == 0:
			return err
		default:
			wait = min(2*wait, busRetryMax)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// until listens until the bus or ctx goes; was tells that it came so far.
func (b bus) until(ctx context.Context, report func()) (was bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	limit := time.AfterFunc(busLimit, func() { cancel(context.DeadlineExceeded) })
	defer limit.Stop()
	conn, err := dial(ctx, b.addr)
	if err != nil {
		return false, errors.Join(context.Cause(ctx), err)
	}
	defer conn.Close()
	signals := make(chan *dbus.Signal, 1) // closes with the connection
	conn.Signal(signals)
	for _, rule := range b.rules {
		if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.AddMatch", 0, rule).Err; err != nil {
			return false, fmt.Errorf("subscribe at the bus: %w", errors.Join(context.Cause(ctx), err))
		}
	}
	if !limit.Stop() {
		return false, context.DeadlineExceeded
	}
	report()
	for s := range signals {
		if b.change(s) {
			report()
		}
	}
	return true, nil
}
