//go:build linux || darwin

package policy

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// home is a folder that only this user may write to, and the source in it.
func home(t *testing.T) (dir string, s *Source) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir = filepath.Join(dir, "kerbpass")
	return dir, Folder(dir, uint32(os.Getuid()))
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestFolder(t *testing.T) {
	dir, s := home(t)
	if got := text(s.Read()); got != "" {
		t.Errorf("nothing there: got %s", got)
	}
	file, parts := filepath.Join(dir, "policy.toml"), filepath.Join(dir, "policy.d")
	put(t, file, "[locked]\npac = \"0\"\n")
	put(t, filepath.Join(parts, "20-b.toml"), "[locked]\npac = \"20\"\n[preset]\nui.language = \"fr\"\n")
	put(t, filepath.Join(parts, "10-a.toml"), "[locked]\npac = \"10\"\n")
	put(t, filepath.Join(parts, "30-c.toml.bak"), "?")
	put(t, filepath.Join(parts, ".40.toml"), "?")
	want := strings.NewReplacer("FILE", file, "PARTS", parts).Replace(`locked pac = string 20 (PARTS/20-b.toml)
locked pac = string 10 (PARTS/10-a.toml)
locked pac = string 0 (FILE)
preset ui.language = string fr (PARTS/20-b.toml)
`)
	if got := text(s.Read()); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	put(t, filepath.Join(parts, "10-a.toml"), "?")
	if p := s.Read(); !p.Broken() || len(p.Locked) != 2 {
		t.Errorf("one of them is broken: got %s", text(p))
	}
}

