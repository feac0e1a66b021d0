package settings_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/settings"
	"kerbpass/internal/testenv"
)

// env is an environment of its own, so that the tests' does not matter.
func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// open opens a store on a file with this text; "" is no file at all.
func open(t *testing.T, text string, cfg settings.Config) *settings.Store {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = filepath.Join(t.TempDir(), "config.toml")
	}
	if text != "" {
		write(t, cfg.Path, text)
	}
	s, err := settings.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func defaults() settings.Values {
	return settings.Values{
		Listen: []string{"127.0.0.1:5372", "[::1]:5372"}, Upstream: []string{}, NoProxy: []string{}, BypassExact: []string{},
		Tunnel: []string{}, SocksListen: []string{}, GatewayListen: []string{}, GatewayAllow: []string{}, GatewayClients: []string{},
		KerberosEnabled: true, KerberosUpstreams: []string{}, KerberosCanonicalize: "off", KerberosPreemptive: true, KerberosRemindBefore: 30 * time.Minute,
		KerberosRenew: "auto", SameUserOnly: true, AllowUsers: []string{}, ConnectPorts: []string{}, UpstreamAuth: []string{}, NotifyExpiring: true, NotifyExpired: true,
	}
}

func TestDefaults(t *testing.T) {
	snap := open(t, "", settings.Config{}).Snapshot()
	if !reflect.DeepEqual(snap.Values, defaults()) {
		t.Errorf("got %+v\nwant %+v", snap.Values, defaults())
	}
	if len(snap.Problems) != 0 || snap.FileReadOnly {
		t.Errorf("without a file got problems %v, read-only %v", snap.Problems, snap.FileReadOnly)
	}
	for key, o := range snap.Origins {
		if o != (settings.Origin{Source: settings.SourceDefault}) {
			t.Errorf("%s: got origin %+v, want the default", key, o)
		}
	}
}

// Every setting different from its default: a key without a field, or read
// into the wrong one, is seen.
const fullFile = `version = 1
listen = ["127.0.0.1:1"]
upstream = ["proxy.corp.example:8080", "https://b.example/"]
upstream_auth = ["proxy.corp.example:8080  NTLM  CORP\\alice", "https://b.example digest alice"]
pac = "auto"
no_proxy = [".corp.example"]
tunnel = ["127.0.0.1:2222=git.corp.example:22"]

[bypass]
exact = ["git.corp.example"]

[socks]
listen = ["[::1]:1080"]

[gateway]
enabled = true
listen = ["172.17.0.1:5380"]
allow = ["172.17.3.4/16", "fd00::1"]
clients = ["build:00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"]

[kerberos]
enabled = false
upstreams = ["Proxy2.Corp.Example:8080", "proxy3.corp.example"]
spn = "HTTP/other.corp.example"
canonicalize = "cname"
preemptive = false
cache = "FILE:/tmp/x"
remind_before = "1h30m"
renew = "ask"
remember = "alice@CORP.EXAMPLE"

[access]
same_user_only = false
allow_users = ["root"]
connect_ports = ["443", "8000-8999"]

[ui]
notify_valid = true
notify_expiring = false
notify_expired = false
language = "de"
`

