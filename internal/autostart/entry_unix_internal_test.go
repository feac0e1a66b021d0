//go:build unix

package autostart

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// place is a home folder with one system's entries in it.
type place struct {
	*Entry
	t           *testing.T
	dir         string
	user, admin string // files
	render      func(command ...string) string
}

func (p *place) write(path, text string) {
	p.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) status(want Status) {
	p.t.Helper()
	got, err := p.Status()
	if err != nil {
		p.t.Fatal(err)
	}
	if got.Enabled != want.Enabled || got.By != want.By || got.Stale != want.Stale || !strings.Contains(got.Detail, want.Detail) {
		p.t.Errorf("got %+v, want %+v", got, want)
	}
	if got.Where != want.Where {
		p.t.Errorf("where: got %s, want %s", got.Where, want.Where)
	}
}

func (p *place) do(what func() error, want error) {
	p.t.Helper()
	if err := what(); !errors.Is(err, want) {
		p.t.Fatalf("got %v, want %v", err, want)
	}
}

func (p *place) text(path string) string {
	p.t.Helper()
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		p.t.Fatal(err)
	}
	return string(b)
}

// everywhere runs f on both systems that keep entries in files. Any Unix will
// do for either.
func everywhere(t *testing.T, f func(t *testing.T, p *place)) {
	config := func(t *testing.T, dir string) Config {
		cfg := app
		cfg.Command = []string{filepath.Join(dir, "here", "kerbpass")}
		cfg.Also = []string{"kerbpass.exe"}
		env := map[string]string{"HOME": dir, "XDG_CONFIG_DIRS": filepath.Join(dir, "empty") + ":" + filepath.Join(dir, "etc")}
		cfg.LookupEnv = func(k string) (string, bool) { v, ok := env[k]; return v, ok }
		return cfg
	}
	t.Run("xdg", func(t *testing.T) {
		dir := t.TempDir()
		cfg := config(t, dir)
		x, err := newXDG(cfg)
		if err != nil {
			t.Fatal(err)
		}
		f(t, &place{&Entry{cfg.Command, cfg.Also, x}, t, dir,
			filepath.Join(dir, ".config/autostart/kerbpass.desktop"), filepath.Join(dir, "etc/autostart/kerbpass.desktop"),
			func(command ...string) string {
				c := cfg
				c.Command = command
				return desktopEntry(c, shown)
			}})
	})
	t.Run("launchd", func(t *testing.T) {
		dir := t.TempDir()
		cfg := config(t, dir)
		l, err := newLaunchd(cfg)
		if err != nil {
			t.Fatal(err)
		}
		l.adminFile = filepath.Join(dir, "admin.plist")
		f(t, &place{&Entry{cfg.Command, cfg.Also, l}, t, dir, filepath.Join(dir, "Library/LaunchAgents/kerbpass.plist"), l.adminFile,
			func(command ...string) string { return LaunchAgent{Label: "kerbpass", Command: command}.Plist() }})
	})
}

func TestOnAndOff(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		p.status(Status{Where: p.user})
		p.do(p.Disable, nil) // nothing to do
		p.do(p.Repair, nil)  // never turns it on
		p.status(Status{Where: p.user})
		p.do(p.Enable, nil)
		p.status(Status{Enabled: true, By: ByUser, Where: p.user})
		before, err := os.Stat(p.user)
		if err != nil {
			t.Fatal(err)
		}
		if before.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, want owner-only", before.Mode())
		}
		p.do(p.Enable, nil)
		if after, err := os.Stat(p.user); err != nil || !os.SameFile(before, after) {
			t.Errorf("the second time it was written again (%v)", err)
		}
		p.do(p.Disable, nil)
		p.do(p.Disable, nil)
		p.status(Status{Where: p.user})
		if left, _ := os.ReadDir(filepath.Dir(p.user)); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

