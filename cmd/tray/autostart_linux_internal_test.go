//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAutostartCommand(t *testing.T) {
	u := newUser(t)
	if _, errs, code := u.run("autostart", "status"); code != exitFailed || !strings.Contains(errs, "HOME") {
		t.Errorf("without a home: exit code %d: %s", code, errs)
	}
	u.env["HOME"] = u.home
	u.env["XDG_CONFIG_DIRS"] = filepath.Join(u.home, "etc")
	file := filepath.Join(u.home, ".config/autostart/kerbpass.desktop")
	status := func() (r autostartReport) {
		t.Helper()
		out, errs, code := u.run("autostart", "status", "--json")
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
			t.Fatalf("exit code %d: %s%s (%v)", code, out, errs, err)
		}
		return r
	}
	do := func(action string) {
		t.Helper()
		if out, errs, code := u.run("autostart", action); code != 0 || out+errs != "" {
			t.Fatalf("%s: exit code %d: %s%s", action, code, out, errs)
		}
	}
	if got, want := status(), (autostartReport{Where: file}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	do("on")
	if got, want := status(), (autostartReport{Enabled: true, By: "user", Where: file}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "\nExec=\""+self+"\"\n") {
		t.Errorf("got %v, %s", err, text)
	}
	if out, _, code := u.run("autostart", "status"); code != 0 || out != "on ("+file+")\n" {
		t.Errorf("exit code %d: %s", code, out)
	}
	do("off")
	if got, want := status(), (autostartReport{Where: file}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}

	if err := os.WriteFile(file, []byte("[Desktop Entry]\nExec=/opt/other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, action := range []string{"on", "off"} {
		if _, errs, code := u.run("autostart", action); code != exitFailed || !strings.Contains(errs, "/opt/other") || !strings.Contains(errs, "Remove that entry") {
			t.Errorf("%s: exit code %d: %s", action, code, errs)
		}
	}
	if _, errs, code := u.run("autostart", "maybe"); code != exitUsage || !strings.Contains(errs, "maybe") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// Installing is tested in the service's own room; here, what is said.
func TestServiceCommand(t *testing.T) {
	u := newUser(t)
	t.Setenv("HOME", u.home)
	t.Setenv("PATH", t.TempDir())
	file := filepath.Join(u.home, ".config/systemd/user/kerbpass-proxy.service")
	out, errs, code := u.run("service", "status", "--json")
	var r userServiceReport
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 || r != (userServiceReport{Where: file}) {
		t.Errorf("exit code %d: %s%s (%v)", code, out, errs, err)
	}
	if out, _, code := u.run("service", "status"); code != 0 || out != "not installed ("+file+")\n" {
		t.Errorf("exit code %d: %s", code, out)
	}
	if _, errs, code := u.run("service", "install"); code != exitFailed || !strings.Contains(errs, "systemd") || !strings.Contains(errs, "kerbpass autostart on") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if _, errs, code := u.run("service", "restart"); code != exitUsage || !strings.Contains(errs, "restart") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
