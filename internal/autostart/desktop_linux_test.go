//go:build linux

package autostart_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/autostart"
	"kerbpass/internal/testenv"
)

// The test program itself is what the desktop starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "report" {
		report(os.Args[2])
		return
	}
	os.Exit(m.Run())
}

// report tells a test, by the socket at addr, how this program was started.
func report(addr string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer conn.Close()
	_ = json.NewEncoder(conn).Encode(os.Args) // seen by the test
}

// reported waits for a program that was started with report and l's address.
func reported(t *testing.T, l net.Listener) (args []string) {
	t.Helper()
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatalf("the program was not started: %v", err)
	}
	defer conn.Close()
	if err := json.NewDecoder(conn).Decode(&args); err != nil {
		t.Fatal(err)
	}
	return args
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// strange is a part of a path with what desktops take, if it is quoted.
const strange = "a b&;|<>()~*?#{}é"

// copyOfTest puts the test program at a path of strange characters.
func copyOfTest(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	path := filepath.Join(dir, strange, "kerbpass")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func entry(t *testing.T, dir string, command ...string) *autostart.Entry {
	t.Helper()
	env := map[string]string{"XDG_CONFIG_HOME": dir, "XDG_CONFIG_DIRS": filepath.Join(dir, "system")}
	e, err := autostart.New(autostart.Config{
		ID: "kerbpass", Name: "Kerbpass", Command: command,
		LookupEnv: func(k string) (string, bool) { v, ok := env[k]; return v, ok },
	})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// GLib starts the entry as GNOME's session does, and every argument arrives.
func TestDesktopStartsEntry(t *testing.T) {
	testenv.NoLeaks(t)
	gio := testenv.Tool(t, "gio")
	dir := t.TempDir()
	l := listen(t)
	want := []string{copyOfTest(t, dir), "report", l.Addr().String(), "", " ", "%f", "%%", `\`, `\"`, `a\\`, "$HOME", "`x`", "'", "é;#"}
	if err := entry(t, dir, want...).Enable(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(gio, "launch", filepath.Join(dir, "autostart/kerbpass.desktop"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got := reported(t, l); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// systemd's own reader of autostart files takes the entry, and makes nothing of
// one that is turned off.
func TestSystemdTakesEntry(t *testing.T) {
	testenv.Tool(t, "systemctl") // honours KERBPASS_BARE
	generator := "/usr/lib/systemd/user-generators/systemd-xdg-autostart-generator"
	if _, err := os.Stat(generator); err != nil {
		testenv.Missing(t, "program %s", generator)
	}
	dir := t.TempDir()
	program := copyOfTest(t, dir)
	e := entry(t, dir, program, "50%")
	generate := func() string {
		t.Helper()
		out := t.TempDir()
		cmd := exec.Command(generator, out, out, out)
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir, "XDG_CONFIG_DIRS="+filepath.Join(dir, "system"), "SYSTEMD_LOG_TARGET=console")
		said, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		unit, err := os.ReadFile(filepath.Join(out, "app-kerbpass@autostart.service"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(unit)
	}
	if unit := generate(); unit != "" {
		t.Fatalf("a unit before there is an entry:\n%s", unit)
	}
	if err := e.Enable(); err != nil {
		t.Fatal(err)
	}
	unit := generate()
	// In systemd's quoting; its colon keeps variables as they are.
	if want := "\nExecStart=:\"" + program + "\" 50%%\n"; !strings.Contains(unit, want) {
		t.Errorf("got\n%s\nwant in it %s", unit, want)
	}
	if err := os.Rename(program, program+".removed"); err != nil {
		t.Fatal(err)
	}
	if unit := generate(); unit != "" {
		t.Errorf("the program is removed, and yet a unit:\n%s", unit)
	}
	if err := os.Rename(program+".removed", program); err != nil {
		t.Fatal(err)
	}

	system := filepath.Join(dir, "system/autostart")
	if err := os.MkdirAll(system, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "autostart/kerbpass.desktop"), filepath.Join(system, "kerbpass.desktop")); err != nil {
		t.Fatal(err)
	}
	if unit := generate(); unit == "" {
		t.Error("no unit from the administrator's entry")
	}
	if err := e.Disable(); err != nil {
		t.Fatal(err)
	}
	if unit := generate(); unit != "" {
		t.Errorf("turned off, and yet a unit:\n%s", unit)
	}
}
