package apps

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// jsonc is JSON, with comments and trailing commas where the program allows
// them. The keys of settings are JSON pointers (RFC 6901) without the first
// slash; all of one call are in the same object.
type jsonc struct{ comments bool }

// A node is a value and where it stands.
type node struct {
	kind       byte // '{', '[' or 's', a scalar
	start, end int
	members    []member // of an object
	items      []node   // of an array
	raw        string   // of a scalar
}

type member struct {
	key   string
	start int
	value node
}

type scanner struct {
	text     string
	at       int
	comments bool
}

func (s *scanner) fail(what string) error {
	return fmt.Errorf("line %d: %s", 1+strings.Count(s.text[:min(s.at, len(s.text))], "\n"), what)
}

// space skips white space, and comments.
func (s *scanner) space() error {
	for s.at < len(s.text) {
		rest := s.text[s.at:]
		switch {
		case strings.ContainsRune(" \t\r\n", rune(rest[0])):
			s.at++
		case s.comments && strings.HasPrefix(rest, "//"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			s.at += n
		case s.comments && strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest[2:], "*/")
			if n < 0 {
				return s.fail("a comment is not ended")
			}
			s.at += n + 4
		default:
			return nil
		}
	}
	return nil
}

func (s *scanner) str() (string, error) {
	start := s.at
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '\n':
			return "", s.fail("a string is not ended")
		case '"':
			s.at++
			var v string
			err := json.Unmarshal([]byte(s.text[start:s.at]), &v)
			return v, err
		}
	}
	return "", s.fail("a string is not ended")
}

func (s *scanner) value(depth int) (n node, err error) {
	if err := s.space(); err != nil {
		return n, err
	}
	if s.at >= len(s.text) {
		return n, s.fail("it ends too early")
	}
	if depth > 100 {
		return n, s.fail("it is nested too deeply")
	}
	n.start = s.at
	switch c := s.text[s.at]; c {
	case '{', '[':
		n.kind = c
		s.at++
		for first := true; ; first = false {
			if err := s.space(); err != nil {
				return n, err
			}
			if s.at >= len(s.text) {
				return n, s.fail("it ends too early")
			}
			if s.text[s.at] == c+2 { // } and ] are two behind { and [
				s.at++
				n.end = s.at
				return n, nil
			}
			if !first {
				if s.text[s.at] != ',' {
					return n, s.fail("a comma is missing")
				}
				s.at++
				if err := s.space(); err != nil {
					return n, err
				}
				if s.comments && s.at < len(s.text) && s.text[s.at] == c+2 {
					continue
				}
			}
			if c == '[' {
				v, err := s.value(depth + 1)
				if err != nil {
					return n, err
				}
				n.items = append(n.items, v)
				continue
			}
			m := member{start: s.at}
			if s.at >= len(s.text) || s.text[s.at] != '"' {
				return n, s.fail("a name is missing")
			}
			if m.key, err = s.str(); err != nil {
				return n, err
			}
			if err := s.space(); err != nil {
				return n, err
			}
			if s.at >= len(s.text) || s.text[s.at] != ':' {
				return n, s.fail("a colon is missing")
			}
			s.at++
			if m.value, err = s.value(depth + 1); err != nil {
				return n, err
			}
			for _, other := range n.members {
				if other.key == m.key {
					return n, s.fail(fmt.Sprintf("%q stands there twice", m.key))
				}
			}
			n.members = append(n.members, m)
		}
	case '"':
		n.kind = 's'
		v, err := s.str()
		n.raw, n.end = v, s.at
		return n, err
	}
	n.kind = 's'
	for s.at < len(s.text) && !strings.ContainsRune(" \t\r\n,]}/", rune(s.text[s.at])) {
		s.at++
	}
	n.raw, n.end = s.text[n.start:s.at], s.at
	if !json.Valid([]byte(n.raw)) {
		return n, s.fail("it is no JSON")
	}
	n.raw = "\x00" + n.raw // a number is not the string of its digits
	return n, nil
}

// tree is nil for a text that says nothing.
func (f jsonc) tree(text string) (*node, error) {
	s := &scanner{text: text, comments: f.comments}
	if strings.HasPrefix(text, bom) {
		s.at = len(bom)
	}
	if err := s.space(); err != nil || s.at == len(text) {
		return nil, err
	}
	n, err := s.value(0)
	if err != nil {
		return nil, err
	}
	if err := s.space(); err != nil {
		return nil, err
	}
	if s.at != len(text) {
		return nil, s.fail("something follows its end")
	}
	if n.kind != '{' {
		return nil, errors.New("it is no JSON object")
	}
	return &n, nil
}

var pointer = strings.NewReplacer("~", "~0", "/", "~1")

