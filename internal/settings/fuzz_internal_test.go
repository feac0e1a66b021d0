package settings

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// seeds are texts in which TOML is hard to find one's way in.
var seeds = []string{
	"",
	"version = 1\nlisten = [\"127.0.0.1:5372\", '[::1]:5372'] # c\n",
	"# top\n\n[bypass]\nexact = [ # hosts\n    \"a\", # first\n    \"b\", \"c\"\n    , \"d\" # last\n] # end\n[other]\nx = nan\n",
	"bypass = { exact = [\"a\", # c\n'b',\n], 'x' = { y = 1 } } # end\r\n",
	"kerberos.enabled = true\nkerberos.'spn' = \"\"\"\n# no comment \\\"\"\"\n  ]\"\"\"\"\" # comment\n",
	"[[fruit]]\nx = [[1, 2], {a = 1, b = ']'}]\n[[fruit]]\n[fruit.y.\"a.b\"]\nz = '''\n'# '''''\n",
	"\xef\xbb\xbf[ui]\r\n  language = \"de\" # \xc3\xa4\r\n\r\n[kerberos.x]\r\n",
	"[ ui . 'x' ]\nd = 1979-05-27 07:32:00\ne = -1_0.5e+3\nf = inf#c\n",
	"\"bypass.exact\" = []\n\"\\u0062ypass\" = {}\nno_proxy = [\n  # none\n]",
	"version = 9\n[bypass]\nexact = []",
	"bypass = 3\n", "x = [", "[", "a.b.c = {\n", "a = \"\\u00e4\"\nä = 1\n", "[listen]\nx = 1\npac.y = 2",
}

// leaves counts the keys of a tree that hold a value.
func leaves(v any) int {
	tree, ok := v.(map[string]any)
	if !ok {
		return 0
	}
	n := 0
	for _, v := range tree {
		if sub, ok := v.(map[string]any); ok && len(sub) > 0 {
			n += leaves(sub)
		} else if !ok {
			n++
		}
	}
	return n
}

func FuzzLoad(f *testing.F) {
	for _, s := range seeds {
		f.Add(s)
	}
	refuse := func(v any) error {
		if strings.Contains(fmt.Sprint(v), "a") {
			return errors.New("refused")
		}
		return nil
	}
	cfg := &Config{Check: map[string]func(any) error{"bypass.exact": refuse, "kerberos.spn": refuse}}
	f.Fuzz(func(t *testing.T, text string) {
		file, broken := parseFile("f", text)
		empty, _ := parseFile("f", "")
		if _, err := decode(text); err == nil && broken != nil && !strings.Contains(broken.Text, errTooDeep.Error()) {
			t.Fatalf("valid TOML is refused: %s", broken)
		}
		if file == nil {
			file = empty
		} else {
			// The scanner sees each value where the decoder sees one.
			if !slices.ContainsFunc(file.doc.sections, func(s section) bool { return s.array }) {
				n := 0
				for _, node := range file.doc.nodes {
					if node.kind != inlineValue {
						n++
					}
					var v any = file.tree
					for _, name := range node.path {
						v = v.(map[string]any)[name]
					}
					if list, ok := v.([]any); ok && len(list) != len(node.elements) {
						t.Fatalf("%v: scanned %d elements, decoded %d", node.path, len(node.elements), len(list))
					}
				}
				if want := leaves(file.tree); n != want {
					t.Fatalf("scanned %d values, decoded %d: %v", n, want, file.tree)
				}
			}
		}
		snap, _ := build(cfg, file, broken, nil, &rules{})
		lines := strings.Split(text, "\n")
		for _, p := range snap.Problems {
			if p.Line < 1 || p.Line > len(lines) || p.Column < 1 || p.Column > len(lines[p.Line-1])+1 || p.Text == "" {
				t.Fatalf("a problem outside the file of %d lines: %+v", len(lines), p)
			}
		}
		for i := range table {
			if o, ok := snap.Origins[table[i].Key]; !ok || o.Locked {
				t.Fatalf("%s: origin %+v", table[i].Key, o)
			}
		}
		if len(snap.Listen) == 0 || snap.KerberosRenew == "" {
			t.Fatalf("unusable values: %+v", snap.Values)
		}
		snap.Describe()
	})
}

