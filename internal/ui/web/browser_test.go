package web_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ui/web"
)

var (
	update      = flag.Bool("update", false, "write screenshots")
	screenshots = flag.String("screenshots", "testdata", "`folder` for screenshots")
)

// object is JSON as the helper sends it.
type object = map[string]any

// helper is a scripted stand-in for the API behind the page.
type helper struct {
	mu       sync.Mutex // guards what follows
	status   object
	bypass   []string
	requests []object
	prompts  []object          // of the sign-in, one after the other; the last state stays
	broken   map[string]object // answers that refuse, by method and path
	calls    []string          // method, path and body of what acts
	changed  []chan struct{}   // one for each stream
	down     bool              // answers nothing, streams included
	found    []any             // what the system says about proxies
	welcome  bool              // this is a first start
	report   object            // of the doctor
	wake     chan struct{}     // closed, and made anew, when requests are added
	language string
	painted  chan struct{}
}

func in(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }

func newHelper() *helper {
	value := func(v any) object { return object{"value": v, "source": "default", "locked": false} }
	return &helper{
		wake: make(chan struct{}), painted: make(chan struct{}, 8), broken: map[string]object{}, found: []any{},
		bypass: []string{"git.corp.example", "wiki.corp.example"},
		status: object{
			"version": "1.2.3", "config": "/home/alice/.config/kerbpass/config.toml",
			"ticket": object{"state": "valid", "principal": "alice@CORP.EXAMPLE", "realm": "CORP.EXAMPLE", "cache": "KCM:1000", "start": in(-6 * time.Hour), "expires": in(4*time.Hour + 90*time.Second),
				"renew_until": in(5 * 24 * time.Hour), "renewable": true, "backend": "gss-mit", "renewal": object{"mode": "auto", "next": in(3 * time.Hour), "error": ""}},
			"tickets": []any{
				object{"principal": "alice@CORP.EXAMPLE", "cache": "KCM:1000", "expires": in(4 * time.Hour), "default": true, "used_for_proxy": true,
					"tgts":     []any{object{"name": "krbtgt/CORP.EXAMPLE@CORP.EXAMPLE", "expires": in(4 * time.Hour)}},
					"services": []any{object{"name": "HTTP/proxy.corp.example@CORP.EXAMPLE", "expires": in(4 * time.Hour)}}},
				object{"principal": "", "cache": "FILE:/tmp/krb5cc_old", "expires": nil, "error": "the file is damaged", "tgts": []any{}, "services": []any{}},
			},
			"proxy": object{"state": "listening", "listen": []any{"127.0.0.1:5372", "[::1]:5372"}, "upstream": "http://proxy.corp.example:8080", "upstream_source": "settings", "kerberos": true, "paused_until": nil,
				"open_connections": 3, "last_auth": object{"time": in(-time.Minute), "result": "accepted", "cause": "", "spn": "HTTP/proxy.corp.example", "token_bytes": 777}},
			"settings": object{
				"upstream": object{"value": []any{"http://proxy.corp.example:8080"}, "source": "file", "locked": false}, "bypass.exact": value([]any{}), "kerberos.enabled": value(true),
				"kerberos.renew": value("auto"), "kerberos.remind_before": value("30m"), "ui.notify_valid": value(false), "ui.notify_expiring": value(true), "ui.notify_expired": value(true),
				"ui.language": value(""), "access.same_user_only": value(true)},
			"problems": []any{},
		},
		requests: []object{
			activity(1, "packages.example.org", "proxy", "ok", "node"), activity(2, "git.corp.example", "direct", "ok", "git"),
			activity(3, "modules.example.net", "proxy", "failed", "pip"), activity(4, "files.example.net", "proxy", "ok", "pip"),
		},
	}
}

func activity(seq int, host, route, result, program string) object {
	e := object{"seq": seq, "time": in(time.Duration(seq-10) * time.Minute), "program": program, "pid": 4000 + seq, "method": "CONNECT", "host": host, "port": 443, "route": route, "rule": "default", "entry": "",
		"upstream": "", "status": 200, "result": result, "cause": "", "up": 1200, "down": 48000, "ms": 87}
	if result == "failed" {
		e["status"], e["cause"] = 502, "token_refused"
	}
	return e
}

// set changes something and tells the pages.
func (h *helper) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
	for _, c := range h.changed {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

func (h *helper) part(name string) object { return h.status[name].(object) }

func (h *helper) setting(key string) object { return h.part("settings")[key].(object) }

// called returns what acted, and forgets it.
func (h *helper) called() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	defer func() { h.calls = nil }()
	return strings.Join(h.calls, "\n")
}

func (h *helper) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	body, _ := io.ReadAll(r.Body)
	h.mu.Lock()
	if r.Method != "GET" {
		h.calls = append(h.calls, strings.TrimSpace(r.Method+" "+path+" "+string(body)))
	}
	refusal, broken := h.broken[r.Method+" "+path]
	if only, ok := refusal["only"].(string); ok { // what holds this is refused
		broken = strings.Contains(string(body), only)
	}
	down := h.down
	h.mu.Unlock()
	switch {
	case down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case broken:
		w.WriteHeader(http.StatusConflict)
		json.NewEncoder(w).Encode(refusal)
	case path == "events":
		h.stream(w, r)
	case path == "doctor/report":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(w, "the report of user1")
	case path == "activity" && r.FormValue("wait") != "":
		h.more(w, r)
	default:
		var sent object
		json.Unmarshal(body, &sent)
		h.mu.Lock()
		defer h.mu.Unlock()
		json.NewEncoder(w).Encode(h.answer(r.Method+" "+path, r, sent))
	}
}

func (h *helper) stream(w http.ResponseWriter, r *http.Request) {
	told := make(chan struct{}, 1)
	h.mu.Lock()
	h.changed = append(h.changed, told)
	h.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		fmt.Fprint(w, "event: changed\ndata: {}\n\n")
		http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-told:
		}
		h.mu.Lock()
		down := h.down
		h.mu.Unlock()
		if down {
			return
		}
	}
}

// more answers a long poll for requests.
func (h *helper) more(w http.ResponseWriter, r *http.Request) {
	var after int
	fmt.Sscan(r.FormValue("after"), &after)
	for {
		h.mu.Lock()
		list, wake := h.requests, h.wake
		h.mu.Unlock()
		if len(list) > after {
			json.NewEncoder(w).Encode(object{"entries": list[after:], "next": len(list)})
			return
		}
		select {
		case <-wake:
		case <-r.Context().Done():
			return
		}
	}
}

