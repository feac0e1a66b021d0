//go:build linux

package linux_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"kerbpass/internal/testenv"
)

const (
	root    = "../.."
	version = "1.2.3"
	commit  = "0123456789abcdef0123456789abcdef01234567"
	epoch   = "1700000000" // 2023-11-14
)

// What the program may have in bytes. 12 MB were planned: the tray's D-Bus, and the JavaScript of
// configuration scripts, find methods by name at run time, so that the linker keeps them all.
const maxProgram = 23_000_000

var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "kerbpass-packages-"); err != nil {
		panic(err)
	}
	os.Chmod(scratch, 0o755)
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// build runs packaging/build of the source in dir; env says which part.
func build(dir, version, out string, env ...string) error {
	cmd := exec.Command(filepath.Join(dir, "packaging/build"), version, "linux", "--out", out)
	cmd.Env = append(append(os.Environ(), "SOURCE_DATE_EPOCH="+epoch, "COMMIT="+commit), env...)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("packaging/build: %w\n%s", err, said)
	}
	return nil
}

var everything = sync.OnceValues(func() (string, error) {
	out := filepath.Join(scratch, "all")
	return out, build(root, version, out)
})

// packages builds all packages for Linux, once, and returns their folder.
func packages(t *testing.T) string {
	t.Helper()
	for _, tool := range []string{"bash", "tar", "gzip", "sha256sum"} {
		testenv.Tool(t, tool)
	}
	out, err := everything()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

// say runs a program, which must succeed, and returns what it says.
func say(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	return say(t, exec.Command(testenv.Tool(t, name), args...))
}

// unpack unpacks a package of any format into a new folder and returns it.
func unpack(t *testing.T, file string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.Chmod(to, 0o755))
	switch {
	case strings.HasSuffix(file, ".deb"):
		tool(t, "dpkg-deb", "-x", file, to)
	case strings.HasSuffix(file, ".rpm"):
		in, err := os.Open(file)
		must(t, err)
		defer in.Close()
		cmd := exec.Command(testenv.Tool(t, "rpm2archive"), "-")
		cmd.Stdin = in
		var said bytes.Buffer
		cmd.Stderr = &said
		archive, err := cmd.Output()
		if err != nil {
			t.Fatalf("rpm2archive: %v\n%s", err, &said)
		}
		untar(t, bytes.NewReader(archive), to)
	default:
		in, err := os.Open(file)
		must(t, err)
		defer in.Close()
		untar(t, in, to)
	}
	return to
}

// untar unpacks what has only folders and files, which must be root's and like
// those of a system.
func untar(t *testing.T, in io.Reader, to string) {
	t.Helper()
	plain, err := gzip.NewReader(in)
	must(t, err)
	for r := tar.NewReader(plain); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		must(t, err)
		name := filepath.Join(to, filepath.FromSlash(h.Name))
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o7022 != 0 || !filepath.IsLocal(filepath.Clean(strings.TrimPrefix(h.Name, "/"))) {
			t.Errorf("%s: owner %d:%d, mode %o", h.Name, h.Uid, h.Gid, h.Mode)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			must(t, os.MkdirAll(name, 0o755))
		case tar.TypeReg:
			must(t, os.MkdirAll(filepath.Dir(name), 0o755))
			data, err := io.ReadAll(r)
			must(t, err)
			must(t, os.WriteFile(name, data, h.FileInfo().Mode().Perm()))
		default:
			t.Errorf("%s is neither a file nor a folder", h.Name)
		}
	}
}

// files returns the files below dir, as slash-separated relative paths.
func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, name)
			names = append(names, filepath.ToSlash(rel))
		}
		return err
	}))
	return names
}

var flavours = []string{"kerbpass", "kerbpass-static"}

func TestAllIsBuiltAndSummed(t *testing.T) {
	out := packages(t)
	want := []string{"SHA256SUMS", "kerbpass-" + version + ".cdx.json", "kerbpass-" + version + "-policies.zip"}
	for _, p := range flavours {
		for deb, other := range map[string]string{"amd64": "x86_64", "arm64": "aarch64"} {
			want = append(want, p+"_"+version+"_"+deb+".deb", p+"-"+version+"-1."+other+".rpm", p+"_"+version+"_"+other+".apk", p+"-"+version+"-linux-"+deb+".tar.gz")
		}
	}
	slices.Sort(want)
	got := files(t, out)
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	sums := read(t, filepath.Join(out, "SHA256SUMS"))
	if n := strings.Count(sums, "\n"); n != len(want)-1 {
		t.Errorf("%d sums for %d files:\n%s", n, len(want)-1, sums)
	}
	check := exec.Command(testenv.Tool(t, "sha256sum"), "--check", "--strict", "SHA256SUMS")
	check.Dir = out
	say(t, check)
}

