//go:build linux

package notify_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"kerbpass/internal/testenv"
)

// patience bounds every wait for something that must happen.
const patience = 30 * time.Second

// startBus starts a session bus of the test's own and puts it into the
// environment. At an address of "" it chooses one.
func startBus(t *testing.T, address string) (used string, kill func()) {
	t.Helper()
	args := []string{"--session", "--nofork", "--nosyslog", "--print-address=1"}
	if address != "" {
		args = append(args, "--address="+address)
	}
	cmd := exec.Command(testenv.Tool(t, "dbus-daemon"), args...)
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
	used = strings.TrimSpace(line)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", used)
	return used, kill
}

const serverName = "org.freedesktop.Notifications"

// A server is the part of a desktop that shows notes.
type server struct {
	conn  *dbus.Conn
	calls chan string // what it was asked, in a line

	// mu guards all below.
	mu     sync.Mutex
	can    []string
	lastID uint32
	hints  map[string]dbus.Variant // of the last note
	client string                  // who sent it
	deaf   chan struct{}           // if not nil, Notify answers when it is closed
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

// startServer starts a server whose IDs begin after firstID.
func startServer(t *testing.T, address string, firstID uint32, can ...string) *server {
	t.Helper()
	s := &server{conn: connect(t, address), calls: make(chan string, 1000), can: can, lastID: firstID}
	if err := s.conn.Export(s, "/org/freedesktop/Notifications", serverName); err != nil {
		t.Fatal(err)
	}
	if reply, err := s.conn.RequestName(serverName, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("own %s: %v, %v", serverName, reply, err)
	}
	return s
}

// GetCapabilities is a method of the server on the bus.
func (s *server) GetCapabilities() ([]string, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.can...), nil
}

// Notify is a method of the server on the bus.
func (s *server) Notify(from dbus.Sender, app string, replaces uint32, icon, title, body string, actions []string, hints map[string]dbus.Variant, expire int32) (uint32, *dbus.Error) {
	s.mu.Lock()
	deaf := s.deaf
	s.mu.Unlock()
	if deaf != nil {
		s.calls <- "deaf"
		<-deaf
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := replaces
	if id == 0 {
		s.lastID++
		id = s.lastID
	}
	s.hints, s.client = hints, string(from)
	s.calls <- fmt.Sprintf("notify %s %d %q %q %q urgency %v", app, replaces, title, body, actions, hints["urgency"].Value())
	return id, nil
}

// CloseNotification is a method of the server on the bus.
func (s *server) CloseNotification(id uint32) *dbus.Error {
	s.calls <- fmt.Sprint("close ", id)
	return nil
}

func (s *server) setDeaf(until chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = until
}

// hint is one of the last note.
func (s *server) hint(name string) dbus.Variant {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hints[name]
}

func (s *server) emit(t *testing.T, signal string, args ...any) {
	t.Helper()
	if err := s.conn.Emit("/org/freedesktop/Notifications", serverName+"."+signal, args...); err != nil {
		t.Fatal(err)
	}
}

// expect fails unless the next call is want.
func (s *server) expect(t *testing.T, want string) {
	t.Helper()
	if got := receive(t, s.calls, want); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(patience):
		t.Fatalf("did not come: %s", what)
	}
	panic("not reached")
}