// answer is called with h.mu held.
func (h *helper) answer(request string, r *http.Request, sent object) any {
	switch request {
	case "GET status":
		return h.status
	case "GET bypass":
		return object{"entries": h.bypass, "source": "file", "locked": h.setting("bypass.exact")["locked"]}
	case "POST bypass":
		return h.edit(sent)
	case "GET activity":
		return object{"entries": h.requests, "next": len(h.requests)}
	case "GET why":
		return h.why(r.FormValue("target"))
	case "GET autostart":
		return object{"enabled": false, "by": "", "detail": ""}
	case "GET found":
		return object{"settings": h.found, "suggestion": "", "in_use": false}
	case "GET welcome":
		return object{"wanted": h.welcome}
	case "POST welcome":
		h.welcome = false
	case "POST doctor":
		return h.report
	case "POST kerberos":
		h.part("proxy")["kerberos"] = sent["enabled"]
	case "POST pause":
		h.part("proxy")["paused_until"] = nil
		if s := sent["seconds"].(float64); s > 0 {
			h.part("proxy")["paused_until"] = in(time.Duration(s) * time.Second)
		}
	case "POST settings":
		h.setting(sent["key"].(string))["value"] = sent["value"]
		h.setting(sent["key"].(string))["source"] = "file"
		if sent["key"] == "ui.language" {
			h.language = sent["value"].(string)
		}
	case "POST test":
		return object{"status": 200, "cause": "", "text": "", "ms": 12}
	case "POST login":
		return object{"id": "one"}
	case "GET login/one":
		return h.prompts[0]
	case "POST login/one":
		h.prompts = h.prompts[1:]
	}
	return object{}
}

func (h *helper) edit(sent object) any {
	for _, e := range list(sent["remove"]) {
		h.bypass = slices.DeleteFunc(h.bypass, func(b string) bool { return b == e })
	}
	for _, e := range list(sent["add"]) {
		if !slices.Contains(h.bypass, e) {
			h.bypass = append(h.bypass, e)
		}
	}
	slices.Sort(h.bypass)
	return object{}
}

func list(v any) (texts []string) {
	all, _ := v.([]any)
	for _, x := range all {
		texts = append(texts, x.(string))
	}
	return texts
}

func (h *helper) why(target string) object {
	host, _, _ := strings.Cut(target, ":")
	if slices.Contains(h.bypass, host) {
		return object{"route": "direct", "rule": "exact", "entry": host, "explanation": host + " is on the exact list (file)."}
	}
	return object{"route": "proxy", "rule": "default", "upstream": "http://proxy.corp.example:8080", "kerberos": true,
		"explanation": "No list names " + host + ", so it goes through http://proxy.corp.example:8080 (file), with Kerberos."}
}

// page is the settings page in a real browser.
type page struct {
	*testing.T
	*helper
	ctx context.Context
}

// show opens the page. When the test ends, the browser must have had nothing
// to complain about.
func show(t *testing.T, h *helper) *page {
	t.Helper()
	s := serve(t, web.Config{API: h, Painted: func() { h.painted <- struct{}{} },
		Lang: func() string {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.language
		},
		Cause: func(lang, cause string) (string, string) {
			return lang + " sentence of " + cause, lang + " hint of " + cause
		},
	})
	return browse(t, h, s)
}

// browse opens a server's page.
func browse(t *testing.T, h *helper, s *web.Server) *page {
	t.Helper()
	chromium := testenv.Tool(t, "chromium")
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath(chromium), chromedp.NoSandbox, chromedp.WindowSize(900, 1000),
		chromedp.Flag("lang", "en-GB"), chromedp.Flag("accept-lang", "en-GB"))
	alloc, stopAlloc := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stopAlloc)
	ctx, cancel := chromedp.NewContext(alloc)
	t.Cleanup(cancel)
	watchConsole(t, ctx)
	p := &page{t, h, ctx}
	link, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.do(chromedp.Navigate(link))
	select {
	case <-h.painted:
	case <-time.After(60 * time.Second):
		t.Fatal("the page was never painted")
	}
	return p
}

// watchConsole closes the browser when the test ends, and fails the test for what the browser reports, refusals by the
// content security policy included. That a refused request is an error to the
// browser is not the page's fault.
func watchConsole(t *testing.T, ctx context.Context) {
	messages := chromedp.Console(ctx)
	var all []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type != "debug" && !strings.Contains(m.String(), "Failed to load resource") {
				all = append(all, m.String())
			}
		}
	}()
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("close browser: %v", err)
		}
		<-done
		for _, m := range all {
			t.Errorf("console: %s", m)
		}
	})
}

func (p *page) do(steps ...chromedp.Action[chromedp.Void]) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 60*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		p.Fatal(err)
	}
}

// eval returns the value of a script.
func eval[T any](p *page, script string) T {
	p.Helper()
	v, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](script))
	if err != nil {
		p.Fatalf("%s: %v", script, err)
	}
	return v
}

// until waits for a script to be true.
func (p *page) until(script string) {
	p.Helper()
	if _, err := chromedp.Run(p.ctx, chromedp.Poll[bool](script, chromedp.WithPollingInterval(20*time.Millisecond), chromedp.WithPollingTimeout(20*time.Second))); err != nil {
		p.Fatalf("waiting for %s: %v\npage: %s", script, err, eval[string](p, `document.querySelector("main").innerText + "\n" + document.getElementById("notice").innerText`))
	}
}

// says waits until an element shows a text.
func (p *page) says(id, text string) {
	p.Helper()
	p.until(fmt.Sprintf("document.getElementById(%q).checkVisibility() && document.getElementById(%q).innerText.includes(%q)", id, id, text))
}

func (p *page) hidden(id string) {
	p.Helper()
	p.until(fmt.Sprintf("!document.getElementById(%q).checkVisibility()", id))
}

func (p *page) click(selector string) {
	p.Helper()
	p.do(chromedp.Click(chromedp.CSS(selector)))
}

// fill types over what a field holds.
func (p *page) fill(selector, text string) {
	p.Helper()
	p.do(chromedp.WaitVisible(chromedp.CSS(selector)))
	eval[bool](p, fmt.Sprintf("document.querySelector(%q).select(), true", selector))
	p.do(chromedp.SendKeys(chromedp.CSS(selector), text))
}

// acted waits until the helper was asked for something.
func (p *page) acted(want string) {
	p.Helper()
	var got string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if got += p.called() + "\n"; strings.Contains(got, want) {
			return
		}
	}
	p.Fatalf("the helper was asked for %q, want %q", got, want)
}

func (p *page) refuse(request string, answer object) {
	p.set(func() { p.broken[request] = answer })
}

var sorry = object{"error": "The KDC does not answer.", "hint": "Check the network."}

