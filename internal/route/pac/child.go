package pac

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
)

// What goes between the helper and the process that runs a script: one JSON
// value per line, a load first, then one answer for each.
type (
	order struct {
		Load   bool   `json:"load,omitempty"`
		Name   string `json:"name,omitempty"`
		Script string `json:"script,omitempty"`
		URL    string `json:"url,omitempty"`
		Host   string `json:"host,omitempty"`
	}
	result struct {
		Line   string   `json:"line,omitempty"`
		Varies bool     `json:"varies,omitempty"`
		Alerts []string `json:"alerts,omitempty"`
		Error  string   `json:"error,omitempty"` // what a person reads
		Kind   string   `json:"kind,omitempty"`  // of the error
		Spent  bool     `json:"spent,omitempty"` // the process ends
	}
)

// kinds are the errors that keep their nature between the processes.
var kinds = map[string]error{"no_script": ErrNoScript, "script": ErrScript, "long": ErrTooLong, "large": ErrTooLarge}

const maxAlerts = 20 // of one evaluation

// Serve runs a script for the program that holds the other ends of in and out,
// until it closes them or the script can run no longer. The whole process is
// meant to serve this alone: it is what is limited, and what ends.
func Serve(in io.Reader, out io.Writer, world World) error {
	debug.SetMaxStack(maxHeap / 2) // a deep recursion inside the parser
	debug.SetGCPercent(50)
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	var script *Script
	var alerts []string
	world.Alert = func(text string) {
		if len(alerts) < maxAlerts {
			alerts = append(alerts, text)
		}
	}
	for {
		var o order
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("pac: read an order: %w", err)
		}
		var r result
		var err error
		alerts = nil
		switch {
		case o.Load:
			script, err = Load(o.Name, o.Script, world)
		case script == nil:
			return errors.New("pac: a question before the script")
		default:
			r.Line, r.Varies, err = script.Find(o.URL, o.Host)
		}
		r.Spent = errors.Is(err, ErrTooLong) || errors.Is(err, ErrTooLarge)
		if err != nil {
			r.Error = err.Error()
			for kind, is := range kinds {
				if errors.Is(err, is) {
					r.Kind = kind
				}
			}
		}
		if !r.Spent { // what was left behind may still print
			r.Alerts = alerts
		}
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("pac: answer: %w", err)
		}
		if r.Spent || o.Load && err != nil {
			return nil
		}
	}
}

// remote is an error of the other process.
type remote struct {
	text string
	is   error
}

func (e *remote) Error() string { return e.text }
func (e *remote) Unwrap() error { return e.is }

func (r *result) err() error {
	if r.Error == "" {
		return nil
	}
	if is := kinds[r.Kind]; is != nil {
		return &remote{r.Error, is}
	}
	return &remote{r.Error, ErrScript}
}
