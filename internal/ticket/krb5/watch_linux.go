//go:build linux

package krb5

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"kerbpass/internal/ticket"
)

// Watch implements [ticket.Backend] with inotify. While the folder of the
// cache does not exist, the nearest one above it is watched.
func (b *Backend) Watch(ctx context.Context, changed func()) error {
	stamp := b.Stamp()
	tell := func() {
		stamp = b.Stamp()
		changed()
	}
	for ctx.Err() == nil {
		w, err := b.newWatch()
		if err != nil {
			return &ticket.OpError{Op: "watch", Subject: b.cache, Err: err}
		}
		if b.Stamp() != stamp { // while nothing was watched
			tell()
		}
		if err := w.run(ctx, tell); err != nil && ctx.Err() == nil {
			return &ticket.OpError{Op: "watch", Subject: b.cache, Err: err}
		}
	}
	return nil
}

// A spot is what to look at in a folder.
type spot struct {
	folder string
	name   string // "": everything in it
	climb  bool   // name leads to the folder that is meant, once it exists
}

// spots are the folders that tell about the configured cache now.
func (b *Backend) spots() ([]spot, error) {
	b.mu.Lock()
	l, _, err := b.locate()
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if l.dir != "" {
		return []spot{nearest(spot{folder: l.dir})}, nil
	}
	out := []spot{nearest(spot{folder: filepath.Dir(l.file), name: filepath.Base(l.file)})}
	if real, err := filepath.EvalSymlinks(l.file); err == nil && real != filepath.Clean(l.file) {
		out = append(out, spot{folder: filepath.Dir(real), name: filepath.Base(real)})
	}
	return out, nil
}

// nearest climbs to a folder that exists.
func nearest(s spot) spot {
	for {
		_, err := os.Stat(s.folder)
		up := filepath.Dir(s.folder)
		if !errors.Is(err, fs.ErrNotExist) || up == s.folder {
			return s
		}
		s = spot{folder: up, name: filepath.Base(s.folder), climb: true}
	}
}

// A watch is one inotify instance.
type watch struct {
	file  *os.File
	spots map[int32][]spot // by watch descriptor
}

func (b *Backend) newWatch() (*watch, error) {
	for range 10 {
		spots, err := b.spots()
		if err != nil {
			return nil, err
		}
		w, err := watchSpots(spots)
		if err == nil {
			var now []spot
			if now, err = b.spots(); err == nil && slices.Equal(now, spots) {
				return w, nil
			}
			w.file.Close()
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return nil, errors.New("the folders of the ticket cache come and go")
}

func watchSpots(spots []spot) (*watch, error) {
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("inotify: %w: %w", errors.ErrUnsupported, err) // the caller can poll
	}
	w := &watch{os.NewFile(uintptr(fd), "inotify"), map[int32][]spot{}}
	for _, s := range spots {
		const events = syscall.IN_CREATE | syscall.IN_CLOSE_WRITE | syscall.IN_ATTRIB | syscall.IN_MOVED_FROM | syscall.IN_MOVED_TO |
			syscall.IN_DELETE | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF | syscall.IN_ONLYDIR
		wd, err := syscall.InotifyAddWatch(fd, s.folder, events)
		if err != nil {
			w.file.Close()
			if errors.Is(err, syscall.ENOSPC) {
				err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
			}
			return nil, fmt.Errorf("watch %s: %w", s.folder, err)
		}
		w.spots[int32(wd)] = append(w.spots[int32(wd)], s)
	}
	return w, nil
}

// run calls changed for what happens at the spots. It returns nil when they
// have to be found anew, and closes the watch.
func (w *watch) run(ctx context.Context, changed func()) error {
	defer w.file.Close()
	defer context.AfterFunc(ctx, func() { w.file.Close() })()
	buf := make([]byte, 16<<10)
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return err
		}
		hit, moved := w.judge(buf[:n])
		if hit || moved {
			changed()
		}
		if moved {
			return nil
		}
	}
}

// judge looks through a batch of inotify events: has something happened at a
// spot, and are the spots still the right ones?
func (w *watch) judge(events []byte) (hit, moved bool) {
	const head = 16
	for len(events) >= head {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		size := min(head+int(binary.NativeEndian.Uint32(events[12:])), len(events))
		name := strings.TrimRight(string(events[head:size]), "\x00")
		events = events[size:]
		if mask&(syscall.IN_DELETE_SELF|syscall.IN_MOVE_SELF|syscall.IN_IGNORED|syscall.IN_Q_OVERFLOW) != 0 {
			moved = true
		}
		for _, s := range w.spots[wd] {
			if s.name == "" || s.name == name {
				hit = true
				moved = moved || s.climb
			}
		}
	}
	return hit, moved
}
