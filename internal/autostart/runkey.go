package autostart

import "strings"

// commandLine joins argv so that a Windows program finds it as it was. Every
// word is quoted: an unquoted path with a space in it starts whatever lies at
// its first part.
func commandLine(argv []string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		quoted[i] = quoteWindows(arg)
	}
	return strings.Join(quoted, " ")
}

// quoteWindows doubles backslashes only before a quotation mark, where alone
// they are special.
func quoteWindows(arg string) string {
	var b strings.Builder
	b.WriteByte('"')
	slashes := 0
	for _, c := range []byte(arg) {
		switch c {
		case '\\':
			slashes++
		case '"':
			b.WriteString(strings.Repeat(`\`, slashes+1))
			slashes = 0
		default:
			slashes = 0
		}
		b.WriteByte(c)
	}
	b.WriteString(strings.Repeat(`\`, slashes) + `"`)
	return b.String()
}

// splitCommandLine finds words as Windows programs do, apart from two quotation
// marks in a row, which they read differently. The program's own path ends at
// the next quotation mark, without escapes.
func splitCommandLine(s string) []string {
	s = strings.TrimLeft(s, " \t")
	if s == "" {
		return nil
	}
	var program string
	if strings.HasPrefix(s, `"`) {
		program, s, _ = strings.Cut(s[1:], `"`)
	} else if i := strings.IndexAny(s, " \t"); i >= 0 {
		program, s = s[:i], s[i:]
	} else {
		program, s = s, ""
	}
	return append([]string{program}, splitArguments(s)...)
}

func splitArguments(s string) []string {
	var argv []string
	var arg strings.Builder
	started, quoted, slashes := false, false, 0
	flush := func(n int) { arg.WriteString(strings.Repeat(`\`, n)); slashes = 0 }
	for _, c := range []byte(s) {
		switch {
		case c == '\\':
			slashes++
			started = true
		case c == '"':
			escaped := slashes%2 == 1
			flush(slashes / 2)
			if escaped {
				arg.WriteByte(c)
			} else {
				quoted = !quoted
			}
			started = true
		case !quoted && (c == ' ' || c == '\t'):
			flush(slashes)
			if started {
				argv = append(argv, arg.String())
				arg.Reset()
				started = false
			}
		default:
			flush(slashes)
			arg.WriteByte(c)
			started = true
		}
	}
	flush(slashes)
	if started {
		argv = append(argv, arg.String())
	}
	return argv
}

// turnedOff reads a value below StartupApproved, where Windows remembers what
// the user said in the Task Manager. Its first byte is even (2, 6) for on and
// odd (3) for off; nothing there means on.
func turnedOff(approved []byte) bool { return len(approved) > 0 && approved[0]&1 == 1 }
