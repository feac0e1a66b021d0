package ui

import (
	"strings"
	"unicode"
	"unicode/utf16"
)

// longestName is how much of a name from outside a label shows.
const longestName = 44

// name makes a name from outside fit to stand in a label.
func name(s string) string { return shorten(clean(s), longestName) }

// clean returns s as one line of text that shows in the order it was written:
// without control characters, without the invisible ones that turn or break
// the line, and with single spaces.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r), r == '\u2028', r == '\u2029':
			return ' '
		case unicode.In(r, unicode.Cf, unicode.Co):
			return -1
		default:
			return r
		}
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// shorten cuts the middle out of what has more than longest characters,
// because names differ at both ends.
func shorten(s string, longest int) string {
	runes := []rune(s)
	if len(runes) <= longest {
		return s
	}
	tail := (longest - 1) / 2
	head := longest - 1 - tail
	end := runes[len(runes)-tail:]
	for len(end) > 0 && unicode.Is(unicode.M, end[0]) {
		end = end[1:] // an accent without its letter would sit on the dots
	}
	return string(runes[:head]) + "…" + string(end)
}

// cut ends s with "…" if it has more than longest UTF-16 units, which is what
// Windows counts in, and does not split a character.
func cut(s string, longest int) string {
	if len(utf16.Encode([]rune(s))) <= longest {
		return s
	}
	kept, units := 0, 1 // for the dots
	for i, r := range s {
		if units += utf16.RuneLen(r); units > longest {
			break
		}
		kept = i + len(string(r))
	}
	return s[:kept] + "…"
}
