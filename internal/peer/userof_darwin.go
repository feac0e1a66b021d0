//go:build darwin

package peer

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func userOf(fd uintptr) (User, error) {
	cred, err := unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return "", err
	}
	if cred.Version != 0 { // XUCRED_VERSION; another one has another layout
		return "", fmt.Errorf("credentials of unknown version %d", cred.Version)
	}
	return uidUser(cred.Uid), nil
}
