package sysproxy

import (
	"context"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// lookup is an environment for a test: "NAME", "value", …
func lookup(pairs ...string) func(string) (string, bool) {
	env := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		env[pairs[i]] = pairs[i+1]
	}
	return func(name string) (string, bool) { v, ok := env[name]; return v, ok }
}

var own = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:5372"), netip.MustParseAddrPort("[::1]:5372")}

func config(pairs ...string) Config { return Config{Own: own, LookupEnv: lookup(pairs...)}.filled() }

// check compares all but the Problem, of which problem must be a part; ""
// wants none.
func check(t *testing.T, got []Setting, problem string, want ...Setting) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
	for i := range got {
		g, w := got[i], want[i]
		if i == 0 {
			if (g.Problem == "") != (problem == "") || !strings.Contains(g.Problem, problem) {
				t.Errorf("problem: got %q, want %q", g.Problem, problem)
			}
			g.Problem = w.Problem
		}
		if len(g.NoProxy) == 0 {
			g.NoProxy = nil
		}
		if !reflect.DeepEqual(g, w) {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
	for _, g := range got {
		if strings.Contains(strings.Join(g.Upstreams, " ")+g.PAC+g.Problem, "secret") {
			t.Errorf("a password is in %+v", g)
		}
	}
}

func TestProxyURL(t *testing.T) {
	for _, tt := range []struct {
		raw, want string
		stripped  bool
		err       string
	}{
		{"http://proxy.corp.example:8080", "http://proxy.corp.example:8080", false, ""},
		{"proxy.corp.example:8080", "http://proxy.corp.example:8080", false, ""},
		{" proxy.corp.example ", "http://proxy.corp.example:80", false, ""},
		{"HTTPS://Proxy.Corp.Example", "https://proxy.corp.example:443", false, ""},
		{"http://proxy:8080/", "http://proxy:8080", false, ""},
		{"http://proxy:8080/path?q#f", "http://proxy:8080", false, ""},
		{"http://proxy:08080", "http://proxy:8080", false, ""},
		{"[2001:DB8::1]:3128", "http://[2001:db8::1]:3128", false, ""},
		{"[::1]", "http://[::1]:80", false, ""},
		{"bücher.example:1", "http://bücher.example:1", false, ""},
		{"http://alice:secret@proxy:8080", "http://proxy:8080", true, ""},
		{"alice:secret@proxy", "http://proxy:80", true, ""},
		{"http://alice:sec@ret@proxy:8080", "http://proxy:8080", true, ""},
		{"http://alice:sec/secret@proxy:8080", "", true, "not the address"},
		{"http://alice:80/secret@proxy:8080", "", true, "not the address"},
		{"http://alice:sec#secret@proxy:8080", "", true, "not the address"},
		{`http://alice\secret@proxy:8080`, "", true, "not the address"},
		{"socks5://proxy:1080", "", false, "SOCKS"},
		{"socks://proxy", "", false, "SOCKS"},
		{"ftp://proxy:21", "", false, "scheme"},
		{"http://", "", false, "not the address"},
		{"http://:8080", "", false, "not the address"},
		{"http://proxy:", "", false, "not the address"},
		{"http://proxy:0", "", false, "port"},
		{"http://proxy:65536", "", false, "port"},
		{"http://proxy:http", "", false, "not the address"},
		{"http://pro xy:80", "", false, "not the address"},
		{"http://proxy\n:80", "", false, "not the address"},
		{"http://[fe80::1%25eth0]:80", "", false, "not the address"},
		{"http://pro%78y:80", "", false, "not the address"},
		{"2001:db8::1", "", false, "not the address"},
	} {
		got, stripped, err := proxyURL(tt.raw)
		if got != tt.want || stripped != tt.stripped || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: got %q, %v, %v", tt.raw, got, stripped, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: a password is in %v", tt.raw, err)
		}
	}
}

