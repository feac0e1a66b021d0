//go:build !linux

package ticket

import "os"

// A look is what tells a file from what it was before. The zero look is that of
// a file that is not there.
type look struct{ size, changed int64 } // bytes; Unix nanoseconds

func lookAt(path string) look {
	fi, err := os.Stat(path)
	if err != nil {
		return look{}
	}
	return look{fi.Size(), fi.ModTime().UnixNano()}
}
