package ui_test

import (
	"fmt"
	"strings"
	"testing"

	"kerbpass/internal/ui"
)

// contract is the list of causes that programs are promised.
var contract = strings.Fields(`no_ticket ticket_expired kdc_unreachable spn_unknown clock_skew ntlm_instead_of_kerberos
	negotiate_not_offered token_refused token_too_large kerberos_off kerberos_unavailable upstream_unreachable upstream_unresolved
	upstream_tls upstream_not_allowed destination_unreachable destination_unresolved timeout loop_detected bad_request not_your_user
	body_not_replayable no_password password_in_clear policy internal`)

// TestCauses: every cause of the contract has words of its own in every
// language.
func TestCauses(t *testing.T) {
	for _, lang := range languages {
		p := ui.NewPrinter(lang, berlin(t))
		unknown, _ := p.Cause("flux_capacitor", "")
		seen := map[string]string{unknown: "unknown"}
		for _, cause := range contract {
			sentence, hint := p.Cause(cause, "")
			if before, twice := seen[sentence]; twice {
				t.Errorf("%s: %s says the same as %s: %q", lang, cause, before, sentence)
			}
			seen[sentence] = cause
			if hint == "" || strings.Contains(sentence+hint, cause) && strings.Contains(cause, "_") {
				t.Errorf("%s: %s: %q %q", lang, cause, sentence, hint)
			}
			detailed, _ := p.Cause(cause, " host.example\n")
			if want := sentence + " (host.example)"; detailed != want {
				t.Errorf("%s: %s: got %q, want %q", lang, cause, detailed, want)
			}
		}
	}
}

// TestReminders compares each reminder in each language with what was agreed.
func TestReminders(t *testing.T) {
	about := []struct {
		name, stage string
		facts       ui.Facts
	}{
		{"expiring, renewable", "expiring", change(func(f *ui.Facts) { f.Expires = in(20 * 60e9) })},
		{"expiring, to the end of its renewals", "expiring", change(func(f *ui.Facts) { f.Expires, f.RenewUntil = in(20*60e9), now })},
		{"expiring, the system signs in", "expiring", change(func(f *ui.Facts) { f.Expires, f.Renewable, f.CanSignIn = in(60e9), false, false })},
		{"expired", "expired", change(expired)},
		{"expired, the system signs in", "expired", change(func(f *ui.Facts) { expired(f); f.CanSignIn = false })},
		{"expired, of unknown end", "expired", ui.Facts{CanSignIn: true}},
		{"signed in again", "valid", healthy()},
	}
	for _, lang := range languages {
		p := ui.NewPrinter(lang, berlin(t))
		var b strings.Builder
		for _, r := range about {
			title, body, actions := p.Reminder(r.stage, r.facts, now)
			fmt.Fprintf(&b, "== %s\n%s\n%s\n", r.name, title, body)
			for _, a := range actions {
				fmt.Fprintf(&b, "    %s: %s\n", a.Command, a.Label)
			}
			b.WriteByte('\n')
		}
		compareGolden(t, "reminders-"+lang, b.String())
		for _, stage := range []string{"none", "unavailable", "", "made up"} {
			if title, body, actions := p.Reminder(stage, healthy(), now); title != "" || body != "" || actions != nil {
				t.Errorf("%s: stage %q: got %q %q %v, want nothing", lang, stage, title, body, actions)
			}
		}
	}
}