func TestPACURL(t *testing.T) {
	for _, tt := range []struct {
		raw, want string
		stripped  bool
		bad       bool
	}{
		{" http://wpad.corp.example/wpad.dat ", "http://wpad.corp.example/wpad.dat", false, false},
		{"HTTPS://w/x?y=1", "https://w/x?y=1", false, false},
		{"/etc/a b.pac", "file:///etc/a%20b.pac", false, false},
		{"file:///C:/proxy.pac", "file:///C:/proxy.pac", false, false},
		{"http://alice:secret@w/x", "http://w/x", true, false},
		{"http://alice:80/secret@w/x", "", false, true},
		{"ftp://w/x", "", false, true},
		{"http:///x", "", false, true},
		{"data:application/x-ns-proxy-autoconfig,secret", "", false, true},
		{"function FindProxyForURL", "", false, true},
		{"http://w/\x00", "", false, true},
	} {
		got, stripped, err := pacURL(tt.raw)
		if got != tt.want || stripped != tt.stripped || (err != nil) != tt.bad {
			t.Errorf("%q: got %q, %v, %v", tt.raw, got, stripped, err)
		}
	}
}

func TestOwn(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Own: own}
	for raw, want := range map[string]bool{
		"127.0.0.1:5372": true, "localhost:5372": true, "LOCALHOST.:5372": true, "a.localhost:5372": true, "[::1]:5372": true, "[::ffff:127.0.0.1]:5372": true,
		"0.0.0.0:5372": true, "[::]:5372": true, host + ":5372": true, "https://localhost:5372": true,
		"127.0.0.1:5373": false, "127.0.0.2:5372": false, "proxy:5372": false, "notlocalhost:5372": false, "localhost": false, "10.0.0.1:5372": false,
	} {
		u, _, err := proxyURL(raw)
		if err != nil || c.isOwn(u) != want {
			t.Errorf("%s: want %v; %v", raw, want, err)
		}
	}
	open := Config{Own: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:5372")}}
	if !open.isOwn("http://127.0.0.9:5372") || open.isOwn("http://192.0.2.1:5372") {
		t.Error("a listener on all addresses is those of this machine")
	}
}

func TestEnvironment(t *testing.T) {
	set := func(name, up string) Setting {
		return Setting{Source: SourceEnvironment, Name: name, Upstreams: []string{up}}
	}
	none := func(name string) Setting { return Setting{Source: SourceEnvironment, Name: name} }
	check(t, environment(config()), "")
	check(t, environment(config("HTTPS_PROXY", " ", "https_proxy", "p:1", "HTTP_PROXY", "q:2")), "", set("https_proxy", "http://p:1"))
	check(t, environment(config("http_proxy", "https://p")), "", set("http_proxy", "https://p:443"))
	with := set("HTTPS_PROXY", "http://p:1")
	with.NoProxy = []string{"a", ".b"}
	check(t, environment(config("HTTPS_PROXY", "p:1", "NO_PROXY", "", "no_proxy", "a, .b")), "", with)
	check(t, environment(config("HTTPS_PROXY", "http://u:secret@p:1", "HTTP_PROXY", "q:2")), "not used", none("HTTPS_PROXY"))
	check(t, environment(config("HTTPS_PROXY", "localhost:5372")), "this program itself", none("HTTPS_PROXY"))
	check(t, environment(config("HTTP_PROXY", "socks5://p")), "SOCKS", none("HTTP_PROXY"))
	check(t, environment(config("all_proxy", "http://u:secret@p:1")), "set HTTPS_PROXY", none("all_proxy"))
}

func TestChoose(t *testing.T) {
	up := Setting{Name: "up", Upstreams: []string{"http://a:1", "http://b:2"}}
	off, pac, wpad, bad := Setting{Name: "off", Off: true}, Setting{Name: "pac", PAC: "http://w/p"}, Setting{Name: "wpad", AutoDetect: true}, Setting{Name: "bad", Problem: "x"}
	for _, tt := range []struct {
		name string
		all  []Setting
		ups  int
		from string
	}{
		{"nothing", nil, 0, ""},
		{"what cannot be used is passed over", []Setting{bad, wpad, up, off}, 2, "up"},
		{"off ends the search", []Setting{bad, off, up}, 0, "off"},
		{"a script ends it", []Setting{wpad, pac, up}, 0, "pac"},
		{"nothing decides", []Setting{wpad, bad}, 0, ""},
	} {
		if ups, from, ok := Choose(tt.all); len(ups) != tt.ups || from.Name != tt.from || ok != (tt.from != "") {
			t.Errorf("%s: got %q, %+v, %v", tt.name, ups, from, ok)
		}
	}
}

