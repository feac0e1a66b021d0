//go:build windows

package keyring_test

import (
	"errors"
	"strings"
	"testing"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/keyring"
)

func TestCredentialManager(t *testing.T) {
	testenv.NoLeaks(t)
	s := self(t, 0, "serve")
	roundTrip(t, s)

	long := ticket.NewSecret([]byte(strings.Repeat("x", 2561)))
	for _, before := range []string{"", password} {
		if before != "" {
			if err := s.Set(t.Context(), alice, ticket.NewSecret([]byte(before))); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Set(t.Context(), alice, long); !errors.Is(err, keyring.ErrTooLarge) {
			t.Errorf("2561 bytes: got %v, want ErrTooLarge", err)
		}
		got, err := s.Get(t.Context(), alice)
		if string(got.Expose()) != before || before == "" && !errors.Is(err, keyring.ErrNotFound) {
			t.Errorf("afterwards: got %q, %v, want %q as before", got.Expose(), err, before)
		}
		if who, err := s.Principal(t.Context()); err != nil || (who == alice) != (before != "") {
			t.Errorf("afterwards: remembered is %q, %v", who, err)
		}
	}
	if err := s.Delete(t.Context(), alice); err != nil {
		t.Error(err)
	}
}
