package settings_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/settings"
)

func set(key string, value any) func(*settings.Edit) error {
	return func(e *settings.Edit) error { return e.Set(key, value) }
}

func unset(key string) func(*settings.Edit) error {
	return func(e *settings.Edit) error { return e.Unset(key) }
}

func add(key string, entries ...string) func(*settings.Edit) error {
	return func(e *settings.Edit) error { return e.Add(key, entries...) }
}

func remove(key string, entries ...string) func(*settings.Edit) error {
	return func(e *settings.Edit) error { return e.Remove(key, entries...) }
}

const commented = `# my settings

[bypass]
exact = [ # hosts
    "a", # first
    # about b and c
    "b", "c",
    "d" # last
] # end

[other]
when = 1979-05-27 07:32:00 # kept
`

func TestEditIsSurgical(t *testing.T) {
	long := []string{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example", "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.example"}
	tests := []struct {
		name, before string
		edit         func(*settings.Edit) error
		after        string
	}{
		{"new file", "", set("pac", "auto"), "version = 1\npac = \"auto\"\n"},
		{"new file, table", "", add("bypass.exact", "a"), "version = 1\n\n[bypass]\nexact = [\"a\"]\n"},
		{"scalar", "pac = 'old' # why\n", set("pac", `C:\p"x`), "pac = \"C:\\\\p\\\"x\" # why\n"},
		{"scalar over lines", "pac = \"\"\"\nold\"\"\"\nx = 1\n", set("pac", "new"), "pac = \"new\"\nx = 1\n"},
		{"bool", "[kerberos]\n  enabled=true\n", set("kerberos.enabled", false), "[kerberos]\n  enabled=false\n"},
		{"duration", "[kerberos]\nremind_before = \"5m\"\n", set("kerberos.remind_before", 90*time.Minute), "[kerberos]\nremind_before = \"1h30m\"\n"},
		{"duration text", "", set("kerberos.remind_before", "60m"), "version = 1\n\n[kerberos]\nremind_before = \"1h\"\n"},
		{"wrong type", "pac = 3 # c\n", set("pac", "x"), "pac = \"x\" # c\n"},
		{"wrong type with comments", "  pac = [ # c\n 1]\n", set("pac", "x"), "  # c\n  pac = \"x\"\n"},
		{"quoted keys", "[ 'bypass' ]\n\"ex\\u0061ct\" = ['a']\n", add("bypass.exact", "b"), "[ 'bypass' ]\n\"ex\\u0061ct\" = ['a', \"b\"]\n"},
		{"dotted key", "kerberos.enabled = true\n", set("kerberos.enabled", false), "kerberos.enabled = false\n"},
		{"beside a dotted key", "kerberos.enabled = true # c\n[ui]\n", set("kerberos.renew", "off"),
			"kerberos.enabled = true # c\nkerberos.renew = \"off\"\n[ui]\n"},
		{"inline table", "bypass = { exact = [\"a\"] } # c\n", add("bypass.exact", "b"), "bypass = { exact = [\"a\", \"b\"] } # c\n"},
		{"into an inline table", "kerberos = { enabled = true }\n", set("kerberos.renew", "off"), "kerberos = { enabled = true, renew = \"off\" }\n"},
		{"into an empty inline table", "kerberos = {}\n", set("kerberos.renew", "off"), "kerberos = { renew = \"off\" }\n"},
		{"root key before tables", "# about the file\n\n# ui\n[ui]\n", set("pac", "x"), "# about the file\n\npac = \"x\"\n\n# ui\n[ui]\n"},
		{"root key before a commented table", "# ui\n[ui]\n", set("pac", "x"), "pac = \"x\"\n\n# ui\n[ui]\n"},
		{"root key behind others", "version = 1 # v\n\n[ui]\n", set("pac", "x"), "version = 1 # v\npac = \"x\"\n\n[ui]\n"},
		{"no line end at the end", "version = 1", set("pac", "x"), "version = 1\npac = \"x\"\n"},
		{"only a comment", "# c", set("pac", "x"), "# c\npac = \"x\"\n"},
		{"into a table", "[ui]\n\tlanguage = \"de\" # c\n\n# k\n[kerberos]\n", set("ui.notify_valid", true),
			"[ui]\n\tlanguage = \"de\" # c\n\tnotify_valid = true\n\n# k\n[kerberos]\n"},
		{"into an empty table", "[ui] # c\n\n[kerberos]\n", set("ui.notify_valid", true), "[ui] # c\nnotify_valid = true\n\n[kerberos]\n"},
		{"table header at the end", "[ui]", set("ui.notify_valid", true), "[ui]\nnotify_valid = true\n"},
		{"new table", "version = 1", set("ui.notify_valid", true), "version = 1\n\n[ui]\nnotify_valid = true\n"},
		{"subtable only", "[ui.x]\ny = 1\n", set("ui.notify_valid", true), "[ui.x]\ny = 1\n\n[ui]\nnotify_valid = true\n"},
		{"long list", "x = 1\n", set("no_proxy", long), "x = 1\nno_proxy = [\n    \"" + long[0] + "\",\n    \"" + long[1] + "\",\n]\n"},
		{"unset", "x = 1\npac = \"x\"\ny = 1\n", unset("pac"), "x = 1\ny = 1\n"},
		{"unset keeps the comment", "pac = \"x\" # why\n", unset("pac"), "# why\n"},
		{"unset keeps comments inside", "[bypass]\nexact = [ # a\n\"x\", # b\n]\ny = 1\n", unset("bypass.exact"), "[bypass]\n# a\n# b\ny = 1\n"},
		{"unset in an inline table", "kerberos = { enabled = true, renew = \"off\" }\n", unset("kerberos.renew"), "kerberos = { enabled = true }\n"},
		{"unset the last of three", "kerberos = { spn = \"a/b\", enabled = true, renew = \"off\" }\n", unset("kerberos.renew"), "kerberos = { spn = \"a/b\", enabled = true }\n"},
		{"unset first in an inline table", "kerberos = { enabled = true, renew = \"off\" }\n", unset("kerberos.enabled"), "kerberos = { renew = \"off\" }\n"},
		{"unset what is not there", "x = 1\n", unset("pac"), "x = 1\n"},
		{"same value", "pac = 'x'\n", set("pac", "x"), "pac = 'x'\n"},

		{"add to one line", "[bypass]\nexact = [\"a\",'b'] # c\n", add("bypass.exact", "c", "a", "d"), "[bypass]\nexact = [\"a\",'b',\"c\",\"d\"] # c\n"},
		{"add keeps padding", "[bypass]\nexact = [ \"a\" ]\n", add("bypass.exact", "b"), "[bypass]\nexact = [ \"a\", \"b\" ]\n"},
		{"add twice the same", "", add("bypass.exact", "a", "a"), "version = 1\n\n[bypass]\nexact = [\"a\"]\n"},
		{"add to lines", commented, add("bypass.exact", "e", "f"), strings.Replace(commented, "    \"d\" # last\n", "    \"d\", # last\n    \"e\",\n    \"f\"\n", 1)},
		{"add behind a comma", "[bypass]\nexact = [\n\t\"a\",\n]\n", add("bypass.exact", "b"), "[bypass]\nexact = [\n\t\"a\",\n\t\"b\",\n]\n"},
		{"add to an empty list over lines", "[bypass]\nexact = [\n  # none yet\n]\n", add("bypass.exact", "b"),
			"[bypass]\nexact = [\n  # none yet\n    \"b\",\n]\n"},
		{"add with the comma in front", "[bypass]\nexact = [ \"a\"\n        , \"b\" # b\n        ]\n", add("bypass.exact", "c"),
			"[bypass]\nexact = [ \"a\"\n        , \"b\", # b\n            \"c\"\n        ]\n"},
		{"add starts from the default", "", add("listen", "127.0.0.1:1"), "version = 1\nlisten = [\"127.0.0.1:5372\", \"[::1]:5372\", \"127.0.0.1:1\"]\n"},
		{"add despite an old mistake", "[bypass]\nexact = [\"\", 3]\n", add("bypass.exact", "b"), "[bypass]\nexact = [\"\", 3, \"b\"]\n"},
		{"remove from one line", "[bypass]\nexact = [\"a\", \"b\", \"c\"]\n", remove("bypass.exact", "b"), "[bypass]\nexact = [\"a\", \"c\"]\n"},
		{"remove the last", "[bypass]\nexact = [\"a\", \"b\"]\n", remove("bypass.exact", "b"), "[bypass]\nexact = [\"a\"]\n"},
		{"remove all", "[bypass]\nexact = [\"a\", \"b\"]\n", remove("bypass.exact", "b", "a", "x"), "[bypass]\nexact = []\n"},
		{"remove first of lines", commented, remove("bypass.exact", "a"), strings.Replace(commented, "    \"a\", # first\n", "    # first\n", 1)},
		{"remove within a line", commented, remove("bypass.exact", "b"), strings.Replace(commented, "\"b\", \"c\",", "\"c\",", 1)},
		{"remove at the end of a line", commented, remove("bypass.exact", "c"), strings.Replace(commented, "\"b\", \"c\",", "\"b\",", 1)},
		{"remove a whole line", commented, remove("bypass.exact", "b", "c"), strings.Replace(commented, "    \"b\", \"c\",\n", "", 1)},
		{"remove the last of lines", commented, remove("bypass.exact", "d"), strings.Replace(commented, "    \"d\" # last\n", "    # last\n", 1)},
		{"remove what is not there", commented, remove("bypass.exact", "x"), commented},
		{"set a list in another order", commented, set("bypass.exact", []string{"d", "a", "b", "c"}),
			strings.NewReplacer("[ # hosts\n", "[ # hosts\n    \"d\",\n", "    \"d\" # last\n", "    # last\n").Replace(commented)},
		{"set a list, some of it new", commented, set("bypass.exact", []string{"a", "x", "c", "d"}),
			strings.Replace(commented, "    \"b\", \"c\",", "    \"c\",", 1)},
		{"set removes the byte order mark's nothing", "\xef\xbb\xbfpac = \"x\"\n", set("pac", "y"), "\xef\xbb\xbfpac = \"y\"\n"},
		{"unset behind a byte order mark", "\xef\xbb\xbfpac = \"x\"\n", unset("pac"), "\xef\xbb\xbf"},
		{"insert behind a byte order mark", "\xef\xbb\xbf[ui]\n", set("pac", "y"), "\xef\xbb\xbfpac = \"y\"\n\n[ui]\n"},
	}
	// Where the new entry stands on a line of its own:
	tests[len(tests)-4].after = strings.Replace(commented, "    # about b and c\n    \"b\", \"c\",", "    \"x\",\n    # about b and c\n    \"c\",", 1)

	for _, tt := range tests {
		for _, ending := range []string{"\n", "\r\n"} {
			t.Run(tt.name+map[string]string{"\n": "", "\r\n": " CRLF"}[ending], func(t *testing.T) {
				before, after := strings.ReplaceAll(tt.before, "\n", ending), strings.ReplaceAll(tt.after, "\n", ending)
				if !strings.Contains(tt.before, "\n") {
					after = tt.after // nothing tells which line ending the user likes
				}
				s := open(t, before, settings.Config{})
				if err := s.Edit(tt.edit); err != nil {
					t.Fatal(err)
				}
				got := ""
				if _, err := os.Stat(s.Path()); before != "" || err == nil {
					got = read(t, s.Path())
				}
				if got != after {
					t.Errorf("got\n%q\nwant\n%q", got, after)
				}
			})
		}
	}
}

func TestEditRefuses(t *testing.T) {
	locked := settings.Config{LookupEnv: env("JAATO_NO_PROXY", "x"), Flags: map[string]any{"pac": "y"}, Policy: locked(map[string]any{"kerberos.renew": "ask"}),
		Check: map[string]func(any) error{"no_proxy": func(v any) error {
			if strings.Contains(strings.Join(v.([]string), " "), "!") {
				return errors.New("no shouting")
			}
			return nil
		}}}
	tests := []struct {
		name, text string
		edit       func(*settings.Edit) error
		want       error
		in         string
	}{
		{"environment", "", add("bypass.exact", "a"), settings.ErrLocked, "JAATO_NO_PROXY"},
		{"flag", "", set("pac", "a"), settings.ErrLocked, "--pac"},
		{"policy", "", unset("kerberos.renew"), settings.ErrLocked, "your organisation (policy.toml)"},
		{"unknown key", "", set("kerberos.enable", true), settings.ErrInvalid, "kerberos.enabled"},
		{"wrong type", "", set("kerberos.enabled", "on"), settings.ErrInvalid, "true or false"},
		{"bad value", "", set("listen", []string{"0.0.0.0:1"}), settings.ErrInvalid, "loopback"},
		{"bad entry", "", add("no_proxy", "a", "hey!"), settings.ErrInvalid, "no shouting"},
		{"not a list", "", add("kerberos.spn", "x"), settings.ErrInvalid, "not a list"},
		{"nothing left", "listen = [\"127.0.0.1:1\"]\n", remove("listen", "127.0.0.1:1"), settings.ErrInvalid, "at least one"},
		{"not a list in the file", "no_proxy = \"a\"\n", add("no_proxy", "x"), settings.ErrByHand, "a list of strings"},
		{"not a table in the file", "ui = 3\n", set("ui.language", "de"), settings.ErrByHand, `"ui" is a table`},
		{"list of tables", "[[ui]]\nx = 1\n", set("ui.language", "de"), settings.ErrByHand, `"ui" is a table`},
		{"broken", "x = \n", set("ui.language", "de"), settings.ErrBroken, ":1:5"},
		{"no version", "version = true\n", set("ui.language", "de"), settings.ErrNewer, "version"},
		{"own error", "x = 1\n", func(*settings.Edit) error { return os.ErrInvalid }, os.ErrInvalid, "invalid"},
		{"half of it", "x = 1\n", func(e *settings.Edit) error { return errors.Join(e.Set("ui.language", "de"), e.Set("pac", "q")) }, settings.ErrLocked, "--pac"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, tt.text, locked)
			err := s.Edit(tt.edit)
			if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.in) {
				t.Errorf("got %v, want %v with %q in it", err, tt.want, tt.in)
			}
			if tt.text == "" {
				if _, err := os.Stat(s.Path()); err == nil {
					t.Error("a file was made")
				}
			} else if got := read(t, s.Path()); got != tt.text {
				t.Errorf("the file became %q", got)
			}
			if left, _ := filepath.Glob(filepath.Join(filepath.Dir(s.Path()), ".config-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// A list of 10,000 entries with a comment each is edited in one go.
func TestEditOfALongList(t *testing.T) {
	var b strings.Builder
	b.WriteString("[bypass]\nexact = [\n")
	for i := range 10000 {
		b.WriteString("  \"host" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + "\", # c\n")
	}
	b.WriteString("  \"last\"\n]\n")
	s := open(t, b.String(), settings.Config{})
	if err := s.Edit(func(e *settings.Edit) error {
		return errors.Join(e.Add("bypass.exact", "new"), e.Remove("bypass.exact", "hosta", "last"))
	}); err != nil {
		t.Fatal(err)
	}
	got := read(t, s.Path())
	if strings.Count(got, "# c\n") != 10000 || strings.Contains(got, `"hosta"`) || !strings.HasSuffix(got, "# c\n  \"new\"\n]\n") {
		t.Errorf("got …%q", got[len(got)-60:])
	}
}
