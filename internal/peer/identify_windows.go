//go:build windows

package peer

import (
	"fmt"
	"net/netip"
	"path/filepath"

	"golang.org/x/sys/windows"
)

// finder names processes that are known already.
type finder struct{}

func newFinder([]User) *finder { return nil }

func (*finder) process(o owner, _ func() bool) (pid int, program string, err error) {
	program, err = programOf(uint32(o.key))
	if err != nil {
		return 0, "", err
	}
	return int(o.key), program, nil
}

// programOf returns the name of the file that a process runs.
func programOf(pid uint32) (string, error) {
	process, err := openProcess(pid)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	defer windows.CloseHandle(process)
	var name [windows.MAX_LONG_PATH]uint16
	size := uint32(len(name))
	if err := windows.QueryFullProcessImageName(process, 0, &name[0], &size); err != nil {
		return "", fmt.Errorf("program of process %d: %w: %w", pid, ErrNotFound, err)
	}
	return filepath.Base(windows.UTF16ToString(name[:size])), nil
}

func listener(addr netip.AddrPort) (pid int, program string, err error) {
	found, err := inTables(listeners, func(rows []tcpRow) (uint32, error) { return listenerIn(rows, addr) })
	if err != nil {
		return 0, "", err
	}
	program, err = programOf(found)
	if err != nil {
		return 0, "", err
	}
	return int(found), program, nil
}
