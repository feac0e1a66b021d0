//go:build linux

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/proxy/proxytest"
	"kerbpass/internal/testenv"
)

// The whole way with the built program: the command puts the password into a
// real keyring, the helper fetches it there, and Squid takes it. A wrong one is
// tried once; the command lets the running helper try again.
func TestPasswordFromTheKeyring(t *testing.T) {
	t.Parallel()
	const right, wrong = "Pw-of-the-login-test", "Quite-another-one"
	w := newWorld(t, proxytest.SquidConfig{
		Auth:  "auth_param basic program " + testenv.Tool(t, "basic_ncsa_auth") + " {dir}/basic\nauth_param basic children 2\nauth_param basic realm squid",
		Files: map[string]string{"basic": "alice:$apr1$kerbpass$f.K5T75LxGan7OhK1pQcP.\n"}, // openssl passwd -apr1 -salt kerbpass
	})
	upstream := "http://" + w.squid.Addr
	desktop := prepare(t, setup{world: w, file: "upstream = ['" + upstream + "']\nupstream_auth = ['" + upstream + " basic alice']\n"})
	desktop.keyring()
	h := start(t, setup{world: w, env: append(desktop.env, "XDG_CONFIG_HOME="+desktop.home+"/config", "XDG_RUNTIME_DIR="+desktop.home+"/run", "HOME="+desktop.home)})
	set := func(password string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) { // the keyring may be starting
			out, code := desktop.typed(password+"\n", "password", "set", "--password-stdin")
			if strings.Contains(out, password) {
				t.Fatalf("the password was printed: %s", out)
			}
			if code == 0 {
				if !strings.Contains(out, "Basic as alice at "+upstream) || !strings.Contains(out, "in the clear") {
					t.Errorf("it says %s", out)
				}
				return
			}
			if time.Now().After(end) {
				t.Fatalf("exit code %d: %s", code, out)
			}
		}
	}
	set(wrong)
	for range 3 {
		h.want("502", "token_refused", w.url("web.world.test"))
	}
	if out, code := desktop.kerbpass("status"); code != 5 || !strings.Contains(out, "refused; not tried again") || !strings.Contains(out, "in the clear") {
		t.Errorf("status: %d\n%s", code, out)
	}
	w.squid.WaitLog(func(e proxytest.Entry) bool { return e.Status == "407" && e.User == "alice" })
	asked := 0
	for _, e := range w.squid.Log() {
		if e.Status != "0" {
			asked++
		}
	}
	if asked != 1 {
		t.Errorf("Squid was asked %d times with a wrong password", asked)
	}
	set(right)
	h.want("200", "", w.url("web.world.test"))
	if out, code := desktop.kerbpass("status"); code != 0 || !strings.Contains(out, "password from the keyring, accepted") {
		t.Errorf("status: %d\n%s", code, out)
	}
	if out, code := desktop.kerbpass("doctor"); code != 0 || !strings.Contains(out, "everybody on the way can read") {
		t.Errorf("doctor: %d\n%s", code, out)
	}
	if out, code := desktop.typed("", "password", "forget", upstream); code != 0 {
		t.Errorf("forget: %d %s", code, out)
	}
	h.want("502", "no_password", w.url("web.world.test"))
	if out, code := desktop.typed(right+"\n", "password", "set", "--password-stdin", "http://other.corp:1"); code != 1 || !strings.Contains(out, "upstream_auth") {
		t.Errorf("for an upstream without a line: %d %s", code, out)
	}
	if out, code := desktop.typed("\n", "password", "set", "--password-stdin"); code != 1 || !strings.Contains(out, "empty") {
		t.Errorf("an empty one: %d %s", code, out)
	}
	h.stop()
	if secret := testenv.Secret(h.log.String(), right, wrong); secret != "" {
		t.Errorf("a secret in the log: %.20s…", secret)
	}
	err := filepath.WalkDir(desktop.home, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || strings.Contains(path, "keyrings") {
			return nil
		}
		b, err := os.ReadFile(path)
		if err == nil && testenv.Secret(string(b), right, wrong) != "" {
			t.Errorf("a secret in %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
