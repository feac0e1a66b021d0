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

var (
	errNotRegular = errors.New("not a regular file")
	errTooLarge   = fmt.Errorf("larger than %d bytes", maxFile)
)

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
		return "", errNotRegular
	case st.Size() > maxFile:
		return "", errTooLarge
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// reason is err without the name of the file, which may be one of ours that
// the user does not know.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// unreadable is the problem of a file whose text cannot be had.
func unreadable(path string, err error) *Problem {
	hint := "Make the file readable"
	switch {
	case errors.Is(err, errNotRegular):
		hint = "Put a regular file in its place"
	case errors.Is(err, errTooLarge):
		hint = "Shorten the file"
	}
	return &Problem{File: path, Source: SourceFile, Text: fmt.Sprintf("the file cannot be read: %v", reason(err)), Hint: hint}
}

// parseFile understands text as far as it is TOML. The problem returned says
// why it is not; what is wrong with single keys is in file.problems.
func parseFile(path, text string) (*file, *Problem) {
	broken := func(offset int, message string) *Problem {
		line, column := place(text, offset)
		return &Problem{File: path, Line: line, Column: column, Source: SourceFile, Text: message, Hint: "Correct the file"}
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
			Hint: "Update the program."})
	default:
		f.readOnly = true // what wrote this is unknown, so leave it alone
		f.problem(offset, Problem{Key: "version", Text: "the version is not a number this program knows: nothing is saved",
			Hint: fmt.Sprintf("Write version = %d.", knownVersion)})
	}
}

// checkKeys warns of what has no meaning here, once per table or key.
func (f *file) checkKeys() {
	keys, tables := []string{"version"}, tableNames()
	for i := range table {
		keys = append(keys, table[i].Key)
	}
	warn := func(offset int, what, name string, candidates []string) {
		if len(f.problems) >= maxWarnings { // another program's file, perhaps
			return
		}
		p := Problem{Key: name, Text: fmt.Sprintf("unknown %s %s: it has no effect", what, shown(name)), Warning: true,
			Hint: "Remove it or correct its name."}
		if n := nearest(name, candidates); n != "" {
			p.Hint = "Perhaps you mean " + n + "."
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
			if !slices.Contains(tables, name) { // else see misplaced
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
		case slices.Contains(tables, name): // inline, or see misplaced
		default:
			gone[i] = true
			warn(n.key.start, "key", name, keys)
		}
	}
}

// tableNames returns the tables there are.
func tableNames() (names []string) {
	for i := range table {
		if name, _, ok := strings.Cut(table[i].Key, "."); ok && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// misplaced returns what is wrong when the table of that name, as in
// "bypass = 3", is none; nil otherwise.
func (f *file) misplaced(name string) *Problem {
	what := "a value"
	switch f.tree[name].(type) {
	case nil, map[string]any:
		return nil
	case []map[string]any:
		what = "a list of tables"
	}
	offset := f.offset([]string{name}, -1)
	if n := f.doc.find(name); n != nil {
		offset = n.key.start
	}
	p := &Problem{File: f.path, Source: SourceFile, Key: name, Text: shown(name) + " is a table, not " + what,
		Hint: "Write [" + name + "] and the keys below it"}
	p.Line, p.Column = f.doc.place(offset)
	return p
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
	origin  Origin
	raw     any
	nowhere bool // the file has no table for the key, which is reported once for all of its keys
}

// fileValues are the values of the file that counted, by key.
type fileValues map[string]any

type builder struct {
	cfg        *Config
	file       *file
	last, kept fileValues
	rules      *rules
	snap       *Snapshot
}

// build joins the layers. Broken is why the file on disk is not the one given;
// last is what the build before returned as kept: where the file has become
// unusable, it still counts.
func build(cfg *Config, f *file, broken *Problem, last fileValues, r *rules) (snap *Snapshot, kept fileValues) {
	b := builder{cfg, f, last, fileValues{}, r, &Snapshot{Origins: make(map[string]Origin, len(table))}}
	b.snap.Problems = append(b.snap.Problems, r.problems...)
	if broken != nil {
		p := *broken
		p.Hint += "; until then the last good settings count and nothing is saved."
		if f.text == "" {
			p.Hint = broken.Hint + "; until then the defaults count and nothing is saved."
		}
		b.snap.Problems = append(b.snap.Problems, p)
	}
	b.snap.FileReadOnly = f.readOnly
	b.snap.Problems = append(b.snap.Problems, f.problems...)
	for _, name := range tableNames() {
		b.reportMisplaced(name)
	}
	for i := range table {
		b.resolve(&table[i])
	}
	b.withhold()
	return b.snap, b.kept
}

func (b *builder) reportMisplaced(name string) {
	p := b.file.misplaced(name)
	if p == nil {
		return
	}
	until := "; until then the built-in defaults count."
	for key := range b.last {
		if strings.HasPrefix(key, name+".") {
			until = "; until then the values it had before count."
		}
	}
	p.Hint += until
	b.snap.Problems = append(b.snap.Problems, *p)
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
		if c.origin.Source == SourcePolicy && !c.origin.Locked {
			continue // a preset that cannot be used presets nothing
		}
		if k.Key != "upstream" || c.origin.Source == SourcePolicy { // a weaker source does not speak for one that cannot be understood
			origin = Origin{SourceDefault, c.origin.Name, c.origin.Locked}
			if c.origin.Source == SourcePolicy {
				origin.Source = SourcePolicy
			}
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
			locked := source == SourcePolicy && b.rules.locks(k.Key) || source == SourceFlag || source == SourceEnv
			if k.Key == "upstream" && isEmptyList(raw) && !(source == SourcePolicy && locked) {
				return true // "empty: environment, then the system's setting"
			}
			return yield(candidate{origin: Origin{source, name, locked}, raw: raw})
		}
		if v, ok := b.rules.Locked[k.Key]; ok {
			offer(SourcePolicy, v.Name, v.Value) // nobody else has a say
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
		} else if name, _, nested := strings.Cut(k.Key, "."); nested {
			if p := b.file.misplaced(name); p != nil {
				yield(candidate{origin: Origin{Source: SourceFile, Name: fmt.Sprintf("%s:%d", p.File, p.Line)}, nowhere: true})
				return
			}
		}
		if v, ok := b.rules.Preset[k.Key]; ok && !offer(SourcePolicy, v.Name, v.Value) {
			return
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
// can be used of it, or what the file had before if it is the file's.
func (b *builder) use(k *setting, c candidate) (any, bool) {
	var value any
	var errs []error
	if !c.nowhere {
		value, errs = k.use(c.raw, b.cfg.Check[k.Key])
	}
	if c.origin.Source == SourcePolicy {
		return b.usePolicy(k, c, value, errs)
	}
	hint := "Correct it; until then it is ignored."
	if value == nil {
		hint = "Correct it; until then the built-in default counts."
		if k.Key == "upstream" {
			hint = "Correct it; until then the next source counts."
		}
		if last, ok := b.last[k.Key]; ok && c.origin.Source == SourceFile {
			value, hint = last, "Correct it; until then the value it had before counts."
		}
	}
	for _, err := range errs {
		entry := -1
		if e, ok := errors.AsType[*entryError](err); ok {
			entry = e.index
		}
		b.report(k, c, entry, Problem{Text: err.Error(), Hint: hint})
	}
	if value == nil {
		return nil, false
	}
	if c.origin.Source == SourceFile {
		b.kept[k.Key] = value
	}
	if k.Key == "upstream" {
		others := b.withoutSelf(k, c, value.([]string), len(errs) > 0)
		return others, len(others) > 0
	}
	return value, true
}

// withoutSelf leaves out the upstreams that are this helper. Dropped says that
// some of the source's entries are not in the list any more.
func (b *builder) withoutSelf(k *setting, c candidate, all []string, dropped bool) (others []string) {
	if b.cfg.SelfUpstream == nil {
		return all
	}
	for i, u := range all {
		if !b.cfg.SelfUpstream(u, b.snap.Listen) {
			others = append(others, u)
			continue
		}
		if dropped {
			i = -1 // it no longer counts the entries of the source
		}
		b.report(k, c, i, Problem{Warning: true, Text: "the upstream " + u + " is this helper itself: it is skipped",
			Hint: "Name the company's proxy here, or unset it; the next source is used."})
	}
	return others
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