func TestStatusPage(t *testing.T) {
	testenv.NoLeaks(t)
	p := show(t, newHelper())
	p.says("ticket-state", "You are signed in")
	p.says("ticket-lead", "alice@CORP.EXAMPLE")
	p.says("ticket-start", "4 hrs")
	p.says("ticket-renewal", "Renewed by itself")
	p.says("proxy-state", "ready")
	p.says("proxy-last-auth", "accepted")
	p.says("proxy-last-auth", "777 bytes")
	p.hidden("problems")
	if got := eval[float64](p, `document.getElementById("ticket-bar").value`); got < 35 || got > 45 {
		t.Errorf("bar: got %v, want 40", got)
	}

	p.click("#renew")
	p.acted("POST renew")
	p.says("notice", "Renewed.")
	p.refuse("POST renew", sorry)
	p.click("#renew")
	p.says("notice-error", "The KDC does not answer.")
	p.says("notice-error", "Check the network.")
	p.click("#notice-close")
	p.hidden("notice")

	p.set(func() { delete(p.broken, "POST renew") })
	p.click("#renew")
	p.says("notice", "Renewed.")
	p.click("#test")
	p.says("test-result", "It works")
	p.hidden("notice") // it was about the action before
	if got := eval[string](p, `document.getElementById("test-result").textContent`); strings.Contains(got, "502") {
		t.Errorf("a test that went well shows an error's number: %q", got)
	}
	p.refuse("POST test", sorry)
	p.click("#test")
	p.says("notice-error", "The KDC does not answer.")

	p.click("#caches-card summary")
	p.says("caches", "HTTP/proxy.corp.example@CORP.EXAMPLE")
	p.says("caches", "the file is damaged")

	p.click("#sign-out")
	p.says("sign-out-dialog", "Your tickets are deleted")
	p.do(chromedp.KeyEvent(kb.Escape))
	p.hidden("sign-out-dialog")
	p.click("#sign-out")
	p.click("#sign-out-confirm")
	p.acted("POST logout")
}

func TestStatusPageTellsEachState(t *testing.T) {
	testenv.NoLeaks(t)
	p := show(t, newHelper())
	for _, x := range []struct {
		state, says string
		primary     string
		change      func(ticket object)
	}{
		{"expiring", "Your sign-in ends soon", "renew", func(o object) { o["expires"] = in(10 * time.Minute) }},
		{"expired", "Your sign-in has expired", "sign-in", func(o object) { o["expires"] = in(-time.Minute) }},
		{"none", "You are not signed in", "sign-in", func(o object) { o["expires"], o["principal"] = nil, "" }},
		{"unavailable", "Your ticket cannot be read", "sign-in", func(object) {}},
	} {
		p.set(func() {
			p.part("ticket")["state"] = x.state
			x.change(p.part("ticket"))
		})
		p.says("ticket-state", x.says)
		if got := eval[string](p, `document.querySelector("#ticket-card .primary").id`); got != x.primary {
			t.Errorf("%s: the first action is %s, want %s", x.state, got, x.primary)
		}
	}
	p.set(func() {
		p.status["problems"] = []any{object{"cause": "no_ticket", "text": "There is no ticket.", "hint": "Run kinit."}}
	})
	p.says("problems", "There is no ticket.")
	p.says("problems", "Run kinit.")
	p.says("proxy-state", "waits for your sign-in")
	p.set(func() { p.part("ticket")["state"] = "valid" })
	p.set(func() {
		p.part("proxy")["gateway"] = object{"listen": []any{"172.17.0.1:5380"}, "allow": []any{"172.17.0.0/16"}, "clients": []any{"build"}}
	})
	p.says("gateway", "Other machines can use your ticket through the gateway on 172.17.0.1:5380: build")
	p.set(func() { p.part("proxy")["gateway"] = nil })
	for _, x := range []struct {
		says   string
		change func(proxy object)
	}{
		{"did not accept you", func(o object) { o["last_auth"].(object)["result"] = "refused" }},
		{"switched off", func(o object) { o["kerberos"] = false }},
		{"paused until", func(o object) { o["paused_until"] = in(time.Hour) }},
		{"ready, with a password", func(o object) {
			o["logins"] = []any{object{"upstream": o["upstream"], "scheme": "Basic", "user": "alice", "state": "accepted", "in_clear": true}}
		}},
		{"has no password of yours", func(o object) { o["logins"].([]any)[0].(object)["state"] = "refused" }},
		{"No company proxy", func(o object) { o["upstream"] = "" }},
		{"not running", func(o object) { o["state"] = "not_running" }},
	} {
		p.set(func() { x.change(p.part("proxy")) })
		p.says("proxy-state", x.says)
		if strings.Contains(x.says, "password") {
			p.says("proxy-lead", "of alice")
			p.says("proxy-lead", "(Basic)")
		}
	}
	// Words of the page's language come first, and what was said stays.
	p.set(func() {
		p.language = "de"
		p.setting("ui.language")["value"] = "de"
	})
	p.do(chromedp.Reload())
	p.says("problems", "de sentence of no_ticket")
	p.says("problems", "Run kinit.")
	p.says("ticket-state", "Sie sind angemeldet")
}

