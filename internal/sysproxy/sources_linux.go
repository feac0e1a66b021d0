//go:build linux

package sysproxy

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// systemSources puts the desktop in use before others that may have left their
// files behind, and both before the network.
func systemSources(c Config) []source {
	desktops := []source{{SourceGNOME, gnome}, {SourceKDE, kde}}
	if c.desktopIs("kde") {
		desktops[0], desktops[1] = desktops[1], desktops[0]
	}
	return append(desktops, source{SourceNetworkManager, networkManager})
}

func systemWatchers(c Config) []watcher {
	files := watchedFiles(c)
	watchers := []watcher{{"system bus", bus{systemBus(c), nmRules, nmChange}.watch}}
	if addr := sessionBus(c); addr != "" {
		watchers = append(watchers, watcher{"session bus", bus{addr, dconfRules, dconfChange}.watch})
	} else if home := configHome(c); home != "" {
		files = append(files, filepath.Join(home, "dconf", "user"))
	}
	return append(watchers, watcher{"files", func(ctx context.Context, _ Config, report func()) error {
		return watchFiles(ctx, files, report)
	}})
}

// watchedFiles are where no bus tells of a change; a name that ends in a slash
// is a folder with all that is directly in it.
func watchedFiles(c Config) []string {
	files := append(kdeFiles(c), "/etc/dconf/db/", "/etc/dconf/profile/")
	if home := configHome(c); home != "" {
		files = append(files, filepath.Join(home, "glib-2.0", "settings", "keyfile")) // without dconf
	}
	return files
}

// dconf's writer tells which keys of the user's database have changed, after
// the fact.
var dconfRules = []string{"type='signal',interface='ca.desrt.dconf.Writer',member='Notify'"}

func dconfChange(s *dbus.Signal) bool {
	const ours = "/system/proxy/"
	if s.Name != "ca.desrt.dconf.Writer.Notify" || len(s.Body) < 2 {
		return false
	}
	prefix, _ := s.Body[0].(string)
	names, _ := s.Body[1].([]string)
	for _, name := range names {
		if path := prefix + name; strings.HasPrefix(path, ours) || strings.HasSuffix(path, "/") && strings.HasPrefix(ours, path) {
			return true
		}
	}
	return false
}

const (
	nmName   = "org.freedesktop.NetworkManager"
	nmPath   = "/org/freedesktop/NetworkManager"
	nmLimit  = 3 * time.Second
	nmMost   = 16 // connections that are looked at
	propsGet = "org.freedesktop.DBus.Properties.Get"
)

var nmRules = []string{
	"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" + nmName + "'",
	"type='signal',sender='" + nmName + "',path='" + nmPath + "',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
	"type='signal',sender='" + nmName + "',path_namespace='" + nmPath + "/DHCP4Config',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
	"type='signal',sender='" + nmName + "',interface='" + nmName + ".Settings.Connection',member='Updated'",
}

func nmChange(s *dbus.Signal) bool {
	switch s.Name {
	case "org.freedesktop.DBus.NameOwnerChanged":
		return len(s.Body) > 0 && s.Body[0] == nmName
	case nmName + ".Settings.Connection.Updated":
		return true
	case "org.freedesktop.DBus.Properties.PropertiesChanged":
		if len(s.Body) < 2 {
			return false
		}
		changed, _ := s.Body[1].(map[string]dbus.Variant)
		for _, name := range []string{"ActiveConnections", "PrimaryConnection", "Options"} {
			if _, ok := changed[name]; ok {
				return true
			}
		}
	}
	return false
}

// networkManager asks the service, if it runs, about its active connections,
// the one with the default route first.
func networkManager(ctx context.Context, c Config) (all []Setting) {
	ctx, cancel := context.WithTimeout(ctx, nmLimit)
	defer cancel()
	conn, err := dial(ctx, systemBus(c))
	if err != nil {
		return nil // no system bus, no NetworkManager
	}
	defer conn.Close()
	var running bool
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, nmName).Store(&running); err != nil || !running {
		return nil
	}
	nm := nmBus{ctx, conn}
	var primary dbus.ObjectPath
	var active []dbus.ObjectPath
	nm.get(nmPath, nmName, "PrimaryConnection", &primary)
	if err := nm.get(nmPath, nmName, "ActiveConnections", &active); err != nil {
		f := c.finding(SourceNetworkManager, "NetworkManager")
		f.problem("it does not say which connections are active")
		f.Late = ctx.Err() != nil
		return f.done()
	}
	seen := map[dbus.ObjectPath]bool{"": true, "/": true}
	for _, path := range append([]dbus.ObjectPath{primary}, active...) {
		if !seen[path] && len(seen) < nmMost {
			seen[path] = true
			all = append(all, nmSetting(c, nm.facts(path))...)
		}
	}
	return all
}

type nmBus struct {
	ctx  context.Context // of one reading
	conn *dbus.Conn
}

// get never starts a service.
func (n nmBus) get(path dbus.ObjectPath, of, property string, value any) error {
	var v dbus.Variant
	err := n.conn.Object(nmName, path).CallWithContext(n.ctx, propsGet, dbus.FlagNoAutoStart, of, property).Store(&v)
	if err != nil {
		return err
	}
	return v.Store(value)
}

func (n nmBus) facts(active dbus.ObjectPath) (f nmFacts) {
	var settings, dhcp dbus.ObjectPath
	if n.get(active, nmName+".Connection.Active", "Connection", &settings) != nil {
		f.absent = true
		return f
	}
	if n.get(active, nmName+".Connection.Active", "Id", &f.name) != nil {
		f.name = string(active)
	}
	if n.get(active, nmName+".Connection.Active", "Dhcp4Config", &dhcp) == nil && len(dhcp) > 1 {
		var options map[string]dbus.Variant
		n.get(dhcp, nmName+".DHCP4Config", "Options", &options)
		f.offered, _ = options["wpad"].Value().(string)
	}
	var all map[string]map[string]dbus.Variant
	err := n.conn.Object(nmName, settings).CallWithContext(n.ctx, nmName+".Settings.Connection.GetSettings", dbus.FlagNoAutoStart).Store(&all)
	if err != nil {
		f.denied = true
		return f
	}
	proxy := all["proxy"]
	switch method := proxy["method"].Value().(type) {
	case int32:
		f.auto = method == 1
	case uint32:
		f.auto = method == 1
	}
	f.browserOnly, _ = proxy["browser-only"].Value().(bool)
	f.url, _ = proxy["pac-url"].Value().(string)
	f.script, _ = proxy["pac-script"].Value().(string)
	return f
}
