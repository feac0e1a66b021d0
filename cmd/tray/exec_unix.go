//go:build unix

package main

import (
	"context"
	"syscall"
)

// execProgram becomes the program, so that signals, terminal and exit code are
// its own. It returns only if that fails.
func execProgram(_ context.Context, args, env []string) error {
	path, err := lookProgram(args[0])
	if err != nil {
		return err
	}
	return failf(126, "Check that it is a program for this system.", "%s cannot be run: %v.", args[0], syscall.Exec(path, args, env))
}