func TestSignIn(t *testing.T) {
	testenv.NoLeaks(t)
	h := newHelper()
	question := func(kind, text string) object {
		return object{"kind": kind, "text": text, "hidden": kind != "other"}
	}
	asking := func(banner string, questions ...any) object {
		return object{"state": "asking", "banner": banner, "questions": questions}
	}
	start := func() {
		h.set(func() {
			h.prompts = []object{
				asking("", question("password", "Password for alice")),
				asking("Your password has expired.", question("new_password", "Enter new"), question("new_password_again", "Again")),
				asking("", question("other", "Code from your phone")),
				{"state": "done"},
			}
		})
	}
	start()
	p := show(t, h)
	p.click("#sign-in")
	p.fill("#sign-in-fields input", "bob@CORP.EXAMPLE")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.acted(`POST login {"principal":"bob@CORP.EXAMPLE"}`)
	p.says("sign-in-fields", "Password")
	p.says("sign-in-banner", "bob@CORP.EXAMPLE")
	if got := eval[string](p, `document.activeElement.type`); got != "password" {
		t.Errorf("the field that has the focus is of type %q, want password", got)
	}
	p.do(chromedp.KeyEvent("geheim"), chromedp.KeyEvent(kb.Enter))
	p.acted(`POST login/one {"answers":["geheim"]}`)
	p.says("sign-in-banner", "Your password has expired.")
	p.do(chromedp.KeyEvent("neu 1"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent("neu 1"), chromedp.KeyEvent(kb.Enter))
	p.acted(`POST login/one {"answers":["neu 1","neu 1"]}`)
	p.says("sign-in-fields", "Code from your phone")
	p.do(chromedp.KeyEvent("123456"), chromedp.KeyEvent(kb.Enter))
	p.says("notice", "You are signed in.")
	p.hidden("sign-in-dialog")
	if left := eval[int](p, `document.querySelectorAll("#sign-in-fields input").length`); left != 0 {
		t.Errorf("%d fields with what was typed are left", left)
	}

	// Giving up ends it at the helper too.
	start()
	p.called()
	p.click("#sign-in")
	p.click("#sign-in-submit")
	p.says("sign-in-fields", "Password")
	p.do(chromedp.KeyEvent(kb.Escape))
	p.acted("DELETE login/one")

	// A failure is told, and one can try again.
	h.set(func() {
		h.prompts = []object{{"state": "failed", "error": "The password is wrong.", "hint": "Mind the case."}}
	})
	p.click("#sign-in")
	p.click("#sign-in-submit")
	p.says("sign-in-error", "The password is wrong.")
	p.says("sign-in-error", "Mind the case.")
	p.click("#sign-in-submit")
	p.says("sign-in-fields", "Account")
	p.refuse("POST login", object{"error": "Too many sign-ins are under way."})
	p.click("#sign-in-submit")
	p.says("sign-in-error", "Too many sign-ins")
	p.click("#sign-in-cancel")
	p.hidden("sign-in-dialog")
}

func TestProxyPage(t *testing.T) {
	testenv.NoLeaks(t)
	p := show(t, newHelper())
	p.click("#tab-proxy")
	p.says("upstream-source", "From your settings")
	p.fill("#upstream", "http://a.example:1, http://b.example:2")
	p.click("#upstream-save")
	p.acted(`POST settings {"key":"upstream","value":["http://a.example:1","http://b.example:2"]}`)
	p.refuse("POST settings", object{"error": "Not saved: this is no proxy.", "hint": "Give a URL."})
	p.fill("#upstream", "nonsense")
	p.click("#upstream-save")
	p.says("upstream-error", "this is no proxy")
	p.says("upstream-error", "Give a URL.")

	p.click("#kerberos")
	p.acted(`POST kerberos {"enabled":false}`)
	p.hidden("pause-15")
	p.refuse("POST kerberos", sorry)
	p.click("#kerberos")
	p.says("notice-error", "The KDC does not answer.")
	p.until(`!document.getElementById("kerberos").checked`)
	p.set(func() { p.part("proxy")["kerberos"] = true })
	p.click("#pause-15")
	p.acted(`POST pause {"seconds":900}`)
	p.says("pause-state", "Paused until")
	p.until(`document.activeElement.id === "resume"`)
	p.click("#resume")
	p.acted(`POST pause {"seconds":0}`)
	p.says("pause-60", "hour")

	p.set(func() {
		s := p.setting("kerberos.enabled")
		s["locked"], s["source"] = true, "policy"
	})
	p.says("kerberos-source", "Set by your organisation. It cannot be changed here.")
	p.until(`document.getElementById("kerberos").disabled`)
	p.hidden("pause-15")
	p.hidden("pause-60")
	p.set(func() {
		s := p.setting("upstream")
		s["locked"], s["source"] = true, "policy"
	})
	p.says("upstream-source", "Set by your organisation. It cannot be changed here.")
	p.until(`document.getElementById("upstream").disabled && document.getElementById("upstream-save").disabled`)
	p.set(func() { p.setting("upstream")["locked"] = false }) // only preset
	p.until(`document.getElementById("upstream-source").textContent === "Set by your organisation." && !document.getElementById("upstream").disabled`)

	p.fill("#try", "git.corp.example")
	p.says("try-answer", "git.corp.example is on the exact list")
	p.says("try-answer", "Direct")
	p.fill("#try", "example.com:8443")
	p.says("try-answer", "Through the company proxy")
	p.refuse("GET why", object{"error": "\"a b\" is not a host."})
	p.fill("#try", "a b")
	p.says("try-answer", "is not a host")
}

func TestBypassList(t *testing.T) {
	testenv.NoLeaks(t)
	p := show(t, newHelper())
	p.click("#tab-proxy")
	p.says("bypass-count", "2 hosts")
	p.fill("#bypass-add", "new.corp.example")
	p.do(chromedp.KeyEvent(kb.Enter))
	p.acted(`POST bypass {"add":["new.corp.example"]}`)
	p.says("bypass-list", "new.corp.example")
	p.says("notice", "is now reached directly")
	p.click("#notice-undo")
	p.acted(`POST bypass {"remove":["new.corp.example"]}`)
	p.says("bypass-count", "2 hosts")

	p.click(`[aria-label="Remove git.corp.example"]`)
	p.says("bypass-count", "1 host")
	p.until(`document.activeElement.getAttribute("aria-label") === "Remove wiki.corp.example"`)
	p.says("notice", "git.corp.example removed.")
	p.click("#notice-undo")
	p.says("bypass-list", "git.corp.example")

	p.says("bypass-recent", "packages.example.org")
	p.click(`[aria-label="Reach modules.example.net directly"]`)
	p.acted(`POST bypass {"add":["modules.example.net"]}`)
	p.until(`!document.getElementById("bypass-recent").innerText.includes("modules.example.net")`)

	p.click("#bypass-many summary")
	p.do(chromedp.SetValue(chromedp.CSS("#bypass-paste"), "a.example, b.example # ours\n# nothing\nc.example"))
	p.click("#bypass-paste-form button")
	p.acted(`POST bypass {"add":["a.example","b.example","c.example"]}`)
	p.says("notice", "3 hosts added.")

	// Changed elsewhere.
	p.set(func() {
		p.bypass = append(p.bypass, "elsewhere.example")
		p.setting("bypass.exact")["value"] = []any{"elsewhere.example"}
	})
	p.says("bypass-list", "elsewhere.example")
}

func TestBypassRefusals(t *testing.T) {
	testenv.NoLeaks(t)
	p := show(t, newHelper())
	p.click("#tab-proxy")
	p.refuse("POST bypass", object{"error": `Refused: "*.corp.example": a star is not part of a name.`, "hint": "An entry is one exact host name."})
	p.fill("#bypass-add", "*.corp.example")
	p.click("#bypass-form button")
	p.says("bypass-error", "a star is not part of a name")
	p.says("bypass-error", "An entry is one exact host name.")
	if !eval[bool](p, `document.getElementById("bypass-add").getAttribute("aria-invalid") === "true"`) {
		t.Error("the refused entry is not marked")
	}
	refused := object{"only": "*", "error": "Refused.", "refused": []any{object{"entry": "*.corp.example", "reason": "a star is not part of a name", "suggestion": []any{"corp.example"}}}}
	p.refuse("POST bypass", refused)
	p.click("#bypass-form button")
	p.says("bypass-error", "Use corp.example")
	p.click("#bypass-error button")
	p.until(`document.getElementById("bypass-add").value === "corp.example"`)

	// What is refused stays in the box with its reason.
	p.click("#bypass-many summary")
	p.do(chromedp.SetValue(chromedp.CSS("#bypass-paste"), "good.example\n*.corp.example"))
	p.click("#bypass-paste-form button")
	p.says("bypass-paste-error", "a star is not part of a name")
	p.acted(`POST bypass {"add":["good.example"]}`)

	p.set(func() {
		s := p.setting("bypass.exact")
		s["locked"], s["source"], s["value"] = true, "policy", []any{"x"}
	})
	p.says("bypass-source", "Set by your organisation.")
	p.until(`document.getElementById("bypass-add").disabled && document.querySelector("#bypass-list button").disabled`)
}

func TestTenThousandEntries(t *testing.T) {
	testenv.NoLeaks(t)
	h := newHelper()
	h.bypass = nil
	for i := range 10000 {
		h.bypass = append(h.bypass, fmt.Sprintf("host%05d.corp.example", i))
	}
	p := show(t, h)
	p.click("#tab-proxy")
	p.says("bypass-count", "10,000 hosts")
	if n := eval[int](p, `document.querySelectorAll("#bypass-list li").length`); n > 200 {
		t.Errorf("%d rows are drawn at once", n)
	}
	p.click("#bypass-more")
	p.until(`document.querySelectorAll("#bypass-list li").length === 200`)
	p.fill("#bypass-filter", "host09999")
	p.says("bypass-count", "1 of 10,000 hosts")
	p.click("#bypass-list button")
	p.acted(`POST bypass {"remove":["host09999.corp.example"]}`)
	p.says("bypass-count", "0 of 9,999 hosts")
}

func TestActivityPage(t *testing.T) {
	testenv.NoLeaks(t)
	p := show(t, newHelper())
	p.click("#tab-activity")
	p.says("activity-list", "packages.example.org:443")
	if first := eval[string](p, `document.querySelector("#activity-list .host").textContent`); first != "files.example.net:443" {
		t.Errorf("first: got %s, want the latest request", first)
	}
	p.set(func() {
		p.requests = append(p.requests, activity(5, "fresh.example", "direct", "ok", "curl"))
		close(p.wake)
		p.wake = make(chan struct{})
	})
	p.says("activity-list", "fresh.example:443")

	p.fill("#activity-filter", "modules")
	p.until(`[...document.querySelectorAll("#activity-list > li")].filter((e) => e.checkVisibility()).length === 1`)
	p.click("#activity-list > li:not([hidden]) summary")
	p.says("activity-list", "pip (4003)")
	p.says("activity-list", "en sentence of token_refused")
	p.says("activity-list", "No list names modules.example.net")
	p.click("#activity-list > li:not([hidden]) button")
	p.acted(`POST bypass {"add":["modules.example.net"]}`)
	p.fill("#activity-filter", "nothing like it")
	p.says("activity-empty", "No request fits the filter.")
}

func TestGeneralPage(t *testing.T) {
	testenv.NoLeaks(t)
	p := show(t, newHelper())
	p.click("#tab-general")
	p.says("version", "1.2.3")
	p.says("config", "config.toml")
	for _, x := range []struct{ id, want string }{
		{"notify-valid", `{"key":"ui.notify_valid","value":true}`},
		{"notify-expiring", `{"key":"ui.notify_expiring","value":false}`},
		{"notify-expired", `{"key":"ui.notify_expired","value":false}`},
		{"same-user", `{"key":"access.same_user_only","value":false}`},
	} {
		p.click("#" + x.id)
		p.acted("POST settings " + x.want)
	}
	p.click("#autostart")
	p.acted(`POST autostart {"enabled":true}`)
	choose := func(id, value string) {
		eval[bool](p, fmt.Sprintf(`(() => { const e = document.getElementById(%q); e.value = %q; e.dispatchEvent(new Event("change")); return true })()`, id, value))
	}
	choose("renew-mode", "ask")
	p.acted(`POST settings {"key":"kerberos.renew","value":"ask"}`)
	choose("remind-before", "2h")
	p.acted(`POST settings {"key":"kerberos.remind_before","value":"2h"}`)
	p.set(func() { p.setting("kerberos.remind_before")["value"] = "1h30m" })
	p.until(`document.getElementById("remind-before").selectedOptions[0].textContent === "1 hr 30 mins"`)
	choose("language", "fr")
	p.says("tab-status", "État")
	if got := eval[string](p, `document.documentElement.lang`); got != "fr" {
		t.Errorf("language of the document: got %s, want fr", got)
	}
	p.set(func() {
		s := p.setting("ui.notify_valid")
		s["locked"], s["source"], s["value"] = true, "policy", true
	})
	p.says("notify-valid-source", "Défini par votre organisation.")
	p.until(`document.getElementById("notify-valid").disabled`)
	p.refuse("POST settings", sorry)
	p.click("#same-user")
	p.says("notice-error", "The KDC does not answer.")
	p.until(`!document.getElementById("same-user").checked`)
}

func TestHelperGoesAndComesBack(t *testing.T) {
	testenv.NoLeaks(t)
	p := show(t, newHelper())
	p.set(func() { p.down = true })
	p.says("lost", "Kerbpass was closed. Start it again")
	p.click("#renew")
	p.says("notice-error", "did not answer")
	p.set(func() {
		p.down = false
		p.part("ticket")["principal"] = "back@CORP.EXAMPLE"
	})
	p.hidden("lost")
	p.says("ticket-lead", "back@CORP.EXAMPLE")
}

// A helper that was started again serves the pages that were open; what else
// answers at the address is sent nothing.
func TestPageComesBackAfterARestart(t *testing.T) {
	testenv.NoLeaks(t)
	kept := make(chan string, 100)
	h := newHelper()
	first, stop := serveUntil(t, web.Config{API: h, Keep: func(text string) { kept <- text }, Painted: func() { h.painted <- struct{}{} }})
	p := browse(t, h, first)
	text := <-kept
	var at struct{ Addr string }
	if err := json.Unmarshal([]byte(text), &at); err != nil {
		t.Fatal(err)
	}
	p.click("#sign-in")
	p.says("sign-in-fields", "Account")
	stop()
	p.says("lost", "Start it again")
	p.hidden("sign-in-dialog")

	h.set(func() { h.part("ticket")["principal"] = "again@CORP.EXAMPLE" })
	_, stop = serveUntil(t, web.Config{API: h, Resume: text})
	p.hidden("lost")
	p.says("ticket-lead", "again@CORP.EXAMPLE")
	p.click("#renew")
	p.acted("POST renew")
	stop()
	p.says("lost", "Start it again")

	// Somebody else takes the port.
	l, err := net.Listen("tcp", at.Addr)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var asked []string
	squatter := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, r.Method+" "+r.URL.Path)
		fmt.Fprint(w, `{"proof":"not the one"}`)
	})}
	served := make(chan struct{})
	go func() {
		squatter.Serve(l)
		close(served)
	}()
	p.says("lost", "no longer belongs to it")
	p.click("#renew")
	p.says("notice-error", "did not answer")
	squatter.Close()
	<-served
	mu.Lock()
	defer mu.Unlock()
	if slices.ContainsFunc(asked, func(r string) bool { return r != "GET /proof" }) {
		t.Errorf("sent to whoever took the port: %q", asked)
	}
}

