//go:build linux

package linux_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ui/tray/traytest"
)

const patience = 60 * time.Second

// A machine is this one with changes of its own: what is written in it lies in
// memory and is gone with the test.
type machine struct {
	t    *testing.T
	pid  string // of a process whose mounts are the machine's
	base string // there: changes in base/changes, the machine's root in base/root
	env  []string
}

// The lower folder of an overlay is only the file system of /, so /run, /tmp
// and whatever else is mounted is as on a machine that has not started.
const mounts = `set -e
mount -t tmpfs -o mode=755 none "$1"
cd "$1"
mkdir changes work root
mount -t overlay overlay -o lowerdir=/,upperdir="$1/changes",workdir="$1/work" root
mount --rbind /proc root/proc
mount --rbind /dev root/dev
mount -t tmpfs none root/tmp
mount -t tmpfs none root/run
mkdir -m 1777 root/tmp/packages
mkdir -m 700 root/run/alice
mkdir -p root/home/alice
touch root/tmp/bus
mount --bind "$2" root/tmp/bus
mount --bind "$3" root/tmp/packages
echo ready
exec cat`

// newMachine has the bus of a desktop, packages in /tmp/packages, and the home
// of a user.
func newMachine(t *testing.T, bus, packages string) *machine {
	t.Helper()
	testenv.Root(t)
	m := &machine{t: t, base: t.TempDir()}
	cmd := exec.Command(testenv.Tool(t, "unshare"), "-m", "--propagation", "private", "sh", "-c", mounts, "sh", m.base, bus, packages)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	said := new(strings.Builder)
	cmd.Stderr = said
	must(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the machine: %v\n%s", err, said)
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("no machine of our own: %v\n%s", err, said)
	}
	m.pid = fmt.Sprint(cmd.Process.Pid)
	return m
}

// command is one in the machine; only m.env is its environment.
func (m *machine) command(name string, args ...string) *exec.Cmd {
	argv := []string{"--mount=/proc/" + m.pid + "/ns/mnt", "--", "chroot", filepath.Join(m.base, "root"), "env", "-i"}
	argv = append(append(argv, m.env...), name)
	return exec.Command(testenv.Tool(m.t, "nsenter"), append(argv, args...)...)
}

func (m *machine) run(name string, args ...string) string {
	m.t.Helper()
	return say(m.t, m.command(name, args...))
}

func (m *machine) path(name string) string {
	return filepath.Join("/proc", m.pid, "root", m.base, name)
}

// changed lists the files that are not as they were before, but for the books
// that package managers keep and the caches that they make anew.
func (m *machine) changed() (names []string) {
	m.t.Helper()
	for _, name := range files(m.t, m.path("changes")) {
		switch {
		case strings.HasPrefix(name, "var/lib/dpkg/"), strings.HasPrefix(name, "var/cache/"), strings.HasPrefix(name, "var/log/"),
			name == "usr/share/applications/mimeinfo.cache", strings.HasPrefix(name, "usr/share/icons/") && strings.HasSuffix(name, "/icon-theme.cache"):
		default:
			names = append(names, name)
		}
	}
	return names
}

// newFolders lists the folders that were not there before.
func (m *machine) newFolders() (names []string) {
	m.t.Helper()
	must(m.t, filepath.WalkDir(m.path("changes"), func(name string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(m.path("changes"), name)
		if err != nil || !d.IsDir() || strings.HasPrefix(rel, "var/cache") {
			return err
		}
		if _, err := os.Stat(filepath.Join("/", rel)); err != nil {
			names = append(names, rel)
		}
		return nil
	}))
	return names
}

// A tray is a running helper.
type tray struct {
	t    *testing.T
	cmd  *exec.Cmd
	said *log
	addr string // its proxy
	done chan error
}

