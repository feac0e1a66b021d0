//go:build linux || darwin

package policy

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fsnotify/fsnotify"
)

// watchFiles watches what paths returns, through deletion, creation and
// replacement, also of the folders they lie in and of what links point to.
func watchFiles(paths func() []string) func(context.Context, func()) error {
	return func(ctx context.Context, report func()) error {
		w, err := fsnotify.NewWatcher()
		if err != nil {
			return fmt.Errorf("watch files: %w", err)
		}
		defer w.Close()
		files := follow(paths())
		watched := map[string]os.FileInfo{}
		rewatch(w, watched, files)
		report()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-w.Errors: // events were lost
			case ev := <-w.Events:
				if ev.Op == fsnotify.Chmod && !slices.Contains(files, ev.Name) && watched[ev.Name] == nil || !concerns(files, ev.Name) {
					continue
				}
			}
			// A folder may appear while its parent is only just being watched.
			for range 10 {
				files = follow(paths())
				if !rewatch(w, watched, files) {
					break
				}
			}
			report()
		}
	}
}

// follow adds what symbolic links lead to.
func follow(paths []string) []string {
	all := slices.Clone(paths)
	for _, path := range paths {
		if to, err := filepath.EvalSymlinks(path); err == nil && to != path {
			all = append(all, to)
		}
	}
	return all
}

// concerns reports whether a change at name can matter: it is one of the files,
// a folder on the way to one, or lies in one that is a folder.
func concerns(files []string, name string) bool {
	return slices.ContainsFunc(files, func(f string) bool {
		return f == name || strings.HasPrefix(f, strings.TrimSuffix(name, "/")+"/") || filepath.Dir(name) == f
	})
}

// rewatch watches the folder of each file, or the nearest above it that exists,
// and the files that are folders. It reports whether that is news.
func rewatch(w *fsnotify.Watcher, watched map[string]os.FileInfo, files []string) (changed bool) {
	wanted := map[string]os.FileInfo{}
	for _, f := range files {
		if st, err := os.Stat(f); err == nil && st.IsDir() {
			wanted[f] = st
		}
		for dir := filepath.Dir(f); ; dir = filepath.Dir(dir) {
			if st, err := os.Stat(dir); err == nil && st.IsDir() {
				wanted[dir] = st
				break
			} else if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	alive := w.WatchList()
	for dir, was := range maps.Clone(watched) {
		if now, ok := wanted[dir]; ok && os.SameFile(was, now) && slices.Contains(alive, dir) {
			continue
		}
		w.Remove(dir) // its watch may be gone with it
		delete(watched, dir)
		changed = true
	}
	for dir, st := range wanted {
		if watched[dir] == nil && w.Add(dir) == nil {
			watched[dir] = st
			changed = true
		}
	}
	return changed
}
