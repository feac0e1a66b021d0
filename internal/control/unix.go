//go:build linux || darwin

package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// checkPrivate returns nil if dir is a folder, not a link to one, that belongs
// to this user and that nobody else can enter.
func checkPrivate(dir string) error {
	return checkFolder(dir, 0o077)
}

// checkFolder returns nil if dir is a folder of this user whose mode has none
// of the forbidden bits.
func checkFolder(dir string, forbidden fs.FileMode) error {
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	switch {
	case !st.IsDir():
		return fmt.Errorf("%s is not a folder (%v); remove it", dir, st.Mode().Type())
	case !ok || int(sys.Uid) != os.Geteuid():
		return fmt.Errorf("folder %s belongs to another user; remove it or set XDG_RUNTIME_DIR to a folder of your own", dir)
	case st.Mode().Perm()&forbidden != 0:
		return fmt.Errorf("folder %s can be used by others (mode %v); run: chmod 700 %[1]s", dir, st.Mode().Perm())
	}
	return nil
}

// Listen opens the control socket. It creates its folder with mode 0700 where
// there is none, and refuses one that is a link, is another user's or is
// writable by others. [ErrRunning] tells that another process holds the
// channel; what a crash left behind is replaced. Closing the listener removes
// the socket and lets the next process in.
//
// A lock on a file beside the socket decides who may listen. The system drops
// it with the process, however that ends, and the file stays: removing it
// would let two processes lock two files of the same name.
func Listen(path string) (net.Listener, error) {
	if err := checkLength(path); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the control socket: %w", err)
	}
	if err := checkFolder(dir, 0o022); err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock of the control socket: %w", err)
	}
	l, err := listenLocked(path, lock)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return l, nil
}

func listenLocked(path string, lock *os.File) (net.Listener, error) {
	err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("control socket %s: %w", path, ErrRunning)
	}
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	st, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("control socket: %w", err)
	case st.Mode().Type() != fs.ModeSocket:
		return nil, fmt.Errorf("%s is in the place of the control socket but is none; move it away", path)
	default: // nobody can be behind it, since we hold the lock
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("old control socket: %w", err)
		}
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return &listener{UnixListener: l, lock: lock}, nil
}

// listener gives up the lock after the socket is gone.
type listener struct {
	*net.UnixListener
	lock *os.File
	once sync.Once
}

func (l *listener) Close() error {
	err := net.ErrClosed
	l.once.Do(func() { err = errors.Join(l.UnixListener.Close(), l.lock.Close()) })
	return err
}

func dial(ctx context.Context, path string) (net.Conn, error) {
	if err := checkLength(path); err != nil {
		return nil, err
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, fmt.Errorf("%w (%v)", ErrNotRunning, err)
	}
	return c, err
}
