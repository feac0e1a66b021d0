//go:build windows

package settings

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"
)

const (
	errSharingViolation = syscall.Errno(32)
	errAccessDenied     = syscall.Errno(5)
)

// tryLock opens the lock file without sharing it, which is exclusive until the
// handle is closed or the process ends, however it ends.
func tryLock(path string) (unlock func(), busy bool, err error) {
	name, err := syscall.UTF16PtrFromString(path)
	if err != nil {
		return nil, false, err
	}
	const noSharing = 0
	h, err := syscall.CreateFile(name, syscall.GENERIC_WRITE, noSharing, nil,
		syscall.OPEN_ALWAYS, syscall.FILE_ATTRIBUTE_NORMAL, 0)
	if err != nil {
		return nil, errors.Is(err, errSharingViolation), &os.PathError{Op: "open", Path: path, Err: err}
	}
	return func() { syscall.CloseHandle(h) }, false, nil
}

// rename repeats while another program, a virus scanner or our own watcher,
// has the old file open.
func rename(from, to string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return poll(ctx, func() (bool, error) {
		err := os.Rename(from, to)
		again := errors.Is(err, errSharingViolation) || errors.Is(err, errAccessDenied)
		return !again, err
	})
}
