package main_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rules of the house, kept by a test. Every Go file of the module is read,
// whatever its build tags say: what one system, architecture or tag (nogss)
// leaves out of the build cannot hide an import here.

const (
	module = "kerbpass/"
	joiner = "cmd/tray" // the one room that sees all others
)

// confined is the law on outside modules: who may import each, and why it is
// here at all. A module that is missing from it may not be imported.
var confined = map[string]struct {
	rooms []string
	why   string
}{
	"github.com/spf13/cobra":          {[]string{joiner}, "commands, help and shell completion"},
	"github.com/BurntSushi/toml":      {[]string{"internal/settings", "internal/policy", "internal/apps"}, "the settings file and policy files, with line and column of errors; Cargo's, to see what an edit made of it"},
	"github.com/fsnotify/fsnotify":    {[]string{"internal/settings", "internal/policy"}, "notices that the settings file or a policy file was changed"},
	"howett.net/plist":                {[]string{"internal/policy"}, "macOS' managed preferences, XML and binary"},
	"github.com/Azure/go-ntlmssp":     {[]string{"internal/auth"}, "the two messages of NTLM, version 2"},
	"github.com/icholy/digest":        {[]string{"internal/auth"}, "Digest's challenges and answers"},
	"github.com/dop251/goja":          {[]string{"internal/route/pac"}, "runs PAC scripts, in a process of their own"},
	"github.com/ebitengine/purego":    {[]string{"internal/ticket/gss", "internal/ui/window"}, "calls the system's Kerberos library, and its web view, without cgo"},
	"github.com/jcmturner/gokrb5/v8":  {[]string{"internal/ticket/krb5", "internal/demo/realm"}, "Kerberos where the system has no library; the demo's KDC"},
	"github.com/jcmturner/gofork":     {[]string{"internal/ticket/krb5"}, "the ASN.1 that gokrb5's messages are made for"},
	"github.com/kardianos/service":    {[]string{"internal/autostart/userservice"}, "the proxy as a service without a desktop"},
	"github.com/alexbrainman/sspi":    {[]string{"internal/ticket/sspi"}, "tokens by Windows' own Kerberos"},
	"github.com/zalando/go-keyring":   {[]string{"internal/ticket/keyring"}, "the system's keyring, for a remembered password"},
	"golang.org/x/term":               {[]string{joiner}, "a password typed without being shown"},
	"github.com/godbus/dbus/v5":       {[]string{"internal/netwatch", "internal/sysproxy", "internal/ui/tray", "internal/ui/tray/traytest", "internal/ui/notify"}, "systemd-logind's word that the machine woke up; NetworkManager's and dconf's about proxies; the tray's bus; notifications"},
	"golang.org/x/sys":                {[]string{"internal/peer", "internal/policy", "internal/sysproxy", "bench"}, "netlink, TCP tables and peer credentials; inotify and the registry of Windows for proxy settings and policies; CPU clocks and affinity"},
	"golang.org/x/text":               {[]string{"internal/ui"}, "message catalogues, plural forms and language tags"},
	"github.com/wailsapp/go-webview2": {[]string{"internal/ui/window"}, "Windows' own web view for the settings window"},
	"github.com/chromedp/cdproto":     {[]string{"internal/ui/web"}, "what chromedp speaks; tests only"},
	"github.com/chromedp/chromedp":    {[]string{"internal/ui/web"}, "the settings page in a real browser; tests only"},
	"fyne.io/systray":                 {[]string{"internal/ui/tray"}, "the icon in the notification area"},
	"golang.org/x/net":                {[]string{"internal/route"}, "IDNA, so that names compare as they are resolved"},
}

// arrows are the imports between rooms that are neither from the joiner nor
// from a room to one it lies in.
var arrows = map[string][]string{
	"internal/demo": {"internal/demo/realm"},
	"bench":         {"internal/demo/realm"},
}

