package main

import (
	"context"
	"slices"
	"strings"

	organisation "kerbpass/internal/policy"
	"kerbpass/internal/settings"
)

// policySource is where this call's policies come from.
func (c *cli) policySource() *organisation.Source {
	if c.policy == nil {
		c.policy = organisation.System()
	}
	return c.policy
}

// managed is what a source says, as the settings take it.
func managed(s *organisation.Source) func() settings.Managed {
	return func() settings.Managed {
		p := s.Read()
		m := settings.Managed{Locked: ruled(p.Locked), Preset: ruled(p.Preset), Broken: p.Broken()}
		for _, x := range p.Problems {
			m.Problems = append(m.Problems, settings.Problem{File: x.Name, Line: x.Line, Column: x.Column, Text: x.Text, Hint: x.Hint, Warning: !x.Broken})
		}
		return m
	}
}

func ruled(values []organisation.Value) map[string]settings.Ruled {
	all := make(map[string]settings.Ruled, len(values))
	for _, v := range values {
		if _, ok := all[v.Key]; !ok { // the strongest comes first
			all[v.Key] = settings.Ruled{Value: v.Raw, Name: v.Name}
		}
	}
	return all
}

// watchPolicy has the settings read again when the organisation changes its
// mind.
func (a *app) watchPolicy(ctx context.Context) error {
	if a.cfg.policy != nil {
		err := a.cfg.policy.Watch(ctx, func() {
			a.cfg.store.Reload() // what it reports is in the snapshot
		})
		if err != nil {
			a.log.Warn("policies are not watched, a change counts within half a minute", "err", err)
		}
	}
	<-ctx.Done()
	return nil
}

// theSwitch is the setting that a pause would go round.
const theSwitch = "kerberos.enabled"

// mayPause refuses a pause where the switch is not the person's own.
func mayPause(snap *settings.Snapshot) error {
	err := snap.Refused(theSwitch)
	if err == nil {
		return nil
	}
	return caused(failf(exitFailed, lockedHint, "Not paused: %v.", err), err)
}

const lockedHint = "Change it where it is set, or ask your help desk."

// byOrganisation returns the keys that a policy decides, sorted.
func byOrganisation(all map[string]settings.Described) (locked, preset []string) {
	for key, d := range all {
		switch {
		case d.Source != string(settings.SourcePolicy):
		case d.Locked:
			locked = append(locked, key)
		default:
			preset = append(preset, key)
		}
	}
	slices.Sort(locked)
	slices.Sort(preset)
	return locked, preset
}

// organisationSays is a sentence about the keys that a policy decides, "" where
// it decides none.
func organisationSays(all map[string]settings.Described) string {
	locked, preset := byOrganisation(all)
	var parts []string
	if len(locked) > 0 {
		parts = append(parts, "Set by your organisation: "+strings.Join(locked, ", ")+".")
	}
	if len(preset) > 0 {
		parts = append(parts, "Preset by your organisation: "+strings.Join(preset, ", ")+".")
	}
	return strings.Join(parts, " ")
}
