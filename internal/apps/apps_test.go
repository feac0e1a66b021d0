package apps_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"kerbpass/internal/apps"
)

const url = "http://127.0.0.1:5372"

// place is a home with settings files.
type place struct {
	t    *testing.T
	home string
	os   string
	env  map[string]string
	addr string
	have []string // programs in PATH; nil: all
}

func newPlace(t *testing.T) *place {
	return &place{t: t, home: t.TempDir(), os: "linux", addr: "127.0.0.1:5372", env: map[string]string{"SHELL": "/bin/bash"}}
}

func (p *place) apps() *apps.Apps {
	p.t.Helper()
	a, err := apps.New(apps.Config{OS: p.os, Home: p.home, Addr: p.addr, Record: p.record(),
		LookupEnv: func(name string) (string, bool) { v, ok := p.env[name]; return v, ok },
		LookPath: func(name string) (string, error) {
			if p.have == nil || slices.Contains(p.have, name) {
				return name, nil
			}
			return "", fs.ErrNotExist
		}})
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *place) record() string { return filepath.Join(p.home, "state", "kerbpass", "apps.json") }

func (p *place) look(name string) apps.Status {
	p.t.Helper()
	s, err := p.apps().Look(name)
	if err != nil {
		p.t.Fatal(err)
	}
	return s
}

func (p *place) write(file, text string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) read(file string) string {
	p.t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(b)
}

func (p *place) want(s apps.Status, err error, state apps.State, is error) {
	p.t.Helper()
	if s.State != state || !errors.Is(err, is) {
		p.t.Fatalf("%s: got %s (%s), %v, want %s, %v", s.Name, s.State, s.Detail, err, state, is)
	}
}

// tree is everything in the home but the record.
func (p *place) tree() map[string]string {
	p.t.Helper()
	all := map[string]string{}
	filepath.WalkDir(p.home, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			p.t.Fatal(err)
		}
		rel, _ := filepath.Rel(p.home, path)
		if rel == "state" {
			return fs.SkipDir
		}
		all[rel] = ""
		if d.Type().IsRegular() {
			st, _ := d.Info()
			all[rel] = fmt.Sprint(st.Mode(), p.read(path))
		}
		return nil
	})
	return all
}

// A sample is a settings file of one program as people have it, and what
// apply makes of it.
type sample struct{ name, before, after string }

