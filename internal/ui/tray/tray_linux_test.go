//go:build linux

package tray_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ui"
	"kerbpass/internal/ui/tray"
)

func state() ui.State {
	return ui.State{Icon: ui.IconValid, Tooltip: "Ticket until 18:10", Menu: []ui.Item{
		{ID: "ticket", Kind: ui.KindLine, Label: "Ticket until 18:10", Enabled: true},
		{Kind: ui.KindSeparator},
		{ID: "renew", Kind: ui.KindAction, Label: "Renew now", Command: ui.CommandRenew, Enabled: true},
		{ID: "kerberos", Kind: ui.KindCheck, Label: "Kerberos", Command: ui.CommandKerberos, Enabled: true, Checked: true},
		{ID: "recent", Kind: ui.KindMenu, Label: "Recent problems", Enabled: true, Items: []ui.Item{
			{ID: "recent1", Kind: ui.KindAction, Label: "srv_1_x", Command: ui.CommandOpenProblem, Arg: "no_ticket", Enabled: true},
			{ID: "recent2", Kind: ui.KindAction, Label: "-", Command: ui.CommandOpenProblem, Enabled: true, Hidden: true},
		}},
		{ID: "quit", Kind: ui.KindAction, Label: "Quit", Command: ui.CommandQuit, Enabled: true},
	}}
}

// An entry is one item of the menu as a desktop gets it.
type entry struct {
	id    int32
	text  string // all of its look, in a line
	items []entry
}

// A desktop looks at the icon of one program.
type desktop struct {
	t    *testing.T
	conn *dbus.Conn
	name string // the program's on the bus
}

func (d desktop) menu() []entry {
	d.t.Helper()
	var revision uint32
	var root layout
	err := d.conn.Object(d.name, "/StatusNotifierItem/menu").Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &root)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.entries(root)
}

type layout struct {
	ID    int32
	Props map[string]dbus.Variant
	Items []dbus.Variant
}

func (d desktop) entries(l layout) (all []entry) {
	for _, v := range l.Items {
		var item layout
		if err := dbus.Store([]any{v.Value()}, &item); err != nil {
			d.t.Fatal(err)
		}
		all = append(all, entry{item.ID, look(item.Props), d.entries(item)})
	}
	return all
}

func look(props map[string]dbus.Variant) string {
	if v, ok := props["type"]; ok {
		return fmt.Sprint(v.Value())
	}
	s := fmt.Sprint(props["label"].Value())
	if props["enabled"].Value() == false {
		s += ", disabled"
	}
	if props["toggle-type"].Value() == "checkmark" {
		s += fmt.Sprint(", toggle ", props["toggle-state"].Value())
	}
	if v, ok := props["visible"]; ok && v.Value() == false {
		s += ", hidden"
	}
	return s
}

func text(all []entry) string {
	var lines []string
	for _, e := range all {
		line := e.text
		if len(e.items) > 0 {
			line += " (" + text(e.items) + ")"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, " | ")
}

func (d desktop) click(label string) {
	d.t.Helper()
	id, ok := find(d.menu(), label)
	if !ok {
		d.t.Fatalf("no item %q in %s", label, text(d.menu()))
	}
	d.clickID(id)
}

func (d desktop) clickID(id int32) {
	d.t.Helper()
	err := d.conn.Object(d.name, "/StatusNotifierItem/menu").Call("com.canonical.dbusmenu.Event", 0, id, "clicked", dbus.MakeVariant(""), uint32(0)).Err
	if err != nil {
		d.t.Fatal(err)
	}
}

func find(all []entry, label string) (int32, bool) {
	for _, e := range all {
		if e.text == label {
			return e.id, true
		}
		if id, ok := find(e.items, label); ok {
			return id, true
		}
	}
	return 0, false
}

func (d desktop) property(name string) any {
	d.t.Helper()
	v, err := d.conn.Object(d.name, "/StatusNotifierItem").GetProperty("org.kde.StatusNotifierItem." + name)
	if err != nil {
		d.t.Fatal(err)
	}
	return v.Value()
}

// pixel is the first of the icon: alpha, red, green, blue.
func (d desktop) pixel() string {
	d.t.Helper()
	var maps []struct {
		W, H int32
		Pix  []byte
	}
	if err := dbus.Store([]any{d.property("IconPixmap")}, &maps); err != nil {
		d.t.Fatal(err)
	}
	if len(maps) != 1 || len(maps[0].Pix) != 16 {
		return fmt.Sprint(maps)
	}
	return fmt.Sprintf("%x", maps[0].Pix[:4])
}

func (d desktop) tooltip() string {
	d.t.Helper()
	parts, ok := d.property("ToolTip").([]any)
	if !ok || len(parts) != 4 {
		d.t.Fatalf("tooltip %v", parts)
	}
	return fmt.Sprint(parts[2])
}

// started shows first on a bus with a watcher.
func started(t *testing.T, first ui.State) (*program, desktop, *watcher) {
	t.Helper()
	address, _ := startBus(t)
	w := startWatcher(t, address, nil)
	p := startProgram(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	p.show(first)
	sender, _ := w.registration(t)
	d := desktop{t, w.conn, sender}
	d.menu() // the library answers the first time without submenus
	return p, d, w
}

func TestShowsTheFirstState(t *testing.T) {
	testenv.NoLeaks(t)
	p, d, w := started(t, state())
	want := "Ticket until 18:10, disabled | separator | Renew now | Kerberos, toggle 1 | Recent problems (srv__1__x | -, hidden) | Quit"
	if got := text(d.menu()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for name, want := range map[string]any{"Title": "Kerbpass", "Id": "Kerbpass", "Status": "Active", "ItemIsMenu": false} {
		if got := d.property(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if got := d.tooltip(); got != "Ticket until 18:10" {
		t.Errorf("tooltip %q", got)
	}
	if got := d.pixel(); got != "ff00ff00" {
		t.Errorf("icon is %s, want green", got)
	}
	until(t, "visible", p.visible)
	p.tell(order{Again: true})
	if got := receive(t, p.lines, "an answer"); !strings.Contains(got, "only once") {
		t.Errorf("a second tray: got %q", got)
	}
	p.quit()
	until(t, "icon gone", func() bool { return !slices.Contains(names(t, w.conn), d.name) })
}

func names(t *testing.T, c *dbus.Conn) (all []string) {
	t.Helper()
	if err := c.BusObject().Call("org.freedesktop.DBus.ListNames", 0).Store(&all); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestFollows changes everything while a desktop has the menu open, which hears
// of the changes by signals.
func TestFollows(t *testing.T) {
	testenv.NoLeaks(t)
	p, d, _ := started(t, state())
	signals := make(chan *dbus.Signal, 1000)
	d.conn.Signal(signals)
	if err := d.conn.AddMatchSignal(dbus.WithMatchInterface("com.canonical.dbusmenu"), dbus.WithMatchMember("ItemsPropertiesUpdated")); err != nil {
		t.Fatal(err)
	}

	s := state()
	s.Icon, s.Tooltip = ui.IconExpired, "No ticket"
	s.Menu[0].Label = "No ticket"
	s.Menu[2].Enabled = false
	s.Menu[3].Checked = false
	s.Menu[4].Items[0].Hidden = true
	s.Menu[4].Items[1].Hidden, s.Menu[4].Items[1].Label = false, "proxy & co"
	p.show(s)
	until(t, "red", func() bool { return d.pixel() == "ffff0000" })
	want := "No ticket, disabled | separator | Renew now, disabled | Kerberos, toggle 0 | Recent problems (srv__1__x, hidden | proxy & co) | Quit"
	if got := text(d.menu()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := d.tooltip(); got != "No ticket" {
		t.Errorf("tooltip %q", got)
	}
	if s := receive(t, signals, "a signal"); s.Sender != d.name {
		t.Errorf("signal from %s, want %s", s.Sender, d.name)
	}

	s.Icon = ui.IconOff
	p.show(s)
	until(t, "grey", func() bool { return d.pixel() == "ff808080" })
	p.show(state())
	until(t, "green again", func() bool { return d.pixel() == "ff00ff00" })
	want = "Ticket until 18:10, disabled | separator | Renew now | Kerberos, toggle 1 | Recent problems (srv__1__x | proxy & co, hidden) | Quit"
	if got := text(d.menu()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	p.quit()
}

// TestLatestStateWins shows thousands of states; the menu ends with the last.
func TestLatestStateWins(t *testing.T) {
	p, d, _ := started(t, state())
	s := state()
	for i := range 2000 {
		s.Menu[0].Label = fmt.Sprint("state ", i)
		p.show(s)
	}
	s.Icon, s.Menu[0].Label = ui.IconOff, "last"
	p.show(s)
	until(t, "the last icon", func() bool { return d.pixel() == "ff808080" })
	if got := text(d.menu()); !strings.HasPrefix(got, "last, disabled | ") {
		t.Errorf("got %s", got)
	}
	p.quit()
}

func TestClicks(t *testing.T) {
	testenv.NoLeaks(t)
	p, d, _ := started(t, state())
	d.click("Kerberos, toggle 1")
	p.expect("command kerberos")
	d.click("srv__1__x")
	p.expect("command open_problem no_ticket")
	d.click("Ticket until 18:10, disabled")
	d.click("separator")
	d.click("-, hidden")
	if err := d.conn.Object(d.name, "/StatusNotifierItem").Call("org.kde.StatusNotifierItem.Activate", 0, int32(0), int32(0)).Err; err != nil {
		t.Fatal(err)
	}
	p.expect("command settings")
	d.click("Quit")
	p.expect("command quit")
	p.quit()
}

// TestClicksWhileBusy: the handler of Renew stays busy until released. What is
// clicked meanwhile counts once, other items are not held up, and a click that
// waited until its item was disabled does not count.
func TestClicksWhileBusy(t *testing.T) {
	p, d, _ := started(t, state())
	id, _ := find(d.menu(), "Renew now")
	d.clickID(id)
	p.expect("command renew")
	for range 50 {
		d.clickID(id)
	}
	d.click("Kerberos, toggle 1")
	p.expect("command kerberos")
	p.tell(order{Release: true})
	p.expect("command renew")

	d.clickID(id)
	s := state()
	s.Icon, s.Menu[2].Enabled = ui.IconOff, false
	p.show(s)
	until(t, "disabled", func() bool { return d.pixel() == "ff808080" })
	p.tell(order{Release: true})
	d.click("Quit")
	p.expect("command quit")
	p.quit()
}

func TestWatcherComesLateAndAgain(t *testing.T) {
	testenv.NoLeaks(t)
	address, _ := startBus(t)
	p := startProgram(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	p.show(state())
	probe := connect(t, address)
	item := fmt.Sprintf("org.kde.StatusNotifierItem-%d-1", p.cmd.Process.Pid)
	until(t, "icon on the bus", func() bool { return slices.Contains(names(t, probe), item) })
	if p.visible() {
		t.Error("visible without a watcher")
	}
	for range 2 {
		w := startWatcher(t, address, nil)
		w.registration(t)
		until(t, "visible", p.visible)
		w.setHost(t, false)
		until(t, "not visible without a host", func() bool { return !p.visible() })
		w.setHost(t, true)
		until(t, "visible with a host", p.visible)
		w.conn.Close()
		until(t, "not visible without a watcher", func() bool { return !p.visible() })
	}
	p.quit()
}

// TestRegistersAgainOnlyIfForgotten has a watcher that lost the registration,
// as when it came in the moment in which the library did not look, and one that
// did not, where a second registration would make a second icon.
func TestRegistersAgainOnlyIfForgotten(t *testing.T) {
	for _, forgetful := range []bool{true, false} {
		t.Run(fmt.Sprint("forgetful ", forgetful), func(t *testing.T) {
			t.Parallel()
			address, _ := startBus(t)
			asked := monitor(t, address)
			w := startWatcher(t, address, func(w *watcher) { w.forgetful = forgetful })
			p := startProgram(t, "DBUS_SESSION_BUS_ADDRESS="+address)
			p.show(state())
			sender, service := w.registration(t)
			if service != "/StatusNotifierItem" {
				t.Fatalf("registered %s", service)
			}
			for receive(t, asked, "the question for registered items") != "RegisteredStatusNotifierItems" {
			}
			receive(t, asked, "the question after that") // a registration would have come before
			p.quit()
			if !forgetful {
				if len(w.events) > 0 {
					t.Errorf("registered again: %s", <-w.events)
				}
				return
			}
			second, service := w.registration(t)
			if want := fmt.Sprintf("org.kde.StatusNotifierItem-%d-1", p.cmd.Process.Pid); service != want || second == sender {
				t.Errorf("then %s registered %s, want %s from another connection", second, service, want)
			}
		})
	}
}

// monitor tells the names of the watcher's properties that are read.
func monitor(t *testing.T, address string) <-chan string {
	t.Helper()
	c := connect(t, address)
	rule := "type='method_call',interface='org.freedesktop.DBus.Properties',member='Get'"
	if err := c.BusObject().Call("org.freedesktop.DBus.Monitoring.BecomeMonitor", 0, []string{rule}, uint32(0)).Err; err != nil {
		t.Fatal(err)
	}
	messages := make(chan *dbus.Message, 100)
	c.Eavesdrop(messages)
	asked := make(chan string, 100)
	go func() {
		for m := range messages {
			if len(m.Body) == 2 && m.Body[0] == watcherName {
				asked <- fmt.Sprint(m.Body[1])
			}
		}
	}()
	return asked
}

// TestBusDies: icons and menus are changed all the while.
func TestBusDies(t *testing.T) {
	testenv.NoLeaks(t)
	address, kill := startBus(t)
	w := startWatcher(t, address, nil)
	p := startProgram(t, "DBUS_SESSION_BUS_ADDRESS="+address)
	p.show(state())
	w.registration(t)
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		line := []byte(`{"Show":{"Icon":"valid"}}` + "\n" + `{"Show":{"Icon":"expired"}}` + "\n")
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := p.in.Write(line); err != nil {
				return
			}
		}
	}()
	kill()
	line, code := p.end()
	close(stop)
	<-stopped
	if !strings.HasPrefix(line, "end "+tray.ErrGone.Error()) || code != 0 {
		t.Errorf("got %q and exit code %d, want the end of the desktop", line, code)
	}
}

// TestNoBus: a dbus-launch in the path would start a bus that outlives us.
func TestNoBus(t *testing.T) {
	for name, address := range map[string]string{
		"none":           "",
		"autolaunch":     "autolaunch:",
		"dead":           "unix:path=/nonexistent/bus",
		"not answerable": "tcp:host=127.0.0.1,port=1",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			launched := filepath.Join(dir, "launched")
			script := "#!/bin/sh\n: > '" + launched + "'\nexit 1\n"
			if err := os.WriteFile(filepath.Join(dir, "dbus-launch"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			p := startProgram(t, "DBUS_SESSION_BUS_ADDRESS="+address, "PATH="+dir+":"+os.Getenv("PATH"))
			line, code := p.end()
			if !strings.HasPrefix(line, "end "+tray.ErrNoTray.Error()) || code != 0 {
				t.Errorf("got %q and exit code %d, want %q", line, code, tray.ErrNoTray)
			}
			if _, err := os.Stat(launched); err == nil {
				t.Error("dbus-launch was started")
			}
		})
	}
}

func TestStopsBeforeTheFirstState(t *testing.T) {
	testenv.NoLeaks(t)
	address, _ := startBus(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	tr := newTray(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tr.Run(ctx) }()
	c := connect(t, address)
	until(t, "connected", func() bool { return len(names(t, c)) >= 3 })
	cancel()
	if err := receive(t, ended, "the end"); err != nil {
		t.Error(err)
	}
}

func TestBusDiesBeforeTheFirstState(t *testing.T) {
	testenv.NoLeaks(t)
	address, kill := startBus(t)
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
	tr := newTray(t)
	ended := make(chan error, 1)
	go func() { ended <- tr.Run(context.Background()) }()
	c := connect(t, address)
	until(t, "connected", func() bool { return len(names(t, c)) >= 3 })
	kill()
	if err := receive(t, ended, "the end"); !errors.Is(err, tray.ErrGone) {
		t.Errorf("got %v, want %v", err, tray.ErrGone)
	}
}

func newTray(t *testing.T) *tray.Tray {
	t.Helper()
	tr, err := tray.New(tray.Config{
		Icon:      func(ui.Icon) []byte { return nil },
		Title:     "Kerbpass",
		OnCommand: func(ui.Command, string) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}
