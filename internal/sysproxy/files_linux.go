//go:build linux

package sysproxy

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const fileEvents = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CLOSE_WRITE |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ONLYDIR

// watchFiles reports changes of files that need not exist, whose folders need
// not exist either. A path that ends in a slash is a folder and stands for all
// in it. Files are watched by their folder, because programs replace them.
func watchFiles(ctx context.Context, paths []string, report func()) error {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("inotify: %w", err)
	}
	file := os.NewFile(uintptr(fd), "inotify")
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		file.Close() // wakes the read
	})
	defer func() {
		if !stop() {
			<-closed
		}
		file.Close()
	}()
	w := folders{file: file, asked: paths}
	w.arm()
	report()
	buf := make([]byte, 16<<10)
	for {
		n, err := file.Read(buf)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("inotify: %w", err)
		}
		if w.touched(buf[:n]) {
			w.arm() // a folder may have come or gone, or a link
			report()
		}
	}
}

type folders struct {
	file  *os.File
	asked []string           // the paths
	paths []string           // and what links among them lead to
	dirs  map[int32][]string // by watch; two paths may be one folder
}

// arm watches for each path the nearest folder that exists. Watching a folder
// again changes nothing.
func (w *folders) arm() {
	for range 3 { // a link may be made before its folder is watched
		w.paths = w.withTargets()
		w.watchAll()
		if slices.Equal(w.paths, w.withTargets()) {
			return
		}
	}
}

// withTargets are the paths, and what links among them lead to.
func (w *folders) withTargets() []string {
	all := w.asked
	for _, path := range w.asked {
		if to, err := filepath.EvalSymlinks(path); err == nil && to != filepath.Clean(path) {
			if strings.HasSuffix(path, "/") {
				to += "/"
			}
			all = append(slices.Clip(all), to)
		}
	}
	return all
}

func (w *folders) watchAll() {
	w.dirs = map[int32][]string{}
	for _, path := range w.paths {
		want := filepath.Dir(path) // of "/a/b/": "/a/b"
		for range 3 {              // a folder on the way may be made while we look
			dir := want
			for !w.watch(dir) && dir != filepath.Dir(dir) {
				dir = filepath.Dir(dir)
			}
			next := below(dir, want)
			if next == "" {
				break
			}
			if st, err := os.Stat(next); err != nil || !st.IsDir() {
				break
			}
		}
	}
}

func (w *folders) watch(dir string) bool {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return false
	}
	id := -1
	raw.Control(func(fd uintptr) { id, err = unix.InotifyAddWatch(int(fd), dir, fileEvents) })
	if id < 0 || err != nil {
		return false
	}
	if !slices.Contains(w.dirs[int32(id)], dir) {
		w.dirs[int32(id)] = append(w.dirs[int32(id)], dir)
	}
	return true
}

// below returns the folder in dir on the way to want, "" if they are the same.
func below(dir, want string) string {
	rel, err := filepath.Rel(dir, want)
	if err != nil || rel == "." {
		return ""
	}
	first, _, _ := strings.Cut(rel, string(filepath.Separator))
	return filepath.Join(dir, first)
}

// touched tells whether the events concern a path or a folder on the way to
// one.
func (w *folders) touched(b []byte) bool {
	for len(b) >= unix.SizeofInotifyEvent {
		id := int32(binary.NativeEndian.Uint32(b))
		mask := binary.NativeEndian.Uint32(b[4:])
		size := uint64(binary.NativeEndian.Uint32(b[12:])) + unix.SizeofInotifyEvent
		if size > uint64(len(b)) {
			break
		}
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:size], []byte{0})
		b = b[size:]
		if mask&(unix.IN_Q_OVERFLOW|unix.IN_DELETE_SELF|unix.IN_MOVE_SELF|unix.IN_IGNORED) != 0 {
			return true
		}
		for _, dir := range w.dirs[id] {
			at := filepath.Join(dir, string(name))
			for _, path := range w.paths {
				if at == path || dir+"/" == path || strings.HasPrefix(path, at+"/") {
					return true
				}
			}
		}
	}
	return false
}