// The same source in another folder, without its history, gives the same bytes.
// It is one program in all formats; the rest goes the same way.
func TestReproducible(t *testing.T) {
	out := packages(t)
	copied := filepath.Join(scratch, "another folder")
	must(t, filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		to := filepath.Join(copied, rel)
		switch {
		case d.IsDir() && (d.Name() == ".git" || rel == "dist"):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		case !d.Type().IsRegular():
			return nil // of a worktree, or what an editor left
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(to, data, info.Mode().Perm()&0o700)
	}))
	again := filepath.Join(scratch, "again")
	must(t, build(copied, version, again, "ARCHES=amd64", "FLAVOURS=normal", "HOSTNAME=other", "USER=other", "TZ=Asia/Tokyo", "LANG=tr_TR.UTF-8"))
	compared := 0
	for _, name := range files(t, again) {
		if name == "SHA256SUMS" || strings.HasSuffix(name, ".json") { // of fewer programs
			continue
		}
		compared++
		if read(t, filepath.Join(again, name)) != read(t, filepath.Join(out, name)) {
			t.Errorf("%s has other bytes when it is built in another folder", name)
		}
	}
	if compared != 5 { // the formats, and the policies
		t.Errorf("%d files compared, want 5", compared)
	}
}

// shared are the files of every package below its prefix, but for the manual,
// the icons and the completion of zsh, whose folder differs.
var shared = []string{
	"bin/kerbpass", "share/applications/kerbpass.desktop", "share/metainfo/kerbpass.metainfo.xml",
	"share/bash-completion/completions/kerbpass", "share/fish/vendor_completions.d/kerbpass.fish",
	"share/icons/hicolor/scalable/apps/kerbpass.svg", "share/icons/hicolor/symbolic/apps/kerbpass-symbolic.svg",
	"share/icons/hicolor/48x48/apps/kerbpass.png", "share/icons/hicolor/512x512/apps/kerbpass.png",
	"share/man/man1/kerbpass.1.gz", "share/man/man1/kerbpass-bypass-add.1.gz",
}

func TestContents(t *testing.T) {
	out := packages(t)
	for _, p := range flavours {
		for _, tt := range []struct{ file, prefix, zsh, unit string }{
			{p + "_" + version + "_amd64.deb", "usr/", "vendor-completions", "usr/lib/systemd/user/kerbpass-proxy.service"},
			{p + "_" + version + "_arm64.deb", "usr/", "vendor-completions", "usr/lib/systemd/user/kerbpass-proxy.service"},
			{p + "-" + version + "-1.x86_64.rpm", "usr/", "site-functions", "usr/lib/systemd/user/kerbpass-proxy.service"},
			{p + "_" + version + "_x86_64.apk", "usr/", "site-functions", ""},
			{p + "-" + version + "-linux-amd64.tar.gz", p + "-" + version + "-linux-amd64/", "site-functions", ""},
		} {
			t.Run(tt.file, func(t *testing.T) {
				dir := unpack(t, filepath.Join(out, tt.file))
				got := files(t, dir)
				want := []string{tt.prefix + "share/zsh/" + tt.zsh + "/_kerbpass"}
				if tt.unit != "" {
					want = append(want, tt.unit)
				}
				for _, name := range append(shared, "share/doc/"+p+"/copyright", "share/doc/"+p+"/docs/licences.md") {
					want = append(want, tt.prefix+name)
				}
				if _, err := os.Stat("policy.toml"); err == nil {
					want = append(want, tt.prefix+"share/doc/"+p+"/examples/policy.toml")
				}
				for _, name := range want {
					if !slices.Contains(got, name) {
						t.Errorf("%s is missing", name)
					}
				}
				for _, name := range got {
					// Nothing that a package would start, or that counts as what an administrator has set.
					if !strings.HasPrefix(name, tt.prefix) && name != ".PKGINFO" || strings.Contains(name, "autostart/") || strings.Contains(name, ".wants/") {
						t.Errorf("%s does not belong here", name)
					}
				}
				info, err := os.Stat(filepath.Join(dir, tt.prefix+"bin/kerbpass"))
				must(t, err)
				if info.Size() > maxProgram || info.Mode() != 0o755 {
					t.Errorf("the program has %d bytes and mode %v; allowed are %d", info.Size(), info.Mode(), maxProgram)
				}
			})
		}
	}
}