type log struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// status is what the installed program says of the running one.
func (m *machine) status() (version, state, addr string) {
	m.t.Helper()
	var r struct {
		Version string
		Proxy   struct {
			State  string
			Listen []string
		}
	}
	out, _ := m.command("kerbpass", "status", "--json").Output() // without a ticket it is not healthy
	if err := json.Unmarshal(out, &r); err != nil {
		m.t.Fatalf("status: %v\n%s", err, out)
	}
	if len(r.Proxy.Listen) > 0 {
		addr = r.Proxy.Listen[0]
	}
	return r.Version, r.Proxy.State, addr
}

// tray starts the program as a desktop does.
func (m *machine) tray() *tray {
	m.t.Helper()
	r := &tray{t: m.t, cmd: m.command("kerbpass", "--listen", "127.0.0.1:0"), said: new(log), done: make(chan error, 1)}
	r.cmd.Stdout, r.cmd.Stderr = r.said, r.said
	must(m.t, r.cmd.Start())
	go func() { r.done <- r.cmd.Wait() }()
	m.t.Cleanup(r.end)
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		var state string
		if _, state, r.addr = m.status(); state == "listening" {
			return r
		}
		select {
		case err := <-r.done:
			r.done <- err
			m.t.Fatalf("the helper ended: %v\n%s", err, r.said)
		default:
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("the helper does not listen:\n%s", r.said)
		}
	}
}

// end ends it as the end of a session does; once is enough.
func (r *tray) end() {
	r.t.Helper()
	r.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-r.done:
		r.done <- err
		if err != nil {
			r.t.Errorf("the helper ended with %v:\n%s", err, r.said)
		}
	case <-time.After(patience):
		r.cmd.Process.Kill()
		r.t.Errorf("the helper did not end:\n%s", r.said)
	}
}

// get asks for a page through the helper, on a connection of its own.
func (r *tray) get(page string) {
	r.t.Helper()
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: r.addr}), DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Get(page)
	must(r.t, err)
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(body) != "hello" {
		r.t.Errorf("through the helper: %s %q %v", resp.Status, body, err)
	}
}

// A tunnel is an open connection through the helper, to what says everything
// back.
type tunnel struct {
	net.Conn
	in *bufio.Reader
}

