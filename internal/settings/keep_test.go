package settings_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"kerbpass/internal/settings"
)

// goodFile and what it gives are the state before each mistake below.
const goodFile = `listen = ["127.0.0.1:1"]
upstream = ["http://good:1"]
[bypass]
exact = ["vm", "git"]
[kerberos]
enabled = false
remind_before = "5m"
renew = "ask"
`

func refuseStar(v any) error {
	for _, s := range v.([]string) {
		if strings.HasPrefix(s, "*") {
			return errors.New("a star matches nothing")
		}
	}
	return nil
}

// A mistake in the file of a running helper costs neither the key's value nor
// anybody else's; where nothing was known before, the default counts.
func TestUnusableValueKeepsTheOneBefore(t *testing.T) {
	tests := []struct {
		name, key, text string
		line, column    int
		kept, first     string // the value after a good file, and without one
		in              string // of the text
	}{
		{"string for a list", "upstream", "upstream = \"http://x:1\"\n", 1, 12, "[http://good:1]", "[http://system:1]", "a list of strings"},
		{"all entries bad", "upstream", "upstream = [\"ftp://x\"]\n", 1, 13, "[http://good:1]", "[http://system:1]", "ftp"},
		{"bad listen entry", "listen", "\nlisten = [\"0.0.0.0:80\"]\n", 2, 11, "[127.0.0.1:1]", "[127.0.0.1:5372 [::1]:5372]", "loopback"},
		{"no listen entry", "listen", "listen = []\n", 1, 10, "[127.0.0.1:1]", "[127.0.0.1:5372 [::1]:5372]", "at least one"},
		{"string for a switch", "kerberos.enabled", "[kerberos]\nenabled = \"yes\"\n", 2, 11, "false", "true", "true or false"},
		{"number for a duration", "kerberos.remind_before", "[kerberos]\nremind_before = 3\n", 2, 17, "5m", "30m", "30m"},
		{"no such choice", "kerberos.renew", "[kerberos]\nrenew = \"never\"\n", 2, 9, "ask", "auto", "auto, ask, off"},
		{"number for a list", "bypass.exact", "[bypass]\nexact = 3\n", 2, 9, "[vm git]", "[]", "a list of strings"},
		{"list refused as a whole", "bypass.exact", "[bypass]\nexact = [\"a\", \"b\", \"c\", \"d\"]\n", 2, 9, "[vm git]", "[]", "too many"},
		{"value for a table", "bypass.exact", "bypass = 3\n", 1, 1, "[vm git]", "[]", "is a table"},
		{"list of tables", "bypass.exact", "\n[[bypass]]\nexact = [\"a\"]\n[[bypass]]\n", 2, 1, "[vm git]", "[]", "list of tables"},
		{"inside an inline table", "bypass.exact", "bypass = { exact = true }\n", 1, 20, "[vm git]", "[]", "a list of strings"},
	}
	cfg := settings.Config{
		System: func() []string { return []string{"http://system:1"} },
		Check: map[string]func(any) error{"bypass.exact": func(v any) error {
			if len(v.([]string)) > 3 {
				return errors.New("too many")
			}
			return nil
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check := func(s *settings.Store, want string, source settings.Source, until string) {
				t.Helper()
				snap := s.Snapshot()
				d := snap.Describe()[tt.key]
				if got := fmt.Sprint(d.Value); got != want || d.Source != string(source) {
					t.Errorf("got %s from %s, want %s from %s", got, d.Source, want, source)
				}
				if name := fmt.Sprintf("%s:%d", s.Path(), tt.line); source != settings.SourceSystem && d.Name != name {
					t.Errorf("got origin %q, want the place of the mistake, %s", d.Name, name)
				}
				if len(snap.Problems) != 1 {
					t.Fatalf("got problems %v, want one", snap.Problems)
				}
				p := snap.Problems[0]
				if p.Line != tt.line || p.Column != tt.column || !strings.Contains(p.Text, tt.in) || !strings.Contains(p.Hint, until) {
					t.Errorf("got %+v\nwant line %d, column %d, %q in the text, %q in the hint", p, tt.line, tt.column, tt.in, until)
				}
			}
			s := open(t, goodFile, cfg)
			before := s.Snapshot().Describe()
			write(t, s.Path(), tt.text)
			for range 2 { // the second time as well
				if err := s.Reload(); err != nil {
					t.Errorf("got %v, want a problem and no error", err)
				}
				check(s, tt.kept, settings.SourceFile, "had before count")
			}
			// What the file does not name any more is not kept.
			for key, d := range s.Snapshot().Describe() {
				if table, _, _ := strings.Cut(tt.key, "."); d.Source == "file" && key != tt.key && !strings.HasPrefix(key, table+".") {
					t.Errorf("%s: got %v from the file, which does not name it (before: %v)", key, d, before[key])
				}
			}
			// A file that does not parse changes nothing in that.
			write(t, s.Path(), "x = \n")
			if err := s.Reload(); !errors.Is(err, settings.ErrBroken) {
				t.Errorf("got %v, want ErrBroken", err)
			}
			if got := fmt.Sprint(s.Snapshot().Describe()[tt.key].Value); got != tt.kept {
				t.Errorf("while the file is broken: got %s, want %s", got, tt.kept)
			}
			write(t, s.Path(), "pac = \"x\"\n")
			if err := s.Reload(); err != nil {
				t.Error(err)
			}
			write(t, s.Path(), tt.text)
			if err := s.Reload(); err != nil {
				t.Error(err)
			}
			source := settings.SourceDefault
			if tt.key == "upstream" {
				source = settings.SourceSystem
			}
			until := "the built-in default"
			if tt.key == "upstream" {
				until = "the next source counts"
			}
			check(s, tt.first, source, until) // the key was gone in between
			check(open(t, tt.text, cfg), tt.first, source, until)
		})
	}
}