func TestEverySettingFromTheFile(t *testing.T) {
	s := open(t, fullFile, settings.Config{})
	snap := s.Snapshot()
	want := settings.Values{
		Listen: []string{"127.0.0.1:1"}, Upstream: []string{"http://proxy.corp.example:8080", "https://b.example"}, PAC: "auto",
		UpstreamAuth: []string{`http://proxy.corp.example:8080 ntlm CORP\alice`, "https://b.example digest alice"},
		NoProxy:      []string{".corp.example"}, BypassExact: []string{"git.corp.example"},
		Tunnel: []string{"127.0.0.1:2222=git.corp.example:22"}, SocksListen: []string{"[::1]:1080"}, GatewayEnabled: true,
		GatewayListen: []string{"172.17.0.1:5380"}, GatewayAllow: []string{"172.17.0.0/16", "fd00::1/128"},
		GatewayClients: []string{"build:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}, KerberosSPN: "HTTP/other.corp.example",
		KerberosCanonicalize: "cname", KerberosCache: "FILE:/tmp/x", KerberosRemindBefore: 90 * time.Minute, KerberosRenew: "ask",
		KerberosRemember: "alice@CORP.EXAMPLE", KerberosUpstreams: []string{"proxy2.corp.example:8080", "proxy3.corp.example"},
		AllowUsers: []string{"root"}, ConnectPorts: []string{"443", "8000-8999"}, NotifyValid: true, Language: "de",
	}
	if !reflect.DeepEqual(snap.Values, want) || len(snap.Problems) != 0 {
		t.Errorf("got %+v\nwant %+v\nproblems %v", snap.Values, want, snap.Problems)
	}
	section := ""
	for i, line := range strings.Split(fullFile, "\n") {
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]") + "."
		}
		name, _, ok := strings.Cut(line, " =")
		if !ok || name == "version" {
			continue
		}
		found := false
		for key, o := range snap.Origins {
			if key == section+name {
				found = true
				if want := (settings.Origin{Source: settings.SourceFile, Name: fmt.Sprintf("%s:%d", s.Path(), i+1)}); o != want {
					t.Errorf("%s: got origin %+v, want %+v", key, o, want)
				}
			}
		}
		if !found {
			t.Errorf("no origin for %s", name)
		}
	}
}

func TestKeysAreComplete(t *testing.T) {
	keys := settings.Keys()
	if fields := reflect.TypeFor[settings.Values]().NumField(); len(keys) != fields {
		t.Errorf("got %d keys for %d fields", len(keys), fields)
	}
	snap := open(t, "", settings.Config{}).Snapshot()
	described := snap.Describe()
	for _, k := range keys {
		if k.Doc == "" || k.Default == nil {
			t.Errorf("%s: got %+v, want a default and a description", k.Key, k)
		}
		if _, ok := snap.Origins[k.Key]; !ok {
			t.Errorf("%s has no origin", k.Key)
		}
		if _, ok := described[k.Key]; !ok {
			t.Errorf("%s is not described", k.Key)
		}
	}
	keys[0].Default.([]string)[0] = "spoilt"
	if settings.Keys()[0].Default.([]string)[0] == "spoilt" {
		t.Error("a caller of Keys can change the defaults")
	}
}