var samples = []sample{
	{"git", "", "[http]\n\tproxy = " + url + "\n"},
	{"git", "[user]\n\tname = A # me\n[http \"https://x.test/\"]\n\tproxy = http://other:1\n", "[user]\n\tname = A # me\n[http \"https://x.test/\"]\n\tproxy = http://other:1\n[http]\n\tproxy = " + url + "\n"},
	{"git", "[HTTP]\n\tsslVerify = true\n[user]\n\tname = A", "[HTTP]\n\tproxy = " + url + "\n\tsslVerify = true\n[user]\n\tname = A"},
	{"git", "[http] # all of it\r\n\tsslVerify = true\r\n", "[http] # all of it\r\n\tproxy = " + url + "\r\n\tsslVerify = true\r\n"},
	{"git", "[user]\n\tname = A", "[user]\n\tname = A\n[http]\n\tproxy = " + url + "\n"},
	{"npm", "//registry.test/:_authToken=s3cret\nregistry=https://registry.test/\n", "//registry.test/:_authToken=s3cret\nregistry=https://registry.test/\nproxy=" + url + "\nhttps-proxy=" + url + "\nnoproxy=localhost,127.0.0.1,::1\n"},
	{"npm", "noproxy=.corp.test\n", "noproxy=.corp.test\nproxy=" + url + "\nhttps-proxy=" + url + "\n"},
	{"npm", "a=1\n[odd]\nb=2\n", "a=1\nproxy=" + url + "\nhttps-proxy=" + url + "\nnoproxy=localhost,127.0.0.1,::1\n[odd]\nb=2\n"},
	{"yarn", "# yarn\nregistry \"https://r.test\"\n", "# yarn\nregistry \"https://r.test\"\nproxy \"" + url + "\"\nhttps-proxy \"" + url + "\"\n"},
	{"yarn-berry", "nodeLinker: node-modules\nplugins:\n- path: a\n", "nodeLinker: node-modules\nplugins:\n- path: a\nhttpProxy: \"" + url + "\"\nhttpsProxy: \"" + url + "\"\n"},
	{"pip", "\ufeff[global]\r\nindex-url = https://i.test\r\nextra =\r\n    a\r\n    b\r\n", "\ufeff[global]\r\nproxy = " + url + "\r\nindex-url = https://i.test\r\nextra =\r\n    a\r\n    b\r\n"},
	{"conda", "channels:\n  - defaults\n", "channels:\n  - defaults\nproxy_servers:\n  http: " + url + "\n  https: " + url + "\n"},
	{"cargo", "[net]\ngit-fetch-with-cli = true\n\n[http] # h\ncheck-revoke = false\n", "[net]\ngit-fetch-with-cli = true\n\n[http] # h\nproxy = \"" + url + "\"\ncheck-revoke = false\n"},
	{"cargo", "[build]\njobs = 2 # two", "[build]\njobs = 2 # two\n[http]\nproxy = \"" + url + "\"\n"},
	{"maven", "<?xml version=\"1.0\"?>\n<settings xmlns=\"http://maven.apache.org/SETTINGS/1.2.0\">\n  <!-- </settings> -->\n  <mirrors/>\n</settings>\n",
		"<?xml version=\"1.0\"?>\n<settings xmlns=\"http://maven.apache.org/SETTINGS/1.2.0\">\n  <!-- </settings> -->\n  <mirrors/>\n  <proxies>\n    " + mvn("http") + "\n    " + mvn("https") + "\n  </proxies>\n</settings>\n"},
	{"maven", "<settings>\n<proxies>\n<proxy><active>false</active><host>old</host></proxy>\n</proxies></settings>", "<settings>\n<proxies>\n<proxy><active>false</active><host>old</host></proxy>\n    " + mvn("http") + "\n    " + mvn("https") + "\n</proxies></settings>"},
	{"gradle", "org.gradle.jvmargs=-Xmx2g \\\n  -Da=b\n", "org.gradle.jvmargs=-Xmx2g \\\n  -Da=b\nsystemProp.http.proxyHost=127.0.0.1\nsystemProp.http.proxyPort=5372\nsystemProp.https.proxyHost=127.0.0.1\nsystemProp.https.proxyPort=5372\nsystemProp.http.nonProxyHosts=localhost|127.*|[::1]\n"},
	{"curl", "-s\nuser-agent \"x\"\n", "-s\nuser-agent \"x\"\nproxy = \"" + url + "\"\nnoproxy = \"localhost,127.0.0.1,::1\"\n"},
	{"wget", "# w\ntries = 3", "# w\ntries = 3\nhttp-proxy = " + url + "\nhttps-proxy = " + url + "\nno-proxy = localhost,127.0.0.1,::1\n"},
	{"vscode", "// mine\n{\n    // a // comment\n    \"editor.tabSize\": 4, /* four */\n    \"a\": [1, {\"http.proxy\": \"no\"},],\n}\n", "// mine\n{\n    \"http.proxy\": \"" + url + "\",\n    // a // comment\n    \"editor.tabSize\": 4, /* four */\n    \"a\": [1, {\"http.proxy\": \"no\"},],\n}\n"},
	{"vscode", "{}", "{\n  \"http.proxy\": \"" + url + "\"\n}"},
	{"vscode", "{\r\n}\r\n", "{\r\n  \"http.proxy\": \"" + url + "\"\r\n}\r\n"},
	{"vscode", "{ \"a\": 1 }", "{ \"http.proxy\": \"" + url + "\", \"a\": 1 }"},
	{"claude", "{\n\t\"model\": \"x\",\n\t\"env\": {\n\t\t\"A\": \"b\"\n\t}\n}", "{\n\t\"model\": \"x\",\n\t\"env\": {\n\t\t\"HTTP_PROXY\": \"" + url + "\",\n\t\t\"HTTPS_PROXY\": \"" + url + "\",\n\t\t\"NO_PROXY\": \"localhost,127.0.0.1,::1\",\n\t\t\"A\": \"b\"\n\t}\n}"},
	{"claude", "{\n  \"env\": {},\n  \"b\": 1.50\n}\n", "{\n  \"env\": {\n    \"HTTP_PROXY\": \"" + url + "\",\n    \"HTTPS_PROXY\": \"" + url + "\",\n    \"NO_PROXY\": \"localhost,127.0.0.1,::1\"\n  },\n  \"b\": 1.50\n}\n"},
	{"shell", "case $- in *i*) ;; *) return;; esac\nalias ll='ls -l'", "case $- in *i*) ;; *) return;; esac\nalias ll='ls -l'\n# >>> kerbpass: taken out by kerbpass apps revert\nexport HTTP_PROXY='" + url + "'\nexport http_proxy='" + url +
		"'\nexport HTTPS_PROXY='" + url + "'\nexport https_proxy='" + url + "'\nexport NO_PROXY='localhost,127.0.0.1,::1'\nexport no_proxy='localhost,127.0.0.1,::1'\nexport NODE_USE_ENV_PROXY='1'\n# <<< kerbpass\n"},
}

