//go:build linux

package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
)

// withPolicies builds the program so that it takes its policies from dir.
func withPolicies(t *testing.T, dir string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "kerbpass")
	cmd := exec.Command("go", "build", "-ldflags", "-X kerbpass/internal/policy.systemFolder="+dir, "-o", bin, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return bin
}

// noticed is how long a change may take: less than the half minute after which
// settings are read again anyway.
const noticed = 20 * time.Second

// becomes waits until a request through the helper ends like this.
func (h *helper) becomes(status, cause, url string) {
	h.t.Helper()
	for deadline := time.Now().Add(noticed); ; time.Sleep(50 * time.Millisecond) {
		gotStatus, gotCause, _ := h.curl(url)
		if gotStatus == status && gotCause == cause {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("got %s %q, want %s %q", gotStatus, gotCause, status, cause)
		}
	}
}

// The real program, root's policies and a real Squid: with a policy that nobody
// understands no token leaves; the organisation's upstream is the only one,
// whatever flags and environment say; and the switch is not the person's.
func TestPolicyInTheWorld(t *testing.T) {
	testenv.Root(t)
	w := newWorld(t, proxytest.SquidConfig{})
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "policy.toml")
	lay := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	lay("[locked]\nupstream = [\n")
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	// Whose proxy is on the command line would like to see a token.
	h := start(t, setup{world: w, cache: cache, bin: withPolicies(t, dir), args: w.upstream("proxy.world.test"), env: []string{"JAATO_KERBEROS_PROXY=true"}})
	url := w.url("web.world.test")
	h.want("502", "kerberos_off", url)
	if out, code := h.kerbpass("status"); code != 5 || !strings.Contains(out, "no token is sent to any proxy") {
		t.Errorf("status: %d %s", code, out)
	}
	if out, code := h.kerbpass("kerberos", "on"); code != 1 || !strings.Contains(out, "set by your organisation ("+file+")") {
		t.Errorf("kerberos on: %d %s", code, out)
	}
	user := "alice@" + w.kdc.Realm
	for _, e := range w.squid.Log() {
		if e.User == user {
			t.Errorf("a token was sent: %+v", e)
		}
	}

	lay("[preset]\nui.language = \"de\"\n")
	h.becomes("200", "", url)
	lay("[locked]\nkerberos.enabled = false\n")
	h.becomes("502", "kerberos_off", url)
	lay("[locked]\nkerberos.enabled = true\n")
	h.becomes("200", "", url)
	for _, command := range []string{"kerberos off", "pause", "pause 1h"} {
		if out, code := h.kerbpass(strings.Fields(command)...); code != 1 || !strings.Contains(out, "set by your organisation ("+file+")") {
			t.Errorf("%s: %d %s", command, code, out)
		}
	}
	h.want("200", "", url)

	lay("[locked]\nupstream = [\"http://127.0.0.1:9\"]\n")
	h.becomes("502", "upstream_unreachable", url)
	lay(fmt.Sprintf("[locked]\nupstream = [\"http://proxy.world.test:%d\"]\n", w.squid.Port))
	h.becomes("200", "", url)
	// Broken again, what was known goes on.
	lay("[locked]\nupstream = \n")
	h.sees("the last good policy counts")
	h.want("200", "", url)
	// Not root's any more: it is as if it were not there, and that is said.
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	h.sees("this policy is ignored: others than root may write to " + file)
}

// sees waits until status says something.
func (h *helper) sees(text string) {
	h.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		out, _ := h.kerbpass("status")
		if strings.Contains(out, text) {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("status does not say %q: %s", text, out)
		}
	}
}

// Under Windows the registry speaks, and is heard at once.
func TestWindowsPolicy(t *testing.T) {
	w := newWorld(t, proxytest.SquidConfig{})
	cache := fileCache(t)
	w.kdc.Kinit(t, "alice", cache)
	// The prefix is everybody's, so the policies are not Kerbpass's own.
	name := fmt.Sprintf("KerbpassTest%d", os.Getpid())
	key := `Software\Policies\` + name
	win := startWindows(t, w, cache, fmt.Sprintf("upstream = [\"http://localhost:%d\"]\n[access]\nsame_user_only = false\n", w.squid.Port), "",
		"-ldflags", "-X kerbpass/internal/policy.ours="+name)
	reg := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := win.prefix.Command(ctx, "reg", args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("reg %v: %v\n%s", args, err, out)
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, root := range []string{`HKLM\`, `HKCU\`} {
			win.prefix.Command(ctx, "reg", "delete", root+key, "/f").Run()
		}
	})
	url := w.url("web.world.test")
	win.want("200", "", url)
	reg("add", `HKCU\`+key, "/v", "kerberos.enabled", "/t", "REG_DWORD", "/d", "0", "/f")
	win.becomes("502", "kerberos_off", url)
	if out := win.run("kerberos", "on"); !strings.Contains(out, "kerberos.enabled is set by your organisation (HKCU\\"+key+")") {
		t.Errorf("kerberos on: %s", out)
	}
	win.want("502", "kerberos_off", url)
	reg("add", `HKLM\`+key, "/v", "kerberos.enabled", "/t", "REG_DWORD", "/d", "1", "/f") // the machine's beats the person's
	win.becomes("200", "", url)
	for _, command := range []string{"kerberos off", "pause"} {
		if out := win.run(strings.Fields(command)...); !strings.Contains(out, "is set by your organisation (HKLM\\"+key+")") {
			t.Errorf("%s: %s", command, out)
		}
	}
	win.want("200", "", url)
	reg("add", `HKLM\`+key+`\bypass.exact`, "/v", "1", "/d", "git.corp.example", "/f")
	reg("add", `HKLM\`+key+`\bypass.exact`, "/v", "2", "/d", "wiki.corp.example", "/f")
	reg("add", `HKLM\`+key, "/v", "access.connect_ports", "/t", "REG_MULTI_SZ", "/d", `443\08000-8999`, "/f")
	reg("add", `HKLM\`+key+`\Recommended`, "/v", "ui.language", "/d", "fr", "/f")
	for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		out := strings.Join(strings.Fields(win.run("status", "--json")), " ")
		missing := ""
		for _, want := range []string{`"bypass.exact": { "value": [ "git.corp.example", "wiki.corp.example" ], "source": "policy",`,
			`"access.connect_ports": { "value": [ "443", "8000-8999" ], "source": "policy",`, `"ui.language": { "value": "fr", "source": "policy", "name": "HKLM\\Software\\Policies\\` + name + `\\Recommended", "locked": false }`} {
			if !strings.Contains(out, want) {
				missing = want
			}
		}
		if missing == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("status --json does not say %s: %s", missing, out)
		}
	}
	reg("delete", `HKLM\`+key, "/f")
	reg("delete", `HKCU\`+key, "/f")
	for deadline := time.Now().Add(60 * time.Second); ; { // the switch is the person's again
		win.run("kerberos", "off")
		if _, cause, _ := win.curl(url); cause == "kerberos_off" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the end of a policy is not noticed")
		}
	}
}