// forTests may be imported by every test. The first four are test support and
// may themselves import internal/testenv.
var forTests = []string{
	"internal/testenv", "internal/ticket/tickettest", "internal/proxy/proxytest", "internal/ui/tray/traytest",
	"internal/demo/realm", "internal/route",
}

// checkImports returns what is wrong with the imports of one file of room, a
// path relative to the module.
func checkImports(room string, isTest bool, imports []string) (bad []string) {
	for _, imp := range imports {
		switch target, ours := strings.CutPrefix(imp, module); {
		case ours && !mayImportRoom(room, target, isTest):
			bad = append(bad, fmt.Sprintf("%s imports the room %s; only %s joins rooms", room, target, joiner))
		case ours:
		case imp == "C" || strings.Contains(strings.Split(imp, "/")[0], "."):
			if why := checkModule(room, imp); why != "" {
				bad = append(bad, why)
			}
		}
	}
	return bad
}

func mayImportRoom(room, target string, isTest bool) bool {
	switch {
	case room == joiner, strings.HasPrefix(room, target+"/"), slices.Contains(arrows[room], target):
		return true
	case isTest:
		return room == target || slices.Contains(forTests, target)
	default:
		return target == forTests[0] && slices.Contains(forTests[:4], room)
	}
}

func checkModule(room, imp string) string {
	for mod, law := range confined {
		if imp == mod || strings.HasPrefix(imp, mod+"/") {
			if slices.Contains(law.rooms, room) {
				return ""
			}
			return fmt.Sprintf("%s imports %s; only %s may", room, imp, strings.Join(law.rooms, " and "))
		}
	}
	return fmt.Sprintf("%s imports %s, which the table of outside modules does not know", room, imp)
}

// A source is one Go file: its slash-separated path in the module and its text.
type source struct {
	name string
	text string
}

func (s source) room() string { return path.Dir(s.name) }
func (s source) isTest() bool { return strings.HasSuffix(s.name, "_test.go") }

// checkFile returns what is wrong with one file.
func checkFile(s source) (bad []string) {
	complain := func(format string, args ...any) { bad = append(bad, s.name+": "+fmt.Sprintf(format, args...)) }

	file, err := parser.ParseFile(token.NewFileSet(), s.name, s.text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return []string{err.Error()}
	}
	if formatted, err := format.Source([]byte(s.text)); err != nil || !bytes.Equal(formatted, []byte(s.text)) {
		complain("not formatted; run gofmt -w %s", s.name)
	}
	if suffix := systemSuffix(s.name); suffix != "" && !hasBuildLine(s.text) {
		complain("the name ends in %s, so it needs a //go:build line too", suffix)
	}
	if lines := strings.Count(s.text, "\n"); s.name == joiner+"/main.go" && lines >= 60 {
		complain("%d lines; main decides nothing and stays under 60", lines)
	}

	var imports []string
	names := map[string]string{} // as the file calls them
	for _, spec := range file.Imports {
		imp, _ := strconv.Unquote(spec.Path.Value)
		imports = append(imports, imp)
		name := path.Base(imp)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		if name == "." {
			complain("dot import of %s hides where names come from", imp)
		}
		names[name] = imp
	}
	for _, why := range checkImports(s.room(), s.isTest(), imports) {
		complain("%s", why)
	}
	if s.isTest() {
		return bad
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if pkg, ok := sel.X.(*ast.Ident); ok {
				if why := checkUse(s.name, names[pkg.Name], sel.Sel.Name); why != "" {
					complain("%s", why)
				}
			}
		}
		return true
	})
	return bad
}

// checkUse judges one use of a package's function in production code.
func checkUse(file, pkg, name string) string {
	switch {
	case pkg == "os" && name == "Exit" && file != joiner+"/main.go" && file != "bench/main.go" && !(strings.HasPrefix(file, "packaging/") && path.Base(file) == "main.go"):
		return "os.Exit skips deferred clean-up; only main.go may"
	case pkg == "log" && (strings.HasPrefix(name, "Fatal") || strings.HasPrefix(name, "Panic")):
		return "log." + name + " ends the process; return an error"
	case pkg == "log/slog" && path.Dir(file) != joiner && slices.Contains([]string{
		"Debug", "DebugContext", "Info", "InfoContext", "Warn", "WarnContext", "Error", "ErrorContext",
		"Log", "LogAttrs", "With", "Default", "SetDefault", "SetLogLoggerLevel",
	}, name):
		return "slog." + name + " uses the process-wide logger; take one in Config"
	}
	return ""
}

// systemSuffix returns the part of a file's name that speaks of an operating
// system or architecture, or "other", which is our name for "none of these".
func systemSuffix(name string) string {
	parts := strings.Split(strings.TrimSuffix(strings.TrimSuffix(path.Base(name), ".go"), "_test"), "_")
	for _, part := range parts[1:] {
		if slices.Contains([]string{
			"linux", "windows", "darwin", "freebsd", "openbsd", "netbsd", "unix", "other", "nocgo",
			"amd64", "arm64", "386", "arm", "riscv64", "ppc64le", "s390x",
		}, part) {
			return part
		}
	}
	return ""
}

func hasBuildLine(text string) bool {
	for line := range strings.Lines(text) {
		switch line = strings.TrimSpace(line); {
		case constraint.IsGoBuild(line):
			return true
		case strings.HasPrefix(line, "package "):
			return false
		}
	}
	return false
}

// checkComments returns the rooms with production code but no package comment.
func checkComments(files []source) (bad []string) {
	documented := map[string]bool{}
	for _, s := range files {
		if s.isTest() {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), s.name, s.text, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			return []string{err.Error()}
		}
		documented[s.room()] = documented[s.room()] || strings.TrimSpace(file.Doc.Text()) != ""
	}
	for room, ok := range documented {
		if !ok {
			bad = append(bad, room+": no package comment: what is the room for, what does it promise and refuse?")
		}
	}
	return bad
}

