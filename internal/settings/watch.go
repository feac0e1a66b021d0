package settings

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settle is how long the file must be left alone before it is read: an
	// editor truncates, writes and renames in quick succession.
	settle = 100 * time.Millisecond
	// settleMax bounds that for a file which is never left alone.
	settleMax = time.Second
	// watchedPoll is for file systems that report nothing, such as a home
	// folder on a server; blindPoll for when watching is not possible at all.
	watchedPoll = 30 * time.Second
	blindPoll   = 2 * time.Second
)

// Run watches the settings file until ctx ends, then returns nil. It follows
// the file through deletion, creation and replacement, also of its folder, and
// through symbolic links. Where the system cannot watch, it looks every few
// seconds.
func (s *Store) Run(ctx context.Context) error {
	w := watcher{store: s, dirs: map[string]os.FileInfo{}}
	var events chan fsnotify.Event
	var failures chan error
	if fsw, err := s.newWatcher(); err != nil {
		s.cfg.Log.Warn("settings cannot be watched, looking every two seconds", "err", err)
		w.blind = true
	} else {
		defer fsw.Close()
		w.fs, events, failures = fsw, fsw.Events, fsw.Errors
	}
	look := time.NewTimer(w.interval())
	defer look.Stop()
	settled := time.NewTimer(0) // first of all read what changed before the watch
	defer settled.Stop()
	var since time.Time // of the first event not yet acted upon
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-events:
			if w.concerns(ev.Name) {
				if since.IsZero() {
					since = time.Now()
				}
				settled.Reset(min(settle, max(0, settleMax-time.Since(since))))
			}
		case err := <-failures:
			// Usually lost events: look for oneself.
			s.cfg.Log.Debug("watch settings", "err", err)
			settled.Reset(settle)
		case <-settled.C:
			since = time.Time{}
			if !w.refresh() {
				settled.Reset(settle)
			}
			look.Reset(w.interval())
		case <-look.C:
			if !w.refresh() {
				settled.Reset(settle)
			}
			look.Reset(w.interval())
		}
	}
}

// watcher belongs to the goroutine of [Store.Run].
type watcher struct {
	store  *Store
	fs     *fsnotify.Watcher      // nil: there is none
	dirs   map[string]os.FileInfo // folders watched, as they were when that began
	links  []string               // the file and what it links to
	blind  bool                   // not all of them could be
	empty  bool                   // the file was there and empty when last looked at
	failed string                 // the failure last logged
}

func (w *watcher) interval() time.Duration {
	if w.blind {
		return blindPoll
	}
	return watchedPoll
}

// concerns reports whether a change at name can matter: it is the file, a folder
// on the way to it, or what a link on the way points to.
func (w *watcher) concerns(name string) bool {
	return slices.ContainsFunc(w.links, func(link string) bool {
		return name == link || strings.HasPrefix(link, strings.TrimSuffix(name, string(filepath.Separator))+string(filepath.Separator))
	})
}

// refresh watches what is to be watched now, then reads the file: in this
// order, so that no change falls between the two. Not done means that it has
// to be called again soon.
func (w *watcher) refresh() (done bool) {
	if w.fs != nil {
		// A folder may appear while its parent is only just being watched.
		for range 10 {
			if !w.rewatch() {
				break
			}
		}
	}
	// A file that has just become empty is usually about to be written; taken
	// at its word it would replace the last good settings by none.
	st, err := os.Stat(w.store.path)
	empty := err == nil && st.Mode().IsRegular() && st.Size() == 0
	first := empty && !w.empty
	if w.empty = empty; first {
		return false
	}
	failed := ""
	if err := w.store.Reload(); err != nil {
		failed = err.Error()
	}
	if failed == w.failed {
		return true
	}
	w.failed = failed
	if failed != "" {
		w.store.cfg.Log.Warn("settings file not usable", "err", failed)
	} else {
		w.store.cfg.Log.Info("settings file usable again")
	}
	return true
}

// rewatch brings the watched folders up to date and reports whether that
// changed anything.
func (w *watcher) rewatch() (changed bool) {
	links, _ := hops(w.store.path) // as far as they can be followed
	w.links = links
	wanted := map[string]os.FileInfo{}
	for _, link := range links {
		// Watch the folder, or for one that does not exist yet the nearest
		// above it that does.
		for dir := filepath.Dir(link); ; dir = filepath.Dir(dir) {
			if st, err := os.Stat(dir); err == nil && st.IsDir() {
				wanted[dir] = st
				break
			} else if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	alive := w.fs.WatchList()
	for dir, was := range w.dirs {
		// A folder that was deleted and made again has the old name, but its
		// watch is gone with the old one.
		if now, ok := wanted[dir]; ok && os.SameFile(was, now) && slices.Contains(alive, dir) {
			continue
		}
		if err := w.fs.Remove(dir); err != nil && !errors.Is(err, fsnotify.ErrNonExistentWatch) {
			w.store.cfg.Log.Debug("stop watching a folder", "dir", dir, "err", err)
		}
		delete(w.dirs, dir)
		changed = true
	}
	w.blind = false
	for dir, st := range wanted {
		if _, ok := w.dirs[dir]; ok {
			continue
		}
		if err := w.fs.Add(dir); err != nil {
			w.store.cfg.Log.Debug("watch a folder", "dir", dir, "err", err)
			w.blind = true
			continue
		}
		w.dirs[dir] = st
		changed = true
	}
	return changed
}
