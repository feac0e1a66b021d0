//go:build linux

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/control"
	"kerbpass/internal/settings"
	"kerbpass/internal/sysproxy"
	"kerbpass/internal/testenv"
)

// startFound runs a helper that is told of no upstream.
func startFound(t *testing.T, s setup, listen string) *helper {
	t.Helper()
	h := prepare(t, s)
	h.log = &logBuffer{addr: make(chan string, 1)}
	h.cmd = exec.Command(h.bin, append([]string{"--log-level", "debug", "run", "--listen", listen, "--kerberos=false"}, s.args...)...)
	h.cmd.Env, h.cmd.Stdout, h.cmd.Stderr = h.env, h.log, h.log
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.done = make(chan error, 1)
	go func() { h.done <- h.cmd.Wait() }()
	t.Cleanup(h.stop)
	select {
	case h.addr = <-h.log.addr:
	case err := <-h.done:
		h.done <- err
		t.Fatalf("the helper ended: %v\n%s", err, h.log)
	case <-time.After(60 * time.Second):
		t.Fatalf("the helper does not listen:\n%s", h.log)
	}
	return h
}

// named is an upstream that answers every request with its name.
func named(t *testing.T, name string) *url.URL {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	u, _ := url.Parse(s.URL)
	return u
}

// upstream is what status says.
func (h *helper) upstream() string {
	h.t.Helper()
	out, _ := h.kerbpass("status", "--json")
	var r struct {
		Proxy struct {
			Upstream string
			Source   string `json:"upstream_source"`
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		h.t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(r.Proxy.Upstream + " " + r.Proxy.Source)
}

// until waits for what status says of the upstream.
func (h *helper) until(want string) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); h.upstream() != want; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("the upstream is %q, want %q", h.upstream(), want)
		}
	}
}

type foundAnswer struct {
	Settings []struct {
		Source, Name, PAC, Problem string
		Upstreams                  []string
		AutoDetect                 bool `json:"auto_detect"`
		Off                        bool
	}
	Suggestion string
	InUse      bool `json:"in_use"`
}

func (h *helper) found() (r foundAnswer) {
	h.t.Helper()
	path, err := control.Path(func(name string) (string, bool) {
		for _, v := range h.env {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value, true
			}
		}
		return "", false
	})
	if err != nil {
		h.t.Fatal(err)
	}
	cl := control.NewClient(path, func(net.Conn) error { return nil })
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	if err := cl.Get(ctx, "/v1/found", nil, &r); err != nil {
		h.t.Fatal(err)
	}
	return r
}

// by asks for a page and wants it from the upstream of that name.
func (h *helper) by(name string) {
	h.t.Helper()
	tr := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: h.addr}), DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get("http://web.example/")
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != name {
		h.t.Errorf("got %s %q, want %q", resp.Status, body, name)
	}
}

// kde writes the settings of KDE in one step, as KDE does.
func (h *helper) kde(text string) {
	h.t.Helper()
	path := filepath.Join(h.home, "config", "kioslaverc")
	if err := os.WriteFile(path+".new", []byte("[Proxy Settings]\n"+text+"\n"), 0o600); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		h.t.Fatal(err)
	}
}

