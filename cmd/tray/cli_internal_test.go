package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/control"
	organisation "kerbpass/internal/policy"
	"kerbpass/internal/proxy"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
)

// user is a home in which commands run in this process.
type user struct {
	t    *testing.T
	home string
	env  map[string]string

	policy *organisation.Source // nil: the system's
}

func newUser(t *testing.T) *user {
	home := t.TempDir()
	run := filepath.Join(home, "run")
	if err := os.Mkdir(run, 0o700); err != nil {
		t.Fatal(err)
	}
	return &user{t: t, home: home, env: map[string]string{"XDG_RUNTIME_DIR": run}}
}

func (u *user) config() string { return filepath.Join(u.home, "config.toml") }

// run returns standard output, what main would print to standard error, and
// the exit code.
func (u *user) run(args ...string) (out, errs string, code int) {
	u.t.Helper()
	var stdout, stderr bytes.Buffer
	c := &cli{
		args: append([]string{"--config", u.config()}, args...), in: strings.NewReader(""), out: &stdout, err: &stderr,
		lookupEnv: func(k string) (string, bool) { v, ok := u.env[k]; return v, ok }, policy: u.policy,
	}
	// None of these may take long; one that starts a helper by mistake ends.
	ctx, stop := context.WithTimeout(u.t.Context(), 20*time.Second)
	defer stop()
	err := c.run(ctx)
	var e *exitError
	switch {
	case errors.As(err, &e):
		code = e.code
		stderr.WriteString(e.text + "\n" + e.hint)
	case err != nil:
		code = 1
		stderr.WriteString(err.Error())
	}
	return stdout.String(), stderr.String(), code
}

