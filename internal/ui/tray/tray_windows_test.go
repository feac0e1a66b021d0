//go:build windows

package tray_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"kerbpass/internal/ui"
	"kerbpass/internal/ui/tray"
)

// These run on Windows or, by TestOnWindows, under Wine.

var (
	user32       = syscall.NewLazyDLL("user32.dll")
	findWindowEx = user32.NewProc("FindWindowExW")
	postMessage  = user32.NewProc("PostMessageW")
	sendMessage  = user32.NewProc("SendMessageW")
	menuCount    = user32.NewProc("GetMenuItemCount")
	menuString   = user32.NewProc("GetMenuStringW")
	menuState    = user32.NewProc("GetMenuState")
	subMenu      = user32.NewProc("GetSubMenu")
	itemID       = user32.NewProc("GetMenuItemID")
)

const (
	wmCancelMode = 0x001F
	wmCommand    = 0x0111
	wmGetMenu    = 0x01E1 // MN_GETHMENU
	wmTray       = 0x0401
	rightUp      = 0x0205
	leftUp       = 0x0202

	byPosition                         = 0x400
	disabled, checked, popup, lineBetw = 0x3, 0x8, 0x10, 0x800
)

// icon is an ICO of one colour.
func icon(c color.NRGBA) []byte {
	img := image.NewNRGBA(image.Rect(0, 0, 16, 16))
	for i := range 256 {
		img.SetNRGBA(i%16, i/16, c)
	}
	var picture, b bytes.Buffer
	if err := png.Encode(&picture, img); err != nil {
		panic(err)
	}
	binary.Write(&b, binary.LittleEndian, struct {
		Reserved, Type, Count       uint16
		Width, Height, Colours, Pad uint8
		Planes, Bits                uint16
		Size, Offset                uint32
	}{0, 1, 1, 16, 16, 0, 0, 1, 32, uint32(picture.Len()), 22})
	b.Write(picture.Bytes())
	return b.Bytes()
}

func window(class string) uintptr {
	name, _ := syscall.UTF16PtrFromString(class)
	w, _, _ := findWindowEx.Call(0, 0, uintptr(unsafe.Pointer(name)), 0)
	return w
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not become true", what)
		}
	}
}

// openMenu opens the menu as a right click does, reads it and closes it.
func openMenu(t *testing.T, owner uintptr) string {
	t.Helper()
	postMessage.Call(owner, wmTray, 100, rightUp)
	var menu uintptr
	waitFor(t, "menu open", func() bool {
		if w := window("#32768"); w != 0 {
			menu, _, _ = sendMessage.Call(w, wmGetMenu, 0, 0)
		}
		return menu != 0
	})
	text := read(menu)
	postMessage.Call(owner, wmCancelMode, 0, 0)
	waitFor(t, "menu closed", func() bool { return window("#32768") == 0 })
	return text
}

// ids are those of the menu's items by label, as read last.
var ids = map[string]uintptr{}

func read(menu uintptr) string {
	count, _, _ := menuCount.Call(menu)
	var lines []string
	for i := range count {
		var buf [300]uint16
		menuString.Call(menu, i, uintptr(unsafe.Pointer(&buf)), uintptr(len(buf)), byPosition)
		state, _, _ := menuState.Call(menu, i, byPosition)
		line := syscall.UTF16ToString(buf[:])
		sub, _, _ := subMenu.Call(menu, i)
		id, _, _ := itemID.Call(menu, i)
		ids[line] = id
		switch {
		case state&popup != 0 && sub != 0:
			line += " (" + read(sub) + ")"
		case state&lineBetw != 0:
			line = "separator"
		default:
			if state&disabled != 0 {
				line += ", disabled"
			}
			if state&checked != 0 {
				line += ", checked"
			}
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, " | ")
}

func TestOneTray(t *testing.T) {
	commands := make(chan string, 100)
	tr, err := tray.New(tray.Config{
		Icon:      func(ui.Icon) []byte { return icon(color.NRGBA{R: 0xff, A: 0xff}) },
		Title:     "Kerbpass",
		Tapped:    ui.CommandSettings,
		OnCommand: func(c ui.Command, arg string) { commands <- fmt.Sprintf("%s %s", c, arg) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- tr.Run(ctx) }()
	s := ui.State{Icon: ui.IconValid, Tooltip: strings.Repeat("x", 500), Menu: []ui.Item{
		{ID: "ticket", Kind: ui.KindLine, Label: "Ticket A & B_c"},
		{Kind: ui.KindSeparator},
		{ID: "renew", Kind: ui.KindAction, Label: "Renew", Command: ui.CommandRenew, Enabled: true, Hidden: true},
		{ID: "kerberos", Kind: ui.KindCheck, Label: "Kerberos", Command: ui.CommandKerberos, Enabled: true, Checked: true},
		{ID: "recent", Kind: ui.KindMenu, Label: "Recent", Enabled: true, Items: []ui.Item{
			{ID: "recent1", Kind: ui.KindAction, Label: "one", Command: ui.CommandOpenProblem, Arg: "no_ticket", Enabled: true},
			{ID: "recent2", Kind: ui.KindAction, Label: "two", Enabled: true, Hidden: true},
		}},
	}}
	tr.Show(s)
	waitFor(t, "visible", tr.Visible)
	owner := window("SystrayClass")
	want := "Ticket A && B_c, disabled | separator | Kerberos, checked | Recent (one)"
	if got := openMenu(t, owner); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, c := range []struct{ label, want string }{{"Kerberos", "kerberos "}, {"one", "open_problem no_ticket"}} {
		sendMessage.Call(owner, wmCommand, ids[c.label], 0)
		if got := <-commands; got != c.want {
			t.Errorf("%s: got %q, want %q", c.label, got, c.want)
		}
	}
	sendMessage.Call(owner, wmTray, 100, leftUp)
	if got := <-commands; got != "settings " {
		t.Errorf("left click: got %q", got)
	}

	// What is hidden stays hidden, whatever changes.
	s.Menu[2].Label, s.Menu[4].Items[1].Label = "Renew!", "two!"
	s.Menu[3].Checked = false
	tr.Show(s)
	want = "Ticket A && B_c, disabled | separator | Kerberos | Recent (one)"
	waitFor(t, want, func() bool { return openMenu(t, owner) == want })
	s.Menu[2].Hidden, s.Menu[4].Items[1].Hidden, s.Menu[4].Items[0].Hidden = false, false, true
	s.Menu[0].Label = "Ticket"
	tr.Show(s)
	want = "Ticket, disabled | separator | Renew! | Kerberos | Recent (two!)"
	waitFor(t, want, func() bool { return openMenu(t, owner) == want })
	s.Menu[4].Hidden = true
	tr.Show(s)
	want = "Ticket, disabled | separator | Renew! | Kerberos"
	waitFor(t, want, func() bool { return openMenu(t, owner) == want })
	s.Menu[4].Hidden = false
	tr.Show(s)
	want = "Ticket, disabled | separator | Renew! | Kerberos | Recent (two!)"
	waitFor(t, want, func() bool { return openMenu(t, owner) == want })

	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Run does not end")
	}
	if window("SystrayClass") != 0 || tr.Visible() {
		t.Error("the tray is still there")
	}
}
