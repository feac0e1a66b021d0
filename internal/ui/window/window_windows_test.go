//go:build windows

package window_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ui/window"
)

// The test program is its own child.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "child" {
		os.Exit(window.ExitCode(window.Child(os.Stdin, os.Args[2])))
	}
	os.Exit(m.Run())
}

// Without WebView2 and Edge the person's browser is asked, and where that
// shows nothing either, all three say so in their own words.
func TestFallbackReachesBrowser(t *testing.T) {
	testenv.NoLeaks(t)
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	w, err := window.New(window.Config{
		Command:  []string{self, "child"},
		Page:     func(context.Context) (string, error) { return server.URL + "/?token=1", nil },
		Env:      os.Environ(),
		Patience: 10 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	err = w.Open(ctx)
	cancel()
	if runErr := <-ended; runErr != nil {
		t.Error(runErr)
	}
	if !errors.Is(err, window.ErrNotShown) {
		t.Fatalf("got %v, want ErrNotShown", err)
	}
	for _, words := range []string{"webview2: ended before it had painted: library missing", "browser-app: ended before it had painted: no browser could be started", "\nbrowser: "} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("got %q, want %q in it", err, words)
		}
	}
	t.Log(err)
}
