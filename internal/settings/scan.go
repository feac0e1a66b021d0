package settings

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// The scanner finds where things stand in a TOML text; what they mean is left
// to the TOML library. It is only trusted with texts that library accepts, and
// every edit made with its positions is decoded again and compared.

// span is a half-open range of byte offsets.
type span struct{ start, end int }

// element is one entry of an array.
type element struct {
	span
	comma int // offset of the comma behind it, -1 without
}

type valueKind byte

const (
	scalarValue valueKind = iota
	arrayValue
	inlineValue // an inline table
)

// node is one key with its value.
type node struct {
	path     []string
	key, val span
	section  int // index of the section it stands in
	parent   int // index of the node whose inline table it stands in, -1 without
	comma    int // in an inline table: offset of the comma behind it, -1 without
	kind     valueKind
	elements []element // of an array
}

// section is a table header and what follows; section 0 is the root, which
// has none.
type section struct {
	span  // of the header, brackets included
	path  []string
	array bool // [[…]]
}

type document struct {
	text     string
	body     int // offset behind a byte order mark
	nodes    []node
	sections []section
	comments []span // from # to the end of the line, line ending excluded
}

// maxDepth bounds nesting: nothing here needs more, and the TOML library
// recurses without a bound of its own.
const maxDepth = 64

var errTooDeep = errors.New("values are nested too deeply")

type scanner struct {
	*document
	pos   int
	depth int
}

func scan(text string) (*document, error) {
	s := scanner{document: &document{text: text, body: markLen(text), sections: []section{{}}}}
	s.pos = s.body
	for {
		s.trivia()
		if s.pos >= len(text) {
			return s.document, nil
		}
		var err error
		if text[s.pos] == '[' {
			err = s.header()
		} else {
			err = s.keyValue(s.sections[len(s.sections)-1].path, -1, true)
		}
		if err != nil {
			return nil, err
		}
		s.blanks()
		if s.pos < len(text) && text[s.pos] == '#' {
			s.comment()
			s.blanks()
		}
		if s.pos < len(text) && text[s.pos] != '\n' {
			return nil, s.errorf("the end of the line is needed")
		}
	}
}

// markLen is the length of a byte order mark, as the TOML library skips it.
func markLen(text string) int {
	switch {
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"):
		return 2
	case strings.HasPrefix(text, "\xef\xbb\xbf"):
		return 3
	}
	return 0
}

func (s *scanner) errorf(format string, args ...any) error {
	line, column := s.place(s.pos)
	return fmt.Errorf("line %d, column %d: %s", line, column, fmt.Sprintf(format, args...))
}

// blanks skips what separates on one line.
func (s *scanner) blanks() {
	for s.pos < len(s.text) && (s.text[s.pos] == ' ' || s.text[s.pos] == '\t' || s.text[s.pos] == '\r') {
		s.pos++
	}
}

// trivia skips blanks, line ends and comments.
func (s *scanner) trivia() {
	for {
		s.blanks()
		switch {
		case s.pos < len(s.text) && s.text[s.pos] == '\n':
			s.pos++
		case s.pos < len(s.text) && s.text[s.pos] == '#':
			s.comment()
		default:
			return
		}
	}
}

func (s *scanner) comment() {
	start := s.pos
	s.pos = lineEnd(s.text, s.pos)
	s.comments = append(s.comments, span{start, s.pos})
}

func (s *scanner) accept(c byte) bool {
	if s.pos < len(s.text) && s.text[s.pos] == c {
		s.pos++
		return true
	}
	return false
}

func (s *scanner) header() error {
	start := s.pos
	s.pos++
	array := s.accept('[')
	path, _, err := s.key()
	if err != nil {
		return err
	}
	if !s.accept(']') || array && !s.accept(']') {
		return s.errorf("] is needed")
	}
	s.sections = append(s.sections, section{span{start, s.pos}, path, array})
	return nil
}

// key reads a dotted key and the blanks around it.
func (s *scanner) key() (path []string, at span, err error) {
	s.blanks()
	at.start = s.pos
	for {
		s.blanks()
		part, err := s.keyPart()
		if err != nil {
			return nil, at, err
		}
		path = append(path, part)
		at.end = s.pos
		s.blanks()
		if !s.accept('.') {
			return path, at, nil
		}
	}
}

