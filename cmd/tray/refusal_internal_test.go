package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"kerbpass/internal/autostart"
	"kerbpass/internal/route"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
)

// words are the page's texts in one language.
func words(t *testing.T, lang string) (all map[string]string) {
	t.Helper()
	b, err := os.ReadFile("../../internal/ui/web/texts/" + lang + ".json")
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// The page has words for every refusal and every reason, and no words that
// nothing uses.
func TestEveryRefusalHasWords(t *testing.T) {
	used := map[string]bool{"refusal.unknown": true}
	for _, r := range refusalCodes {
		used["refusal."+r.code] = true
	}
	for _, code := range entryCodes {
		used["entry."+code] = true
	}
	for _, lang := range []string{"de", "fr"} {
		texts := words(t, lang)
		for key := range used {
			if texts[key] == "" {
				t.Errorf("%s: no words for %s", lang, key)
			}
		}
		for key := range texts {
			if (strings.HasPrefix(key, "refusal.") || strings.HasPrefix(key, "entry.")) && !used[strings.TrimSuffix(key, ".hint")] {
				t.Errorf("%s: %s is not used", lang, key)
			}
		}
	}
}

// What the page can be refused has a code, and no English but in the detail.
func TestRefusalsOfThePage(t *testing.T) {
	d := startDesktop(t, "broken = [")
	good := startDesktop(t, "", func(d *desktop) { d.logFile = filepath.Join(t.TempDir(), "log") })
	t.Setenv("PATH", t.TempDir()) // nothing opens a file
	bare := startDesktop(t, "", func(d *desktop) { d.autostart = nil })
	for _, x := range []struct {
		d                        *desktop
		method, path, body, code string
	}{
		{good, "POST", "/v1/settings", `{"key":"upstream","value":["ftp://x"]}`, "invalid"},
		{good, "POST", "/v1/settings", `{"key":"listen","value":["127.0.0.1:1"]}`, "locked"},
		{good, "POST", "/v1/settings", `{"other":1}`, "bad_request"},
		{d, "POST", "/v1/settings", `{"key":"upstream","value":[]}`, "broken"},
		{d, "POST", "/v1/kerberos", `{"enabled":false}`, "broken"},
		{good, "POST", "/v1/bypass", `{"add":["*.x"]}`, "entries"},
		{good, "POST", "/v1/bypass", `{"remove":["x.example"]}`, "not_listed"},
		{good, "POST", "/v1/pause", `{"seconds":-1}`, "bad_request"},
		{good, "GET", "/v1/why?target=a+b", "", "no_host"},
		{good, "GET", "/v1/why?target=ftp://x", "", "no_host"},
		{good, "GET", "/v1/activity?after=x", "", "bad_request"},
		{good, "POST", "/v1/renew", "{}", "no_ticket"},
		{good, "POST", "/v1/logout", "{}", "no_ticket"},
		{good, "GET", "/v1/login/none", "", "sign_in_ended"},
		{good, "POST", "/v1/log", "{}", "nothing_opens"},
		{bare, "POST", "/v1/log", "{}", "no_log"},
		{bare, "POST", "/v1/autostart", `{"enabled":true}`, "no_switch"},
		{good, "POST", "/v1/doctor/report", "{}", "no_report"},
	} {
		w := httptest.NewRecorder()
		x.d.pageAPI().ServeHTTP(w, httptest.NewRequest(x.method, x.path, strings.NewReader(x.body)))
		var r refusal
		if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Code < 400 || r.Code != x.code || r.Error == "" {
			t.Errorf("%s %s %s: got %d %+v, want code %s", x.method, x.path, x.body, w.Code, r, x.code)
		}
	}
}

func TestRefusalOf(t *testing.T) {
	words := func(err error) (string, string) { return refusalOf(caused(loginError(err), err, errSignInElse)) }
	for _, x := range []struct {
		err          error
		code, detail string
	}{
		{&ticket.KDCError{Err: ticket.ErrPassword}, "password", ""},
		{fmt.Errorf("x: %w", ticket.ErrKDCUnreachable), "kdc_unreachable", "x: no KDC answers"},
		{context.Canceled, "given_up", ""},
		{errors.New("odd\x1b[2J"), "sign_in", "odd?[2J"},
		{noKerberos(errors.New("no library")), "no_kerberos", "no library"},
	} {
		if code, detail := words(x.err); code != x.code || detail != x.detail {
			t.Errorf("%v: got %s %q, want %s %q", x.err, code, detail, x.code, x.detail)
		}
	}
	if code, _ := refusalOf(caused(autostartError(autostart.ErrByAdmin), autostart.ErrByAdmin, errAutostartElse)); code != "autostart_admin" {
		t.Errorf("autostart: got %s", code)
	}
	if code, detail := refusalOf(settingsError(errors.New("disk full"))); code != "not_saved" || detail != "disk full" {
		t.Errorf("settings: got %s %q", code, detail)
	}
	if code, _ := refusalOf(errors.New("anything")); code != "" {
		t.Errorf("an error without a cause: got %s", code)
	}
}

// The reasons of the exact list are those that the page has words for.
func TestEntryReasons(t *testing.T) {
	long := strings.Repeat("a", 64)
	found := map[string]bool{}
	for _, entry := range []string{"10.0.0.0/8", "*.x", ".x", "x:1", "", `"x"`, "a,b", `a\b`, "http://x", "x/y", "u@x", "a..b", long, strings.Repeat("a.", 200) + "b",
		"1.2.3", "a:b:c", "fe80::1%1", "\uff11.2.3.4", "\xff", "xn--\u00fc.\u00fc\u00fc-"} {
		_, err := route.CheckEntry(entry)
		var why *route.EntryError
		if !errors.As(err, &why) {
			t.Errorf("%q is not refused", entry)
			continue
		}
		found[why.Reason] = true
	}
	for reason := range entryCodes {
		if !found[reason] && reason != "it is not a valid international name" {
			t.Errorf("no entry is refused because %s", reason)
		}
	}
	if got := entryCode("a reason of tomorrow"); got != "characters" {
		t.Errorf("unknown: got %s", got)
	}
}

func TestLogFileTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "kerbpass.log")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("before\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := openLogFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { l.file.Close() }()
	l.max = 100
	for i := range 20 {
		fmt.Fprintf(l, "line %02d of ten\n", i)
	}
	now, err1 := os.ReadFile(path)
	old, err2 := os.ReadFile(path + ".old")
	if err1 != nil || err2 != nil || len(now) == 0 || len(now) > 100 || len(old) > 100 || !strings.HasSuffix(string(old)+string(now), "line 19 of ten\n") {
		t.Errorf("got %q and %q, %v, %v", old, now, err1, err2)
	}
	l.Write([]byte(strings.Repeat("x", 1000)))
	for _, p := range []string{path, path + ".old"} {
		st, err := os.Stat(p)
		if err != nil || st.Size() > 100 || st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", p, st, err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err == nil {
		if _, err := openLogFile(link); err == nil {
			t.Error("a link is followed")
		}
	}
}

