// Package docs_test keeps the documents true: what they name exists, and what
// exists is named. It needs nothing but Go, which builds the program once to
// ask it for its commands and settings.
package docs_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

const root = ".."

// A document is one Markdown file: its slash-separated path in the repository
// and its text.
type document struct{ name, text string }

func documents(t *testing.T) (all []document) {
	t.Helper()
	for name := range files(t, ".md") {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, document{name, string(text)})
	}
	if !slices.ContainsFunc(all, func(d document) bool { return d.name == "docs/troubleshooting.md" }) {
		t.Fatalf("the documents were not found: %d read", len(all))
	}
	return all
}

// files returns the files of the repository that end in suffix.
func files(t *testing.T, suffix string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != root && (d.Name() == "dist" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".github"):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(name, suffix):
			rel, err := filepath.Rel(root, name)
			found[filepath.ToSlash(rel)] = true
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// complain reports what check finds in each document.
func complain(t *testing.T, docs []document, check func(document) []string) {
	t.Helper()
	for _, d := range docs {
		for _, why := range check(d) {
			t.Errorf("%s: %s", d.name, why)
		}
	}
}

// Markdown.

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	span    = regexp.MustCompile("`+[^`]+`+")
	heading = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`)
	fence   = regexp.MustCompile("(?ms)^ *```(\\w*)\n(.*?)^ *```")
)

// prose is the text with its fenced blocks and code spans taken out.
func prose(text string) string { return span.ReplaceAllString(fence.ReplaceAllString(text, ""), "") }

// anchors are what a link can lead to, as GitHub makes them from headings.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(fence.ReplaceAllString(text, ""), -1) {
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])
		for n, base := 1, slug; found[slug]; n++ {
			slug = base + "-" + strconv.Itoa(n)
		}
		found[slug] = true
	}
	return found
}

// checkLinks returns the links that lead nowhere; read gives a file's text.
func checkLinks(d document, read func(name string) (string, error)) (bad []string) {
	for _, m := range link.FindAllStringSubmatch(prose(d.text), -1) {
		target, anchor, _ := strings.Cut(m[1], "#")
		if strings.Contains(target, ":") {
			continue // another place's
		}
		text := d.text
		if target != "" {
			var err error
			if text, err = read(path.Join(path.Dir(d.name), target)); err != nil {
				bad = append(bad, fmt.Sprintf("the link to %s leads nowhere", m[1]))
				continue
			}
		}
		if anchor != "" && !anchors(text)[anchor] {
			bad = append(bad, fmt.Sprintf("the link to %s names no heading", m[1]))
		}
	}
	return bad
}

func TestLinks(t *testing.T) {
	complain(t, documents(t), func(d document) []string {
		return checkLinks(d, func(name string) (string, error) {
			if st, err := os.Stat(filepath.Join(root, name)); err == nil && st.IsDir() {
				return "", nil
			}
			text, err := os.ReadFile(filepath.Join(root, name))
			return string(text), err
		})
	})
}

// The program's commands.

// A command is one command of the program, as its help tells.
type command struct {
	name  string          // "bypass add"; "" for the program itself
	flags map[string]bool // with their dashes; true: a value follows
	subs  map[string]*command
	words map[string]bool // that its first argument can be; nil: anything
	free  bool            // takes arguments at all
}

var (
	helpFlag = regexp.MustCompile(`(?m)^ +(?:(-\w), )?(--[a-z-]+)(?: (\S+))?(?:  |$)`)
	helpSub  = regexp.MustCompile(`(?m)^  ([a-z]+) {2,}\S`)
)

// parseHelp reads what "--help" says of the command called name.
func parseHelp(name, help string) *command {
	c := &command{name: name, flags: map[string]bool{}, subs: map[string]*command{}}
	for _, m := range helpFlag.FindAllStringSubmatch(help, -1) {
		for _, flag := range m[1:3] {
			if flag != "" {
				c.flags[flag] = m[3] != ""
			}
		}
	}
	if _, list, ok := strings.Cut(help, "Available Commands:\n"); ok {
		list, _, _ = strings.Cut(list, "\n\n")
		for _, m := range helpSub.FindAllStringSubmatch(list, -1) {
			c.subs[m[1]] = nil
		}
	}
	_, usage, _ := strings.Cut(help, "Usage:\n")
	usage, _, _ = strings.Cut(usage, "\n")
	usage = strings.TrimPrefix(strings.TrimSpace(usage), strings.TrimSpace("kerbpass "+name))
	for word := range strings.FieldsSeq(usage) {
		switch {
		case word == "[flags]" || word == "[command]":
		case strings.Contains(word, "|") && word == strings.ToLower(word):
			c.free, c.words = true, map[string]bool{}
			for choice := range strings.SplitSeq(word, "|") {
				c.words[choice] = true
			}
		default:
			c.free = true
		}
	}
	return c
}

// A program is the built one.
type program struct{ path, home string }

func build(t *testing.T) program {
	t.Helper()
	dir, err := os.MkdirTemp("", "kp") // of this user alone, and short enough for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := program{filepath.Join(dir, "kerbpass"), dir}
	if runtime.GOOS == "windows" {
		p.path += ".exe"
	}
	cmd := exec.Command("go", "build", "-o", p.path, "./cmd/tray")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0") // also where the race detector needs cgo: the build is there already
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return p
}

// run returns what the program prints, whatever its exit code.
func (p program) run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(p.path, args...)
	cmd.Env = os.Environ()
	for _, name := range []string{"HOME", "USERPROFILE", "APPDATA", "LOCALAPPDATA", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"} {
		cmd.Env = append(cmd.Env, name+"="+p.home)
	}
	out, err := cmd.Output()
	if len(out) == 0 {
		t.Fatalf("kerbpass %s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// tree returns the command called name with everything below it.
func (p program) tree(t *testing.T, name string) *command {
	t.Helper()
	c := parseHelp(name, p.run(t, append(strings.Fields(name), "--help")...))
	delete(c.subs, "help")
	for sub := range c.subs {
		c.subs[sub] = p.tree(t, strings.TrimSpace(name+" "+sub))
	}
	return c
}

// each calls f for c and everything below it.
func (c *command) each(f func(*command)) {
	f(c)
	for _, sub := range c.subs {
		sub.each(f)
	}
}

var (
	// An invocation ends where a shell would say so.
	invocation = regexp.MustCompile(`(?:^|[("'$|&;]|[^o\s] |[^-]o |  )kerbpass(( [^\n]*)|$)`)
	invokeEnd  = regexp.MustCompile(`[;)>]|&&| \| | # | #$|$`)
)

// invocations returns what follows "kerbpass" wherever a document quotes it as
// a command: in code blocks, in spans, and in the spans that follow one in the
// first cell of a table's row.
func invocations(text string) (found []string) {
	collect := func(line string) {
		line = strings.ReplaceAll(line, `\|`, "|")
		for rest := line; ; {
			m := invocation.FindStringSubmatchIndex(rest)
			if m == nil {
				return
			}
			args := rest[m[2]:m[3]]
			found = append(found, strings.TrimSpace(args[:invokeEnd.FindStringIndex(args)[0]]))
			rest = args
		}
	}
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(m[2]) {
			collect(strings.TrimSpace(line))
		}
	}
	for line := range strings.Lines(fence.ReplaceAllString(text, "")) {
		if strings.HasPrefix(line, "    ") {
			collect(strings.TrimSpace(line))
			continue
		}
		cell := ""
		if strings.HasPrefix(line, "| `kerbpass ") {
			cell, _, _ = strings.Cut(strings.ReplaceAll(line[2:], `\|`, "\x00"), "|")
			cell = strings.ReplaceAll(cell, "\x00", `\|`)
		}
		for i, code := range span.FindAllString(cell, -1) {
			code = strings.Trim(code, "`")
			if i > 0 && !strings.HasPrefix(code, "kerbpass") {
				code = "kerbpass " + code
			}
			collect(code)
		}
		for _, code := range span.FindAllString(strings.TrimPrefix(line, "| "+cell), -1) {
			collect(strings.Trim(code, "`"))
		}
	}
	return found
}

// checkInvocation returns what is wrong with one quoted command line, and puts
// what it names into seen.
func (c *command) checkInvocation(line string, seen map[string]bool) (bad []string) {
	complain := func(format string, args ...any) {
		bad = append(bad, fmt.Sprintf("kerbpass %s: ", line)+fmt.Sprintf(format, args...))
	}
	words := strings.Fields(strings.NewReplacer("[", " ", "]", " ").Replace(line))
	for i := 0; i < len(words); i++ {
		flag, _, hasValue := strings.Cut(strings.TrimRight(words[i], ",."), "=")
		switch value, known := c.flags[flag]; {
		case words[i] == "--":
			return bad
		case strings.HasPrefix(flag, "-") && flag != "-":
			if !known {
				complain("there is no flag %s", flag)
			}
			seen[flag] = true
			if value && !hasValue {
				i++
			}
			continue
		case words[i] == "·" || words[i] == "…":
			return bad
		}
		var next *command
		choices := strings.Split(words[i], "|")
		for _, choice := range choices {
			sub, isSub := c.subs[choice]
			switch {
			case isSub:
				next = sub
				seen[sub.name] = true
			case !c.free:
				complain("there is no %q", choice)
				return bad
			case c.words != nil && !c.words[choice] && choice == strings.ToLower(choice):
				complain("%q is none of its words", choice)
			}
		}
		if next != nil {
			if len(choices) > 1 {
				return bad
			}
			c = next
		}
	}
	return bad
}

// foreign are flags of other programs that documents may name alone.
var foreign = map[string]string{
	"--network": "docker", "--options": "codesign",
}

// checkFlags returns the flags that stand alone in a span and that no command
// has, and puts the others into seen.
func checkFlags(text string, all, seen map[string]bool) (bad []string) {
	for _, code := range span.FindAllString(fence.ReplaceAllString(text, ""), -1) {
		for word := range strings.FieldsSeq(strings.Trim(code, "`")) {
			flag, _, _ := strings.Cut(word, "=")
			switch {
			case !strings.HasPrefix(strings.Trim(code, "`"), "--") || !strings.HasPrefix(flag, "--") || flag == "--" || foreign[flag] != "":
			case !all[flag]: // a long one
				bad = append(bad, fmt.Sprintf("no command has the flag %s", flag))
			default:
				seen[flag] = true
			}
		}
	}
	return bad
}

func TestCommandsFlagsAndSettings(t *testing.T) {
	p, docs := build(t), documents(t)
	t.Run("commands and flags", func(t *testing.T) { testCommands(t, p, docs) })
	t.Run("settings", func(t *testing.T) { testSettings(t, p, docs) })
}

func testCommands(t *testing.T, p program, docs []document) {
	top := p.tree(t, "")
	all, seen := map[string]bool{}, map[string]bool{"--help": true}
	top.each(func(c *command) {
		for flag := range c.flags {
			all[flag] = strings.HasPrefix(flag, "--")
		}
	})
	if len(top.subs) < 10 || top.subs["bypass"].subs["add"] == nil || !top.subs["autostart"].words["on"] || !all["--upstream"] {
		t.Fatalf("the commands were not read from the help: %v", slices.Sorted(maps.Keys(top.subs)))
	}
	complain(t, docs, func(d document) (bad []string) {
		for _, line := range invocations(d.text) {
			bad = append(bad, top.checkInvocation(line, seen)...)
		}
		return append(bad, checkFlags(d.text, all, seen)...)
	})
	top.each(func(c *command) {
		if c.name != "" && !seen[c.name] {
			t.Errorf("no document mentions kerbpass %s", c.name)
		}
	})
	for flag, long := range all {
		if long && !seen[flag] {
			t.Errorf("no document mentions the flag %s", flag)
		}
	}
}

// Settings.

var (
	tomlKey     = regexp.MustCompile(`^([a-z_]+) *=`)
	tomlSection = regexp.MustCompile(`^\[([a-z_.]+)\]$`)
	dottedKey   = regexp.MustCompile(`^([a-z_]+)\.[a-z_]+$`)
	sectionKey  = regexp.MustCompile(`^\[([a-z_]+)\] ([a-z_]+)`)
)

// checkSettings returns the settings a document names that do not exist, and
// puts the others into seen. A setting is named in a block of TOML, or in a
// span, as kerberos.spn or as [kerberos] spn; one of the top level alone only
// in a table's first cell.
func checkSettings(text string, known map[string]bool, seen map[string]bool) (bad []string) {
	name := func(key string) {
		if !known[key] {
			bad = append(bad, fmt.Sprintf("there is no setting %s", key))
		}
		seen[key] = true
	}
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		section := ""
		for line := range strings.Lines(m[2]) {
			line, _, _ := strings.Cut(line, " #")
			if line = strings.TrimSpace(line); m[1] != "toml" {
				continue
			} else if s := tomlSection.FindStringSubmatch(line); s != nil {
				section = s[1] + "."
			} else if s := tomlKey.FindStringSubmatch(line); s != nil && section+s[1] != "version" {
				name(section + s[1])
			}
		}
	}
	sections := map[string]bool{}
	for key := range known {
		section, _, dotted := strings.Cut(key, ".")
		sections[section] = dotted || sections[section]
	}
	for line := range strings.Lines(fence.ReplaceAllString(text, "")) {
		for _, code := range span.FindAllString(line, -1) {
			code = strings.Trim(code, "`")
			if s := dottedKey.FindStringSubmatch(code); s != nil && sections[s[1]] {
				name(code)
			} else if s := sectionKey.FindStringSubmatch(code); s != nil && sections[s[1]] {
				name(s[1] + "." + s[2])
			} else if known[code] && strings.HasPrefix(line, "| `"+code+"`") {
				name(code)
			}
		}
	}
	return bad
}

func testSettings(t *testing.T, p program, docs []document) {
	var status struct{ Settings map[string]any }
	if err := json.Unmarshal([]byte(p.run(t, "status", "--json")), &status); err != nil {
		t.Fatal(err)
	}
	known, seen := map[string]bool{}, map[string]bool{}
	for key := range status.Settings {
		known[key] = true
	}
	if !known["kerberos.enabled"] || !known["upstream"] {
		t.Fatalf("the settings were not read: %v", status.Settings)
	}
	complain(t, docs, func(d document) []string { return checkSettings(d.text, known, seen) })
	for key := range known {
		if !seen[key] {
			t.Errorf("no document names the setting %s", key)
		}
	}
}

// Causes, checks of the doctor, tests.

// constants returns the values of the string constants of type typ in a file.
func constants(t *testing.T, name, typ string) (all []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && len(spec.Values) == 1 {
			id, _ := spec.Type.(*ast.Ident)
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && id != nil && id.Name == typ {
				text, _ := strconv.Unquote(lit.Value)
				all = append(all, text)
			}
		}
		return true
	})
	return all
}