// sources reads the module at root, other modules inside it left out.
func sources(t *testing.T, root string) (files []source) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, noModule := os.Stat(filepath.Join(name, "go.mod"))
			hidden := strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_")
			if name != root && (hidden || d.Name() == "testdata" || d.Name() == "vendor" || noModule == nil) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		files = append(files, source{filepath.ToSlash(rel), string(text)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestRulesOfTheHouse(t *testing.T) {
	files := sources(t, filepath.Join("..", ".."))
	if !slices.ContainsFunc(files, func(s source) bool { return s.name == "internal/ticket/ticket.go" }) {
		t.Fatalf("the module was not found: %d files read", len(files))
	}
	for _, s := range files {
		for _, why := range checkFile(s) {
			t.Error(why)
		}
	}
	for _, why := range checkComments(files) {
		t.Error(why)
	}
}

// What go.mod requires directly must stand in the table, with its reason, also
// before the first import.
func TestTableCoversGoMod(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	direct := 0
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(f) < 2 || !strings.HasPrefix(f[1], "v") || strings.HasSuffix(strings.TrimSpace(line), "// indirect") {
			continue
		}
		direct++
		if law, ok := confined[f[0]]; !ok || law.why == "" || len(law.rooms) == 0 {
			t.Errorf("go.mod requires %s, which has no room or no reason in the table", f[0])
		}
	}
	if direct == 0 {
		t.Error("no direct requirement read from go.mod")
	}
}

// The rules shown to bite: each offending file must give its complaint, and
// the lawful ones none.
func TestRulesBite(t *testing.T) {
	pkg := func(imports ...string) string {
		var b strings.Builder
		b.WriteString("package x\n")
		for _, imp := range imports {
			fmt.Fprintf(&b, "\nimport _ %q\n", imp)
		}
		return b.String()
	}
	for _, tt := range []struct {
		name string
		file string
		text string
		want string // "": lawful
	}{
		{"room to room", "internal/proxy/a.go", pkg("kerbpass/internal/ticket"), "imports the room internal/ticket"},
		{"room to room, hidden by a tag", "internal/proxy/a.go", "//go:build nogss && plan9\n\n" + pkg("kerbpass/internal/ticket"), "imports the room"},
		{"room to its own sub-room", "internal/ticket/a.go", pkg("kerbpass/internal/ticket/gss"), "imports the room"},
		{"sub-room to sub-room", "internal/ticket/gss/a.go", pkg("kerbpass/internal/ticket/krb5"), "imports the room"},
		{"same beginning is no parent", "internal/ticketing/a.go", pkg("kerbpass/internal/ticket"), "imports the room"},
		{"room to the joiner", "internal/ui/a.go", pkg("kerbpass/cmd/tray"), "imports the room"},
		{"production to test support", "internal/proxy/a.go", pkg("kerbpass/internal/testenv"), "imports the room"},
		{"production to demo/realm", "internal/proxy/a.go", pkg("kerbpass/internal/demo/realm"), "imports the room"},
		{"production to route", "internal/proxy/a.go", pkg("kerbpass/internal/route"), "imports the room"},
		{"test to another room", "internal/proxy/a_test.go", pkg("kerbpass/internal/peer"), "imports the room"},
		{"test support to another room", "internal/proxy/proxytest/a.go", pkg("kerbpass/internal/ticket"), "imports the room"},
		{"demo to a third room", "internal/demo/a.go", pkg("kerbpass/internal/proxy"), "imports the room"},
		{"bench to what it measures", "bench/a.go", pkg("kerbpass/internal/proxy"), "imports the room"},

		{"joiner to all", "cmd/tray/a.go", pkg("kerbpass/internal/ticket", "kerbpass/internal/ticket/gss", "kerbpass/internal/demo"), ""},
		{"sub-room to parent", "internal/ticket/gss/a.go", pkg("kerbpass/internal/ticket"), ""},
		{"proxytest to proxy", "internal/proxy/proxytest/a.go", pkg("kerbpass/internal/proxy", "kerbpass/internal/testenv"), ""},
		{"demo to realm", "internal/demo/a.go", pkg("kerbpass/internal/demo/realm"), ""},
		{"test to itself and test support", "internal/proxy/a_test.go", pkg("kerbpass/internal/proxy", "kerbpass/internal/testenv",
			"kerbpass/internal/ticket/tickettest", "kerbpass/internal/proxy/proxytest", "kerbpass/internal/demo/realm", "kerbpass/internal/route"), ""},

		{"module in the wrong room", "internal/ticket/a.go", pkg("github.com/ebitengine/purego"), "only internal/ticket/gss and internal/ui/window may"},
		{"module in the wrong room's test", "internal/ticket/a_test.go", pkg("golang.org/x/sys/unix"), "only internal/peer and internal/policy and internal/sysproxy and bench may"},
		{"module in the joiner", "cmd/tray/a.go", pkg("golang.org/x/net/idna"), "only internal/route may"},
		{"module's sub-package", "internal/proxy/a.go", pkg("github.com/jcmturner/gokrb5/v8/client"), "internal/ticket/krb5 and internal/demo/realm may"},
		{"unknown module", "cmd/tray/a.go", pkg("example.com/shiny"), "does not know"},
		{"unknown sister module", "internal/peer/a.go", pkg("golang.org/x/system"), "does not know"},
		{"cgo", "internal/ticket/gss/a.go", pkg("C"), "does not know"},
		{"module at home", "internal/demo/realm/a.go", pkg("github.com/jcmturner/gokrb5/v8/client", "net/http"), ""},

		{"not formatted", "internal/x/a.go", "package x\nvar  a = 1\n", "gofmt"},
		{"does not parse", "internal/x/a.go", "package", "expected"},
		{"system without a build line", "internal/x/a_windows.go", "package x\n", "//go:build"},
		{"other without a build line", "internal/x/a_other.go", "package x\n", "//go:build"},
		{"system's test without a build line", "internal/x/a_linux_test.go", "package x\n", "//go:build"},
		{"build line too late", "internal/x/a_darwin.go", "package x\n\nvar _ = `\n//go:build darwin\n`\n", "//go:build"},
		{"system with a build line", "internal/x/a_linux.go", "//go:build linux\n\npackage x\n", ""},
		{"a whole name is no suffix", "internal/x/linux.go", "package x\n", ""},

		{"os.Exit in a room", "internal/x/a.go", "package x\n\nimport \"os\"\n\nfunc f() { os.Exit(1) }\n", "os.Exit"},
		{"os.Exit under another name", "internal/x/a.go", "package x\n\nimport sys \"os\"\n\nvar f = sys.Exit\n", "os.Exit"},
		{"os.Exit in bench beside main.go", "bench/a.go", "package x\n\nimport \"os\"\n\nfunc f() { os.Exit(1) }\n", "os.Exit"},
		{"os.Exit beside main.go", "cmd/tray/app.go", "package x\n\nimport \"os\"\n\nfunc f() { os.Exit(1) }\n", "os.Exit"},
		{"os.Exit in main.go", "cmd/tray/main.go", "package x\n\nimport \"os\"\n\nfunc f() { os.Exit(1) }\n", ""},
		{"os.Exit in a test", "internal/x/a_test.go", "package x\n\nimport \"os\"\n\nfunc f() { os.Exit(1) }\n", ""},
		{"log.Fatalf", "cmd/tray/main.go", "package x\n\nimport \"log\"\n\nfunc f() { log.Fatalf(\"\") }\n", "log.Fatalf"},
		{"default logger", "internal/x/a.go", "package x\n\nimport \"log/slog\"\n\nfunc f() { slog.Info(\"\") }\n", "slog.Info"},
		{"default logger, taken", "internal/x/a.go", "package x\n\nimport \"log/slog\"\n\nvar l = slog.Default()\n", "slog.Default"},
		{"own logger", "internal/x/a.go", "package x\n\nimport \"log/slog\"\n\nfunc f(log *slog.Logger) { log.Info(\"\", slog.Int(\"n\", 1)) }\n", ""},
		{"default logger in the joiner", "cmd/tray/a.go", "package x\n\nimport \"log/slog\"\n\nfunc f() { slog.Info(\"\") }\n", ""},
		{"dot import", "internal/x/a.go", "package x\n\nimport . \"os\"\n\nfunc f() { Exit(1) }\n", "dot import"},
		{"long main.go", "cmd/tray/main.go", "package main\n" + strings.Repeat("\n// .\n", 30), "under 60"},
		{"main.go of 59 lines", "cmd/tray/main.go", "package main\n" + strings.Repeat("\n// .\n", 29), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := checkFile(source{tt.file, tt.text})
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want no complaint", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q, want one complaint with %q", got, tt.want)
			}
		})
	}
}

func TestCommentRuleBites(t *testing.T) {
	got := checkComments([]source{
		{"internal/a/a.go", "// Package a is described.\npackage a\n"},
		{"internal/a/b.go", "package a\n"},
		{"internal/b/b.go", "// Not attached.\n\npackage b\n"},
		{"internal/b/b_test.go", "// Package b_test does not count.\npackage b_test\n"},
		{"internal/c/c_linux.go", "//go:build linux\n\npackage c\n"},
		{"cmd/tray/deps_test.go", "package main_test\n"},
	})
	slices.Sort(got)
	if len(got) != 2 || !strings.HasPrefix(got[0], "internal/b:") || !strings.HasPrefix(got[1], "internal/c:") {
		t.Errorf("got %q, want complaints about internal/b and internal/c", got)
	}
}
