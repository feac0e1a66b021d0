//go:build windows

package userservice

import (
	"errors"
	"fmt"
)

func newService(Config) (*Service, error) {
	return nil, fmt.Errorf("%w: a Windows service runs in session 0 without your logon's tickets; use: kerbpass autostart on", errors.ErrUnsupported)
}