// Of a list that is one, the good entries count and nothing else does.
func TestBadEntriesOfAListAreLeftOut(t *testing.T) {
	cfg := settings.Config{Check: map[string]func(any) error{"bypass.exact": refuseStar}}
	s := open(t, goodFile, cfg)
	for _, tt := range []struct {
		list, want string
		columns    []int
	}{
		{`["vm", "*.q", 3, "b"]`, "vm b", []int{16, 23}},
		{`[3, "a"]`, "a", []int{10}},
		{`["", true, "c"]`, "c", []int{10, 14}},
		{`["*.q"]`, "", []int{10}}, // the good ones were taken out on purpose
		{`[1, [2]]`, "", []int{10, 13}},
		{`["vm"]`, "vm", nil},
	} {
		write(t, s.Path(), "[bypass]\nexact = "+tt.list+"\n")
		if err := s.Reload(); err != nil {
			t.Error(err)
		}
		snap := s.Snapshot()
		if got := strings.Join(snap.BypassExact, " "); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.list, got, tt.want)
		}
		var columns []int
		for _, p := range snap.Problems {
			columns = append(columns, p.Column)
			if p.Line != 2 || p.Key != "bypass.exact" || !strings.Contains(p.Hint, "it is ignored") {
				t.Errorf("%s: got %+v", tt.list, p)
			}
		}
		if fmt.Sprint(columns) != fmt.Sprint(tt.columns) {
			t.Errorf("%s: got problems in columns %v, want %v", tt.list, columns, tt.columns)
		}
	}
}

// The upstream that was kept is judged anew: it may have become ourselves.
func TestKeptUpstreamMayBecomeOurselves(t *testing.T) {
	s := open(t, "upstream = [\"http://x:9\", \"http://y:8\"]\n", settings.Config{
		SelfUpstream: func(url string, listen []string) bool { return strings.Contains(listen[0], url[len(url)-2:]) },
	})
	write(t, s.Path(), "listen = [\"127.0.0.1:9\"]\nupstream = 3\n")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.Snapshot().Upstream, " "); got != "http://y:8" {
		t.Errorf("got %q, want the one that is not us", got)
	}
	if p := s.Snapshot().Problems; len(p) != 2 || p[1].Column != 12 {
		t.Errorf("got problems %v, want two, at the value", p)
	}
}

