package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A program is sent through Kerbpass and taken back by the commands; taking back
// works whatever the settings say about addresses.
func TestAppsCommand(t *testing.T) {
	u := newUser(t)
	config := filepath.Join(u.home, ".gitconfig")
	t.Setenv("HOME", u.home)
	t.Setenv("USERPROFILE", u.home)
	const mine = "[user]\n\tname = A\n"
	if err := os.WriteFile(config, []byte(mine), 0o600); err != nil {
		t.Fatal(err)
	}
	git := func() string {
		t.Helper()
		b, err := os.ReadFile(config)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	u.write("listen = [\"127.0.0.1:6001\"]\n")
	if _, errs, code := u.run("apps", "apply", "git"); code != 0 || !strings.Contains(git(), "http://127.0.0.1:6001") {
		t.Fatalf("apply: %d %s\n%s", code, errs, git())
	}
	out, _, code := u.run("apps", "list", "--json")
	var all []struct{ Name, State string }
	if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 || len(all) < 20 {
		t.Fatalf("list: %d %v %s", code, err, out)
	}
	for _, a := range all {
		if a.Name == "git" && a.State != "applied" {
			t.Errorf("git is %s", a.State)
		}
	}
	u.write("listen = [\"127.0.0.1:0\"]\n")
	if _, errs, code := u.run("apps", "apply", "git"); code != exitFailed || !strings.Contains(errs, "another port at each start") {
		t.Errorf("apply without a fixed port: %d %s", code, errs)
	}
	if _, errs, code := u.run("apps", "revert", "--all"); code != 0 || git() != mine {
		t.Errorf("revert: %d %s\n%q", code, errs, git())
	}
	if _, errs, code := u.run("apps", "revert", "--all"); code != 0 {
		t.Errorf("revert of nothing: %d %s", code, errs)
	}
	if _, _, code := u.run("apps", "apply", "nonsense"); code != exitFailed && code != exitUsage {
		t.Errorf("an unknown program: %d", code)
	}
}
