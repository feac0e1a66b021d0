package doctor

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Look says how a report is shown.
type Look struct {
	Width  int  // of a line, in characters; 0 means 80
	Colour bool // the reader is a terminal that understands colour codes
}

// The marks differ as words do; colour only repeats them.
var marks = map[State]struct{ word, colour string }{
	OK: {"ok  ", "32"}, Warn: {"WARN", "33"}, Fail: {"FAIL", "31"}, Skip: {"skip", "2"},
}

// Text renders the report for people: what is broken first, then the whole
// chain. Without Look.Colour there is no control character in it but line ends.
func (r Report) Text(l Look) string {
	if l.Width <= 0 {
		l.Width = 80
	}
	l.Width = max(l.Width, 40)
	var b strings.Builder
	head := strings.Join(nonEmpty("Kerbpass "+r.Version, r.System, r.Time.UTC().Format(time.RFC3339)), ", ")
	l.write(&b, "", "", head)
	b.WriteByte('\n')
	first, found := r.Leading()
	switch {
	case !found && r.Healthy:
		l.write(&b, "", "", "Everything works, from your programs to the world behind the proxy.")
	case !found:
		l.write(&b, "", "", "The examination was not finished.")
	case first.State == Warn:
		l.write(&b, "", "", "It works, but take note: "+first.Title)
	default:
		l.write(&b, "", "", "The first broken link: "+first.Title)
	}
	if found {
		l.explain(&b, "  ", first)
	}
	b.WriteString("\nThe whole chain:\n\n")
	for _, f := range r.Findings {
		m := marks[f.State]
		word := m.word
		if l.Colour {
			word = "\x1b[" + m.colour + "m" + word + "\x1b[0m"
		}
		title := f.Title
		if f.Millis >= 1000 {
			title += fmt.Sprintf(" (%.1f s)", float64(f.Millis)/1000)
		}
		b.WriteString("  " + word + "  ")
		l.write(&b, "        ", "skip", title) // what stands there already is 8 wide
		if found && f.ID == first.ID {
			l.write(&b, "        ", "", "See above.")
		} else {
			l.explain(&b, "        ", f)
		}
	}
	return b.String()
}

// explain writes what was seen, and what to do about it.
func (l Look) explain(b *strings.Builder, indent string, f Finding) {
	l.write(b, indent, "", f.Seen)
	if f.State == OK || f.State == Skip {
		return
	}
	if f.Action != "" {
		l.write(b, indent, "", "What to do: "+f.Action)
	}
	if f.Cause != "" {
		l.write(b, indent, "", "Cause: "+f.Cause)
	}
}

// write puts text into lines, all behind indent; the first starts behind what
// the caller has written there unless begun is "". Words longer than a line
// stay whole: they are names to be copied.
func (l Look) write(b *strings.Builder, indent, begun, text string) {
	used := 0
	if begun != "" {
		used = len(indent)
	}
	empty := true // of words, on this line
	for _, word := range strings.Fields(printable(text)) {
		n := utf8.RuneCountInString(word)
		switch {
		case empty && used == 0:
			b.WriteString(indent)
			used = len(indent)
		case !empty && used+1+n > l.Width:
			b.WriteString("\n" + indent)
			used = len(indent)
		case !empty:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used, empty = used+n, false
	}
	if !empty || begun != "" {
		b.WriteByte('\n')
	}
}

// printable takes out what a terminal would act on: names come from files,
// from the network and from other programs.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, s)
}

func nonEmpty(all ...string) (some []string) {
	for _, s := range all {
		if s = strings.TrimSpace(s); s != "" {
			some = append(some, s)
		}
	}
	return some
}