func (n node) flatten(at string, add func(key, value string)) {
	switch n.kind {
	case 's':
		add(at, n.raw)
	case '{':
		for _, m := range n.members {
			m.value.flatten(at+"/"+pointer.Replace(m.key), add)
		}
	case '[':
		for i, v := range n.items {
			v.flatten(fmt.Sprintf("%s/%d", at, i), add)
		}
		add(at, fmt.Sprintf("\x00[%d]", len(n.items)))
	}
}

func (f jsonc) parse(text string) (all []entry, err error) {
	n, err := f.tree(text)
	if err != nil || n == nil {
		return nil, err
	}
	n.flatten("", func(key, value string) { all = append(all, entry{strings.TrimPrefix(key, "/"), value}) })
	return all, nil
}

func (f jsonc) insert(text string, set []setting) (edits []edit, added []entry, err error) {
	if len(set) == 0 {
		return nil, nil, nil
	}
	for _, s := range set {
		added = append(added, entry{s.key, s.value})
	}
	n, err := f.tree(text)
	if err != nil {
		return nil, nil, err
	}
	path := strings.Split(set[0].key, "/")
	parents := path[:len(path)-1]
	const unit = "  "
	if n == nil {
		if strings.TrimSpace(strings.TrimPrefix(text, bom)) != "" {
			return nil, nil, errors.New("it holds nothing but comments")
		}
		end := eol(text)
		return []edit{{len(text), "{" + end + render(parents, set, unit, unit, end) + end + "}" + end}}, added, nil
	}
	at := *n
	for len(parents) > 0 {
		i := -1
		for j, m := range at.members {
			if pointer.Replace(m.key) == parents[0] {
				i = j
			}
		}
		if i < 0 {
			break
		}
		if at.members[i].value.kind != '{' {
			return nil, nil, fmt.Errorf("%s is not an object", parents[0])
		}
		at, parents = at.members[i].value, parents[1:]
	}
	// In the style of what is there.
	end, step := eol(text), unit
	if len(n.members) > 0 {
		if in, own := indentOf(text, n.members[0].start); own && in != "" {
			step = in
		}
	}
	open := at.start + 1
	if len(at.members) > 0 {
		in, own := indentOf(text, at.members[0].start)
		if !own { // on one line
			return []edit{{open, " " + strings.Join(strings.Fields(render(parents, set, "", "", " ")), " ") + ","}}, added, nil
		}
		return []edit{{open, end + render(parents, set, in, step, end) + ","}}, added, nil
	}
	in, _ := indentOf(text, at.start)
	body := end + render(parents, set, in+step, step, end)
	if !strings.HasPrefix(strings.TrimLeft(text[open:], " \t"), "\n") && !strings.HasPrefix(strings.TrimLeft(text[open:], " \t"), "\r\n") {
		body += end + in
	}
	return []edit{{open, body}}, added, nil
}

// indentOf is the white space that begins the line of at, and whether nothing
// else stands before at.
func indentOf(text string, at int) (string, bool) {
	begin := strings.LastIndexByte(text[:at], '\n') + 1
	head := strings.TrimPrefix(text[begin:at], bom)
	in := head[:len(head)-len(strings.TrimLeft(head, " \t"))]
	return in, begin > 0 && in == head
}

// render is the members for set, inside what is missing of their parents.
func render(parents []string, set []setting, in, step, end string) string {
	if len(parents) > 0 {
		name, _ := json.Marshal(parents[0])
		return in + string(name) + ": {" + end + render(parents[1:], set, in+step, step, end) + end + in + "}"
	}
	var all []string
	for _, s := range set {
		key := s.key[strings.LastIndexByte(s.key, '/')+1:]
		name, _ := json.Marshal(strings.NewReplacer("~1", "/", "~0", "~").Replace(key))
		value, _ := json.Marshal(s.value)
		all = append(all, in+string(name)+": "+string(value))
	}
	return strings.Join(all, ","+end)
}

// tomlFile is TOML, edited as lines and read by the library.
type tomlFile struct{}

var tomlLines = lines{comment: "#", sep: "=", sections: true, bare: true, render: quote}

func (tomlFile) parse(text string) (all []entry, err error) {
	var v map[string]any
	if _, err := toml.Decode(text, &v); err != nil {
		return nil, err
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	if all, err = (jsonc{}).parse(string(b)); err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Key = strings.ReplaceAll(all[i].Key, "/", ".")
	}
	return all, nil
}

// insert trusts the caller to read the result: what the lines get wrong (a
// bracket in a text of several lines) does not pass.
func (tomlFile) insert(text string, set []setting) ([]edit, []entry, error) {
	return tomlLines.insert(text, set)
}
