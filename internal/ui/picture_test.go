package ui_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // not every system has it
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"kerbpass/internal/ui"
)

var update = flag.Bool("update", false, "write the golden files")

// now is a Monday in winter; the tests' people live in Berlin.
var now = time.Date(2026, 11, 23, 13, 50, 0, 0, time.UTC)

func berlin(t testing.TB) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func in(d time.Duration) time.Time { return now.Add(d) }

// healthy is an ordinary working day; change returns it as it is in one state.
func healthy() ui.Facts {
	return ui.Facts{
		Ticket: ui.TicketValid, Principal: "alice@CORP.EXAMPLE", Start: in(-time.Hour), Expires: in(200 * time.Minute),
		RenewUntil: in(7 * 24 * time.Hour), RenewAt: in(100 * time.Minute), Renewable: true, CanSignIn: true,
		Listening: true, Listen: []string{"127.0.0.1:5372", "[::1]:5372"}, Upstream: "http://proxy.corp.example:8080", Kerberos: true,
		Autostart: ui.AutostartOn,
	}
}

func change(edit func(*ui.Facts)) ui.Facts {
	f := healthy()
	edit(&f)
	return f
}

func expired(f *ui.Facts) {
	f.Ticket, f.Expires, f.RenewAt = ui.TicketExpired, in(-5*time.Hour), time.Time{}
	f.Problems = []ui.Problem{{Cause: "ticket_expired"}}
}

func blocked(f *ui.Facts) {
	f.Problems = []ui.Problem{{Cause: "upstream_unreachable", Detail: "proxy.corp.example:8080"}}
}

func off(f *ui.Facts)    { f.Kerberos = false }
func paused(f *ui.Facts) { f.PausedUntil = in(15 * time.Minute) }

func both(edits ...func(*ui.Facts)) func(*ui.Facts) {
	return func(f *ui.Facts) {
		for _, edit := range edits {
			edit(f)
		}
	}
}

// states are all conditions worth telling apart.
var states = []struct {
	name string
	icon ui.Icon
	edit func(*ui.Facts)
}{
	{"valid", ui.IconValid, func(f *ui.Facts) {}},
	{"valid, not planned to be renewed", ui.IconValid, func(f *ui.Facts) { f.RenewAt = time.Time{} }},
	{"valid, of unknown end", ui.IconValid, func(f *ui.Facts) { f.Expires = time.Time{} }},
	{"valid for days, direct", ui.IconValid, func(f *ui.Facts) {
		f.Expires, f.Upstream, f.Autostart = in(51*time.Hour), "", ui.AutostartOff
	}},
	{"renewal failed", ui.IconExpiring, func(f *ui.Facts) {
		f.Ticket, f.Expires, f.RenewAt, f.RenewError = ui.TicketExpiring, in(20*time.Minute), in(5*time.Minute), "kdc: i/o timeout"
	}},
	{"renewal failed for good", ui.IconExpiring, func(f *ui.Facts) {
		f.Ticket, f.Expires, f.RenewAt, f.RenewError = ui.TicketExpiring, in(40*time.Second), time.Time{}, "TGT revoked"
	}},
	{"renewing", ui.IconExpiring, func(f *ui.Facts) {
		f.Ticket, f.Expires, f.Busy = ui.TicketExpiring, in(time.Minute), ui.Renewing
	}},
	{"expiring, not renewable", ui.IconExpiring, func(f *ui.Facts) {
		f.Ticket, f.Expires, f.RenewAt, f.Renewable = ui.TicketExpiring, in(time.Hour), time.Time{}, false
	}},
	{"expired", ui.IconExpired, expired},
	{"expired since it was read", ui.IconExpired, func(f *ui.Facts) { f.Expires = now }},
	{"expired, of unknown end", ui.IconExpired, both(expired, func(f *ui.Facts) { f.Expires = time.Time{} })},
	{"expired yesterday, the system signs in", ui.IconExpired, both(expired, func(f *ui.Facts) {
		f.Expires, f.CanSignIn, f.Autostart = in(-24*time.Hour), false, ui.AutostartBySystem
	})},
	{"signing in", ui.IconExpired, both(expired, func(f *ui.Facts) { f.Busy = ui.SigningIn })},
	{"none", ui.IconNone, func(f *ui.Facts) {
		*f = ui.Facts{Ticket: ui.TicketNone, CanSignIn: true, Listening: true, Listen: f.Listen, Upstream: f.Upstream, Kerberos: true,
			Problems: []ui.Problem{{Cause: "no_ticket"}}}
	}},
	{"unavailable", ui.IconProblem, func(f *ui.Facts) {
		*f = ui.Facts{Ticket: ui.TicketUnavailable, Listening: true, Listen: f.Listen, Upstream: f.Upstream, Kerberos: true,
			Problems: []ui.Problem{{Cause: "kerberos_unavailable"}}}
	}},
	{"starting", ui.IconNone, func(f *ui.Facts) { *f = ui.Facts{Kerberos: true} }},
	{"off", ui.IconOff, off},
	{"off, expired", ui.IconOff, both(off, expired)},
	{"off, unavailable", ui.IconOff, both(off, func(f *ui.Facts) { f.Ticket = ui.TicketUnavailable })},
	{"off by the organisation", ui.IconOff, both(off, func(f *ui.Facts) { f.Locked = true })},
	{"on by the organisation", ui.IconValid, func(f *ui.Facts) { f.Locked = true }},
	{"paused", ui.IconOff, paused},
	{"pause over", ui.IconValid, func(f *ui.Facts) { f.PausedUntil = now }},
	{"paused, the sign-in server away", ui.IconOff, both(paused, func(f *ui.Facts) { f.Problems = []ui.Problem{{Cause: "kdc_unreachable"}} })},
	{"the proxy unreachable", ui.IconProblem, blocked},
	{"off, the proxy unreachable", ui.IconProblem, both(off, blocked)},
	{"expired, the proxy unreachable", ui.IconProblem, both(expired, func(f *ui.Facts) {
		f.Problems = append(f.Problems, ui.Problem{Cause: "upstream_unresolved", Detail: "proxy.corp.example"})
	})},
	{"one request failed", ui.IconValid, func(f *ui.Facts) {
		f.Problems = []ui.Problem{{Cause: "destination_unresolved", Detail: "tyop.example"}}
		f.Recent = []ui.Problem{{Cause: "timeout", Detail: "old.example", At: in(-time.Hour)}, {Cause: "destination_unresolved", Detail: "tyop.example", At: in(-time.Minute)}}
	}},
	{"a new cause", ui.IconProblem, func(f *ui.Facts) { f.Problems = []ui.Problem{{Cause: "flux_capacitor"}} }},
	{"not listening", ui.IconProblem, func(f *ui.Facts) { f.Listening, f.Listen = false, nil }},
}

var languages = []string{"en-GB", "en-US", "de", "fr"}

// TestGolden compares every word of every state with what was agreed.
func TestGolden(t *testing.T) {
	for _, lang := range languages {
		t.Run(lang, func(t *testing.T) {
			p := ui.NewPrinter(lang, berlin(t))
			var b strings.Builder
			for _, s := range states {
				got := ui.Picture(change(s.edit), now, p)
				fmt.Fprintf(&b, "== %s\n[%s] %s\n", s.name, got.Icon, got.Tooltip)
				writeMenu(&b, got.Menu, "")
				b.WriteByte('\n')
			}
			compareGolden(t, lang, b.String())
		})
	}
}

