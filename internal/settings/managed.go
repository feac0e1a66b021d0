package settings

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Managed is what the organisation has laid down, as the caller has read it.
//
// A locked value decides; nobody else is asked. A preset counts where flags,
// environment and file say nothing.
//
// What cannot be understood is not passed over. Until it is mended the last
// good policy counts. Where none is known, because the program has started only
// now, no token is sent to any proxy: [Snapshot.Withheld]. The reason is that a
// policy says where tokens may go, who may use them, and whether they are made
// at all. Without it the person's file, or a variable that some program has
// set, would say so, and whoever can damage a policy would have lifted it.
// Losing the way through the proxy for an hour is seen at once and mended;
// a token at a stranger's proxy is neither. Only a preset may be unusable
// without that: the person was free to change it anyway.
type Managed struct {
	Locked   map[string]Ruled // by key
	Preset   map[string]Ruled // by key
	Problems []Problem        // of its sources
	Broken   bool             // a rule may be missing, for a reason in Problems
}

// Ruled is one value of a policy.
type Ruled struct {
	Value any    // as of [Config.Flags], or as TOML has it
	Name  string // where it stands: a file, a key of the registry
}

// Organisation is what people are told sets a value of a policy.
const organisation = "your organisation"

// Refused returns why the key cannot be edited, an [ErrLocked], or nil.
func (s *Snapshot) Refused(key string) error {
	o := s.Origins[key]
	switch {
	case !o.Locked:
		return nil
	case o.Source == SourcePolicy:
		return refuse(ErrLocked, "%s is set by %s (%s)", key, organisation, o.Name)
	}
	return refuse(ErrLocked, "%s is set by %s", key, o.Name)
}

// rules are the policy that one build goes by.
type rules struct {
	Managed
	problems []Problem
	last     map[string]any // what counted of locked values
	kept     map[string]any // what counts of them now
	closed   string         // where the rule stands that is missing; "" none is
}

func (r *rules) locks(key string) bool {
	_, ok := r.Locked[key]
	return ok
}

// lastRules is what is known of the policy from one reload to the next.
type lastRules struct {
	good *Managed       // nil: none was, so far
	kept map[string]any // locked values that counted, by key
}

// read asks for the policy, and takes the last good one where it is broken.
func (l *lastRules) read(ask func() Managed) *rules {
	r := &rules{last: l.kept, kept: map[string]any{}}
	if ask == nil {
		return r
	}
	r.Managed = ask()
	until := "; until then no token is sent to any proxy."
	if r.Broken && l.good != nil {
		until = "; until then the last good policy counts."
		r.Locked, r.Preset = l.good.Locked, l.good.Preset
	}
	for _, p := range r.Problems {
		p.Source = SourcePolicy
		if p.Warning {
			p.Hint += "."
		} else {
			p.Hint += until
			if l.good == nil && r.closed == "" {
				r.closed = p.File
			}
		}
		r.problems = append(r.problems, p)
	}
	if r.Broken && l.good == nil && r.closed == "" {
		r.closed = "managed policy"
	}
	r.Locked, r.Preset = r.known(r.Locked), r.known(r.Preset)
	if !r.Broken {
		l.good = &r.Managed
	}
	return r
}

func (l *lastRules) keep(r *rules) { l.kept = r.kept }

// known returns the settings of a layer and warns of keys that are none. Those
// do not make a policy broken: one that is written for a newer version must not
// stop an older one.
func (r *rules) known(layer map[string]Ruled) map[string]Ruled {
	var keys []string
	for i := range table {
		keys = append(keys, table[i].Key)
	}
	settings := make(map[string]Ruled, len(layer))
	for _, key := range slices.Sorted(maps.Keys(layer)) {
		if settingFor(key) != nil {
			settings[key] = layer[key]
			continue
		}
		if outer := slices.IndexFunc(keys, func(k string) bool { return strings.HasPrefix(key, k+".") }); outer >= 0 {
			settings[keys[outer]] = Ruled{map[string]any{}, layer[key].Name} // a table in place of a value, which use refuses
			continue
		}
		if len(r.problems) >= maxWarnings {
			continue
		}
		p := Problem{Key: key, Source: SourcePolicy, Warning: true, Text: fmt.Sprintf("%s: unknown setting %s: it has no effect", layer[key].Name, shown(key)),
			Hint: "Ask your help desk to correct it, or update the program."}
		if n := nearest(key, keys); n != "" {
			p.Hint = "Perhaps " + n + " is meant."
		}
		r.problems = append(r.problems, p)
	}
	return settings
}

// usePolicy judges what the organisation says. A locked value that cannot be
// used is a missing rule.
func (b *builder) usePolicy(k *setting, c candidate, value any, errs []error) (any, bool) {
	list, isList := value.([]string)
	switch {
	case isList && len(list) == 0 && len(errs) > 0:
		value = nil // nothing is left, which for some lists means everything
	case isList && k.Key == "upstream":
		if list = b.withoutSelf(k, c, list, len(errs) > 0); len(list) > 0 {
			value = list
			break
		}
		if value = nil; len(errs) == 0 {
			errs = append(errs, fmt.Errorf("the list names no upstream that can be used"))
		}
	}
	hint := "Ask your help desk to correct it; until then it is ignored."
	switch last, known := b.rules.last[k.Key]; {
	case !c.origin.Locked, value != nil:
	case known:
		value, hint = last, "Ask your help desk to correct it; until then the value it had before counts."
	default:
		hint = "Ask your help desk to correct it; until then no token is sent to any proxy."
		if b.rules.closed == "" {
			b.rules.closed = c.origin.Name
		}
	}
	for _, err := range errs {
		b.report(k, c, -1, Problem{Text: err.Error(), Hint: hint})
	}
	if value == nil {
		return nil, false
	}
	if c.origin.Locked {
		b.rules.kept[k.Key] = value
	}
	return value, true
}

// withhold keeps tokens from everybody where a rule is missing.
func (b *builder) withhold() {
	if b.rules.closed == "" {
		return
	}
	b.snap.Withheld = true
	b.snap.KerberosEnabled = false
	b.snap.Origins["kerberos.enabled"] = Origin{Source: SourcePolicy, Name: b.rules.closed, Locked: true}
}
