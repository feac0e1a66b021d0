//go:build unix

package apps

import (
	"io/fs"
	"os"
	"syscall"
)

// likeOriginal gives a new file the mode and the owner of the one it replaces.
func likeOriginal(f *os.File, st fs.FileInfo) error {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Geteuid() {
		if err := f.Chown(int(sys.Uid), int(sys.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(st.Mode().Perm())
}