func mvn(protocol string) string {
	return "<proxy><id>kerbpass-" + protocol + "</id><active>true</active><protocol>" + protocol + "</protocol><host>127.0.0.1</host><port>5372</port><nonProxyHosts>localhost|127.*|[::1]</nonProxyHosts></proxy>"
}

func TestApplyAndRevert(t *testing.T) {
	for i, tt := range samples {
		t.Run(fmt.Sprintf("%s %d", tt.name, i), func(t *testing.T) {
			p := newPlace(t)
			file := p.look(tt.name).File
			p.write(file, tt.before)
			before := p.tree()
			s, err := p.apps().Apply(tt.name)
			p.want(s, err, apps.Applied, nil)
			if got := p.read(file); got != tt.after {
				t.Errorf("applied: got\n%q, want\n%q", got, tt.after)
			}
			if st, _ := os.Stat(file); runtime.GOOS != "windows" && st.Mode() != 0o640 {
				t.Errorf("mode: got %v, want 0640", st.Mode())
			}
			s, err = p.apps().Apply(tt.name) // nothing more to do
			p.want(s, err, apps.Applied, nil)
			if got := p.read(file); got != tt.after {
				t.Errorf("applied again: got\n%q", got)
			}
			if text := p.read(p.record()); tt.before != "" && strings.Contains(text, "s3cret") {
				t.Errorf("the record holds a secret of the file: %s", text)
			}
			s, err = p.apps().Revert(tt.name)
			p.want(s, err, apps.Unset, nil)
			if after := p.tree(); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("reverted: got %q\nwant %q", after, before)
			}
			s, err = p.apps().Revert(tt.name)
			p.want(s, err, apps.Unset, apps.ErrNotOurs)
			if _, err := os.Stat(p.record()); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a record of nothing stays: %v", err)
			}
		})
	}
}

// Every program with a file, on every system: made from nothing, and gone
// without a trace.
func TestFromNothing(t *testing.T) {
	for _, system := range []string{"linux", "darwin", "windows"} {
		for _, shell := range []string{"/bin/bash", "/bin/zsh", "/usr/bin/fish", "/bin/sh"} {
			p := newPlace(t)
			p.os, p.env["SHELL"], p.addr = system, shell, "172.17.0.1:5372" // docker takes no loopback
			before := p.tree()
			edited := 0
			for _, name := range apps.Names() {
				s := p.look(name)
				if s.State != apps.Unset {
					continue
				}
				if !strings.HasPrefix(s.File, p.home) {
					t.Fatalf("%s %s: %s lies outside", system, name, s.File)
				}
				edited++
				s, err := p.apps().Apply(name)
				p.want(s, err, apps.Applied, nil)
				if text := p.read(s.File); strings.TrimSpace(text) != s.Hint {
					t.Errorf("%s %s: got\n%s\nthe hint is\n%s", system, name, text, s.Hint)
				}
				s, err = p.apps().Revert(name)
				p.want(s, err, apps.Unset, nil)
			}
			if edited < 15 {
				t.Errorf("%s: only %d programs have a file", system, edited)
			}
			if after := p.tree(); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("%s: left behind: %q", system, after)
			}
		}
	}
}

