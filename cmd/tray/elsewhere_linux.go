//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// likelyCaches lists where sign-in programs of Linux put this user's tickets:
// the classic file, those that pam_krb5 and sssd name at random, the runtime
// folder, the persistent keyring, and KCM.
func likelyCaches() (all []string) {
	uid := os.Geteuid()
	for _, pattern := range []string{"/tmp/krb5cc_%d", "/tmp/krb5cc_%d_*", "/run/user/%d/krb5cc*"} {
		found, _ := filepath.Glob(fmt.Sprintf(pattern, uid))
		for _, path := range found {
			info, err := os.Lstat(path)
			if err != nil {
				continue
			}
			if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != uid {
				continue
			}
			switch {
			case info.Mode().IsRegular():
				all = append(all, "FILE:"+path)
			case info.IsDir():
				all = append(all, "DIR:"+path)
			}
		}
	}
	return append(all, fmt.Sprintf("KEYRING:persistent:%d", uid), "KCM:")
}