// What was kept is the file's: it does not speak for another source.
func TestKeptValueStaysTheFiles(t *testing.T) {
	s := open(t, goodFile, settings.Config{LookupEnv: env("HTTPS_PROXY", "ftp://x")})
	for _, text := range []string{goodFile, "upstream = 3\n"} {
		write(t, s.Path(), text)
		if err := s.Reload(); err != nil {
			t.Fatal(err)
		}
		snap := s.Snapshot()
		if o := snap.Origins["upstream"]; o.Source != settings.SourceFile || o.Locked || strings.Join(snap.Upstream, " ") != "http://good:1" {
			t.Errorf("got %v from %+v, want the file's", snap.Upstream, o)
		}
		if p := snap.Problems[0]; p.Source != settings.SourceEnv || !strings.Contains(p.Hint, "the next source counts") {
			t.Errorf("got %+v", p)
		}
	}
}

// An edit either takes effect or is refused, with the place of what is wrong.
func TestEditOfUnusableValues(t *testing.T) {
	cfg := settings.Config{Check: map[string]func(any) error{"bypass.exact": refuseStar, "no_proxy": func(v any) error {
		if len(v.([]string)) > 2 {
			return errors.New("too many")
		}
		return nil
	}}}
	tests := []struct {
		name, text string
		edit       func(*settings.Edit) error
		key, want  string // the value afterwards
		kind       error
		message    string // after the path of the file, where it begins with ":"
	}{
		{"add beside bad entries", "[bypass]\nexact = [\"vm\", \"*.q\", 3]\n", add("bypass.exact", "w.w"), "bypass.exact", "[vm w.w]", nil, ""},
		{"add beside nothing but bad entries", "listen = [\"0.0.0.0:1\"]\n", add("listen", "127.0.0.1:2"), "listen", "[127.0.0.1:2]", nil, ""},
		{"remove beside bad entries", "[bypass]\nexact = [\"vm\", \"*.q\", 3]\n", remove("bypass.exact", "vm"), "bypass.exact", "[]", nil, ""},
		{"remove a bad entry", "[bypass]\nexact = [\"vm\", \"*.q\"]\n", remove("bypass.exact", "*.q"), "bypass.exact", "[vm]", nil, ""},
		{"remove one of two bad entries", "upstream = [\"ftp://x\", \"ftp://y\"]\n", remove("upstream", "ftp://x"), "upstream", "[http://good:1]", nil, ""},
		{"set over a wrong type", "[bypass]\nexact = 3\n", set("bypass.exact", []string{"a"}), "bypass.exact", "[a]", nil, ""},
		{"unset a wrong type", "[bypass]\nexact = 3\n", unset("bypass.exact"), "bypass.exact", "[]", nil, ""},
		{"add to a wrong type", "[bypass]\nexact = \"a\"\n", add("bypass.exact", "w.w"), "", "", settings.ErrByHand,
			":2:9: bypass.exact: the value is a string, a list of strings, [\"…\"], is needed"},
		{"remove from a wrong type", "bypass = { exact = 3 }\n", remove("bypass.exact", "vm"), "", "", settings.ErrByHand,
			":1:20: bypass.exact: the value is a number, a list of strings, [\"…\"], is needed"},
		{"add to what is no table", "bypass = 3\n", add("bypass.exact", "w.w"), "", "", settings.ErrByHand, `:1:1: "bypass" is a table, not a value`},
		{"remove from what is no table", "bypass = 3\n", remove("bypass.exact", "vm"), "", "", settings.ErrByHand, `:1:1: "bypass" is a table, not a value`},
		{"unset in what is no table", "x = 1\n[[bypass]]\n", unset("bypass.exact"), "", "", settings.ErrByHand, `:2:1: "bypass" is a table, not a list of tables`},
		{"add one too many", "no_proxy = [\"a\", \"b\"]\n", add("no_proxy", "c"), "", "", settings.ErrInvalid, "no_proxy: too many"},
		{"remove the last good one", "listen = [\"127.0.0.1:2\", \"x\"]\n", remove("listen", "127.0.0.1:2"), "", "", settings.ErrInvalid,
			"listen: nothing that can be used would be left: \"x\" is not an address with a port: write 127.0.0.1:5372 or [::1]:5372"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, goodFile, cfg)
			write(t, s.Path(), tt.text)
			err := s.Edit(tt.edit)
			if tt.kind == nil {
				if err != nil {
					t.Fatal(err)
				}
				if got := fmt.Sprint(s.Snapshot().Describe()[tt.key].Value); got != tt.want {
					t.Errorf("got %s, want %s; the file became %q", got, tt.want, read(t, s.Path()))
				}
				return
			}
			want := tt.message
			if strings.HasPrefix(want, ":") {
				want = s.Path() + want
			}
			if !errors.Is(err, tt.kind) || err.Error() != want {
				t.Errorf("got  %v\nwant %s (%v)", err, want, tt.kind)
			}
			if got := read(t, s.Path()); got != tt.text {
				t.Errorf("the file became %q", got)
			}
		})
	}
}

