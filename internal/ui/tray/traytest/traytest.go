// Package traytest is a desktop for tests: a session bus of its own with a
// panel that reads menus and pictures over D-Bus, and a server that takes
// notifications. It needs dbus-daemon and nothing that draws.
package traytest

import (
	"bufio"
	"crypto/sha256"
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

const (
	patience    = 30 * time.Second
	watcherName = "org.kde.StatusNotifierWatcher"
	notesName   = "org.freedesktop.Notifications"
)

// Desktop is a running one.
type Desktop struct {
	Address string     // DBUS_SESSION_BUS_ADDRESS of programs on it
	Notes   chan *Note // shown, in order; capacity 100

	t     testing.TB
	conn  *dbus.Conn
	items chan string // the senders of registrations

	mu    sync.Mutex // guards lastID
	notes uint32
}

// A Note is a notification that was shown.
type Note struct {
	Title, Body string
	Actions     []string // ID, label, ID, label, …
	desktop     *Desktop
	id          uint32
}

// Bus starts a session bus with nothing on it, as of a desktop without a tray,
// and returns its address; it ends with t.
func Bus(t testing.TB) (address string) {
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
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon: %v", err)
	}
	return strings.TrimSpace(line)
}

// Start starts a desktop; it ends with t.
func Start(t testing.TB) *Desktop {
	t.Helper()
	var err error
	d := &Desktop{Address: Bus(t), Notes: make(chan *Note, 100), t: t, items: make(chan string, 100)}
	if d.conn, err = dbus.Connect(d.Address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.conn.Close() })
	d.own(panel{d}, "/StatusNotifierWatcher", watcherName, watcherName, "org.freedesktop.DBus.Properties")
	d.own(notes{d}, "/org/freedesktop/Notifications", notesName, notesName)
	return d
}

func (d *Desktop) own(object any, path dbus.ObjectPath, name string, interfaces ...string) {
	d.t.Helper()
	for _, i := range interfaces {
		if err := d.conn.Export(object, path, i); err != nil {
			d.t.Fatal(err)
		}
	}
	if reply, err := d.conn.RequestName(name, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		d.t.Fatalf("own %s: %v, %v", name, reply, err)
	}
}

// panel is what the bus sees of the panel.
type panel struct{ d *Desktop }

func (p panel) RegisterStatusNotifierItem(_ string, from dbus.Sender) *dbus.Error {
	select {
	case p.d.items <- string(from):
	default:
	}
	return nil
}

func (p panel) Get(_, property string) (dbus.Variant, *dbus.Error) {
	if property == "IsStatusNotifierHostRegistered" {
		return dbus.MakeVariant(true), nil
	}
	return dbus.MakeVariant([]string{}), nil
}

// notes is what the bus sees of the notification server.
type notes struct{ d *Desktop }

func (notes) GetCapabilities() ([]string, *dbus.Error) {
	return []string{"body", "actions"}, nil
}

func (n notes) Notify(_ string, replaces uint32, _, title, body string, actions []string, _ map[string]dbus.Variant, _ int32) (uint32, *dbus.Error) {
	n.d.mu.Lock()
	defer n.d.mu.Unlock()
	id := replaces
	if id == 0 {
		n.d.notes++
		id = n.d.notes
	}
	select {
	case n.d.Notes <- &Note{title, body, actions, n.d, id}:
	default:
	}
	return id, nil
}

func (n notes) CloseNotification(id uint32) *dbus.Error {
	n.d.conn.Emit("/org/freedesktop/Notifications", notesName+".NotificationClosed", id, uint32(3))
	return nil
}

// Note returns the next notification.
func (d *Desktop) Note() *Note {
	d.t.Helper()
	select {
	case n := <-d.Notes:
		return n
	case <-time.After(patience):
		d.t.Fatal("no notification came")
		return nil
	}
}

// Choose clicks on an action of the note.
func (n *Note) Choose(action string) {
	n.desktop.t.Helper()
	if err := n.desktop.conn.Emit("/org/freedesktop/Notifications", notesName+".ActionInvoked", n.id, action); err != nil {
		n.desktop.t.Fatal(err)
	}
}

// Item is an icon with its menu.
type Item struct {
	d    *Desktop
	name string
}

// Item waits for a program to put its icon on the panel. One that has gone
// since counts as none: a slow program may have put its icon there twice.
func (d *Desktop) Item() *Item {
	d.t.Helper()
	late := time.After(patience)
	for {
		select {
		case name := <-d.items:
			var here bool
			if err := d.conn.BusObject().Call("org.freedesktop.DBus.NameHasOwner", 0, name).Store(&here); err != nil {
				d.t.Fatal(err)
			}
			if here {
				return &Item{d, name}
			}
		case <-late:
			d.t.Fatal("no icon came")
			return nil
		}
	}
}

// A Row is one line of the menu.
type Row struct {
	Label            string
	Enabled, Checked bool
	id               int32
}

// Rows returns what the menu shows now, submenus in place, without hidden
// lines and separators. Underscores are as the program wrote them.
func (i *Item) Rows() []Row {
	i.d.t.Helper()
	var revision uint32
	var root layout
	err := i.d.conn.Object(i.name, "/StatusNotifierItem/menu").
		Call("com.canonical.dbusmenu.GetLayout", 0, int32(0), int32(-1), []string{}).Store(&revision, &root)
	if err != nil {
		i.d.t.Fatal(err)
	}
	return i.rows(root)
}

type layout struct {
	ID    int32
	Props map[string]dbus.Variant
	Items []dbus.Variant
}

func (i *Item) rows(l layout) (all []Row) {
	for _, v := range l.Items {
		var item layout
		if err := dbus.Store([]any{v.Value()}, &item); err != nil {
			i.d.t.Fatal(err)
		}
		if _, separator := item.Props["type"]; separator || item.Props["visible"].Value() == false {
			continue
		}
		label, _ := item.Props["label"].Value().(string)
		all = append(all, Row{strings.ReplaceAll(label, "__", "_"), item.Props["enabled"].Value() != false, item.Props["toggle-state"].Value() == int32(1), item.ID})
		all = append(all, i.rows(item)...)
	}
	return all
}

// Find returns the row whose label begins so.
func (i *Item) Find(label string) (Row, bool) {
	i.d.t.Helper()
	for _, r := range i.Rows() {
		if strings.HasPrefix(r.Label, label) {
			return r, true
		}
	}
	return Row{}, false
}

// Wait waits until a row whose label begins so is there and fits.
func (i *Item) Wait(label string, fits func(Row) bool) Row {
	i.d.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		r, ok := i.Find(label)
		if ok && fits(r) {
			return r
		}
		if time.Now().After(deadline) {
			i.d.t.Fatalf("no such line as %q in the menu: %+v", label, i.Rows())
		}
	}
}

// Click clicks on the row whose label begins so, once it can be clicked.
func (i *Item) Click(label string) {
	i.d.t.Helper()
	r := i.Wait(label, func(r Row) bool { return r.Enabled })
	err := i.d.conn.Object(i.name, "/StatusNotifierItem/menu").
		Call("com.canonical.dbusmenu.Event", 0, r.id, "clicked", dbus.MakeVariant(""), uint32(0)).Err
	if err != nil {
		i.d.t.Fatal(err)
	}
}

// Picture is a fingerprint of the icon's pixels.
func (i *Item) Picture() string {
	i.d.t.Helper()
	v, err := i.d.conn.Object(i.name, "/StatusNotifierItem").GetProperty("org.kde.StatusNotifierItem.IconPixmap")
	if err != nil {
		i.d.t.Fatal(err)
	}
	return fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, v.Value())))
}

// Tooltip is the tooltip's title.
func (i *Item) Tooltip() string {
	i.d.t.Helper()
	v, err := i.d.conn.Object(i.name, "/StatusNotifierItem").GetProperty("org.kde.StatusNotifierItem.ToolTip")
	if err != nil {
		i.d.t.Fatal(err)
	}
	parts, _ := v.Value().([]any)
	if len(parts) < 3 {
		return ""
	}
	text, _ := parts[2].(string)
	return text
}
