package docs_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// allowed are the licences that a module may have, by what each text says and
// no other does. A licence that is not here is a decision, not an entry.
var allowed = map[string]*regexp.Regexp{
	"Apache-2.0":   regexp.MustCompile(`Apache License\s+Version 2\.0`),
	"BSD-2-Clause": regexp.MustCompile(`Redistribution and use in source and binary forms`),
	"BSD-3-Clause": regexp.MustCompile(`(?i)neither the name`),
	"ISC":          regexp.MustCompile(`Permission to use, copy, modify, and/or distribute`),
	"MIT":          regexp.MustCompile(`Permission is hereby granted, free of charge`),
	"MPL-2.0":      regexp.MustCompile(`Mozilla Public License,? [vV]ersion 2\.0`),
	"Zlib":         regexp.MustCompile(`Altered source versions must be plainly marked`),
}

// licenceOf names the licence that a text is, "" none of those allowed.
func licenceOf(text string) string {
	var found []string
	for name, says := range allowed {
		if says.MatchString(text) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	if slices.Equal(found, []string{"BSD-2-Clause", "BSD-3-Clause"}) {
		found = found[1:] // the third clause is what differs
	}
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

var licenceRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (\\S+) \\| (.*) \\|$")

// checkLicences compares a document with the modules that go.mod requires and
// those of them that are shipped. texts has the licence of each module whose
// files are here.
func checkLicences(document string, required, shipped map[string]bool, texts map[string]string) (bad []string) {
	listed := map[string]bool{}
	for _, m := range licenceRow.FindAllStringSubmatch(document, -1) {
		module, licence, not := m[1], m[2], strings.HasPrefix(m[3], "not shipped")
		listed[module] = true
		switch text, here := texts[module]; {
		case !required[module]:
			bad = append(bad, module+" is listed, and go.mod does not require it")
		case shipped[module] == not:
			bad = append(bad, fmt.Sprintf("%s: shipped is %v", module, !not))
		case here && licenceOf(text) != licence:
			bad = append(bad, fmt.Sprintf("%s is listed under %s, its text is %q", module, licence, licenceOf(text)))
		}
	}
	for module := range required {
		if !listed[module] {
			bad = append(bad, module+" is not listed")
		}
	}
	return bad
}

// goList runs go list with these variables and returns its lines.
func goList(t *testing.T, env []string, args ...string) []string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v", strings.Join(args, " "), err)
	}
	return strings.Fields(string(out))
}

func TestLicences(t *testing.T) {
	required, shipped, texts := map[string]bool{}, map[string]bool{}, map[string]string{}
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(f) >= 2 && strings.HasPrefix(f[1], "v") && strings.Contains(f[0], ".") {
			required[f[0]] = true
		}
	}
	for _, system := range []string{"linux", "windows", "darwin"} {
		for _, tags := range []string{"", "nogss"} {
			for _, module := range goList(t, []string{"GOOS=" + system, "CGO_ENABLED=1"}, "-deps", "-tags", tags,
				"-f", "{{with .Module}}{{if not .Main}}{{.Path}}={{.Dir}}{{end}}{{end}}", "./cmd/tray") {
				name, dir, _ := strings.Cut(module, "=")
				shipped[name] = true
				if texts[name] == "" {
					texts[name] = licenceText(dir)
				}
			}
		}
	}
	for _, module := range goList(t, nil, append([]string{"-m", "-f", "{{.Path}}={{.Dir}}"}, slices.Sorted(maps.Keys(required))...)...) {
		if name, dir, _ := strings.Cut(module, "="); dir != "" && texts[name] == "" {
			texts[name] = licenceText(dir)
		}
	}
	if len(required) < 20 || len(shipped) < 20 {
		t.Fatalf("%d modules read from go.mod, %d from the program", len(required), len(shipped))
	}
	list, err := os.ReadFile("licences.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, why := range checkLicences(string(list), required, shipped, texts) {
		t.Errorf("docs/licences.md: %s", why)
	}
}

func licenceText(dir string) string {
	for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING"} {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			return string(text)
		}
	}
	return ""
}

func TestLicenceCheckBites(t *testing.T) {
	const mit, gpl = "Permission is hereby granted, free of charge", "GNU GENERAL PUBLIC LICENSE"
	row := func(licence, use string) string { return "| `a.example/m` | " + licence + " | " + use + " |\n" }
	for _, tt := range []struct {
		name, document, text string
		required, shipped    bool
		want                 string // "": no complaint
	}{
		{"shipped", row("MIT", "x"), mit, true, true, ""},
		{"not shipped", row("MIT", "not shipped: tests"), mit, true, false, ""},
		{"missing", "", mit, true, true, "is not listed"},
		{"gone from go.mod", row("MIT", "x"), mit, false, true, "does not require"},
		{"shipped by now", row("MIT", "not shipped: tests"), mit, true, true, "shipped is false"},
		{"no longer shipped", row("MIT", "x"), mit, true, false, "shipped is true"},
		{"another licence", row("ISC", "x"), mit, true, true, `its text is "MIT"`},
		{"forbidden licence", row("GPL-3.0", "x"), gpl, true, true, `its text is ""`},
		{"two licences", row("MIT", "x"), mit + " Mozilla Public License Version 2.0", true, true, `its text is ""`},
		{"no licence", row("MIT", "x"), "", true, true, `its text is ""`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			required, shipped := map[string]bool{}, map[string]bool{"a.example/m": tt.shipped}
			if tt.required {
				required["a.example/m"] = true
			}
			got := checkLicences(tt.document, required, shipped, map[string]string{"a.example/m": tt.text})
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want no complaint", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q, want one complaint with %q", got, tt.want)
			}
		})
	}
}
