package settings

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

// Whoever edits elsewhere is waited for, then named by the file that matters.
func TestEditElsewhere(t *testing.T) {
	s, err := Open(Config{Path: filepath.Join(t.TempDir(), "config.toml")})
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(t.Context(), s.path+".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	s.lockWait = 30 * time.Millisecond
	err = s.Edit(func(e *Edit) error { return e.Set("pac", "a") })
	if want := s.path + " is being edited by another program"; !errors.Is(err, ErrBusy) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestLockIsExclusiveAndBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); !errors.Is(err, ErrBusy) {
		t.Fatalf("got %v while another holds the lock, want ErrBusy", err)
	}
	got := make(chan error, 1)
	go func() {
		unlock, err := lock(t.Context(), path)
		if err == nil {
			unlock()
		}
		got <- err
	}()
	unlock()
	if err := <-got; err != nil {
		t.Errorf("got %v after the lock was given back", err)
	}
}
