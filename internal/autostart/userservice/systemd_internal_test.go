package userservice

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden file")

func TestSystemdUnit(t *testing.T) {
	const path = "testdata/unit.golden"
	got := systemdUnit(Config{
		Name: "kerbpass-proxy", Description: `50 % of \ a proxy`,
		Command: []string{"/opt/a b%c$d/kerbpass", "run", "$HOME", `"\`, "100%", ""},
	})
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