var causeHeading = regexp.MustCompile(`(?m)^### ([a-z0-9_]+)$`)

// checkCauses compares the sections of a document with the list of causes.
func checkCauses(text string, causes []string) (bad []string) {
	var sections []string
	for _, m := range causeHeading.FindAllStringSubmatchIndex(text, -1) {
		name := text[m[2]:m[3]]
		sections = append(sections, name)
		body, _, _ := strings.Cut(text[m[1]:], "\n#")
		for _, part := range []string{"**See it:**", "**Do:**", "**Tell your administrator:**"} {
			if !strings.Contains(body, part) {
				bad = append(bad, fmt.Sprintf("the section %s lacks %s", name, part))
			}
		}
	}
	for _, cause := range causes {
		if n := len(slices.DeleteFunc(slices.Clone(sections), func(s string) bool { return s != cause })); n != 1 {
			bad = append(bad, fmt.Sprintf("%d sections for the cause %s, want 1", n, cause))
		}
	}
	for _, section := range sections {
		if !slices.Contains(causes, section) {
			bad = append(bad, fmt.Sprintf("the section %s is about no cause", section))
		}
	}
	return bad
}

var doctorLine = regexp.MustCompile(`doctor's \*([^*]+)\*`)

// checkDoctor returns the checks of the doctor that a document names wrongly.
func checkDoctor(text string, titles []string) (bad []string) {
	for _, m := range doctorLine.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(titles, m[1]) {
			bad = append(bad, fmt.Sprintf("the doctor has no check called %q", m[1]))
		}
	}
	return bad
}

