package ticket

import (
	"fmt"
	"io"
	"log/slog"
)

const redacted = "[redacted]"

// Secret keeps its bytes out of logs, error texts and dumps. They sit in a
// closure because fmt ignores methods on what it reaches through unexported
// fields, and can walk slices and pointers there, but never into a func.
// The zero Secret is empty.
type Secret struct{ reveal func() []byte }

// NewSecret takes ownership of b.
func NewSecret(b []byte) Secret { return Secret{func() []byte { return b }} }

// Expose returns the bytes, nil for the zero Secret. Search for it to list
// every place that can leak.
func (s Secret) Expose() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Wipe overwrites the bytes; every copy of this Secret sees zeros afterwards.
func (s Secret) Wipe() { clear(s.Expose()) }

// Format implements [fmt.Formatter], so it covers every verb, %d and %x too.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements [encoding.TextMarshaler], which JSON uses.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }
