package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"kerbpass/internal/ticket"
)

func TestWhosePasswordIsRemembered(t *testing.T) {
	used := ticket.Cache{Principal: "alice@CORP.EXAMPLE", Used: true}
	for _, tt := range []struct {
		name, who string
		caches    []ticket.Cache
		want      string
	}{
		{"one cache", "alice", []ticket.Cache{{Principal: "alice@CORP.EXAMPLE", Used: true, Default: true}}, "alice@CORP.EXAMPLE"},
		{"as the KDC spells it", "Alice@corp.example", []ticket.Cache{used}, "alice@CORP.EXAMPLE"},
		{"not the one in use", "bob@OTHER.EXAMPLE", []ticket.Cache{used, {Principal: "bob@OTHER.EXAMPLE", Default: true}}, "bob@OTHER.EXAMPLE"},
		{"the same name in two realms", "alice", []ticket.Cache{used, {Principal: "alice@OTHER.EXAMPLE", Default: true}}, ""},
		{"the same name, in full", "alice@OTHER.EXAMPLE", []ticket.Cache{used, {Principal: "alice@OTHER.EXAMPLE", Default: true}}, "alice@OTHER.EXAMPLE"},
		{"an old cache", "alice", []ticket.Cache{{Principal: "alice@CORP.EXAMPLE"}}, ""},
		{"nobody's", "alice", nil, ""},
	} {
		if got, err := principal(tt.caches, tt.who); got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// A standard input that says nothing must not keep a command that was
// interrupted.
func TestQuestionEndsWithItsContext(t *testing.T) {
	in, typist := io.Pipe()
	defer typist.Close()
	ctx, cancel := context.WithCancel(t.Context())
	p := &prompter{cli: &cli{err: io.Discard}, lines: newLineReader(in)}
	asked := make(chan error)
	go func() {
		_, err := p.prompt(ctx, "", []ticket.Prompt{{Kind: ticket.PromptPassword}})
		p.close()
		asked <- err
	}()
	cancel()
	select {
	case err := <-asked:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it still waits for a line")
	}
}

func TestNothingSteersTheTerminal(t *testing.T) {
	var out bytes.Buffer
	p := &prompter{cli: &cli{err: &out}, lines: newLineReader(bytes.NewBufferString("answer\n"))}
	_, err := p.prompt(t.Context(), "Choose\na new one: é\u00a0!\x1b[2J\r\x7f\u009b2J\u202e\u2066\xff", []ticket.Prompt{{Kind: ticket.PromptOther}})
	if want := "Choose\na new one: é\u00a0!?[2J???2J??\ufffd\n"; err != nil || out.String() != want {
		t.Errorf("got %q, %v, want %q", out.String(), err, want)
	}
}

// lockedKeyring gives its password away but does not forget it.
type lockedKeyring struct{ reads int }

func (k *lockedKeyring) Get(context.Context, string) (ticket.Secret, error) {
	k.reads++
	return ticket.NewSecret([]byte("old")), nil
}

func (*lockedKeyring) Delete(context.Context, string) error { return errors.New("locked") }

func TestRefusedPasswordThatStaysIsNotUsed(t *testing.T) {
	k := &lockedKeyring{}
	ts := &tickets{log: slog.New(slog.DiscardHandler), keyring: k}
	if _, err := ts.recall(t.Context(), "alice"); err != nil || k.reads != 1 {
		t.Fatalf("got %v after %d reads", err, k.reads)
	}
	ts.forgetPassword("alice", ticket.ErrPassword)
	if _, err := ts.recall(t.Context(), "alice"); err == nil || k.reads != 1 {
		t.Errorf("got %v after %d reads, want an error and one read", err, k.reads)
	}
	if _, err := ts.recall(t.Context(), "bob"); err != nil {
		t.Errorf("somebody else's: %v", err)
	}
}
