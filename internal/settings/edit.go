package settings

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"
)

// Edit is a series of changes to the text of the settings file. Each change
// touches the value concerned and nothing else; it is decoded again and
// compared, and refused with [ErrByHand] if anything else would differ. An
// Edit is valid inside the function passed to [Store.Edit] only.
type Edit struct {
	file   *file
	now    *Snapshot
	check  map[string]func(any) error
	create bool // write the file although nothing was changed
}

// Set writes a value of the Go type of the key's [Kind] (a duration may also
// be a string such as "30m"). Of a list the entries that stay keep their place
// and their comments.
func (e *Edit) Set(key string, value any) error {
	k, err := e.setting(key)
	if err != nil {
		return err
	}
	used, errs := k.use(value, e.check[key])
	if len(errs) > 0 {
		return refuse(ErrInvalid, "%s: %w", key, errs[0])
	}
	switch v := used.(type) {
	case time.Duration:
		return e.apply(key, formatDuration(v))
	case []string:
		return e.apply(key, anyList(v))
	}
	return e.apply(key, used)
}

// Unset removes the key from the file, so that weaker sources count. Comments
// inside and behind the value stay, as lines of their own.
func (e *Edit) Unset(key string) error {
	if _, err := e.setting(key); err != nil {
		return err
	}
	if _, ok := lookup(e.file.tree, key); !ok {
		return nil
	}
	return e.apply(key, nil)
}

// Add appends the entries that are not yet in the file's list; a list that is
// not in the file starts from what the organisation has preset, or from its
// default. Only new entries are checked, so an
// older bad entry does not stand in the way; what would have no effect, because
// the list cannot be used as a whole, is refused.
func (e *Edit) Add(key string, entries ...string) error {
	k, have, err := e.list(key)
	if err != nil {
		return err
	}
	if _, errs := k.use(entries, e.check[key]); len(entries) > 0 && len(errs) > 0 {
		return refuse(ErrInvalid, "%s: %w", key, errs[0])
	}
	want := slices.Clone(have)
	for _, s := range entries {
		if !slices.Contains(want, any(s)) {
			want = append(want, s)
		}
	}
	if value, errs := k.use(want, e.check[key]); len(entries) > 0 && value == nil {
		return refuse(ErrInvalid, "%s: %w", key, errs[0])
	}
	if len(want) == len(have) {
		return nil
	}
	return e.apply(key, want)
}

// Remove takes the entries out of the file's list; those that are not in it
// do not matter. It refuses to take out the last one that can be used where
// the list needs one.
func (e *Edit) Remove(key string, entries ...string) error {
	k, have, err := e.list(key)
	if err != nil {
		return err
	}
	want := slices.DeleteFunc(slices.Clone(have), func(v any) bool {
		s, ok := v.(string)
		return ok && slices.Contains(entries, s)
	})
	if len(want) == len(have) {
		return nil
	}
	if value, errs := k.use(want, e.check[key]); value == nil {
		if len(want) == 0 {
			return refuse(ErrInvalid, "%s: %w", key, errs[0])
		}
		if usable, _ := k.use(have, e.check[key]); usable != nil {
			return refuse(ErrInvalid, "%s: nothing that can be used would be left: %w", key, errs[0])
		}
	}
	return e.apply(key, want)
}

// setting returns what may be edited.
func (e *Edit) setting(key string) (*setting, error) {
	k := settingFor(key)
	if k == nil {
		var keys []string
		for i := range table {
			keys = append(keys, table[i].Key)
		}
		if n := nearest(key, keys); n != "" {
			return nil, refuse(ErrInvalid, "there is no setting %s, the nearest is %s", shown(key), n)
		}
		return nil, refuse(ErrInvalid, "there is no setting %s", shown(key))
	}
	if err := e.now.Refused(key); err != nil {
		return nil, err
	}
	if name, _, nested := strings.Cut(key, "."); nested {
		if p := e.file.misplaced(name); p != nil {
			return nil, refuse(ErrByHand, "%s", p.clause())
		}
	}
	return k, nil
}

// list returns the file's list, entries of a wrong type included.
func (e *Edit) list(key string) (*setting, []any, error) {
	k, err := e.setting(key)
	if err != nil {
		return nil, nil, err
	}
	if k.Kind != KindList {
		return nil, nil, refuse(ErrInvalid, "%s is not a list", key)
	}
	raw, ok := lookup(e.file.tree, key)
	if !ok {
		if e.now.Origins[key].Source == SourcePolicy {
			return k, anyList(k.get(&e.now.Values).([]string)), nil
		}
		return k, anyList(k.Default.([]string)), nil
	}
	list, ok := raw.([]any)
	if !ok {
		_, err := k.typed(raw)
		line, column := e.file.doc.place(e.file.offset(strings.Split(key, "."), -1))
		return nil, nil, refuse(ErrByHand, "%s:%d:%d: %s: %w", e.file.path, line, column, key, err)
	}
	return k, list, nil
}

func anyList(list []string) []any {
	all := make([]any, len(list))
	for i, s := range list {
		all[i] = s
	}
	return all
}

// apply brings key to want (nil: absent) and proves that nothing else changed.
func (e *Edit) apply(key string, want any) error {
	have, exists := lookup(e.file.tree, key)
	if exists && want != nil && equalTree(have, want) {
		return nil
	}
	path := strings.Split(key, ".")
	w := writer{document: e.file.doc, path: path}
	next, err := e.file.prove(w.write(have, want), path, want)
	if err != nil {
		return refuse(ErrByHand, "%s: %w in %s", key, err, e.file.path)
	}
	e.file = next
	return nil
}

// prove returns the file with text, if text differs from what it holds in
// nothing but the value at path and has every comment.
func (f *file) prove(text string, path []string, want any) (*file, error) {
	if len(text) > maxFile {
		return nil, fmt.Errorf("the edit would need more than %d bytes", maxFile)
	}
	tree, err := decode(text)
	if err != nil {
		return nil, errors.New("the edit would not leave valid TOML")
	}
	doc, err := scan(text)
	if err != nil {
		return nil, errors.New("the edit would not leave valid TOML")
	}
	intended, ok := withKey(f.tree, path, want)
	if !ok || !equalTree(prune(intended, path), prune(tree, path)) {
		return nil, errors.New("the edit would change more than this value")
	}
	if !slices.Equal(f.doc.commentTexts(), doc.commentTexts()) {
		return nil, errors.New("the edit would lose a comment")
	}
	return &file{path: f.path, text: text, tree: tree, doc: doc}, nil
}

// commentTexts returns the comments, sorted: an edit may move one.
func (d *document) commentTexts() []string {
	all := make([]string, len(d.comments))
	for i, c := range d.comments {
		all[i] = d.text[c.start:c.end]
	}
	slices.Sort(all)
	return all
}

// withKey returns a copy of tree in which key is want, and is absent for nil.
// It shares what it does not change.
func withKey(tree map[string]any, path []string, want any) (map[string]any, bool) {
	next := make(map[string]any, len(tree)+1)
	for name, v := range tree {
		next[name] = v
	}
	if len(path) == 1 {
		if want == nil {
			delete(next, path[0])
		} else {
			next[path[0]] = want
		}
		return next, true
	}
	sub, ok := next[path[0]].(map[string]any)
	if !ok && next[path[0]] != nil {
		return nil, false
	}
	sub, ok = withKey(sub, path[1:], want)
	next[path[0]] = sub
	return prune(next, path), ok
}

// prune drops the key's table if it is empty: whether it is still named in the
// file makes no difference.
func prune(tree map[string]any, path []string) map[string]any {
	if len(path) > 1 {
		if sub, ok := tree[path[0]].(map[string]any); ok && len(sub) == 0 {
			next := make(map[string]any, len(tree))
			for name, v := range tree {
				if name != path[0] {
					next[name] = v
				}
			}
			return next
		}
	}
	return tree
}

// equalTree is reflect.DeepEqual, except that NaN equals itself.
func equalTree(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, v := range a {
			w, ok := b[name]
			if !ok || !equalTree(v, w) {
				return false
			}
		}
		return true
	case []map[string]any:
		b, ok := b.([]map[string]any)
		return ok && slices.EqualFunc(a, b, func(x, y map[string]any) bool { return equalTree(x, y) })
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, equalTree)
	case float64:
		b, ok := b.(float64)
		return ok && (a == b || math.IsNaN(a) && math.IsNaN(b))
	}
	return reflect.DeepEqual(a, b)
}

// writer makes one change to the text of a document.
type writer struct {
	*document
	path []string
}

func (w *writer) write(have, want any) string {
	n := w.find(w.path...)
	switch {
	case n == nil && want == nil:
		return w.text // written as a table or by dotted keys: the comparison refuses
	case n == nil:
		return w.insert(want)
	case want == nil:
		return w.remove(n)
	}
	if list, ok := want.([]any); ok && n.kind == arrayValue {
		if old, ok := have.([]any); ok && len(old) == len(n.elements) {
			return w.text[:n.val.start] + w.mergeList(n, old, list) + w.text[n.val.end:]
		}
	}
	return w.replace(n, n.val, renderValue(want, w.eol(n.key.start), w.indent(n.key.start), n.parent < 0))
}

// replace puts text in place of a span of the node; comments in the span move
// in front of the statement.
func (w *writer) replace(n *node, at span, text string) string {
	for n.parent >= 0 {
		n = &w.nodes[n.parent]
	}
	start := lineStart(w.text, n.key.start)
	start = max(start, w.body)
	var moved strings.Builder
	for _, c := range w.comments {
		if c.start >= at.start && c.end <= at.end {
			moved.WriteString(w.indent(start) + w.text[c.start:c.end] + w.eol(start))
		}
	}
	return w.text[:start] + moved.String() + w.text[start:at.start] + text + w.text[at.end:]
}

func (w *writer) remove(n *node) string {
	at := span{n.key.start, n.val.end}
	if n.parent >= 0 {
		if n.comma >= 0 {
			at.end = skipBlanks(w.text, n.comma+1)
		} else {
			for i := range w.nodes {
				if s := &w.nodes[i]; s.parent == n.parent && s.comma >= 0 && s.comma < n.key.start {
					at.start = s.comma
				}
			}
		}
		return w.replace(n, at, "")
	}
	at.end = skipBlanks(w.text, at.end)
	if start := max(w.body, lineStart(w.text, at.start)); lineEnd(w.text, at.end) == at.end {
		at = span{start, nextLine(w.text, at.end)}
	}
	return w.replace(n, at, "")
}

// insert adds the key where a reader would look for it: behind the last key
// of its table.
func (w *writer) insert(want any) string {
	name, root := w.path[len(w.path)-1], len(w.path) == 1
	var table []string
	if !root {
		table = w.path[:len(w.path)-1]
		if t := w.find(table...); t != nil {
			return w.insertInline(t, name+" = "+renderValue(want, "", "", false))
		}
		for i, s := range w.sections {
			if i > 0 && !s.array && slices.Equal(s.path, table) {
				return w.insertLine(w.lastIn(i, s.end), name, want)
			}
		}
		last := -1
		for _, n := range w.nodes { // table.other = …
			if n.section == 0 && n.parent < 0 && len(n.path) > 1 && n.path[0] == table[0] {
				last = n.val.end
			}
		}
		if last >= 0 {
			return w.insertLine(last, strings.Join(w.path, "."), want)
		}
		text, eol := w.text, w.eol(len(w.text))
		if len(text) > w.body {
			if !strings.HasSuffix(text, "\n") {
				text += eol
			}
			text += eol
		}
		return text + "[" + table[0] + "]" + eol + name + " = " + renderValue(want, eol, "", true) + eol
	}
	if last := w.lastIn(0, -1); last >= 0 {
		return w.insertLine(last, name, want)
	}
	at := w.body
	// A comment at the top that is followed by an empty line is about the file,
	// not about the first table.
	if len(w.sections) == 1 {
		at = len(w.text)
	} else {
		for at < w.sections[1].start && w.text[at] == '#' {
			at = nextLine(w.text, at)
		}
		if next := nextLine(w.text, at); strings.TrimSpace(w.text[at:next]) == "" {
			at = next
		} else {
			at = w.body
		}
	}
	eol := w.eol(at)
	line := name + " = " + renderValue(want, eol, "", true) + eol
	if at > w.body && w.text[at-1] != '\n' {
		line = eol + line
	}
	if len(w.sections) > 1 {
		line += eol
	}
	return w.text[:at] + line + w.text[at:]
}