func TestAllAtOnce(t *testing.T) {
	p := newPlace(t)
	before := p.tree()
	var done []string
	for _, name := range apps.Names() {
		if _, err := p.apps().Apply(name); err == nil {
			done = append(done, name)
		}
	}
	if len(done) < 15 {
		t.Errorf("applied: %v", done)
	}
	for _, name := range done {
		s, err := p.apps().Revert(name)
		p.want(s, err, apps.Unset, nil)
	}
	if after := p.tree(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("left behind: %q", after)
	}
}

func TestConflicts(t *testing.T) {
	for _, tt := range []struct{ name, text, detail string }{
		{"git", "[http]\n\tproxy = http://user:pw@old.test:8080\n", "http.proxy is http://…@old.test:8080."},
		{"git", "[HTTP] Proxy=http://old.test:8080 ; mine\n", "http://old.test:8080."},
		{"npm", "https-proxy = http://old.test:8080\n", "https-proxy is http://old.test:8080."},
		{"npm", "https_proxy=http://old.test:8080\n", "https_proxy is"},
		{"pip", "[install]\nproxy = old.test:1\n", "install.proxy is old.test:1."},
		{"pip", "[global]\nPROXY: old.test:1\n", "global.proxy is old.test:1."},
		{"conda", "proxy_servers:\n  http: http://old.test\n", "proxy_servers is"},
		{"yarn-berry", "httpsProxy: 'http://old.test:1'\n", "httpsProxy is http://old.test:1."},
		{"cargo", "http.proxy = \"old.test:1\"\n", "http.proxy is old.test:1."},
		{"cargo", "http = { proxy = \"old.test:1\" }\n", "http.proxy is old.test:1."},
		{"maven", "<settings><proxies><proxy><host>old</host></proxy></proxies></settings>", "There is a <proxy> that is active."},
		{"gradle", "systemProp.https.proxyHost: old.test\n", "systemProp.https.proxyHost is old.test."},
		{"curl", "-x old.test:1\n", "proxy is old.test:1."},
		{"curl", "--proxy \"old.test:1\"\n", "proxy is old.test:1."},
		{"wget", "HTTPS_Proxy=old.test:1\n", "https-proxy is old.test:1."},
		{"vscode", "{\"http.proxy\": \"http://old.test:1\"}", "http.proxy is http://old.test:1."},
		{"claude", "{\"env\": {\"HTTPS_PROXY\": \"http://old.test:1\"}}", "env/HTTPS_PROXY is http://old.test:1."},
		{"shell", "a=1; export https_proxy=\"http://old.test:1\"\n", "https_proxy is set to http://old.test:1."},
		{"powershell", "$env:HTTP_PROXY = 'http://old.test:1'\n", "HTTP_PROXY is set to http://old.test:1."},
	} {
		p := newPlace(t)
		file := p.look(tt.name).File
		p.write(file, tt.text)
		s, err := p.apps().Apply(tt.name)
		p.want(s, err, apps.Conflict, apps.ErrConflict)
		if !strings.Contains(s.Detail, tt.detail) || p.read(file) != tt.text || strings.Contains(s.Detail, "pw") {
			t.Errorf("%s: got %q, want %q; %q", tt.name, s.Detail, tt.detail, p.read(file))
		}
		if _, err := os.Stat(p.record()); err == nil {
			t.Errorf("%s: there is a record", tt.name)
		}
	}
}

