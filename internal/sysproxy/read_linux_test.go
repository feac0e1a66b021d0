//go:build linux

package sysproxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"kerbpass/internal/sysproxy"
	"kerbpass/internal/testenv"
)

func do(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// desk is a user's desktop in folders of its own.
type desk struct {
	t    *testing.T
	home string
	env  map[string]string
}

func newDesk(t *testing.T, pairs ...string) *desk {
	d := &desk{t, t.TempDir(), map[string]string{"DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent", "PATH": os.Getenv("PATH")}}
	d.env["HOME"], d.env["XDG_CONFIG_HOME"], d.env["XDG_CONFIG_DIRS"] = d.home, d.path("config"), d.path("etc")
	d.env["GSETTINGS_BACKEND"] = "keyfile"
	for i := 0; i < len(pairs); i += 2 {
		d.env[pairs[i]] = pairs[i+1]
	}
	return d
}

func (d *desk) path(name string) string { return filepath.Join(d.home, name) }

func (d *desk) config() sysproxy.Config {
	return sysproxy.Config{
		Own:       []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5372")},
		LookupEnv: func(name string) (string, bool) { v, ok := d.env[name]; return v, ok },
	}
}

func (d *desk) write(name, text string) {
	d.t.Helper()
	path := d.path(name)
	do(d.t, os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path))
}

// gsettings runs the real program for this desktop.
func (d *desk) gsettings(args ...string) {
	d.t.Helper()
	cmd := exec.Command(testenv.Tool(d.t, "gsettings"), args...)
	for k, v := range d.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("%v: %v: %s", cmd, err, out)
	}
}

// schema ends the test where GNOME's schema is not installed.
func (d *desk) schema() {
	d.t.Helper()
	if out, err := exec.Command(testenv.Tool(d.t, "gsettings"), "list-schemas").Output(); err != nil || !bytes.Contains(out, []byte("org.gnome.system.proxy\n")) {
		testenv.Missing(d.t, "package gsettings-desktop-schemas: %v", err)
	}
}

func (d *desk) read() []sysproxy.Setting {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 30*time.Second)
	defer cancel()
	return sysproxy.Read(ctx, d.config())
}

// want compares source, upstreams, script and flags of everything read.
func (d *desk) want(want ...string) {
	d.t.Helper()
	if got := summary(d.read()); strings.Join(got, "\n") != strings.Join(want, "\n") {
		d.t.Errorf("got %q, want %q", got, want)
	}
}

