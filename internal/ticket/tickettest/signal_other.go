//go:build !unix

package tickettest

import "errors"

func (d *daemon) pause() error  { return errors.ErrUnsupported }
func (d *daemon) resume() error { return errors.ErrUnsupported }