// Each package runs nothing when it comes or goes, and says of itself what its
// system must know.
func TestMetadata(t *testing.T) {
	out := packages(t)
	field := func(deb, name string) string { return strings.TrimSpace(tool(t, "dpkg-deb", "-f", deb, name)) }
	for i, p := range flavours {
		other := flavours[1-i]
		deb := filepath.Join(out, p+"_"+version+"_amd64.deb")
		control := t.TempDir()
		tool(t, "dpkg-deb", "-e", deb, control)
		if got := files(t, control); !slices.Equal(got, []string{"control", "md5sums"}) {
			t.Errorf("%s has %q beside its data", deb, got)
		}
		if field(deb, "Package") != p || field(deb, "Version") != version || field(deb, "Conflicts") != other || field(deb, "Architecture") != "amd64" {
			t.Errorf("%s:\n%s", deb, field(deb, ""))
		}
		if depends, static := field(deb, "Depends"), p == "kerbpass-static"; (depends == "") != static {
			t.Errorf("%s depends on %q", deb, depends)
		}
		if arm := field(filepath.Join(out, p+"_"+version+"_arm64.deb"), "Architecture"); arm != "arm64" {
			t.Errorf("the package for arm64 is for %s", arm)
		}

		rpm := filepath.Join(out, p+"-"+version+"-1.x86_64.rpm")
		database := t.TempDir()
		query := func(what ...string) string {
			return strings.TrimSpace(tool(t, "rpm", append([]string{"--dbpath", database, "-qp", "--nosignature"}, append(what, rpm)...)...))
		}
		if scripts := query("--scripts", "--triggers", "--filetriggers"); scripts != "" {
			t.Errorf("%s has scripts:\n%s", rpm, scripts)
		}
		if got := query("--qf", "%{NAME} %{VERSION} %{LICENSE} %{ARCH}", "--conflicts"); got != p+" "+version+" MIT x86_64"+other {
			t.Errorf("%s: got %q", rpm, got)
		}
		if config := query("--configfiles"); config != "" {
			t.Errorf("%s owns settings:\n%s", rpm, config)
		}

		apk := read(t, filepath.Join(unpack(t, filepath.Join(out, p+"_"+version+"_x86_64.apk")), ".PKGINFO"))
		for _, line := range []string{"pkgname = " + p, "pkgver = " + version, "arch = x86_64", "depend = !" + other} {
			if !strings.Contains("\n"+apk, "\n"+line+"\n") {
				t.Errorf("the apk does not say %q:\n%s", line, apk)
			}
		}
	}
}

// What the program needs of a system is what the package says: the static one
// runs where there is nothing else.
func TestRuns(t *testing.T) {
	testenv.Root(t)
	out := packages(t)
	for _, file := range []string{"_" + version + "_amd64.deb", "-" + version + "-1.x86_64.rpm", "_" + version + "_x86_64.apk", "-" + version + "-linux-amd64.tar.gz"} {
		for _, p := range flavours {
			t.Run(p+file, func(t *testing.T) {
				dir := unpack(t, filepath.Join(out, p+file))
				bin := filepath.Join("/", "usr", "bin", "kerbpass")
				if strings.HasSuffix(file, ".tar.gz") {
					bin = filepath.Join("/", p+"-"+version+"-linux-amd64", "bin", "kerbpass")
				}
				cmd := exec.Command(filepath.Join(dir, bin))
				if p == "kerbpass-static" {
					must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o777))
					cmd = exec.Command(testenv.Tool(t, "chroot"), dir, bin)
				}
				cmd.Env = []string{"HOME=/nonexistent", "PATH=/usr/bin:/bin"}
				about := *cmd
				about.Args = append(slices.Clone(cmd.Args), "version", "--json")
				var said struct{ Version, Commit, Date, Platform string }
				must(t, json.Unmarshal([]byte(say(t, &about)), &said))
				if said.Version != version || said.Commit != commit || said.Date != "2023-11-14T22:13:20Z" || said.Platform != "linux/amd64" {
					t.Errorf("got %+v", said)
				}
				cmd.Args = append(cmd.Args, "demo", "--once")
				say(t, cmd)
			})
		}
	}
}