func (u *user) write(text string) {
	u.t.Helper()
	if err := os.WriteFile(u.config(), []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
}

func TestExitCodesAndWords(t *testing.T) {
	u := newUser(t)
	for _, tt := range []struct {
		args  string
		code  int
		words string // in standard error
	}{
		{"nonsense", 2, "nonsense"},
		{"status --wrong", 2, "--wrong"},
		{"status extra", 2, ""},
		{"why", 2, ""},
		{"why http://a.test/ --upstream http://p.test:8080", 0, ""},
		{"why a.test", 4, "not running"},
		{"why ftp://a.test/ --upstream http://p.test:8080", 2, "ftp"},
		{"why http://a.test:99999/ --upstream http://p.test:8080", 2, "65535"},
		{`why http://evil.org\@github.com/ --bypass github.com`, 2, "not understood"},
		{"why a.test --upstream socks5://p.test", 2, "upstream"},
		{"kerberos", 2, ""},
		{"kerberos maybe", 2, "maybe"},
		{"kerberos status", 4, "not running"},
		{"bypass", 2, "missing"},
		{"bypass add", 2, ""},
		{"bypass add *.corp.example", 2, "corp.example"},
		{"bypass add https://git.corp.example/", 2, "git.corp.example"},
		{"bypass add 10.0.0.0/8", 2, "10.0.0.0/8"},
		{"bypass remove never.there", 1, "never.there"},
		{"bypass list", 0, ""},
		{"env --shell tcsh", 2, "tcsh"},
		{"exec -- true", 4, "not running"},
		{"exec", 2, ""},
		{"quit", 4, "not running"},
		{"version", 0, ""},
		{"completion bash", 0, ""},
		{"completion tcsh", 2, "tcsh"},
		{"run --listen 0.0.0.0:0", 2, "0.0.0.0"},
		{"run --upstream http://", 2, "upstream"},
		{"why a.corp.example --upstream http://p.test:1 --bypass *.corp.example", 0, "*.corp.example"},
		{"--log-level loud run", 2, "loud"},
		{"--log-format xml run", 2, "xml"},
	} {
		out, errs, code := u.run(strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(errs, tt.words) {
			t.Errorf("kerbpass %s: exit code %d, want %d; standard error %q, want %q in it\n%s", tt.args, code, tt.code, errs, tt.words, out)
		}
		if code != 0 && strings.TrimSpace(errs) == "" {
			t.Errorf("kerbpass %s: fails without a word", tt.args)
		}
	}
}

func TestWhyJSON(t *testing.T) {
	u := newUser(t)
	for _, tt := range []struct {
		target, route, rule, entry, nearest string
	}{
		{"https://github.com/", "direct", "exact", "github.com", ""},
		{"api.github.com", "proxy", "default", "", "github.com"},
		{"malicious-corp.com", "proxy", "default", "", "corp.com"},
		{"a.corp.com:8443", "direct", "suffix", "corp.com", ""},
		{"localhost:3000", "direct", "loopback", "localhost", ""},
		{"http://127.0.0.1:5372/", "refused", "loopback", "", ""},
	} {
		out, errs, code := u.run("why", "--json", tt.target, "--upstream", "http://p.test:8080", "--bypass", "github.com", "--no-proxy", "corp.com")
		var a answer
		if err := json.Unmarshal([]byte(out), &a); err != nil || code != 0 {
			t.Fatalf("%s: exit code %d, %v, %s", tt.target, code, err, errs)
		}
		if a.Route != tt.route || a.Rule != tt.rule || a.Entry != tt.entry || a.Nearest != tt.nearest || a.Explanation == "" {
			t.Errorf("%s: got %+v, want %+v", tt.target, a, tt)
		}
		if a.Route == "proxy" && (a.Upstream != "http://p.test:8080" || !a.Kerberos) {
			t.Errorf("%s: got %+v", tt.target, a)
		}
	}
}

func TestBypassEditsKeepTheFile(t *testing.T) {
	u := newUser(t)
	u.write("# mine\nversion = 1\n\n[bypass] # hosts\nexact = [\n  \"git.corp.example\", # the server\n]\nunknown = 1\n")
	if _, errs, code := u.run("bypass", "add", "Wiki.Corp.Example.", "[2001:DB8::1]"); code != 0 {
		t.Fatal(errs)
	}
	if out, _, _ := u.run("bypass", "list"); out != "git.corp.example\nwiki.corp.example\n2001:db8::1\n" {
		t.Errorf("list: %q", out)
	}
	if out, _, _ := u.run("bypass", "export"); out != "git.corp.example,wiki.corp.example,2001:db8::1\n" {
		t.Errorf("export: %q", out)
	}
	if out, errs, code := u.run("bypass", "import", "a.example,*.b.example\nc.example"); code != 1 || !strings.Contains(out, "2 added") || !strings.Contains(errs, "*.b.example") {
		t.Errorf("import: %d %q %q", code, out, errs)
	}
	file := filepath.Join(t.TempDir(), "hosts.txt")
	if err := os.WriteFile(file, []byte("c.example\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Dir(file))
	if _, errs, code := u.run("bypass", "import", "hosts.txt"); code != 2 || !strings.Contains(errs, "import - < hosts.txt") {
		t.Errorf("import of a file's name: %d %q", code, errs)
	}
	if _, errs, code := u.run("bypass", "remove", "GIT.corp.example"); code != 0 {
		t.Errorf("remove: %s", errs)
	}
	text, _ := os.ReadFile(u.config())
	for _, want := range []string{"# mine", "# hosts", "unknown = 1", `"a.example"`, "# the server"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is gone from the file:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), `"git.corp.example"`) {
		t.Errorf("still there:\n%s", text)
	}
	// A file that does not parse is left alone.
	u.write("listen = [\n")
	if _, errs, code := u.run("bypass", "add", "x.example"); code != 1 || !strings.Contains(errs, "config.toml") {
		t.Errorf("broken file: %d %q", code, errs)
	}
	if text, _ := os.ReadFile(u.config()); string(text) != "listen = [\n" {
		t.Errorf("the broken file was changed: %q", text)
	}
	// A list set by the environment cannot be edited.
	u.write("")
	u.env["JAATO_NO_PROXY"] = "env.example"
	if _, errs, code := u.run("bypass", "add", "x.example"); code != 1 || !strings.Contains(errs, "JAATO_NO_PROXY") {
		t.Errorf("locked: %d %q", code, errs)
	}
}

func TestLocalStatus(t *testing.T) {
	u := newUser(t)
	u.env["HTTPS_PROXY"] = "proxy.corp.example:8080"
	u.env["JAATO_KERBEROS_PROXY"] = "no"
	u.write("[bypass]\nexakt = [\"a.example\"]\n")
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(u.home, "none"))
	out, _, code := u.run("status", "--json")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 4 {
		t.Fatalf("exit code %d, %v\n%s", code, err, out)
	}
	if r.Ticket.State != ticket.StateNone || r.Proxy.State != "not_running" || r.Proxy.Upstream != "http://proxy.corp.example:8080" || r.Proxy.UpstreamSource != "environment" || r.Proxy.Kerberos {
		t.Errorf("report: %+v", r)
	}
	if s := r.Settings["kerberos.enabled"]; s.Source != "environment" || !s.Locked || s.Value != false {
		t.Errorf("kerberos.enabled: %+v", s)
	}
	if !strings.Contains(out, "exakt") || !strings.Contains(out, "config.toml:2:1") {
		t.Errorf("the unknown key is not reported with its place:\n%s", out)
	}
	for _, field := range []string{`"paused_until": null`, `"last_auth"`, `"renew_until": null`, `"problems"`, `"tickets": []`, `"result": "none"`} {
		if !strings.Contains(out, field) {
			t.Errorf("no %s in\n%s", field, out)
		}
	}
	text, errs, _ := u.run("status")
	if !strings.Contains(text, "not running") || !strings.Contains(errs, "kerbpass run") {
		t.Errorf("for people: %s%s", text, errs)
	}
}

func TestRenderEnv(t *testing.T) {
	for _, tt := range []struct {
		shell string
		unset bool
		want  []string
	}{
		{"sh", false, []string{"export HTTP_PROXY='http://127.0.0.1:5372'", "export https_proxy='http://127.0.0.1:5372'", "export no_proxy='localhost,127.0.0.1,::1'"}},
		{"sh", true, []string{"unset HTTP_PROXY", "unset no_proxy"}},
		{"fish", false, []string{"set -gx HTTPS_PROXY 'http://127.0.0.1:5372'"}},
		{"fish", true, []string{"set -e https_proxy"}},
		{"powershell", false, []string{"$Env:HTTP_PROXY = 'http://127.0.0.1:5372'"}},
		{"powershell", true, []string{"Remove-Item Env:HTTP_PROXY -ErrorAction SilentlyContinue"}},
		{"cmd", false, []string{`set "HTTP_PROXY=http://127.0.0.1:5372"`}},
		{"cmd", true, []string{`set "HTTP_PROXY="`}},
		{"dotenv", false, []string{"HTTP_PROXY=http://127.0.0.1:5372"}},
		{"jvm", false, []string{"-Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=5372 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=5372 -Dhttp.nonProxyHosts=localhost|127.*|[::1]"}},
	} {
		got, err := renderEnv(tt.shell, "127.0.0.1:5372", tt.unset)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range tt.want {
			if !strings.Contains("\n"+got, "\n"+line+"\n") {
				t.Errorf("%s unset=%v: no line %q in\n%s", tt.shell, tt.unset, line, got)
			}
		}
		if tt.unset && strings.Contains(got, "5372") {
			t.Errorf("%s: unset sets something:\n%s", tt.shell, got)
		}
	}
}

func TestWithVars(t *testing.T) {
	t.Setenv("http_proxy", "http://old:1")
	t.Setenv("ALL_PROXY", "http://old:1")
	t.Setenv("KEPT", "1")
	env := strings.Join(withVars(proxyVars("127.0.0.1:5372")), "\n")
	if strings.Contains(env, "old:1") || !strings.Contains(env, "http_proxy=http://127.0.0.1:5372") || !strings.Contains(env, "KEPT=1") {
		t.Errorf("environment:\n%s", env)
	}
}

func TestJ1TokenErrorsHaveTheirCause(t *testing.T) {
	for err, want := range map[error]proxy.Cause{
		ticket.ErrNoTicket: "no_ticket", ticket.ErrExpired: "ticket_expired", ticket.ErrKDCUnreachable: "kdc_unreachable", ticket.ErrSPNUnknown: "spn_unknown",
		ticket.ErrClockSkew: "clock_skew", ticket.ErrCache: "no_ticket", errors.ErrUnsupported: "kerberos_unavailable", errors.New("boom"): "internal",
	} {
		var e *proxy.Error
		if got := tokenError(&ticket.OpError{Op: "token", Subject: "HTTP/x", Err: err}, "HTTP/x"); !errors.As(got, &e) || e.Cause != want {
			t.Errorf("%v: got %v, want %s", err, got, want)
		}
	}
}

func TestC4ServicePrincipal(t *testing.T) {
	for _, tt := range []struct{ host, override, want string }{
		{"Proxy.Corp.Example", "", "HTTP/proxy.corp.example"},
		{"proxy.corp.example.", "", "HTTP/proxy.corp.example"},
		{"10.1.2.3", "", ""},
		{"2001:db8::1", "", ""},
		{"10.1.2.3", "HTTP/real.corp.example@CORP.EXAMPLE", "HTTP/real.corp.example@CORP.EXAMPLE"},
	} {
		got, err := servicePrincipal(t.Context(), &proxy.Upstream{Host: tt.host, Port: 8080}, tt.override, "off")
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s %s: got %q %v, want %q", tt.host, tt.override, got, err, tt.want)
		}
	}
}

func TestA8UpstreamThatIsOurselves(t *testing.T) {
	for url, want := range map[string]bool{
		"http://127.0.0.1:5372": true, "http://localhost:5372": true, "http://[::1]:5372": true, "http://0.0.0.0:5372": true, "http://x.localhost:5372": true,
		"http://127.0.0.1:3128": false, "http://proxy.corp.example:5372": false, "http://10.0.0.1:5372": false,
	} {
		if got := selfUpstream(url, []string{"127.0.0.1:5372", "[::1]:5372"}); got != want {
			t.Errorf("%s: got %v, want %v", url, got, want)
		}
	}
}

// A whole life in one process: the control channel, the switch, live edits,
// quit; nothing is left behind.
func TestLife(t *testing.T) {
	testenv.NoLeaks(t)
	u := newUser(t)
	u.write("listen = [\"127.0.0.1:0\"]\nupstream = [\"http://p.test:8080\"]\n")
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(u.home, "none"))
	ended := make(chan int, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		c := &cli{args: []string{"--config", u.config(), "--log-level", "error", "run"}, in: strings.NewReader(""), out: &bytes.Buffer{}, err: &bytes.Buffer{},
			lookupEnv: func(k string) (string, bool) { v, ok := u.env[k]; return v, ok }}
		if err := c.run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
		ended <- 0
	}()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, _, code := u.run("status"); code != exitNotRunning {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("does not start")
		}
	}
	if out, _, code := u.run("why", "http://a.test/"); code != 0 || !strings.HasPrefix(out, "proxy http://p.test:8080") {
		t.Errorf("why: %d %s", code, out)
	}
	if _, errs, code := u.run("bypass", "add", "a.test"); code != 0 {
		t.Errorf("bypass add: %s", errs)
	}
	if out, _, _ := u.run("why", "http://a.test/"); !strings.HasPrefix(out, "direct") {
		t.Errorf("an edit does not count at once: %s", out)
	}
	if _, errs, code := u.run("bypass", "add", "*.test"); code != 2 || !strings.Contains(errs, "*.test") {
		t.Errorf("bypass add *.test: %d %s", code, errs)
	}
	if _, errs, code := u.run("why", "http://a b/"); code != 2 {
		t.Errorf("why with a bad target: %d %s", code, errs)
	}
	if _, _, code := u.run("kerberos", "off"); code != 0 {
		t.Errorf("kerberos off: %d", code)
	}
	if out, _, code := u.run("kerberos", "status", "--json"); code != 0 || !strings.Contains(out, `"enabled": false`) {
		t.Errorf("kerberos status: %d %s", code, out)
	}
	// An edit by hand is noticed too.
	u.write("listen = [\"127.0.0.1:0\"]\nupstream = [\"http://q.test:8080\"]\n")
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if out, _, _ := u.run("why", "http://a.test/"); strings.HasPrefix(out, "proxy http://q.test:8080") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("an edit by hand is not noticed")
		}
	}
	if _, errs, code := u.run("run"); code != 0 || !strings.Contains(errs, "already running") {
		t.Errorf("second start: %d %s", code, errs)
	}
	if _, _, code := u.run("quit"); code != 0 {
		t.Errorf("quit: %d", code)
	}
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("quit does not end it")
	}
	path, err := control.Path(func(k string) (string, bool) { v, ok := u.env[k]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestPortInUseNamesItsOwner(t *testing.T) {
	u := newUser(t)
	net := newDialled(t)
	_, errs, code := u.run("run", "--listen", net.server.Addr().String())
	if code != 1 || !strings.Contains(errs, "is in use by ") || !strings.Contains(errs, "(process ") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// What keeps requests from getting through the upstream shows in status, and
// goes when one gets through.
func TestStatusSeesABrokenPath(t *testing.T) {
	testenv.NoLeaks(t)
	network := newDialled(t)
	var down atomic.Bool
	a := startApp(t, "[access]\nsame_user_only = false\n", map[string]any{"upstream": []string{"http://up.test:3128"}, "kerberos.enabled": false},
		appConfig{dial: func(ctx context.Context, n, addr string) (net.Conn, error) {
			if down.Load() {
				return nil, &net.DNSError{Err: "no such host", Name: "up.test", IsNotFound: true}
			}
			return network.dial(ctx, n, addr)
		}})
	// The proxy tells what came of a request once the client has its answer.
	expect := func(when string, want int, say string) {
		t.Helper()
		ask(t, a.addrs()[0], "CONNECT", "a.test:443", "a.test:443")
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			r := a.report(t.Context())
			code, text := r.healthCode(), r.text(time.Now())
			if code == want && strings.Contains(text, say) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: exit code %d, want %d\n%s", when, code, want, text)
			}
		}
	}
	expect("healthy", 0, "")
	down.Store(true)
	expect("upstream without an address", exitPathBroken, "cannot be resolved")
	down.Store(false)
	expect("mended", 0, "")
}

func TestAnotherConfigIsNotSilentlyIgnored(t *testing.T) {
	testenv.NoLeaks(t)
	u := newUser(t)
	u.write("")
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(u.home, "none"))
	path, err := control.Path(func(k string) (string, bool) { v, ok := u.env[k]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	startApp(t, "", nil, appConfig{control: l}) // with a file of its own
	for _, args := range [][]string{{"bypass", "add", "a.test"}, {"bypass", "list"}, {"status"}, {"kerberos", "off"}} {
		if _, errs, code := u.run(args...); code != 1 || !strings.Contains(errs, "another settings file") {
			t.Errorf("%v: exit code %d, %q", args, code, errs)
		}
	}
	if text, _ := os.ReadFile(u.config()); len(text) != 0 {
		t.Errorf("the file was written: %q", text)
	}
}

func TestImportCountsWhatIsNew(t *testing.T) {
	u := newUser(t)
	if out, errs, code := u.run("bypass", "import", "# ours\na.example, b.example # and his\nA.example."); code != 0 || out != "2 added\n" {
		t.Errorf("got %d %q %q", code, out, errs)
	}
	if out, _, _ := u.run("bypass", "import", "a.example,c.example"); out != "1 added\n" {
		t.Errorf("again: %q", out)
	}
}

func TestBrokenFileIsAnErrorForFacts(t *testing.T) {
	u := newUser(t)
	u.write("exact = =\n")
	for _, args := range [][]string{{"bypass", "list"}, {"kerberos", "status"}, {"env"}} {
		if out, errs, code := u.run(args...); code != 1 || !strings.Contains(errs, "config.toml:1:") || out != "" {
			t.Errorf("%v: exit code %d, %q %q", args, code, out, errs)
		}
	}
}
