package settings_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"kerbpass/internal/settings"
)

// shipped has a full file of every version that was ever shipped, with its
// SHA-256, and beside it what it means. They are added to and never edited.
var shipped = map[string]string{
	"version-1": "d8a013d234edf20bcfc8051162af703e870f2376ab7b8d0647d84ed65730ee01",
}

// Files of all versions ever shipped mean what they meant, and nothing is
// written to them before somebody changes a setting.
func TestEveryVersionShipped(t *testing.T) {
	files, err := filepath.Glob("testdata/version-*.toml")
	if err != nil || len(files) != len(shipped) {
		t.Errorf("got %v (%v), want one for each of %v", files, err, shipped)
	}
	for name, sum := range shipped {
		t.Run(name, func(t *testing.T) {
			text := read(t, "testdata/"+name+".toml")
			if got := sha256.Sum256([]byte(text)); hex.EncodeToString(got[:]) != sum {
				t.Errorf("the file was edited, its sum is %x", got)
			}
			var want map[string]any
			if err := json.Unmarshal([]byte(read(t, "testdata/"+name+".json")), &want); err != nil || len(want) < 20 {
				t.Fatalf("%d values: %v", len(want), err)
			}
			s := open(t, text, settings.Config{})
			snap := s.Snapshot()
			if len(snap.Problems) > 0 || snap.FileReadOnly {
				t.Errorf("got problems %v, read-only %v", snap.Problems, snap.FileReadOnly)
			}
			described, err := json.Marshal(snap.Describe())
			if err != nil {
				t.Fatal(err)
			}
			var got map[string]struct {
				Value  any
				Source string
			}
			if err := json.Unmarshal(described, &got); err != nil {
				t.Fatal(err)
			}
			for key, value := range want {
				if g := got[key]; g.Source != "file" || !reflect.DeepEqual(g.Value, value) {
					t.Errorf("%s: got %v from %s, want %v", key, g.Value, g.Source, value)
				}
			}
			if err := s.Reload(); err != nil || read(t, s.Path()) != text {
				t.Errorf("reading changed the file (%v):\n%s", err, read(t, s.Path()))
			}
			if err := s.Edit(set("ui.language", "fr")); err != nil {
				t.Fatal(err)
			}
			if after := read(t, s.Path()); after != strings.Replace(text, `language = "de"`, `language = "fr"`, 1) {
				t.Errorf("an edit changed more than its value:\n%s", after)
			}
		})
	}
}

// Nothing is ever written to a newer version's file, whichever way an edit
// takes.
func TestNewerFileIsNeverWritten(t *testing.T) {
	const text = "version = 2\npac = \"auto\"\n[bypass]\nexact = [\"a\"]\n"
	s := open(t, text, settings.Config{})
	for name, err := range map[string]error{
		"set": s.Edit(set("kerberos.enabled", false)), "unset": s.Edit(unset("pac")), "add": s.Edit(add("bypass.exact", "b")),
		"remove": s.Edit(remove("bypass.exact", "a")), "create": s.Create(),
	} {
		if !errors.Is(err, settings.ErrNewer) || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := read(t, s.Path()); got != text {
		t.Errorf("got %s", got)
	}
}
