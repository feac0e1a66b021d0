//go:build linux

package peer

import "golang.org/x/sys/unix"

func userOf(fd uintptr) (User, error) {
	cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	switch {
	case err != nil:
		return "", err
	case cred.Uid == invalidUID: // never been connected
		return "", ErrNotFound
	case isOverflow(cred.Uid):
		return "", errOverflow
	}
	return uidUser(cred.Uid), nil
}
