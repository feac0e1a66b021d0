package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// parseTOML understands a policy file: the tables [locked] and [preset], with
// the keys of the settings file in them.
func parseTOML(name, text string) (p Policy) {
	broken := func(line, column int, format string, args ...any) Policy {
		return Policy{Problems: []Problem{{name, line, column, fmt.Sprintf(format, args...), "Correct the file", true}}}
	}
	if text == "" { // as it is for a moment while it is written, or for ever on a full disk
		return Policy{Problems: []Problem{{Name: name, Text: "the file is empty", Hint: "Delete it, or write at least a comment into it", Broken: true}}}
	}
	text = strings.TrimPrefix(text, "\ufeff")
	tree := map[string]any{}
	if _, err := toml.Decode(text, &tree); err != nil {
		if pe, ok := err.(toml.ParseError); ok {
			line, column := place(text, pe.Position.Start)
			return broken(line, column, "%s", pe.Message)
		}
		return broken(0, 0, "%v", err)
	}
	for _, key := range slices.Sorted(maps.Keys(tree)) {
		table, ok := tree[key].(map[string]any)
		switch {
		case key == "locked" && ok:
			p.Locked = flatten(name, "", table)
		case key == "preset" && ok:
			p.Preset = flatten(name, "", table)
		default:
			return broken(0, 0, "%q stands outside of the tables [locked] and [preset]", key)
		}
	}
	return p
}

// flatten returns the values of a table by their full keys, sorted.
func flatten(name, prefix string, table map[string]any) (all []Value) {
	for _, key := range slices.Sorted(maps.Keys(table)) {
		if sub, ok := table[key].(map[string]any); ok {
			all = append(all, flatten(name, prefix+key+".", sub)...)
			continue
		}
		all = append(all, Value{prefix + key, known(table[key]), name})
	}
	return all
}

// known is v if it has one of the types of [Value.Raw].
func known(v any) any {
	switch v.(type) {
	case bool, int64, string, []any:
		return v
	}
	return nil
}

// place is the line and column of an offset.
func place(text string, offset int) (line, column int) {
	before := text[:min(max(offset, 0), len(text))]
	return 1 + strings.Count(before, "\n"), 1 + len([]rune(before[strings.LastIndexByte(before, '\n')+1:]))
}
