package policy

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"howett.net/plist"
)

// recommended is the part of a plist, or the key of the registry, that holds
// the presets; what stands beside it is locked.
const recommended = "Recommended"

// parsePlist understands managed preferences, XML or binary.
func parsePlist(name string, data []byte) (p Policy) {
	tree := map[string]any{}
	_, err := plist.Unmarshal(data, &tree)
	if len(data) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return Policy{Problems: []Problem{{Name: name, Text: "the file cannot be read as a property list: " + err.Error(), Hint: "Install the profile again", Broken: true}}}
	}
	values := func(tree map[string]any) (all []Value) {
		for _, key := range slices.Sorted(maps.Keys(tree)) {
			if !strings.HasPrefix(key, "Payload") { // the profile's own
				all = append(all, Value{key, ofPlist(tree[key]), name})
			}
		}
		return all
	}
	if presets, ok := tree[recommended]; ok {
		table, ok := presets.(map[string]any)
		if !ok {
			p.Problems = append(p.Problems, Problem{Name: name, Text: recommended + " is not a dictionary", Hint: "Correct the profile"})
		}
		p.Preset = values(table)
		delete(tree, recommended)
	}
	p.Locked = values(tree)
	return p
}

func ofPlist(v any) any {
	switch n := v.(type) {
	case uint64:
		return int64(n)
	case int64:
		return n
	}
	return known(v)
}