// gnomeOut is what gsettings of GLib 2.74 prints, with values replaced.
func gnomeOut(pairs ...string) []byte {
	values := map[string]string{
		" autoconfig-url": "''", " ignore-hosts": "['localhost', '127.0.0.0/8', '::1']", " mode": "'none'", " use-same-proxy": "true",
		".ftp host": "''", ".ftp port": "0", ".http authentication-password": `'secret'`, ".http authentication-user": "''", ".http enabled": "false", ".http host": "''",
		".http port": "8080", ".http use-authentication": "false", ".https host": "''", ".https port": "0", ".socks host": "''", ".socks port": "0",
	}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	var b strings.Builder
	for k, v := range values {
		b.WriteString(gnomeSchema + k + " " + v + "\n")
	}
	return []byte(b.String())
}

func TestGNOME(t *testing.T) {
	hosts := []string{"localhost", "127.0.0.0/8", "::1"}
	for _, tt := range []struct {
		name    string
		out     []byte
		using   bool
		problem string
		want    Setting
	}{
		{"none on GNOME", gnomeOut(), true, "", Setting{Off: true}},
		{"none elsewhere", gnomeOut(), false, "", Setting{}},
		{"manual, https first", gnomeOut(" mode", "'manual'", ".http host", "'p'", ".https host", "'s'", ".https port", "3129"), false, "http://p:8080, for http only",
			Setting{Upstreams: []string{"http://s:3129"}, NoProxy: hosts}},
		{"manual, http only", gnomeOut(" mode", "'manual'", ".http host", "'p'", " ignore-hosts", `["it's", 'a\'b', "\u00fc,"]`), false, "",
			Setting{Upstreams: []string{"http://p:8080"}, NoProxy: []string{"it's", "a'b", "ü,"}}},
		{"manual, same for both", gnomeOut(" mode", "'manual'", ".http host", "'p'", ".https host", "'P'", ".https port", "8080", " ignore-hosts", "@as []"), false, "",
			Setting{Upstreams: []string{"http://p:8080"}}},
		{"manual, IPv6", gnomeOut(" mode", "'manual'", ".http host", "'2001:db8::1'"), true, "", Setting{Upstreams: []string{"http://[2001:db8::1]:8080"}, NoProxy: hosts}},
		{"manual, with a scheme", gnomeOut(" mode", "'manual'", ".http host", "'https://p/'"), true, "", Setting{Upstreams: []string{"https://p:8080"}, NoProxy: hosts}},
		{"manual, sign-in", gnomeOut(" mode", "'manual'", ".http host", "'p'", ".http use-authentication", "true"), true, "left out", Setting{Upstreams: []string{"http://p:8080"}, NoProxy: hosts}},
		{"manual, port 0 is off", gnomeOut(" mode", "'manual'", ".http host", "'p'", ".http port", "0"), true, "no proxy is set", Setting{NoProxy: hosts}},
		{"manual, SOCKS", gnomeOut(" mode", "'manual'", ".socks host", "'p'", ".socks port", "1080"), true, "SOCKS", Setting{NoProxy: hosts}},
		{"manual, SOCKS beside HTTP", gnomeOut(" mode", "'manual'", ".http host", "'p'", ".socks host", "'p'", ".socks port", "1080"), true, "", Setting{Upstreams: []string{"http://p:8080"}, NoProxy: hosts}},
		{"manual, ourselves", gnomeOut(" mode", "'manual'", ".http host", "'127.0.0.1'", ".http port", "5372"), true, "this program itself", Setting{NoProxy: hosts}},
		{"manual, ourselves for https only", gnomeOut(" mode", "'manual'", ".http host", "'p'", ".https host", "'localhost'", ".https port", "5372"), true, "this program itself",
			Setting{Upstreams: []string{"http://p:8080"}, NoProxy: hosts}},
		{"auto", gnomeOut(" mode", "'auto'", " autoconfig-url", "'http://u:secret@w/p.pac'"), true, "left out", Setting{PAC: "http://w/p.pac"}},
		{"auto, searched", gnomeOut(" mode", "'auto'"), true, "", Setting{AutoDetect: true}},
		{"unknown mode", gnomeOut(" mode", "'other'"), true, "not known", Setting{}},
		{"nothing readable", []byte("rubbish\n"), true, "not known", Setting{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Source, tt.want.Name = SourceGNOME, gnomeSchema
			var want []Setting
			if tt.want.Off || tt.problem != "" || len(tt.want.Upstreams) > 0 || tt.want.PAC != "" || tt.want.AutoDetect {
				want = append(want, tt.want)
			}
			check(t, gnomeSetting(config().finding(SourceGNOME, gnomeSchema), parseGsettings(tt.out), tt.using), tt.problem, want...)
		})
	}
	for key := range parseGsettings(gnomeOut()) {
		if strings.Contains(key, "authentication-") {
			t.Errorf("%s was kept", key)
		}
	}
}