// writeMenu shows a menu as a person sees it: what is greyed out in brackets.
func writeMenu(b *strings.Builder, items []ui.Item, indent string) {
	for _, it := range items {
		label := it.Label
		switch {
		case it.Hidden:
			continue
		case it.Kind == ui.KindSeparator:
			label = "---"
		case it.Kind == ui.KindCheck && it.Checked:
			label = "[x] " + label
		case it.Kind == ui.KindCheck:
			label = "[ ] " + label
		case it.Kind == ui.KindMenu:
			label += " >"
		case it.Kind == ui.KindLine:
			label = "| " + label
		}
		if it.Kind != ui.KindLine && it.Kind != ui.KindSeparator && !it.Enabled {
			label = "(" + label + ")"
		}
		fmt.Fprintf(b, "%s%s\n", indent, label)
		writeMenu(b, it.Items, indent+"    ")
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wantLines, gotLines := strings.Split(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n"), strings.Split(got, "\n")
	for i := range max(len(gotLines), len(wantLines)) {
		if g, w := lineOf(gotLines, i), lineOf(wantLines, i); g != w {
			t.Fatalf("%s line %d: got %q, want %q; -update writes what is", file, i+1, g, w)
		}
	}
}

func lineOf(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(end)"
}

func TestIcon(t *testing.T) {
	p := ui.NewPrinter("en", berlin(t))
	for _, s := range states {
		if got := ui.Picture(change(s.edit), now, p).Icon; got != s.icon {
			t.Errorf("%s: got %q, want %q", s.name, got, s.icon)
		}
	}
}

// TestActions asks of every state which commands it offers.
func TestActions(t *testing.T) {
	always := []ui.Command{ui.CommandSettings, ui.CommandQuit}
	working := append([]ui.Command{ui.CommandKerberos, ui.CommandPause15, ui.CommandPause60, ui.CommandCopyProxy, ui.CommandAutostart}, always...)
	without := func(all []ui.Command, gone ...ui.Command) []ui.Command {
		return slices.DeleteFunc(slices.Clone(all), func(c ui.Command) bool { return slices.Contains(gone, c) })
	}
	with := func(all []ui.Command, more ...ui.Command) []ui.Command { return append(slices.Clone(all), more...) }
	offered := map[string][]ui.Command{
		"valid":                                  with(working, ui.CommandRenew),
		"renewal failed":                         with(working, ui.CommandRenew, ui.CommandSignIn),
		"renewing":                               working,
		"expiring, not renewable":                with(working, ui.CommandSignIn),
		"expired":                                with(working, ui.CommandSignIn),
		"expired yesterday, the system signs in": without(working, ui.CommandAutostart),
		"signing in":                             working,
		"none":                                   with(without(working, ui.CommandAutostart), ui.CommandSignIn),
		"unavailable":                            without(working, ui.CommandAutostart),
		"off":                                    with(without(working, ui.CommandPause15, ui.CommandPause60), ui.CommandRenew),
		"on by the organisation":                 with(without(working, ui.CommandKerberos, ui.CommandPause15, ui.CommandPause60), ui.CommandRenew),
		"paused":                                 with(working, ui.CommandResume, ui.CommandRenew),
		"one request failed":                     with(working, ui.CommandRenew, ui.CommandOpenProblem, ui.CommandOpenProblem),
		"not listening":                          with(without(working, ui.CommandCopyProxy), ui.CommandRenew),
	}
	p := ui.NewPrinter("en", berlin(t))
	for _, s := range states {
		want, ok := offered[s.name]
		if !ok {
			continue
		}
		delete(offered, s.name)
		got := commands(ui.Picture(change(s.edit), now, p).Menu)
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", s.name, got, want)
		}
	}
	if len(offered) > 0 {
		t.Errorf("no such state: %v", offered)
	}
}

func commands(items []ui.Item) (all []ui.Command) {
	for _, it := range items {
		if it.Hidden || !it.Enabled {
			continue
		}
		if it.Command != "" {
			all = append(all, it.Command)
		}
		all = append(all, commands(it.Items)...)
	}
	return all
}

func TestRecent(t *testing.T) {
	f := healthy()
	for i := range 12 {
		f.Recent = append(f.Recent, ui.Problem{Cause: "timeout", Detail: fmt.Sprintf("host%d.example", i), At: in(time.Duration(i) * time.Minute)})
	}
	before := slices.Clone(f.Recent)
	menu := find(t, ui.Picture(f, now, ui.NewPrinter("en", berlin(t))).Menu, "recent")
	if first, last := menu.Items[0].Label, menu.Items[7].Label; !strings.Contains(first, "host11.") || !strings.Contains(last, "host4.") || len(menu.Items) != 8 {
		t.Errorf("got %q to %q, want the eight newest, the newest first", first, last)
	}
	if menu.Items[0].Arg != "timeout" || !reflect.DeepEqual(f.Recent, before) {
		t.Errorf("argument %q, want the cause; and the facts must stay as they are", menu.Items[0].Arg)
	}
}

func find(t *testing.T, items []ui.Item, id string) ui.Item {
	t.Helper()
	i := slices.IndexFunc(items, func(it ui.Item) bool { return it.ID == id })
	if i < 0 {
		t.Fatalf("no item %q", id)
	}
	return items[i]
}

func TestNoPasswordInTheProxyLine(t *testing.T) {
	p := ui.NewPrinter("en", berlin(t))
	for _, upstream := range []string{"http://bob:s3cret@proxy.example:8080", "bob:s3cret@proxy.example:8080", "http://bob:s3%zzcret@proxy.example:8080"} {
		f := change(func(f *ui.Facts) { f.Upstream = upstream })
		got := find(t, ui.Picture(f, now, p).Menu, "proxy").Label
		if want := "Proxy on 127.0.0.1:5372 → proxy.example:8080"; got != want {
			t.Errorf("%s: got %q, want %q", upstream, got, want)
		}
	}
}

// shape is what of a menu must never change.
func shape(items []ui.Item) (all []string) {
	for _, it := range items {
		all = append(all, fmt.Sprintf("%s %s %s", it.ID, it.Kind, it.Command))
		all = append(all, shape(it.Items)...)
	}
	return all
}

// TestShapeNeverChanges draws random facts: the menu of all of them has the
// same items in the same order, and labels that a tray can show.
func TestShapeNeverChanges(t *testing.T) {
	const seed = 5372
	r := rand.New(rand.NewPCG(seed, seed))
	want := shape(ui.Picture(healthy(), now, ui.NewPrinter("en", berlin(t))).Menu)
	ids := map[string]bool{}
	for _, s := range want {
		id, _, _ := strings.Cut(s, " ")
		if ids[id] {
			t.Errorf("%s is there twice", id)
		}
		ids[id] = true
	}
	for range 5000 {
		f := randomFacts(r)
		got := ui.Picture(f, now, ui.NewPrinter(pick(r, languages...), berlin(t)))
		if s := shape(got.Menu); !slices.Equal(s, want) {
			t.Fatalf("seed %d, %+v:\n got %q\nwant %q", seed, f, s, want)
		}
		checkState(t, got)
	}
}

func randomFacts(r *rand.Rand) ui.Facts {
	moment := func() time.Time {
		return pick(r, time.Time{}, now, in(time.Duration(r.Int64N(int64(4000*time.Hour)))-2000*time.Hour))
	}
	yes := func() bool { return r.IntN(2) == 0 }
	problems := func() (all []ui.Problem) {
		for range r.IntN(12) {
			all = append(all, ui.Problem{Cause: pick(r, "timeout", "kdc_unreachable", "policy", "made_up", ""), Detail: pick(r, texts...), At: moment()})
		}
		return all
	}
	return ui.Facts{
		Ticket:    pick(r, ui.TicketValid, ui.TicketExpiring, ui.TicketExpired, ui.TicketNone, ui.TicketUnavailable, "", "made up"),
		Principal: pick(r, texts...), Start: moment(), Expires: moment(), RenewUntil: moment(), RenewAt: moment(), RenewError: pick(r, texts...),
		Renewable: yes(), CanSignIn: yes(), Busy: pick(r, ui.Idle, ui.Renewing, ui.SigningIn),
		Listening: yes(), Listen: pick(r, nil, []string{}, []string{pick(r, texts...)}), Upstream: pick(r, texts...), Kerberos: yes(), Locked: yes(),
		PausedUntil: moment(), Problems: problems(), Recent: problems(),
		Autostart: pick(r, ui.AutostartUnknown, ui.AutostartOn, ui.AutostartOff, ui.AutostartBySystem),
	}
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

var texts = []string{
	"", "alice@CORP.EXAMPLE", "http://proxy.corp.example:8080", "a\nb\tc\x00\x1b[31m", "\u202egpj.exe\u2066\u200f", "%s%d%!", "\xff\xfe",
	strings.Repeat("ä", 300), strings.Repeat("😀", 200), strings.Repeat("e\u0301", 90), "\u2028\u2029\u0085", strings.Repeat("\u0301", 200),
}

// checkState fails unless a tray can show s.
func checkState(t *testing.T, s ui.State) {
	t.Helper()
	if n := len(utf16.Encode([]rune(s.Tooltip))); n > 120 {
		t.Errorf("tooltip of %d units: %q", n, s.Tooltip)
	}
	checkText(t, s.Tooltip)
	checkLabels(t, s.Menu)
}

func checkLabels(t *testing.T, items []ui.Item) {
	t.Helper()
	for _, it := range items {
		if !it.Hidden && it.Label == "" && it.Kind != ui.KindSeparator {
			t.Errorf("%s is shown without a label", it.ID)
		}
		if n := utf8.RuneCountInString(it.Label); n > 180 {
			t.Errorf("%s has %d characters: %q", it.ID, n, it.Label)
		}
		checkText(t, it.Label)
		checkLabels(t, it.Items)
	}
}

func checkText(t *testing.T, s string) {
	t.Helper()
	bad := func(r rune) bool { return unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) }
	if strings.ContainsFunc(s, bad) || !utf8.ValidString(s) || strings.Contains(s, "%!") && !strings.Contains(s, "%s%d%!") {
		t.Errorf("not fit for a label: %q", s)
	}
}

// FuzzPicture gives names that nobody has checked.
func FuzzPicture(f *testing.F) {
	for i, s := range texts {
		f.Add(s, texts[(i+1)%len(texts)], texts[(i+2)%len(texts)], int64(i)*1e12)
	}
	f.Fuzz(func(t *testing.T, principal, upstream, detail string, expires int64) {
		when := time.Unix(expires%1e11, 0)
		facts := change(func(f *ui.Facts) {
			f.Principal, f.Upstream, f.Listen, f.Expires, f.RenewAt = principal, upstream, []string{detail}, when, when
			f.Problems = []ui.Problem{{Cause: upstream, Detail: detail}, {Cause: "timeout", Detail: principal}}
			f.Recent = f.Problems
		})
		for _, lang := range languages {
			p := ui.NewPrinter(lang, time.UTC)
			for _, state := range []ui.TicketState{ui.TicketValid, ui.TicketExpired, ui.TicketState(detail)} {
				facts.Ticket = state
				got := ui.Picture(facts, now, p)
				if n := len(utf16.Encode([]rune(got.Tooltip))); n > 120 {
					t.Errorf("tooltip of %d units: %q", n, got.Tooltip)
				}
				checkFuzzed(t, got.Menu)
			}
		}
		ui.NewPrinter(principal, nil, upstream, detail)
	})
}

func checkFuzzed(t *testing.T, items []ui.Item) {
	t.Helper()
	for _, it := range items {
		if strings.ContainsFunc(it.Label, unicode.IsControl) || strings.ContainsFunc(it.Label, func(r rune) bool { return unicode.Is(unicode.Bidi_Control, r) }) {
			t.Errorf("%s: %q", it.ID, it.Label)
		}
		checkFuzzed(t, it.Items)
	}
}
