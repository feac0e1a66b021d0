package apps

import (
	"errors"
	"fmt"
	"strings"
)

// lines is the family of formats with one "key = value" on a line: INI and its
// relatives, Java properties, rc files.
type lines struct {
	comment   string // characters that begin a comment line
	sep       string // characters that may stand between key and value
	sections  bool
	fold      bool // letter case of sections and keys does not count
	dashes    bool // "-" and "_" are the same; leading ones do not count
	bare      bool // a key may stand without a value
	continued bool // a backslash at the end continues a line
	indented  bool // an indented line continues a value
	inline    bool // a comment may stand behind a value
	short     map[string]string
	render    func(key, value string) string
}

var (
	equals = func(key, value string) string { return key + " = " + value }
	tight  = func(key, value string) string { return key + "=" + value }
	quote  = func(key, value string) string { return key + ` = "` + value + `"` }
	spaced = func(key, value string) string { return key + ` "` + value + `"` }

	gitFormat    = lines{comment: "#;", sep: "=", sections: true, fold: true, bare: true, continued: true, inline: true, render: func(k, v string) string { return "\t" + k + " = " + v }}
	pipFormat    = lines{comment: "#;", sep: "=:", sections: true, fold: true, indented: true, dashes: true, render: equals}
	npmFormat    = lines{comment: "#;", sep: "=", sections: true, bare: true, render: tight}
	yarnFormat   = lines{comment: "#", sep: " \t", render: spaced}
	gradleFormat = lines{comment: "#!", sep: "=: \t", bare: true, continued: true, render: tight}
	curlFormat   = lines{comment: "#", sep: "=: \t", bare: true, dashes: true, short: map[string]string{"x": "proxy"}, render: quote}
	wgetFormat   = lines{comment: "#", sep: "=", fold: true, dashes: true, render: equals}
	envFormat    = lines{comment: "#;", sep: "=", continued: true, render: tight}
)

// A line is one physical line: where it begins, and its text without line end.
type line struct {
	at   int
	text string
	end  int // behind the line end
}

func splitLines(text string) (all []line) {
	at := 0
	for s := range strings.Lines(text) {
		body := strings.TrimRight(s, "\r\n")
		all = append(all, line{at, body, at + len(s)})
		at += len(s)
	}
	if len(all) > 0 {
		all[0].text = strings.TrimPrefix(all[0].text, bom)
	}
	return all
}

