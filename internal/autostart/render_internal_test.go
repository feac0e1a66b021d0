package autostart

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

var app = Config{
	ID: "kerbpass", Name: "Kerbpass", Comment: "Kerberos ticket and proxy", Icon: "kerbpass",
	Command: []string{"/opt/Kerb pass/bin/kerbpass"},
}

// odd is a command with each character that some format treats specially.
var odd = []string{"/opt/a b%c/$HOME/`x`/\\s\\\\/\"q\"/<&>'/kerbpass", "", " ", "%f", "%%", `\`, `\"`, `a\\`, "$x", "--é=ü;#", "'"}

func TestGolden(t *testing.T) {
	strange := app
	strange.Command, strange.Name = odd, `K\s & <b>`
	golden(t, "desktop", desktopEntry(app, shown))
	golden(t, "desktop-hidden", desktopEntry(app, hidden))
	golden(t, "desktop-odd", desktopEntry(strange, shown))
	golden(t, "plist", LaunchAgent{Label: app.ID, Command: app.Command}.Plist())
	golden(t, "plist-keepup", LaunchAgent{Label: app.ID, Command: append(app.Command, "run"), KeepUp: true}.Plist())
	golden(t, "plist-odd", LaunchAgent{Label: app.ID, Command: odd}.Plist())
	golden(t, "run", commandLine([]string{`C:\Program Files\Kerbpass\kerbpass.exe`})+"\n"+commandLine([]string{`C:\k\`, `a\"b`, `c\`, ""})+"\n")
}

func TestOddCommandComesBack(t *testing.T) {
	cfg := app
	cfg.Command = odd
	if f := parseDesktopEntry(desktopEntry(cfg, shown)); !slices.Equal(f.command, odd) || f.off != "" {
		t.Errorf("desktop entry: got %q, off %q", f.command, f.off)
	}
	if f := parsePlist(LaunchAgent{Label: "x", Command: odd}.Plist()); !slices.Equal(f.command, odd) || f.off != "" {
		t.Errorf("plist: got %q, off %q", f.command, f.off)
	}
	windows := append([]string{`C:\a b\kerbpass.exe`}, odd[1:]...)
	if got := splitCommandLine(commandLine(windows)); !slices.Equal(got, windows) {
		t.Errorf("command line: got %q, want %q", got, windows)
	}
}

func TestParseDesktopEntry(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		command    []string
		off        string // in it
	}{
		{"as people write it", "# c\n[Desktop Entry]\n Exec = /usr/bin/kerbpass --x \nName=K", []string{"/usr/bin/kerbpass", "--x"}, ""},
		{"field codes", "[Desktop Entry]\nExec=kerbpass %U 50%% %i", []string{"kerbpass", "50%"}, ""},
		{"other group", "[Desktop Action x]\nExec=evil\n[Desktop Entry]\nExec=kerbpass\n[Other]\nExec=evil\nHidden=true", []string{"kerbpass"}, ""},
		{"windows line ends", "[Desktop Entry]\r\nExec=kerbpass\r\nHidden=true\r\n", []string{"kerbpass"}, "Hidden"},
		{"gnome", "[Desktop Entry]\nExec=kerbpass\nX-GNOME-Autostart-enabled=false\n", []string{"kerbpass"}, "GNOME"},
		{"hidden only", "[Desktop Entry]\nHidden=true\n", nil, "Hidden"},
		{"empty", "", nil, "no program"},
		{"quotation mark left open", "[Desktop Entry]\nExec=\"kerbpass\n", nil, ""},
		{"backslash at the end", "[Desktop Entry]\nExec=kerbpass \\\\\n", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := parseDesktopEntry(tt.text)
			if !slices.Equal(f.command, tt.command) || (f.off == "") != (tt.off == "") || !strings.Contains(f.off, tt.off) {
				t.Errorf("got %q, off %q", f.command, f.off)
			}
		})
	}
}

func TestParsePlist(t *testing.T) {
	const head = `<?xml version="1.0"?><plist version="1.0"><dict>`
	const args = `<key>ProgramArguments</key><array><string>/a</string></array>`
	for _, tt := range []struct {
		name, text string
		command    []string
		off        bool
	}{
		{"plain", head + args + `<key>RunAtLoad</key><true/></dict></plist>`, []string{"/a"}, false},
		{"disabled", head + args + `<key>Disabled</key><true/><key>RunAtLoad</key><true/></dict></plist>`, []string{"/a"}, true},
		{"not at login", head + args + `<key>RunAtLoad</key><false/></dict></plist>`, []string{"/a"}, true},
		{"inner key", head + args + `<key>EnvironmentVariables</key><dict><key>RunAtLoad</key><true/></dict></dict></plist>`, []string{"/a"}, true},
		{"binary", "bplist00\xd1\x01\x02", nil, false},
		{"cut off", head + args, nil, false},
		{"empty", "", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if f := parsePlist(tt.text); !slices.Equal(f.command, tt.command) || (f.off != "") != tt.off {
				t.Errorf("got %q, off %q", f.command, f.off)
			}
		})
	}
}

func TestSplitCommandLine(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string
	}{
		{"", nil},
		{`C:\k.exe`, []string{`C:\k.exe`}},
		{`C:\k.exe /s  a`, []string{`C:\k.exe`, "/s", "a"}},
		{`"C:\a b\k.exe"`, []string{`C:\a b\k.exe`}},
		{`"C:\a b\k.exe" "x y" z`, []string{`C:\a b\k.exe`, "x y", "z"}},
		{`C:\Program Files\k.exe`, []string{`C:\Program`, `Files\k.exe`}},
		{`k \\"a b" \"c`, []string{"k", `\a b`, `"c`}},
		{`"open`, []string{"open"}},
	} {
		if got := splitCommandLine(tt.line); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.line, got, tt.want)
		}
	}
}

