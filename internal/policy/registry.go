package policy

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// key is what was found in a key of the registry.
type key struct {
	values map[string]any // string, []string, uint64; an error says why a value is none of these
	keys   map[string]key
}

// ofRegistry understands Software\Policies\Kerbpass as templates write it: a
// value for each setting, for a list also a key with a value for each entry,
// and [recommended] with the same below it for what is only preset. Names do
// not differ by case.
func ofRegistry(name string, k key) (p Policy) {
	for sub, presets := range k.keys {
		if strings.EqualFold(sub, recommended) {
			var problems []Problem
			p.Preset, problems = presets.settings(name + `\` + sub)
			for i := range problems {
				problems[i].Broken = false // a preset is no rule
			}
			p.Problems = append(p.Problems, problems...)
		}
	}
	locked, problems := k.settings(name)
	p.Locked, p.Problems = locked, append(p.Problems, problems...)
	return p
}

func (k key) settings(name string) (all []Value, problems []Problem) {
	for _, setting := range slices.Sorted(maps.Keys(k.values)) {
		if setting == "" { // the key's default value says nothing
			continue
		}
		v := Value{Key: strings.ToLower(setting), Name: name}
		switch raw := k.values[setting].(type) {
		case string:
			v.Raw = raw
		case []string:
			v.Raw = anyList(raw)
		case uint64:
			switch v.Raw = int64(raw); raw { // REG_DWORD is how a policy says yes and no
			case 0:
				v.Raw = false
			case 1:
				v.Raw = true
			}
		case error:
			problems = append(problems, Problem{Name: name, Text: fmt.Sprintf("the value %s: %v", setting, raw),
				Hint: "Use REG_SZ, REG_DWORD or REG_MULTI_SZ", Broken: true})
			continue
		}
		all = append(all, v)
	}
	for _, setting := range slices.Sorted(maps.Keys(k.keys)) {
		if strings.EqualFold(setting, recommended) {
			continue
		}
		entries, err := k.keys[setting].list()
		if err != nil {
			problems = append(problems, Problem{Name: name + `\` + setting, Text: err.Error(), Hint: "Use REG_SZ for each entry", Broken: true})
			continue
		}
		all = append(all, Value{strings.ToLower(setting), anyList(entries), name + `\` + setting})
	}
	return all, problems
}

// list returns the entries in the order of their names, numbers by their size.
func (k key) list() (entries []string, err error) {
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		if err != nil {
			return int(^uint(0) >> 1)
		}
		return n
	}
	names := slices.SortedFunc(maps.Keys(k.values), func(a, b string) int {
		if d := number(a) - number(b); d != 0 && number(a) >= 0 && number(b) >= 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		if name == "" {
			continue
		}
		s, ok := k.values[name].(string)
		if !ok {
			return nil, fmt.Errorf("the entry %s is not a text", name)
		}
		entries = append(entries, s)
	}
	return entries, nil
}

func anyList(list []string) []any {
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return all
}
