package proxy_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/conformance.md")

// statementCount is how many statements each part of the checklist has.
var statementCount = map[string]int{"A": 9, "B": 8, "C": 12, "D": 12, "E": 8, "F": 8, "G": 6, "H": 3, "I": 8, "J": 4}

// A statement is a line of testdata/statements.tsv.
type statement struct {
	id, level, text, notBuilt string
	tests                     []string // "TestName (file)", as markdown
}

var testFunc = regexp.MustCompile(`(?m)^func (Test([A-J][0-9]+)[A-Z]\w*)\(t \*testing\.T\)`)

// Every statement has a test that carries its id, and docs/conformance.md says
// which.
func TestConformanceTable(t *testing.T) {
	text, err := os.ReadFile("testdata/statements.tsv")
	if err != nil {
		t.Fatal(err)
	}
	list, problems := readStatements(string(text))
	tests, err := findTests(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	table, more := conformanceTable(list, tests)
	for _, p := range append(problems, more...) {
		t.Error(p)
	}
	const doc = "../../docs/conformance.md"
	if *update {
		if err := os.WriteFile(doc, []byte(table), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(doc); err != nil || string(got) != table {
		t.Errorf("docs/conformance.md is not what the tests say (%v); run: go test ./internal/proxy -run TestConformanceTable -update", err)
	}
}

// readStatements parses the list, in its order, and says what is wrong with it.
func readStatements(text string) (list []statement, problems []string) {
	have := map[string]bool{}
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(line, "#") {
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) < 3 || len(f) > 4 || f[1] != "M" && f[1] != "S" || f[2] == "" {
			problems = append(problems, fmt.Sprintf("statements.tsv:%d: want id, M or S, statement and perhaps a reason", i+1))
			continue
		}
		s := statement{id: f[0], level: f[1], text: f[2]}
		if len(f) == 4 {
			s.notBuilt = f[3]
			if s.level != "S" || s.notBuilt == "" {
				problems = append(problems, s.id+": only an S may stay unbuilt, and with a reason")
			}
		}
		if have[s.id] {
			problems = append(problems, s.id+" stands there twice")
		}
		have[s.id] = true
		list = append(list, s)
	}
	total := 0
	for part, n := range statementCount {
		total += n
		for i := 1; i <= n; i++ {
			if id := fmt.Sprint(part, i); !have[id] {
				problems = append(problems, id+" is missing from statements.tsv")
			}
		}
	}
	if len(list) > total {
		problems = append(problems, fmt.Sprintf("%d statements, the checklist has %d", len(list), total))
	}
	return list, problems
}

// findTests maps ids to the tests below root that carry them.
func findTests(root string) (map[string][]string, error) {
	tests := map[string][]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if hidden := strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_"); name != root && (hidden || d.Name() == "testdata" || d.Name() == "vendor") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		for _, m := range testFunc.FindAllStringSubmatch(string(text), -1) {
			tests[m[2]] = append(tests[m[2]], fmt.Sprintf("`%s` ([%s](../%[2]s))", m[1], filepath.ToSlash(rel)))
		}
		return err
	})
	return tests, err
}

// conformanceTable renders the document, sorted by id.
func conformanceTable(list []statement, tests map[string][]string) (doc string, problems []string) {
	known := map[string]bool{}
	for i := range list {
		s := &list[i]
		known[s.id] = true
		if s.tests = tests[s.id]; len(s.tests) == 0 && s.notBuilt == "" {
			problems = append(problems, s.id+" has no test (func Test"+s.id+"…): "+s.text)
		}
		if len(s.tests) > 0 && s.notBuilt != "" {
			problems = append(problems, s.id+" has a test, so it is built: take the reason out of statements.tsv")
		}
	}
	for id := range tests {
		if !known[id] {
			problems = append(problems, "tests carry the id "+id+", which is no statement")
		}
	}
	slices.SortFunc(list, func(a, b statement) int {
		if a.id[0] != b.id[0] {
			return int(a.id[0]) - int(b.id[0])
		}
		if len(a.id) != len(b.id) {
			return len(a.id) - len(b.id)
		}
		return strings.Compare(a.id, b.id)
	})
	slices.Sort(problems)
	var b strings.Builder
	b.WriteString("# Conformance\n\nWhat a standards-correct proxy with Negotiate must (M) and should (S) do, and the tests that prove it. A test belongs to\n" +
		"the statement in its name. Generated: `go test ./internal/proxy -run TestConformanceTable -update`.\n\n| Id | Level | Statement | Tests |\n|---|---|---|---|\n")
	for _, s := range list {
		slices.Sort(s.tests)
		proof := strings.Join(s.tests, "<br>")
		if s.notBuilt != "" {
			proof = "not built: " + s.notBuilt
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", s.id, s.level, s.text, proof)
	}
	return b.String(), problems
}

// The table's own rules bite.
func TestConformanceTableBites(t *testing.T) {
	text, err := os.ReadFile("testdata/statements.tsv")
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	without := func(id string) string { return regexp.MustCompile(`(?m)^`+id+`\t.*\n`).ReplaceAllString(good, "") }
	for name, tt := range map[string]struct{ text, want string }{
		"a statement is missing":   {without("D12"), "D12 is missing"},
		"the last is missing":      {without("J4"), "J4 is missing"},
		"an unknown level":         {strings.Replace(good, "A1\tM", "A1\tX", 1), "want id"},
		"a must stays unbuilt":     {strings.Replace(good, "\nA2\tM", "\nA2\tM\tx\tno time\nA2\tM", 1), "only an S"},
		"a statement stands twice": {good + "A1\tM\tagain\n", "A1 stands there twice"},
	} {
		if _, problems := readStatements(tt.text); !strings.Contains(strings.Join(problems, "\n"), tt.want) {
			t.Errorf("%s: got %q, want %q", name, problems, tt.want)
		}
	}
	list := []statement{{id: "A1", level: "M", text: "x"}, {id: "F8", level: "S", text: "y", notBuilt: "later"}}
	for name, tt := range map[string]struct {
		tests map[string][]string
		want  string
	}{
		"no test":                {map[string][]string{}, "A1 has no test"},
		"built after all":        {map[string][]string{"A1": {"a"}, "F8": {"b"}}, "F8 has a test"},
		"a test of no statement": {map[string][]string{"A1": {"a"}, "A10": {"b"}}, "A10"},
	} {
		if _, problems := conformanceTable(slices.Clone(list), tt.tests); !strings.Contains(strings.Join(problems, "\n"), tt.want) {
			t.Errorf("%s: got %q, want %q", name, problems, tt.want)
		}
	}
}