func TestVariantString(t *testing.T) {
	for raw, want := range map[string]string{`'a'`: "a", `"it's"`: "it's", `'a\\b\'c\n'`: "a\\b'c\n", `'\u00fc\U0001f600'`: "ü😀", `'ü'`: "ü"} {
		if got, rest, ok := variantString(raw + " x"); !ok || got != want || rest != " x" {
			t.Errorf("%s: got %q, %q, %v", raw, got, rest, ok)
		}
	}
	for _, raw := range []string{"", "a", "'", "'a", `'a\`, `'a\'`, `'\u12'`, `'\uzzzz'`, `'\Uffffffff'`} {
		if _, rest, ok := variantString(raw); ok || rest != raw {
			t.Errorf("%q was read", raw)
		}
	}
}

func TestKDE(t *testing.T) {
	const head = "[Other]\nProxyType=9\n[Proxy Settings]\n"
	env := []string{"HTTP_PROXY", "http://u:secret@env:3128", "EXCEPT", "a,b", "CORP", "corp"}
	for _, tt := range []struct {
		name    string
		files   []string // the weakest first
		using   bool
		problem string
		want    Setting
	}{
		{"no file on KDE", nil, true, "", Setting{Off: true}},
		{"no file elsewhere", nil, false, "", Setting{}},
		{"off elsewhere", []string{head + "ProxyType=0\nhttpProxy=http://p 8080\n"}, false, "", Setting{}},
		{"as KDE writes it", []string{head + "ProxyType=1\r\nhttpProxy=http://p 8080\nhttpsProxy=http://s 3129\nNoProxyFor=localhost,.corp\nNoProxyFor[de]=x\n"}, false, "http://p:8080",
			Setting{Upstreams: []string{"http://s:3129"}, NoProxy: []string{"localhost", ".corp"}}},
		{"other forms", []string{head + "ProxyType = 1\n httpProxy= http://u:secret@p:8080/ \n"}, false, "left out", Setting{Upstreams: []string{"http://p:8080"}}},
		{"IPv6", []string{head + "ProxyType=1\nhttpProxy=http://2001:db8::1 8080\n"}, false, "", Setting{Upstreams: []string{"http://[2001:db8::1]:8080"}}},
		{"SOCKS only", []string{head + "ProxyType=1\nsocksProxy=socks://p 1080\n"}, false, "SOCKS", Setting{}},
		{"switched on but empty", []string{head + "ProxyType=1\n"}, true, "none is set", Setting{}},
		{"bad port", []string{head + "ProxyType=1\nhttpProxy=http://p 0\n"}, true, "port", Setting{}},
		{"reversed", []string{head + "ProxyType=1\nhttpProxy=http://p 8080\nReversedException=true\n"}, true, "some hosts only", Setting{}},
		{"script", []string{head + "ProxyType=2\nProxy Config Script=http://w/p.pac\n"}, true, "", Setting{PAC: "http://w/p.pac"}},
		{"no script", []string{head + "ProxyType=2\n"}, true, "none is named", Setting{}},
		{"searched", []string{head + "ProxyType=3\n"}, true, "", Setting{AutoDetect: true}},
		{"environment", []string{head + "ProxyType=4\nhttpsProxy=NOT_SET\nhttpProxy=NO,HTTP_PROXY\nNoProxyFor=EXCEPT\n"}, true, "left out", Setting{Upstreams: []string{"http://env:3128"}, NoProxy: []string{"a", "b"}}},
		{"unknown type", []string{head + "ProxyType=7\n"}, true, "not known", Setting{}},
		{"the user's file wins", []string{head + "ProxyType=1\nhttpProxy=http://a 1\n", head + "httpProxy=http://b 2\n"}, true, "", Setting{Upstreams: []string{"http://b:2"}}},
		{"unless the key is fixed", []string{head + "ProxyType=1\nhttpProxy[$i]=http://a 1\n", head + "httpProxy=http://b 2\n"}, true, "", Setting{Upstreams: []string{"http://a:1"}}},
		{"or the group", []string{"[Proxy Settings][$i]\nProxyType=1\nhttpProxy=http://a 1\n", head + "httpProxy=http://b 2\n"}, true, "", Setting{Upstreams: []string{"http://a:1"}}},
		{"or the file", []string{"[$i]\n" + head + "ProxyType=1\nhttpProxy=http://a 1\n", head + "ProxyType=0\n"}, true, "", Setting{Upstreams: []string{"http://a:1"}}},
		{"deleted", []string{head + "ProxyType=1\nhttpProxy=http://a 1\nhttpsProxy=http://b 2\n", head + "httpsProxy[$d]\n"}, true, "", Setting{Upstreams: []string{"http://a:1"}}},
		{"nested group is another", []string{"[Proxy Settings][Sub]\nProxyType=1\nhttpProxy=http://a 1\n"}, true, "", Setting{Off: true}},
		{"expanded", []string{head + "ProxyType=1\nhttpProxy[$e]=http://${CORP}$CORP 1\n"}, true, "", Setting{Upstreams: []string{"http://corpcorp:1"}}},
		{"a command is not run", []string{head + "ProxyType=1\nhttpProxy[$e]=$(touch /tmp/x)\n"}, true, "not run", Setting{}},
		{"escapes", []string{head + `ProxyType=1` + "\n" + `httpProxy=http\x3a//p\s8080` + "\n"}, true, "", Setting{Upstreams: []string{"http://p:8080"}}},
		{"ourselves", []string{head + "ProxyType=1\nhttpProxy=http://localhost 5372\n"}, true, "this program itself", Setting{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := config(env...).finding(SourceKDE, kdeFile)
			var values kconfig
			for _, text := range tt.files {
				values.merge(text)
			}
			tt.want.Source, tt.want.Name = SourceKDE, kdeFile
			var want []Setting
			if tt.want.Off || tt.problem != "" || len(tt.want.Upstreams) > 0 || tt.want.PAC != "" || tt.want.AutoDetect {
				want = append(want, tt.want)
			}
			check(t, kdeSetting(f, &values, tt.using), tt.problem, want...)
		})
	}
}