var gnome = object{"source": "gnome", "name": "network settings", "upstreams": []any{"http://proxy.gnome.example:3128"}}
var script = object{"source": "networkmanager", "name": "Wired 1", "upstreams": []any{}, "pac": "http://wpad.corp.example/wpad.dat"}

func TestFoundProxies(t *testing.T) {
	testenv.NoLeaks(t)
	h := newHelper()
	h.found = []any{gnome, script}
	p := show(t, h)
	p.click("#tab-proxy")
	p.says("found", "http://proxy.gnome.example:3128 (GNOME, network settings)")
	p.click("#found button")
	p.acted(`POST settings {"key":"upstream","value":["http://proxy.gnome.example:3128"]}`)
	p.says("notice", "is now used")
	p.until(`document.getElementById("upstream").value === "http://proxy.gnome.example:3128"`)
	p.hidden("found")
	p.click("#notice-undo")
	p.acted(`POST settings {"key":"upstream","value":["http://proxy.corp.example:8080"]}`)
	p.says("found", "proxy.gnome.example")

	p.set(func() {
		p.setting("upstream")["value"], p.setting("upstream")["source"] = []any{"http://proxy.gnome.example:3128"}, "system"
	})
	p.says("upstream-source", "From your system’s settings (GNOME, network settings)")

	p.set(func() {
		p.found = []any{script, object{"source": "kde", "name": "", "upstreams": []any{}, "problem": "socks only"}}
		p.setting("upstream")["value"], p.setting("upstream")["source"] = []any{}, "default"
	})
	p.says("found", "NetworkManager, Wired 1")
	p.says("found", "Where no proxy is entered, Kerbpass asks that script")
	p.says("found", "socks only")

	p.set(func() {
		p.found = []any{gnome}
		s := p.setting("upstream")
		s["value"], s["source"], s["name"], s["locked"] = []any{"http://policy.example:1"}, "policy", "", true
	})
	p.says("upstream-source", "Set by your organisation. It cannot be changed here.")
	p.says("found", "proxy.gnome.example")
	if n := eval[int](p, `document.querySelectorAll("#found button").length`); n != 0 {
		t.Error("a locked value can be replaced")
	}
}

