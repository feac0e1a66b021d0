//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	organisation "kerbpass/internal/policy"
	"kerbpass/internal/proxy"
	"kerbpass/internal/settings"
	"kerbpass/internal/testenv"
)

// policies is a folder of policies and its source.
func policies(t *testing.T, text string) (file string, s *organisation.Source) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "policy.toml")
	lay(t, file, text)
	return file, organisation.Folder(dir, uint32(os.Getuid()))
}

// lay lays a policy down.
func lay(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// flat undoes the breaking of lines.
func flat(out, _ string, _ int) string { return strings.Join(strings.Fields(out), " ") }

// What the organisation has locked counts before flags and the environment, and
// every command that would change it says who has set it, and where.
func TestPolicyOnTheCommandLine(t *testing.T) {
	u := newUser(t)
	file, source := policies(t, "[locked]\nkerberos.enabled = false\nupstream = [\"http://org.test:8080\"]\nbypass.exact = [\"org.test\"]\n[preset]\nui.language = \"de\"\n")
	u.policy = source
	u.env["JAATO_KERBEROS_PROXY"], u.env["HTTPS_PROXY"] = "true", "http://env.test:1"
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(u.home, "none"))
	for command, key := range map[string]string{
		"kerberos on": "kerberos.enabled", "kerberos off": "kerberos.enabled", "bypass add a.test": "bypass.exact", "bypass remove org.test": "bypass.exact",
	} {
		_, errs, code := u.run(strings.Fields(command)...)
		if want := "Not saved: " + key + " is set by your organisation (" + file + ").\n" + lockedHint; code != exitFailed || errs != want {
			t.Errorf("%s: exit code %d, %q, want 1, %q", command, code, errs, want)
		}
	}
	if _, err := os.Stat(u.config()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a settings file was made: %v", err)
	}
	out, _, _ := u.run("status", "--json")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if d := r.Settings["kerberos.enabled"]; d != (settings.Described{Value: false, Source: "policy", Name: file, Locked: true}) {
		t.Errorf("status --json: the switch is %+v", d)
	}
	if d := r.Settings["ui.language"]; d != (settings.Described{Value: "de", Source: "policy", Name: file}) {
		t.Errorf("status --json: the language is %+v", d)
	}
	if r.Proxy.Kerberos || r.Proxy.Upstream != "http://org.test:8080" || r.Proxy.UpstreamSource != "policy" {
		t.Errorf("status --json: %+v", r.Proxy)
	}
	const says = "Set by your organisation: bypass.exact, kerberos.enabled, upstream. Preset by your organisation: ui.language."
	if out, _, _ := u.run("status"); !strings.Contains(out, "\nPolicy     "+says+"\n") {
		t.Errorf("status: %s", out)
	}
	if out, _, _ := u.run("why", "http://a.test/", "--upstream", "http://mine.test:1", "--bypass", "a.test"); !strings.HasPrefix(out, "proxy http://org.test:8080") {
		t.Errorf("flags beat a policy: %s", out)
	}
	u.write("[ui]\nlanguage = \"fr\"\n")
	if out, _, _ := u.run("status", "--json"); !strings.Contains(out, `"value": "fr"`) {
		t.Error("a preset beats the file")
	}
}

// A broken policy is a loud one, and what it might have forbidden does not
// happen.
func TestBrokenPolicyOnTheCommandLine(t *testing.T) {
	u := newUser(t)
	file, source := policies(t, "[locked]\nkerberos.enabled = \n")
	u.policy = source
	u.write("upstream = [\"http://127.0.0.1:1\"]\n[kerberos]\nenabled = true\n")
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(u.home, "none"))
	out, _, _ := u.run("status", "--json")
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatal(err)
	}
	if r.Proxy.Kerberos || len(r.Problems) != 1 || r.Problems[0].Cause != proxy.CausePolicy || !strings.HasPrefix(r.Problems[0].Text, file+":2:") ||
		!strings.Contains(r.Problems[0].Hint, "no token is sent to any proxy") {
		t.Errorf("status --json: %s", out)
	}
	if r.Proxy.State = "listening"; r.healthCode() != exitPathBroken {
		t.Errorf("got exit code %d, want %d", r.healthCode(), exitPathBroken)
	}
	if _, errs, code := u.run("kerberos", "on"); code != exitFailed || !strings.Contains(errs, "set by your organisation ("+file+")") {
		t.Errorf("kerberos on: %d %s", code, errs)
	}
	if out := flat(u.run("doctor")); !strings.Contains(out, file+":2:") || !strings.Contains(out, "switched off by your organisation ("+file+")") {
		t.Errorf("doctor: %s", out)
	}
	lay(t, file, "[locked]\nui.language = \"de\"\n")
	if out := flat(u.run("doctor")); !strings.Contains(out, "Set by your organisation: ui.language.") || strings.Contains(out, "switched off") {
		t.Errorf("doctor, mended: %s", out)
	}
	if err := os.Chmod(file, 0o666); err != nil {
		t.Fatal(err)
	}
	for _, command := range []string{"status", "doctor"} {
		if out := flat(u.run(command)); !strings.Contains(out, "this policy is ignored: others than root may write to "+file) {
			t.Errorf("%s: %s", command, out)
		}
	}
}

