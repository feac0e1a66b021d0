//go:build linux

package netwatch

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"kerbpass/internal/testenv"
)

// systemBus is a private dbus-daemon that behaves as the system's: whoever
// connects may take logind's name.
func systemBus(t *testing.T, dir string) (kill func()) {
	t.Helper()
	path := filepath.Join(dir, "bus")
	config := filepath.Join(dir, "bus.conf")
	write(t, config, fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/><allow send_type="signal"/></policy>
</busconfig>`, path))
	cmd := exec.Command(testenv.Tool(t, "dbus-daemon"), "--config-file="+config, "--nofork", "--nopidfile", "--nosyslog", "--print-address")
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	do(t, err, cmd.Start())
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	t.Cleanup(kill)
	_, err = out.Read(make([]byte, 200)) // it listens once it prints its address
	do(t, err)
	busAt(t, path)
	return kill
}

// client connects to that bus and takes name, if any.
func client(t *testing.T, dir, name string) *dbus.Conn {
	t.Helper()
	conn, err := dbus.Connect("unix:path=" + filepath.Join(dir, "bus"))
	do(t, err)
	t.Cleanup(func() { conn.Close() })
	if name != "" {
		reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue)
		if err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
			t.Fatalf("take the name %s: %v, %v", name, reply, err)
		}
	}
	return conn
}

// emit sends a signal and waits until the bus has passed it on.
func emit(t *testing.T, conn *dbus.Conn, path dbus.ObjectPath, name string, body ...any) {
	t.Helper()
	var id string
	do(t, conn.Emit(path, name, body...), conn.BusObject().Call("org.freedesktop.DBus.GetId", 0).Store(&id))
}

// A signal sent to us alone passes by the bus's filter.
func TestOnlyTheEndOfSleepIsResume(t *testing.T) {
	in := make(chan *dbus.Signal, 10)
	for _, s := range []*dbus.Signal{
		{Name: "org.freedesktop.DBus.NameAcquired", Path: "/org/freedesktop/DBus", Body: []any{":1.1"}},
		{Name: logindSignal, Path: "/elsewhere", Body: []any{false}},
		{Name: logindName + ".Manager.PrepareForShutdown", Path: logindPath, Body: []any{false}},
		{Name: logindSignal, Path: logindPath},
		{Name: logindSignal, Path: logindPath, Body: []any{uint32(0)}},
		{Name: logindSignal, Path: logindPath, Body: []any{false, false}},
		{Name: logindSignal, Path: logindPath, Body: []any{true}},
		{Name: logindSignal, Path: logindPath, Body: []any{false}}, // the one
	} {
		in <- s
	}
	close(in)
	var got []string
	forwardResume(t.Context(), in, func(reason string) { got = append(got, reason) })
	if len(got) != 1 || got[0] != Resume {
		t.Errorf("got %q, want one resume", got)
	}
}

// The fake logind says what the real one says:
//
//	fake logind ──▶ private dbus-daemon ──▶ the source under test
func TestLogind(t *testing.T) {
	testenv.NoLeaks(t)
	dir := t.TempDir()
	kill := systemBus(t, dir)
	reports, log, stop := start(t, logind{setUp: patience, retry: 10 * time.Millisecond, retryMax: 100 * time.Millisecond}.run)
	log.await(t, "watching")

	// What is no resume: going to sleep, other signals, another sender.
	fake, impostor := client(t, dir, logindName), client(t, dir, "")
	emit(t, impostor, logindPath, logindSignal, false)
	emit(t, fake, logindPath, logindSignal, true)
	emit(t, fake, logindPath, logindSignal)
	emit(t, fake, logindPath, logindSignal, "false")
	emit(t, fake, logindPath, logindName+".Manager.PrepareForShutdown", false)
	emit(t, fake, "/elsewhere", logindSignal, false)

	// The bus dies, stays away for a while, and comes back.
	kill()
	log.await(t, "system bus gone")
	if n := len(reports); n > 0 {
		t.Errorf("%d reports before any resume, want none", n)
	}
	path := filepath.Join(dir, "bus")
	do(t, os.Remove(path))
	down, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	do(t, err, down.SetDeadline(time.Now().Add(patience)))
	for range 2 {
		conn, err := down.Accept()
		do(t, err)
		conn.Close()
	}
	down.Close()
	systemBus(t, dir)
	log.await(t, "watching")

	fake = client(t, dir, logindName)
	emit(t, fake, logindPath, logindSignal, true)
	emit(t, fake, logindPath, logindSignal, false)
	awaitReport(t, reports, Resume)
	emit(t, fake, logindPath, logindSignal, true)
	emit(t, fake, logindPath, logindSignal, false)
	awaitReport(t, reports, Resume)
	if err := stop(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if n := len(reports); n > 0 {
		t.Errorf("%d reports too many", n)
	}
}