func TestWelcome(t *testing.T) {
	testenv.NoLeaks(t)
	h := newHelper()
	h.welcome, h.found = true, []any{gnome}
	h.setting("upstream")["value"], h.setting("upstream")["source"] = []any{}, "default"
	h.part("ticket")["state"], h.part("ticket")["principal"], h.part("ticket")["expires"] = "none", "", nil
	p := show(t, h)
	p.says("welcome", "Welcome to Kerbpass")
	p.hidden("tabs")
	p.hidden("status")
	p.says("welcome-choices", "GNOME, network settings")
	p.hidden("welcome-other")
	p.says("welcome-ticket-state", "You are not signed in")
	p.click("#welcome-sign-in")
	p.says("sign-in-fields", "Account")
	p.click("#sign-in-cancel")
	p.set(func() {
		p.part("ticket")["state"], p.part("ticket")["principal"], p.part("ticket")["expires"] = "valid", "alice@CORP.EXAMPLE", in(time.Hour)
	})
	p.says("welcome-ticket-state", "signed in as alice@CORP.EXAMPLE")
	p.hidden("welcome-sign-in")

	// Another one, which the settings refuse first.
	p.click("#welcome-choices li:last-child input")
	p.says("welcome-other", "Address of the proxy")
	p.click("#welcome-test")
	p.says("welcome-error", "Enter the address")
	p.refuse("POST settings", object{"error": "Not saved: this is no proxy.", "hint": "Give a URL."})
	p.fill("#welcome-upstream", "nonsense")
	p.click("#welcome-test")
	p.says("welcome-error", "this is no proxy")
	eval[any](p, `window.first = document.querySelector("#welcome-choices li"), 0`)
	p.set(func() { delete(p.broken, "POST settings"); p.part("ticket")["principal"] = "bob@CORP.EXAMPLE" })
	p.says("welcome-ticket-state", "signed in as bob@CORP.EXAMPLE")
	if !eval[bool](p, `window.first.isConnected`) {
		t.Error("news of the helper replaces what somebody may be about to click")
	}
	p.called()
	p.click("#welcome-choices li:first-child input")
	p.click("#welcome-test")
	p.acted(`POST settings {"key":"upstream","value":["http://proxy.gnome.example:3128"]}`)
	p.says("welcome-result-text", "It works")
	p.click("#welcome-autostart")
	p.acted(`POST autostart {"enabled":true}`)
	p.do(chromedp.EmulateViewport(720, 300))
	eval[any](p, `scrollTo(0, 1e6), 0`)
	p.until(`scrollY > 0`)
	p.click("#welcome-done")
	p.acted("POST welcome")
	p.hidden("welcome")
	p.until(`scrollY === 0`) // the ticket comes first
	p.says("ticket-state", "You are signed in")
	p.until(`document.activeElement.id === "tab-status"`)
	p.do(chromedp.Reload())
	p.says("ticket-state", "You are signed in")
	p.hidden("welcome")

	// Nothing found, and not now.
	p.set(func() {
		p.welcome, p.found = true, []any{}
		p.setting("upstream")["value"] = []any{}
	})
	p.do(chromedp.Reload())
	p.says("welcome-found", "None was found on this computer")
	p.says("welcome-other", "Address of the proxy")
	p.called()
	p.click("#welcome-skip")
	p.says("tabs", "Status")
	if got := p.called(); strings.Contains(got, "settings") {
		t.Errorf("skipping saved something: %q", got)
	}
}

func diagnosis(first string) object {
	finding := func(id, title, state, seen, cause, action string) object {
		return object{"id": id, "title": title, "state": state, "seen": seen, "cause": cause, "action": action, "ms": 3}
	}
	r := object{"version": "1.2.3", "system": "linux", "healthy": first == "", "first": first, "findings": []any{
		finding("settings", "The settings can be read", "ok", "config.toml", "", ""),
		finding("upstream", "The upstream proxy is known", "ok", "http://proxy.corp.example:8080, from the settings", "", ""),
		finding("clock", "The clock is right", "warn", "2 minutes off", "clock_skew", "Set the clock."),
		finding("tgt", "There is a ticket", "ok", "alice@CORP.EXAMPLE", "", ""),
		finding("kdc", "The KDC answers", "ok", "in 12 ms", "", "")}}
	if first != "" {
		r["findings"].([]any)[4] = finding("kdc", "The KDC answers", "fail", "no answer from 192.0.2.1", "kdc_unreachable", "Connect to the VPN.")
		r["findings"] = append(r["findings"].([]any), finding("token", "A token is made", "skip", "", "", ""))
	}
	return r
}

func TestDoctor(t *testing.T) {
	testenv.NoLeaks(t)
	h := newHelper()
	h.report = diagnosis("kdc")
	p := show(t, h)
	p.click("#tab-general")
	p.click("#doctor")
	p.says("doctor-verdict", "Here the way is broken")
	p.says("doctor-first", "The KDC answers")
	p.says("doctor-first", "Connect to the VPN.") // opened
	p.says("doctor-list", "A token is made")
	if got := eval[[]string](p, `[...document.querySelectorAll(".finding .mark")].filter((e) => e.checkVisibility()).map((e) => getComputedStyle(e, "::before").content)`); strings.Join(got, "") != `"✕""✓""✓""!""✓""–"` {
		t.Errorf("shapes: got %q", got)
	}
	if got := eval[string](p, `document.querySelector("#doctor-first").textContent`); !strings.HasPrefix(got, "Broken: ") {
		t.Errorf("a screen reader hears %q", got)
	}
	p.click("#doctor-list summary")
	p.says("doctor-list", "Set the clock.")
	p.click("#doctor-copy")
	p.acted("POST doctor/report")
	p.until(`document.getElementById("notice").innerText.includes("eport")`)

	p.set(func() { p.report = diagnosis("") })
	p.click("#doctor")
	p.says("doctor-verdict", "It works, but look at this")
	p.refuse("POST doctor", sorry)
	p.click("#doctor")
	p.says("notice-error", "The KDC does not answer.")
	p.hidden("doctor-progress")
	p.click("#notice-close")

	p.click("#log")
	p.acted("POST log")
	p.says("notice", "The log is opened.")
	p.click("#notice-close")
	p.refuse("POST log", object{"error": "There is no log file.", "code": "no_log"})
	p.click("#log")
	p.says("notice-error", "There is no log file.")
	p.set(func() { p.language, p.report = "de", diagnosis("kdc"); delete(p.broken, "POST doctor") })
	p.do(chromedp.Reload())
	p.click("#log")
	p.says("notice-error", "Es gibt keine Protokolldatei")
	p.click("#notice-close")
	p.click("#doctor")
	p.says("doctor-first", "Der Anmeldeserver antwortet")
	p.says("doctor-first", "de hint of kdc_unreachable")
}

// In another language than the helper's, a refusal is in that language. What
// cannot be is marked as English and comes after.
func TestRefusalsAreInThePagesLanguage(t *testing.T) {
	testenv.NoLeaks(t)
	h := newHelper()
	p := show(t, h)
	for lang, want := range map[string][]string{
		"de": {"Nicht gespeichert: Dieser Wert", "Das hat nicht funktioniert.", "enthält ein Sternchen", "Das Passwort wurde nicht angenommen"},
		"fr": {"Non enregistré : cette valeur", "Cela n’a pas fonctionné.", "contient une étoile", "Le mot de passe n’a pas été accepté"},
	} {
		h.set(func() {
			h.language = lang
			h.broken["POST settings"] = object{"error": "English sentence", "hint": "English hint", "code": "invalid", "detail": "upstream: English detail"}
			h.broken["POST renew"] = object{"error": "English sentence", "hint": "English hint"}
			h.broken["POST bypass"] = object{"error": "English sentence", "refused": []any{object{"entry": "*.x", "reason": "English reason", "code": "wildcard", "suggestion": []any{}}}}
			h.prompts = []object{{"state": "failed", "error": "English sentence", "hint": "English hint", "code": "password"}}
		})
		p.do(chromedp.Reload())
		english := func(id string) {
			t.Helper()
			if got := eval[[]string](p, fmt.Sprintf(`[...document.getElementById(%q).querySelectorAll("*")].filter((e) => !e.children.length && e.textContent.includes("English") && e.lang !== "en").map((e) => e.textContent)`, id)); len(got) > 0 {
				t.Errorf("%s: English is shown: %q", lang, got)
			}
		}
		p.click("#tab-proxy")
		p.fill("#upstream", "x")
		p.click("#upstream-save")
		p.says("upstream-error", want[0])
		p.says("upstream-error", "upstream: English detail")
		english("upstream-error")
		p.fill("#bypass-add", "*.x")
		p.click("#bypass-form button")
		p.says("bypass-error", want[2])
		if got := eval[string](p, `document.getElementById("bypass-error").innerText`); strings.Contains(got, "English") {
			t.Errorf("%s: %q", lang, got)
		}
		p.click("#tab-status")
		p.click("#renew")
		p.says("notice-error", want[1])
		english("notice-error")
		p.click("#notice-close")
		p.click("#sign-in")
		p.click("#sign-in-submit")
		p.says("sign-in-error", want[3])
		english("sign-in-error")
		p.click("#sign-in-cancel")
	}
}

var pages = []string{"status", "proxy", "activity", "general"}

// Every control of every page is reached with the keyboard alone, in the order
// of the document.
func TestKeyboardReachesEverything(t *testing.T) {
	testenv.NoLeaks(t)
	h := newHelper()
	h.report, h.found = diagnosis("kdc"), []any{gnome, script}
	p := show(t, h)
	p.click("#tab-general")
	p.click("#doctor")
	p.says("doctor-first", "Connect to the VPN.")
	p.click("#tab-status")
	for i, name := range pages {
		if i > 0 {
			p.do(chromedp.KeyEvent(kb.ArrowRight))
		}
		p.until(fmt.Sprintf(`document.activeElement.id === "tab-%s" && document.getElementById(%q).checkVisibility()`, name, name))
		if tab := eval[string](p, `[...document.querySelectorAll("[role=tab]")].filter((e) => e.tabIndex === 0).map((e) => e.id).join()`); tab != "tab-"+name {
			t.Errorf("%s: Tab leads to %q, want the selected tab alone", name, tab)
		}
		if name == "activity" {
			p.says("activity-list", "modules.example.net")
		}
		if name == "proxy" {
			p.says("bypass-recent", "modules.example.net")
		}
		eval[int](p, `window.reached = new Set(); window.controls = [...document.querySelectorAll("main button, main input, main select, main textarea, main summary")].filter((e) => e.checkVisibility() && !e.disabled); controls.length`)
		for range eval[int](p, "controls.length") {
			p.do(chromedp.KeyEvent(kb.Tab))
			eval[int](p, "reached.add(document.activeElement).size")
			if !eval[bool](p, `document.activeElement.matches(":focus-visible")`) {
				t.Errorf("%s: %s shows no focus", name, eval[string](p, "document.activeElement.outerHTML"))
			}
		}
		if missed := eval[[]string](p, "controls.filter((e) => !reached.has(e)).map((e) => e.outerHTML)"); len(missed) > 0 {
			t.Errorf("%s: not reached: %q", name, missed)
		}
		eval[bool](p, fmt.Sprintf(`document.getElementById("tab-%s").focus(), true`, name))
	}
	p.do(chromedp.KeyEvent(kb.Home))
	p.until(`document.activeElement.id === "tab-status"`)

	// The welcome, from its choice to its end.
	h.set(func() {
		h.welcome = true
		h.part("ticket")["state"] = "none"
	})
	p.do(chromedp.Reload())
	p.says("welcome-choices", "GNOME")
	p.says("welcome", "Sign in")
	var order []string
	for range 6 {
		p.do(chromedp.KeyEvent(kb.Tab))
		order = append(order, eval[string](p, "document.activeElement.id || document.activeElement.type"))
	}
	if got := strings.Join(order, " "); got != "radio welcome-sign-in welcome-test welcome-autostart welcome-done welcome-skip" {
		t.Errorf("welcome: Tab leads to %s", got)
	}
}

