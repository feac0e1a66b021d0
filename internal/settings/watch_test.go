package settings_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/settings"
	"kerbpass/internal/testenv"
)

// watched runs a store on path; the function returned waits for a snapshot in
// which the file's pac is this.
func watched(t *testing.T, path string, cfg settings.Config) (s *settings.Store, until func(pac string)) {
	t.Helper()
	testenv.NoLeaks(t)
	cfg.Path = path
	s = open(t, "", cfg)
	changed := make(chan struct{}, 1)
	t.Cleanup(s.Subscribe(func(*settings.Snapshot) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
	return s, func(pac string) {
		t.Helper()
		// Well below the time after which Run looks without being told.
		deadline := time.After(15 * time.Second)
		for s.Snapshot().PAC != pac {
			select {
			case <-changed:
			case <-deadline:
				t.Fatalf("got pac %q, want %q; problems %v", s.Snapshot().PAC, pac, s.Snapshot().Problems)
			}
		}
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "config.toml")
	dir := filepath.Dir(path)
	s, until := watched(t, path, settings.Config{})
	replace := func(text string) {
		t.Helper()
		write(t, path+"~", text)
		must(t, os.Rename(path+"~", path))
	}

	must(t, os.MkdirAll(dir, 0o700)) // the folder and its parent appear
	write(t, path, "pac = \"created\"\n")
	until("created")
	write(t, path, "pac = \"in place\"\n")
	until("in place")
	replace("pac = \"replaced\"\n")
	until("replaced")
	replace("pac = \"replaced again\"\n")
	until("replaced again")
	must(t, os.Rename(path, path+".bak")) // vim with a backup
	write(t, path, "pac = \"written anew\"\n")
	until("written anew")
	must(t, os.Remove(path))
	until("")
	write(t, path, "pac = \"back\"\n")
	until("back")
	must(t, os.RemoveAll(dir))
	until("")
	must(t, os.Mkdir(dir, 0o700))
	write(t, path, "pac = \"folder back\"\n")
	until("folder back")
	must(t, os.RemoveAll(filepath.Dir(dir)), os.MkdirAll(dir, 0o700)) // gone and back at once
	write(t, path, "pac = \"same name, other folder\"\n")
	until("same name, other folder")
	must(t, os.Rename(dir, dir+"2"), os.Mkdir(dir, 0o700))
	write(t, path, "pac = \"moved away\"\n")
	until("moved away")
	must(t, s.Edit(set("pac", "own edit")))
	until("own edit")
	write(t, path, "pac = \"after own edit\"\n")
	until("after own edit")
}

func TestWatchThroughLinks(t *testing.T) {
	base := t.TempDir()
	dotfiles := filepath.Join(base, "dotfiles")
	link := filepath.Join(base, "config.toml")
	if err := os.Symlink(filepath.Join(dotfiles, "v1"), link); err != nil {
		testenv.Missing(t, "symbolic links: %v", err)
	}
	s, until := watched(t, link, settings.Config{})
	must(t, os.Mkdir(dotfiles, 0o700))
	write(t, filepath.Join(dotfiles, "v1"), "pac = \"one\"\n")
	until("one")
	write(t, filepath.Join(dotfiles, "v1"), "pac = \"two\"\n")
	until("two")
	write(t, filepath.Join(dotfiles, "v2"), "pac = \"other target\"\n")
	must(t, os.Symlink(filepath.Join(dotfiles, "v2"), link+"~"), os.Rename(link+"~", link))
	until("other target")
	must(t, s.Edit(set("pac", "edited")))
	until("edited")
	write(t, filepath.Join(dotfiles, "v2"), "pac = \"by hand\"\n")
	until("by hand")
}

// What is written between Open and Run is not missed.
func TestWatchStartsWithALook(t *testing.T) {
	testenv.NoLeaks(t)
	s := open(t, "pac = \"a\"\n", settings.Config{})
	write(t, s.Path(), "pac = \"b\"\n")
	seen := make(chan string, 1)
	defer s.Subscribe(func(snap *settings.Snapshot) { seen <- snap.PAC })()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	if got := <-seen; got != "b" {
		t.Errorf("got %q", got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// lines is a log that may be written and read at once.
type lines struct {
	sync.Mutex
	strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Builder.Write(b)
}

func (l *lines) String() string {
	l.Lock()
	defer l.Unlock()
	return l.Builder.String()
}

func TestWatchOfABrokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.toml")
	write(t, path, "pac = \"good\"\n")
	log := &lines{}
	s, until := watched(t, path, settings.Config{Log: slog.New(slog.NewTextHandler(log, nil))})
	until("good")
	problem := make(chan struct{}, 10)
	defer s.Subscribe(func(snap *settings.Snapshot) {
		if len(snap.Problems) == 1 && snap.PAC == "good" {
			problem <- struct{}{}
		}
	})()
	for _, text := range []string{"pac = ", "pac = \"x"} {
		write(t, path, text)
		select {
		case <-problem:
		case <-time.After(15 * time.Second):
			t.Fatalf("no problem reported: %+v", s.Snapshot())
		}
	}
	write(t, path, "pac = \"better\"\n")
	until("better")
	if p := s.Snapshot().Problems; len(p) != 0 {
		t.Errorf("got problems %v after the repair", p)
	}
	if got := log.String(); !strings.Contains(got, "not usable") || !strings.Contains(got, "config.toml:1:") {
		t.Errorf("got log\n%s\nwant the place of the mistake", got)
	}
}