func TestDescribeJSON(t *testing.T) {
	s := open(t, "[kerberos]\nremind_before = \"90m\"\n", settings.Config{LookupEnv: env("JAATO_NO_PROXY", "a.example")})
	b, err := json.Marshal(s.Snapshot().Describe())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"bypass.exact":{"value":["a.example"],"source":"environment","name":"JAATO_NO_PROXY","locked":true}`,
		`"kerberos.remind_before":{"value":"1h30m","source":"file","name":`,
		`"no_proxy":{"value":[],"source":"default","locked":false}`,
	} {
		if !strings.Contains(string(b), want) {
			t.Errorf("got %s\nwant %s in it", b, want)
		}
	}
}

// locked is a policy that locks these values.
func locked(values map[string]any) func() settings.Managed {
	return func() settings.Managed { return settings.Managed{Locked: ruled(values)} }
}

func ruled(values map[string]any) map[string]settings.Ruled {
	all := map[string]settings.Ruled{}
	for key, v := range values {
		all[key] = settings.Ruled{Value: v, Name: "policy.toml"}
	}
	return all
}

func TestOrderOfSources(t *testing.T) {
	file := "upstream = [\"http://file\"]\npac = \"file\"\nno_proxy = [\"file\"]\n[bypass]\nexact = [\"file\"]\n[kerberos]\nenabled = true\n"
	// One source after the other falls away.
	cfg := settings.Config{
		Policy:    locked(map[string]any{"upstream": "http://policy"}),
		Flags:     map[string]any{"upstream": []string{"http://flag"}, "bypass.exact": "flag, flag2", "kerberos.enabled": true},
		LookupEnv: env("HTTPS_PROXY", "http://env", "JAATO_NO_PROXY", "env", "JAATO_KERBEROS_PROXY", "no"),
		System:    func() []string { return []string{"http://system"} },
	}
	type row struct {
		upstream, bypass string
		kerberos         bool
		source           settings.Source
		name             string
		locked           bool
	}
	check := func(text string, want row) {
		t.Helper()
		snap := open(t, text, cfg).Snapshot()
		o := snap.Origins["upstream"]
		got := row{strings.Join(snap.Upstream, " "), strings.Join(snap.BypassExact, " "), snap.KerberosEnabled, o.Source, o.Name, o.Locked}
		if o.Source == settings.SourceFile {
			got.name = filepath.Base(o.Name)
		}
		if got != want {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	}
	check(file, row{"http://policy", "flag flag2", true, "policy", "policy.toml", true})
	cfg.Policy = nil
	check(file, row{"http://flag", "flag flag2", true, "flag", "--upstream", true})
	cfg.Flags = nil
	check(file, row{"http://env", "env", false, "environment", "HTTPS_PROXY", true})
	cfg.LookupEnv = nil
	check(file, row{"http://file", "file", true, "file", "config.toml:1", false})
	check("upstream = []\n", row{"http://system", "", true, "system", "system settings", false})
	cfg.System = nil
	check("", row{"", "", true, "default", "", false})
}

func TestEnvironment(t *testing.T) {
	list := func(s ...string) []string { return append([]string{}, s...) }
	file := "upstream = [\"http://file\"]\nno_proxy = [\"file\"]\n[bypass]\nexact = [\"file\"]\n[kerberos]\nenabled = true\n"
	tests := []struct {
		name string
		env  []string
		want func(v *settings.Values) // changes to what the file says
	}{
		{"nothing", nil, func(v *settings.Values) {}},
		{"upper before lower, https before http",
			[]string{"http_proxy", "http://4", "HTTP_PROXY", "http://3", "https_proxy", "http://2", "HTTPS_PROXY", "http://1"},
			func(v *settings.Values) { v.Upstream = list("http://1") }},
		{"second", []string{"http_proxy", "http://4", "HTTP_PROXY", "http://3", "https_proxy", "http://2"},
			func(v *settings.Values) { v.Upstream = list("http://2") }},
		{"third", []string{"http_proxy", "http://4", "HTTP_PROXY", "http://3"}, func(v *settings.Values) { v.Upstream = list("http://3") }},
		{"empty does not count", []string{"HTTPS_PROXY", "", "https_proxy", " ", "http_proxy", "http://4"},
			func(v *settings.Values) { v.Upstream = list("http://4") }},
		{"R22 no scheme", []string{"HTTPS_PROXY", "proxy.corp.com:8080"}, func(v *settings.Values) { v.Upstream = list("http://proxy.corp.com:8080") }},
		{"path goes", []string{"HTTPS_PROXY", "https://proxy.corp.com/a/"}, func(v *settings.Values) { v.Upstream = list("https://proxy.corp.com") }},
		{"NO_PROXY upper wins", []string{"NO_PROXY", "a, b", "no_proxy", "c"}, func(v *settings.Values) { v.NoProxy = list("a", "b") }},
		{"no_proxy when upper is empty", []string{"NO_PROXY", "", "no_proxy", "c,,"}, func(v *settings.Values) { v.NoProxy = list("c") }},
		{"NO_PROXY blanks do not separate", []string{"NO_PROXY", "a b;c"}, func(v *settings.Values) { v.NoProxy = list("a b;c") }},
		{"E10 trim", []string{"JAATO_NO_PROXY", " github.com , api.github.com "},
			func(v *settings.Values) { v.BypassExact = list("github.com", "api.github.com") }},
		{"E13 line ends", []string{"JAATO_NO_PROXY", "github.com\napi.github.com\r\nx"},
			func(v *settings.Values) { v.BypassExact = list("github.com", "api.github.com", "x") }},
		{"E15 empties", []string{"JAATO_NO_PROXY", "github.com,,api.github.com,"},
			func(v *settings.Values) { v.BypassExact = list("github.com", "api.github.com") }},
		{"E16 comma only", []string{"JAATO_NO_PROXY", ","}, func(v *settings.Values) { v.BypassExact = list() }},
		{"E16 blanks only", []string{"JAATO_NO_PROXY", "  "}, func(v *settings.Values) { v.BypassExact = list() }},
		{"empty is unset", []string{"JAATO_NO_PROXY", ""}, func(v *settings.Values) {}},
		{"E56 lower case", []string{"jaato_no_proxy", "github.com", "jaato_kerberos_proxy", "no"}, func(v *settings.Values) {}},
		{"kerberos on", []string{"JAATO_KERBEROS_PROXY", " YES "}, func(v *settings.Values) {}},
		{"kerberos off", []string{"JAATO_KERBEROS_PROXY", "on"}, func(v *settings.Values) { v.KerberosEnabled = false }},
		{"kerberos empty is off", []string{"JAATO_KERBEROS_PROXY", ""}, func(v *settings.Values) { v.KerberosEnabled = false }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			snap := open(t, file, settings.Config{LookupEnv: env(tt.env...)}).Snapshot()
			want := defaults()
			want.Upstream, want.NoProxy, want.BypassExact = list("http://file"), list("file"), list("file")
			tt.want(&want)
			if !reflect.DeepEqual(snap.Values, want) || len(snap.Problems) != 0 {
				t.Errorf("got %+v\nwant %+v\nproblems %v", snap.Values, want, snap.Problems)
			}
		})
	}
	for _, on := range []string{"true", "1", "yes", "True\t", " yEs"} {
		snap := open(t, "[kerberos]\nenabled = false\n", settings.Config{LookupEnv: env("JAATO_KERBEROS_PROXY", on)}).Snapshot()
		if !snap.KerberosEnabled {
			t.Errorf("JAATO_KERBEROS_PROXY=%q: got off, want on", on)
		}
	}
}

// A password in the upstream must not be used, and must not be seen anywhere.
func TestUserinfoIsRefusedUnseen(t *testing.T) {
	for _, url := range []string{"http://alice:geheim@proxy:8080", "alice:geheim@proxy", "http://alice:geheim@proxy:80 80/%zz", "ftp://alice:geheim@x"} {
		snap := open(t, fmt.Sprintf("upstream = [%q, \"http://b\"]\n", url), settings.Config{
			LookupEnv: env("HTTPS_PROXY", url), Flags: map[string]any{"upstream": []string{url}, "pac": "http://alice:geheim@x/p.pac"}}).Snapshot()
		if got := strings.Join(snap.Upstream, " "); got != "http://b" {
			t.Errorf("%s: got upstream %q, want the usable one of the weakest source", url, got)
		}
		if len(snap.Problems) != 4 {
			t.Errorf("%s: got problems %v, want one per place", url, snap.Problems)
		}
		if all := fmt.Sprintf("%+v %+v", snap, snap.Describe()); testenv.Secret(all, "geheim") != "" {
			t.Errorf("the password is visible in %s", all)
		}
	}
}

func TestSelfUpstreamIsSkipped(t *testing.T) {
	asked := ""
	snap := open(t, "listen = [\"127.0.0.1:9\"]\nupstream = [\"http://localhost:9\", \"http://real:8080\"]\n", settings.Config{
		LookupEnv: env("HTTPS_PROXY", "http://127.0.0.1:9"),
		SelfUpstream: func(url string, listen []string) bool {
			asked += url + " " + strings.Join(listen, ",") + "\n"
			return strings.HasSuffix(url, ":9")
		},
	}).Snapshot()
	if got := strings.Join(snap.Upstream, " "); got != "http://real:8080" {
		t.Errorf("got upstream %q, want the next source's", got)
	}
	if o := snap.Origins["upstream"]; o.Source != settings.SourceFile || o.Locked {
		t.Errorf("got origin %+v, want the file", o)
	}
	want := "http://127.0.0.1:9 127.0.0.1:9\nhttp://localhost:9 127.0.0.1:9\nhttp://real:8080 127.0.0.1:9\n"
	if asked != want {
		t.Errorf("asked about\n%swant\n%s", asked, want)
	}
	if len(snap.Problems) != 2 || snap.Problems[0].Source != settings.SourceEnv || !strings.Contains(snap.Problems[0].Text, "HTTPS_PROXY") ||
		snap.Problems[1].Line != 2 || snap.Problems[1].Column != 13 {
		t.Errorf("got problems %v", snap.Problems)
	}
}

func TestSelfUpstreamEverywhereAsksTheSystem(t *testing.T) {
	snap := open(t, "upstream = [\"http://self\"]\n", settings.Config{
		LookupEnv:    env("HTTPS_PROXY", "http://self"),
		System:       func() []string { return []string{"http://system:8080"} },
		SelfUpstream: func(url string, _ []string) bool { return url == "http://self" },
	}).Snapshot()
	if o := snap.Origins["upstream"]; o.Source != settings.SourceSystem || strings.Join(snap.Upstream, " ") != "http://system:8080" {
		t.Errorf("got %v from %+v, want the system's", snap.Upstream, o)
	}
}

func TestProblems(t *testing.T) {
	check := map[string]func(any) error{
		"bypass.exact": func(v any) error {
			for _, s := range v.([]string) {
				if strings.HasPrefix(s, "*") {
					return errors.New("a star matches nothing")
				}
			}
			return nil
		},
		"kerberos.cache": func(v any) error {
			if v == "bad" {
				return errors.New("no such cache")
			}
			return nil
		},
	}
	tests := []struct {
		text         string
		line, column int
		key          string
		in           string // of text or hint
		warning      bool
	}{
		{"version = 1\nlisten = [\n", 2, 11, "", "until then the defaults", false},
		{"a = 1\r\nb = \"x\r\n", 2, 7, "", "", false},
		{"pac = \"a\"\npac = \"b\"\n", 2, 1, "", "pac", false},
		{"listen = [\"127.0.0.1:80\", \"0.0.0.0:80\"]\n", 1, 27, "listen", "0.0.0.0:80", false},
		{"listen = [\n  # ä\n  \"localhost:80\", ]\n", 3, 3, "listen", "127.0.0.1:5372", false},
		{"listen = [\"127.0.0.1:99999\"]\n", 1, 11, "listen", "99999", false},
		{"listen = [\"[::ffff:127.0.0.1]:80\"]\n", 1, 11, "listen", "loopback", false},
		{"listen = []\n", 1, 10, "listen", "at least one", false},
		{"upstream = [\"ftp://x\"]\n", 1, 13, "upstream", "ftp", false},
		{"upstream = [\"http://ä.example\", \"ftp://x\"]\n", 1, 33, "upstream", "ftp", false},
		{"upstream = [\"http://x:0\"]\n", 1, 13, "upstream", "port", false},
		{"upstream = [\"http://x:\"]\n", 1, 13, "upstream", "port", false},
		{"upstream = [\"http://:80\"]\n", 1, 13, "upstream", "proxy URL", false},
		{"upstream = [\"http://[::1\"]\n", 1, 13, "upstream", "proxy URL", false},
		{"upstream = [\"a b\"]\n", 1, 13, "upstream", "proxy URL", false},
		{"upstream = [\"http://a\", 3]\n", 1, 25, "upstream", "a number", false},
		{"upstream = \"http://a\"\n", 1, 12, "upstream", "a list of strings", false},
		{"upstream_auth = [\"http://x:1\"]\n", 1, 18, "upstream_auth", "basic, digest or ntlm", false},
		{"upstream_auth = [\"http://x:1 negotiate alice\"]\n", 1, 18, "upstream_auth", "basic, digest or ntlm", false},
		{"upstream_auth = [\"http://x:1 basic\"]\n", 1, 18, "upstream_auth", "user name is missing", false},
		{"upstream_auth = [\"http://x:1 basic alice:pw\"]\n", 1, 18, "upstream_auth", "keyring", false},
		{"upstream_auth = [\"http://alice:pw@x:1 basic alice\"]\n", 1, 18, "upstream_auth", "remove everything", false},
		{"upstream_auth = [\"ftp://x:1 basic alice\"]\n", 1, 18, "upstream_auth", "not supported", false},
		{"pac = \"ftp://x/p\"\n", 1, 7, "pac", "ftp", false},
		{"[kerberos]\nenabled = \"yes\"\n", 2, 11, "kerberos.enabled", "true or false", false},
		{"[kerberos]\nremind_before = 30\n", 2, 17, "kerberos.remind_before", "30m", false},
		{"[kerberos]\nremind_before = \"30\"\n", 2, 17, "kerberos.remind_before", "30m", false},
		{"[kerberos]\nremind_before = \"-1m\"\n", 2, 17, "kerberos.remind_before", "between 0 and", false},
		{"[kerberos]\nrenew = \"always\"\n", 2, 9, "kerberos.renew", "auto, ask, off", false},
		{"[kerberos]\ncanonicalize = \"on\"\n", 2, 16, "kerberos.canonicalize", "off, cname", false},
		{"[kerberos]\nupstreams = [\"*.corp.example\"]\n", 2, 14, "kerberos.upstreams", "exact host name", false},
		{"[kerberos]\nupstreams = [\".corp.example\"]\n", 2, 14, "kerberos.upstreams", "exact host name", false},
		{"[kerberos]\nupstreams = [\"http://p.example\"]\n", 2, 14, "kerberos.upstreams", "a host with a port", false},
		{"[kerberos]\nupstreams = [\"p.example/x\"]\n", 2, 14, "kerberos.upstreams", "exact host name", false},
		{"[kerberos]\nupstreams = [\"a:pw@p.example\"]\n", 2, 14, "kerberos.upstreams", "user name", false},
		{"[kerberos]\nupstreams = [\"p.example:\"]\n", 2, 14, "kerberos.upstreams", "a host with a port", false},
		{"[kerberos]\nupstreams = [\"p.example:0\"]\n", 2, 14, "kerberos.upstreams", "a host with a port", false},
		{"[kerberos]\nupstreams = [\"p.example:65536\"]\n", 2, 14, "kerberos.upstreams", "a host with a port", false},
		{"[kerberos]\nupstreams = [\"p.example:080\"]\n", 2, 14, "kerberos.upstreams", "a host with a port", false},
		{"[kerberos]\nupstreams = [\"10.1\"]\n", 2, 14, "kerberos.upstreams", "neither a host", false},
		{"[kerberos]\nupstreams = [\"p x\"]\n", 2, 14, "kerberos.upstreams", "exact host name", false},
		{"[kerberos]\nupstreams = [\"p.example.\"]\n", 2, 14, "kerberos.upstreams", "exact host name", false},
		{"[kerberos]\nupstreams = [\"\"]\n", 2, 14, "kerberos.upstreams", "exact host name", false},
		{"[kerberos]\nupstreams = [\"fd00::1\"]\n", 2, 14, "kerberos.upstreams", "exact host name", false},
		{"[kerberos]\nupstreams = [\"[fd00::1%eth0]\"]\n", 2, 14, "kerberos.upstreams", "not an address", false},
		{"[kerberos]\nupstreams = [\"[1.2.3.4]\"]\n", 2, 14, "kerberos.upstreams", "not an address", false},
		{"[kerberos]\nupstreams = [\"b\u00fccher.example\"]\n", 2, 14, "kerberos.upstreams", "exact host name", false},
		{"[kerberos]\nspn = \"HTTP@x\"\n", 2, 7, "kerberos.spn", "HTTP/proxy", false},
		{"[kerberos]\ncache = \"bad\"\n", 2, 9, "kerberos.cache", "no such cache", false},
		{"[ui]\nlanguage = \"d e\"\n", 2, 12, "ui.language", "not a language", false},
		{"[bypass]\nexact = [\n\"a\", # x\n   \"*.b\",\n]\n", 4, 4, "bypass.exact", "a star", false},
		{"bypass = { exact = [\"a\", \"\"] }\n", 1, 26, "bypass.exact", "empty", false},
		{"bypass.exact = [\"*\"]\n", 1, 17, "bypass.exact", "a star", false},
		{"[access]\nallow_users = [\"\\u0007x\"]\n", 2, 16, "access.allow_users", "control", false},
		{"[access]\nconnect_ports = [\"https\"]\n", 2, 18, "access.connect_ports", "port", false},
		{"tunnel = [\"127.0.0.1:1\"]\n", 1, 11, "tunnel", "where it leads", false},
		{"tunnel = [\"0.0.0.0:1=a:22\"]\n", 1, 11, "tunnel", "loopback", false},
		{"tunnel = [\"127.0.0.1:1=a:0\"]\n", 1, 11, "tunnel", "host with a port", false},
		{"tunnel = [\"127.0.0.1:1=:22\"]\n", 1, 11, "tunnel", "host with a port", false},
		{"[socks]\nlisten = [\"192.168.1.1:1080\"]\n", 2, 11, "socks.listen", "loopback", false},
		{"[gateway]\nlisten = [\"here:1080\"]\n", 2, 11, "gateway.listen", "172.17.0.1:5380", false},
		{"[gateway]\nlisten = [\"224.0.0.1:1080\"]\n", 2, 11, "gateway.listen", "172.17.0.1:5380", false},
		{"[gateway]\nallow = [\"0.0.0.0/0\"]\n", 2, 10, "gateway.allow", "every machine", false},
		{"[gateway]\nallow = [\"docker0\"]\n", 2, 10, "gateway.allow", "not a network", false},
		{"[gateway]\nclients = [\"a:hunter2\"]\n", 2, 12, "gateway.clients", "gateway add", false},
		{"[gateway]\nclients = [\"a b:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"]\n", 2, 12, "gateway.clients", "gateway add", false},
		{"[access]\nconnect_ports = [\"99-1\"]\n", 2, 18, "access.connect_ports", "port", false},
		{"bypass = 3\n", 1, 1, "bypass", "is a table", false},
		{"[[bypass]]\nexact = [\"a\"]\n", 1, 1, "bypass", "list of tables", false},
		{"[listen]\nx = 1\n", 1, 1, "listen", "a table", false},
		{"pac.x = 1\n", 1, 1, "pac", "a table", false},
		{"lisen = 3\n", 1, 1, "lisen", "Perhaps you mean listen.", true},
		{"# ä\n\n[kerberos]\n  enable = true\n", 4, 3, "kerberos.enable", "Perhaps you mean kerberos.enabled.", true},
		{"exact = [\"a\"]\n", 1, 1, "exact", "Perhaps you mean bypass.exact.", true},
		{"[bypas]\nexact = [\"a\"]\n", 1, 1, "bypas", "Perhaps you mean bypass.", true},
		{"bypas = { exact = [\"a\"] }\n", 1, 1, "bypas", "unknown", true},
		{"\"bypass.exact\" = []\n", 1, 1, `"bypass.exact"`, "unknown", true},
		{"zzz = 1\n", 1, 1, "zzz", "Remove it", true},
		{"version = 2\nfuture = 1\n", 1, 11, "version", "version 2", true},
		{"version = \"1\"\n", 1, 11, "version", "version = 1", false},
		{"version = 0\n", 1, 11, "version", "version = 1", false},
		{"\xef\xbb\xbflisen = 3\n", 1, 1, "lisen", "listen", true},
		{"\xef\xbb\xbfx = \n", 1, 5, "", "", false},
		{"a = " + strings.Repeat("[", 100000), 1, 1, "", "nested", false},
	}
	for _, tt := range tests {
		name := tt.text
		if len(name) > 60 {
			name = name[:60]
		}
		t.Run(name, func(t *testing.T) {
			s := open(t, tt.text, settings.Config{Check: check})
			problems := s.Snapshot().Problems
			if len(problems) != 1 {
				t.Fatalf("got problems %v, want one", problems)
			}
			p := problems[0]
			if p.File != s.Path() || p.Line != tt.line || p.Column != tt.column || p.Key != tt.key || p.Warning != tt.warning || p.Source != settings.SourceFile {
				t.Errorf("got %+v\nwant line %d, column %d, key %q, warning %v", p, tt.line, tt.column, tt.key, tt.warning)
			}
			if !strings.Contains(p.Text+" "+p.Hint, tt.in) || p.Text == "" || p.Hint == "" && !strings.Contains(p.String(), tt.in) {
				t.Errorf("got %q, want %q in it", p, tt.in)
			}
			if want := fmt.Sprintf("%s:%d:%d: ", s.Path(), tt.line, tt.column); !strings.HasPrefix(p.String(), want) {
				t.Errorf("got %q, want it to begin with %q", p, want)
			}
		})
	}
}

func TestWarningsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&b, "x%d = 1\n", i)
	}
	if n := len(open(t, b.String(), settings.Config{}).Snapshot().Problems); n != 50 {
		t.Errorf("got %d warnings, want 50", n)
	}
}

// What cannot be used gives the default, not what a weaker source would say;
// the good entries of a list stay.
func TestBadValues(t *testing.T) {
	refuseStar := map[string]func(any) error{"bypass.exact": func(v any) error {
		if strings.Contains(strings.Join(v.([]string), " "), "*") {
			return errors.New("star")
		}
		return nil
	}}
	file := "[bypass]\nexact = [\"a\", \"*\", \"b\"]\n[access]\nsame_user_only = false\n"
	snap := open(t, file, settings.Config{Check: refuseStar}).Snapshot()
	if got := strings.Join(snap.BypassExact, " "); got != "a b" {
		t.Errorf("got %q, want the good entries", got)
	}
	snap = open(t, file, settings.Config{Check: refuseStar, LookupEnv: env("JAATO_NO_PROXY", "*"),
		Policy: locked(map[string]any{"access.same_user_only": "yes"})}).Snapshot()
	if len(snap.BypassExact) != 0 || !snap.SameUserOnly {
		t.Errorf("got bypass %v, same user %v: a weaker source spoke for a broken one", snap.BypassExact, snap.SameUserOnly)
	}
	if o := snap.Origins["bypass.exact"]; o != (settings.Origin{Source: settings.SourceEnv, Name: "JAATO_NO_PROXY", Locked: true}) {
		t.Errorf("got origin %+v, want the variable, of which nothing is left", o)
	}
	if o := snap.Origins["access.same_user_only"]; o != (settings.Origin{Source: settings.SourcePolicy, Name: "policy.toml", Locked: true}) {
		t.Errorf("got origin %+v, want the default, locked by the culprit", o)
	}
	if len(snap.Problems) != 2 {
		t.Errorf("got problems %v, want two", snap.Problems)
	}
	whole := map[string]func(any) error{"bypass.exact": func(v any) error {
		if len(v.([]string)) > 1 {
			return errors.New("too many")
		}
		return nil
	}}
	snap = open(t, "[bypass]\nexact = [\"a\", \"b\"]\n", settings.Config{Check: whole}).Snapshot()
	if len(snap.BypassExact) != 0 || len(snap.Problems) != 1 || snap.Problems[0].Column != 9 {
		t.Errorf("got %v, %v: want a list refused as a whole", snap.BypassExact, snap.Problems)
	}
}

func TestNewerFileIsReadAsFarAsPossible(t *testing.T) {
	s := open(t, "version = 7\npac = \"auto\"\nfuture = { a = 1 }\n", settings.Config{})
	snap := s.Snapshot()
	if !snap.FileReadOnly || snap.PAC != "auto" || len(snap.Problems) != 1 {
		t.Errorf("got read-only %v, pac %q, problems %v", snap.FileReadOnly, snap.PAC, snap.Problems)
	}
	err := s.Edit(func(e *settings.Edit) error { return e.Set("pac", "") })
	if !errors.Is(err, settings.ErrNewer) {
		t.Errorf("got %v, want ErrNewer", err)
	}
}

func TestOpenRefusesMistakesOfTheProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	for name, cfg := range map[string]settings.Config{
		"no path": {}, "flag": {Path: path, Flags: map[string]any{"bypas": true}},
		"check": {Path: path, Check: map[string]func(any) error{"x": nil}},
	} {
		if _, err := settings.Open(cfg); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}

func TestUnreadableFileIsAProblem(t *testing.T) {
	dir := t.TempDir() // a folder where the file should be
	s := open(t, "", settings.Config{Path: dir})
	if p := s.Snapshot().Problems; len(p) != 1 || !strings.Contains(p[0].Text, "not a regular file") {
		t.Errorf("got %v", p)
	}
	if err := s.Edit(func(e *settings.Edit) error { return e.Set("pac", "x") }); err == nil {
		t.Error("an edit of a folder succeeded")
	}
	big := filepath.Join(dir, "big.toml")
	write(t, big, "# "+strings.Repeat("x", 1<<20))
	if p := open(t, "", settings.Config{Path: big}).Snapshot().Problems; len(p) != 1 || !strings.Contains(p[0].Text, "larger than") {
		t.Errorf("got %v", p)
	}
}

func TestDefaultPath(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("AppData", dir)
	got, err := settings.DefaultPath()
	if err != nil || !strings.HasPrefix(got, dir) || !strings.HasSuffix(got, filepath.Join("kerbpass", "config.toml")) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCreate(t *testing.T) {
	s := open(t, "", settings.Config{})
	for range 2 {
		if err := s.Create(); err != nil {
			t.Fatal(err)
		}
		if text := read(t, s.Path()); text != "version = 1\n" {
			t.Errorf("got %q", text)
		}
	}
	const own = "# mine\nversion = 1\n"
	if err := os.WriteFile(s.Path(), []byte(own), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Create(); err != nil || read(t, s.Path()) != own {
		t.Errorf("got %v, %q; want the file left alone", err, read(t, s.Path()))
	}
}
