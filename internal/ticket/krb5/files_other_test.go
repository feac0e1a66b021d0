//go:build !unix

package krb5_test

import "errors"

func mkfifo(string) error { return errors.ErrUnsupported }
