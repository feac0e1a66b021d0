//go:build linux

package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/keyring"
)

const (
	secrets  = "org.freedesktop.secrets"
	prompter = "org.gnome.keyring.SystemPrompter"
)

// desktop is a session with a home, a bus and, if they are started, services
// of its own.
type desktop struct {
	t   *testing.T
	dir string
}

// newDesktop starts a private session bus. Whoever asks for one of the services
// named makes the bus start a program that calls board and then says nothing,
// as one that waits for a person does.
func newDesktop(t *testing.T, board *switchboard, services ...string) *desktop {
	t.Helper()
	d := &desktop{t, t.TempDir()}
	for _, name := range []string{"HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "services"} {
		must(t, os.Mkdir(filepath.Join(d.dir, name), 0o700))
		if name != "services" {
			t.Setenv(name, filepath.Join(d.dir, name))
		}
	}
	for _, name := range []string{"DISPLAY", "WAYLAND_DISPLAY"} {
		t.Setenv(name, "")
	}
	for _, name := range services {
		d.write("services/"+name+".service", "[D-BUS Service]\nName=%s\nExec=%s call %s\n", name, os.Args[0], board.addr())
	}
	d.write("bus.conf", `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%[1]s/bus</listen><auth>EXTERNAL</auth><servicedir>%[1]s/services</servicedir>
<policy context="default"><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/></policy>
<limit name="service_start_timeout">600000</limit>
</busconfig>`, d.dir)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+d.dir+"/bus")
	out, _ := d.start("", "dbus-daemon", "--config-file="+d.dir+"/bus.conf", "--nofork", "--nopidfile", "--nosyslog", "--print-address")
	_, err := out.Read(make([]byte, 200)) // it listens once it prints its address
	must(t, err)
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (d *desktop) write(name, format string, args ...any) {
	d.t.Helper()
	must(d.t, os.WriteFile(filepath.Join(d.dir, name), fmt.Appendf(nil, format, args...), 0o600))
}

// start starts a program that runs until stop or the end of the test.
func (d *desktop) start(stdin string, argv ...string) (out io.Reader, stop func()) {
	d.t.Helper()
	cmd := exec.Command(testenv.Tool(d.t, argv[0]), argv[1:]...)
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), d.t.Output()
	out, err := cmd.StdoutPipe()
	must(d.t, err)
	must(d.t, cmd.Start())
	stop = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	d.t.Cleanup(stop)
	return out, stop
}

// keyrings starts gnome-keyring, with its login keyring unlocked or not.
func (d *desktop) keyrings(unlock bool) (stop func()) {
	d.t.Helper()
	args := []string{"gnome-keyring-daemon", "--foreground", "--components=secrets", "--control-directory=" + d.dir + "/control"}
	if unlock {
		args = append(args, "--unlock")
	}
	_, end := d.start("opens-the-keyring", args...)
	d.owned(secrets, true)
	return func() {
		end()
		d.owned(secrets, false)
	}
}

