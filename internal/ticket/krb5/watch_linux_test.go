//go:build linux

package krb5_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"kerbpass/internal/demo/realm"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket/krb5"
)

// watching runs Watch until the test ends. It repeats change until that is
// told, for nobody knows when the watch begins, and returns a func that waits
// until a change has been told since it was last called.
func watching(t *testing.T, b *krb5.Backend, change func()) func(what string) {
	t.Helper()
	told := make(chan struct{}, 1)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- b.Watch(ctx, func() {
			select {
			case told <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Watch: %v", err)
		}
	})
	for begun := false; !begun; {
		change()
		select {
		case <-told:
			begun = true
		case err := <-done:
			t.Fatalf("Watch: %v", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return func(what string) {
		t.Helper()
		select {
		case <-told:
		case <-time.After(10 * time.Second):
			t.Errorf("%s: nothing was told", what)
		}
	}
}

func TestWatch(t *testing.T) {
	testenv.NoLeaks(t)
	r := start(t, realm.Config{})
	for _, kind := range []string{"FILE:", "DIR:"} {
		t.Run(kind, func(t *testing.T) {
			top := t.TempDir()
			folder := filepath.Join(top, "not", "there", "yet")
			name := filepath.Join(folder, "tkt")
			cache := kind + folder
			if kind == "FILE:" {
				cache = kind + name
			}
			signIn := func() {
				if err := os.MkdirAll(folder, 0o700); err != nil {
					t.Fatal(err)
				}
				mint(t, r, realm.MintOptions{Cache: name})
			}
			wait := watching(t, backend(t, krb5.Config{Cache: cache, ConfigPath: r.Krb5Conf()}), signIn)
			for range 2 { // the folder may go away and come back
				signIn()
				wait("signed in")
				mint(t, r, realm.MintOptions{Cache: name, User: "shorty"})
				wait("replaced")
				if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
				wait("written in place")
				if err := os.Remove(name); err != nil {
					t.Fatal(err)
				}
				wait("signed out")
				if err := os.RemoveAll(filepath.Join(top, "not")); err != nil {
					t.Fatal(err)
				}
				wait("folder gone")
			}
		})
	}
}

func TestWatchThroughLink(t *testing.T) {
	r := start(t, realm.Config{})
	target := filepath.Join(t.TempDir(), "target")
	mint(t, r, realm.MintOptions{Cache: target})
	link := filepath.Join(t.TempDir(), "cc")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	b := backend(t, krb5.Config{Cache: link, ConfigPath: r.Krb5Conf()})
	again := func() { mint(t, r, realm.MintOptions{Cache: target, User: "shorty"}) }
	wait := watching(t, b, again)
	again()
	wait("the link's target was replaced")
}
