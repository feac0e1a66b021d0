//go:build linux && !nogss

package gss

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// A watched is a running Watch of one cache name.
type watched struct {
	t       *testing.T
	b       *Backend
	changed chan struct{}
	ended   chan error
}

func startWatch(t *testing.T, name string) *watched {
	t.Helper()
	w := &watched{t: t, b: &Backend{cache: name}, changed: make(chan struct{}, 1), ended: make(chan error, 1)}
	w.b.locate()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		w.ended <- w.b.Watch(ctx, func() {
			select {
			case w.changed <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		if err, open := <-w.ended; open && err != nil {
			t.Errorf("ended with %v, want nil", err)
		}
	})
	w.sees("the start", func() {})
	return w
}

// sees checks that the watch tells of what is done. It may tell late: nothing
// here shows that it was the folder's coming that it saw.
func (w *watched) sees(what string, do func()) {
	w.t.Helper()
	do()
	select {
	case <-w.changed:
	case <-time.After(20 * time.Second):
		w.t.Fatalf("%s: not told", what)
	}
}

// settled waits until w watches an existing folder: a change that comes then
// is told at once.
func (w *watched) settled(file string) {
	w.t.Helper()
	for range 100 {
		w.drain()
		write(w.t, file)
		select {
		case <-w.changed:
			w.drain()
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
	w.t.Fatalf("%s: writing it is not told", file)
}

func (w *watched) drain() {
	select {
	case <-w.changed:
	default:
	}
}

func write(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(time.Now().String()), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestWatchFollowsTheFolder(t *testing.T) {
	testenv.NoLeaks(t)
	for name, c := range map[string]struct{ cache, file string }{
		"FILE":       {"FILE:%/cc", "/cc"},
		"DIR":        {"DIR:%", "/tktABC"},
		"DIR single": {"DIR::%/tktABC", "/tktABC"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := t.TempDir() + "/tickets"
			kind, rest, _ := strings.Cut(c.cache, "%")
			create := func() {
				if err := os.Mkdir(folder, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			remove := func() {
				if err := os.RemoveAll(folder); err != nil {
					t.Fatal(err)
				}
			}
			w := startWatch(t, kind+folder+rest)
			w.sees("the folder, missing at first", create)
			w.settled(folder + c.file)
			w.sees("the folder's going", remove)
			w.drain()
			w.sees("the folder's coming back", create)
			w.settled(folder + c.file)
			w.sees("another folder in its place", func() {
				if err := os.Rename(folder, folder+".old"); err != nil {
					t.Fatal(err)
				}
				create()
			})
			w.settled(folder + c.file)
		})
	}
}

// Once another kind of cache is in use, there is nothing to watch any more.
func TestWatchEndsWithTheKind(t *testing.T) {
	testenv.NoLeaks(t)
	folder := t.TempDir()
	w := startWatch(t, "FILE:"+folder+"/cc")
	w.settled(folder + "/cc")
	elsewhere := "KCM:"
	w.b.where.Store(&elsewhere)
	write(t, folder+"/cc")
	select {
	case err := <-w.ended:
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
		}
		close(w.ended)
	case <-time.After(20 * time.Second):
		t.Error("still watches")
	}
}