// What cannot be edited safely is not, and the file stays.
func TestRefused(t *testing.T) {
	for _, tt := range []struct{ name, text string }{
		{"git", "[http\n"}, {"git", "[user]\n\tname = a \\"}, {"git", "\xff\xfe[\x00h\x00"},
		{"pip", "[global]\n  index-url = https://indented.test\n"}, {"pip", "nonsense\n"},
		{"yarn-berry", "{a: 1}\n"}, {"yarn-berry", "a: 1\n---\nb: 2\n"}, {"yarn-berry", "a: 1\n...\n"}, {"yarn-berry", "a: 1\na: 2\n"}, {"conda", "? a\n: b\n"},
		{"cargo", "[http"}, {"cargo", "http = { timeout = 1 }\n"}, {"cargo", "a = \"\"\"\n[http]\n\"\"\"\n"}, {"cargo", "[[http]]\na = 1\n"},
		{"maven", "<settings/>"}, {"maven", "<settings><proxies/></settings>"}, {"maven", "<project></project>"}, {"maven", "<settings>"}, {"maven", "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><settings></settings>"},
		{"gradle", "a=b\\"},
		{"vscode", "{\"a\": 1"}, {"vscode", "[]"}, {"vscode", "{\"a\": 1} x"}, {"vscode", "{\"a\": nul}"}, {"vscode", "{\"a\": 1, \"a\": 2}"}, {"vscode", "{ /* }"}, {"vscode", "// only this"},
		{"claude", "{\"env\": [1]}"}, {"claude", "{\"a\": 1,}"}, {"claude", "{\"a\": 1} // c"},
		{"shell", "echo a \\"},
	} {
		p := newPlace(t)
		file := p.look(tt.name).File
		p.write(file, tt.text)
		s, err := p.apps().Apply(tt.name)
		p.want(s, err, apps.ByHand, apps.ErrByHand)
		if p.read(file) != tt.text || s.Detail == "" || s.Hint == "" {
			t.Errorf("%s %q: %+v; the file is %q", tt.name, tt.text, s, p.read(file))
		}
	}
}

// A file that was edited after apply keeps those edits.
func TestRevertAfterEdits(t *testing.T) {
	for _, tt := range []struct {
		name, before string
		edit         func(string) string
		after        string
	}{
		{"git", "[user]\n\tname = A\n", add("[core]\n\tpager = cat\n"), "[user]\n\tname = A\n[core]\n\tpager = cat\n"},
		{"git", "", add("\tsslVerify = true\n"), "[http]\n\tsslVerify = true\n"},
		{"git", "", func(s string) string { return "[a]\n\tb = c\n" + s }, "[a]\n\tb = c\n"},
		{"npm", "a=1\n", func(s string) string { return strings.Replace(s, "a=1\n", "a=2\nb=3\n", 1) + "c=4\n" }, "a=2\nb=3\nc=4\n"},
		{"npm", "a=1\n", func(s string) string { return strings.Replace(s, "https-proxy", "strict-ssl=true\nhttps-proxy", 1) }, "a=1\nstrict-ssl=true\n"},
		{"cargo", "", add("timeout = 5\n"), "[http]\ntimeout = 5\n"},
		{"vscode", "{}", func(s string) string {
			return strings.Replace(s, "\n}", ",\n  \"b\": 2\n}", 1)
		}, "{\n  \"b\": 2\n}"},
		{"vscode", "{\n  \"a\": 1\n}", func(s string) string { return strings.Replace(s, "\"a\": 1", "\"a\": 2", 1) }, "{\n  \"a\": 2\n}"},
		{"vscode", "{\n  \"a\": 1\n}", func(s string) string { return strings.Replace(s, ",\n  \"a\": 1", "", 1) }, "{\n}"},
		{"maven", "<settings>\n</settings>\n", func(s string) string { return strings.Replace(s, "<settings>\n", "<settings>\n  <offline/>\n", 1) }, "<settings>\n  <offline/>\n</settings>\n"},
		{"shell", "a\n", func(s string) string { return "first\n" + s + "last\n" }, "first\na\nlast\n"},
	} {
		p := newPlace(t)
		file := p.look(tt.name).File
		p.write(file, tt.before)
		s, err := p.apps().Apply(tt.name)
		p.want(s, err, apps.Applied, nil)
		p.write(file, tt.edit(p.read(file)))
		if p.read(file) == tt.before {
			t.Fatalf("%s: not edited", tt.name)
		}
		s, err = p.apps().Revert(tt.name)
		p.want(s, err, apps.Unset, nil)
		if got := p.read(file); got != tt.after {
			t.Errorf("%s: got\n%q, want\n%q", tt.name, got, tt.after)
		}
	}
}

func add(more string) func(string) string { return func(s string) string { return s + more } }