func TestFirst(t *testing.T) {
	for name, x := range map[string]struct {
		flags map[string]any
		env   string
		file  bool
		want  bool
	}{
		"nothing yet":               {want: true},
		"proxy in environment":      {env: "http://proxy.corp.example:8080", want: true},
		"settings":                  {file: true},
		"proxy on the command line": {flags: map[string]any{"upstream": []string{"http://proxy.corp.example:8080"}}},
	} {
		path := filepath.Join(t.TempDir(), "config.toml")
		if x.file {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		store, err := settings.Open(settings.Config{Path: path, Flags: x.flags, LookupEnv: func(n string) (string, bool) { return x.env, n == "HTTPS_PROXY" && x.env != "" }})
		if err != nil {
			t.Fatal(err)
		}
		d := &desktop{app: &app{cfg: appConfig{store: store}}}
		if d.firstStart(false); d.first != x.want {
			t.Errorf("%s: got %v, want %v", name, d.first, x.want)
		}
	}
}

func TestWelcomeIsWantedOnce(t *testing.T) {
	d := startDesktop(t, "")
	p := page{t, d.pageAPI()}
	var r welcomeReport
	wanted := func() bool { p.call("GET", "/v1/welcome", "", &r); return r.Wanted }
	if wanted() {
		t.Error("wanted without a first start")
	}
	d.welcome.Store(true)
	for range 2 { // a way of showing the window that fails asks too
		if !wanted() {
			t.Error("not wanted at a first start")
		}
	}
	p.call("POST", "/v1/welcome", "{}", nil)
	if wanted() {
		t.Error("wanted after its end")
	}
	d.welcome.Store(true)
	d.openWindow(t.Context()) // there is no display; asking is enough
	if wanted() {
		t.Error("wanted by somebody who asked for the settings")
	}
}

func TestNoTrayWords(t *testing.T) {
	for desktop, want := range map[string]string{"GNOME": "AppIndicator", "ubuntu:gnome": "AppIndicator", "XFCE": "panel"} {
		if _, what := noTray(desktop, nil); !strings.Contains(what, want) {
			t.Errorf("%s: got %q, want %s", desktop, what, want)
		}
	}
	if why, _ := noTray("GNOME", errors.New("no bus")); strings.Contains(why, "GNOME") {
		t.Errorf("no session: got %q", why)
	}
}

func TestKeptPage(t *testing.T) {
	d := &desktop{app: &app{log: slog.New(slog.DiscardHandler)}, pageFile: filepath.Join(t.TempDir(), "page")}
	if got := d.keptPage(); got != "" {
		t.Errorf("nothing kept: got %q", got)
	}
	d.keepPage("")
	d.keepPage("one")
	d.keepPage("two")
	if got := d.keptPage(); got != "two" {
		t.Errorf("got %q, want two", got)
	}
	st, err := os.Stat(d.pageFile)
	if err != nil || st.Mode().Perm()&0o077 != 0 {
		t.Errorf("others can read it: %v, %v", st, err)
	}
	d.keepPage("")
	if _, err := os.Stat(d.pageFile); err == nil {
		t.Error("still there")
	}
}

// A person at a terminal is told once, with an address that works.
func TestTraylessAtATerminal(t *testing.T) {
	d := startDesktop(t, "")
	var out strings.Builder
	d.terminal = &out
	d.env = func(string) (string, bool) { return "GNOME", true }
	d.trayless(t.Context(), nil)
	d.trayless(t.Context(), nil)
	text := out.String()
	if strings.Count(text, "No tray can be shown here: GNOME") != 1 || !strings.Contains(text, "AppIndicator") || !strings.Contains(text, "kerbpass settings\n") || strings.Count(text, "/open/") != 1 {
		t.Errorf("got:\n%s", text)
	}
}
