// Command bench compares Kerbpass with other proxies and with the limits of
// the machine: whole processes, started fresh, one after the other on one
// core, against the same upstream that demands credentials.
//
// It promises the same work for everybody: one upstream and origin in this
// process on another core, turned order, noisy samples taken again, medians,
// and real Kerberos tokens whose first ones are verified with the service's
// key. It refuses to say what it did not measure: a peer that is not installed
// is named and left out, and a goal without its reference has no verdict.
// Everything stays on the loopback interface. It measures on Linux only.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options say what a comparison does.
type options struct {
	budget  time.Duration     // for all; samples are taken again only while it is kept
	unit    time.Duration     // length of one load
	rest    time.Duration     // how long a process is left alone
	rounds  int               // each visits every row once per test
	idle    int               // tunnels to hold
	tests   []string          // of testNames; nil means all
	rows    []string          // names of rows; nil means all
	ours    map[string]string // further builds of Kerbpass by name
	root    string            // the module's folder, where Kerbpass is built
	quiet   float64           // share of the machine that others may use
	retries int               // of a sample that was not quiet
	pin     bool              // to one core each
	log     io.Writer         // progress
}

var testNames = []string{"get", "pace", "tunnel", "request", "bulk", "idle", "rest", "upload"}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, out, log io.Writer) error {
	if len(args) > 0 && args[0] == "relay" {
		return relay(args[1:])
	}
	o := options{ours: map[string]string{}, pin: true, log: log}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(log)
	budget := fs.Duration("for", 2*time.Minute, "about how long the comparison may take")
	full := fs.Bool("full", false, "short for -for 15m")
	quick := fs.Bool("quick", false, "short for -for 2m")
	asJSON := fs.Bool("json", false, "print JSON, not markdown")
	fs.DurationVar(&o.unit, "unit", 0, "length of one load (default: from -for)")
	fs.DurationVar(&o.rest, "rest", 0, "how long a process is left alone (default: from -for)")
	fs.IntVar(&o.rounds, "rounds", 0, "rounds (default: from -for)")
	fs.IntVar(&o.idle, "idle", 0, "idle tunnels to hold (default: from -for)")
	fs.StringVar(&o.root, "root", ".", "the module's folder, where Kerbpass is built")
	fs.Float64Var(&o.quiet, "quiet", 0.08, "take a sample again if others used more than this share of the machine")
	fs.IntVar(&o.retries, "retries", 1, "how often; the quietest is kept")
	fs.Func("tests", "of "+strings.Join(testNames, ",")+", comma-separated (default all)", list(&o.tests))
	fs.Func("rows", "rows by name, comma-separated (default all)", list(&o.rows))
	fs.Func("ours", "NAME=PATH: compare another build of Kerbpass too (repeatable)", func(s string) error {
		name, path, ok := strings.Cut(s, "=")
		if !ok || name == "" || path == "" {
			return fmt.Errorf("want NAME=PATH, got %q", s)
		}
		o.ours[name] = path
		return nil
	})
	if err := fs.Parse(args); err != nil {
		return err
	}
	for _, name := range o.tests {
		if !slices.Contains(testNames, name) {
			return fmt.Errorf("no test %q; there are %s", name, strings.Join(testNames, ", "))
		}
	}
	switch {
	case fs.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case *full:
		*budget = 15 * time.Minute
	case *quick:
		*budget = 2 * time.Minute
	}
	o.budget = *budget
	o.plan()

	r, err := run(ctx, o)
	if err != nil {
		return err
	}
	if *asJSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(r.export())
	}
	_, err = io.WriteString(out, r.markdown())
	return err
}

func list(into *[]string) func(string) error {
	return func(s string) error {
		*into = strings.Split(s, ",")
		return nil
	}
}

// plan fills in what was not given, so that all of it keeps the budget with
// nine rows. A row costs about 14 units and 8 s beside its rest in each round.
func (o *options) plan() {
	if o.rounds == 0 {
		o.rounds = min(5, max(1, int(o.budget/(5*time.Minute))))
	}
	row := o.budget / time.Duration(9*o.rounds)
	if o.rest == 0 {
		o.rest = min(10*time.Second, max(time.Second, row/6))
	}
	if o.unit == 0 {
		o.unit = min(3*time.Second, max(100*time.Millisecond, (row-o.rest-8*time.Second)/14)).Truncate(10 * time.Millisecond)
	}
	if o.idle == 0 {
		o.idle = 1000
		if o.budget >= 10*time.Minute {
			o.idle = 3000
		}
	}
}