func TestCauses(t *testing.T) {
	causes := constants(t, "internal/proxy/errors.go", "Cause")
	if len(causes) < 20 || !slices.Contains(causes, "no_ticket") {
		t.Fatalf("the causes were not read: %q", causes)
	}
	source, err := os.ReadFile(filepath.Join(root, "cmd", "tray", "doctor.go"))
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, m := range regexp.MustCompile(`ID: "[a-z_]+", Title: "([^"]+)"`).FindAllStringSubmatch(string(source), -1) {
		titles = append(titles, m[1])
	}
	if len(titles) < 15 {
		t.Fatalf("the doctor's checks were not read: %q", titles)
	}
	complain(t, documents(t), func(d document) []string {
		bad := checkDoctor(d.text, titles)
		if d.name == "docs/troubleshooting.md" {
			bad = append(bad, checkCauses(d.text, causes)...)
		}
		return bad
	})
}

var (
	testName = regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z][A-Za-z0-9_]*`)
	testFunc = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Za-z0-9_]+)\(`)
)

// checkTests returns the tests in spans of a document that do not exist.
func checkTests(text string, tests map[string]bool) (bad []string) {
	for _, code := range span.FindAllString(fence.ReplaceAllString(text, ""), -1) {
		for _, name := range testName.FindAllString(code, -1) {
			if !tests[name] {
				bad = append(bad, fmt.Sprintf("there is no test %s", name))
			}
		}
	}
	return bad
}

