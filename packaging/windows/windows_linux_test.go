//go:build linux

// Package windows_test builds what is released for Windows and installs,
// upgrades and removes it under Wine.
package windows_test

import (
	"archive/zip"
	"bytes"
	"context"
	"debug/pe"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"kerbpass/internal/testenv"
)

const limit = time.Minute // for what takes a second or two

// release is where the builds are: first, again and next.
var release struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if release.dir != "" {
		os.RemoveAll(release.dir)
	}
	os.Exit(code)
}

// built builds 1.2.3 for both processors, the same again for one, and 1.2.4,
// and returns the folder of one of these.
func built(t *testing.T, which string) string {
	t.Helper()
	for _, tool := range []string{"bash", "git", "makensis", "wixl", "msibuild", "faketime"} {
		testenv.Tool(t, tool)
	}
	release.once.Do(func() {
		if release.dir, release.err = os.MkdirTemp("", "kerbpass-windows-"); release.err != nil {
			return
		}
		for _, b := range []struct{ name, args string }{
			{"first", "1.2.3 %s amd64 arm64"}, {"again", "1.2.3 %s amd64"}, {"next", "1.2.4 %s amd64"},
		} {
			ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
			args := strings.Fields(fmt.Sprintf(b.args, filepath.Join(release.dir, b.name)))
			cmd := exec.CommandContext(ctx, "./build", args...)
			cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "COMMIT=0123456789abcdef", "TMPDIR="+release.dir, "TZ=Asia/Tokyo")
			out, err := cmd.CombinedOutput()
			cancel()
			if err != nil {
				release.err = fmt.Errorf("build %q: %w\n%s", args, err, out)
				return
			}
		}
	})
	if release.err != nil {
		t.Fatal(release.err)
	}
	return filepath.Join(release.dir, which)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReproducible(t *testing.T) {
	first, again := built(t, "first"), built(t, "again")
	for _, kind := range []string{"-setup.exe", ".msi", ".zip"} {
		name := "kerbpass-1.2.3-windows-amd64" + kind
		if !bytes.Equal(read(t, filepath.Join(first, name)), read(t, filepath.Join(again, name))) {
			t.Errorf("%s differs from build to build", name)
		}
	}
}