// lastIn returns where the last statement of a section ends, or none.
func (w *writer) lastIn(section, none int) int {
	for _, n := range w.nodes {
		if n.section == section && n.parent < 0 {
			none = n.val.end
		}
	}
	return none
}

// insertLine adds a line behind the one in which the statement at pos ends.
func (w *writer) insertLine(pos int, key string, want any) string {
	eol, indent := w.eol(pos), ""
	for _, n := range w.nodes {
		if n.val.end == pos {
			indent = w.indent(n.key.start)
		}
	}
	line := indent + key + " = " + renderValue(want, eol, indent, true) + eol
	at := nextLine(w.text, pos)
	if at == len(w.text) && !strings.HasSuffix(w.text, "\n") {
		return w.text + eol + line
	}
	return w.text[:at] + line + w.text[at:]
}

func (w *writer) insertInline(t *node, text string) string {
	if t.kind != inlineValue {
		return w.text // the comparison refuses
	}
	at := -1
	for i := range w.nodes {
		if n := &w.nodes[i]; n.parent >= 0 && &w.nodes[n.parent] == t {
			at = n.val.end
		}
	}
	if at < 0 {
		return w.text[:t.val.start] + "{ " + text + " }" + w.text[t.val.end:]
	}
	return w.text[:at] + ", " + text + w.text[at:]
}

// eol returns the line ending in use around pos.
func (w *writer) eol(pos int) string {
	i := strings.IndexByte(w.text[pos:], '\n')
	if i >= 0 {
		i += pos
	} else {
		i = strings.LastIndexByte(w.text, '\n')
	}
	if i > 0 && w.text[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

// indent returns the blanks at the start of the line pos is in.
func (w *writer) indent(pos int) string {
	start := max(w.body, lineStart(w.text, pos))
	end := start
	for end < len(w.text) && (w.text[end] == ' ' || w.text[end] == '\t') {
		end++
	}
	return w.text[start:end]
}

// skipBlanks returns the first offset from pos on that is no blank.
func skipBlanks(text string, pos int) int {
	for pos < len(text) && (text[pos] == ' ' || text[pos] == '\t') {
		pos++
	}
	return pos
}

// renderValue writes a value as TOML; a long list goes over several lines
// where they are allowed.
func renderValue(v any, eol, indent string, lines bool) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case bool:
		return fmt.Sprint(v)
	case []any:
		items := make([]string, len(v))
		for i := range v {
			items[i] = renderValue(v[i], "", "", false)
		}
		line := "[" + strings.Join(items, ", ") + "]"
		if len(line) <= 80 || !lines {
			return line
		}
		var b strings.Builder
		b.WriteString("[" + eol)
		for _, item := range items {
			b.WriteString(indent + "    " + item + "," + eol)
		}
		return b.String() + indent + "]"
	}
	// Values of other types stand in the file already and are not rendered.
	return fmt.Sprint(v)
}

// quote writes a TOML basic string.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsControl(r):
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