func TestBrokenFileSaysWhatCounts(t *testing.T) {
	const first, later = "until then the defaults count and nothing is saved.", "until then the last good settings count and nothing is saved."
	problem := func(s *settings.Store, want string) settings.Problem {
		t.Helper()
		p := s.Snapshot().Problems
		if len(p) != 1 || !strings.HasSuffix(p[0].Hint, want) {
			t.Fatalf("got %+v, want one problem, its hint ending in %q", p, want)
		}
		return p[0]
	}
	s := open(t, "pac = \n", settings.Config{})
	problem(s, first)
	write(t, s.Path(), "pac = \"a\"\n")
	if err := s.Reload(); err != nil {
		t.Fatal(err)
	}
	write(t, s.Path(), "pac = \n")
	s.Reload()
	problem(s, later)

	// Without a place: there is no text to point at.
	if err := errors.Join(os.Remove(s.Path()), os.Mkdir(s.Path(), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil || err.Error() != s.Path()+" cannot be read: not a regular file" {
		t.Errorf("got %v", err)
	}
	dir := problem(s, later)
	big := filepath.Join(t.TempDir(), "big.toml")
	write(t, big, strings.Repeat("#", 1<<20+1))
	for _, p := range []settings.Problem{dir, problem(open(t, "", settings.Config{Path: s.Path()}), first), problem(open(t, "", settings.Config{Path: big}), first)} {
		if p.Line != 0 || p.Column != 0 || p.File == "" {
			t.Errorf("got %+v, want a file and no place in it", p)
		}
		if want := p.File + ": " + p.Text + ". " + p.Hint; p.String() != want {
			t.Errorf("got %q, want %q", p, want)
		}
	}
}

func TestProblemString(t *testing.T) {
	for want, p := range map[string]settings.Problem{
		"f.toml:2:3: pac: wrong. Correct it.": {File: "f.toml", Line: 2, Column: 3, Text: "pac: wrong", Hint: "Correct it."},
		"f.toml: unreadable. Correct it.":     {File: "f.toml", Text: "unreadable", Hint: "Correct it."},
		"--pac (pac): wrong. Correct it.":     {Text: "--pac (pac): wrong", Hint: "Correct it."},
		"wrong":                               {Text: "wrong"},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Callers show a hint on a line of its own.
func TestHintsAreSentences(t *testing.T) {
	seen := map[string]bool{}
	hints := func(s *settings.Store) {
		t.Helper()
		for _, p := range s.Snapshot().Problems {
			seen[p.Hint] = true
			if r := []rune(p.Hint); len(r) == 0 || !unicode.IsUpper(r[0]) || r[len(r)-1] != '.' {
				t.Errorf("%s: the hint %q is not a sentence", p.Text, p.Hint)
			}
			if strings.HasSuffix(p.Text, ".") {
				t.Errorf("the text %q ends with a full stop", p.Text)
			}
		}
	}
	self := settings.Config{SelfUpstream: func(string, []string) bool { return true }}
	for _, text := range []string{
		"x = \n", "version = 9\n", "version = true\n", "lisen = 1\n", "zzzzzzzz = 1\n", "[zzzzzzzz]\n", "bypass = 3\n", "[[ui]]\n",
		"upstream = 3\n", "upstream = [\"http://x\"]\n", "listen = 3\n", "no_proxy = [3]\n", "a = " + strings.Repeat("[", 100),
	} {
		hints(open(t, text, self))
		s := open(t, goodFile, self)
		write(t, s.Path(), text)
		s.Reload()
		hints(s)
	}
	hints(open(t, "", settings.Config{Path: t.TempDir()}))
	hints(open(t, "", settings.Config{LookupEnv: env("HTTPS_PROXY", "ftp://x"), Flags: map[string]any{"kerberos.renew": "x"}}))
	if len(seen) < 14 {
		t.Errorf("got %d different hints: %v", len(seen), seen)
	}
}

// An error of Edit says what is wrong once; what kind it is, errors.Is tells.
func TestEditErrorsAreOneClause(t *testing.T) {
	mine := errors.New("no shouting")
	cfg := settings.Config{LookupEnv: env("JAATO_NO_PROXY", "x"), Flags: map[string]any{"pac": "y"}, Policy: locked(map[string]any{"kerberos.renew": "ask"}),
		Check: map[string]func(any) error{"no_proxy": func(any) error { return mine }}}
	tests := []struct {
		text string
		edit func(*settings.Edit) error
		kind error
		want string // PATH stands for the file
	}{
		{"", add("bypass.exact", "a"), settings.ErrLocked, "bypass.exact is set by JAATO_NO_PROXY"},
		{"", set("pac", "a"), settings.ErrLocked, "pac is set by --pac"},
		{"", unset("kerberos.renew"), settings.ErrLocked, "kerberos.renew is set by your organisation (policy.toml)"},
		{"", set("kerberos.enable", true), settings.ErrInvalid, `there is no setting "kerberos.enable", the nearest is kerberos.enabled`},
		{"", set("zzzzzzzzz", true), settings.ErrInvalid, `there is no setting "zzzzzzzzz"`},
		{"", set("kerberos.enabled", "on"), settings.ErrInvalid, "kerberos.enabled: the value is a string, true or false is needed"},
		{"", add("no_proxy", "a"), settings.ErrInvalid, "no_proxy: no shouting"},
		{"", add("no_proxy", "a"), mine, "no_proxy: no shouting"},
		{"", add("kerberos.spn", "x"), settings.ErrInvalid, "kerberos.spn is not a list"},
		{"listen = [\"127.0.0.1:1\"]\n", remove("listen", "127.0.0.1:1"), settings.ErrInvalid, "listen: the list needs at least one entry"},
		{"kerberos = 3\n", set("kerberos.spn", "a/b"), settings.ErrByHand, `PATH:1:1: "kerberos" is a table, not a value`},
		{"ui.language.x = 1\n", set("ui.language", "de"), settings.ErrByHand, "ui.language: the edit would change more than this value in PATH"},
		{"version = true\n", set("ui.language", "de"), settings.ErrNewer, "PATH:1:11: the version is not a number this program knows: nothing is saved"},
		{"x = 1\n", func(*settings.Edit) error { return os.ErrInvalid }, os.ErrInvalid, "invalid argument"},
	}
	for _, tt := range tests {
		s := open(t, tt.text, cfg)
		err := s.Edit(tt.edit)
		if want := strings.ReplaceAll(tt.want, "PATH", s.Path()); !errors.Is(err, tt.kind) || err.Error() != want {
			t.Errorf("got  %v\nwant %s (%v)", err, want, tt.kind)
		}
	}
	s := open(t, "x = \n", cfg)
	for _, err := range []error{s.Edit(set("ui.language", "de")), s.Reload()} {
		if !errors.Is(err, settings.ErrBroken) || !strings.HasPrefix(err.Error(), s.Path()+":1:5: ") || strings.Contains(err.Error(), settings.ErrBroken.Error()) {
			t.Errorf("got %v, want ErrBroken with its place and nothing twice", err)
		}
	}
}
