//go:build linux

package control

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestPath(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "kp") // short enough for a socket
	must(err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	in := func(dir string) string { return filepath.Join(dir, "kerbpass", "control.sock") }
	folder := func(mode os.FileMode, path ...string) string {
		p := filepath.Join(append([]string{dir}, path...)...)
		must(os.MkdirAll(p, 0o700))
		must(os.Chmod(p, mode))
		return p
	}
	uid := strconv.Itoa(os.Geteuid())
	private, foreign := folder(0o700, "private"), folder(0o700, "foreign")
	session := folder(0o700, "run", uid)
	cache, run, none := filepath.Join(dir, "cache"), filepath.Dir(session), filepath.Join(dir, "none")
	strangers := filepath.Dir(folder(0o700, "strangers", "1"+uid))
	open := filepath.Dir(folder(0o755, "openrun", uid))
	linked, filed := folder(0o755, "linked"), folder(0o755, "filed")
	must(os.Symlink(private, filepath.Join(linked, uid)))
	must(os.WriteFile(filepath.Join(filed, uid), nil, 0o600))
	must(os.Symlink(private, filepath.Join(dir, "link")))
	must(os.WriteFile(filepath.Join(dir, "file"), nil, 0o700))
	t.Chdir(dir)

	type test struct{ name, root, runtimeDir, want string }
	tests := []test{
		{"private folder", none, private, private},
		{"unset", none, "", cache},
		{"relative", none, "private", cache},
		{"missing", none, filepath.Join(dir, "missing"), cache},
		{"others may read", none, folder(0o750, "readable"), cache},
		{"others may enter", none, folder(0o701, "open"), cache},
		{"link", none, filepath.Join(dir, "link"), cache},
		{"file", none, filepath.Join(dir, "file"), cache},

		{"unset, with a session", run, "", session},
		{"set, with a session", run, private, private},
		{"not usable, with a session", run, filepath.Join(dir, "link"), session},
		{"session of another user", strangers, "", cache},
		{"session open to others", open, "", cache},
		{"session is a link", linked, "", cache},
		{"session is a file", filed, "", cache},
		{"session root is relative", "run", "", cache},
	}
	if os.Geteuid() == 0 {
		must(os.Chown(foreign, 1001, 1001))
		owned := folder(0o700, "owned", uid)
		must(os.Chown(owned, 1001, 1001))
		tests = append(tests, test{"another user's", none, foreign, cache},
			test{"session folder another user's", filepath.Dir(owned), "", cache})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := pathIn(tt.root, func(name string) (string, bool) {
				return tt.runtimeDir, name == "XDG_RUNTIME_DIR" && tt.runtimeDir != ""
			})
			if err != nil || got != in(tt.want) {
				t.Errorf("got %q, %v, want %q", got, err, in(tt.want))
			}
		})
	}

	unset := func(string) (string, bool) { return "", false }
	want, err := pathIn("/run/user", unset)
	must(err)
	if got, err := Path(unset); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	t.Setenv("XDG_CACHE_HOME", "/"+strings.Repeat("x", 100))
	if _, err := pathIn(none, unset); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Errorf("long path: got %v, want a hint to shorten it", err)
	}
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	if _, err := pathIn(none, unset); err == nil || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
		t.Errorf("no home: got %v, want a hint", err)
	}
}