// A broken policy may have forbidden passwords and the gateway: neither is used.
func TestBrokenPolicyWithholdsPasswords(t *testing.T) {
	_, source := policies(t, "[locked]\nupstream_auth = \n")
	file := filepath.Join(t.TempDir(), "config.toml")
	text := "upstream = [\"http://proxy.test:8080\"]\nupstream_auth = [\"http://proxy.test:8080 basic alice\"]\n[gateway]\nenabled = true\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, withheld := range []bool{false, true} {
		cfg := settings.Config{Path: file}
		if withheld {
			cfg.Policy = managed(source)
		}
		store, err := settings.Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		a, err := newApp(appConfig{store: store, log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		p := a.now.Load()
		rules, _ := gateRules(store.Snapshot())
		if got := p.upstreams[0].Scheme; (got == "") != withheld || p.kerberos == withheld || rules.Open == withheld {
			t.Errorf("withheld %v: the scheme is %q, Kerberos %v, the gateway open %v", withheld, got, p.kerberos, rules.Open)
		}
		a.closeListeners()
		p.peers.Close()
	}
}

// The example for Linux, with every line of it in use, is understood and locks
// every setting.
func TestPolicyTemplates(t *testing.T) {
	text, err := os.ReadFile("../../packaging/linux/policy.toml")
	if err != nil {
		t.Fatal(err)
	}
	file, source := policies(t, regexp.MustCompile(`(?m)^# ([a-z_.]+ = )`).ReplaceAllString(string(text), "$1"))
	u := newUser(t)
	u.policy = source
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(u.home, "none"))
	store, err := settings.Open(settings.Config{Path: u.config(), Policy: managed(source)})
	if err != nil {
		t.Fatal(err)
	}
	snap := store.Snapshot()
	if len(snap.Problems) > 0 || snap.Withheld {
		t.Errorf("got problems %v, withheld %v", snap.Problems, snap.Withheld)
	}
	for _, k := range settings.Keys() {
		if o := snap.Origins[k.Key]; o != (settings.Origin{Source: settings.SourcePolicy, Name: file, Locked: true}) {
			t.Errorf("%s: got %+v", k.Key, o)
		}
	}
	p := source.Read()
	if len(p.Preset) != len(settings.Keys()) || len(p.Locked) != len(settings.Keys()) {
		t.Errorf("got %d locked and %d preset values of %d", len(p.Locked), len(p.Preset), len(settings.Keys()))
	}
}

// runPolicy runs an app with policies until the test ends.
func runPolicy(t *testing.T, file string, source *organisation.Source) *app {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(t.TempDir(), "none"))
	store, err := settings.Open(settings.Config{Path: path, Flags: map[string]any{"listen": []string{"127.0.0.1:0"}}, Policy: managed(source)})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	a, err := newApp(appConfig{store: store, log: log, policy: source})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return a
}

// noticed is how long a change may take: less than the half minute after which
// settings are read again anyway.
const noticed = 20 * time.Second

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(noticed); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what + ": it does not come about")
		}
	}
}

// A running helper obeys at once: a pause ends where the switch is locked, and
// none can begin; a broken policy changes nothing that was known.
func TestPolicyWhileRunning(t *testing.T) {
	testenv.NoLeaks(t)
	file, source := policies(t, "# nothing\n")
	a := runPolicy(t, "upstream = [\"http://p.test:1\"]\n", source)
	if err := a.pause(time.Hour); err != nil || a.now.Load().kerberos {
		t.Fatalf("a pause of one's own: %v", err)
	}
	lay(t, file, "[locked]\nkerberos.enabled = true\n")
	eventually(t, "the pause ends when the switch is locked on", func() bool { return a.now.Load().kerberos && a.pausedUntil().IsZero() })
	err := a.pause(time.Hour)
	if want := "Not paused: kerberos.enabled is set by your organisation (" + file + ")."; err == nil || err.Error() != want || !errors.Is(refusalCause(err), settings.ErrLocked) {
		t.Errorf("got %v, want %s", err, want)
	}
	if !a.now.Load().kerberos || !a.pausedUntil().IsZero() {
		t.Error("a refused pause counts nevertheless")
	}
	if err := a.pause(0); err != nil {
		t.Errorf("resume: %v", err)
	}
	lay(t, file, "[locked\n")
	eventually(t, "the problem is shown", func() bool {
		return len(a.cfg.store.Snapshot().Problems) == 1
	})
	if snap := a.cfg.store.Snapshot(); snap.Withheld || !snap.KerberosEnabled || snap.Refused(theSwitch) == nil {
		t.Errorf("the last good policy does not count: %+v", snap)
	}
	lay(t, file, "[locked]\nkerberos.enabled = false\n")
	eventually(t, "the switch goes off", func() bool { return !a.now.Load().kerberos })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the switch is the person's again", func() bool {
		return a.now.Load().kerberos && a.cfg.store.Snapshot().Refused(theSwitch) == nil
	})
}

func refusalCause(err error) error {
	var e *exitError
	if !errors.As(err, &e) {
		return err
	}
	return e.cause
}

// The settings file of a newer version is read, and every command that would
// change it says why it does not.
func TestNewerFileOnTheCommandLine(t *testing.T) {
	u := newUser(t)
	const text = "version = 2\nupstream = [\"http://127.0.0.1:1\"]\n"
	u.write(text)
	t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(u.home, "none"))
	for _, command := range []string{"kerberos off", "bypass add a.test"} {
		if _, errs, code := u.run(strings.Fields(command)...); code != exitFailed || !strings.Contains(errs, "the file has version 2, this program knows version 1") || !strings.Contains(errs, "Update Kerbpass.") {
			t.Errorf("%s: %d %s", command, code, errs)
		}
	}
	if out, _, _ := u.run("status"); !strings.Contains(out, "the file has version 2") || !strings.Contains(out, "http://127.0.0.1:1") {
		t.Errorf("status: %s", out)
	}
	if out := flat(u.run("doctor")); !strings.Contains(out, "the file has version 2") {
		t.Errorf("doctor: %s", out)
	}
	if got, err := os.ReadFile(u.config()); err != nil || string(got) != text {
		t.Errorf("got %s (%v)", got, err)
	}
}
