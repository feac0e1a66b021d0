package route_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/net/idna"

	"kerbpass/internal/route"
)

func TestParseHost(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	name253 := strings.Repeat(label63+".", 3) + strings.Repeat("b", 61)
	tests := []struct{ in, want string }{ // want "" is an error
		{"github.com", "github.com"},
		{"GitHub.COM", "github.com"},
		{"github.com.", "github.com"},
		{"a.b.c.", "a.b.c"},
		{"intranet", "intranet"},
		{"intranet.", "intranet."},
		{"my_host.corp", "my_host.corp"},
		{"_sip._tcp.corp", "_sip._tcp.corp"},
		{"-odd-.corp", "-odd-.corp"},
		{"1.example", "1.example"},
		{"4chan", "4chan"},
		{"0xg.example", "0xg.example"},
		{"a.0xyz", "a.0xyz"},
		{label63 + ".de", label63 + ".de"},
		{name253, name253},
		{name253 + ".", name253},

		{"127.0.0.1", "127.0.0.1"},
		{"::1", "::1"},
		{"2001:DB8::1", "2001:db8::1"},
		{"2001:db8:0:0:0:0:0:1", "2001:db8::1"},
		{"::ffff:127.0.0.1", "::ffff:127.0.0.1"},
		{"::ffff:7f00:1", "::ffff:127.0.0.1"},

		{"bücher.example", "xn--bcher-kva.example"},
		{"BÜCHER.example", "xn--bcher-kva.example"},
		{"bücher.example.", "xn--bcher-kva.example"},
		{"bücher。example", "xn--bcher-kva.example"},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example"},
		{"xn--.example", "xn--.example"}, // not Punycode, yet a name
		{"xn--a-ecp.ru", "xn--a-ecp.ru"},
		{"straße.de", "xn--strae-oqa.de"},
		{"ｇithub.com", "github.com"},

		{"", ""},
		{".", ""},
		{"..", ""},
		{".github.com", ""},
		{"github..com", ""},
		{"github.com..", ""},
		{"intranet..", ""},
		{"a" + label63 + ".de", ""},
		{"de.a" + label63, ""},
		{name253 + "b", ""},
		{strings.Repeat("ü.", 600) + "de", ""},
		{strings.Repeat("ü", 63), ""},

		{"127.1", ""},
		{"2130706433", ""},
		{"0x7f000001", ""},
		{"0X7F.1", ""},
		{"example.0x", ""},
		{"example.0xAB", ""},
		{"127.0.0.1.", ""},
		{"127.0.0.01", ""},
		{"127.0.0.256", ""},
		{"1.2.3.4.5", ""},
		{"example.1", ""},
		{"example.1.", ""},
		{"１２７.0.0.1", ""},
		{"127。0。0。1", ""},

		{"fe80::1%eth0", ""},
		{"[::1]", ""},
		{"::1::", ""},
		{"github.com:443", ""},
		{"bücher.example:443", ""},

		{"git hub.com", ""},
		{" github.com", ""},
		{"git\thub.com", ""},
		{"git\nhub.com", ""},
		{"github.com\x00", ""},
		{"github.com\x7f", ""},
		{"github%2ecom", ""},
		{"user@github.com", ""},
		{"github.com/", ""},
		{`evil.org\@github.com`, ""},
		{"*.github.com", ""},
		{"*", ""},
		{"＊.bücher.example", ""},
		{"my_bücher.example", ""},
		{"a;b", ""},
		{"\"github.com\"", ""},
		{"bü\xff.example", ""},
		{"github.com\xff", ""},
		{"git\u200bhub.com", ""},
		{"git\u00adhub.com", ""},
		{"\ufeffgithub.com", ""},
		{"git\u00a0hub.com", ""},
		{"git\u0085hub.com", ""},
		{"℀.com", ""}, // maps to "a/c"
	}
	for _, tt := range tests {
		h, err := route.ParseHost(tt.in)
		if got := h.String(); got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("ParseHost(%q): got %q, %v; want %q", tt.in, got, err, tt.want)
		}
		var he *route.HostError
		if err != nil && (!errors.As(err, &he) || he.Host != tt.in || he.Reason == "" || h != (route.Host{})) {
			t.Errorf("ParseHost(%q): got %#v and %#v, want a HostError with a reason and the zero Host", tt.in, h, err)
		}
		if err == nil {
			if again := mustHost(t, h.String()); again != h {
				t.Errorf("ParseHost(%q): %q is not canonical", tt.in, h)
			}
		}
	}
}

// A character that the conversion drops makes two names out of one that looks
// like a third. Whatever the Unicode tables of the day drop must be refused.
func TestParseHostRefusesWhatVanishes(t *testing.T) {
	vanished := 0
	for r := rune(0x80); r <= unicode.MaxRune; r++ {
		name := "git" + string(r) + "hub.com"
		if ascii, err := idna.Lookup.ToASCII(name); err != nil || ascii != "github.com" {
			continue
		}
		vanished++
		if h, err := route.ParseHost(name); err == nil {
			t.Errorf("ParseHost with U+%04X inside: got %q, want an error", r, h)
		}
	}
	if vanished < 100 {
		t.Errorf("%d characters vanish, want the hundreds that Unicode has", vanished)
	}
}

func TestHostErrorIsOneASCIILine(t *testing.T) {
	_, err := route.ParseHost("a\n\u202eb" + strings.Repeat("x", 500))
	text := err.Error()
	if len(text) > 300 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == '\u202e' }) {
		t.Errorf("got %q, want a short line without the control characters", text)
	}
}

func TestHostIsLoopback(t *testing.T) {
	tests := map[string]bool{
		"localhost": true, "LOCALHOST": true, "localhost.": true, "a.localhost": true, "a.b.localhost.": true,
		"127.0.0.1": true, "127.255.255.254": true, "::1": true, "0:0:0:0:0:0:0:1": true, "::ffff:127.0.0.1": true, "::ffff:7f01:203": true,
		"notlocalhost": false, "localhost.example": false, "127.0.0.1.example": false, "localhost4": false,
		"128.0.0.1": false, "0.0.0.0": false, "::": false, "::2": false, "::ffff:128.0.0.1": false, "10.127.0.1": false,
	}
	for in, want := range tests {
		if got := mustHost(t, in).IsLoopback(); got != want {
			t.Errorf("%s: got %v, want %v", in, got, want)
		}
	}
	if (route.Host{}).IsLoopback() {
		t.Error("the zero Host: got true, want false")
	}
}

func TestHostAddr(t *testing.T) {
	if a, ok := mustHost(t, "2001:DB8::1").Addr(); !ok || a.String() != "2001:db8::1" {
		t.Errorf("got %v, %v; want 2001:db8::1, true", a, ok)
	}
	if a, ok := mustHost(t, "github.com").Addr(); ok {
		t.Errorf("got %v, true; want false for a name", a)
	}
	if mustHost(t, "::ffff:127.0.0.1") == mustHost(t, "127.0.0.1") {
		t.Error("an IPv4-mapped address equals its IPv4 twin")
	}
}