func (s *scanner) keyPart() (string, error) {
	start := s.pos
	if start < len(s.text) && (s.text[start] == '"' || s.text[start] == '\'') {
		if err := s.quoted(); err != nil {
			return "", err
		}
		token := s.text[start:s.pos]
		if token[0] == '\'' || !strings.Contains(token, `\`) {
			return token[1 : len(token)-1], nil
		}
		var one map[string]any
		if _, err := toml.Decode(token+" = 1", &one); err != nil {
			return "", s.errorf("the key cannot be read")
		}
		for name := range one {
			return name, nil
		}
	}
	for s.pos < len(s.text) && !strings.ContainsRune(" \t\r\n.=[]{},#\"'", rune(s.text[s.pos])) {
		s.pos++
	}
	if s.pos == start {
		return "", s.errorf("a key is needed")
	}
	return s.text[start:s.pos], nil
}

// keyValue reads one key and its value. With keep it becomes a node; inside
// arrays it does not, because there a path would not be unique.
func (s *scanner) keyValue(table []string, parent int, keep bool) error {
	path, at, err := s.key()
	if err != nil {
		return err
	}
	if !s.accept('=') {
		return s.errorf("= is needed")
	}
	s.blanks()
	path = append(append([]string{}, table...), path...)
	index := -1
	if keep {
		index = len(s.nodes)
		s.nodes = append(s.nodes, node{path: path, key: at, section: len(s.sections) - 1, parent: parent, comma: -1})
	}
	start := s.pos
	kind, elements, err := s.value(path, index)
	if err != nil {
		return err
	}
	if keep {
		n := &s.nodes[index]
		n.val, n.kind, n.elements = span{start, s.pos}, kind, elements
	}
	return nil
}

// value reads the value at pos. Index is the node it belongs to, or -1.
func (s *scanner) value(path []string, index int) (valueKind, []element, error) {
	if s.depth++; s.depth > maxDepth {
		return 0, nil, errTooDeep
	}
	defer func() { s.depth-- }()
	if s.pos >= len(s.text) {
		return 0, nil, s.errorf("a value is needed")
	}
	switch s.text[s.pos] {
	case '[':
		elements, err := s.array()
		return arrayValue, elements, err
	case '{':
		return inlineValue, nil, s.inline(path, index)
	case '"', '\'':
		return scalarValue, nil, s.quoted()
	}
	start := s.pos
	for s.pos < len(s.text) && !strings.ContainsRune(",]}#\n", rune(s.text[s.pos])) {
		s.pos++
	}
	s.pos = start + len(strings.TrimRight(s.text[start:s.pos], " \t\r"))
	if s.pos == start {
		return 0, nil, s.errorf("a value is needed")
	}
	return scalarValue, nil, nil
}

func (s *scanner) array() ([]element, error) {
	s.pos++
	var elements []element
	for {
		s.trivia()
		if s.accept(']') {
			return elements, nil
		}
		start := s.pos
		if _, _, err := s.value(nil, -1); err != nil {
			return nil, err
		}
		elements = append(elements, element{span{start, s.pos}, -1})
		s.trivia()
		if s.accept(',') {
			elements[len(elements)-1].comma = s.pos - 1
		} else if s.pos >= len(s.text) || s.text[s.pos] != ']' {
			return nil, s.errorf(", or ] is needed")
		}
	}
}

func (s *scanner) inline(path []string, parent int) error {
	s.pos++
	for {
		s.trivia()
		if s.accept('}') {
			return nil
		}
		child := len(s.nodes)
		if err := s.keyValue(path, parent, parent >= 0); err != nil {
			return err
		}
		s.trivia()
		if s.accept(',') {
			if parent >= 0 {
				s.nodes[child].comma = s.pos - 1
			}
		} else if s.pos >= len(s.text) || s.text[s.pos] != '}' {
			return s.errorf(", or } is needed")
		}
	}
}

// quoted reads a string of any of the four kinds.
func (s *scanner) quoted() error {
	quote := s.text[s.pos]
	long := strings.Repeat(string(quote), 3)
	if !strings.HasPrefix(s.text[s.pos:], long) {
		for i := s.pos + 1; i < len(s.text) && s.text[i] != '\n'; i++ {
			switch {
			case s.text[i] == '\\' && quote == '"':
				i++
			case s.text[i] == quote:
				s.pos = i + 1
				return nil
			}
		}
		return s.errorf("the string does not end")
	}
	for i := s.pos + 3; i < len(s.text); i++ {
		if s.text[i] == '\\' && quote == '"' {
			i++
			continue
		}
		if strings.HasPrefix(s.text[i:], long) {
			// Up to two more quotes belong to the string itself.
			for i += 3; i < len(s.text) && s.text[i] == quote; i++ {
			}
			s.pos = i
			return nil
		}
	}
	return s.errorf("the string does not end")
}

// find returns the node at path, nil without one.
func (d *document) find(path ...string) *node {
	for i := range d.nodes {
		if slices.Equal(d.nodes[i].path, path) {
			return &d.nodes[i]
		}
	}
	return nil
}

// place turns an offset into line and column, both from 1, columns in
// characters. An offset outside the text is moved to its nearest end.
func (d *document) place(offset int) (line, column int) { return place(d.text, offset) }

func place(text string, offset int) (line, column int) {
	offset = max(markLen(text), min(offset, len(text)))
	start := lineStart(text, offset)
	if start == 0 {
		start = min(markLen(text), offset)
	}
	return strings.Count(text[:offset], "\n") + 1, utf8.RuneCountInString(text[start:offset]) + 1
}

func lineStart(text string, pos int) int { return strings.LastIndexByte(text[:pos], '\n') + 1 }

// lineEnd is where the line ending begins, or the end of the text.
func lineEnd(text string, pos int) int {
	i := strings.IndexByte(text[pos:], '\n')
	if i < 0 {
		return len(text)
	}
	if i > 0 && text[pos+i-1] == '\r' {
		i--
	}
	return pos + i
}

// nextLine is where the following line begins, or the end of the text.
func nextLine(text string, pos int) int {
	if i := strings.IndexByte(text[pos:], '\n'); i >= 0 {
		return pos + i + 1
	}
	return len(text)
}