func (r *tray) tunnel(to string) tunnel {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	must(r.t, err)
	r.t.Cleanup(func() { conn.Close() })
	must(r.t, conn.SetDeadline(time.Now().Add(5*patience)))
	fmt.Fprintf(conn, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n", to, to)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	must(r.t, err)
	if resp.StatusCode != http.StatusOK {
		r.t.Fatalf("CONNECT %s: %s", to, resp.Status)
	}
	return tunnel{conn, in}
}

func (c tunnel) echo(t *testing.T, line string) {
	t.Helper()
	_, err := io.WriteString(c, line+"\n")
	must(t, err)
	if got, err := c.in.ReadString('\n'); err != nil || got != line+"\n" {
		t.Errorf("the open connection says %q, %v; want %q", got, err, line)
	}
}

// startEcho listens on loopback and says everything back.
func startEcho(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// The life of a package on Debian: installed, used, upgraded over the running
// helper, removed and purged. Nothing but the user's own settings stays.
func TestRoundTrip(t *testing.T) {
	testenv.Root(t)
	for _, name := range []string{"unshare", "nsenter", "chroot", "dpkg", "setpriv"} {
		testenv.Tool(t, name)
	}
	debs := t.TempDir()
	must(t, os.Chmod(debs, 0o755))
	const newer = "1.2.4"
	must(t, build(root, newer, filepath.Join(debs, "new"), "ARCHES=amd64", "FLAVOURS=normal", "FORMATS=deb"))
	first := "kerbpass_" + version + "_amd64.deb"
	must(t, os.WriteFile(filepath.Join(debs, first), []byte(read(t, filepath.Join(packages(t), first))), 0o644))

	echo := startEcho(t)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	t.Cleanup(origin.Close)
	desktop := traytest.Start(t)
	socket, ok := strings.CutPrefix(desktop.Address, "unix:path=")
	if socket, _, _ = strings.Cut(socket, ","); !ok {
		t.Fatalf("the bus is no file: %s", desktop.Address)
	}
	m := newMachine(t, socket, debs)
	m.env = []string{
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/alice", "XDG_RUNTIME_DIR=/run/alice", "LANG=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
		"DISPLAY=" + testenv.Screen(t), "DBUS_SESSION_BUS_ADDRESS=unix:path=/tmp/bus", "KRB5CCNAME=FILE:/tmp/kerbpass-no-such-ticket",
	}

	m.run("dpkg", "--install", "/tmp/packages/"+first)
	if installed := m.changed(); !slices.Contains(installed, "usr/bin/kerbpass") || slices.ContainsFunc(installed, func(s string) bool { return strings.HasPrefix(s, "etc/") }) {
		t.Errorf("installed: %q", installed)
	}
	m.run("kerbpass", "demo", "--once")
	m.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", "HOME=/nonexistent", "kerbpass", "demo", "--once")
	settings := m.path("root/home/alice/.config/kerbpass/config.toml")
	must(t, os.MkdirAll(filepath.Dir(settings), 0o700))
	must(t, os.WriteFile(settings, []byte("# mine\nversion = 1\n\n[bypass]\nexact = [\"127.0.0.1\"]\n\n[access]\nconnect_ports = [\"1-65535\"]\n"), 0o600))
	m.run("kerbpass", "autostart", "on")
	mine := read(t, settings)
	generator := "/usr/lib/systemd/user-generators/systemd-xdg-autostart-generator"
	if _, err := os.Stat(generator); err != nil {
		testenv.Missing(t, "program %s", generator)
	}
	starts := func() string { // what the next login starts
		m.run("rm", "-rf", "/tmp/units")
		m.run("mkdir", "/tmp/units")
		m.run("env", "SYSTEMD_LOG_TARGET=console", generator, "/tmp/units", "/tmp/units", "/tmp/units")
		return m.run("find", "/tmp/units", "-name", "app-kerbpass*", "-type", "f")
	}
	if starts() == "" {
		t.Error("autostart is on, and the next login does not start it")
	}

	old := m.tray()
	desktop.Item().Wait("No ticket", func(traytest.Row) bool { return true })
	old.get(origin.URL)
	open := old.tunnel(echo)
	open.echo(t, "before")

	m.run("dpkg", "--install", "/tmp/packages/new/kerbpass_"+newer+"_amd64.deb")
	if said := m.run("kerbpass", "version"); !strings.HasPrefix(said, "kerbpass "+newer+" ") {
		t.Errorf("upgraded, but it says %s", said)
	}
	open.echo(t, "after the upgrade")
	old.get(origin.URL)
	if running, state, addr := m.status(); running != version || state != "listening" || addr != old.addr {
		t.Errorf("the helper that ran: %s, %s on %s", running, state, addr)
	}
	m.run("kerbpass", "quit")
	select {
	case err := <-old.done:
		old.done <- err
	case <-time.After(patience):
		t.Fatalf("the helper does not hear its successor:\n%s", old.said)
	}
	young := m.tray()
	young.get(origin.URL)
	if running, _, _ := m.status(); running != newer {
		t.Errorf("started anew, it is %s", running)
	}

	open = young.tunnel(echo)
	m.run("dpkg", "--remove", "kerbpass")
	open.echo(t, "after the removal")
	if units := starts(); units != "" {
		t.Errorf("removed, and yet the next login starts %s", units)
	}
	open.Close()
	young.end()
	m.run("dpkg", "--purge", "kerbpass")

	var left []string
	for _, name := range m.changed() {
		if name != "home/alice/.config/kerbpass/config.toml" && name != "home/alice/.config/autostart/kerbpass.desktop" && !strings.HasPrefix(name, "home/alice/.cache/kerbpass/") {
			left = append(left, name)
		}
	}
	for _, name := range m.newFolders() {
		if !strings.HasPrefix(name, "home/alice") {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	if got := read(t, settings); got != mine {
		t.Errorf("the user's settings are now\n%s", got)
	}
	if said := m.run("dpkg-query", "--show", "--showformat=${Package} ", "*"); strings.Contains(said, "kerbpass") {
		t.Error("dpkg still knows the package")
	}
}
