package policy

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// text renders a policy, one value to a line.
func text(p Policy) string {
	var b strings.Builder
	for _, v := range p.Locked {
		fmt.Fprintf(&b, "locked %s = %T %v (%s)\n", v.Key, v.Raw, v.Raw, v.Name)
	}
	for _, v := range p.Preset {
		fmt.Fprintf(&b, "preset %s = %T %v (%s)\n", v.Key, v.Raw, v.Raw, v.Name)
	}
	for _, x := range p.Problems {
		fmt.Fprintf(&b, "broken=%v %s:%d:%d %s; %s\n", x.Broken, x.Name, x.Line, x.Column, x.Text, x.Hint)
	}
	return b.String()
}

func TestTOML(t *testing.T) {
	tests := []struct {
		name, in, want string
	}{
		{"nothing in it", "# nothing\n", ""},
		{"empty, as while it is written", "", "broken=true f:0:0 the file is empty"},
		{"both tables, each way to write a key", `
[locked]
upstream = ["http://p.example:8080"]
"kerberos.spn" = "HTTP/x"
kerberos.enabled = true
[locked.kerberos.more]
deep = 1
[preset]
ui = { language = "de" }
`, `locked kerberos.enabled = bool true (f)
locked kerberos.more.deep = int64 1 (f)
locked kerberos.spn = string HTTP/x (f)
locked upstream = []interface {} [http://p.example:8080] (f)
preset ui.language = string de (f)
`},
		{"byte order mark", "\ufeff[locked]\npac = \"\"\n", "locked pac = string  (f)\n"},
		{"another type", "[locked]\npac = 2020-01-01\nlisten = 1.5\n", "locked listen = <nil> <nil> (f)\nlocked pac = <nil> <nil> (f)\n"},
		{"no TOML", "[locked]\nä = \"x\"\npac = ?\n", "broken=true f:2:1"},
		{"cut off", "[locked]\npac = \"", "broken=true f:2:"},
		{"outside of a table", "kerberos.enabled = false\n", `broken=true f:0:0 "kerberos" stands outside`},
		{"a misspelt table", "[lock]\npac = \"\"\n", `broken=true f:0:0 "lock" stands outside`},
		{"locked is no table", "locked = 1\n", `broken=true f:0:0 "locked" stands outside`},
		{"an array of tables", "[[locked]]\npac = \"\"\n", `broken=true f:0:0 "locked" stands outside`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := parseTOML("f", tt.in)
			if strings.HasPrefix(tt.want, "broken") {
				if !strings.HasPrefix(text(got), tt.want) || !got.Broken() || len(got.Locked)+len(got.Preset) > 0 {
					t.Errorf("got %swant nothing but %s", text(got), tt.want)
				}
			} else if text(got) != tt.want {
				t.Errorf("got\n%swant\n%s", text(got), tt.want)
			}
		})
	}
}

const plistHead = `<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>`

func TestPlist(t *testing.T) {
	in := plistHead + `<key>kerberos.enabled</key><true/><key>upstream</key><array><string>http://p</string></array><key>n</key><integer>3</integer>
<key>PayloadUUID</key><string>x</string><key>pac</key><date>2020-01-01T00:00:00Z</date>
<key>Recommended</key><dict><key>ui.language</key><string>de</string></dict></dict></plist>`
	want := `locked kerberos.enabled = bool true (f)
locked n = int64 3 (f)
locked pac = <nil> <nil> (f)
locked upstream = []interface {} [http://p] (f)
preset ui.language = string de (f)
`
	if got := text(parsePlist("f", []byte(in))); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// What the system writes: {"kerberos.enabled": false}
	binary := "bplist00\xd1\x01\x02\x5f\x10\x10kerberos.enabled\x08\x08\x0b\x1e\x00\x00\x00\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x1f"
	if got := text(parsePlist("f", []byte(binary))); got != "locked kerberos.enabled = bool false (f)\n" {
		t.Errorf("binary: got %s", got)
	}
	for _, in := range []string{"", "bplist00", "nonsense", plistHead, plistHead + "<key>x</key>", "bplist00\xd1\x01\x02"} {
		if p := parsePlist("f", []byte(in)); !p.Broken() || len(p.Locked) > 0 {
			t.Errorf("%q: got %s, want a broken policy", in, text(p))
		}
	}
	p := parsePlist("f", []byte(plistHead+`<key>Recommended</key><true/></dict></plist>`))
	if len(p.Problems) != 1 || p.Broken() || len(p.Locked) > 0 {
		t.Errorf("presets that are no dictionary: got %s", text(p))
	}
}