func summary(all []sysproxy.Setting) (lines []string) {
	for _, s := range all {
		line := fmt.Sprint(s.Source, " ", strings.Join(s.Upstreams, ","), s.PAC)
		if s.AutoDetect {
			line += " auto"
		}
		if s.Off {
			line += " off"
		}
		if s.Problem != "" {
			line += " problem"
		}
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return lines
}

func TestGNOMEThroughGsettings(t *testing.T) {
	testenv.NoLeaks(t)
	d := newDesk(t)
	d.schema()
	d.want() // no desktop, nothing set
	d.env["XDG_CURRENT_DESKTOP"] = "ubuntu:GNOME"
	d.want("gnome off")
	d.gsettings("set", "org.gnome.system.proxy", "mode", "manual")
	d.gsettings("set", "org.gnome.system.proxy.http", "host", "proxy.corp.example")
	d.gsettings("set", "org.gnome.system.proxy.http", "port", "3128")
	d.gsettings("set", "org.gnome.system.proxy.http", "authentication-password", "hunter2")
	d.gsettings("set", "org.gnome.system.proxy", "ignore-hosts", `['it\'s', "ü"]`)
	d.want("gnome http://proxy.corp.example:3128")
	if got := d.read()[0]; strings.Join(got.NoProxy, " ") != "it's ü" || got.Name != "org.gnome.system.proxy" || strings.Contains(fmt.Sprint(got), "hunter2") {
		t.Errorf("got %+v", got)
	}
	d.env["XDG_CURRENT_DESKTOP"] = "KDE"
	d.want("kde off", "gnome http://proxy.corp.example:3128")
	d.env["XDG_CURRENT_DESKTOP"] = ""
	d.want("gnome http://proxy.corp.example:3128")
	d.gsettings("set", "org.gnome.system.proxy", "mode", "auto")
	d.want("gnome auto")
	d.env["HTTPS_PROXY"] = "env:1"
	d.want("environment http://env:1", "gnome auto")
	delete(d.env, "HOME") // no user, no settings
	d.want("environment http://env:1")
}

// A gsettings that hangs, fails or is not there.
func TestGsettingsMisbehaves(t *testing.T) {
	testenv.NoLeaks(t)
	bin := t.TempDir()
	t.Setenv("PATH", bin)
	d := newDesk(t, "XDG_CURRENT_DESKTOP", "GNOME")
	d.want("gnome problem")
	script := func(text string) {
		do(t, os.WriteFile(filepath.Join(bin, "gsettings"), []byte("#!/bin/sh\n"+text), 0o755))
	}
	script("echo no such schema >&2; exit 1\n")
	d.want("gnome problem")
	delete(d.env, "XDG_CURRENT_DESKTOP")
	d.want()
	script("exec /bin/sleep 100\n")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	got := sysproxy.Read(ctx, d.config())
	if len(got) != 1 || !strings.Contains(got[0].Problem, "in time") || time.Since(start) > 20*time.Second {
		t.Errorf("after %v got %+v", time.Since(start), got)
	}
}

func TestKDEFiles(t *testing.T) {
	d := newDesk(t, "XDG_CURRENT_DESKTOP", "KDE", "HOME", "")
	d.env["XDG_CONFIG_DIRS"] = d.path("etc") + ":" + d.path("usr") + ":relative"
	d.want("kde off")
	d.write("usr/kioslaverc", "[Proxy Settings]\nProxyType=1\nhttpProxy=http://usr 1\n")
	d.want("kde http://usr:1")
	d.write("etc/kioslaverc", "[Proxy Settings]\nhttpProxy=http://etc 2\n")
	d.want("kde http://etc:2")
	d.write("config/kioslaverc", "[Proxy Settings]\nhttpProxy=http://user 3\n")
	d.want("kde http://user:3")
	if got := d.read()[0].Name; got != d.path("config/kioslaverc") {
		t.Errorf("found in %s", got)
	}
	d.write("etc/kioslaverc", "[Proxy Settings][$i]\nhttpProxy=http://etc 2\n")
	d.want("kde http://etc:2")
	do(t, os.Remove(d.path("etc/kioslaverc")), os.Mkdir(d.path("etc/kioslaverc"), 0o700))
	d.want("kde http://user:3 problem")
}

// startBus runs a private bus and puts its address where variable says.
func (d *desk) startBus(variable string) (kill func()) {
	d.t.Helper()
	path := d.path(strings.ToLower(variable))
	config := path + ".conf"
	do(d.t, os.WriteFile(config, []byte(fmt.Sprintf(`<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth><standard_session_servicedirs/>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy>
</busconfig>`, path)), 0o600))
	cmd := exec.Command(testenv.Tool(d.t, "dbus-daemon"), "--config-file="+config, "--nofork", "--nopidfile", "--nosyslog", "--print-address")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + d.home, "XDG_CONFIG_HOME=" + d.path("config"), "XDG_RUNTIME_DIR=" + d.home}
	out, err := cmd.StdoutPipe()
	do(d.t, err, cmd.Start())
	kill = func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
	d.t.Cleanup(kill)
	_, err = out.Read(make([]byte, 200)) // it listens once it prints its address
	do(d.t, err)
	d.env[variable] = "unix:path=" + path
	return kill
}

// watch runs Watch and returns a channel that has a word after each change.
func (d *desk) watch() <-chan struct{} {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	changes, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		sysproxy.Watch(ctx, d.config(), func() {
			select {
			case changes <- struct{}{}:
			default:
			}
		})
	}()
	d.t.Cleanup(func() {
		cancel()
		select {
		case <-done:
		case <-time.After(30 * time.Second):
			d.t.Error("Watch does not end")
		}
	})
	return changes
}

// until reads at each change until what is read has the line.
func (d *desk) until(changes <-chan struct{}, line string) {
	d.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case <-changes:
			got := strings.Join(summary(d.read()), "\n")
			if strings.Contains("\n"+got+"\n", "\n"+line+"\n") || got == line {
				return
			}
		case <-limit:
			d.t.Fatalf("no change led to %q, but %q", line, summary(d.read()))
		}
	}
}

