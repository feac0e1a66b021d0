package window

import (
	"bufio"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParsePage(t *testing.T) {
	for _, tt := range []struct {
		address string
		ours    bool
	}{
		{"http://127.0.0.1:1234/x?t=1", true},
		{"http://[::1]:1234/", true},
		{"http://127.0.0.1/", false}, // no port: not a server of ours
		{"http://localhost:1234/", false},
		{"http://192.0.2.1:1234/", false},
		{"http://127.0.0.1.evil.example:1234/", false},
		{"http://127.0.0.1:1234@evil.example:80/", false},
		{"http://user@127.0.0.1:1234/", false},
		{"https://127.0.0.1:1234/", false},
		{"file:///etc/passwd", false},
		{"javascript:alert(1)", false},
		{"about:blank", false},
		{"", false},
	} {
		if _, err := parsePage(tt.address); (err == nil) != tt.ours {
			t.Errorf("%q: got %v, want ours %v", tt.address, err, tt.ours)
		}
	}
}

func TestSameOrigin(t *testing.T) {
	u, err := parsePage("http://127.0.0.1:1234/start?t=1")
	if err != nil {
		t.Fatal(err)
	}
	p := page{url: u}
	for address, want := range map[string]bool{
		"http://127.0.0.1:1234/other#a": true,
		"http://127.0.0.1:1235/":        false,
		"http://127.0.0.2:1234/":        false,
		"http://www.example.org/":       false,
		"data:text/html,x":              false,
	} {
		if got := p.sameOrigin(address); got != want {
			t.Errorf("%q: got %v, want %v", address, got, want)
		}
	}
}

func TestOrder(t *testing.T) {
	ways := []string{"a", "b", "c"}
	for preferred, want := range map[string]string{"": "a b c", "b": "b a c", "c": "c a b", "unknown": "a b c"} {
		if got := strings.Join(order(ways, preferred), " "); got != want {
			t.Errorf("preferred %q: got %q, want %q", preferred, got, want)
		}
	}
	if !slices.Equal(ways, []string{"a", "b", "c"}) {
		t.Errorf("the list itself was changed: %q", ways)
	}
}

func TestCleanEnv(t *testing.T) {
	env := []string{"PATH=/bin", "http_proxy=http://p:1", "HTTPS_PROXY=http://p:1", "no_proxy=x", "All_Proxy=y", "GSK_RENDERER=gl", "NOT_A_PROXYX=1"}
	got := cleanEnv(env)
	want := []string{"PATH=/bin", "NOT_A_PROXYX=1", "GIO_USE_PROXY_RESOLVER=dummy", "WEBKIT_DISABLE_COMPOSITING_MODE=1", "WEBKIT_DISABLE_DMABUF_RENDERER=1", "GSK_RENDERER=cairo"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if env[1] != "http_proxy=http://p:1" {
		t.Errorf("the caller's environment was changed: %q", env)
	}
}

func TestExitCodes(t *testing.T) {
	for code, reason := range exits {
		if got := ExitCode(fmt.Errorf("way: %w", reason)); got != code {
			t.Errorf("%v: got code %d, want %d", reason, got, code)
		}
		if got := exitReason(code); got != reason {
			t.Errorf("code %d: got %v, want %v", code, got, reason)
		}
	}
	if got := ExitCode(nil); got != 0 {
		t.Errorf("no error: got code %d", got)
	}
	if got := ExitCode(errors.New("else")); got != 1 || exitReason(got) != nil {
		t.Errorf("any other error: got code %d, which means %v", got, exitReason(got))
	}
}

func FuzzReadPage(f *testing.F) {
	for _, seed := range []string{"", "http://127.0.0.1:1/\n\n", "http://[::1]:1/?t=2\naWNvbg==\nraise\n", "http://evil.example:1/\n\n", "http://127.0.0.1:1/\n!\n", "x"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		p, err := readPage(bufio.NewReaderSize(strings.NewReader(in), maxLine))
		if err != nil {
			return
		}
		if !p.sameOrigin(p.url.String()) {
			t.Errorf("%q was taken, but is not of its own origin", p.url)
		}
		if len(p.icon) > maxLine {
			t.Errorf("an icon of %d bytes came through lines of %d", len(p.icon), maxLine)
		}
	})
}
