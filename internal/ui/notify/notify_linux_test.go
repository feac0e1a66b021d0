//go:build linux

package notify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/godbus/dbus/v5"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ui/notify"
)

// all is what a full desktop can do.
var all = []string{"actions", "body", "body-markup", "persistence"}

// start runs a notifier until the test ends. chosen gets "KEY ACTION".
func start(t *testing.T) (n *notify.Notifier, chosen chan string, stop func()) {
	t.Helper()
	chosen = make(chan string, 100)
	n, err := notify.New(notify.Config{Name: "Kerbpass", Icon: icon(t), OnAction: func(key, action string) { chosen <- key + " " + action }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	stop = func() {
		t.Helper()
		cancel()
		if err := receive(t, ended, "the end of Run"); err != nil {
			t.Error(err)
		}
		ended <- nil
	}
	t.Cleanup(stop)
	return n, chosen, stop
}

func icon(t *testing.T) []byte {
	t.Helper()
	img := image.NewNRGBA(image.Rect(0, 0, 1, 2))
	img.SetNRGBA(0, 1, color.NRGBA{1, 2, 3, 128})
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func note(key string) notify.Note {
	return notify.Note{Key: key, Title: "Ticket ends soon", Body: "at 18:10", Urgency: notify.Normal,
		Hint:    "Click the icon.",
		Actions: []notify.Action{{ID: "renew", Label: "Renew now"}, {ID: "later", Label: "Later"}}}
}

func show(t *testing.T, n *notify.Notifier, note notify.Note) {
	t.Helper()
	if err := n.Show(context.Background(), note); err != nil {
		t.Error(err)
	}
}

const shownAs = `"Ticket ends soon" "at 18:10" ["renew" "Renew now" "later" "Later"] urgency 1`

func TestShowReplaceWithdraw(t *testing.T) {
	testenv.NoLeaks(t)
	address, _ := startBus(t, "")
	s := startServer(t, address, 0, all...)
	n, _, stop := start(t)
	show(t, n, note("ticket"))
	s.expect(t, "notify Kerbpass 0 "+shownAs)
	var img struct {
		Width, Height, RowStride int32
		HasAlpha                 bool
		Bits, Channels           int32
		Data                     []byte
	}
	if err := s.hint("image-data").Store(&img); err != nil || fmt.Sprint(img) != "{1 2 4 true 8 4 [0 0 0 0 1 2 3 128]}" {
		t.Errorf("image %v, %v", img, err)
	}
	changed := note("ticket")
	changed.Body, changed.Urgency = "at 18:11", notify.Critical
	show(t, n, changed)
	s.expect(t, `notify Kerbpass 1 "Ticket ends soon" "at 18:11" ["renew" "Renew now" "later" "Later"] urgency 2`)
	show(t, n, note("proxy"))
	s.expect(t, "notify Kerbpass 0 "+shownAs)
	for range 2 { // the second time there is nothing to do
		if err := n.Close(context.Background(), "ticket"); err != nil {
			t.Error(err)
		}
	}
	s.expect(t, "close 1")
	stop()
	s.expect(t, "close 2")
	if err := n.Show(context.Background(), note("late")); err == nil {
		t.Error("showed a note after the end")
	}
}

func TestActions(t *testing.T) {
	testenv.NoLeaks(t)
	address, _ := startBus(t, "")
	s := startServer(t, address, 0, all...)
	n, chosen, stop := start(t)
	withDefault := note("ticket")
	withDefault.Actions = append(withDefault.Actions, notify.Action{ID: notify.DefaultAction, Label: "Open"})
	show(t, n, note("proxy"))       // 1
	show(t, n, withDefault)         // 2
	show(t, n, note("dismissed"))   // 3
	show(t, n, note("expired"))     // 4
	show(t, n, note("last to end")) // 5

	s.emit(t, "ActivationToken", uint32(1), "token")
	s.emit(t, "ActionInvoked", uint32(1), "default")   // not offered
	s.emit(t, "ActionInvoked", uint32(1), "none such") // nor this
	s.emit(t, "ActionInvoked", uint32(9), "renew")     // nobody's
	s.emit(t, "ActionInvoked", uint32(1))              // malformed
	s.emit(t, "ActionInvoked", "1", "renew")           // malformed
	other := connect(t, address)                       // not the server
	s.mu.Lock()
	to := s.client
	s.mu.Unlock()
	other.Send(&dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(to),
		dbus.FieldPath:        dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/Notifications")),
		dbus.FieldInterface:   dbus.MakeVariant(serverName),
		dbus.FieldMember:      dbus.MakeVariant("ActionInvoked"),
		dbus.FieldSignature:   dbus.MakeVariant(dbus.SignatureOf(uint32(0), "")),
	}, Body: []any{uint32(1), "later"}}, nil)
	if err := other.BusObject().Call("org.freedesktop.DBus.GetId", 0).Err; err != nil { // the signal is out
		t.Fatal(err)
	}
	s.emit(t, "NotificationClosed", uint32(3), uint32(2))
	s.emit(t, "ActionInvoked", uint32(3), "renew") // too late
	s.emit(t, "NotificationClosed", uint32(4), uint32(1))
	s.emit(t, "ActionInvoked", uint32(4), "renew")
	s.emit(t, "ActionInvoked", uint32(2), "default")
	if got, want := receive(t, chosen, "default"), "ticket default"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.emit(t, "ActionInvoked", uint32(2), "renew") // the note is gone
	s.emit(t, "NotificationClosed", uint32(2), uint32(2))
	s.emit(t, "ActionInvoked", uint32(5), "later")
	if got, want := receive(t, chosen, "later"), "last to end later"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	stop() // and with it all that was chosen
	if len(chosen) > 0 {
		t.Errorf("got %q too", <-chosen)
	}
}

// TestActionMayShow: what an action does may need notes itself.
func TestActionMayShow(t *testing.T) {
	address, _ := startBus(t, "")
	s := startServer(t, address, 0, all...)
	var n *notify.Notifier
	n, err := notify.New(notify.Config{Name: "Kerbpass", OnAction: func(string, string) {
		if err := n.Show(context.Background(), notify.Note{Key: "next", Title: "next"}); err != nil {
			t.Error(err)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	show(t, n, note("first"))
	s.expect(t, "notify Kerbpass 0 "+shownAs)
	s.emit(t, "ActionInvoked", uint32(1), "renew")
	s.expect(t, `notify Kerbpass 0 "next" "" [] urgency 0`)
	cancel()
	if err := receive(t, ended, "the end of Run"); err != nil {
		t.Error(err)
	}
}

func TestCapabilities(t *testing.T) {
	hostile := note("k")
	hostile.Title, hostile.Body = "<b>T</b>", `<a href="x">&amp;</a>`
	for _, c := range []struct {
		name string
		can  []string
		want string
	}{
		{"all", all, `"<b>T</b>" "&lt;a href=&#34;x&#34;&gt;&amp;amp;&lt;/a&gt;" ["renew" "Renew now" "later" "Later"]`},
		{"no markup", []string{"actions"}, `"<b>T</b>" "<a href=\"x\">&amp;</a>" ["renew" "Renew now" "later" "Later"]`},
		{"no actions", []string{"body-markup"}, `"<b>T</b>" "&lt;a href=&#34;x&#34;&gt;&amp;amp;&lt;/a&gt;\nClick the icon." []`},
		{"nothing", nil, `"<b>T</b>" "<a href=\"x\">&amp;</a>\nClick the icon." []`},
	} {
		t.Run(c.name, func(t *testing.T) {
			address, _ := startBus(t, "")
			s := startServer(t, address, 0, c.can...)
			n, _, _ := start(t)
			show(t, n, hostile)
			s.expect(t, "notify Kerbpass 0 "+c.want+" urgency 1")
		})
	}
}

// TestHostileTexts: D-Bus breaks a connection over some of these.
func TestHostileTexts(t *testing.T) {
	address, _ := startBus(t, "")
	s := startServer(t, address, 0, all...)
	n, _, _ := start(t)
	for _, text := range []string{"\xff\xfe", "a\x00b", "\u202e", strings.Repeat("&", 1<<20), strings.Repeat("\n", 5000)} {
		show(t, n, notify.Note{Key: "k", Title: text, Body: text, Actions: []notify.Action{{ID: "a", Label: text}}})
		if got := receive(t, s.calls, "a note"); len(got) > 20_000 {
			t.Errorf("a note of %d bytes", len(got))
		}
	}
	if err := n.Show(context.Background(), notify.Note{Key: "k"}); err == nil {
		t.Error("showed a note without title")
	}
}

func TestManyNotes(t *testing.T) {
	address, _ := startBus(t, "")
	s := startServer(t, address, 0, all...)
	n, _, stop := start(t)
	const many, kept = 200, 32
	for i := range many {
		show(t, n, note(fmt.Sprint(i)))
	}
	if got := withdrawn(s); got != many-kept {
		t.Errorf("%d notes withdrawn for others, want %d", got, many-kept)
	}
	stop()
	if got := withdrawn(s); got != kept {
		t.Errorf("%d notes withdrawn at the end, want %d", got, kept)
	}
}

// withdrawn counts in what s was asked.
func withdrawn(s *server) (n int) {
	for len(s.calls) > 0 {
		if strings.HasPrefix(<-s.calls, "close") {
			n++
		}
	}
	return n
}

func TestNoServer(t *testing.T) {
	testenv.NoLeaks(t)
	startBus(t, "")
	n, _, _ := start(t)
	if err := n.Show(context.Background(), note("k")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want it to wrap ErrUnsupported", err)
	}
	if err := n.Close(context.Background(), "k"); err != nil {
		t.Error(err)
	}
}

// TestServerComesAndGoes also has notes open when the server dies, of which no
// signal ever tells.
func TestServerComesAndGoes(t *testing.T) {
	testenv.NoLeaks(t)
	address, _ := startBus(t, "")
	n, chosen, _ := start(t)
	if err := n.Show(context.Background(), note("k")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want it to wrap ErrUnsupported", err)
	}
	can := all
	for i := range uint32(3) {
		s := startServer(t, address, 100*i, can...)
		show(t, n, note("k"))
		want := "notify Kerbpass 0 " + shownAs
		if len(can) == 0 { // this one was asked anew what it can do
			want = `notify Kerbpass 0 "Ticket ends soon" "at 18:10\nClick the icon." [] urgency 1`
		}
		s.expect(t, want)
		s.emit(t, "ActionInvoked", 100*i+1, "renew")
		if got, want := receive(t, chosen, "action"), "k renew"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		show(t, n, note("k")) // open when the server dies
		receive(t, s.calls, "a note")
		s.conn.Close()
		if i == 1 {
			can = nil
		}
	}
	if err := n.Show(context.Background(), note("k")); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want it to wrap ErrUnsupported", err)
	}
}

// TestDeafServer never answers: the caller's limit holds, and the next note
// works.
func TestDeafServer(t *testing.T) {
	testenv.NoLeaks(t)
	address, _ := startBus(t, "")
	s := startServer(t, address, 0, all...)
	n, _, _ := start(t)
	deaf := make(chan struct{})
	s.setDeaf(deaf)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Show(ctx, note("k")) }()
	s.expect(t, "deaf")
	cancel()
	if err := receive(t, ended, "the end of Show"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	s.setDeaf(nil)
	close(deaf)
	show(t, n, note("other"))
}

func TestBusComesAndGoes(t *testing.T) {
	testenv.NoLeaks(t)
	socket := "unix:path=" + filepath.Join(t.TempDir(), "bus")
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", socket)
	n, _, _ := start(t)
	for range 2 {
		if err := n.Show(context.Background(), note("k")); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v, want it to wrap ErrUnsupported", err)
		}
		address, kill := startBus(t, socket)
		s := startServer(t, address, 0, all...)
		show(t, n, note("k"))
		s.expect(t, "notify Kerbpass 0 "+shownAs)
		kill()
		os.Remove(strings.TrimPrefix(socket, "unix:path="))
		receive(t, s.conn.Context().Done(), "the end of the bus")
	}
}

// TestBusGoesDuringACall: whoever shows a note meets the end of the bus before
// it is known here, and is told the same as when there was none.
func TestBusGoesDuringACall(t *testing.T) {
	testenv.NoLeaks(t)
	address, kill := startBus(t, "")
	s := startServer(t, address, 0, all...)
	n, _, _ := start(t)
	deaf := make(chan struct{})
	s.setDeaf(deaf)
	ended := make(chan error, 1)
	go func() { ended <- n.Show(context.Background(), note("k")) }()
	s.expect(t, "deaf")
	kill()
	close(deaf)
	if err := receive(t, ended, "the end of Show"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want it to wrap ErrUnsupported", err)
	}
}

// TestNoStrayBus: a dbus-launch in the path would start a bus that outlives us.
func TestNoStrayBus(t *testing.T) {
	dir := t.TempDir()
	launched := filepath.Join(dir, "launched")
	if err := os.WriteFile(filepath.Join(dir, "dbus-launch"), []byte("#!/bin/sh\n: > '"+launched+"'\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	n, _, _ := start(t)
	for _, address := range []string{"", "autolaunch:", "tcp:host=127.0.0.1,port=1"} {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", address)
		if err := n.Show(context.Background(), note("k")); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("at %q: got %v, want it to wrap ErrUnsupported", address, err)
		}
	}
	if _, err := os.Stat(launched); err == nil {
		t.Error("dbus-launch was started")
	}
}