// checkProofs returns the rows of a document's tables headed "Shown by" that
// name neither a test nor, after "not shown:", why there is none.
func checkProofs(text string) (bad []string, rows int) {
	inside := false
	for line := range strings.Lines(text) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		last := strings.TrimSpace(cells[len(cells)-1])
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
		case last == "Shown by":
			inside = true
		case inside && !strings.HasPrefix(last, "---"):
			rows++
			if !testName.MatchString(last) && len(last) < len("not shown: xxx") || !testName.MatchString(last) && !strings.HasPrefix(last, "not shown: ") {
				bad = append(bad, fmt.Sprintf("nothing shows that %q", strings.TrimSpace(cells[0])))
			}
		}
	}
	return bad, rows
}

func TestNamedTestsExist(t *testing.T) {
	tests := map[string]bool{}
	for name := range files(t, "_test.go") {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			tests[m[1]] = true
		}
	}
	if !tests["TestNamedTestsExist"] {
		t.Fatalf("the tests were not read: %d found", len(tests))
	}
	complain(t, documents(t), func(d document) []string {
		bad := checkTests(d.text, tests)
		if d.name == "docs/threat-model.md" {
			missing, rows := checkProofs(d.text)
			if bad = append(bad, missing...); rows < 20 {
				bad = append(bad, fmt.Sprintf("%d answers read", rows))
			}
		}
		return bad
	})
}