const scutilFull = `<dictionary> {
  ExceptionsList : <array> {
    0 : *.local
    1 : 169.254/16
  }
  ExcludeSimpleHostnames : 1
  FTPPassive : 1
  HTTPEnable : 1
  HTTPPort : 8080
  HTTPProxy : proxy.corp.example
  HTTPSEnable : 1
  HTTPSPort : 8443
  HTTPSProxy : secure.corp.example
  HTTPUser : secret
  ProxyAutoConfigEnable : 1
  ProxyAutoConfigURLString : http://wpad.corp.example/proxy.pac
  ProxyAutoDiscoveryEnable : 1
  SOCKSEnable : 0
  SOCKSPort : 1080
  SOCKSProxy : socks.corp.example
  __SCOPED__ : <dictionary> {
    en0 : <dictionary> {
      ExceptionsList : <array> {
        0 : *.wrong
      }
      HTTPEnable : 1
      HTTPPort : 1
      HTTPProxy : wrong
    }
  }
}
`

func TestScutil(t *testing.T) {
	dict := func(lines ...string) string {
		return "<dictionary> {\n  " + strings.Join(lines, "\n  ") + "\n}\n"
	}
	for _, tt := range []struct {
		name, out, problem string
		want               Setting
	}{
		{"everything", scutilFull, "http://proxy.corp.example:8080", Setting{Upstreams: []string{"http://secure.corp.example:8443"}, PAC: "http://wpad.corp.example/proxy.pac", AutoDetect: true,
			NoProxy: []string{"*.local", "169.254/16", "<local>"}}},
		{"fresh machine", dict("ExceptionsList : <array> {", "  0 : *.local", "}", "FTPPassive : 1"), "", Setting{Off: true, NoProxy: []string{"*.local"}}},
		{"empty", "<dictionary> {\n}\n", "", Setting{Off: true}},
		{"switched off", dict("HTTPEnable : 0", "HTTPPort : 8080", "HTTPProxy : p"), "", Setting{Off: true}},
		{"no port", dict("HTTPEnable : 1", "HTTPProxy : p"), "", Setting{Upstreams: []string{"http://p:80"}}},
		{"IPv6, no port", dict("HTTPEnable : 1", "HTTPProxy : 2001:db8::1"), "", Setting{Upstreams: []string{"http://[2001:db8::1]:80"}}},
		{"SOCKS only", dict("SOCKSEnable : 1", "SOCKSPort : 1080", "SOCKSProxy : p"), "SOCKS", Setting{}},
		{"ourselves", dict("HTTPEnable : 1", "HTTPPort : 5372", "HTTPProxy : localhost"), "this program itself", Setting{}},
		{"a script that looks like the end", dict("HTTPEnable : 1", "ProxyAutoConfigEnable : 1", "ProxyAutoConfigJavaScript : function f() {", "    HTTPPort : 1", "     a : <dictionary> {", "   }", " }", "HTTPPort : 8080", "HTTPProxy : p"),
			"in the settings themselves", Setting{Upstreams: []string{"http://p:8080"}}},
		{"nothing", "", "not understood", Setting{}},
		{"cut off", strings.TrimSuffix(scutilFull, "}\n"), "not understood", Setting{}},
		{"too deep", "<dictionary> {\n" + func() (s string) {
			for i := range 100 {
				s += strings.Repeat("  ", i+1) + "a : <dictionary> {\n"
			}
			return s
		}(), "not understood", Setting{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Source, tt.want.Name = SourceMacOS, "scutil --proxy"
			check(t, scutilSetting(config().finding(SourceMacOS, "scutil --proxy"), tt.out), tt.problem, tt.want)
		})
	}
}

