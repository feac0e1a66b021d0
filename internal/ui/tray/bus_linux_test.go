//go:build linux

package tray_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ui"
)

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

// startBus starts a session bus of the test's own.
func startBus(t *testing.T) (address string, kill func()) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "dbus-daemon"), "--session", "--nofork", "--nosyslog", "--print-address=1")
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	t.Cleanup(kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon: %v", err)
	}
	return strings.TrimSpace(line), kill
}

func connect(t *testing.T, address string) *dbus.Conn {
	t.Helper()
	c, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

const watcherName = "org.kde.StatusNotifierWatcher"

// A watcher is what a desktop's panel offers to icons.
type watcher struct {
	conn   *dbus.Conn
	events chan string // "SENDER SERVICE" of each registration

	// mu guards all below.
	mu         sync.Mutex
	forgetful  bool // registrations get lost
	host       bool
	registered []string
}

// startWatcher makes a panel appear.
func startWatcher(t *testing.T, address string, change func(*watcher)) *watcher {
	t.Helper()
	w := &watcher{conn: connect(t, address), events: make(chan string, 100), host: true}
	if change != nil {
		change(w)
	}
	for name, path := range map[string]dbus.ObjectPath{watcherName: "/StatusNotifierWatcher", "org.freedesktop.DBus.Properties": "/StatusNotifierWatcher"} {
		if err := w.conn.Export(w, path, name); err != nil {
			t.Fatal(err)
		}
	}
	if reply, err := w.conn.RequestName(watcherName, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("own %s: %v, %v", watcherName, reply, err)
	}
	return w
}

// RegisterStatusNotifierItem is a method of the watcher on the bus.
func (w *watcher) RegisterStatusNotifierItem(service string, from dbus.Sender) *dbus.Error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events <- string(from) + " " + service
	if w.forgetful {
		return nil
	}
	entry := service + "/StatusNotifierItem"
	if strings.HasPrefix(service, "/") {
		entry = string(from) + service
	}
	w.registered = append(w.registered, entry)
	return nil
}

// Get is a method of the watcher's properties on the bus.
func (w *watcher) Get(_, property string) (dbus.Variant, *dbus.Error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch property {
	case "RegisteredStatusNotifierItems":
		return dbus.MakeVariant(append([]string{}, w.registered...)), nil
	case "IsStatusNotifierHostRegistered":
		return dbus.MakeVariant(w.host), nil
	}
	return dbus.Variant{}, dbus.NewError("org.freedesktop.DBus.Error.UnknownProperty", nil)
}

// setHost makes what draws the icons come or go.
func (w *watcher) setHost(t *testing.T, there bool) {
	t.Helper()
	w.mu.Lock()
	w.host = there
	w.mu.Unlock()
	signal := ".StatusNotifierHostUnregistered"
	if there {
		signal = ".StatusNotifierHostRegistered"
	}
	if err := w.conn.Emit("/StatusNotifierWatcher", watcherName+signal); err != nil {
		t.Fatal(err)
	}
}

// registration returns who registered next, and as what.
func (w *watcher) registration(t *testing.T) (sender, service string) {
	t.Helper()
	sender, service, _ = strings.Cut(receive(t, w.events, "a registration"), " ")
	return sender, service
}

func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v, ok := <-from:
		if !ok {
			t.Fatalf("instead of %s came the end", what)
		}
		return v
	case <-time.After(patience):
		t.Fatalf("%s did not come", what)
	}
	panic("not reached")
}

// until asks again and again until ok, because what the helper does on an
// order has no answer of its own.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not become true", what)
		}
	}
}

// A program is a running helper.
type program struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string // what it prints; closed at its end
}

// startProgram starts a helper with extra environment variables.
func startProgram(t *testing.T, env ...string) *program {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(append(os.Environ(), helperVariable+"=1"), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, cmd: cmd, in: in, lines: make(chan string, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		cmd.Wait()
	})
	return p
}

func (p *program) tell(o order) {
	p.t.Helper()
	line, err := json.Marshal(o)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		p.t.Fatal(err)
	}
}

func (p *program) show(s ui.State) { p.t.Helper(); p.tell(order{Show: &s}) }

// expect fails unless the next line is want.
func (p *program) expect(want string) {
	p.t.Helper()
	if got := strings.TrimSpace(receive(p.t, p.lines, "line "+want)); got != want {
		p.t.Errorf("got %q, want %q", got, want)
	}
}

// end reads the last line and the exit code.
func (p *program) end() (line string, code int) {
	p.t.Helper()
	line = receive(p.t, p.lines, "the last line")
	for range p.lines {
		p.t.Errorf("more lines than expected")
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Error(err)
	}
	return line, p.cmd.ProcessState.ExitCode()
}

// quit ends the helper, which must work without a fault.
func (p *program) quit() {
	p.t.Helper()
	p.tell(order{Quit: true})
	if line, code := p.end(); line != "end" || code != 0 {
		p.t.Errorf("got %q and exit code %d, want a clean end", line, code)
	}
}

func (p *program) visible() bool {
	p.t.Helper()
	p.tell(order{Visible: true})
	return receive(p.t, p.lines, "visible") == "visible true"
}
