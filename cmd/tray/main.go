// Command kerbpass shows the Kerberos ticket and runs a small local proxy
// through which every program of this user gets out with it. It is built from
// this package and installed as kerbpass.
//
// This package joins the rooms under internal, which do not know each other:
// app.go builds and runs the parts, state.go folds what they report into one
// status, the other files are one command each.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(realMain()) }

// realMain returns instead of exiting, so that deferred clean-up runs.
func realMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	c := &cli{args: os.Args[1:], lookupEnv: os.LookupEnv, in: os.Stdin, out: os.Stdout, err: os.Stderr}
	err := c.run(ctx)
	var e *exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		if e.text != "" {
			fmt.Fprintln(os.Stderr, "kerbpass: "+e.text)
		}
		if e.hint != "" {
			fmt.Fprintln(os.Stderr, e.hint)
		}
		if e.code != 0 && e.text != "" {
			tell(e.text + "\n" + e.hint)
		}
		return e.code
	default:
		fmt.Fprintf(os.Stderr, "kerbpass: %v\n", err)
		tell(err.Error())
		return exitFailed
	}
}