func TestTurnedOff(t *testing.T) {
	for _, tt := range []struct {
		value []byte
		want  bool
	}{
		{nil, false}, {[]byte{2, 0, 0, 0}, false}, {[]byte{6, 0}, false}, {[]byte{3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}, true}, {[]byte{7}, true},
	} {
		if got := turnedOff(tt.value); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.value, got, tt.want)
		}
	}
}

// lawful is what New lets through.
func lawful(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) && !strings.ContainsAny(s, "\uFFFD\uFFFE\uFFFF")
}

func FuzzRoundTrip(f *testing.F) {
	for _, arg := range odd {
		f.Add(odd[0], arg)
	}
	f.Fuzz(func(t *testing.T, program, arg string) {
		argv := []string{program, arg, "x"}
		if program == "" || !lawful(program) || !lawful(arg) {
			return // New refuses it
		}
		cfg := Config{ID: "x", Name: "x", Command: argv}
		if got := parseDesktopEntry(desktopEntry(cfg, shown)).command; !slices.Equal(got, argv) {
			t.Errorf("desktop entry: got %q, want %q", got, argv)
		}
		if got := parsePlist(LaunchAgent{Command: argv}.Plist()).command; !slices.Equal(got, argv) {
			t.Errorf("plist: got %q, want %q", got, argv)
		}
		argv[0] = `C:\k.exe` // no file there has a quotation mark in its name
		if got := splitCommandLine(commandLine(argv)); !slices.Equal(got, argv) {
			t.Errorf("command line: got %q, want %q", got, argv)
		}
	})
}

func FuzzParse(f *testing.F) {
	cfg := app
	cfg.Command = odd
	for _, text := range []string{desktopEntry(cfg, hidden), LaunchAgent{Command: odd}.Plist(), commandLine(odd), "bplist00", "[Desktop Entry]\nExec=\\"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, found := range []found{parseDesktopEntry(text), parsePlist(text)} {
			if size := len(strings.Join(found.command, "")); size > len(text) {
				t.Errorf("%d bytes of command from %d bytes", size, len(text))
			}
		}
		splitCommandLine(text)
	})
}