// Everything that can be used has a name for a screen reader.
func TestEveryControlHasAName(t *testing.T) {
	testenv.NoLeaks(t)
	h := newHelper()
	h.report, h.found = diagnosis("kdc"), []any{gnome, script}
	p := show(t, h)
	roles := []string{"button", "textbox", "searchbox", "combobox", "switch", "checkbox", "tab", "tabpanel", "progressbar", "radio", "radiogroup", "list", "dialog", "DisclosureTriangle", "MenuListPopup"}
	check := func(where string) {
		t.Helper()
		tree, err := chromedp.Call(p.ctx, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]int{}
		for _, n := range tree.Nodes {
			if n.Ignored || n.Role == nil {
				continue
			}
			role, name := axText(n.Role), axText(n.Name)
			found[role]++
			if slices.Contains(roles, role) && role != "MenuListPopup" && strings.TrimSpace(name) == "" {
				t.Errorf("%s: a %s has no name", where, role)
			}
		}
		if where == "welcome" && (found["radio"] != 3 || found["radiogroup"] != 1 || found["switch"] != 1) {
			t.Errorf("the tree does not show the welcome: %v", found)
		}
		if found["tab"] != 4 && where != "dialog" && where != "welcome" || found["button"] == 0 && where != "activity" && where != "general" {
			t.Errorf("%s: the tree does not show the page: %v", where, found)
		}
	}
	for _, name := range pages {
		p.click("#tab-" + name)
		p.until(fmt.Sprintf("document.getElementById(%q).checkVisibility()", name))
		if name == "general" {
			p.click("#doctor")
			p.says("doctor-first", "Connect to the VPN.")
		}
		check(name)
	}
	h.set(func() { h.welcome = true })
	p.do(chromedp.Reload())
	p.says("welcome-choices", "GNOME")
	check("welcome")
	h.set(func() { h.welcome = false })
	p.do(chromedp.Reload())
	p.says("tabs", "Status")
	p.click("#tab-status")
	p.click("#sign-in")
	p.says("sign-in-fields", "Account")
	check("dialog")
}

func axText(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	var s string
	json.Unmarshal([]byte(v.Value), &s)
	return s
}

// Nothing sticks out to the side, in the longest language too.
func TestNarrowWindow(t *testing.T) {
	testenv.NoLeaks(t)
	h := newHelper()
	h.report, h.found = diagnosis("kdc"), []any{gnome, script}
	p := show(t, h)
	for _, lang := range []string{"en", "de", "fr"} {
		h.set(func() { h.language = lang })
		p.do(chromedp.EmulateViewport(320, 600), chromedp.Reload())
		p.until(`document.documentElement.lang === "` + lang + `" && document.getElementById("app").checkVisibility()`)
		for _, name := range pages {
			p.click("#tab-" + name)
			if name == "general" {
				p.click("#doctor")
				p.until(`document.getElementById("doctor-first").checkVisibility()`)
			}
			if w := eval[int](p, "document.documentElement.scrollWidth"); w > 320 {
				t.Errorf("%s, %s: %d pixels wide", lang, name, w)
			}
		}
		h.set(func() { h.welcome = true })
		p.do(chromedp.Reload())
		p.until(`document.getElementById("welcome-choices").checkVisibility() && document.getElementById("welcome-notes").checkVisibility()`)
		if w := eval[int](p, "document.documentElement.scrollWidth"); w > 320 {
			t.Errorf("%s, welcome: %d pixels wide", lang, w)
		}
		h.set(func() { h.welcome = false })
	}
}

func TestScreenshots(t *testing.T) {
	if !*update {
		return
	}
	testenv.NoLeaks(t)
	h := newHelper()
	p := show(t, h)
	shoot := func(name string, width, height int64, scheme string) {
		t.Helper()
		_, err := chromedp.Call(p.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		if err != nil {
			t.Fatal(err)
		}
		p.do(chromedp.EmulateViewport(width, height))
		png, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(*screenshots, 0o755); err != nil {
		t.Fatal(err)
	}
	h.set(func() { h.found = []any{gnome} })
	for _, name := range pages {
		p.click("#tab-" + name)
		switch name {
		case "proxy":
			p.fill("#try", "gitlab.corp.example")
			p.says("try-answer", "Through")
		case "activity":
			p.says("activity-list", "modules.example.net")
			p.click("#activity-list > li:nth-child(2) summary")
			p.says("activity-list", "No list names")
		}
		shoot(name+"-light", 820, 700, "light")
		shoot(name+"-dark", 820, 700, "dark")
		shoot(name+"-narrow", 360, 700, "light")
	}
	h.set(func() { h.report = diagnosis("kdc") })
	p.click("#doctor")
	p.says("doctor-first", "Connect to the VPN.")
	eval[bool](p, `for (const c of document.querySelectorAll("#general > article:not(:has(#doctor))")) c.hidden = true; true`)
	all := func(name string) {
		shoot(name+"-light", 820, 700, "light")
		shoot(name+"-dark", 820, 700, "dark")
		shoot(name+"-narrow", 360, 700, "light")
	}
	all("doctor")
	h.set(func() { h.welcome = true; h.setting("upstream")["value"] = []any{} })
	p.do(chromedp.Reload())
	p.says("welcome-choices", "GNOME")
	all("welcome")
	p.click("#welcome-test")
	p.says("welcome-result-text", "It works")
	shoot("welcome-tested-light", 820, 700, "light")
	p.click("#welcome-done")
	p.click("#tab-status")
	h.set(func() {
		h.part("ticket")["state"], h.part("ticket")["expires"] = "expired", in(-20*time.Minute)
		h.status["problems"] = []any{object{"cause": "ticket_expired", "text": "The Kerberos ticket has expired.", "hint": "Sign in again."}}
		h.prompts = []object{{"state": "asking", "questions": []any{object{"kind": "password", "text": "", "hidden": true}}}}
	})
	p.says("ticket-state", "expired")
	shoot("status-expired-light", 820, 700, "light")
	p.click("#sign-in")
	p.click("#sign-in-submit")
	p.says("sign-in-fields", "Password")
	shoot("sign-in-light", 820, 700, "light")
}
