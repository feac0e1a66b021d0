//go:build windows

package sspi

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"kerbpass/internal/testenv"
)

const patience = 20 * time.Second // of a test that waits for Windows

func newBackend(t *testing.T) *Backend {
	t.Helper()
	b, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A token that does not fit is made again in a larger buffer.
func TestBufferGrows(t *testing.T) {
	spn := os.Getenv(TicketSwitch)
	if spn == "" {
		testenv.Missing(t, "a ticket; TestInWine provides one")
	}
	token, err := initialToken(spn, 16)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkToken(token); err != nil || len(token) <= 16 {
		t.Errorf("got %d bytes, %v", len(token), err)
	}
}

// The window hears of an unlocked screen, whether Windows sends or posts.
func TestWatch(t *testing.T) {
	testenv.NoLeaks(t)
	const unlock, logon = 8, 5
	for range 2 { // the window class outlives a watch
		ctx, cancel := context.WithCancel(t.Context())
		changed, ended := make(chan struct{}), make(chan error, 1)
		b := newBackend(t)
		go func() { ended <- b.Watch(ctx, func() { changed <- struct{}{} }) }()
		told := func(what string) {
			t.Helper()
			select {
			case <-changed:
			case <-time.After(patience):
				t.Fatalf("%s: not told", what)
			}
		}
		told("the beginning")
		window := findWindow(t)
		postMessage.Call(window, msgSessionChange, unlock, 0)
		told("unlock, posted")
		send := user32.NewProc("SendMessageW")
		send.Call(window, msgSessionChange, logon, 0)
		told("logon, sent")
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(patience):
			t.Fatal("does not end with its context")
		}
	}
}

func findWindow(t *testing.T) uintptr {
	t.Helper()
	name, err := syscall.UTF16PtrFromString(className)
	if err != nil {
		t.Fatal(err)
	}
	const messageOnly = ^uintptr(2)
	find := user32.NewProc("FindWindowExW")
	window, _, err := find.Call(messageOnly, 0, uintptr(unsafe.Pointer(name)), 0)
	if window == 0 {
		t.Fatalf("no window of ours: %v", err)
	}
	return window
}

func TestNews(t *testing.T) {
	for event, want := range map[uintptr]bool{0: false, 1: true, 2: false, 3: true, 5: true, 6: false, 7: false, 8: true, 9: false} {
		if got := news(event); got != want {
			t.Errorf("event %d: got %v, want %v", event, got, want)
		}
	}
}

func TestNewFindsWhatItNeeds(t *testing.T) {
	if err := findAll(append(lsaRequirements, watchRequirement...)); err != nil {
		t.Error(err)
	}
	missing := secur32.NewProc("KerbpassHasNoSuchFunction")
	if err := findAll([]*syscall.LazyProc{missing}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
	if b := newBackend(t); b.Name() != "sspi" || b.Stamp() != "" {
		t.Errorf("got %q with stamp %q", b.Name(), b.Stamp())
	}
}
