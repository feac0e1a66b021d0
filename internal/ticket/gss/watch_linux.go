//go:build linux && !nogss

package gss

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// relocate is how often Watch looks whether krb5.conf names another cache.
	relocate = 30 * time.Second
	// rearm is how often Watch looks for a folder that does not exist.
	rearm = time.Second

	changes = syscall.IN_CREATE | syscall.IN_CLOSE_WRITE | syscall.IN_DELETE | syscall.IN_MOVED_FROM | syscall.IN_MOVED_TO |
		syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF | syscall.IN_ONLYDIR
	folderGone = syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF | syscall.IN_IGNORED | syscall.IN_UNMOUNT
)

// Watch implements [ticket.Backend] for FILE and DIR caches. When krb5.conf
// names another kind later, or the system has no watch to spare, it ends with
// [errors.ErrUnsupported].
func (b *Backend) Watch(ctx context.Context, changed func()) error {
	for ctx.Err() == nil {
		spot, ok := spotOf(*b.where.Load())
		if !ok {
			return errors.ErrUnsupported
		}
		if err := b.watch(ctx, spot, changed); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// A spot is where a change of the tickets shows.
type spot struct {
	folder string
	file   string // the only one that counts; "" for a DIR collection
}

// spotOf finds the spot of the cache called name, if it lies in files.
func spotOf(name string) (spot, bool) {
	if file, ok := cacheFile(name); ok {
		return spot{filepath.Dir(file), filepath.Base(file)}, true
	}
	folder, ok := strings.CutPrefix(name, "DIR:")
	return spot{folder: folder}, ok
}

func (s spot) concerns(file string) bool {
	if s.file == "" {
		return inCollection(file)
	}
	return file == s.file
}

// watch reports what happens at s until ctx ends, s is no longer the spot, or
// its folder comes or goes.
func (b *Backend) watch(ctx context.Context, s spot, changed func()) error {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("%w: inotify_init1: %w", errors.ErrUnsupported, err)
	}
	events := os.NewFile(uintptr(fd), "inotify")
	defer events.Close()
	stop := context.AfterFunc(ctx, func() { events.Close() }) // ends a read under way
	defer stop()

	pause := relocate
	switch _, err := syscall.InotifyAddWatch(fd, s.folder, changes); err {
	case nil:
	case syscall.ENOENT, syscall.ENOTDIR:
		pause = rearm
	default: // such as too many watches
		return fmt.Errorf("%w: inotify_add_watch %s: %w", errors.ErrUnsupported, s.folder, err)
	}
	changed() // nobody looked until now
	buf := make([]byte, 16<<10)
	for {
		events.SetReadDeadline(time.Now().Add(pause))
		n, err := events.Read(buf)
		now, _ := spotOf(*b.where.Load())
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			if now != s || pause == rearm && isFolder(s.folder) {
				return nil
			}
			continue
		case err != nil:
			return err
		}
		hit, gone := s.judge(buf[:n])
		if hit {
			changed()
		}
		if gone || now != s {
			return nil
		}
	}
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// judge reads what the kernel wrote: does it concern s, and is the folder gone?
func (s spot) judge(buf []byte) (hit, gone bool) {
	for len(buf) >= syscall.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(buf[4:])
		length := binary.NativeEndian.Uint32(buf[12:])
		buf = buf[syscall.SizeofInotifyEvent:]
		if uint64(length) > uint64(len(buf)) {
			break
		}
		name := strings.TrimRight(string(buf[:length]), "\x00")
		buf = buf[length:]
		gone = gone || mask&folderGone != 0
		hit = hit || mask&syscall.IN_Q_OVERFLOW != 0 || s.concerns(name)
	}
	return hit || gone, gone
}
