package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile bounds the settings file; 10,000 bypass entries need a third of it.
const maxFile = 1 << 20

// maxWarnings bounds the warnings of unknown keys.
const maxWarnings = 50

// file is the settings file as it was last understood.
type file struct {
	path     string
	text     string
	tree     map[string]any
	doc      *document
	readOnly bool // a newer version
	problems []Problem
}

// readFile returns the text of the settings file; a file that is not there
// reads as empty.
func readFile(path string) (string, error) {
	// A FIFO or a device must not block the helper, so look before opening.
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case !st.Mode().IsRegular():
		return "", &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	case st.Size() > maxFile:
		return "", &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("larger than %d bytes", maxFile)}
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// parseFile understands text as far as it is TOML. The problem returned says
// why it is not; what is wrong with single keys is in file.problems.
func parseFile(path, text string) (*file, *Problem) {
	broken := func(offset int, message string) *Problem {
		line, column := place(text, offset)
		return &Problem{File: path, Line: line, Column: column, Source: SourceFile,
			Text: message, Hint: "correct the file; until then the last good settings count and nothing is saved"}
	}
	doc, scanErr := scan(text)
	if errors.Is(scanErr, errTooDeep) {
		return nil, broken(0, scanErr.Error())
	}
	tree, err := decode(text)
	if err != nil {
		offset, message := 0, err.Error()
		if pe, ok := errors.AsType[toml.ParseError](err); ok {
			offset, message = pe.Position.Start+markLen(text), pe.Message
		}
		return nil, broken(offset, message)
	}
	if scanErr != nil {
		return nil, broken(0, "the file is written in a way this program does not understand: "+scanErr.Error())
	}
	f := &file{path: path, text: text, tree: tree, doc: doc}
	f.checkVersion()
	if !f.readOnly { // a newer file is bound to hold keys unknown here
		f.checkKeys()
	}
	return f, nil
}

func decode(text string) (map[string]any, error) {
	tree := map[string]any{}
	_, err := toml.Decode(text, &tree)
	return tree, err
}

// problem adds one about the text at offset.
func (f *file) problem(offset int, p Problem) {
	p.File, p.Source = f.path, SourceFile
	p.Line, p.Column = f.doc.place(offset)
	f.problems = append(f.problems, p)
}

func (f *file) checkVersion() {
	raw, ok := f.tree["version"]
	if !ok {
		return
	}
	offset := f.offset([]string{"version"}, -1)
	switch v, ok := raw.(int64); {
	case ok && v >= 1 && v <= knownVersion:
	case ok && v > knownVersion:
		f.readOnly = true
		f.problem(offset, Problem{Key: "version", Warning: true,
			Text: fmt.Sprintf("the file has version %d, this program knows version %d: the settings are read as far as possible and never saved", v, knownVersion),
			Hint: "update the program"})
	default:
		f.readOnly = true // what wrote this is unknown, so leave it alone
		f.problem(offset, Problem{Key: "version", Text: "the version is not a number this program knows: nothing is saved",
			Hint: fmt.Sprintf("write version = %d", knownVersion)})
	}
}

