//go:build !linux

package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

var errNotHere = fmt.Errorf("comparing whole processes on %s: %w", runtime.GOOS, errors.ErrUnsupported)

func run(context.Context, options) (*results, error) { return nil, errNotHere }

func relay([]string) error { return errNotHere }
