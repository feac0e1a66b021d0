//go:build linux

package ticket

import "syscall"

// A look is what tells a file from what it was before. The zero look is that of
// a file that is not there.
type look struct {
	dev, inode        uint64
	size              int64
	modified, changed int64 // Unix nanoseconds
}

func lookAt(path string) look {
	var st syscall.Stat_t
	if syscall.Stat(path, &st) != nil {
		return look{}
	}
	return look{uint64(st.Dev), st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano()}
}