// owned waits until a service is there, or is gone.
func (d *desktop) owned(name string, want bool) {
	d.t.Helper()
	eventually(d.t, "the bus knows about "+name, func() bool {
		out, err := exec.Command(testenv.Tool(d.t, "dbus-send"), "--session", "--print-reply=literal",
			"--dest=org.freedesktop.DBus", "/", "org.freedesktop.DBus.NameHasOwner", "string:"+name).CombinedOutput()
		must(d.t, err)
		return strings.Contains(string(out), strconv.FormatBool(want))
	})
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// children are the processes that parent started and has not waited for.
func children(t *testing.T, parent int) []string {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	must(t, err)
	var all []string
	for _, name := range tasks {
		b, _ := os.ReadFile(name) // a thread that ended has none
		all = append(all, strings.Fields(string(b))...)
	}
	return all
}

// exposed returns the processes whose arguments or environment hold word.
func exposed(t *testing.T, word string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/*")
	must(t, err)
	var found []string
	read := 0
	for _, name := range files {
		if base := filepath.Base(name); base != "cmdline" && base != "environ" {
			continue
		}
		b, err := os.ReadFile(name)
		if err == nil {
			read++
		}
		if bytes.Contains(b, []byte(word)) {
			found = append(found, name)
		}
	}
	if read == 0 {
		t.Fatal("no process was looked at")
	}
	return found
}

func TestGnomeKeyring(t *testing.T) {
	testenv.NoLeaks(t)
	d := newDesktop(t, nil)
	d.keyrings(true)
	s := self(t, patience, "serve")
	roundTrip(t, s)

	whole := strings.Repeat("x", keyring.MaxSecret)
	must(t, s.Set(t.Context(), alice, ticket.NewSecret([]byte(whole))))
	if got, err := s.Get(t.Context(), alice); err != nil || string(got.Expose()) != whole {
		t.Errorf("the longest password: got %d bytes, %v, want %d", len(got.Expose()), err, len(whole))
	}
}

func TestLockedGnomeKeyring(t *testing.T) {
	testenv.NoLeaks(t)
	board := newSwitchboard(t)
	d := newDesktop(t, board, prompter)
	stop := d.keyrings(true)
	must(t, self(t, patience, "serve").Set(t.Context(), alice, ticket.NewSecret([]byte(password))))
	stop()
	d.keyrings(false)

	before := children(t, os.Getpid())
	result := make(chan error, 1)
	s := self(t, 10*time.Second, "serve")
	go func() { result <- second(s.Get(t.Context(), alice)) }()
	board.arrived() // the dialog
	if err := <-result; !errors.Is(err, keyring.ErrLocked) || !strings.Contains(err.Error(), "within 10s") {
		t.Errorf("got %v, want ErrLocked at the limit", err)
	}
	if after := children(t, os.Getpid()); len(after) != len(before) {
		t.Errorf("children are %v, were %v before the call", after, before)
	}
}

// No display: the dialog cannot open, which gnome-keyring says at once.
func TestLockedGnomeKeyringWithoutScreen(t *testing.T) {
	testenv.NoLeaks(t)
	d := newDesktop(t, nil)
	d.keyrings(false)
	if _, err := self(t, patience, "serve").Get(t.Context(), alice); !errors.Is(err, keyring.ErrLocked) || strings.Contains(err.Error(), "within") {
		t.Errorf("got %v, want ErrLocked before the limit", err)
	}
}

func TestNoKeyring(t *testing.T) {
	testenv.NoLeaks(t)
	for _, tt := range []struct {
		name string
		bus  func(t *testing.T)
	}{
		{"bus without the service", func(t *testing.T) { newDesktop(t, nil) }},
		{"bus that is gone", func(t *testing.T) { t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus") }},
		{"no bus", func(t *testing.T) {
			if _, err := os.Stat(fmt.Sprintf("/run/user/%d/bus", os.Getuid())); err == nil {
				testenv.Missing(t, "a user without a session bus")
			}
			t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.bus(t)
			home := t.TempDir()
			t.Setenv("HOME", home)
			s := self(t, patience, "serve")
			for name, err := range map[string]error{
				"get":    second(s.Get(t.Context(), alice)),
				"set":    s.Set(t.Context(), alice, ticket.NewSecret([]byte(password))),
				"delete": s.Delete(t.Context(), alice),
				"whose":  second(s.Principal(t.Context())),
			} {
				if !errors.Is(err, keyring.ErrUnavailable) || !strings.Contains(err.Error(), "gnome-keyring or KWallet") {
					t.Errorf("%s: got %v, want ErrUnavailable", name, err)
				}
			}
			if stray := exposed(t, home); len(stray) > 0 {
				t.Errorf("something was started and goes on: %v", stray)
			}
		})
	}
}

// The keyring takes the call and never answers: the child has the password and
// waits.
func TestPasswordShowsNowhere(t *testing.T) {
	testenv.NoLeaks(t)
	board := newSwitchboard(t)
	newDesktop(t, board, secrets)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	before := children(t, os.Getpid())
	s := self(t, time.Hour, "serve")
	go func() { result <- s.Set(ctx, alice, ticket.NewSecret([]byte(password))) }()
	board.arrived()

	if found := exposed(t, password); len(found) > 0 {
		t.Errorf("the password is in %v", found)
	}
	if len(exposed(t, board.addr())) == 0 {
		t.Error("the scan does not see arguments")
	}
	var child string
	for _, pid := range children(t, os.Getpid()) {
		if !strings.Contains(strings.Join(before, " "), pid) {
			child = pid
		}
	}
	limits, err := os.ReadFile("/proc/" + child + "/limits")
	must(t, err)
	if _, core, _ := strings.Cut(string(limits), "Max core file size"); !strings.HasPrefix(strings.Join(strings.Fields(core), " "), "0 0 ") {
		t.Errorf("the child may dump core: %.40s", core)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if _, err := os.Stat("/proc/" + child); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the child is still there: %v", err)
	}
}

func TestChildEndsWithItsParent(t *testing.T) {
	testenv.NoLeaks(t)
	board := newSwitchboard(t)
	newDesktop(t, board, secrets)
	asker := exec.Command(os.Args[0], "ask")
	must(t, asker.Start())
	board.arrived()
	child := children(t, asker.Process.Pid)
	asker.Process.Kill()
	asker.Wait()
	if len(child) != 1 {
		t.Fatalf("children are %v, want one", child)
	}
	eventually(t, "the child is gone", func() bool {
		stat, err := os.ReadFile("/proc/" + child[0] + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ") // nobody here waits for it
	})
}
