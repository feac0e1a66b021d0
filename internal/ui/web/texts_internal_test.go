package web

import (
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// elsewhere reports whether a text's English comes from the helper itself, as
// exact as it knows.
func elsewhere(key string) bool {
	return strings.HasPrefix(key, "refusal.") || strings.HasPrefix(key, "entry.") || strings.HasPrefix(key, "doctor.check.")
}

var placeholder = regexp.MustCompile(`\{\w+\}`)

func placeholders(text string) []string {
	found := placeholder.FindAllString(text, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

func TestEveryLanguageHasEveryText(t *testing.T) {
	if len(catalogues()) != 3 || !elsewhere("refusal.unknown") {
		t.Fatalf("got %d languages, want 3", len(catalogues()))
	}
	want := catalogues()[english].texts
	for _, c := range catalogues() { // what only other languages word, all of them do
		for key := range c.texts {
			if !elsewhere(key) {
				continue
			}
			for lang, other := range catalogues() {
				if text, ok := other.texts[key]; ok != (lang != english) || ok && strings.TrimSpace(text) == "" {
					t.Errorf("%s: %s: got %q", lang, key, text)
				}
			}
		}
	}
	for lang, c := range catalogues() {
		if c.texts["language"] != lang {
			t.Errorf("%s calls itself %q", lang, c.texts["language"])
		}
		for key, text := range want {
			got, ok := c.texts[key]
			switch {
			case !ok || strings.TrimSpace(got) == "":
				t.Errorf("%s: %s is missing", lang, key)
			case !slices.Equal(placeholders(got), placeholders(text)):
				t.Errorf("%s: %s: got %v to fill in, want %v", lang, key, placeholders(got), placeholders(text))
			}
		}
		for key := range c.texts {
			if _, ok := want[key]; !ok && !elsewhere(key) {
				t.Errorf("%s: %s is not in English", lang, key)
			}
		}
	}
}

var (
	attribute = regexp.MustCompile(`data-t(?:-label|-placeholder)?="([^"]*)"`)
	literal   = regexp.MustCompile(`"([a-z_0-9.]+)"`)
	template  = regexp.MustCompile("`([a-z_]+\\.[^`]*\\$\\{[^`]*)`")
	called    = regexp.MustCompile(`\bt\("([^"]*)"`)
	counted   = regexp.MustCompile(`\bplural\("([^"]*)"`)
	filled    = regexp.MustCompile(`\\\$\\\{.*?\\\}`)
)

// uses collects which texts the page names: surely, and possibly.
type uses struct {
	sure     map[string]string // key to file
	possible []*regexp.Regexp
}

func (u *uses) read(name, text string) {
	add := func(found [][]string, endings ...string) {
		for _, m := range found {
			for _, e := range endings {
				u.sure[m[1]+e] = name
			}
		}
	}
	add(attribute.FindAllStringSubmatch(text, -1), "")
	add(called.FindAllStringSubmatch(text, -1), "")
	add(counted.FindAllStringSubmatch(text, -1), ".one", ".other")
	for _, m := range literal.FindAllStringSubmatch(text, -1) {
		u.possible = append(u.possible, regexp.MustCompile("^"+regexp.QuoteMeta(m[1])+"$"))
	}
	for _, m := range template.FindAllStringSubmatch(text, -1) {
		u.possible = append(u.possible, regexp.MustCompile("^"+filled.ReplaceAllString(regexp.QuoteMeta(m[1]), "[a-z_0-9]+")+"$"))
	}
}

func (u *uses) may(key string) bool {
	_, sure := u.sure[key]
	return sure || slices.ContainsFunc(u.possible, func(r *regexp.Regexp) bool { return r.MatchString(key) })
}

func TestTextsAreThoseOfThePage(t *testing.T) {
	u := uses{sure: map[string]string{"refused.host": "site.go", "refused.size": "site.go", "refused.link": "site.go", "refused.request": "site.go"}}
	err := fs.WalkDir(files, "page", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := files.ReadFile(path)
		u.read(path, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	texts := catalogues()["de"].texts
	for key, file := range u.sure {
		if _, ok := texts[key]; !ok {
			t.Errorf("%s uses %q, which has no text", file, key)
		}
	}
	for key := range texts {
		if !u.may(key) {
			t.Errorf("text %q is not used", key)
		}
	}
}

func TestChooseLanguage(t *testing.T) {
	for _, c := range []struct {
		want  string
		given []string
	}{
		{"en", nil},
		{"en", []string{"", "xx"}},
		{"de", []string{"de"}},
		{"de", []string{"de_AT.UTF-8"}},
		{"fr", []string{"it-IT", " FR-ch;q=0.8", "de;q=0.5"}},
		{"en", []string{"../texts/de"}},
	} {
		if got := chooseLanguage(c.given...); got != c.want {
			t.Errorf("%q: got %s, want %s", c.given, got, c.want)
		}
	}
}

func FuzzChooseLanguage(f *testing.F) {
	f.Add("de-CH,fr;q=0.9")
	f.Add("_")
	f.Fuzz(func(t *testing.T, header string) {
		if _, ok := catalogues()[chooseLanguage(strings.Split(header, ",")...)]; !ok {
			t.Errorf("%q chose a language that there is not", header)
		}
	})
}

func TestFilesHaveATypeAndNothingFromOutside(t *testing.T) {
	outside := regexp.MustCompile(`(?:src|href)="(?:https?:)?//|@import|url\(|style="|\son\w+="|<script>|innerHTML|insertAdjacentHTML|eval\(`)
	entries, err := files.ReadDir("page")
	if err != nil || len(entries) == 0 {
		t.Fatalf("no page: %v", err)
	}
	for _, e := range entries {
		b, err := files.ReadFile("page/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		if bad := outside.Find(b); bad != nil {
			t.Errorf("%s holds %q", e.Name(), bad)
		}
		if _, ok := types[e.Name()[strings.LastIndex(e.Name(), "."):]]; !ok {
			t.Errorf("%s has no type", e.Name())
		}
	}
}
