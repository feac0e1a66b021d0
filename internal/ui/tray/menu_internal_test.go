package tray

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"

	"kerbpass/internal/ui"
)

func sample() []ui.Item {
	return []ui.Item{
		{ID: "line", Kind: ui.KindLine, Label: "Ticket until 18:10"},
		{Kind: ui.KindSeparator},
		{ID: "renew", Kind: ui.KindAction, Label: "Renew now", Command: ui.CommandRenew, Enabled: true},
		{ID: "kerberos", Kind: ui.KindCheck, Label: "Kerberos", Command: ui.CommandKerberos, Enabled: true, Checked: true},
		{ID: "recent", Kind: ui.KindMenu, Label: "Recent", Enabled: true, Items: []ui.Item{
			{ID: "recent1", Kind: ui.KindAction, Label: "a", Command: ui.CommandOpenProblem, Arg: "one", Enabled: true},
			{ID: "recent2", Kind: ui.KindAction, Command: ui.CommandOpenProblem, Enabled: true, Hidden: true},
		}},
	}
}

func TestUpdate(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(items []ui.Item) []ui.Item
		want   string
	}{
		{"nothing", func(i []ui.Item) []ui.Item { return i }, ""},
		{"label", func(i []ui.Item) []ui.Item { i[0].Label = "x"; return i }, "relabel line x"},
		{"disable and uncheck", func(i []ui.Item) []ui.Item { i[3].Enabled, i[3].Checked = false, false; return i }, "disable kerberos, uncheck kerberos"},
		{"a line is never enabled", func(i []ui.Item) []ui.Item { i[0].Enabled = true; return i }, ""},
		{"hide, whatever else changed", func(i []ui.Item) []ui.Item { i[2].Hidden, i[2].Label = true, "x"; return i }, "hide renew"},
		{"hidden ones are left alone", func(i []ui.Item) []ui.Item { i[4].Items[1].Label = "x"; return i }, ""},
		{"shown last", func(i []ui.Item) []ui.Item { i[4].Items[1].Hidden, i[4].Items[1].Label = false, "x"; return i }, "relabel recent2 x, show recent2"},
		{"missing", func(i []ui.Item) []ui.Item { return i[1:] }, "hide line"},
		{"unknown", func(i []ui.Item) []ui.Item { return append(i, ui.Item{ID: "new"}) }, "unknown new"},
		{"only the argument", func(i []ui.Item) []ui.Item { i[4].Items[0].Arg = "two"; return i }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMenu(sample())
			changed := c.change(sample())
			if got := do(m, changed); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if got := do(m, changed); got != "" && !strings.HasPrefix(got, "unknown") {
				t.Errorf("the second time got %q, want nothing", got)
			}
		})
	}
}

// TestHiddenCatchesUp changes an item while it is hidden.
func TestHiddenCatchesUp(t *testing.T) {
	m := newMenu(sample())
	items := sample()
	items[2].Hidden = true
	do(m, items)
	items[2].Label, items[2].Enabled = "Renewing", false
	if got := do(m, items); got != "" {
		t.Fatalf("while hidden: got %q, want nothing", got)
	}
	items[2].Hidden = false
	if got, want := do(m, items), "relabel renew Renewing, disable renew, show renew"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func do(m *menu, items []ui.Item) string {
	ops, unknown := m.update(items)
	var words []string
	for _, o := range ops {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%s %s %s", o.Step, o.ID, o.Label)))
	}
	for _, id := range unknown {
		words = append(words, "unknown "+id)
	}
	return strings.Join(words, ", ")
}

func TestClicked(t *testing.T) {
	items := sample()
	m := newMenu(items)
	for id, want := range map[string]string{
		"line": "", "nobody": "", "recent": "", "recent2": "", "renew": "renew ", "kerberos": "kerberos ", "recent1": "open_problem one",
	} {
		command, arg, ok := m.clicked(id)
		if got := string(command) + " " + arg; ok != (want != "") || ok && got != want {
			t.Errorf("%s: got %q, %t; want %q", id, got, ok, want)
		}
	}
	items[4].Items[0].Arg, items[2].Enabled, items[3].Hidden = "two", false, true
	m.update(items)
	if _, arg, _ := m.clicked("recent1"); arg != "two" {
		t.Errorf("got argument %q, want that of now", arg)
	}
	for _, id := range []string{"renew", "kerberos"} {
		if _, _, ok := m.clicked(id); ok {
			t.Errorf("a click on %s counts although it is disabled or hidden by now", id)
		}
	}
}

func TestLabel(t *testing.T) {
	for _, c := range []struct{ text, mnemonic, want string }{
		{"srv_1_x & y", "_", "srv__1__x & y"},
		{"srv_1_x & y", "&", "srv_1_x && y"},
		{"srv_1_x & y", "", "srv_1_x & y"},
		{"a\x00b\tc\xff", "", "a b c\uFFFD"},
	} {
		if got := label(c.text, c.mnemonic); got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("ok", 3)
	f.Add(strings.Repeat("\U0001F511", 64), maxTooltip)
	f.Add("\xff\x00\n", 2)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		got := plain(text, limit)
		if n := len(utf16.Encode([]rune(got))); n > max(limit, 0) {
			t.Errorf("%d units, want at most %d", n, limit)
		}
		if !utf8.ValidString(got) || strings.ContainsRune(got, 0) {
			t.Errorf("got %q", got)
		}
		if again := plain(got, limit); again != got {
			t.Errorf("not stable: %q, then %q", got, again)
		}
	})
}

// TestTooltipKeepsWholeCharacters: half of a surrogate pair is not text.
func TestTooltipKeepsWholeCharacters(t *testing.T) {
	got := plain(strings.Repeat("\U0001F511", 64), maxTooltip)
	if want := strings.Repeat("\U0001F511", 63); got != want {
		t.Errorf("got %d runes, want 63", utf8.RuneCountInString(got))
	}
}

func TestFlattenSkipsSeparators(t *testing.T) {
	var ids []string
	walk(sample(), func(it ui.Item) { ids = append(ids, it.ID) })
	if want := []string{"line", "renew", "kerberos", "recent", "recent1", "recent2"}; !slices.Equal(ids, want) {
		t.Errorf("got %q, want %q", ids, want)
	}
}
