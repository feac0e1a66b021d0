package settings

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"kerbpass/internal/testenv"
)

// A system that is out of watches does not keep the helper from following its
// settings.
func TestRunWithoutAWatcherLooksForItself(t *testing.T) {
	testenv.NoLeaks(t)
	path := filepath.Join(t.TempDir(), "config.toml")
	s, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	s.newWatcher = func() (*fsnotify.Watcher, error) { return nil, errors.New("too many open files") }
	seen := make(chan string, 2)
	defer s.Subscribe(func(snap *Snapshot) { seen <- snap.PAC })()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for _, pac := range []string{"first", "second"} {
		if err := os.WriteFile(path+"~", []byte("pac = \""+pac+"\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+"~", path); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-seen:
			if got != pac {
				t.Errorf("got pac %q, want %q", got, pac)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the change was not seen")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: got %v, want nil", err)
	}
}

// An editor that truncates the file and then takes its time must not bring
// the defaults about; an empty file that stays empty does.
func TestEmptyFileIsLookedAtTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("pac = \"good\"\n")
	s, err := Open(Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	w := watcher{store: s}
	for _, step := range []struct {
		text, pac string
		done      bool
	}{
		{"", "good", false}, {"pac = \"better\"\n", "better", true},
		{"", "better", false}, {"pac = ", "better", true}, {"", "better", false}, {"", "", true},
	} {
		put(step.text)
		if done := w.refresh(); done != step.done || s.Snapshot().PAC != step.pac {
			t.Errorf("file %q: got done %v, pac %q, want %v, %q", step.text, done, s.Snapshot().PAC, step.done, step.pac)
		}
	}
}
