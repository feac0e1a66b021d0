package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/settings"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
)

// startDesktop runs an app with its desktop, but shows no tray.
func startDesktop(t *testing.T, file string, changes ...func(*desktop)) *desktop {
	t.Helper()
	home := t.TempDir()
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(home, "none"))
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	t.Setenv("XDG_CACHE_HOME", filepath.Join(home, "cache"))
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
	path := filepath.Join(home, "config.toml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	store, err := settings.Open(settings.Config{Path: path, Flags: map[string]any{"listen": []string{"127.0.0.1:0"}}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	a, err := newApp(appConfig{store: store, log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	d, err := newDesktop(ctx, &cli{lookupEnv: os.LookupEnv}, a)
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range changes {
		change(d)
	}
	a.services = append(a.services, d.run)
	done := make(chan error, 1)
	go func() { done <- a.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return d
}

// page is the settings page's view of an API.
type page struct {
	t *testing.T
	h http.Handler
}

func (p page) call(method, path, body string, answer any) (status int, failure struct{ Error, Hint string }) {
	p.t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(p.t.Context(), method, path, strings.NewReader(body))
	p.h.ServeHTTP(w, r)
	text := w.Body.Bytes()
	if w.Code >= 300 {
		json.Unmarshal(text, &failure)
	} else if answer != nil {
		if err := json.Unmarshal(text, answer); err != nil {
			p.t.Fatalf("%s %s: %v: %s", method, path, err, text)
		}
	}
	return w.Code, failure
}

func TestPageAPI(t *testing.T) {
	testenv.NoLeaks(t)
	d := startDesktop(t, "# mine\n")
	p := page{t, d.pageAPI()}

	var r report
	if status, _ := p.call("GET", "/v1/status", "", &r); status != 200 || r.Ticket.State != ticket.StateNone || r.Proxy.State != "listening" {
		t.Errorf("status: %d %+v", status, r.Ticket)
	}
	for body, want := range map[string]int{
		`{"key":"kerberos.renew","value":"ask"}`:             200,
		`{"key":"ui.notify_valid","value":true}`:             200,
		`{"key":"kerberos.remind_before","value":"45m"}`:     200,
		`{"key":"no_proxy","value":[".corp.example"]}`:       200,
		`{"key":"kerberos.renew","value":"maybe"}`:           409,
		`{"key":"no.such","value":1}`:                        409,
		`{"key":"listen","value":["127.0.0.1:1"]}`:           409, // set on the command line
		`{"key":"kerberos.renew","value":"ask","other":"x"}`: 400,
	} {
		if status, failure := p.call("POST", "/v1/settings", body, nil); status != want || status != 200 && failure.Error == "" {
			t.Errorf("%s: got %d %+v, want %d", body, status, failure, want)
		}
	}
	text, err := os.ReadFile(d.app.cfg.store.Path())
	if err != nil || !bytes.HasPrefix(text, []byte("# mine\n")) || !bytes.Contains(text, []byte(`renew = "ask"`)) || !bytes.Contains(text, []byte(`".corp.example"`)) {
		t.Errorf("settings: %v\n%s", err, text)
	}
	w := httptest.NewRecorder()
	p.h.ServeHTTP(w, httptest.NewRequest("POST", "/v1/bypass", strings.NewReader(`{"add":["good.example"," *.corp.example "]}`)))
	var refusal bypassRefusal
	if err := json.Unmarshal(w.Body.Bytes(), &refusal); err != nil || w.Code != 400 || len(refusal.Refused) != 1 || refusal.Error == "" ||
		refusal.Refused[0].Entry != "*.corp.example" || refusal.Refused[0].Reason == "" || len(refusal.Refused[0].Suggestion) == 0 {
		t.Errorf("refused entries: %v %d %s", err, w.Code, w.Body)
	}
	if got := listBypass(d.app.cfg.store.Snapshot()).Entries; len(got) != 0 {
		t.Errorf("saved beside a refused one: %q", got)
	}
	for _, path := range []string{"/v1/renew", "/v1/logout"} {
		if status, failure := p.call("POST", path, "", nil); status != 409 || failure.Error != "There is no ticket." {
			t.Errorf("%s: %d %+v", path, status, failure)
		}
	}
	var test testReport
	if status, _ := p.call("POST", "/v1/test", "", &test); status != 200 || test.Cause != "upstream_unreachable" {
		t.Errorf("test without an upstream: %d %+v", status, test)
	}
	var auto autostartReport
	for _, on := range []string{"true", "false"} {
		if status, failure := p.call("POST", "/v1/autostart", `{"enabled":`+on+`}`, nil); status != 200 {
			t.Errorf("autostart %s: %d %+v", on, status, failure)
		}
		if p.call("GET", "/v1/autostart", "", &auto); auto.Enabled != (on == "true") {
			t.Errorf("autostart %s: %+v", on, auto)
		}
	}
}

func TestPageEvents(t *testing.T) {
	testenv.NoLeaks(t)
	d := startDesktop(t, "")
	srv := httptest.NewServer(d.pageAPI())
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	event := func() {
		t.Helper()
		buf := make([]byte, len("event: changed\ndata: {}\n\n"))
		if _, err := io.ReadFull(resp.Body, buf); err != nil || !strings.HasPrefix(string(buf), "event: changed") {
			t.Fatalf("got %q, %v", buf, err)
		}
	}
	event() // the state at the start
	if err := d.app.pause(time.Hour); err != nil {
		t.Fatal(err)
	}
	event()
}

// A sign-in from the page: questions come, answers go, and nothing is left of
// them.
func TestPageSignIn(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var given []ticket.Secret
	verdict := make(chan error, 10)
	s := &signIns{ctx: ctx, open: map[string]*conversation{}, signIn: func(ctx context.Context, l ticket.Login) error {
		for _, questions := range [][]ticket.Prompt{
			{{Kind: ticket.PromptPassword, Text: "Password for " + l.Principal, Hidden: true}},
			{{Kind: ticket.PromptNewPassword, Text: "New password", Hidden: true}, {Kind: ticket.PromptNewAgain, Text: "Again\x1b[2J", Hidden: true}},
		} {
			answers, err := l.Prompt(ctx, "Say it\a", questions)
			if err != nil {
				return err
			}
			given = append(given, answers...)
		}
		return <-verdict
	}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/login", s.begin)
	mux.HandleFunc("GET /v1/login/{id}", s.ask)
	mux.HandleFunc("POST /v1/login/{id}", s.answer)
	mux.HandleFunc("DELETE /v1/login/{id}", s.giveUp)
	p := page{t, mux}
	begin := func() string {
		t.Helper()
		var r struct{ ID string }
		if status, failure := p.call("POST", "/v1/login", `{"principal":"alice"}`, &r); status != 200 || r.ID == "" {
			t.Fatalf("begin: %d %+v", status, failure)
		}
		return "/v1/login/" + r.ID
	}
	at := begin()
	var r conversationReport
	p.call("GET", at, "", &r)
	if r.State != "asking" || r.Banner != "Say it?" || len(r.Questions) != 1 || r.Questions[0].Text != "Password for alice" || !r.Questions[0].Hidden {
		t.Fatalf("first: %+v", r)
	}
	if status, _ := p.call("POST", at, `{"answers":["a","b"]}`, nil); status != 409 {
		t.Errorf("two answers to one question: %d", status)
	}
	p.call("POST", at, `{"answers":["first"]}`, nil)
	if status, _ := p.call("POST", at, `{"answers":["first"]}`, nil); status != 409 && len(given) > 0 {
		t.Errorf("the same answer again: %d", status)
	}
	for p.call("GET", at, "", &r); r.State != "asking" || len(r.Questions) != 2; p.call("GET", at, "", &r) {
		if r.State == "failed" {
			t.Fatalf("second: %+v", r)
		}
	}
	if strings.ContainsRune(r.Questions[1].Text, 0x1b) {
		t.Errorf("control characters reach the page: %q", r.Questions[1].Text)
	}
	p.call("POST", at, `{"answers":["second","second"]}`, nil)
	verdict <- &ticket.KDCError{Realm: "CORP.EXAMPLE", Err: ticket.ErrPassword}
	for p.call("GET", at, "", &r); r.State == "working"; p.call("GET", at, "", &r) {
	}
	if r.State != "failed" || !strings.Contains(r.Error, "Realm CORP.EXAMPLE does not accept the password") || r.Hint == "" {
		t.Errorf("end: %+v", r)
	}
	if len(given) != 3 || string(given[0].Expose()) != "first" || string(given[2].Expose()) != "second" {
		t.Errorf("answers: %q", given)
	}

	at = begin()
	p.call("GET", at, "", &r)
	p.call("DELETE", at, "", nil)
	for p.call("GET", at, "", &r); r.State == "asking" || r.State == "working"; p.call("GET", at, "", &r) {
		time.Sleep(time.Millisecond)
	}
	if r.State != "failed" || !strings.Contains(r.Error, "nothing was changed") {
		t.Errorf("given up: %+v", r)
	}
	if status, _ := p.call("GET", "/v1/login/unknown", "", nil); status != 404 {
		t.Errorf("unknown: %d", status)
	}
	for range maxSignIns - 2 {
		begin()
	}
	if status, failure := p.call("POST", "/v1/login", `{}`, nil); status != 409 || failure.Error == "" {
		t.Errorf("too many: %d %+v", status, failure)
	}
	if !errors.Is(ctx.Err(), nil) {
		t.Error("ended")
	}
}
