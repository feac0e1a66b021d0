package ui_test

import (
	"strings"
	"testing"
	"time"

	"kerbpass/internal/ui"
)

// TestLanguage tells the language by the word for "Quit" and the clock by the
// end of the ticket.
func TestLanguage(t *testing.T) {
	for _, c := range []struct {
		lang   string
		locale []string
		want   string
		clock  string
	}{
		{"", nil, "en", "18:10"},
		{"", []string{"", "", ""}, "en", "18:10"},
		{"", []string{"C"}, "en", "18:10"},
		{"", []string{"POSIX", "de_DE", "fr_FR"}, "en", "18:10"}, // LC_ALL wins
		{"", []string{"C.UTF-8"}, "en", "18:10"},
		{"", []string{"", "", "de_DE.UTF-8"}, "de", "18:10"},
		{"", []string{"", "fr_CA.UTF-8", "de_DE.UTF-8"}, "fr", "18:10"},
		{"", []string{"de_CH@euro"}, "de", "18:10"},
		{"", []string{"de-AT"}, "de", "18:10"},
		{"", []string{"en_US.UTF-8"}, "en", "6:10 PM"},
		{"", []string{"en_GB.UTF-8"}, "en", "18:10"},
		{"", []string{"en-AU"}, "en", "18:10"},
		{"", []string{"ja_JP.UTF-8"}, "en", "18:10"},
		{"", []string{"es_US.UTF-8"}, "en", "6:10 PM"},
		{"de", []string{"en_US.UTF-8"}, "de", "18:10"},
		{"en-US", nil, "en", "6:10 PM"},
		{"en", []string{"de_DE"}, "en", "18:10"},
		{"klingon!", []string{"de_DE"}, "en", "18:10"},
	} {
		p := ui.NewPrinter(c.lang, berlin(t), c.locale...)
		if got := p.Language(); got != c.want {
			t.Errorf("%q %q: language %q, want %q", c.lang, c.locale, got, c.want)
		}
		quit := map[string]string{"en": "Quit", "de": "Beenden", "fr": "Quitter"}[c.want]
		menu := ui.Picture(healthy(), now, p).Menu
		if got := find(t, menu, "quit").Label; got != quit {
			t.Errorf("%q %q: got %q, want %q", c.lang, c.locale, got, quit)
		}
		if got := find(t, menu, "ticket").Label; !strings.Contains(got, " "+c.clock+",") {
			t.Errorf("%q %q: got %q, want the time as %s", c.lang, c.locale, got, c.clock)
		}
	}
}