// checkKeys warns of what has no meaning here, once per table or key.
func (f *file) checkKeys() {
	var keys, tables []string
	for i := range table {
		keys = append(keys, table[i].Key)
		if name, _, ok := strings.Cut(table[i].Key, "."); ok && !slices.Contains(tables, name) {
			tables = append(tables, name)
		}
	}
	keys = append(keys, "version")
	warn := func(offset int, what, name string, candidates []string) {
		if len(f.problems) >= maxWarnings { // another program's file, perhaps
			return
		}
		p := Problem{Key: name, Text: fmt.Sprintf("unknown %s %s: it has no effect", what, shown(name)), Warning: true,
			Hint: "remove it or correct its name"}
		if n := nearest(name, candidates); n != "" {
			p.Hint = "did you mean " + n + "?"
		}
		f.problem(offset, p)
	}
	skip := map[int]bool{} // sections that were reported as a whole
	for i, s := range f.doc.sections[1:] {
		name := showPath(s.path)
		switch {
		case slices.Contains(keys, name): // wrong type: reported with the value
			skip[i+1] = true
		case s.array || !slices.Contains(tables, name):
			skip[i+1] = true
			if s.array && slices.Contains(tables, name) {
				f.problem(s.start, Problem{Key: name, Text: "a table is needed, not a list of tables", Hint: "write [" + name + "]"})
			} else {
				warn(s.start, "table", name, tables)
			}
		}
	}
	gone := map[int]bool{} // inline tables that were reported as a whole
	for i := range f.doc.nodes {
		n := &f.doc.nodes[i]
		name := showPath(n.path)
		if skip[n.section] || n.parent >= 0 && gone[n.parent] {
			gone[i] = true
			continue
		}
		switch {
		case slices.ContainsFunc(keys, func(key string) bool { return key == name || strings.HasPrefix(name, key+".") }):
			gone[i] = true // what is wrong inside is said with the value
		case slices.Contains(tables, name):
			if n.kind != inlineValue {
				f.problem(n.key.start, Problem{Key: name, Text: shown(name) + " is a table, not a value", Hint: "write [" + name + "] and the keys below it"})
			}
		default:
			gone[i] = true
			warn(n.key.start, "key", name, keys)
		}
	}
}

