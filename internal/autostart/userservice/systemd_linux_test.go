//go:build linux

package userservice_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"kerbpass/internal/autostart/userservice"
	"kerbpass/internal/testenv"
)

// fakeSystemd is a user with a systemctl that keeps its state in files.
type fakeSystemd struct {
	t          *testing.T
	dir        string
	unit, link string // what an installation makes
}

// The first argument that is no option is the action; a file fail-ACTION makes
// it fail.
const systemctl = `#!/bin/sh
cd '%s' || exit 9
echo "$*" >>calls
action=$1
[ "$action" = --user ] && action=$2
if [ -e "fail-$action" ]; then echo "Failed to connect to bus: no medium" >&2; exit 1; fi
units=home/.config/systemd/user
case $action in
show) echo Version=252 ;;
enable) mkdir -p $units/default.target.wants && ln -sf ../kerbpass-proxy.service $units/default.target.wants/kerbpass-proxy.service ;;
disable) rm -f $units/default.target.wants/kerbpass-proxy.service ;;
start) echo active >state ;;
stop) echo inactive >state ;;
is-active) if [ -e state ]; then cat state; else echo inactive; fi; exit 3 ;;
list-unit-files) ls $units ;;
esac
`

func newFakeSystemd(t *testing.T) *fakeSystemd {
	t.Helper()
	testenv.NoLeaks(t)
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	bin := filepath.Join(dir, "bin")
	if err := errors.Join(os.Mkdir(home, 0o700), os.Mkdir(bin, 0o700),
		os.WriteFile(filepath.Join(bin, "systemctl"), fmt.Appendf(nil, systemctl, dir), 0o700)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	units := filepath.Join(home, ".config/systemd/user")
	return &fakeSystemd{t, dir, filepath.Join(units, "kerbpass-proxy.service"), filepath.Join(units, "default.target.wants/kerbpass-proxy.service")}
}

func (f *fakeSystemd) service(program string) *userservice.Service {
	f.t.Helper()
	s, err := userservice.New(userservice.Config{Name: "kerbpass-proxy", Description: "The proxy", Command: []string{program, "run"}})
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fakeSystemd) set(name, text string) {
	f.t.Helper()
	if err := os.WriteFile(filepath.Join(f.dir, name), []byte(text), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

// calls returns what systemctl was asked since the last time, questions left out.
func (f *fakeSystemd) calls() (actions []string) {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join(f.dir, "calls"))
	if err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	f.set("calls", "")
	for line := range strings.Lines(string(b)) {
		if !strings.Contains(line, "--user") {
			f.t.Errorf("without --user: %s", line)
		}
		switch strings.Fields(strings.TrimPrefix(line, "--user "))[0] {
		case "show", "is-active", "list-unit-files":
		default:
			actions = append(actions, strings.TrimSpace(line))
		}
	}
	return actions
}

func (f *fakeSystemd) called(want ...string) {
	f.t.Helper()
	if got := f.calls(); !slices.Equal(got, want) {
		f.t.Errorf("systemctl was called with %q, want %q", got, want)
	}
}

func (f *fakeSystemd) installed(want bool) {
	f.t.Helper()
	for _, path := range []string{f.unit, f.link} {
		if _, err := os.Lstat(path); (err == nil) != want {
			f.t.Errorf("%s: %v, want it there: %v", path, err, want)
		}
	}
}

func (f *fakeSystemd) status(s *userservice.Service, want userservice.Status) {
	f.t.Helper()
	want.Where = f.unit
	got, err := s.Status()
	if err != nil {
		f.t.Fatal(err)
	}
	if detail := want.Detail; strings.Contains(got.Detail, detail) && (detail != "" || got.Detail == "") {
		want.Detail = got.Detail
	}
	if got != want {
		f.t.Errorf("got %+v, want %+v", got, want)
	}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLifeOfService(t *testing.T) {
	f := newFakeSystemd(t)
	s := f.service("/opt/kerb pass/kerbpass")
	f.status(s, userservice.Status{})
	ok(t, s.Uninstall()) // nothing to do
	if err := s.Start(); !errors.Is(err, userservice.ErrNotInstalled) {
		t.Errorf("start: got %v", err)
	}
	f.called()
	ok(t, s.Install())
	f.called("enable --user kerbpass-proxy.service", "daemon-reload --user")
	f.installed(true)
	f.status(s, userservice.Status{Installed: true})
	unit, err := os.ReadFile(f.unit)
	ok(t, err)
	for _, want := range []string{"ExecStart=\"/opt/kerb pass/kerbpass\" \"run\"\n", "WantedBy=default.target\n", "Restart=on-failure\n"} {
		if !strings.Contains(string(unit), want) {
			t.Errorf("%s is missing in\n%s", want, unit)
		}
	}
	ok(t, s.Install()) // again
	f.called("enable --user kerbpass-proxy.service", "daemon-reload --user")
	f.installed(true)

	ok(t, s.Stop()) // does not run
	f.called()
	ok(t, s.Start())
	ok(t, s.Start())
	f.called("start --user kerbpass-proxy.service")
	f.status(s, userservice.Status{Installed: true, Running: true})
	f.set("state", "failed\n")
	f.status(s, userservice.Status{Installed: true, Detail: "failed"})
	f.set("state", "active\n")
	ok(t, s.Uninstall())
	f.called("stop --user kerbpass-proxy.service", "disable --user kerbpass-proxy.service", "daemon-reload --user")
	f.installed(false)
	f.status(s, userservice.Status{})
}

func TestFailedInstallLeavesNothing(t *testing.T) {
	for _, action := range []string{"show", "enable", "daemon-reload"} {
		t.Run(action, func(t *testing.T) {
			f := newFakeSystemd(t)
			s := f.service("/opt/kerbpass")
			f.set("fail-"+action, "")
			err := s.Install()
			if err == nil {
				t.Fatal("no error")
			}
			if action == "show" && !strings.Contains(err.Error(), "no medium") {
				t.Errorf("got %v, want what systemctl said", err)
			}
			f.installed(false)
			ok(t, os.Remove(filepath.Join(f.dir, "fail-"+action)))
			ok(t, s.Install())
			f.installed(true)
		})
	}
}

func TestNoSystemd(t *testing.T) {
	f := newFakeSystemd(t)
	t.Setenv("PATH", t.TempDir())
	if err := f.service("/opt/kerbpass").Install(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	f.installed(false)
}

func TestOtherServiceStays(t *testing.T) {
	f := newFakeSystemd(t)
	old, s := f.service("/old/kerbpass"), f.service("/new/kerbpass")
	ok(t, old.Install())
	f.calls()
	if err := s.Install(); !errors.Is(err, userservice.ErrDiffers) {
		t.Errorf("got %v", err)
	}
	f.called()
	f.status(s, userservice.Status{Installed: true, Stale: true})
	ok(t, s.Uninstall())
	ok(t, s.Install())
	f.status(s, userservice.Status{Installed: true})
}

func TestLinkIsLeftAlone(t *testing.T) {
	f := newFakeSystemd(t)
	s := f.service("/opt/kerbpass")
	precious := filepath.Join(f.dir, "precious")
	ok(t, os.MkdirAll(filepath.Dir(f.unit), 0o700))
	ok(t, os.Symlink(precious, f.unit)) // to nothing: the manager would make it
	for name, do := range map[string]func() error{"install": s.Install, "uninstall": s.Uninstall, "start": s.Start} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := os.Lstat(f.unit); err != nil {
		t.Errorf("the link is gone: %v", err)
	}
	if _, err := os.Stat(precious); err == nil {
		t.Error("written through a link")
	}
	f.called()
}

func TestPathsThatSystemdRefuses(t *testing.T) {
	for _, c := range []string{`"`, "'", `\`} {
		_, err := userservice.New(userservice.Config{Name: "x", Command: []string{"/opt/" + c + "/kerbpass"}})
		if err == nil || !strings.Contains(err.Error(), c) {
			t.Errorf("%s: got %v", c, err)
		}
	}
}

// systemd itself reads the unit without a complaint, and finds the program.
func TestSystemdTakesUnit(t *testing.T) {
	analyze := testenv.Tool(t, "systemd-analyze")
	f := newFakeSystemd(t)
	program := filepath.Join(f.dir, "a b%c$HOME{};é", "kerbpass")
	ok(t, os.Mkdir(filepath.Dir(program), 0o700))
	verify := func() (string, error) {
		cmd := exec.Command(analyze, "verify", "--user", "--man=no", f.unit)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+f.dir, "SYSTEMD_LOG_TARGET=console")
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	ok(t, f.service(program).Install())
	if said, _ := verify(); !strings.Contains(said, "is not executable") {
		t.Errorf("no program there, and systemd says %q", said)
	}
	ok(t, os.WriteFile(program, nil, 0o700))
	if said, err := verify(); err != nil || said != "" {
		t.Errorf("%v: %s", err, said)
	}
}
