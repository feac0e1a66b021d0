//go:build linux

package peer

import "golang.org/x/sys/unix"

func unixPeer(fd int) (uint32, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	switch {
	case err != nil:
		return 0, err
	case cred.Uid == invalidUID: // never been connected
		return 0, ErrNotFound
	case isOverflow(cred.Uid):
		return 0, errOverflow
	}
	return cred.Uid, nil
}
