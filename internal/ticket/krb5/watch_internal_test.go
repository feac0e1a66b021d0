//go:build linux

package krb5

import (
	"os"
	"path/filepath"
	"testing"
)

// What happens to other files of a busy folder is nobody's business.
func TestWatchIgnoresOthers(t *testing.T) {
	folder := t.TempDir()
	b, err := New(Config{Cache: filepath.Join(folder, "cc"), ConfigPath: filepath.Join(folder, "krb5.conf")})
	if err != nil {
		t.Fatal(err)
	}
	w, err := b.newWatch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.file.Close()
	for _, tt := range []struct {
		name string
		want bool
	}{{"other", false}, {"cc.tmp", false}, {"cc", true}} {
		if err := os.WriteFile(filepath.Join(folder, tt.name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := w.file.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if hit, moved := w.judge(buf[:n]); hit != tt.want || moved {
			t.Errorf("%s: hit %v, moved %v; want hit %v", tt.name, hit, moved, tt.want)
		}
	}
}

func FuzzWatchEvents(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00cc\x00\x00"))
	f.Fuzz(func(t *testing.T, events []byte) {
		w := &watch{spots: map[int32][]spot{1: {{name: "cc"}}}}
		w.judge(events)
	})
}