// unpack unpacks the zip for arch into elsewhere of t and returns that.
func unpack(t *testing.T, arch string) string {
	t.Helper()
	z, err := zip.OpenReader(filepath.Join(built(t, "first"), "kerbpass-1.2.3-windows-"+arch+".zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	dir := t.TempDir()
	if err := os.CopyFS(dir, z); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "kerbpass-1.2.3")
}

func TestPrograms(t *testing.T) {
	for arch, machine := range map[string]uint16{"amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64} {
		dir := unpack(t, arch)
		for name, subsystem := range map[string]uint16{
			"kerbpass.exe": pe.IMAGE_SUBSYSTEM_WINDOWS_CUI, "kerbpassw.exe": pe.IMAGE_SUBSYSTEM_WINDOWS_GUI,
		} {
			f, err := pe.Open(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			header := f.OptionalHeader.(*pe.OptionalHeader64)
			if f.Machine != machine || header.Subsystem != subsystem {
				t.Errorf("%s %s: processor %#x, subsystem %d", arch, name, f.Machine, header.Subsystem)
			}
			section := f.Section(".rsrc")
			if section == nil {
				t.Fatalf("%s %s has no resources", arch, name)
			}
			data, err := section.Data()
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range [][]byte{
				[]byte(">PerMonitorV2, PerMonitor<"), []byte(">true</longPathAware>"), []byte(`level="asInvoker"`),
				wide("ProductVersion\x00"), wide("1.2.3\x00"), wide(name + "\x00"),
			} {
				if !bytes.Contains(data, want) {
					t.Errorf("%s %s: %q is not in the resources", arch, name, want)
				}
			}
			// The root of the resources names their kinds: icon, group of icons, version, manifest.
			kinds := map[uint32]bool{}
			for i := range int(binary.LittleEndian.Uint16(data[14:])) {
				kinds[binary.LittleEndian.Uint32(data[16+8*i:])] = true
			}
			for _, kind := range []uint32{3, 14, 16, 24} {
				if !kinds[kind] {
					t.Errorf("%s %s: no resource of kind %d", arch, name, kind)
				}
			}
		}
		for name, want := range map[string]string{"LICENSE.txt": "MIT", "licences.txt": "cobra"} {
			if text := read(t, filepath.Join(dir, name)); !bytes.Contains(text, []byte(want)) || !bytes.Contains(text, []byte("\r\n")) {
				t.Errorf("%s %s: %.80q", arch, name, text)
			}
		}
	}
}

func wide(s string) []byte {
	var b []byte
	for _, c := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

func TestSizes(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		st, err := os.Stat(filepath.Join(built(t, "first"), "kerbpass-1.2.3-windows-"+arch+"-setup.exe"))
		if err != nil {
			t.Fatal(err)
		}
		if st.Size() >= 6_000_000 {
			t.Errorf("the setup for %s has %d bytes", arch, st.Size())
		}
	}
}

// The codes by which Windows knows products from versions of them.
func TestMSICodes(t *testing.T) {
	info := func(which, name string) (product, upgrade, pack, template string) {
		path := filepath.Join(built(t, which), name)
		ask := func(args ...string) string {
			out, err := exec.CommandContext(t.Context(), testenv.Tool(t, "msiinfo"), args...).Output()
			if err != nil {
				t.Fatalf("msiinfo %q: %v", args, err)
			}
			return string(out)
		}
		for line := range strings.Lines(ask("export", path, "Property")) {
			switch key, value, _ := strings.Cut(strings.TrimSpace(line), "\t"); key {
			case "ProductCode":
				product = value
			case "UpgradeCode":
				upgrade = value
			}
		}
		for line := range strings.Lines(ask("suminfo", path)) {
			switch key, value, _ := strings.Cut(strings.TrimSpace(line), ": "); {
			case strings.HasPrefix(key, "Revision number"):
				pack = value
			case strings.HasPrefix(key, "Template"):
				template = value
			}
		}
		return product, upgrade, pack, template
	}
	product, upgrade, pack, template := info("first", "kerbpass-1.2.3-windows-amd64.msi")
	armProduct, armUpgrade, armPack, armTemplate := info("first", "kerbpass-1.2.3-windows-arm64.msi")
	nextProduct, nextUpgrade, nextPack, _ := info("next", "kerbpass-1.2.4-windows-amd64.msi")
	for _, code := range []string{product, upgrade, pack, armProduct, armPack, nextProduct, nextPack} {
		if len(code) != 38 || code != strings.ToUpper(code) {
			t.Errorf("%q is no code", code)
		}
	}
	if upgrade != armUpgrade || upgrade != nextUpgrade {
		t.Errorf("upgrade codes %s, %s, %s", upgrade, armUpgrade, nextUpgrade)
	}
	if product == armProduct || product == nextProduct || pack == armPack || pack == nextPack || pack == product {
		t.Error("two packages with one code")
	}
	if template != "x64;1033" || armTemplate != "Arm64;1033" {
		t.Errorf("templates %s, %s", template, armTemplate)
	}
}

// A computer is a Windows of its own, for what an installation changes.
type computer struct {
	*testenv.WinePrefix
	t       *testing.T
	env     []string
	roaming string // the Unix path of AppData\Roaming
	local   string // the same of AppData\Local
	config  []byte // the settings file that is there before and after
	other   string // kerbpass.exe of the zip
}

// newComputer copies the prefix that tests share. It has a screen, and a
// person with settings of their own.
func newComputer(t *testing.T) *computer {
	t.Helper()
	built(t, "first")
	shared := testenv.Wine(t)
	prefix := *shared
	prefix.Dir = t.TempDir()
	if err := clone(prefix.Dir, shared.Dir); err != nil {
		t.Fatal(err)
	}
	c := &computer{WinePrefix: &prefix, t: t, other: filepath.Join(unpack(t, "amd64"), "kerbpass.exe")}
	c.env = prefix.Env("DISPLAY=" + testenv.Screen(t))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		for _, flag := range []string{"-k", "-w"} { // end all that runs there, and wait for it
			cmd := exec.CommandContext(ctx, testenv.Tool(t, "wineserver"), flag)
			cmd.Env = prefix.Env()
			cmd.Run()
		}
	})
	home := c.unix(strings.TrimSpace(c.run("cmd", "/c", "echo %USERPROFILE%")))
	c.roaming, c.local = filepath.Join(home, "AppData/Roaming"), filepath.Join(home, "AppData/Local")
	c.config = []byte("# mine\nlisten = [\"127.0.0.1:0\"]\n")
	for _, dir := range []string{"kerbpass", "."} {
		if err := os.MkdirAll(filepath.Join(c.roaming, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(c.roaming, "kerbpass/config.toml"), c.config, 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// clone copies a prefix. Its 700 MB of programs are linked; the server would
// write a registry of two names in place.
func clone(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // of another test
			}
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o755)
		case d.Type() == fs.ModeSymlink:
			dest, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(dest, target)
		case !d.Type().IsRegular():
			return nil
		case strings.HasPrefix(rel, "drive_c/windows/"):
			err = os.Link(path, target)
		default:
			var b []byte
			if b, err = os.ReadFile(path); err == nil {
				err = os.WriteFile(target, b, 0o644)
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
}

func (c *computer) unix(path string) string {
	rest, ok := strings.CutPrefix(path, `C:\`)
	if !ok {
		c.t.Fatalf("%q is not on drive C", path)
	}
	return filepath.Join(c.Dir, "drive_c", strings.ReplaceAll(rest, `\`, "/"))
}

func dos(path string) string { return `Z:` + strings.ReplaceAll(path, "/", `\`) }

// run runs a program, waits for it, and returns what it prints.
func (c *computer) run(program string, args ...string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*limit)
	defer cancel()
	cmd := c.Command(ctx, program, args...)
	cmd.Env = c.env
	out, err := os.Create(filepath.Join(c.t.TempDir(), "out"))
	if err != nil {
		c.t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Run()
	if ctx.Err() != nil {
		c.t.Fatalf("%s %q does not end", program, args)
	}
	return string(read(c.t, out.Name()))
}

// start starts a program; what it returns is closed when that has ended.
func (c *computer) start(program string, args ...string) <-chan struct{} {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := c.Command(ctx, program, args...)
	cmd.Env = c.env
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	c.t.Cleanup(func() { cancel(); <-ended })
	return ended
}

func (c *computer) until(what string, f func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(limit); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("not within %v: %s", limit, what)
		}
	}
}

// running is the version of the helper that runs, "" if none does.
func (c *computer) running() string {
	var state struct {
		Version string
		Proxy   struct{ State string }
	}
	if err := json.Unmarshal([]byte(c.run(c.other, "status", "--json")), &state); err != nil || state.Proxy.State != "listening" {
		return ""
	}
	return state.Version
}

// value reads the registry; "" is none.
func (c *computer) value(key, name string) string {
	c.t.Helper()
	for line := range strings.Lines(c.run("reg", "query", key, "/v", name)) {
		if before, value, ok := strings.Cut(line, "REG_SZ"); ok && strings.TrimSpace(before) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func (c *computer) is(what, got, want string) {
	c.t.Helper()
	if got != want {
		c.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func (c *computer) exists(want bool, paths ...string) {
	c.t.Helper()
	for _, path := range paths {
		if _, err := os.Lstat(path); (err == nil) != want {
			c.t.Errorf("%s: there %t, want %t", path, err == nil, want)
		}
	}
}

// answers asks the installed program for its version.
func (c *computer) answers(dir, version string) {
	c.t.Helper()
	if out := c.run(filepath.Join(dir, "kerbpass.exe"), "version"); !strings.Contains(out, version) {
		c.t.Errorf("version: got %q, want %s", out, version)
	}
}

const (
	run       = `\Software\Microsoft\Windows\CurrentVersion\Run`
	uninstall = `\Software\Microsoft\Windows\CurrentVersion\Uninstall\`
)

func TestSetup(t *testing.T) {
	c := newComputer(t)
	dir := filepath.Join(c.local, "Programs/Kerbpass")
	files := []string{"kerbpass.exe", "kerbpassw.exe", "LICENSE.txt", "licences.txt", "uninstall.exe"}
	for i := range files {
		files[i] = filepath.Join(dir, files[i])
	}
	shortcut := filepath.Join(c.roaming, "Microsoft/Windows/Start Menu/Programs/Kerbpass.lnk")

	c.run(filepath.Join(built(t, "first"), "kerbpass-1.2.3-windows-amd64-setup.exe"), "/S")
	c.exists(true, append(files, shortcut)...)
	if !bytes.Contains(read(t, shortcut), []byte("kerbpassw.exe")) && !bytes.Contains(read(t, shortcut), wide("kerbpassw.exe")) {
		t.Error("the shortcut does not name kerbpassw.exe")
	}
	c.answers(dir, "1.2.3")
	c.is("DisplayVersion", c.value(`HKCU`+uninstall+"Kerbpass", "DisplayVersion"), "1.2.3")
	c.is("QuietUninstallString", c.unix(strings.TrimSuffix(strings.TrimPrefix(c.value(`HKCU`+uninstall+"Kerbpass", "QuietUninstallString"), `"`), `" /S`)), files[4])
	c.is("start at login", c.value(`HKCU`+run, "kerbpass"), "")
	c.is("helper", c.running(), "")

	// The console's program writes the windowed one into the entry.
	c.run(files[0], "autostart", "on")
	entry := strings.Trim(c.value(`HKCU`+run, "kerbpass"), `"`)
	c.is("start at login", c.unix(entry), files[1])

	ended := c.start(files[1])
	c.until("the helper runs", func() bool { return c.running() == "1.2.3" })
	c.run(filepath.Join(built(t, "next"), "kerbpass-1.2.4-windows-amd64-setup.exe"), "/S")
	<-ended
	c.answers(dir, "1.2.4")
	c.until("the new helper runs", func() bool { return c.running() == "1.2.4" })
	c.is("DisplayVersion", c.value(`HKCU`+uninstall+"Kerbpass", "DisplayVersion"), "1.2.4")
	c.is("start at login", c.value(`HKCU`+run, "kerbpass"), `"`+entry+`"`)
	left, err := filepath.Glob(filepath.Join(dir, "*.old"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}

	// It goes on from a copy of itself, so that it can remove itself.
	c.run(files[4], "/S")
	c.until("the entry is gone", func() bool { return c.value(`HKCU`+uninstall+"Kerbpass", "DisplayVersion") == "" })
	c.exists(false, dir, shortcut, filepath.Join(c.local, "kerbpass"))
	c.is("start at login", c.value(`HKCU`+run, "kerbpass"), "")
	c.is("helper", c.running(), "")
	c.is("settings", string(read(t, filepath.Join(c.roaming, "kerbpass/config.toml"))), string(c.config))
}

// A value at login that another program wrote stays, and /AUTOSTART and /D do
// what they say.
func TestSetupSwitches(t *testing.T) {
	c := newComputer(t)
	setup := filepath.Join(built(t, "first"), "kerbpass-1.2.3-windows-amd64-setup.exe")
	dir := filepath.Join(c.Dir, "drive_c/elsewhere")
	c.run(setup, "/S", "/AUTOSTART=1", `/D=C:\elsewhere`)
	c.exists(true, filepath.Join(dir, "kerbpassw.exe"))
	c.is("start at login", c.value(`HKCU`+run, "kerbpass"), `"C:\elsewhere\kerbpassw.exe"`)
	if err := os.WriteFile(filepath.Join(dir, "mine.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	c.run("reg", "add", `HKCU`+run, "/v", "kerbpass", "/d", `C:\other.exe`, "/f")
	c.run(filepath.Join(dir, "uninstall.exe"), "/S")
	c.until("the entry is gone", func() bool { return c.value(`HKCU`+uninstall+"Kerbpass", "DisplayVersion") == "" })
	c.exists(false, filepath.Join(dir, "kerbpass.exe"), filepath.Join(dir, "uninstall.exe"))
	c.exists(true, filepath.Join(dir, "mine.txt"))
	c.is("start at login", c.value(`HKCU`+run, "kerbpass"), `C:\other.exe`)
}

func TestMSI(t *testing.T) {
	c := newComputer(t)
	dir := filepath.Join(c.Dir, "drive_c/Program Files/Kerbpass")
	shortcut := filepath.Join(c.roaming, "Microsoft/Windows/Start Menu/Programs/Kerbpass.lnk") // Windows puts it into everybody's
	first := dos(filepath.Join(built(t, "first"), "kerbpass-1.2.3-windows-amd64.msi"))
	next := dos(filepath.Join(built(t, "next"), "kerbpass-1.2.4-windows-amd64.msi"))
	versions := func() string { // of all entries to remove it
		var all []string
		key := ""
		for line := range strings.Lines(c.run("reg", "query", strings.TrimSuffix(`HKLM`+uninstall, `\`), "/s")) {
			line = strings.TrimSpace(line)
			if strings.HasPrefix(line, "HKEY") {
				key = line
			}
			if name, value, ok := strings.Cut(line, "REG_SZ"); ok && strings.TrimSpace(name) == "DisplayName" && strings.TrimSpace(value) == "Kerbpass" {
				all = append(all, c.value(key, "DisplayVersion"))
			}
		}
		return strings.Join(all, " ")
	}
	atLogin := func() string { return c.value(`HKLM`+run, "kerbpass") }
	const entry = `"C:\Program Files\Kerbpass\kerbpassw.exe"`

	c.run("msiexec", "/i", first, "/qn")
	c.exists(true, filepath.Join(dir, "kerbpass.exe"), filepath.Join(dir, "kerbpassw.exe"), filepath.Join(dir, "LICENSE.txt"), filepath.Join(dir, "licences.txt"), shortcut)
	c.answers(dir, "1.2.3")
	c.is("entries", versions(), "1.2.3")
	c.is("start at login", atLogin(), "")
	c.run("msiexec", "/x", first, "/qn")
	c.exists(false, dir, shortcut)
	c.is("entries", versions(), "")

	c.run("msiexec", "/i", first, "/qn", "AUTOSTART=1")
	c.is("start at login", atLogin(), entry)
	ended := c.start(filepath.Join(dir, "kerbpassw.exe"))
	c.until("the helper runs", func() bool { return c.running() == "1.2.3" })
	c.run("msiexec", "/i", next, "/qn")
	<-ended
	c.answers(dir, "1.2.4")
	c.is("entries", versions(), "1.2.4")
	c.is("start at login, as before", atLogin(), entry)

	c.run("msiexec", "/i", first, "/qn")
	c.answers(dir, "1.2.4")
	c.is("entries after an older one", versions(), "1.2.4")

	c.run("msiexec", "/x", next, "/qn")
	c.exists(false, dir, shortcut)
	c.is("entries", versions(), "")
	c.is("start at login", atLogin(), "")
	c.is("settings", string(read(t, filepath.Join(c.roaming, "kerbpass/config.toml"))), string(c.config))
}