func TestRegistry(t *testing.T) {
	k := key{
		values: map[string]any{"": "x", "Kerberos.Enabled": uint64(0), "kerberos.preemptive": uint64(1), "n": uint64(7), "pac": "auto", "no_proxy": []string{"a", "b"}},
		keys: map[string]key{
			"bypass.exact": {values: map[string]any{"10": "j", "2": "b", "1": "a", "": "x", "name": "z"}},
			"upstream":     {},
			"recommended":  {values: map[string]any{"ui.language": "de"}, keys: map[string]key{"access.allow_users": {values: map[string]any{"1": "root"}}}},
		},
	}
	want := `locked kerberos.enabled = bool false (HK)
locked kerberos.preemptive = bool true (HK)
locked n = int64 7 (HK)
locked no_proxy = []interface {} [a b] (HK)
locked pac = string auto (HK)
locked bypass.exact = []interface {} [a b j z] (HK\bypass.exact)
locked upstream = []interface {} [] (HK\upstream)
preset ui.language = string de (HK\recommended)
preset access.allow_users = []interface {} [root] (HK\recommended\access.allow_users)
`
	if got := text(ofRegistry("HK", k)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	bad := key{values: map[string]any{"pac": errors.New("the type 3 is not one of a policy")}, keys: map[string]key{"bypass.exact": {values: map[string]any{"1": uint64(1)}}}}
	p := ofRegistry("HK", bad)
	if len(p.Problems) != 2 || !p.Problems[0].Broken || !p.Problems[1].Broken || len(p.Locked) != 0 {
		t.Errorf("wrong types: got %s", text(p))
	}
	p = ofRegistry("HK", key{keys: map[string]key{"Recommended": bad}})
	if len(p.Problems) != 2 || p.Broken() {
		t.Errorf("wrong types of presets: got %s", text(p))
	}
}

func FuzzTOML(f *testing.F) {
	f.Add("[locked]\na.b = [1, \"x\"]\n[preset]\nx = true\n")
	f.Fuzz(func(t *testing.T, in string) {
		p := parseTOML("f", in)
		if p.Broken() && len(p.Locked)+len(p.Preset) > 0 {
			t.Errorf("broken, and yet %s", text(p))
		}
		for _, x := range p.Problems {
			if x.Text == "" || x.Hint == "" || x.Line < 0 || x.Column < 0 {
				t.Errorf("got %+v", x)
			}
		}
	})
}

func FuzzPlist(f *testing.F) {
	f.Add([]byte(plistHead + "<key>a</key><true/></dict></plist>"))
	f.Fuzz(func(t *testing.T, in []byte) {
		if p := parsePlist("f", in); p.Broken() && len(p.Locked)+len(p.Preset) > 0 {
			t.Errorf("broken, and yet %s", text(p))
		}
	})
}

// The payload of the profile for administrators, with every line of it in use,
// is what the system writes into the managed preferences.
func TestProfile(t *testing.T) {
	text, err := os.ReadFile("../../packaging/macos/kerbpass.mobileconfig")
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`<!-- (<key>.*) -->`).ReplaceAllString(string(text), "$1")
	_, rest, _ := strings.Cut(all, "<array>\n")
	payload, _, _ := strings.Cut(rest, "\t</array>\n</dict>")
	p := parsePlist("f", []byte(strings.TrimSuffix(plistHead, "<dict>")+payload+"</plist>"))
	if len(p.Problems) > 0 || len(p.Locked) < 20 || len(p.Preset) != len(p.Locked) {
		t.Errorf("got %d locked, %d preset values: %s", len(p.Locked), len(p.Preset), text)
	}
	for i, v := range p.Locked {
		if v.Raw == nil || p.Preset[i].Key != v.Key {
			t.Errorf("got %+v and %+v", v, p.Preset[i])
		}
	}
}