func TestWindowsSettings(t *testing.T) {
	for _, tt := range []struct {
		name    string
		in      internetSettings
		problem string
		want    Setting
	}{
		{"plain", internetSettings{proxy: "p:8080", bypass: "*.corp; <local>"}, "", Setting{Upstreams: []string{"http://p:8080"}, NoProxy: []string{"*.corp", "<local>"}}},
		{"with a scheme", internetSettings{proxy: "https://p:8443"}, "", Setting{Upstreams: []string{"https://p:8443"}}},
		{"a list", internetSettings{proxy: "p:1;q:2 r"}, "", Setting{Upstreams: []string{"http://p:1", "http://q:2", "http://r:80"}}},
		{"by protocol", internetSettings{proxy: "http=p:1;HTTPS=https://s:2;ftp=f:3;socks=k:4"}, "http://p:1", Setting{Upstreams: []string{"https://s:2"}}},
		{"http only", internetSettings{proxy: "http=p:1;ftp=f:3"}, "", Setting{Upstreams: []string{"http://p:1"}}},
		{"https, and one for the rest", internetSettings{proxy: "https=s:2;p:1"}, "", Setting{Upstreams: []string{"http://s:2", "http://p:1"}}},
		{"SOCKS only", internetSettings{proxy: "socks=k:4"}, "SOCKS", Setting{}},
		{"credentials", internetSettings{proxy: "http://u:secret@p:1"}, "left out", Setting{Upstreams: []string{"http://p:1"}}},
		{"ourselves", internetSettings{proxy: "127.0.0.1:5372", autoDetect: true}, "this program itself", Setting{AutoDetect: true}},
		{"ourselves by protocol", internetSettings{proxy: "http=localhost:5372;https=localhost:5372"}, "this program itself", Setting{}},
		{"script", internetSettings{pac: "http://w/p.pac", proxy: "p:1"}, "", Setting{PAC: "http://w/p.pac", Upstreams: []string{"http://p:1"}}},
		{"rubbish", internetSettings{proxy: "http=;=;https=:0"}, "not the address", Setting{}},
		{"nothing", internetSettings{bypass: "<local>"}, "", Setting{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.want.Source, tt.want.Name = SourceWindows, "k"
			want := []Setting{tt.want}
			if tt.name == "nothing" {
				want = nil
			}
			check(t, windowsSetting(config().finding(SourceWindows, "k"), tt.in), tt.problem, want...)
		})
	}
}

