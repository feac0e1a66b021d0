package ticket_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

// glance looks at paths when they have been quiet for a while.
func glance(t *testing.T, paths ...string) *ticket.Glance {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if g := ticket.GlanceAt(paths); g != nil {
			return g
		}
	}
	t.Fatalf("%q never settle", paths)
	return nil
}

func TestGlance(t *testing.T) {
	dir := t.TempDir()
	quiet, file := filepath.Join(dir, "quiet"), filepath.Join(dir, "file")
	link, none := filepath.Join(dir, "link"), filepath.Join(dir, "none")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write(quiet, "")
	write(file, "one")
	if err := os.Symlink(file, link); err != nil {
		link = file // a system without links
	}
	for _, tt := range []struct {
		name   string
		path   string
		change func()
	}{
		{"same size", file, func() { write(file, "two") }},
		{"through a link", link, func() { write(file, "six") }},
		{"longer", file, func() { write(file, "three") }},
		{"replaced", file, func() { write(none, "three"); must(os.Rename(none, file)) }},
		{"removed", file, func() { must(os.Remove(file)) }},
		{"made", none, func() { write(none, "") }},
		{"in a folder", dir, func() { write(filepath.Join(dir, "another"), "") }},
	} {
		g := glance(t, quiet, tt.path)
		if !g.Same() {
			t.Errorf("%s: changed by itself", tt.name)
		}
		tt.change()
		if g.Same() {
			t.Errorf("%s: not seen", tt.name)
		}
	}
	if (*ticket.Glance)(nil).Same() {
		t.Error("nothing looks the same")
	}
}

// Within one tick of a file system's clock two changes look alike.
func TestGlanceDistrustsNewFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	for {
		began := time.Now()
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		g := ticket.GlanceAt([]string{file})
		if time.Since(began) > 30*time.Millisecond {
			continue // a busy machine
		}
		if g != nil {
			t.Error("trusted a file that has just changed")
		}
		return
	}
}
