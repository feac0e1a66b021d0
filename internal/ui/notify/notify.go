// Package notify shows short notes on the desktop, replaces and withdraws them,
// and tells which of their actions was chosen. It promises to say at once where
// the desktop shows none, and to work again when the desktop does. Nothing may
// depend on a note alone: people switch them off.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Urgency says how much a note matters.
type Urgency byte

// The urgencies, numbered as the desktop specification does.
const (
	Low Urgency = iota
	Normal
	Critical // stays until it is answered, where the desktop can do that
)

// DefaultAction is the ID of the action that a click on the note itself means,
// where the desktop knows such a click.
const DefaultAction = "default"

// An Action is a button of a note. Windows has no buttons: a click on the note
// is the first action.
type Action struct {
	ID    string // without spaces, not shown
	Label string
}

// A Note is what is shown.
type Note struct {
	Key     string // a note replaces the one with the same key; required
	Title   string // required
	Body    string // plain text
	Actions []Action
	// Hint is added to the body where the desktop shows no buttons: it says
	// where to click instead.
	Hint    string
	Urgency Urgency
}

// What is longer is cut, and further actions are left out.
const (
	maxTitle   = 120 // characters
	maxBody    = 1000
	maxLabel   = 60
	maxActions = 4
)

// Config holds what a Notifier needs.
type Config struct {
	Name string // the program's, as shown; required
	Icon []byte // PNG, or nil; Windows shows the tray's icon
	// OnAction is told of a chosen action, at most once for each showing of a
	// note. Run waits for it. Required.
	OnAction func(key, action string)
	Log      *slog.Logger // nil discards
}

// A Notifier shows notes. Its methods may be called at any time.
type Notifier struct {
	cfg      Config
	requests chan request
	ended    chan struct{} // closed when Run has ended
}

// A request is for the goroutine that talks to the desktop.
type request struct {
	ctx  context.Context
	key  string
	note *Note // nil withdraws key's
	done chan<- error
}

// errEnded is for who comes after Run.
var errEnded = errors.New("notifications have ended")

// New checks c.
func New(c Config) (*Notifier, error) {
	switch {
	case c.Name == "":
		return nil, errors.New("notify: no name given")
	case c.OnAction == nil:
		return nil, errors.New("notify: nothing given to tell actions to")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Notifier{cfg: c, requests: make(chan request), ended: make(chan struct{})}, nil
}

// Run serves Show and Close until ctx ends, and then withdraws what is shown.
// It returns nil, must be called once, and has nothing to do where the desktop
// shows no notes.
func (n *Notifier) Run(ctx context.Context) error {
	defer close(n.ended)
	var actions sync.WaitGroup
	defer actions.Wait()
	return n.serve(ctx, func(key, action string) {
		actions.Go(func() { n.cfg.OnAction(key, action) })
	})
}

// Show shows note, instead of the one with the same key. It waits for Run. An
// error that wraps [errors.ErrUnsupported] says that this desktop shows no
// notes, now.
func (n *Notifier) Show(ctx context.Context, note Note) error {
	if note.Key == "" || note.Title == "" {
		return errors.New("show a note: key or title missing")
	}
	note = tidy(note)
	if err := n.do(ctx, note.Key, &note); err != nil {
		return fmt.Errorf("show a note: %w", err)
	}
	return nil
}

// Close withdraws the note with that key, if it is still shown.
func (n *Notifier) Close(ctx context.Context, key string) error {
	if err := n.do(ctx, key, nil); err != nil {
		return fmt.Errorf("withdraw a note: %w", err)
	}
	return nil
}

func (n *Notifier) do(ctx context.Context, key string, note *Note) error {
	done := make(chan error, 1)
	select {
	case n.requests <- request{ctx, key, note, done}:
		return <-done // bounded by ctx
	case <-n.ended:
		return errEnded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tidy returns note as it may be given to any desktop.
func tidy(note Note) Note {
	note.Title = plain(note.Title, maxTitle)
	note.Body = plain(note.Body, maxBody)
	note.Hint = plain(note.Hint, maxTitle)
	actions := make([]Action, 0, min(len(note.Actions), maxActions))
	for _, a := range note.Actions {
		if len(actions) < cap(actions) {
			actions = append(actions, Action{a.ID, plain(a.Label, maxLabel)})
		}
	}
	note.Actions = actions
	return note
}

// plain returns at most limit characters of text, the last being an ellipsis if
// there were more, without what D-Bus and Windows refuse.
func plain(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' {
			return ' '
		}
		return r
	}, text) // which replaces invalid UTF-8 too
	if utf8.RuneCountInString(text) <= limit {
		return text
	}
	return string([]rune(text)[:limit-1]) + "…"
}

// withHint is the body for a desktop without buttons.
func withHint(note Note) string {
	switch {
	case note.Hint == "":
		return note.Body
	case note.Body == "":
		return note.Hint
	default:
		return note.Body + "\n" + note.Hint
	}
}

// offers reports whether the note has that action.
func offers(note Note, action string) bool {
	for _, a := range note.Actions {
		if a.ID == action {
			return true
		}
	}
	return false
}
