package sysproxy

import (
	"net/url"
	"strings"
	"testing"
)

// sound is what every Setting must be, whatever was read.
func sound(t *testing.T, all []Setting) {
	t.Helper()
	for _, s := range all {
		for _, u := range s.Upstreams {
			again, stripped, err := proxyURL(u)
			parsed, e := url.Parse(u)
			if err != nil || e != nil || again != u || stripped || strings.Contains(u, "@") || parsed.Port() == "" || parsed.Hostname() == "" {
				t.Errorf("upstream %q of %+v: %q, %v, %v", u, s, again, err, e)
			}
		}
		if s.PAC != "" {
			if u, err := url.Parse(s.PAC); err != nil || u.User != nil {
				t.Errorf("script %q: %v", s.PAC, err)
			}
		}
		if s.Off && (len(s.Upstreams) > 0 || s.PAC != "") {
			t.Errorf("off, and yet %+v", s)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"http://p:8080", "https://u:p@[::1]:1/x", "p", "socks5://x", "http://a:b/c@d", "http://%41", "http://[fe80::1%25e]:80", "http://a\\@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := config().finding(SourceKDE, "x")
		c.serve([]string{s, joined(s, "1")}, []string{s})
		c.script(s)
		sound(t, c.done())
	})
}

func FuzzGsettings(f *testing.F) {
	f.Add(string(gnomeOut(" mode", "'manual'", ".http host", `'p\u00fc'`)))
	f.Add(string(gnomeOut(" mode", "'auto'", " autoconfig-url", "'http://u:p@w'", " ignore-hosts", "@as []")))
	f.Fuzz(func(t *testing.T, s string) {
		sound(t, gnomeSetting(config().finding(SourceGNOME, "x"), parseGsettings([]byte(s)), true))
	})
}

func FuzzKDE(f *testing.F) {
	f.Add("[$i]\n[Proxy Settings][$i]\nProxyType=1\nhttpProxy[$e]=http://$A ${B} 8080\nhttpsProxy=a\\x41\\s1\n", "[Proxy Settings]\nProxyType[$d]\n")
	f.Add("[Proxy Settings]\nProxyType=4\nhttpProxy=A,B\nNoProxyFor[de]=x\n", "")
	f.Fuzz(func(t *testing.T, a, b string) {
		var values kconfig
		values.merge(a)
		values.merge(b)
		sound(t, kdeSetting(config("A", "http://u:p@x:1").finding(SourceKDE, "x"), &values, true))
	})
}

func FuzzScutil(f *testing.F) {
	f.Add(scutilFull)
	f.Add("<dictionary> {\n}\n}\n")
	f.Fuzz(func(t *testing.T, s string) { sound(t, scutilSetting(config().finding(SourceMacOS, "x"), s)) })
}

func FuzzWindows(f *testing.F) {
	f.Add("http=p:1;https=https://u:p@s:2;socks=k", "<local>;*.x", []byte{})
	f.Add("p:1 q:2", "", blob(15, "p", "b", "http://w"))
	f.Fuzz(func(t *testing.T, proxy, bypass string, b []byte) {
		sound(t, windowsSetting(config().finding(SourceWindows, "x"), internetSettings{proxy: proxy, bypass: bypass, pac: bypass}))
		if i, ok := parseBlob(b); ok {
			sound(t, windowsSetting(config().finding(SourceWindows, "x"), i))
		}
	})
}