func TestChangedSince(t *testing.T) {
	p := newPlace(t)
	file := p.look("npm").File
	p.write(file, "a=1\n")
	p.apps().Apply("npm")

	// One value is another's now: it stays, and ours goes.
	p.write(file, strings.Replace(p.read(file), "https-proxy="+url, "https-proxy=http://new.test:1", 1))
	s := p.look("npm")
	p.want(s, nil, apps.Changed, nil)
	s, err := p.apps().Apply("npm")
	p.want(s, err, apps.Changed, apps.ErrConflict)
	s, err = p.apps().Revert("npm")
	p.want(s, err, apps.Conflict, nil)
	if got, want := p.read(file), "a=1\nhttps-proxy=http://new.test:1\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	// All of it was taken out, or the file is gone: there is nothing to do.
	p.write(file, "a=1\n")
	p.apps().Apply("npm")
	p.write(file, "b=2\n")
	s, err = p.apps().Revert("npm")
	p.want(s, err, apps.Unset, nil)
	if got := p.read(file); got != "b=2\n" {
		t.Errorf("got %q", got)
	}
	p.apps().Apply("npm")
	os.Remove(file)
	s, err = p.apps().Revert("npm")
	p.want(s, err, apps.Unset, nil)

	// Ours cannot be told from the rest: it stays, and says so.
	p.write(file, "a=1\n")
	p.apps().Apply("npm")
	text := strings.ReplaceAll(p.read(file), "=", " = ")
	p.write(file, text)
	s, err = p.apps().Revert("npm")
	p.want(s, err, apps.ByHand, apps.ErrByHand)
	if got := p.read(file); got != text {
		t.Errorf("got %q", got)
	}
}

func TestOtherAddress(t *testing.T) {
	p := newPlace(t)
	file := p.look("curl").File
	p.write(file, "-s\n")
	p.apps().Apply("curl")
	p.addr = "127.0.0.1:6000"
	s := p.look("curl")
	p.want(s, nil, apps.Outdated, nil)
	s, err := p.apps().Apply("curl")
	p.want(s, err, apps.Applied, nil)
	if got := p.read(file); !strings.HasPrefix(got, "-s\nproxy = \"http://127.0.0.1:6000\"\n") || strings.Contains(got, "5372") {
		t.Errorf("got %q", got)
	}
	s, err = p.apps().Revert("curl")
	p.want(s, err, apps.Unset, nil)
	if got := p.read(file); got != "-s\n" {
		t.Errorf("got %q", got)
	}

	// By hand, and the same.
	p.write(file, "proxy = http://127.0.0.1:6000\n")
	s, err = p.apps().Apply("curl")
	p.want(s, err, apps.Same, nil)
	s, err = p.apps().Revert("curl")
	p.want(s, err, apps.Same, apps.ErrNotOurs)
}

func TestLinksAndFailures(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // links need a privilege there
	}
	p := newPlace(t)
	file, to := p.look("git").File, filepath.Join(p.home, "dotfiles", "gitconfig")
	p.write(to, "[user]\n\tname = A\n")
	if err := os.Symlink(filepath.Join("dotfiles", "gitconfig"), file); err != nil {
		t.Fatal(err)
	}
	s, err := p.apps().Apply("git")
	p.want(s, err, apps.Applied, nil)
	if st, err := os.Lstat(file); err != nil || st.Mode()&fs.ModeSymlink == 0 || !strings.Contains(p.read(to), url) {
		t.Errorf("the link is gone: %v %v", st, err)
	}
	s, err = p.apps().Revert("git")
	p.want(s, err, apps.Unset, nil)
	if st, err := os.Lstat(file); err != nil || st.Mode()&fs.ModeSymlink == 0 || p.read(to) != "[user]\n\tname = A\n" {
		t.Errorf("the link is gone: %v %v", st, err)
	}

	// Without a place for the record nothing is written.
	os.RemoveAll(filepath.Join(p.home, "state"))
	p.write(filepath.Join(p.home, "state"), "in the way")
	if s, err := p.apps().Apply("git"); err == nil || p.read(to) != "[user]\n\tname = A\n" {
		t.Errorf("without a record: %+v %v", s, err)
	}
	os.Remove(filepath.Join(p.home, "state"))
	// Neither with one that is not understood.
	p.write(p.record(), "{")
	if s, err := p.apps().Apply("git"); err == nil || p.read(to) != "[user]\n\tname = A\n" {
		t.Errorf("with a broken record: %+v %v", s, err)
	}
	if _, err := p.apps().List(); err == nil {
		t.Error("list with a broken record: no error")
	}
}