// TestTimes words one end of a ticket after the other.
func TestTimes(t *testing.T) {
	const d = 24 * time.Hour
	morning := time.Date(2026, 11, 24, 7, 10, 0, 0, time.UTC).Sub(now) // 08:10 in Berlin
	for _, c := range []struct {
		left                      time.Duration
		english, american, de, fr string
	}{
		{1, "until 14:50, less than a minute left", "until 2:50 PM, less than a minute left", "bis 14:50, noch weniger als eine Minute", "jusqu’à 14:50, encore moins d’une minute"},
		{time.Minute, "until 14:51, 1 min left", "until 2:51 PM, 1 min left", "bis 14:51, noch 1 Min.", "jusqu’à 14:51, encore 1 min"},
		{time.Minute - 1, "until 14:50, less than a minute left", "until 2:50 PM, less than a minute left", "bis 14:50, noch weniger als eine Minute", "jusqu’à 14:50, encore moins d’une minute"},
		{time.Hour, "until 15:50, 1 h left", "until 3:50 PM, 1 h left", "bis 15:50, noch 1 Std.", "jusqu’à 15:50, encore 1 h"},
		{200 * time.Minute, "until 18:10, 3 h 20 min left", "until 6:10 PM, 3 h 20 min left", "bis 18:10, noch 3 Std. 20 Min.", "jusqu’à 18:10, encore 3 h 20 min"},
		{morning, "until tomorrow 08:10, 17 h 20 min left", "until tomorrow 8:10 AM, 17 h 20 min left", "bis morgen 08:10, noch 17 Std. 20 Min.", "jusqu’à demain 08:10, encore 17 h 20 min"},
		{d, "until tomorrow 14:50, 1 day left", "until tomorrow 2:50 PM, 1 day left", "bis morgen 14:50, noch 1 Tag", "jusqu’à demain 14:50, encore 1 jour"},
		{morning + d, "until Wednesday 08:10, 1 day 17 h left", "until Wednesday 8:10 AM, 1 day 17 h left", "bis Mittwoch 08:10, noch 1 Tag 17 Std.", "jusqu’à mercredi 08:10, encore 1 jour 17 h"},
		{2 * d, "until Wednesday 14:50, 2 days left", "until Wednesday 2:50 PM, 2 days left", "bis Mittwoch 14:50, noch 2 Tage", "jusqu’à mercredi 14:50, encore 2 jours"},
		{7 * d, "until 30 Nov 14:50, 7 days left", "until Nov 30 2:50 PM, 7 days left", "bis 30. Nov. 14:50, noch 7 Tage", "jusqu’au 30 nov. 14:50, encore 7 jours"},
		{40 * d, "until 2 Jan 2027 14:50, 40 days left", "until Jan 2, 2027 2:50 PM, 40 days left", "bis 2. Jan. 2027 14:50, noch 40 Tage", "jusqu’au 2 janv. 2027 14:50, encore 40 jours"},
	} {
		for lang, want := range map[string]string{"en-GB": c.english, "en-US": c.american, "de": c.de, "fr": c.fr} {
			f := change(func(f *ui.Facts) { f.Expires = in(c.left) })
			got := find(t, ui.Picture(f, now, ui.NewPrinter(lang, berlin(t))).Menu, "ticket").Label
			if !strings.HasSuffix(got, " "+want) {
				t.Errorf("%v, %s: got %q, want %q", c.left, lang, got, want)
			}
		}
	}
}

func TestPastTimes(t *testing.T) {
	const d = 24 * time.Hour
	for ago, want := range map[time.Duration]map[string]string{
		time.Hour: {"en": "at 13:50", "en-US": "at 1:50 PM", "de": "um 13:50", "fr": "à 13:50"},
		d:         {"en": "yesterday at 14:50", "en-US": "yesterday at 2:50 PM", "de": "gestern um 14:50", "fr": "hier à 14:50"},
		2 * d:     {"en": "on 21 Nov at 14:50", "en-US": "on Nov 21 at 2:50 PM", "de": "am 21. Nov. um 14:50", "fr": "le 21 nov. à 14:50"},
		366 * d:   {"en": "on 22 Nov 2025 at 14:50", "de": "am 22. Nov. 2025 um 14:50", "fr": "le 22 nov. 2025 à 14:50"},
	} {
		for lang, words := range want {
			f := change(func(f *ui.Facts) { f.Expires = in(-ago) })
			got := find(t, ui.Picture(f, now, ui.NewPrinter(lang, berlin(t))).Menu, "ticket").Label
			if !strings.HasSuffix(got, " "+words) {
				t.Errorf("%v ago, %s: got %q, want %q", ago, lang, got, words)
			}
		}
	}
}

// TestDaylightSaving: the day on which the clock goes back has 25 hours, and
// tomorrow is tomorrow all the same.
func TestDaylightSaving(t *testing.T) {
	zone := berlin(t)
	f := change(func(f *ui.Facts) { f.Expires = time.Date(2026, 10, 25, 23, 30, 0, 0, zone) })
	saturday := time.Date(2026, 10, 24, 23, 0, 0, 0, zone)
	got := find(t, ui.Picture(f, saturday, ui.NewPrinter("en", zone)).Menu, "ticket").Label
	if want := "Ticket until tomorrow 23:30, 1 day 1 h left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNotCopied(t *testing.T) {
	for lang, want := range map[string]string{"en": "could not be copied", "de": "Kopieren ging", "fr": "copie est impossible"} {
		title, body := ui.NewPrinter(lang, nil).NotCopied("http://127.0.0.1:5372")
		if !strings.HasSuffix(title, ": http://127.0.0.1:5372") || !strings.Contains(body, want) {
			t.Errorf("%s: got %q, %q", lang, title, body)
		}
	}
}
