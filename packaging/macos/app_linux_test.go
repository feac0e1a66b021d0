//go:build linux

// Package macos_test builds Kerbpass.app and looks into it. Nothing here can run
// it.
package macos_test

import (
	"archive/zip"
	"bytes"
	"context"
	"debug/buildinfo"
	"debug/macho"
	"encoding/binary"
	"encoding/xml"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// build runs the script and returns what it put where, and what it said.
func build(t *testing.T, env ...string) (files map[string][]byte, said string) {
	t.Helper()
	testenv.Tool(t, "git")
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	dir := t.TempDir()
	cmd := exec.CommandContext(ctx, testenv.Tool(t, "bash"), "./build", "1.2.3-rc.1", dir)
	cmd.Env = append(append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000", "COMMIT=0123456789abcdef", "TMPDIR="+t.TempDir()), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	files = map[string][]byte{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if files[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return files, string(out)
}

const without, with = "kerbpass-1.2.3-rc.1-macos-without-tray.zip", "kerbpass-1.2.3-rc.1-macos.zip"

func TestApp(t *testing.T) {
	files, said := build(t)
	if len(files) != 1 || files[without] == nil {
		t.Fatalf("got %d files, no %s", len(files), without)
	}
	if !strings.Contains(said, "NO TRAY") {
		t.Errorf("a build without tray says %q", said)
	}
	again, _ := build(t)
	if !bytes.Equal(files[without], again[without]) {
		t.Error("the zip differs from build to build")
	}

	app := unzip(t, files[without])
	program := app["Contents/MacOS/kerbpass"]
	thin := checkPrograms(t, program)
	checkPlist(t, app["Contents/Info.plist"], app)
	checkIcons(t, app["Contents/Resources/Kerbpass.icns"])
	for name, want := range map[string]string{"LICENSE.txt": "MIT", "licences.txt": "cobra"} {
		if !bytes.Contains(app["Contents/Resources/"+name], []byte(want)) {
			t.Errorf("%s: %.80q", name, app["Contents/Resources/"+name])
		}
	}

	// Programs that are given, from here as if from a Mac, are taken as they are.
	dir := t.TempDir()
	env := []string{"PROGRAMS=" + filepath.Join(dir, "bill")}
	if err := os.Mkdir(filepath.Join(dir, "bill"), 0o700); err != nil {
		t.Fatal(err)
	}
	for arch, b := range thin {
		if err := os.WriteFile(filepath.Join(dir, arch), b, 0o700); err != nil {
			t.Fatal(err)
		}
		env = append(env, "PROGRAM_"+strings.ToUpper(arch)+"="+filepath.Join(dir, arch))
	}
	files, said = build(t, env...)
	if len(files) != 1 || files[with] == nil || strings.Contains(said, "NO TRAY") {
		t.Fatalf("got %d files, no %s: %s", len(files), with, said)
	}
	if !bytes.Equal(unzip(t, files[with])["Contents/MacOS/kerbpass"], program) {
		t.Error("the given programs were changed")
	}
	for arch, want := range thin {
		if got, err := os.ReadFile(filepath.Join(dir, "bill", "darwin-"+arch+"-kerbpass")); err != nil || !bytes.Equal(got, want) {
			t.Errorf("the %s program is not where the bill of materials is made from: %v", arch, err)
		}
	}
}

// unzip returns the files of Kerbpass.app by their path in it. Nothing else may
// be in the zip, and only the program may be run.
func unzip(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	app := map[string][]byte{}
	for _, f := range z.File {
		name, ok := strings.CutPrefix(f.Name, "Kerbpass.app/")
		if !ok {
			t.Errorf("%s is beside the app", f.Name)
		}
		if f.FileInfo().IsDir() {
			continue
		}
		if runs := f.Mode()&0o111 != 0; runs != (name == "Contents/MacOS/kerbpass") || !f.Mode().IsRegular() {
			t.Errorf("%s: mode %v", name, f.Mode())
		}
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if app[name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	return app
}

// checkPrograms returns the programs in the universal one, by GOARCH.
func checkPrograms(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	f, err := macho.NewFatFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string][]byte{}
	for _, a := range f.Arches {
		arch := map[macho.Cpu]string{macho.CpuAmd64: "amd64", macho.CpuArm64: "arm64"}[a.FatArchHeader.Cpu]
		if a.Cpu != a.FatArchHeader.Cpu || a.Type != macho.TypeExec || a.Align != 14 || a.Offset%(1<<14) != 0 {
			t.Errorf("%s: %+v %+v", arch, a.FatArchHeader, a.FileHeader)
		}
		if s := a.Segment("__TEXT"); s == nil || s.Addr == 0 {
			t.Errorf("%s: no __TEXT", arch)
		}
		programs[arch] = b[a.Offset : a.Offset+a.Size]
		info, err := buildinfo.Read(bytes.NewReader(programs[arch]))
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "GOARCH" })
		if i < 0 || info.Settings[i].Value != arch {
			t.Errorf("the program for %s is another's: %v", arch, info.Settings)
		}
		// LC_CODE_SIGNATURE; without it macOS on Apple's processors kills the program.
		signed := slices.ContainsFunc(a.Loads, func(l macho.Load) bool { return binary.LittleEndian.Uint32(l.Raw()) == 0x1d })
		if arch == "arm64" && !signed {
			t.Error("the program for arm64 is not signed")
		}
	}
	if len(programs) != 2 || programs["amd64"] == nil || programs["arm64"] == nil {
		t.Fatalf("got %d programs", len(programs))
	}
	return programs
}

func checkPlist(t *testing.T, b []byte, app map[string][]byte) {
	t.Helper()
	values := plist(t, b)
	for key, want := range map[string]string{
		"CFBundleIdentifier": "io.github.kerbpass.kerbpass", "CFBundlePackageType": "APPL", "LSUIElement": "true",
		"CFBundleShortVersionString": "1.2.3", "CFBundleVersion": "1.2.3",
	} {
		if values[key] != want {
			t.Errorf("%s: got %q, want %q", key, values[key], want)
		}
	}
	for _, name := range []string{"Contents/MacOS/" + values["CFBundleExecutable"], "Contents/Resources/" + values["CFBundleIconFile"] + ".icns"} {
		if app[name] == nil {
			t.Errorf("Info.plist names %s, which is not there", name)
		}
	}
}

// plist reads the values at the top of a property list; those without text are
// their element's name.
func plist(t *testing.T, b []byte) map[string]string {
	t.Helper()
	type element struct {
		XMLName xml.Name
		Text    string    `xml:",chardata"`
		Inner   []element `xml:",any"`
	}
	var doc struct {
		XMLName xml.Name `xml:"plist"`
		Dict    struct {
			Inner []element `xml:",any"`
		} `xml:"dict"`
	}
	if err := xml.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for pair := range slices.Chunk(doc.Dict.Inner, 2) {
		if len(pair) != 2 || pair[0].XMLName.Local != "key" || pair[1].XMLName.Local == "key" {
			t.Fatalf("no pair of key and value: %+v", pair)
		}
		v := pair[1]
		if v.XMLName.Local != "string" {
			v.Text = v.XMLName.Local
		}
		values[pair[0].Text] = v.Text
	}
	return values
}

func checkIcons(t *testing.T, b []byte) {
	t.Helper()
	if len(b) < 8 || string(b[:4]) != "icns" || int(binary.BigEndian.Uint32(b[4:])) != len(b) {
		t.Fatalf("no icons: %.8q of %d bytes", b, len(b))
	}
	sizes := map[string]int{"icp4": 16, "icp5": 32, "ic11": 32, "icp6": 64, "ic12": 64, "ic07": 128, "ic08": 256, "ic13": 256, "ic09": 512, "ic14": 512}
	for b = b[8:]; len(b) > 0; {
		name, size := string(b[:4]), binary.BigEndian.Uint32(b[4:])
		picture, err := png.Decode(bytes.NewReader(b[8:size]))
		if err != nil {
			t.Fatal(err)
		}
		if got := picture.Bounds().Dx(); got != sizes[name] {
			t.Errorf("%s has %d pixels, want %d", name, got, sizes[name])
		}
		delete(sizes, name)
		b = b[size:]
	}
	if len(sizes) > 0 {
		t.Errorf("missing: %v", sizes)
	}
}

// The entitlements ask for no exception from the hardened runtime.
func TestEntitlements(t *testing.T) {
	b, err := os.ReadFile("kerbpass.entitlements")
	if err != nil {
		t.Fatal(err)
	}
	if values := plist(t, b); len(values) != 0 {
		t.Errorf("got %v", values)
	}
}