func TestRecordIsPrivate(t *testing.T) {
	p := newPlace(t)
	p.apps().Apply("git")
	st, err := os.Stat(p.record())
	if err != nil || runtime.GOOS != "windows" && st.Mode().Perm() != 0o600 {
		t.Errorf("record: %v %v, want 0600", st, err)
	}
}

func TestByHandEnvironmentAbsent(t *testing.T) {
	p := newPlace(t)
	for name, want := range map[string]apps.State{"apt": apps.ByHand, "dnf": apps.ByHand, "jvm": apps.ByHand, "docker": apps.ByHand, "docker-daemon": apps.ByHand, "go": apps.Environment, "uv": apps.Environment, "copilot": apps.Environment} {
		s, err := p.apps().Apply(name)
		p.want(s, err, want, apps.ErrByHand)
		if want == apps.ByHand && s.Hint == "" {
			t.Errorf("%s: no hint", name)
		}
	}
	if len(p.tree()) != 1 {
		t.Errorf("something was written: %v", p.tree())
	}
	p.have = []string{"git"}
	for name, want := range map[string]apps.State{"git": apps.Unset, "npm": apps.Absent, "go": apps.Absent, "apt": apps.Absent, "vscode": apps.Absent, "shell": apps.Unset} {
		p.want(p.look(name), nil, want, nil)
	}
	if _, err := p.apps().Apply("nonsense"); !errors.Is(err, apps.ErrUnknown) {
		t.Errorf("an unknown program: %v", err)
	}
}

func TestAddressIsChecked(t *testing.T) {
	for _, addr := range []string{"", "x", "a'b:1", "a b:1", ":1", "h:\"1", "h:"} {
		if _, err := apps.New(apps.Config{OS: "linux", Home: "/", Addr: addr, Record: "/r", LookupEnv: os.LookupEnv, LookPath: func(string) (string, error) { return "", nil }}); err == nil {
			t.Errorf("%q was taken", addr)
		}
	}
}

func TestCertHelps(t *testing.T) {
	have := map[string]bool{}
	for _, h := range apps.CertHelps() {
		if h.Title == "" || len(h.Ways) == 0 || have[h.Name] {
			t.Errorf("%+v", h)
		}
		have[h.Name] = true
		if _, err := json.Marshal(h); err != nil {
			t.Error(err)
		}
	}
	// Those are of another's kind: shells and the Java tools.
	elsewhere := []string{"maven", "gradle", "docker", "environment.d", "shell"}
	for _, name := range apps.Names() {
		if !have[name] && !slices.Contains(elsewhere, name) {
			t.Errorf("no help for %s", name)
		}
	}
}

// Whatever is in a file: after apply and revert it is the same, or it was not
// touched.
func FuzzEdit(f *testing.F) {
	names := []string{"git", "npm", "yarn", "yarn-berry", "pip", "conda", "cargo", "maven", "gradle", "curl", "wget", "vscode", "claude", "shell", "environment.d"}
	for _, s := range samples {
		f.Add(slices.Index(names, s.name), s.before)
	}
	f.Fuzz(func(t *testing.T, which int, text string) {
		p := newPlace(t)
		name := names[uint(which)%uint(len(names))]
		file := p.look(name).File
		p.write(file, text)
		s, err := p.apps().Apply(name)
		if err != nil || s.State == apps.Same {
			if got := p.read(file); got != text {
				t.Fatalf("%s: refused (%v), but %q became %q", name, err, text, got)
			}
			return
		}
		if s.State != apps.Applied {
			t.Fatalf("%s: %+v", name, s)
		}
		if got := p.read(file); len(got) <= len(text) {
			t.Fatalf("%s: %q became %q", name, text, got)
		}
		if _, err := p.apps().Revert(name); err != nil {
			t.Fatalf("%s: revert: %v", name, err)
		}
		if got := p.read(file); got != text {
			t.Fatalf("%s: %q came back as %q", name, text, got)
		}
	})
}