// change makes one change to an edit and says, independently of the code under
// test, what the file's value has to be afterwards (nil: absent).
func change(rng *rand.Rand, e *Edit) (key string, want any, err error) {
	words := []string{"a", "b", "c", "d", "x y", `q"\`, "ä", "#"}
	pick := func() []string {
		var list []string
		for range rng.IntN(5) {
			if w := words[rng.IntN(len(words))]; !slices.Contains(list, w) {
				list = append(list, w)
			}
		}
		return list
	}
	now := func(key string) any {
		v, _ := lookup(e.file.tree, key)
		return v
	}
	lists := []string{"bypass.exact", "no_proxy", "access.allow_users"}
	key = lists[rng.IntN(len(lists))]
	entries := pick()
	switch rng.IntN(6) {
	case 0:
		return key, anyList(entries), e.Set(key, slices.Clone(entries))
	case 1:
		list, _ := now(key).([]any)
		list = slices.Clone(list)
		before := len(list)
		for _, s := range entries {
			if !slices.Contains(list, any(s)) {
				list = append(list, s)
			}
		}
		if want = list; len(list) == before {
			want = now(key)
		}
		return key, want, e.Add(key, entries...)
	case 2:
		list, ok := now(key).([]any)
		kept := []any{}
		for _, v := range list {
			if s, isText := v.(string); !isText || !slices.Contains(entries, s) {
				kept = append(kept, v)
			}
		}
		if want = kept; !ok {
			want = now(key)
		}
		return key, want, e.Remove(key, entries...)
	case 3:
		key = table[rng.IntN(len(table))].Key
		return key, nil, e.Unset(key)
	case 4:
		key = []string{"kerberos.enabled", "ui.notify_valid"}[rng.IntN(2)]
		b := rng.IntN(2) == 0
		return key, b, e.Set(key, b)
	}
	key = []string{"pac", "kerberos.cache"}[rng.IntN(2)]
	s := words[rng.IntN(len(words))]
	return key, s, e.Set(key, s)
}

// deepSet is the plainest way to say what the tree should be.
func deepSet(tree map[string]any, key string, want any) map[string]any {
	next := map[string]any{}
	for name, v := range tree {
		next[name] = v
	}
	name, rest, nested := strings.Cut(key, ".")
	switch {
	case nested:
		sub, _ := tree[name].(map[string]any)
		next[name] = deepSet(sub, rest, want)
		if len(next[name].(map[string]any)) == 0 {
			delete(next, name)
		}
	case want == nil:
		delete(next, name)
	default:
		next[name] = want
	}
	return next
}

// checkEdits makes random changes to text and checks each, through the file on
// disk; it returns how many were made and how many refused.
func checkEdits(t *testing.T, text string, seed uint64) (made, refused int) {
	rng := rand.New(rand.NewPCG(seed, 1))
	before, broken := parseFile("f", text)
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	var key string
	var want any
	err = s.Edit(func(e *Edit) (err error) {
		key, want, err = change(rng, e)
		return err
	})
	b, readErr := os.ReadFile(path)
	if readErr != nil {
		t.Fatal(readErr)
	}
	after := string(b)
	if err != nil {
		if after != text {
			t.Fatalf("refused (%v), yet the file changed\n%q\n%q", err, text, after)
		}
		if broken != nil && !errors.Is(err, ErrBroken) {
			t.Fatalf("broken file: got %v", err)
		}
		t.Logf("refused: %v\n%q", err, text)
		return 0, 1
	}
	if broken != nil {
		t.Fatalf("a broken file was edited: %q", after)
	}
	got, err := decode(after)
	if err != nil {
		t.Fatalf("the result is not TOML: %v\n%q\n%q", err, text, after)
	}
	for _, tree := range []map[string]any{got, before.tree} { // an empty table more or less is no difference
		for i := range table {
			name, _, nested := strings.Cut(table[i].Key, ".")
			if sub, ok := tree[name].(map[string]any); nested && ok && len(sub) == 0 {
				delete(tree, name)
			}
		}
	}
	intended := deepSet(before.tree, key, want)
	if text == "" && after != "" {
		intended["version"] = int64(1)
	}
	if !equalTree(got, intended) {
		t.Fatalf("%s to %v:\n%q\nbecame\n%q\ngot  %v\nwant %v", key, want, text, after, got, intended)
	}
	for _, c := range before.doc.comments {
		if !strings.Contains(after, text[c.start:c.end]) {
			t.Fatalf("comment %q lost:\n%q\n%q", text[c.start:c.end], text, after)
		}
	}
	return 1, 0
}

func FuzzEdit(f *testing.F) {
	for _, s := range seeds {
		f.Add(s, uint64(1))
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		checkEdits(t, text, seed)
	})
}

// On files as people write them, hardly any edit may need a hand.
func TestEditsOfGeneratedFiles(t *testing.T) {
	made, refused := 0, 0
	for seed := range uint64(1000) {
		m, r := checkEdits(t, generate(rand.New(rand.NewPCG(seed, 2))), seed)
		made, refused = made+m, refused+r
	}
	t.Logf("%d edits made, %d refused", made, refused)
	if refused > 0 {
		t.Errorf("%d of %d edits were refused", refused, made+refused)
	}
}

// generate writes a valid file in one of many styles.
func generate(rng *rand.Rand) string {
	one := func(s ...string) string { return s[rng.IntN(len(s))] }
	list := func(lines bool) string {
		sep, comment := one(", ", ",", " , "), ""
		var b strings.Builder
		b.WriteString("[" + one("", " "))
		if lines {
			b.WriteString(one("", " # open") + "\n")
		}
		n := rng.IntN(5)
		for i := range n {
			b.WriteString(one("", "  ", "\t") + one(`"a"`, `'b'`, `"c"`, `"d"`, `"x y"`, `"""e"""`, `'#'`))
			if i < n-1 || one("", ",") != "" {
				b.WriteString(sep)
			}
			if comment = one("", " # last", "\n# own line"); lines && one("", "x") != "" {
				b.WriteString(comment + "\n")
			}
		}
		if lines {
			b.WriteString("\n")
		}
		return b.String() + one("", " ") + "]"
	}
	value := func(k *setting, lines bool) string {
		switch k.Kind {
		case KindList:
			return list(lines && one("", "x") != "")
		case KindBool:
			return one("true", "false")
		}
		return one(`"x"`, `'y'`, `"""a # b"""`, `"\u0041"`)
	}
	var root, rest strings.Builder
	root.WriteString(one("", "# about\n\n", "# about\n", "\xef\xbb\xbf", "\n"))
	tables := map[string][]*setting{}
	for i := range table {
		if one("", "x") == "" {
			continue
		}
		k := &table[i]
		if name, _, nested := strings.Cut(k.Key, "."); nested {
			tables[name] = append(tables[name], k)
		} else {
			root.WriteString(one("", " ") + k.Key + one("=", " = ") + value(k, true) + one("\n", " # note\n", "\n\n"))
		}
	}
	for _, name := range []string{"bypass", "kerberos", "access", "ui"} {
		keys := tables[name]
		switch rng.IntN(4) {
		case 0: // dotted
			for _, k := range keys {
				root.WriteString(k.Key + " = " + value(k, true) + one("\n", " # note\n"))
			}
		case 1: // inline
			var parts []string
			for _, k := range keys {
				parts = append(parts, strings.TrimPrefix(k.Key, name+".")+" = "+value(k, one("", "x") != ""))
			}
			root.WriteString(name + " = {" + one("", " ") + strings.Join(parts, ", ") + one("", " ") + "}" + one("\n", " # note\n"))
		case 2: // table
			rest.WriteString("# " + name + "\n" + one("[", "[ ") + name + one("]", " ] # head") + "\n")
			for _, k := range keys {
				rest.WriteString(one("", "  ") + strings.TrimPrefix(k.Key, name+".") + " = " + value(k, true) + one("\n", " # note\n", "\n\n"))
			}
			rest.WriteString(one("", "\n", "unknown = [ 1, 2 ] # u\n"))
		}
	}
	text := root.String() + rest.String() + one("", "[foreign]\nx = 1\n", "[[list]]\nx = nan\n[[list]]")
	if one("", "x") != "" {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	return text
}

// The last line of defence, on its own: results that an editor with a mistake
// would bring about.
func TestProveRefusesWhatWasNotAsked(t *testing.T) {
	f, _ := parseFile("f", "pac = \"a\" # why\n[ui]\nx = nan # u\n")
	path := []string{"pac"}
	if _, err := f.prove("pac = \"b\" # why\n[ui]\nx = nan # u\n", path, "b"); err != nil {
		t.Errorf("a proper edit is refused: %v", err)
	}
	for name, text := range map[string]string{
		"another value":     "pac = \"c\" # why\n[ui]\nx = nan # u\n",
		"no change":         "pac = \"a\" # why\n[ui]\nx = nan # u\n",
		"another key":       "pac = \"b\" # why\n[ui]\nx = 1 # u\n",
		"a key lost":        "pac = \"b\" # why\n[ui]\n# u\n",
		"a key more":        "pac = \"b\" # why\ny = 1\n[ui]\nx = nan # u\n",
		"a comment lost":    "pac = \"b\"\n[ui]\nx = nan # u\n",
		"a comment changed": "pac = \"b\" # why?\n[ui]\nx = nan # u\n",
		"a comment more":    "pac = \"b\" # why\n[ui]\nx = nan # u\n# u\n",
		"not valid":         "pac = \"b # why\n[ui]\nx = nan # u\n",
		"too large":         "pac = \"b\" # why\n[ui]\nx = nan # u\n" + strings.Repeat("\n", maxFile),
	} {
		if _, err := f.prove(text, path, "b"); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
