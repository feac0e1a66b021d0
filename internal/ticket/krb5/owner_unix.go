//go:build unix

package krb5

import (
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// A pipe put where a cache belongs must not hang us.
const openFlags = os.O_RDONLY | syscall.O_NONBLOCK

// owned reports who a file belongs to when that is neither this user nor root.
func owned(fi fs.FileInfo) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); !ok || st.Uid != uint32(os.Getuid()) && st.Uid != 0 {
		return fmt.Errorf("it does not belong to this user (uid %d) or root", os.Getuid())
	}
	return nil
}

// fileID tells a file from another one put in its place.
func fileID(fi fs.FileInfo) string {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	}
	return ""
}

const defaultConfig = "/etc/krb5.conf"

// defaultCache is what MIT uses when neither the environment nor krb5.conf
// names a cache.
func defaultCache() string { return fmt.Sprintf("FILE:/tmp/krb5cc_%d", os.Getuid()) }

func userID() string { return fmt.Sprint(os.Getuid()) }
