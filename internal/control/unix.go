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
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
)

// maxPath leaves room for the final zero in sun_path: 104 bytes on macOS, 108
// on Linux.
const maxPath = 103

func channelPath(lookup func(name string) (string, bool)) (string, error) {
	return pathIn("/run/user", lookup)
}

// pathIn is channelPath; root is where logind makes a folder for each user.
func pathIn(root string, lookup func(name string) (string, bool)) (string, error) {
	var folders []string
	if runtime.GOOS != "darwin" {
		if dir, ok := lookup("XDG_RUNTIME_DIR"); ok {
			folders = append(folders, dir)
		}
		folders = append(folders, filepath.Join(root, strconv.Itoa(os.Geteuid())))
	}
	i := slices.IndexFunc(folders, func(dir string) bool { return filepath.IsAbs(dir) && checkPrivate(dir) == nil })
	if i < 0 {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("no folder for the control socket: %w; set XDG_RUNTIME_DIR or HOME", err)
		}
		folders, i = []string{dir}, 0
	}
	path := filepath.Join(folders[i], "kerbpass", "control.sock")
	return path, checkLength(path)
}

func checkLength(path string) error {
	if len(path) > maxPath {
		return fmt.Errorf("control socket %s: the path has %d bytes, the system takes %d; set XDG_RUNTIME_DIR to a shorter folder of mode 0700",
			path, len(path), maxPath)
	}
	return nil
}

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

// listen implements [Listen].
//
// A lock on a file beside the socket decides who may listen. The system drops
// it with the process, however that ends, and the file stays: removing it
// would let two processes lock two files of the same name.
func listen(path string) (net.Listener, error) {
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
