package notify

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestTidy(t *testing.T) {
	long := strings.Repeat("ä", 5000)
	got := tidy(Note{Key: "k", Title: long, Body: long + "\x00\xff", Hint: long,
		Actions: []Action{{"1", long}, {"2", "b"}, {"3", "c"}, {"4", "d"}, {"5", "e"}}})
	for what, c := range map[string]struct {
		text  string
		limit int
	}{"title": {got.Title, maxTitle}, "body": {got.Body, maxBody}, "hint": {got.Hint, maxTitle}, "label": {got.Actions[0].Label, maxLabel}} {
		if n := utf8.RuneCountInString(c.text); n != c.limit || !strings.HasSuffix(c.text, "ä…") {
			t.Errorf("%s: %d characters, want %d and an ellipsis", what, n, c.limit)
		}
	}
	if len(got.Actions) != maxActions {
		t.Errorf("%d actions, want %d", len(got.Actions), maxActions)
	}
}

func FuzzPlain(f *testing.F) {
	f.Add("ok")
	f.Add("\xff\x00\n\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		const limit = 10
		got := plain(text, limit)
		if utf8.RuneCountInString(got) > limit || !utf8.ValidString(got) || strings.ContainsRune(got, 0) {
			t.Errorf("got %q", got)
		}
		if again := plain(got, limit); again != got {
			t.Errorf("not stable: %q, then %q", got, again)
		}
	})
}

func TestWithHint(t *testing.T) {
	for _, c := range []struct{ body, hint, want string }{{"b", "h", "b\nh"}, {"", "h", "h"}, {"b", "", "b"}} {
		if got := withHint(Note{Body: c.body, Hint: c.hint}); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
