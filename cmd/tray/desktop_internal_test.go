package main

import (
	"slices"
	"testing"
	"time"

	"kerbpass/assets"
	"kerbpass/internal/proxy"
	"kerbpass/internal/ui"
)

// Rooms that may not know each other agree on names.
func TestRoomsAgree(t *testing.T) {
	p := ui.NewPrinter("en", time.UTC)
	unknown, _ := p.Cause("no such cause", "")
	for _, c := range proxy.Causes() {
		if sentence, hint := p.Cause(string(c), ""); sentence == unknown || sentence == "" || hint == "" {
			t.Errorf("%s has no words of its own: %q %q", c, sentence, hint)
		}
	}
	for _, icon := range []ui.Icon{ui.IconValid, ui.IconExpiring, ui.IconExpired, ui.IconNone, ui.IconOff, ui.IconProblem} {
		if !slices.Contains(assets.States, string(icon)) {
			t.Errorf("there is no icon %s", icon)
		}
	}
	if len(assets.States) != 6 {
		t.Errorf("icons without a use: %q", assets.States)
	}
}
