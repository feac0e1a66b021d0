//go:build linux || darwin

package settings

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the lock without waiting. The system releases it when the
// process ends, however it ends; the file itself stays, because removing it
// would let two processes lock different files of one name.
//
// The frozen syscall package has all that is needed, so this room does
// without x/sys.
func tryLock(path string) (unlock func(), busy bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, errors.Is(err, syscall.EWOULDBLOCK), &os.PathError{Op: "flock", Path: path, Err: err}
	}
	return func() { f.Close() }, false, nil
}

func rename(from, to string) error { return os.Rename(from, to) }
