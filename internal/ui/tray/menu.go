package tray

import (
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"

	"kerbpass/internal/ui"
)

// Longer texts are cut: no desktop shows more, and some handle it badly.
const (
	maxLabel   = 200 // UTF-16 units
	maxTooltip = 127 // all that Windows has room for, without the final zero
)

// A step is one change to the look of an item.
type step string

const (
	relabel step = "relabel"
	enable  step = "enable"
	disable step = "disable"
	check   step = "check"
	uncheck step = "uncheck"
	reveal  step = "show"
	hide    step = "hide"
)

// An op is a step on one item.
type op struct {
	ID    string
	Step  step
	Label string // of relabel
}

// menu remembers how the items were drawn, in order to change no more than
// what differs, and to know what a click on one means. It is safe for
// concurrent use.
type menu struct {
	mu    sync.Mutex
	items map[string]ui.Item // by ID; as drawn, without Items; no separators
}

// newMenu is for items that are drawn now.
func newMenu(items []ui.Item) *menu {
	return &menu{items: flatten(items)}
}

// flatten returns the items of all levels by ID.
func flatten(items []ui.Item) map[string]ui.Item {
	flat := map[string]ui.Item{}
	walk(items, func(it ui.Item) { flat[it.ID] = it })
	return flat
}

// walk visits the items of all levels from top to bottom, but separators.
func walk(items []ui.Item, visit func(ui.Item)) {
	for _, it := range items {
		if it.Kind == ui.KindSeparator {
			continue
		}
		children := it.Items
		it.Items = nil
		visit(it)
		walk(children, visit)
	}
}

// update makes items the current ones and returns what is to be done for that,
// from top to bottom, and the IDs that it does not know.
func (m *menu) update(items []ui.Item) (ops []op, unknown []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	want := flatten(items)
	walk(items, func(it ui.Item) {
		drawn, ok := m.items[it.ID]
		if !ok {
			unknown = append(unknown, it.ID)
			return
		}
		var more []op
		more, m.items[it.ID] = redraw(drawn, it)
		ops = append(ops, more...)
	})
	for id, drawn := range m.items {
		if _, ok := want[id]; !ok && !drawn.Hidden {
			drawn.Hidden = true
			m.items[id] = drawn
			ops = append(ops, op{ID: id, Step: hide})
		}
	}
	return ops, unknown
}

// redraw returns the steps from one look to another, and the look after them. A
// hidden item is left alone until it is shown again, because on Windows any
// other change would show it.
func redraw(drawn, want ui.Item) (ops []op, after ui.Item) {
	add := func(s step, label string) { ops = append(ops, op{ID: want.ID, Step: s, Label: label}) }
	if want.Hidden {
		if !drawn.Hidden {
			add(hide, "")
		}
		drawn.Hidden = true
		return ops, drawn
	}
	if drawn.Label != want.Label {
		add(relabel, want.Label)
	}
	if clickable(drawn) != clickable(want) {
		add(either(clickable(want), enable, disable), "")
	}
	if drawn.Checked != want.Checked {
		add(either(want.Checked, check, uncheck), "")
	}
	if drawn.Hidden {
		add(reveal, "")
	}
	return ops, want
}

// clickable reports whether the item is drawn as one that can be clicked.
func clickable(it ui.Item) bool { return it.Enabled && it.Kind != ui.KindLine }

func either(yes bool, a, b step) step {
	if yes {
		return a
	}
	return b
}

// clicked returns what a click on the item asks for by now. It is not ok for a
// click that waited until the item was disabled or hidden.
func (m *menu) clicked(id string) (command ui.Command, arg string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	it, known := m.items[id]
	return it.Command, it.Arg, known && clickable(it) && !it.Hidden && it.Command != ""
}

// label makes text fit for a menu in which the rune mnemonic, if any, marks a
// letter to be underlined.
func label(text string, mnemonic string) string {
	text = plain(text, maxLabel)
	if mnemonic == "" {
		return text
	}
	return strings.ReplaceAll(text, mnemonic, mnemonic+mnemonic)
}

// plain returns text without what desktops choke on, D-Bus on invalid UTF-8 and
// Windows on a zero, and of at most limit UTF-16 units.
func plain(text string, limit int) string {
	var b strings.Builder
	units := 0
	for _, r := range text { // invalid UTF-8 as replacement characters
		if units += utf16.RuneLen(r); units > limit {
			break
		}
		if unicode.IsControl(r) && r != '\n' {
			r = ' '
		}
		b.WriteRune(r)
	}
	return b.String()
}
