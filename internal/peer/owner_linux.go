//go:build linux

package peer

import (
	"bufio"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
)

func listener(addr netip.AddrPort) (pid int, program string, err error) {
	inodes := map[string]bool{}
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if inode, ok := listenerInode(lines.Text(), addr); ok {
				inodes["socket:["+inode+"]"] = true
			}
		}
		f.Close()
	}
	if len(inodes) == 0 {
		return 0, "", ErrNotFound
	}
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*")
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err != nil || !inodes[link] {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		program, err := comm(dir)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(dir))
		return pid, program, nil
	}
	return 0, "", ErrNotFound
}
