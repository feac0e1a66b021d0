package auth

import (
	"fmt"
	"io"
	"log/slog"
	"sync"
)

// secret is a password that cannot be printed by accident: it sits in a
// closure, which fmt does not walk into. Safe for concurrent use.
type secret struct {
	// use lends it to f, and reports whether it is still there.
	use func(f func(b []byte)) bool
	// wipe overwrites it; from then on there is none.
	wipe func()
}

func newSecret(b []byte) *secret {
	var mu sync.Mutex
	gone := false
	return &secret{
		func(f func([]byte)) bool {
			mu.Lock()
			defer mu.Unlock()
			if !gone {
				f(b)
			}
			return !gone
		},
		func() {
			mu.Lock()
			defer mu.Unlock()
			clear(b)
			gone = true
		}}
}

// Format implements [fmt.Formatter], for every verb.
func (s *secret) Format(f fmt.State, _ rune) { io.WriteString(f, "[redacted]") }

// LogValue implements [slog.LogValuer].
func (s *secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }
