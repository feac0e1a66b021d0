//go:build !linux

package main

import "errors"

func unmapProgram() error { return errors.ErrUnsupported }
