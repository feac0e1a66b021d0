package ui

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/language"
)

var verb = regexp.MustCompile(`%(\[\d+\])?[a-zA-Z%]`)

// verbs returns which arguments a text takes, and as what.
func verbs(text string) []string {
	found := verb.FindAllString(text, -1)
	slices.Sort(found)
	return found
}

// incomplete returns what w lacks of model, has beyond it, or says with other
// arguments.
func incomplete(w, model wording) (bad []string) {
	for key, forms := range model {
		if len(w[key]) != len(forms) {
			bad = append(bad, key+": "+strconv.Itoa(len(w[key]))+" forms, want "+strconv.Itoa(len(forms)))
		}
	}
	return append(bad, misfits(w, model)...)
}

func misfits(w, model wording) (bad []string) {
	for key, forms := range w {
		for _, form := range forms {
			switch {
			case model[key] == nil:
				bad = append(bad, key+": English does not have it")
			case !slices.Equal(verbs(form), verbs(model[key][0])):
				bad = append(bad, key+": other verbs than English: "+form)
			case form == "" || strings.TrimSpace(form) != form || strings.ContainsFunc(form, unicode.IsControl):
				bad = append(bad, key+": empty, or with white space that does not belong there")
			}
		}
	}
	return bad
}

func TestNothingMissingInAnyLanguage(t *testing.T) {
	for tag, w := range wordings {
		check := incomplete
		if tag == language.AmericanEnglish {
			check = misfits
		}
		for _, bad := range check(w, english) {
			t.Errorf("%v: %s", tag, bad)
		}
		checkPunctuation(t, tag, w)
		checkLists(t, tag, w)
	}
	for _, tag := range offered {
		if wordings[tag] == nil {
			t.Errorf("%v is offered, but has no wording", tag)
		}
	}
}

// checkPunctuation keeps causes fit for menus and hints whole sentences.
func checkPunctuation(t *testing.T, tag language.Tag, w wording) {
	t.Helper()
	for key, forms := range w {
		if strings.HasPrefix(key, "cause.") && strings.HasSuffix(forms[0], ".") {
			t.Errorf("%v: %s ends with a full stop", tag, key)
		}
		if strings.HasPrefix(key, "hint.") && !strings.HasSuffix(forms[0], ".") {
			t.Errorf("%v: %s does not end with a full stop", tag, key)
		}
	}
}

// unspaced finds French punctuation without its no-break space, and straight
// apostrophes.
var unspaced = regexp.MustCompile(`[^\x{a0}][:;!?»]|«[^\x{a0}]|'`)

func TestFrenchPunctuation(t *testing.T) {
	for key, forms := range french {
		for _, form := range forms {
			if unspaced.MatchString(strings.NewReplacer("http://", "", "15:04", "").Replace(form)) {
				t.Errorf("%s: %q", key, form)
			}
		}
	}
}

// checkLists counts what is picked by number.
func checkLists(t *testing.T, tag language.Tag, w wording) {
	t.Helper()
	for key, want := range map[string]int{"weekdays": 7, "months": 12} {
		if forms, has := w[key]; has && len(strings.Fields(forms[0])) != want {
			t.Errorf("%v: %d %s", tag, len(strings.Fields(forms[0])), key)
		}
	}
}

// TestTheChecksSee shows that the checks above can fail.
func TestTheChecksSee(t *testing.T) {
	for name, edit := range map[string]func(wording){
		"missing":     func(w wording) { delete(w, "menu.quit") },
		"other verbs": func(w wording) { w["principal"] = []string{"Konto: %[1]d"} },
		"too many":    func(w wording) { w["menu.nothing"] = []string{"Nichts"} },
		"one form":    func(w wording) { w["duration.days"] = []string{"%[1]d Tage"} },
		"empty":       func(w wording) { w["menu.quit"] = []string{""} },
	} {
		w := maps.Clone(german)
		edit(w)
		if len(incomplete(w, english)) == 0 {
			t.Errorf("%s: not noticed", name)
		}
	}
}

// TestKeysAreUsedAndDefined reads the code of this room: each key it uses is
// in the catalogue, and the other way round.
func TestKeysAreUsedAndDefined(t *testing.T) {
	used := usedKeys(t)
	for cause := range causes {
		used["cause."+cause], used["hint."+cause] = true, true
	}
	used["cause.unknown"], used["hint.unknown"] = true, true
	for key := range used {
		if english[key] == nil {
			t.Errorf("%s is used, but not defined", key)
		}
	}
	for key := range english {
		if !used[key] {
			t.Errorf("%s is defined, but not used", key)
		}
	}
}

// usedKeys returns the first argument of every call of text. Only Cause may
// compute one, from the table of causes.
func usedKeys(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no source found: ", err)
	}
	used := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(syntax, func(n ast.Node) bool {
			call, is := n.(*ast.CallExpr)
			if !is || !callsText(call) {
				return true
			}
			if literal, is := call.Args[0].(*ast.BasicLit); is {
				key, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				used[key] = true
			} else if file != "cause.go" {
				t.Errorf("%s: a key that is computed cannot be checked", file)
			}
			return true
		})
	}
	return used
}

func callsText(call *ast.CallExpr) bool {
	method, is := call.Fun.(*ast.SelectorExpr)
	return is && method.Sel.Name == "text" && len(call.Args) > 0
}
