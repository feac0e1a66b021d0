package krb5

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, list string) conf {
	t.Helper()
	root, _, _, err := loadProfile(list)
	if err != nil {
		t.Fatal(err)
	}
	return conf{root}
}

// Everything in here stops or misleads the library's reader.
const awkward = `# a comment
includedir %s
[libdefaults]
    default_realm = CORP.EXAMPLE
    dns_canonicalize_hostname = fallback
    permitted_enctypes = aes256-cts-hmac-sha1-96 no-such-type
    dns_lookup_kdc = no
[realms]
    CORP.EXAMPLE = {
        auth_to_local_names = {
            alice = a
        }
        kdc = kdc1.corp.example
        kdc = kdc2.corp.example:1088*
        kdc = tcp/10.0.0.1
        kdc = [::1]:88
        kdc = ::1
        kdc = https://kkdcp.corp.example/KdcProxy
        v4_realm = CORP
    }
    OTHER = 
    {
        kdc = other
    }
[domain_realm]
    .corp.example = CORP.EXAMPLE
    host.corp.example = OTHER
    example = TOP
[plugins]
    x = { y
`

func TestProfile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "10_extra"), "[realms]\nEXTRA = {\n kdc = extra\n}\n")
	write(t, filepath.Join(dir, "20.conf"), "[libdefaults]\ndefault_ccache_name = \"FILE:/tmp/krb5cc_%{uid}\"\n")
	write(t, filepath.Join(dir, "backup~"), "nonsense")
	path := write(t, filepath.Join(t.TempDir(), "krb5.conf"), fmt.Sprintf(awkward, dir))
	c := load(t, path)
	for realm, want := range map[string][]string{
		"CORP.EXAMPLE": {"kdc1.corp.example:88", "kdc2.corp.example:1088", "10.0.0.1:88", "[::1]:88", "[::1]:88"},
		"OTHER":        {"other:88"},
		"EXTRA":        {"extra:88"},
		"NONE":         nil,
	} {
		if got := c.kdcs(realm); !slices.Equal(got, want) {
			t.Errorf("KDCs of %s: got %q, want %q", realm, got, want)
		}
	}
	for host, want := range map[string]string{
		"a.corp.example": "CORP.EXAMPLE", "host.corp.example": "OTHER", "HOST.corp.example.": "OTHER", "b.example": "TOP", "localhost": "",
	} {
		if got := c.realmOf(host); got != want {
			t.Errorf("realm of %s: got %q, want %q", host, got, want)
		}
	}
	if got := c.etypes("default_tgs_enctypes"); !slices.Equal(got, []int32{18}) {
		t.Errorf("encryption types %v, want 18 only", got)
	}
	if c.dnsKDC() {
		t.Error("dns_lookup_kdc = no was not heard")
	}
	if name, err := c.cacheName(); err != nil || name != "FILE:/tmp/krb5cc_"+userID() {
		t.Errorf("cache name %q, %v", name, err)
	}
}

func TestProfileErrors(t *testing.T) {
	dir := t.TempDir()
	loop := filepath.Join(dir, "loop")
	write(t, loop, "include "+loop+"\n")
	for name, tt := range map[string]struct{ text, want string }{
		"no section": {"a = b\n", "line 1"},
		"no equals":  {"[s]\n\nword\n", "line 3"},
		"open block": {"[s]\na = {\n", "} is missing"},
		"stray }":    {"[s]\n}\n", "line 2"},
		"section in": {"[s]\na = {\n[t]\n", "line 3"},
		"bracket":    {"[s\n", "line 1"},
		"loop":       {"include " + loop + "\n", "too many includes"},
		"deep":       {"[s]\n" + strings.Repeat("a = {\n", 99), "too deep"},
		// As with MIT: a missing include is an error, a missing krb5.conf is not.
		"no include": {"include " + dir + "/none\n", "line 1"},
	} {
		_, _, _, err := loadProfile(write(t, filepath.Join(dir, "conf"), tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	big := write(t, filepath.Join(dir, "big"), strings.Repeat("# x\n", maxConfSize/4+1))
	if _, _, _, err := loadProfile(big); err == nil {
		t.Error("a file above the limit was read")
	}
	if _, files, _, err := loadProfile(filepath.Join(dir, "none")); err != nil || len(files) != 1 {
		t.Errorf("a missing krb5.conf: %v, %v", files, err)
	}
}

func TestExpand(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"FILE:/run/user/%{uid}/cc", "FILE:/run/user/" + userID() + "/cc"}, {"x%{null}y", "xy"}, {"", ""},
	} {
		if got, err := expand(tt.in); err != nil || got != tt.want {
			t.Errorf("%q: got %q, %v; want %q", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"%{uid", "%{username_of_other}"} {
		if got, err := expand(in); err == nil {
			t.Errorf("%q became %q", in, got)
		}
	}
}

func FuzzProfile(f *testing.F) {
	f.Add(strings.ReplaceAll(awkward, "includedir %s", ""))
	f.Add("[s]\na =\n{\n}\n}")
	f.Add("[]\n=\n")
	f.Fuzz(func(t *testing.T, text string) {
		if strings.Contains(text, "include") {
			return // it would read files of this machine
		}
		p := &profile{left: maxConfSize}
		if err := p.parse("fuzz", text, 0); err != nil {
			return
		}
		c := conf{&p.root}
		c.kdcs("CORP.EXAMPLE")
		c.realmOf("a.corp.example")
		c.etypes("default_tgs_enctypes")
		if _, err := c.cacheName(); err != nil && !strings.Contains(err.Error(), "default_ccache_name") {
			t.Error(err)
		}
	})
}