// The checks shown to bite: each wrong text must give its complaint, and each
// right one none.
func TestChecksBite(t *testing.T) {
	top := &command{
		flags: map[string]bool{"--config": true, "-h": false},
		subs: map[string]*command{
			"quit":      {name: "quit", flags: map[string]bool{"--config": true}},
			"autostart": parseHelp("autostart", "Usage:\n  kerbpass autostart on|off|status [flags]\n\nFlags:\n      --json   print JSON\n"),
			"pause":     parseHelp("pause", "Usage:\n  kerbpass pause [DURATION] [flags]\n"),
			"bypass":    {name: "bypass", subs: map[string]*command{"add": {name: "bypass add", free: true}, "list": {name: "bypass list"}}},
		},
	}
	commands := func(text string) (bad []string) {
		for _, line := range invocations(text) {
			bad = append(bad, top.checkInvocation(line, map[string]bool{})...)
		}
		return bad
	}
	links := func(text string) []string {
		return checkLinks(document{"docs/a.md", text}, func(name string) (string, error) {
			if name != "README.md" {
				return "", fs.ErrNotExist
			}
			return "# The `map` of rooms\n\n## Twice\n\n## Twice\n", nil
		})
	}
	settings := func(text string) []string {
		return checkSettings(text, map[string]bool{"upstream": true, "kerberos.spn": true}, map[string]bool{})
	}
	flags := func(text string) []string {
		return checkFlags(text, map[string]bool{"--json": true}, map[string]bool{})
	}
	causes := func(text string) []string { return checkCauses(text, []string{"timeout"}) }
	doctor := func(text string) []string { return checkDoctor(text, []string{"Clock"}) }
	tests := func(text string) []string { return checkTests(text, map[string]bool{"TestLinks": true}) }
	proofs := func(text string) []string { bad, _ := checkProofs(text); return bad }
	section := "### timeout\n\n**See it:** x\n\n**Do:** x\n\n**Tell your administrator:** x\n"

	for _, tt := range []struct {
		name  string
		check func(string) []string
		text  string
		want  string // "": no complaint
	}{
		{"link", links, "[a](../README.md#the-map-of-rooms) [b](../README.md#twice-1) [c](https://x.example/#y) `[d](no)`", ""},
		{"link to no file", links, "[a](no.md)", "no.md leads nowhere"},
		{"picture that is missing", links, "![a](images/no.png)", "leads nowhere"},
		{"link to no heading", links, "[a](../README.md#elsewhere)", "names no heading"},
		{"link to no heading here", links, "# Here\n\n[a](#there)", "names no heading"},

		{"command", commands, "`kerbpass quit`, `kerbpass autostart on\\|off`, `kerbpass pause 5m`", ""},
		{"command with flags", commands, "    kerbpass --config x.toml quit; kerbpass autostart --json status # all", ""},
		{"unknown command", commands, "`kerbpass stop`", `no "stop"`},
		{"unknown command in a block", commands, "```sh\n$ sudo kerbpass stop\n```\n", `no "stop"`},
		{"unknown command in a substitution", commands, "    eval \"$(kerbpass stop)\"", `no "stop"`},
		{"unknown command after another", commands, "    kerbpass quit && kerbpass stop", `no "stop"`},
		{"unknown subcommand", commands, "`kerbpass bypass add x`, `kerbpass bypass drop x`", `no "drop"`},
		{"unknown command in a row", commands, "| `kerbpass quit` · `stop` | x |", `no "stop"`},
		{"unknown among alternatives", commands, "`kerbpass bypass list\\|drop`", `no "drop"`},
		{"unknown word", commands, "`kerbpass autostart maybe`", "none of its words"},
		{"argument where there is none", commands, "`kerbpass quit now`", `no "now"`},
		{"unknown flag", commands, "`kerbpass quit --force`", "no flag --force"},
		{"no command, a file", commands, "    go build -o kerbpass ./cmd/tray", ""},
		{"no command", commands, "`/etc/kerbpass/x`, `kerbpass-proxy stop`, kerbpass stop", ""},

		{"flag", flags, "`--json`, `--network host`, `curl --proxy x`", ""},
		{"flag of nobody", flags, "`--jsn`", "--jsn"},

		{"setting", settings, "```toml\nversion = 1\nupstream = []\n[kerberos]\nspn = \"\" # spm = 1\n```\n`kerberos.spn`, `[kerberos] spn = 1`, `proxy.example`", ""},
		{"unknown setting in a block", settings, "```toml\n[kerberos]\nupstream = 1\n```\n", "kerberos.upstream"},
		{"unknown setting in a span", settings, "`kerberos.spm`", "kerberos.spm"},
		{"unknown setting in a span with section", settings, "`[kerberos] spm`", "kerberos.spm"},

		{"cause", causes, section, ""},
		{"cause without a section", causes, "# Nothing\n", "0 sections for the cause timeout"},
		{"cause with two", causes, section + section, "2 sections"},
		{"section without a cause", causes, section + strings.ReplaceAll(section, "timeout", "gremlins"), "gremlins is about no cause"},
		{"section without advice", causes, strings.ReplaceAll(section, "**Do:**", ""), "lacks **Do:**"},

		{"doctor", doctor, "doctor's *Clock*", ""},
		{"unknown check", doctor, "doctor's *Watch*", `"Watch"`},

		{"test", tests, "`TestLinks`, TestElsewhere", ""},
		{"unknown test", tests, "`TestLinks`, `TestElsewhere`", "no test TestElsewhere"},
		{"proof", proofs, "| Q | Shown by |\n|---|---|\n| a | `TestLinks` |\n| b | not shown: root can do anything |\n", ""},
		{"no proof", proofs, "| Q | Shown by |\n|---|---|\n| a | we think so |\n", `nothing shows that "a"`},
		{"no reason", proofs, "| Q | Shown by |\n|---|---|\n| a | not shown: |\n", `nothing shows that "a"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.check(tt.text)
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want no complaint", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q, want one complaint with %q", got, tt.want)
			}
		})
	}
}
