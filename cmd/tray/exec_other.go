//go:build !unix

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
)

// execProgram runs the program and passes its exit code on.
func execProgram(ctx context.Context, args, env []string) error {
	path, err := lookProgram(args[0])
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &exitError{code: exit.ExitCode()}
	}
	return err
}