func TestSystemUpstreamKDE(t *testing.T) {
	a, b, file := named(t, "a"), named(t, "b"), named(t, "file")
	listen := fmt.Sprintf("127.0.0.1:%d", testenv.FreePort(t))
	env := []string{"XDG_CURRENT_DESKTOP=KDE", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent", "XDG_CONFIG_DIRS=/nonexistent"}

	h := startFound(t, setup{env: env}, listen)
	if got := h.upstream(); got != "" {
		t.Errorf("without one: %q", got)
	}
	if got := h.found(); len(got.Settings) != 1 || !got.Settings[0].Off || got.Suggestion != "" || got.InUse {
		t.Errorf("found %+v", got)
	}
	h.kde("ProxyType=1\nhttpProxy=http://127.0.0.1 " + a.Port())
	h.until(a.String() + " system settings (KDE)")
	h.by("a")
	if got := h.found(); got.Suggestion != a.String() || !got.InUse || got.Settings[0].Source != "kde" || got.Settings[0].Name != filepath.Join(h.home, "config", "kioslaverc") {
		t.Errorf("found %+v", got)
	}
	h.kde("ProxyType=1\nhttpProxy=http://alice:hunter2@127.0.0.1:" + b.Port())
	h.until(b.String() + " system settings (KDE)")
	h.by("b")
	if got := h.found(); !strings.Contains(got.Settings[0].Problem, "left out") || strings.Contains(fmt.Sprint(got), "hunter2") {
		t.Errorf("found %+v", got)
	}

	// Ourselves: left out, and no request goes round in circles.
	_, port, _ := net.SplitHostPort(h.addr)
	for _, host := range []string{"localhost", "127.0.0.1"} {
		h.kde("ProxyType=1\nhttpProxy=http://" + host + " " + port)
		h.until("")
		h.kde("ProxyType=1\nhttpProxy=http://127.0.0.1 " + b.Port())
		h.until(b.String() + " system settings (KDE)")
	}
	h.kde("ProxyType=1\nhttpProxy=http://localhost " + port)
	h.until("")
	if got := h.found(); !strings.Contains(got.Settings[0].Problem, "this program itself") || got.Suggestion != "" {
		t.Errorf("found %+v", got)
	}
	if status, cause, body := h.curl("http://web.example/"); status != "502" || cause != "upstream_unreachable" {
		t.Errorf("got %s %s: %s", status, cause, body)
	}
	if text := h.log.String(); strings.Contains(text, "loop") {
		t.Errorf("a loop in the log:\n%s", text)
	}

	// What the person wrote counts more, and the system again without it.
	h.kde("ProxyType=1\nhttpProxy=http://127.0.0.1 " + a.Port())
	h.until(a.String() + " system settings (KDE)")
	if err := os.WriteFile(h.config(), []byte(fmt.Sprintf("upstream = [%q]\n", file)), 0o600); err != nil {
		t.Fatal(err)
	}
	h.until(file.String() + " settings")
	h.kde("ProxyType=1\nhttpProxy=http://127.0.0.1 " + b.Port())
	for deadline := time.Now().Add(30 * time.Second); h.found().Suggestion != b.String(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("found %+v", h.found())
		}
	}
	if got := h.found(); got.InUse || h.upstream() != file.String()+" settings" {
		t.Errorf("found %+v, used %s", got, h.upstream())
	}
	h.by("file")
	if err := os.Remove(h.config()); err != nil {
		t.Fatal(err)
	}
	h.until(b.String() + " system settings (KDE)")
	h.by("b")
	if out, _ := h.kerbpass("doctor", "--json"); !strings.Contains(out, b.String()+" (from system settings (KDE)).") {
		t.Errorf("doctor words the source of the upstream otherwise:\n%s", out)
	}
}