// blob makes the value DefaultConnectionSettings.
func blob(flags byte, texts ...string) []byte {
	b := []byte{0x46, 0, 0, 0, 1, 0, 0, 0, flags, 0, 0, 0}
	for _, s := range texts {
		b = append(append(b, byte(len(s)), 0, 0, 0), s...)
	}
	return append(b, make([]byte, 32)...)
}

func TestBlob(t *testing.T) {
	all := blob(1|2|4|8, "p:1", "<local>", "http://w/p")
	if got, ok := parseBlob(all); !ok || got != (internetSettings{true, "http://w/p", "p:1", "<local>"}) {
		t.Errorf("got %+v, %v", got, ok)
	}
	if got, ok := parseBlob(blob(1, "p:1", "<local>", "http://w/p")); !ok || !got.empty() {
		t.Errorf("switched off: got %+v, %v", got, ok)
	}
	for n := range len(all) - 32 {
		if _, ok := parseBlob(all[:n]); ok {
			t.Errorf("cut off at %d: read", n)
		}
	}
}

func TestNetworkManagerSetting(t *testing.T) {
	nm := Setting{Source: SourceNetworkManager, Name: "connection Office"}
	with := func(f func(*Setting)) Setting { s := nm; f(&s); return s }
	script := with(func(s *Setting) { s.PAC = "http://w/p.pac" })
	check(t, nmSetting(config(), nmFacts{name: "Office"}), "")
	check(t, nmSetting(config(), nmFacts{name: "Office", absent: true}), "")
	check(t, nmSetting(config(), nmFacts{name: "Office", auto: true, url: "http://w/p.pac", offered: "http://x"}), "", script)
	check(t, nmSetting(config(), nmFacts{name: "Office", auto: true, offered: "http://w/p.pac\n\x00"}), "", script)
	check(t, nmSetting(config(), nmFacts{name: "Office", auto: true, offered: "http://w/p.pac", browserOnly: true}), "browsers only", script)
	check(t, nmSetting(config(), nmFacts{name: "Office", auto: true}), "", with(func(s *Setting) { s.AutoDetect = true }))
	check(t, nmSetting(config(), nmFacts{name: "Office", auto: true, script: "function…"}), "connection itself", nm)
	check(t, nmSetting(config(), nmFacts{name: "Office", offered: "http://u:secret@w/p.pac"}), "http://w/p.pac, which this connection does not use", nm)
	check(t, nmSetting(config(), nmFacts{name: "Office", denied: true}), "may not be read", nm)
}

// A source that hangs costs no more than the time given, and says so.
func TestReadIsBounded(t *testing.T) {
	testenv.NoLeaks(t)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	got := ask(ctx, config(), []source{
		{SourceKDE, func(context.Context, Config) []Setting { <-release; return nil }},
		{SourceGNOME, func(context.Context, Config) []Setting { return []Setting{{Source: SourceGNOME, Off: true}} }},
	})
	if len(got) != 2 || got[0].Source != SourceKDE || !strings.Contains(got[0].Problem, "in time") || !got[1].Off {
		t.Errorf("got %+v", got)
	}
}