// walk calls section for each header, with where the line ends, and value for
// each key.
func (f lines) walk(text string, section func(name string, l line), value func(section, key, value string)) error {
	name, open := "", false // open: the value goes on
	key, val := "", ""
	flush := func() {
		if key != "" {
			if f.inline {
				val = f.withoutComment(val)
			}
			value(name, key, f.unquote(val))
		}
		key, val = "", ""
	}
	for n, l := range splitLines(text) {
		body := strings.TrimSpace(l.text)
		if open || f.indented && key != "" && body != "" && l.text != strings.TrimLeft(l.text, " \t") {
			val += "\n" + body
			if open = f.continues(l.text); open {
				val = strings.TrimSuffix(val, `\`)
			}
			continue
		}
		if body == "" || strings.ContainsRune(f.comment, rune(body[0])) {
			continue
		}
		flush()
		if f.sections && body[0] == '[' {
			head, rest, ok := strings.Cut(body[1:], "]")
			if i := strings.LastIndex(body, `"]`); ok && i >= 0 && strings.Contains(head, `"`) { // [http "https://[::1]/"]
				head, rest = body[1:i+1], body[i+2:]
			}
			if !ok {
				return fmt.Errorf("line %d is no section", n+1)
			}
			if head = strings.TrimSpace(head); f.fold && !strings.Contains(head, `"`) {
				head = strings.ToLower(head)
			}
			if name = head; section != nil {
				section(name, l)
			}
			if body = strings.TrimSpace(rest); body == "" || strings.ContainsRune(f.comment, rune(body[0])) {
				continue
			}
		}
		i := strings.IndexAny(body, f.sep)
		if i < 0 && !f.bare {
			return fmt.Errorf("line %d is not understood", n+1)
		}
		if key, val = body, ""; i >= 0 {
			key, val = body[:i], strings.TrimLeft(body[i:], " \t")
			if val != "" && strings.ContainsRune(f.sep, rune(val[0])) {
				val = strings.TrimLeft(val[1:], " \t")
			}
		}
		key = f.canonical(key)
		if key == "" {
			return fmt.Errorf("line %d has no key", n+1)
		}
		if open = f.continues(l.text); open {
			val = strings.TrimSuffix(strings.TrimSpace(val), `\`)
		}
	}
	if open {
		return errors.New("the last line is not ended")
	}
	flush()
	return nil
}

func (f lines) continues(text string) bool {
	return f.continued && (len(text)-len(strings.TrimRight(text, `\`)))%2 == 1
}

func (f lines) canonical(key string) string {
	key = strings.TrimSpace(key)
	if f.dashes {
		key = strings.ReplaceAll(strings.TrimLeft(key, "-"), "_", "-")
	}
	if f.fold {
		key = strings.ToLower(key)
	}
	if long, ok := f.short[key]; ok {
		key = long
	}
	return strings.Trim(key, `"`)
}

// withoutComment drops what stands behind a value.
func (f lines) withoutComment(v string) string {
	quoted := false
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '\\':
			i++
		case v[i] == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(f.comment, v[i]) >= 0:
			return v[:i]
		}
	}
	return v
}

func (lines) unquote(v string) string {
	v = strings.TrimSpace(v)
	if n := len(v); n >= 2 && (v[0] == '"' || v[0] == '\'') && v[n-1] == v[0] && strings.Count(v, v[:1]) == 2 {
		return v[1 : n-1]
	}
	return v
}

func (f lines) parse(text string) (all []entry, err error) {
	err = f.walk(text, nil, func(section, key, value string) {
		if section != "" {
			key = section + "." + key
		}
		all = append(all, entry{key, value})
	})
	return all, err
}

// insert puts settings of a section right below its head, those without one
// before the first section. All of them are in the same section.
func (f lines) insert(text string, set []setting) (edits []edit, added []entry, err error) {
	if len(set) == 0 {
		return nil, nil, nil
	}
	section := ""
	var heads []line
	if f.sections {
		section, _ = cutSection(set[0].key)
		err = f.walk(text, func(name string, l line) {
			if name == section || section == "" && len(heads) == 0 {
				heads = append(heads, l)
			}
		}, func(string, string, string) {})
		if err != nil {
			return nil, nil, err
		}
	}
	end := eol(text)
	var b strings.Builder
	for _, s := range set {
		key := s.key
		if f.sections {
			var in string
			if in, key = cutSection(key); in != section {
				return nil, nil, errors.New("two sections")
			}
		}
		b.WriteString(f.render(key, s.value) + end)
		added = append(added, entry{s.key, s.value})
	}
	switch {
	case len(heads) == 0 && section != "":
		return []edit{atEnd(text, "["+section+"]"+end+b.String())}, added, nil
	case len(heads) == 0:
		return []edit{atEnd(text, b.String())}, added, nil
	case section == "":
		return []edit{{heads[0].at, b.String()}}, added, nil
	}
	head := heads[0]
	if f.indented && strings.TrimLeft(text[head.end:], " \t") != text[head.end:] {
		return nil, nil, errors.New("what stands below the section's head is indented")
	}
	if head.end == len(text) && !strings.HasSuffix(text, "\n") {
		return []edit{atEnd(text, b.String())}, added, nil
	}
	return []edit{{head.end, b.String()}}, added, nil
}

// cutSection splits "http.proxy"; a key without a dot has no section.
func cutSection(key string) (section, name string) {
	if s, k, ok := strings.Cut(key, "."); ok {
		return s, k
	}
	return "", key
}

// A block is lines of a shell's profile between two marks.
type block struct{ comment, begin, end string }

var (
	shellBlock = block{"#", "# >>> kerbpass: taken out by kerbpass apps revert", "# <<< kerbpass"}
	noBlock    = block{"#", "", ""} // a file of our own
)

// parse makes an entry of every line, for shells cannot be understood.
func (b block) parse(text string) (all []entry, err error) {
	for _, l := range splitLines(text) {
		body := strings.TrimSpace(l.text)
		if body == "" {
			continue
		}
		all = append(all, entry{"", body})
	}
	return all, nil
}

func (b block) insert(text string, set []setting) ([]edit, []entry, error) {
	end := eol(text)
	for n, l := range splitLines(text) {
		if strings.HasSuffix(l.text, `\`) && l.end == len(text) {
			return nil, nil, fmt.Errorf("line %d, the last, is not ended", n+1)
		}
	}
	var all []string
	if b.begin != "" {
		all = append(all, b.begin)
	}
	for _, s := range set {
		all = append(all, s.value)
	}
	if b.end != "" {
		all = append(all, b.end)
	}
	var added []entry
	for _, l := range all {
		added = append(added, entry{"", l})
	}
	return []edit{atEnd(text, strings.Join(all, end)+end)}, added, nil
}

// yaml is YAML as far as its first level goes: a mapping of plain keys, whose
// values are not looked into.
type yaml struct{}

func (yaml) parse(text string) (all []entry, err error) {
	for n, l := range splitLines(text) {
		body := strings.TrimRight(l.text, " \t")
		switch {
		case body == "" || body[0] == '#':
		case body[0] == ' ' || body[0] == '\t' || body == "-" || strings.HasPrefix(body, "- "):
			if len(all) == 0 {
				return nil, fmt.Errorf("line %d is not understood", n+1)
			}
			all[len(all)-1].Value += "\n" + body
		default:
			key, value, ok := strings.Cut(body, ":")
			plain := strings.Trim(key, `"'`)
			if !ok || strings.ContainsAny(plain, " \t\"'{}[]&*!|>%@`#,?") || value != "" && value[0] != ' ' && value[0] != '\t' {
				return nil, fmt.Errorf("line %d is not understood", n+1)
			}
			if _, twice := lookup(all, plain); twice {
				return nil, fmt.Errorf("%s stands there twice", plain)
			}
			value = strings.TrimSpace(value)
			if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
				value = value[1 : n-1]
			}
			all = append(all, entry{plain, value})
		}
	}
	return all, nil
}

// insert puts keys at the end, where a line that is not indented ends whatever
// is open before.
func (yaml) insert(text string, set []setting) (edits []edit, added []entry, err error) {
	end := eol(text)
	var b strings.Builder
	for _, s := range set {
		if first, rest, deep := strings.Cut(s.value, "\n"); deep {
			b.WriteString(s.key + ":" + first + end + strings.ReplaceAll(rest, "\n", end) + end)
		} else {
			b.WriteString(s.key + `: "` + s.value + `"` + end)
		}
		added = append(added, entry{s.key, s.value})
	}
	return []edit{atEnd(text, b.String())}, added, nil
}
