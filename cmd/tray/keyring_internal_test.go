package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/keyring"
)

func noEnv(string) (string, bool) { return "", false }

func TestKeyringChildIsHidden(t *testing.T) {
	var out bytes.Buffer
	c := &cli{args: []string{"--help"}, lookupEnv: noEnv, out: &out, err: &out}
	if err := c.run(t.Context()); err != nil || out.Len() == 0 || strings.Contains(out.String(), keyringChild) {
		t.Errorf("got %v and\n%s", err, &out)
	}
}

// The child changes what its process may do, so it has one of its own here.
func TestKeyringChildIsACommand(t *testing.T) {
	const inside = "KERBPASS_KEYRING_CHILD"
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKeyringChildIsACommand$", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1")
		if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS")) {
			t.Errorf("in its own process: %v\n%s", err, out)
		}
		return
	}
	var out bytes.Buffer
	c := &cli{args: []string{keyringChild}, lookupEnv: noEnv, in: strings.NewReader("rubbish"), out: &out, err: &out}
	if err := c.run(t.Context()); err == nil || !strings.Contains(err.Error(), "malformed") || out.Len() > 0 {
		t.Errorf("got %v and %q, want an error about the question only", err, &out)
	}
}

func TestKeyringErrors(t *testing.T) {
	for want, err := range map[string]error{
		"No keyring answers (": keyring.ErrUnavailable,
		"is locked":            keyring.ErrLocked,
		"too long":             keyring.ErrTooLarge,
		"context canceled":     context.Canceled,
	} {
		var e *exitError
		got := keyringError(&ticket.OpError{Op: "remember password", Subject: "alice", Err: err})
		if !errors.As(got, &e) || !strings.Contains(e.text, want) || !strings.Contains(e.text, "not saved") {
			t.Errorf("%v: got %v, want %q", err, got, want)
		}
	}
}