// Folders appear, files are written, replaced, linked to and removed.
func TestWatchFiles(t *testing.T) {
	testenv.NoLeaks(t)
	d := newDesk(t, "HOME", "")
	changes := d.watch()
	d.until(changes, "")
	d.write("config/kioslaverc", "[Proxy Settings]\nProxyType=1\nhttpProxy=http://a 1\n")
	d.until(changes, "kde http://a:1")
	d.write("config/kioslaverc", "[Proxy Settings]\nProxyType=1\nhttpProxy=http://b 1\n")
	d.until(changes, "kde http://b:1")
	do(t, os.WriteFile(d.path("config/kioslaverc"), []byte("[Proxy Settings]\nProxyType=1\nhttpProxy=http://c 1\n"), 0o600))
	d.until(changes, "kde http://c:1")
	do(t, os.RemoveAll(d.path("config")))
	d.until(changes, "")
	d.write("dot/rc", "[Proxy Settings]\nProxyType=1\nhttpProxy=http://d 1\n")
	do(t, os.MkdirAll(d.path("config"), 0o700), os.Symlink(d.path("dot/rc"), d.path("config/kioslaverc")))
	d.until(changes, "kde http://d:1")
	d.write("dot/rc", "[Proxy Settings]\nProxyType=1\nhttpProxy=http://e 1\n")
	d.until(changes, "kde http://e:1")
	d.write("etc/kioslaverc", "[Proxy Settings][$i]\nProxyType=3\n")
	d.until(changes, "kde auto")

	// What is not ours wakes nobody. The last line proves that it was seen.
	d.write("config/other", "x")
	d.write("config/kioslaverc.lock", "x")
	d.write("etc/kioslaverc", "")
	d.until(changes, "kde http://e:1")
}

// A folder on the way that cannot be one does not keep us busy or blind.
func TestWatchOddFolders(t *testing.T) {
	testenv.NoLeaks(t)
	d := newDesk(t, "HOME", "")
	d.write("config", "a file")
	changes := d.watch()
	d.until(changes, "kde problem")
	d.write("etc/kioslaverc", "[Proxy Settings]\nProxyType=3\n")
	d.until(changes, "kde auto problem")
}

// With dconf its writer tells; without, GLib's own file is watched.
func TestWatchGNOME(t *testing.T) {
	for _, backend := range []string{"dconf", "keyfile"} {
		t.Run(backend, func(t *testing.T) {
			d := newDesk(t, "GSETTINGS_BACKEND", backend, "XDG_CURRENT_DESKTOP", "GNOME")
			d.schema()
			if backend == "dconf" {
				if _, err := os.Stat("/usr/share/dbus-1/services/ca.desrt.dconf.service"); err != nil {
					testenv.Missing(t, "package dconf-gsettings-backend: %v", err)
				}
				d.startBus("DBUS_SESSION_BUS_ADDRESS")
				d.env["XDG_RUNTIME_DIR"] = d.home
			}
			changes := d.watch()
			d.until(changes, "gnome off")
			d.gsettings("set", "org.gnome.system.proxy.http", "host", "proxy")
			d.gsettings("set", "org.gnome.system.proxy", "mode", "manual")
			d.until(changes, "gnome http://proxy:8080")
			d.gsettings("set", "org.gnome.system.proxy.https", "host", "secure")
			d.gsettings("set", "org.gnome.system.proxy.https", "port", "3129")
			d.until(changes, "gnome http://secure:3129 problem")
			d.gsettings("reset-recursively", "org.gnome.system.proxy")
			d.until(changes, "gnome off")
		})
	}
}

// manager is a NetworkManager with one connection.
type manager struct {
	conn *dbus.Conn
	t    *testing.T

	mu       sync.Mutex // guards what follows
	settings map[string]map[string]dbus.Variant
	props    map[string]dbus.Variant // by path, a blank and name
}

const (
	nm     = "org.freedesktop.NetworkManager"
	nmPath = "/org/freedesktop/NetworkManager"
	active = nmPath + "/ActiveConnection/1"
	dhcp   = nmPath + "/DHCP4Config/1"
	office = nmPath + "/Settings/1"
)

func (m *manager) Get(msg dbus.Message, of, name string) (dbus.Variant, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path, _ := msg.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	if v, ok := m.props[string(path)+" "+of+"."+name]; ok {
		return v, nil
	}
	return dbus.Variant{}, dbus.MakeFailedError(fmt.Errorf("no %s.%s at %s", of, name, path))
}

func (m *manager) GetSettings() (map[string]map[string]dbus.Variant, *dbus.Error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.settings == nil {
		return nil, dbus.NewError("org.freedesktop.NetworkManager.Settings.Connection.PermissionDenied", nil)
	}
	return m.settings, nil
}

func (d *desk) startManager() *manager {
	d.t.Helper()
	conn, err := dbus.Connect(d.env["DBUS_SYSTEM_BUS_ADDRESS"])
	do(d.t, err)
	d.t.Cleanup(func() { conn.Close() })
	m := &manager{conn: conn, t: d.t, props: map[string]dbus.Variant{
		nmPath + " " + nm + ".PrimaryConnection":             dbus.MakeVariant(dbus.ObjectPath(active)),
		nmPath + " " + nm + ".ActiveConnections":             dbus.MakeVariant([]dbus.ObjectPath{active, active + "9"}), // one has gone meanwhile
		active + " " + nm + ".Connection.Active.Id":          dbus.MakeVariant("Office"),
		active + " " + nm + ".Connection.Active.Connection":  dbus.MakeVariant(dbus.ObjectPath(office)),
		active + " " + nm + ".Connection.Active.Dhcp4Config": dbus.MakeVariant(dbus.ObjectPath(dhcp)),
		dhcp + " " + nm + ".DHCP4Config.Options":             dbus.MakeVariant(map[string]dbus.Variant{"wpad": dbus.MakeVariant("http://wpad/dhcp.pac")}),
	}}
	for _, path := range []dbus.ObjectPath{nmPath, active, dhcp} {
		do(d.t, conn.Export(m, path, "org.freedesktop.DBus.Properties"))
	}
	do(d.t, conn.Export(m, office, nm+".Settings.Connection"))
	m.set(map[string]dbus.Variant{})
	reply, err := conn.RequestName(nm, dbus.NameFlagDoNotQueue)
	if err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		d.t.Fatalf("take the name: %v, %v", reply, err)
	}
	return m
}

// set is "nmcli connection modify Office proxy.…".
func (m *manager) set(proxy map[string]dbus.Variant) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settings = map[string]map[string]dbus.Variant{"connection": {"id": dbus.MakeVariant("Office")}, "proxy": proxy}
	do(m.t, m.conn.Emit(office, nm+".Settings.Connection.Updated"))
}

func (m *manager) changed(path dbus.ObjectPath, of, name string, value any) {
	m.t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.props[string(path)+" "+of+"."+name] = dbus.MakeVariant(value)
	do(m.t, m.conn.Emit(path, "org.freedesktop.DBus.Properties.PropertiesChanged", of, map[string]dbus.Variant{name: dbus.MakeVariant(value)}, []string{}))
}

func TestNetworkManager(t *testing.T) {
	testenv.NoLeaks(t)
	d := newDesk(t, "HOME", "")
	kill := d.startBus("DBUS_SYSTEM_BUS_ADDRESS")
	changes := d.watch()
	d.until(changes, "")
	m := d.startManager()
	d.until(changes, "networkmanager problem") // offered, but not used
	if got := d.read()[0]; got.Name != "connection Office" || !strings.Contains(got.Problem, "http://wpad/dhcp.pac") {
		t.Errorf("got %+v", got)
	}
	m.set(map[string]dbus.Variant{"method": dbus.MakeVariant(int32(1))})
	d.until(changes, "networkmanager http://wpad/dhcp.pac")
	m.changed(dhcp, nm+".DHCP4Config", "Options", map[string]dbus.Variant{})
	d.until(changes, "networkmanager auto")
	m.set(map[string]dbus.Variant{"method": dbus.MakeVariant(int32(1)), "pac-url": dbus.MakeVariant("http://u:hunter2@w/own.pac")})
	d.until(changes, "networkmanager http://w/own.pac problem")
	m.mu.Lock()
	m.settings = nil // not ours to read
	m.mu.Unlock()
	m.changed(nmPath, nm, "PrimaryConnection", dbus.ObjectPath("/"))
	d.until(changes, "networkmanager problem")
	m.changed(nmPath, nm, "ActiveConnections", []dbus.ObjectPath{})
	d.until(changes, "")
	m.conn.Close()
	d.until(changes, "")
	kill()
	d.want()
}
