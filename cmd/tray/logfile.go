package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// maxLogFile is how large one of the two log files gets.
const maxLogFile = 1 << 20

// logFile is the log of a helper that nobody watches in a terminal: a file of
// the user alone, in the cache folder, and the one before it. When the first is
// full it takes the place of the second. The lines are those of standard error.
// It is written by one goroutine.
type logFile struct {
	path string
	file *os.File
	size int64
	max  int64
}

// defaultLogFile is kerbpass/kerbpass.log below the user's cache folder.
func defaultLogFile() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "kerbpass", "kerbpass.log"), nil
}

func openLogFile(path string) (*logFile, error) {
	l := &logFile{path: path, max: maxLogFile}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// open appends to the file. What is there and is no file, or a link to one, is
// refused.
func (l *logFile) open() error {
	switch st, err := os.Lstat(l.path); {
	case err == nil && !st.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", l.path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err == nil && st.Mode().Perm()&0o077 != 0 {
		err = f.Chmod(0o600)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size = f, st.Size()
	return nil
}

// Write appends lines. It reports no error: a log that cannot be written is no
// reason to stop, and the next one tries again.
func (l *logFile) Write(lines []byte) (int, error) {
	if l.file != nil && l.size+int64(len(lines)) > l.max {
		l.turn()
	}
	if l.file == nil && l.open() != nil {
		return len(lines), nil
	}
	// One write may bring more than a file takes: the end of it counts.
	kept := lines[max(0, int64(len(lines))-l.max):]
	n, _ := l.file.Write(kept)
	l.size += int64(n)
	return len(lines), nil
}

// turn makes the file the old one. Windows renames no open file.
func (l *logFile) turn() {
	l.file.Close()
	l.file = nil
	if err := os.Rename(l.path, l.path+".old"); err != nil {
		os.Truncate(l.path, 0)
	}
}

// logSinks are where log lines go; each takes its own time.
type logSinks []*logSink

var _ io.Writer = logSinks(nil)

// Write gives the line to each; none waits or fails.
func (s logSinks) Write(line []byte) (int, error) {
	for _, sink := range s {
		sink.Write(line)
	}
	return len(line), nil
}

func (s logSinks) close(limit time.Duration) {
	for _, sink := range s {
		sink.close(limit)
	}
}
