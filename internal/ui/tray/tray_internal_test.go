//go:build linux || windows || (darwin && cgo)

package tray

import (
	"errors"
	"testing"

	"kerbpass/internal/ui"
)

// TestShowNeverBlocks: nobody runs this tray.
func TestShowNeverBlocks(t *testing.T) {
	tr, err := New(Config{Icon: func(ui.Icon) []byte { return nil }, Title: "t", OnCommand: func(ui.Command, string) {}})
	if err != nil {
		t.Fatal(err)
	}
	for _, icon := range []ui.Icon{ui.IconValid, ui.IconExpired, ui.IconOff} {
		tr.Show(ui.State{Icon: icon})
	}
	if got := (<-tr.latest).Icon; got != ui.IconOff {
		t.Errorf("got %s, want the last", got)
	}
}

// TestPanicIsAnError: the library panics where the bus died between two calls.
func TestPanicIsAnError(t *testing.T) {
	if err := protect(func() { panic("closed") }); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want %v", err, ErrGone)
	}
	if err := protect(func() {}); err != nil {
		t.Error(err)
	}
}
