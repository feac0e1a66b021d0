//go:build linux

package netwatch

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// resolverPaths are the files that say who resolves names. Behind a local stub
// resolv.conf itself never changes; the others then name the real servers.
var resolverPaths = resolverFiles{
	"/etc/resolv.conf",
	"/run/systemd/resolve/resolv.conf",
	"/run/NetworkManager/no-stub-resolv.conf",
}

// resolverFiles are watched, together with what they link to, by their
// folders: files like these are replaced by renaming. One that does not exist
// yet is waited for in the nearest folder that does.
type resolverFiles []string

func (p resolverFiles) run(ctx context.Context, log *slog.Logger, report func(string)) error {
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("inotify_init1", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	defer closeWith(ctx, f)()
	w := watches{file: f}
	if err := w.follow(p); err != nil && len(w.names) == 0 {
		return err
	}
	was := p.text()
	log.Debug("watching")
	buf := make([]byte, 64<<10)
	for {
		n, err := f.Read(buf)
		if err != nil {
			return err
		}
		if !w.concerned(fileEvents(buf[:n])) {
			continue
		}
		if err := w.follow(p); err != nil {
			log.Debug("watch a folder", "err", err)
		}
		if now := p.text(); now != was {
			was = now
			report(Resolver)
		}
	}
}

// text returns all files in one; what cannot be read is empty.
func (p resolverFiles) text() string {
	var b strings.Builder
	for _, path := range p {
		b.WriteString("\x00")
		// Anything but a file could block.
		if st, err := os.Stat(path); err != nil || !st.Mode().IsRegular() {
			continue
		}
		if f, err := os.Open(path); err == nil {
			_, _ = io.Copy(&b, io.LimitReader(f, 64<<10))
			f.Close()
		}
	}
	return b.String()
}

// targets returns the names to watch for in each folder, and each file itself
// as a folder that only the name "" concerns: one that is mounted from
// elsewhere, as in a container, changes without a word from its folder.
func (p resolverFiles) targets() map[string]map[string]bool {
	targets := map[string]map[string]bool{}
	add := func(dir, name string) {
		if targets[dir] == nil {
			targets[dir] = map[string]bool{"": true}
		}
		targets[dir][name] = true
	}
	for _, path := range p {
		for range 10 { // links deep
			dir, name := filepath.Split(path)
			dir = filepath.Clean(dir)
			for !isDir(dir) && dir != "/" {
				dir, name = filepath.Dir(dir), filepath.Base(dir)
			}
			add(dir, name)
			next, err := os.Readlink(path)
			if err != nil {
				break
			}
			if !filepath.IsAbs(next) {
				// "..", seen from the folder and not from a link to it.
				if real, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
					next = filepath.Join(real, next)
				}
			}
			path = next
		}
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			add(path, "")
		}
	}
	return targets
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// watches belongs to the goroutine that reads file.
type watches struct {
	file    *os.File // an inotify descriptor
	targets map[string]map[string]bool
	names   map[int32]map[string]bool // what concerns us, by watch
	lost    bool                      // a watch has ended by itself
}

// What happens to a name in a folder, and (the last four) to the folder or
// file itself. Writing counts when it is done, not while it goes on.
const fileChanges = syscall.IN_CLOSE_WRITE | syscall.IN_CREATE | syscall.IN_DELETE |
	syscall.IN_MOVED_FROM | syscall.IN_MOVED_TO |
	syscall.IN_ATTRIB | syscall.IN_DELETE_SELF | syscall.IN_MOVE_SELF

// follow watches where the links of p lead now. It looks again afterwards, for
// they may have changed before the watch was there.
func (w *watches) follow(p resolverFiles) (err error) {
	for range 10 {
		targets := p.targets()
		if maps.EqualFunc(targets, w.targets, maps.Equal) && !w.lost {
			break
		}
		err = w.set(targets)
	}
	return err
}

// set watches targets and nothing else. What cannot be watched is left out and
// is in the error.
func (w *watches) set(targets map[string]map[string]bool) error {
	conn, err := w.file.SyscallConn() // Fd would make the descriptor blocking
	if err != nil {
		return err
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		names := map[int32]map[string]bool{}
		for path, wanted := range targets {
			wd, err := syscall.InotifyAddWatch(int(fd), path, fileChanges)
			if err != nil {
				failed = errors.Join(failed, &os.PathError{Op: "watch", Path: path, Err: err})
				continue
			}
			if names[int32(wd)] == nil {
				names[int32(wd)] = map[string]bool{}
			}
			maps.Copy(names[int32(wd)], wanted) // two paths can be one folder
		}
		for wd := range w.names {
			if names[wd] == nil {
				// It fails if the folder is gone, and the watch with it.
				_, _ = syscall.InotifyRmWatch(int(fd), uint32(wd))
			}
		}
		w.targets, w.names, w.lost = targets, names, false
	})
	return errors.Join(failed, err)
}

// concerned reports whether any of events is about something watched for.
func (w *watches) concerned(events []fileEvent) (yes bool) {
	for _, e := range events {
		_, ours := w.names[e.watch]
		if e.mask&syscall.IN_Q_OVERFLOW != 0 || ours && e.mask&(syscall.IN_IGNORED|syscall.IN_MOVE_SELF) != 0 {
			w.lost, yes = true, true
		}
		yes = yes || w.names[e.watch][e.name]
	}
	return yes
}
