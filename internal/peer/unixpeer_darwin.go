//go:build darwin

package peer

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func unixPeer(fd int) (uint32, error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, err
	}
	if cred.Version != 0 { // XUCRED_VERSION; another one has another layout
		return 0, fmt.Errorf("credentials of unknown version %d", cred.Version)
	}
	return cred.Uid, nil
}