// The readers of a desktop, a shell and a manual find nothing to complain of.
func TestFilesForTheDesktop(t *testing.T) {
	dir := filepath.Join(unpack(t, filepath.Join(packages(t), "kerbpass_"+version+"_amd64.deb")), "usr")
	share := filepath.Join(dir, "share")
	tool(t, "appstreamcli", "validate", "--no-net", filepath.Join(share, "metainfo/kerbpass.metainfo.xml"))
	if !strings.Contains(read(t, filepath.Join(share, "metainfo/kerbpass.metainfo.xml")), `<release version="`+version+`" date="2023-11-14"/>`) {
		t.Error("the metainfo does not name this release")
	}
	if said := tool(t, "desktop-file-validate", filepath.Join(share, "applications/kerbpass.desktop")); said != "" {
		t.Errorf("the desktop file: %s", said)
	}
	tool(t, "bash", "-n", filepath.Join(share, "bash-completion/completions/kerbpass"))

	// The condition of systemd-analyze is a program where the unit says, and a manager's folder.
	unit := filepath.Join(t.TempDir(), "kerbpass-proxy.service")
	text := read(t, filepath.Join(dir, "lib/systemd/user/kerbpass-proxy.service"))
	must(t, os.WriteFile(unit, []byte(strings.ReplaceAll(text, "/usr/bin/kerbpass", filepath.Join(dir, "bin/kerbpass"))), 0o644))
	verify := exec.Command(testenv.Tool(t, "systemd-analyze"), "verify", "--user", "--man=no", unit)
	verify.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+t.TempDir(), "HOME="+t.TempDir())
	if said := say(t, verify); said != "" {
		t.Errorf("the unit: %s", said)
	}
}

func TestManual(t *testing.T) {
	dir := filepath.Join(unpack(t, filepath.Join(packages(t), "kerbpass_"+version+"_amd64.deb")), "usr")
	pages, err := filepath.Glob(filepath.Join(dir, "share/man/man1/*.1.gz"))
	must(t, err)
	whatis := tool(t, "lexgrog", pages...)
	// The program's own word on which commands there are: what it completes, two levels deep.
	bin := filepath.Join(dir, "bin/kerbpass")
	complete := func(words ...string) (commands []string) {
		for line := range strings.Lines(tool(t, bin, append([]string{"__complete"}, append(words, "")...)...)) {
			if name, about, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok && about != "" && name != "help" && !strings.HasPrefix(name, "-") {
				commands = append(commands, name)
			}
		}
		return commands
	}
	want := []string{"kerbpass"}
	for _, c := range complete() {
		want = append(want, "kerbpass-"+c)
		for _, sub := range complete(c) {
			want = append(want, "kerbpass-"+c+"-"+sub)
		}
	}
	if len(want) < 20 || len(want) != len(pages) {
		t.Errorf("%d commands, %d pages", len(want), len(pages))
	}
	for _, name := range want {
		if !strings.Contains(whatis, "\""+name+" - ") {
			t.Errorf("lexgrog finds no name and purpose of %s:\n%s", name, whatis)
		}
	}
	for _, page := range pages {
		man := exec.Command(testenv.Tool(t, "man"), "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", page)
		man.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANPAGER=cat")
		var said bytes.Buffer
		man.Stderr = &said
		if rendered, err := man.Output(); err != nil || said.Len() > 0 || len(rendered) < 500 {
			t.Errorf("man on %s: %d bytes, %v\n%s", filepath.Base(page), len(rendered), err, &said)
		}
	}
}