// Only what root alone could have put there counts.
func TestTrust(t *testing.T) {
	const file = "[locked]\npac = \"x\"\n"
	me := uint32(os.Getuid())
	tests := []struct {
		name  string
		make  func(t *testing.T, dir string) // policy.toml is there
		want  string                         // in the problem; "" for a file that counts
		state string                         // "ignored" unless given
	}{
		{"as it must be", func(*testing.T, string) {}, "", ""},
		{"unreadable by others", func(t *testing.T, dir string) { mode(t, dir+"/policy.toml", 0o600) }, "", ""},
		{"writable by the group", func(t *testing.T, dir string) { mode(t, dir+"/policy.toml", 0o664) }, "others than root may write to DIR/policy.toml (mode 0664)", ""},
		{"writable by all", func(t *testing.T, dir string) { mode(t, dir+"/policy.toml", 0o646) }, "mode 0646", ""},
		{"in a folder writable by all", func(t *testing.T, dir string) { mode(t, dir, 0o777) }, "others than root may write to DIR (mode 0777)", ""},
		{"in a folder writable by the group", func(t *testing.T, dir string) { mode(t, dir, 0o775) }, "DIR (mode 0775)", ""},
		{"below a folder writable by all", func(t *testing.T, dir string) { mode(t, filepath.Dir(dir), 0o757) }, "mode 0757", ""},
		{"a link to a good file", func(t *testing.T, dir string) {
			put(t, dir+"/else/real", file)
			link(t, "else/real", dir+"/policy.toml")
		}, "", ""},
		{"a link to a file writable by all", func(t *testing.T, dir string) {
			put(t, dir+"/else/real", file)
			mode(t, dir+"/else/real", 0o666)
			link(t, dir+"/else/real", dir+"/policy.toml")
		}, "DIR/else/real (mode 0666)", ""},
		{"a link through a folder writable by all", func(t *testing.T, dir string) {
			put(t, dir+"/else/real", file)
			mode(t, dir+"/else", 0o777)
			link(t, "else/../else/real", dir+"/policy.toml")
		}, "DIR/else (mode 0777)", ""},
		{"a link in a circle", func(t *testing.T, dir string) { link(t, "policy.toml", dir+"/policy.toml") }, "too many symbolic links", ""},
		{"a FIFO", func(t *testing.T, dir string) {
			os.Remove(dir + "/policy.toml")
			if err := syscall.Mkfifo(dir+"/policy.toml", 0o644); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file", "broken"},
		{"a folder", func(t *testing.T, dir string) {
			os.Remove(dir + "/policy.toml")
			os.Mkdir(dir+"/policy.toml", 0o755)
		}, "not a regular file", "broken"},
		{"too large", func(t *testing.T, dir string) { os.Truncate(dir+"/policy.toml", maxFile+1) }, "larger than", "broken"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir, s := home(t)
			put(t, dir+"/policy.toml", file)
			tt.make(t, dir)
			p := s.Read()
			if tt.want == "" {
				if len(p.Problems) > 0 || len(p.Locked) != 1 {
					t.Errorf("got %s", text(p))
				}
				return
			}
			want := strings.ReplaceAll(tt.want, "DIR", dir)
			if len(p.Locked) != 0 || len(p.Problems) != 1 || !strings.Contains(p.Problems[0].Text, want) || p.Problems[0].Broken != (tt.state == "broken") {
				t.Errorf("got %swant it refused: %s", text(p), want)
			}
		})
	}
	t.Run("another's", func(t *testing.T) {
		dir, _ := home(t)
		put(t, dir+"/policy.toml", file)
		put(t, dir+"/policy.d/x.toml", file)
		owner := me + 1
		if me == 0 { // root may give it away
			owner = 0
			for _, path := range []string{dir + "/policy.toml", dir + "/policy.d"} {
				if err := os.Chown(path, 1234, 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		p := Folder(dir, owner).Read()
		if len(p.Locked) != 0 || len(p.Problems) != 2 || p.Broken() || !strings.Contains(p.Problems[0].Text, "and not to root") || !strings.Contains(p.Problems[1].Text, "and not to root") {
			t.Errorf("got %s", text(p))
		}
	})
}

func mode(t *testing.T, path string, m os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, m); err != nil {
		t.Fatal(err)
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	os.Remove(path)
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// Whatever is done to the files is noticed, from nothing at all to their end.
func TestWatch(t *testing.T) {
	testenv.NoLeaks(t)
	dir, s := home(t)
	ctx, stop := context.WithCancel(t.Context())
	told := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- s.Watch(ctx, func() {
			select {
			case told <- struct{}{}:
			default:
			}
		})
	}()
	wait := func(what, want string) {
		t.Helper()
		limit := time.After(60 * time.Second)
		for {
			select {
			case <-told:
			case <-limit:
				t.Fatalf("%s: not noticed; got %s", what, text(s.Read()))
			}
			if got := text(s.Read()); strings.Contains(got, want) && (want != "" || got == "") {
				return
			}
		}
	}
	wait("the beginning", "")
	put(t, dir+"/policy.toml", "[locked]\npac = \"1\"\n")
	wait("a folder with a file", "pac = string 1")
	put(t, dir+"/policy.d/a.toml", "[locked]\npac = \"2\"\n")
	wait("a folder in it", "pac = string 2")
	put(t, dir+"/policy.d/a.toml", "[locked]\npac = \"3\"\n")
	wait("a change", "pac = string 3")
	put(t, dir+"/new", "[locked]\npac = \"4\"\n")
	if err := os.Rename(dir+"/new", dir+"/policy.d/a.toml"); err != nil {
		t.Fatal(err)
	}
	wait("a replacement", "pac = string 4")
	mode(t, dir+"/policy.d/a.toml", 0o666)
	wait("a change of mode", "others than root may write")
	mode(t, dir+"/policy.d/a.toml", 0o644)
	wait("the mode back", "pac = string 4")
	put(t, dir+"/real/file", "[locked]\npac = \"5\"\n")
	link(t, dir+"/real/file", dir+"/policy.d/a.toml")
	wait("a link", "pac = string 5")
	put(t, dir+"/real/file", "[locked]\npac = \"6\"\n")
	wait("a change behind the link", "pac = string 6")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	wait("the end", "")
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("Watch: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("Watch does not end")
	}
}
