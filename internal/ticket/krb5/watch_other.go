//go:build !linux

package krb5

import (
	"context"
	"errors"
)

// Watch implements [ticket.Backend]. There is no cheap way on this system.
func (b *Backend) Watch(context.Context, func()) error { return errors.ErrUnsupported }