// showPath joins a path as TOML writes it: parts that are no plain words are
// quoted, so that "a.b" and a.b differ.
func showPath(path []string) string {
	parts := slices.Clone(path)
	for i, p := range parts {
		if p == "" || strings.ContainsFunc(p, func(r rune) bool {
			return !(r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
		}) {
			parts[i] = quote(p)
		}
	}
	return strings.Join(parts, ".")
}

// lookup returns the raw value of a key.
func lookup(tree map[string]any, key string) (any, bool) {
	path := strings.Split(key, ".")
	for _, name := range path[:len(path)-1] {
		sub, ok := tree[name].(map[string]any)
		if !ok {
			return nil, false
		}
		tree = sub
	}
	v, ok := tree[path[len(path)-1]]
	return v, ok
}

// offset finds a key's value, or an entry of its list, in the text.
func (f *file) offset(path []string, entry int) int {
	if n := f.doc.find(path...); n != nil {
		if entry >= 0 && entry < len(n.elements) {
			return n.elements[entry].start
		}
		return n.val.start
	}
	for _, s := range f.doc.sections[1:] {
		if len(s.path) >= len(path) && slices.Equal(s.path[:len(path)], path) {
			return s.start
		}
	}
	for i := range f.doc.nodes { // key.more = …
		if p := f.doc.nodes[i].path; len(p) > len(path) && slices.Equal(p[:len(path)], path) {
			return f.doc.nodes[i].key.start
		}
	}
	return 0
}

// candidate is what one source says about one key.
type candidate struct {
	origin Origin
	raw    any
}

type builder struct {
	cfg  *Config
	file *file
	snap *Snapshot
}

// build joins the layers. Broken is why the file on disk is not the one given.
func build(cfg *Config, f *file, broken *Problem) *Snapshot {
	b := builder{cfg, f, &Snapshot{Origins: make(map[string]Origin, len(table))}}
	if broken != nil {
		b.snap.Problems = append(b.snap.Problems, *broken)
	}
	b.snap.FileReadOnly = f.readOnly
	b.snap.Problems = append(b.snap.Problems, f.problems...)
	for i := range table {
		b.resolve(&table[i])
	}
	return b.snap
}

func (b *builder) resolve(k *setting) {
	k.set(&b.snap.Values, cloneValue(k.Default))
	origin := Origin{Source: SourceDefault}
	for c := range b.candidates(k) {
		value, ok := b.use(k, c)
		if ok {
			k.set(&b.snap.Values, value)
			origin = c.origin
			break
		}
		if k.Key != "upstream" { // a weaker source does not speak for one that cannot be understood
			origin = Origin{SourceDefault, c.origin.Name, c.origin.Locked}
			break
		}
	}
	b.snap.Origins[k.Key] = origin
}

// candidates yields the sources that say something about the key, strongest
// first. A source is asked only when its turn comes.
func (b *builder) candidates(k *setting) iter.Seq[candidate] {
	return func(yield func(candidate) bool) {
		offer := func(source Source, name string, raw any) bool {
			if source != SourceFile && k.Kind == KindList {
				switch v := raw.(type) {
				case string:
					raw = trimList(splitList(v))
				case []string:
					raw = trimList(v)
				}
			}
			if k.Key == "upstream" && isEmptyList(raw) {
				return true // "empty: environment, then the system's setting"
			}
			locked := source == SourcePolicy || source == SourceFlag || source == SourceEnv
			return yield(candidate{Origin{source, name, locked}, raw})
		}
		if raw, ok := b.cfg.Policy[k.Key]; ok && !offer(SourcePolicy, "managed policy", raw) {
			return
		}
		if raw, ok := b.cfg.Flags[k.Key]; ok && !offer(SourceFlag, k.flagName(), raw) {
			return
		}
		if name, raw, ok := fromEnv(k, b.cfg.LookupEnv); ok && !offer(SourceEnv, name, raw) {
			return
		}
		if raw, ok := lookup(b.file.tree, k.Key); ok {
			line, _ := b.file.doc.place(b.file.offset(strings.Split(k.Key, "."), -1))
			if !offer(SourceFile, fmt.Sprintf("%s:%d", b.file.path, line), raw) {
				return
			}
		}
		if k.Key == "upstream" && b.cfg.System != nil {
			offer(SourceSystem, "system settings", b.cfg.System())
		}
	}
}

func isEmptyList(raw any) bool {
	switch v := raw.(type) {
	case []string:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

func fromEnv(k *setting, lookup func(string) (string, bool)) (name string, raw any, ok bool) {
	if lookup == nil {
		return "", nil, false
	}
	for _, name := range k.Env {
		value, set := lookup(name)
		if !set || value == "" && !k.emptyOK {
			continue
		}
		if k.Key == "upstream" && strings.TrimSpace(value) == "" {
			continue
		}
		return name, k.fromEnv(value), true
	}
	return "", nil, false
}

// use judges one candidate, reports what is wrong with it, and returns what
// can be used of it.
func (b *builder) use(k *setting, c candidate) (any, bool) {
	value, errs := k.use(c.raw, b.cfg.Check[k.Key])
	for _, err := range errs {
		entry := -1
		if e, ok := errors.AsType[*entryError](err); ok {
			entry = e.index
		}
		hint := "correct it; until then it is ignored"
		if value == nil {
			hint = "correct it; until then the built-in default counts"
			if k.Key == "upstream" {
				hint = "correct it; until then the next source counts"
			}
		}
		b.report(k, c, entry, Problem{Text: err.Error(), Hint: hint})
	}
	if value == nil {
		return nil, false
	}
	if k.Key == "upstream" && b.cfg.SelfUpstream != nil {
		var others []string
		for i, u := range value.([]string) {
			if !b.cfg.SelfUpstream(u, b.snap.Listen) {
				others = append(others, u)
				continue
			}
			if len(errs) > 0 {
				i = -1 // entries were dropped, so i no longer counts those of the source
			}
			b.report(k, c, i, Problem{Warning: true, Text: "the upstream " + u + " is this helper itself: it is skipped",
				Hint: "name the company's proxy here, or unset it; the next source is used"})
		}
		return others, len(others) > 0
	}
	return value, true
}

func (b *builder) report(k *setting, c candidate, entry int, p Problem) {
	p.Key, p.Source = k.Key, c.origin.Source
	if c.origin.Source == SourceFile {
		p.Text = k.Key + ": " + p.Text
		p.File = b.file.path
		p.Line, p.Column = b.file.doc.place(b.file.offset(strings.Split(k.Key, "."), entry))
	} else {
		p.Text = fmt.Sprintf("%s (%s): %s", c.origin.Name, k.Key, p.Text)
	}
	b.snap.Problems = append(b.snap.Problems, p)
}