// The copyright file has the text of each module that is in the program.
func TestCopyright(t *testing.T) {
	for _, p := range flavours {
		dir := unpack(t, filepath.Join(packages(t), p+"-"+version+"-linux-amd64.tar.gz"))
		dir = filepath.Join(dir, p+"-"+version+"-linux-amd64")
		text := read(t, filepath.Join(dir, "share/doc", p, "copyright"))
		info, err := buildinfo.ReadFile(filepath.Join(dir, "bin/kerbpass"))
		must(t, err)
		if len(info.Deps) < 5 || !strings.Contains(text, read(t, filepath.Join(root, "LICENSE"))) {
			t.Errorf("%s: %d modules, or not our own licence", p, len(info.Deps))
		}
		for _, m := range info.Deps {
			_, after, found := strings.Cut(text, "----\n"+m.Path+" "+m.Version+", ")
			own, _, _ := strings.Cut(after, "\n----\n")
			if !found || len(own) < 500 {
				t.Errorf("%s: the licence of %s %s is missing", p, m.Path, m.Version)
			}
		}
	}
}

// The bill of materials is CycloneDX 1.6 in its structure, and true.
func TestSBOM(t *testing.T) {
	out := packages(t)
	type component struct {
		Type     string
		Ref      string `json:"bom-ref"`
		Name     string
		Version  string
		PURL     string
		Hashes   []struct{ Alg, Content string }
		Licenses []struct{ License struct{ ID string } }
	}
	var bom struct {
		BomFormat    string
		SpecVersion  string
		SerialNumber string
		Version      int
		Metadata     struct {
			Timestamp string
			Component component
		}
		Components   []component
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	dec := json.NewDecoder(strings.NewReader(read(t, filepath.Join(out, "kerbpass-"+version+".cdx.json"))))
	must(t, dec.Decode(&bom))
	if bom.BomFormat != "CycloneDX" || bom.SpecVersion != "1.6" || bom.Version != 1 || bom.Metadata.Timestamp != "2023-11-14T22:13:20Z" ||
		!regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(bom.SerialNumber) ||
		bom.Metadata.Component.Name != "kerbpass" || bom.Metadata.Component.Version != version {
		t.Errorf("the head: %+v", bom.Metadata)
	}
	known := map[string]component{bom.Metadata.Component.Ref: bom.Metadata.Component}
	hashes := map[string]string{} // of programs: reference
	for _, c := range bom.Components {
		if _, twice := known[c.Ref]; twice || c.Ref == "" || c.Name == "" || c.Version == "" || len(c.Licenses) != 1 || c.Licenses[0].License.ID == "" {
			t.Errorf("component %+v: not unique, or not complete", c)
		}
		known[c.Ref] = c
		switch c.Type {
		case "library":
			if c.PURL != c.Ref || !strings.HasPrefix(c.PURL, "pkg:golang/") {
				t.Errorf("the package URL of %s is %s", c.Name, c.PURL)
			}
		case "file":
			if len(c.Hashes) != 1 || c.Hashes[0].Alg != "SHA-256" {
				t.Fatalf("%s has the hashes %v", c.Name, c.Hashes)
			}
			hashes[c.Hashes[0].Content] = c.Ref
		default:
			t.Errorf("component of type %s", c.Type)
		}
	}
	uses := map[string][]string{}
	for _, d := range bom.Dependencies {
		if _, ok := known[d.Ref]; !ok || uses[d.Ref] != nil {
			t.Errorf("dependencies of %s, which is unknown or had some", d.Ref)
		}
		for _, on := range d.DependsOn {
			if _, ok := known[on]; !ok {
				t.Errorf("%s depends on %s, which is unknown", d.Ref, on)
			}
		}
		uses[d.Ref] = d.DependsOn
	}
	if len(hashes) != 4 || len(uses[bom.Metadata.Component.Ref]) != 4 {
		t.Errorf("%d programs, want 4", len(hashes))
	}
	for _, p := range flavours {
		for _, arch := range []string{"amd64", "arm64"} {
			dir := unpack(t, filepath.Join(out, p+"_"+version+"_"+arch+".deb"))
			bin := filepath.Join(dir, "usr/bin/kerbpass")
			sum := sha256.Sum256([]byte(read(t, bin)))
			ref, ok := hashes[hex.EncodeToString(sum[:])]
			if !ok {
				t.Errorf("the program of %s for %s is not in the bill", p, arch)
			}
			info, err := buildinfo.ReadFile(bin)
			must(t, err)
			want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
			for _, m := range info.Deps {
				want = append(want, "pkg:golang/"+strings.ToLower(m.Path)+"@"+m.Version)
			}
			slices.Sort(want)
			if !slices.Equal(uses[ref], want) {
				t.Errorf("%s has %q\nwant %q", ref, uses[ref], want)
			}
		}
	}
}