func TestMovedProgram(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		old := filepath.Join(p.dir, "old", "kerbpass")
		p.write(p.user, p.render(old))
		p.status(Status{Enabled: true, By: ByUser, Stale: true, Where: p.user, Detail: old})
		p.write(old, "still there")
		p.do(p.Repair, nil)
		if got, want := p.text(p.user), p.render(old); got != want {
			t.Errorf("the entry of a second copy was taken over: %s", got)
		}
		if err := os.Remove(old); err != nil {
			t.Fatal(err)
		}
		p.do(p.Repair, nil)
		p.status(Status{Enabled: true, By: ByUser, Where: p.user})

		p.write(p.user, p.render(old))
		p.do(p.Enable, nil)
		p.status(Status{Enabled: true, By: ByUser, Where: p.user})
	})
}

func TestForeignEntryStays(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		for _, command := range [][]string{{"/opt/other"}, {"/opt/kerbpass", "--mine"}} {
			text := p.render(command...)
			p.write(p.user, text)
			p.do(p.Enable, ErrForeign)
			p.do(p.Repair, nil)
			if got := p.text(p.user); got != text {
				t.Errorf("%q: overwritten with %s", command, got)
			}
			p.status(Status{Enabled: true, By: ByUser, Stale: true, Where: p.user, Detail: command[0]})
		}
		// Other options of ours may be turned off, other programs may not.
		p.do(p.Disable, nil)
		if got := p.text(p.user); got != "" {
			t.Errorf("still there: %s", got)
		}
		p.write(p.user, p.render("/opt/other"))
		p.do(p.Disable, ErrForeign)
		if got := p.text(p.user); got == "" {
			t.Error("another program's entry was removed")
		}
	})
}

func TestAdministratorsEntry(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		p.write(p.admin, p.render(p.command...))
		p.status(Status{Enabled: true, By: ByAdmin, Where: p.admin})
		p.do(p.Enable, nil)
		if got := p.text(p.user); got != "" {
			t.Errorf("a second entry was made: %s", got)
		}
		if !p.sys.shadows() {
			p.do(p.Disable, ErrByAdmin)
			p.status(Status{Enabled: true, By: ByAdmin, Where: p.admin})
			return
		}
		p.do(p.Disable, nil)
		p.status(Status{By: ByUser, Where: p.user, Detail: "Hidden"})
		p.do(p.Disable, nil)
		p.do(p.Repair, nil)
		p.status(Status{By: ByUser, Where: p.user, Detail: "Hidden"})
		p.do(p.Enable, nil)
		p.status(Status{Enabled: true, By: ByAdmin, Where: p.admin})
	})
}

// The administrator's entry starts another copy: the user's own replaces it.
func TestOwnCopyInsteadOfAdministrators(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		p.write(p.admin, p.render("/usr/bin/kerbpass"))
		p.status(Status{Enabled: true, By: ByAdmin, Stale: true, Where: p.admin, Detail: "/usr/bin/kerbpass"})
		p.do(p.Enable, nil)
		p.status(Status{Enabled: true, By: ByUser, Where: p.user})
	})
}

func TestHiddenEntryOfDesktopSettings(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		if !p.sys.shadows() {
			return // there is no such thing
		}
		p.write(p.user, "[Desktop Entry]\nHidden=true\n")
		p.status(Status{By: ByUser, Where: p.user, Detail: "Hidden"})
		p.do(p.Enable, nil)
		p.status(Status{Enabled: true, By: ByUser, Where: p.user})
		p.write(p.admin, "[Desktop Entry]\nHidden=true\nExec=kerbpass\n")
		p.do(p.Disable, nil)
		p.status(Status{By: ByAdmin, Where: p.admin, Detail: "Hidden"})
	})
}

func TestSurprises(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		elsewhere := filepath.Join(p.dir, "precious")
		p.write(elsewhere, p.render("/gone/kerbpass"))
		p.write(p.user, "")
		if err := errors.Join(os.Remove(p.user), os.Symlink(elsewhere, p.user)); err != nil {
			t.Fatal(err)
		}
		p.do(p.Enable, ErrNotRegular)
		p.do(p.Repair, ErrNotRegular)
		p.do(p.Disable, ErrNotRegular)
		if got, want := p.text(elsewhere), p.render("/gone/kerbpass"); got != want {
			t.Errorf("written through a link: %s", got)
		}
		if err := errors.Join(os.Remove(p.user), os.Mkdir(p.user, 0o700)); err != nil {
			t.Fatal(err)
		}
		p.do(p.Enable, ErrNotRegular)
		p.do(p.Disable, ErrNotRegular)
		if err := os.Remove(p.user); err != nil {
			t.Fatal(err)
		}
		p.write(p.user, strings.Repeat("#", maxFile+1))
		if err := p.Enable(); err == nil {
			t.Error("a file without end was read")
		}
	})
}

func TestFailedWriteLeavesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		p.write(filepath.Dir(p.user), "a file where the folder belongs")
		if err := p.Enable(); err == nil {
			t.Error("written without a folder")
		}
		if got := p.text(filepath.Dir(p.user)); got != "a file where the folder belongs" {
			t.Errorf("got %q", got)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	env := map[string]string{"HOME": t.TempDir()}
	for name, change := range map[string]func(*Config){
		"no id":            func(c *Config) { c.ID = "" },
		"path as id":       func(c *Config) { c.ID = "../x" },
		"dots as id":       func(c *Config) { c.ID = ".." },
		"no name":          func(c *Config) { c.Name = "" },
		"no command":       func(c *Config) { c.Command = nil },
		"line in the name": func(c *Config) { c.Name = "a\nExec=evil" },
		"line in an arg":   func(c *Config) { c.Command = []string{"/k", "a\nHidden=true"} },
		"not utf-8":        func(c *Config) { c.Command = []string{"/k\xff"} },
	} {
		cfg := app
		cfg.LookupEnv = func(k string) (string, bool) { v, ok := env[k]; return v, ok }
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestXDGFolders(t *testing.T) {
	folders := func(env map[string]string) (*xdg, error) {
		cfg := app
		cfg.LookupEnv = func(k string) (string, bool) { v, ok := env[k]; return v, ok }
		return newXDG(cfg)
	}
	x, err := folders(map[string]string{"HOME": "/h", "XDG_CONFIG_HOME": "relative", "XDG_CONFIG_DIRS": "relative:/a:/b"})
	if err != nil || x.userFile != "/h/.config/autostart/kerbpass.desktop" || strings.Join(x.adminFiles, " ") != "/a/autostart/kerbpass.desktop /b/autostart/kerbpass.desktop" {
		t.Errorf("got %+v, %v", x, err)
	}
	x, err = folders(map[string]string{"XDG_CONFIG_HOME": "/c"})
	if err != nil || x.userFile != "/c/autostart/kerbpass.desktop" || strings.Join(x.adminFiles, " ") != "/etc/xdg/autostart/kerbpass.desktop" {
		t.Errorf("got %+v, %v", x, err)
	}
	if _, err := folders(nil); err == nil {
		t.Error("accepted without a home")
	}
}

func TestPathsThatNoDesktopStarts(t *testing.T) {
	for _, c := range unstartable {
		cfg := app
		cfg.LookupEnv = func(string) (string, bool) { return "/h", true }
		cfg.Command = []string{"/opt/" + string(c) + "/kerbpass"}
		if _, err := newXDG(cfg); err == nil || !strings.ContainsRune(err.Error(), c) {
			t.Errorf("%c: got %v", c, err)
		}
	}
}

// An entry with another name of this program is ours: it is corrected, and goes
// when it is turned off.
func TestOtherName(t *testing.T) {
	everywhere(t, func(t *testing.T, p *place) {
		p.write(p.user, p.render("/elsewhere/KERBPASS.exe"))
		p.status(Status{Enabled: true, By: ByUser, Stale: true, Where: p.user, Detail: "KERBPASS.exe"})
		p.do(p.Enable, nil)
		p.status(Status{Enabled: true, By: ByUser, Where: p.user})
		p.write(p.user, p.render("/elsewhere/kerbpass.exe"))
		p.do(p.Disable, nil)
		p.status(Status{Where: p.user})
		p.write(p.user, p.render("/elsewhere/kerbpass-2.exe"))
		p.do(p.Disable, ErrForeign)
	})
}
