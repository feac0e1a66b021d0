//go:build linux && !nogss

package gss

import (
	"os"
	"testing"
)

func TestRealmOf(t *testing.T) {
	for name, want := range map[string]string{
		"alice@WORLD.TEST": "WORLD.TEST", `a\@b@R`: "R", `a\@b`: "", "": "", "@R": "R", "krbtgt/R@R": "R",
	} {
		if got := realmOf(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestStampFollowsTheFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	on := func(name string) *Backend {
		b := &Backend{cache: name}
		b.locate()
		return b
	}
	differs := func(name string, b *Backend, change func()) {
		t.Helper()
		before := b.Stamp()
		if before == "" || b.Stamp() != before {
			t.Errorf("%s: not a stable stamp: %q, %q", name, before, b.Stamp())
		}
		change()
		if b.Stamp() == before {
			t.Errorf("%s: the stamp stays %q", name, before)
		}
	}
	differs("created", on("FILE:"+dir+"/cc"), func() { write("cc", "1") })
	differs("rewritten", on("FILE:"+dir+"/cc"), func() { write("cc", "22") })
	differs("no type is FILE", on(dir+"/cc"), func() { write("cc", "333") })
	differs("replaced", on("FILE:"+dir+"/cc"), func() { write("new", "333"); os.Rename(dir+"/new", dir+"/cc") })
	differs("removed", on("FILE:"+dir+"/cc"), func() { os.Remove(dir + "/cc") })
	differs("DIR without primary", on("DIR:"+dir), func() { write("tkt", "1") })
	differs("DIR primary", on("DIR:"+dir), func() { write("primary", "tktB\n") })
	differs("DIR subsidiary", on("DIR:"+dir), func() { write("tktB", "1") })
	differs("DIR single file", on("DIR::"+dir+"/tktB"), func() { write("tktB", "22") })
	for _, name := range []string{"KCM:", "KEYRING:session:x", "MEMORY:x"} {
		if s := on(name).Stamp(); s != "" {
			t.Errorf("%s: got a stamp %q, want none", name, s)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, c := range map[string]Config{"library": {Flavour: "shishi"}, "NUL": {Cache: "FILE:/a\x00b"}} {
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
