//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ui/tray/traytest"
)

// pageCaller asks the running helper what its settings page asks, with the
// cookie of a link.
type pageCaller struct {
	t      *testing.T
	opened *http.Request
}

func (p pageCaller) call(method, path string, body, answer any) {
	p.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		p.t.Fatal(err)
	}
	u := *p.opened.URL
	u.Path = path
	req, err := http.NewRequestWithContext(p.t.Context(), method, u.String(), bytes.NewReader(b))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header = http.Header{"Cookie": p.opened.Header["Cookie"], "Origin": {"http://" + u.Host}, "Content-Type": {"application/json"}}
	cl := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := cl.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(text, answer)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		p.t.Fatalf("%s %s: %s, %v: %.300s", method, path, resp.Status, err, text)
	}
}

// The first start from end to end: the window comes by itself, and what it asks
// for at each step leads a person who has set nothing from the desktop's proxy
// through the sign-in to an answer of the real proxy.
func TestWelcomeLeadsThroughTheProxy(t *testing.T) {
	w := newWorld(t, squidAlone)
	desktop := traytest.Start(t)
	h := start(t, setup{world: w, cache: fileCache(t), bare: true, env: []string{"DBUS_SESSION_BUS_ADDRESS=" + desktop.Address, "DISPLAY=" + testenv.Screen(t),
		"XDG_CURRENT_DESKTOP=KDE", "XDG_CONFIG_DIRS=/nonexistent", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent", "LANG=en_GB.UTF-8"}})
	h.waitLog("window shown")
	page := pageCaller{t, h.pageByLink()}
	var welcome struct{ Wanted bool }
	if page.call("GET", "/v1/welcome", nil, &welcome); !welcome.Wanted {
		t.Error("the page does not begin with the welcome")
	}

	h.kde(fmt.Sprintf("ProxyType=1\nhttpProxy=http://localhost %d", w.squid.Port))
	squid := fmt.Sprintf("http://localhost:%d", w.squid.Port)
	h.until(squid + " system settings (KDE)")
	var found foundAnswer
	if page.call("GET", "/v1/found", nil, &found); found.Suggestion != squid || !found.InUse {
		t.Errorf("found %+v", found)
	}

	type result struct {
		Status int
		Cause  string
	}
	var before, after result
	if page.call("POST", "/v1/test", struct{}{}, &before); before.Cause != "no_ticket" {
		t.Errorf("the test without a ticket: %+v", before)
	}
	var begun struct{ ID string }
	page.call("POST", "/v1/login", map[string]string{"principal": "alice"}, &begun)
	var step struct {
		State     string
		Questions []struct {
			Kind   string
			Hidden bool
		}
	}
	page.call("GET", "/v1/login/"+begun.ID, nil, &step)
	if step.State != "asking" || len(step.Questions) != 1 || step.Questions[0].Kind != "password" || !step.Questions[0].Hidden {
		t.Fatalf("the sign-in asks %+v", step)
	}
	page.call("POST", "/v1/login/"+begun.ID, map[string][]string{"answers": {w.kdc.Password}}, &struct{}{})
	for step.State = "working"; step.State == "working"; {
		page.call("GET", "/v1/login/"+begun.ID, nil, &step)
	}
	if step.State != "done" {
		t.Fatalf("the sign-in: %+v", step)
	}
	user := "alice@" + w.kdc.Realm
	desktop.Item().Wait("Account: "+user, shown)
	if page.call("POST", "/v1/test", struct{}{}, &after); after.Cause != "" || after.Status == 0 {
		t.Errorf("the test with a ticket: %+v", after)
	}
	w.squid.WaitLog(func(e proxytest.Entry) bool {
		return strings.Contains(e.URL, "kerbpass-test.invalid") && e.User == user
	})

	page.call("POST", "/v1/autostart", map[string]bool{"enabled": true}, &struct{}{})
	if text := readFile(t, h.home+"/config/autostart/kerbpass.desktop"); !strings.Contains(text, h.bin) {
		t.Errorf("start at login:\n%s", text)
	}
	page.call("POST", "/v1/welcome", struct{}{}, &struct{}{})
	if page.call("GET", "/v1/welcome", nil, &welcome); welcome.Wanted {
		t.Error("the welcome does not end")
	}
	if text := h.log.String(); strings.Contains(text, w.kdc.Password) {
		t.Error("the password is in the log")
	}
	h.want("200", "", w.url("web.world.test"))
}