// A command without a helper, and one that starts, know the upstream at once.
func TestSystemUpstreamGNOME(t *testing.T) {
	if out, err := exec.Command(testenv.Tool(t, "gsettings"), "list-schemas").Output(); err != nil || !strings.Contains(string(out), "org.gnome.system.proxy\n") {
		testenv.Missing(t, "package gsettings-desktop-schemas: %v", err)
	}
	a, b := named(t, "a"), named(t, "b")
	home := t.TempDir()
	env := []string{"XDG_CURRENT_DESKTOP=GNOME", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent", "XDG_CONFIG_DIRS=/nonexistent",
		"GSETTINGS_BACKEND=keyfile", "HOME=" + home}
	h := prepare(t, setup{env: env})
	gsettings := func(env []string, key, value string) {
		t.Helper()
		schema, name, _ := strings.Cut("org.gnome.system.proxy"+key, " ")
		cmd := exec.Command("gsettings", "set", schema, name, value)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	set := func(env []string, u *url.URL) {
		t.Helper()
		gsettings(env, ".http host", u.Hostname())
		gsettings(env, ".http port", u.Port())
		gsettings(env, " mode", "manual")
	}
	set(h.env, a)
	if got := h.upstream(); got != a.String()+" system settings (GNOME)" {
		t.Errorf("without a helper: %q", got)
	}
	run := startFound(t, setup{env: env}, "127.0.0.1:0") // with folders of its own
	run.until("")
	set(run.env, a)
	run.until(a.String() + " system settings (GNOME)")
	set(run.env, b)
	run.until(b.String() + " system settings (GNOME)")
	run.by("b")
	gsettings(run.env, " mode", "none")
	run.until("")
	if got := run.found(); len(got.Settings) != 1 || !got.Settings[0].Off || got.Settings[0].Source != "gnome" {
		t.Errorf("found %+v", got)
	}

	// The environment is stronger, and said once.
	envRun := startFound(t, setup{env: append(env, "HTTPS_PROXY="+a.String())}, "127.0.0.1:0")
	set(envRun.env, b)
	if got := envRun.upstream(); got != a.String()+" environment" {
		t.Errorf("used: %s", got)
	}
	if got := envRun.found(); got.Suggestion != a.String() || !got.InUse || got.Settings[0].Name != "HTTPS_PROXY" {
		t.Errorf("found %+v", got)
	}
}

// A gsettings that stops answering takes nothing away.
func TestSystemUpstreamStaysWhileNobodyAnswers(t *testing.T) {
	a := named(t, "a")
	bin := t.TempDir()
	script := func(text string) {
		t.Helper()
		path := filepath.Join(bin, "gsettings")
		if err := os.WriteFile(path+".new", []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	const schema = "org.gnome.system.proxy"
	manual := fmt.Sprintf("echo \"%s mode 'manual'\"\necho \"%[1]s.http host '127.0.0.1'\"\necho \"%[1]s.http port %s\"\n", schema, a.Port())
	script(manual)
	env := []string{"XDG_CURRENT_DESKTOP=GNOME", "DBUS_SYSTEM_BUS_ADDRESS=unix:path=/nonexistent", "XDG_CONFIG_DIRS=/nonexistent", "PATH=" + bin + ":" + os.Getenv("PATH")}
	h := startFound(t, setup{env: env}, "127.0.0.1:0")
	h.until(a.String() + " system settings (GNOME)")
	asked := func(name string) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if _, err := os.Stat(filepath.Join(bin, name)); err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("the program of %s is not asked", name)
			}
		}
	}
	script(": >" + bin + "/hanging\nexec sleep 100\n")
	h.kde("ProxyType=0") // any change has it look again
	asked("hanging")
	script(": >" + bin + "/next\n" + manual)
	h.kde("ProxyType=0\n")
	asked("next") // so it gave up on the one that hangs
	if text := h.log.String(); strings.Contains(text, "system proxy settings\" upstream") {
		t.Errorf("the upstream was changed:\n%s", text)
	}
	h.by("a")
	script("echo \"" + schema + " mode 'none'\"\n")
	h.kde("ProxyType=0")
	h.until("")
}

// Whatever the system is said to have, the settings take it as it is.
func TestSettingsTakeWhatIsFound(t *testing.T) {
	for _, raw := range []string{"proxy", "http://proxy.corp.example:8080/", "https://PROXY", "[2001:db8::1]:3128", "http://[::ffff:10.0.0.1]", "bücher.example:1",
		"my_proxy:08080", "10.0.0.1", "http://u:p@proxy:1", "proxy.:3128", "xn--bcher-kva.example", "127.1:99"} {
		env := map[string]string{"XDG_CONFIG_HOME": t.TempDir(), "XDG_CONFIG_DIRS": "/nonexistent", "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"}
		if err := os.WriteFile(filepath.Join(env["XDG_CONFIG_HOME"], "kioslaverc"), []byte("[Proxy Settings]\nProxyType=1\nhttpProxy="+raw+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		all := sysproxy.Read(t.Context(), sysproxy.Config{LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
		ups, _, _ := sysproxy.Choose(all)
		if len(ups) != 1 {
			t.Errorf("%s: found %+v", raw, all)
			continue
		}
		store, err := settings.Open(settings.Config{Path: filepath.Join(t.TempDir(), "config.toml"), System: func() []string { return ups }})
		if err != nil {
			t.Fatal(err)
		}
		if snap := store.Snapshot(); len(snap.Problems) > 0 || len(snap.Upstream) != 1 || snap.Upstream[0] != ups[0] {
			t.Errorf("%s: the settings make %q of %q: %v", raw, snap.Upstream, ups, snap.Problems)
		}
	}
}
