//go:build linux || darwin

package policy

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxFile bounds a policy file.
const maxFile = 1 << 20

// distrust says why a file does not count: somebody else than its owner ought
// to be could have written it.
type distrust struct{ why string }

func (d *distrust) Error() string { return d.why }

// trusted follows path from the root, symbolic links included, and returns the
// file it ends at. Every folder and link on the way, and the file, must belong
// to owner or root and be writable by nobody else, so that nothing can be put
// in its place between this look and the next. A folder with the sticky bit may
// be writable: what is another's in it stays.
func trusted(path string, owner uint32) (string, error) {
	if !filepath.IsAbs(path) {
		return "", &distrust{"the path is not absolute"}
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return "", err // nothing is there to be distrusted
	}
	at, rest := "/", strings.Split(filepath.Clean(path), "/")[1:]
	for links := 0; ; {
		st, err := os.Lstat(at)
		if err != nil {
			return "", err
		}
		if err := judge(at, st, owner, len(rest) > 0 && rest[0] != ""); err != nil {
			return "", err
		}
		if st.Mode()&fs.ModeSymlink != 0 {
			if links++; links > 40 {
				return "", &distrust{path + " leads through too many symbolic links"}
			}
			to, err := os.Readlink(at)
			if err != nil {
				return "", err
			}
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir(at), to)
			}
			at, rest = "/", append(strings.Split(filepath.Clean(to), "/")[1:], rest...)
			continue
		}
		for len(rest) > 0 && rest[0] == "" {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return at, nil
		}
		at, rest = filepath.Join(at, rest[0]), rest[1:]
	}
}

// judge is about one step of the way; on is for what more follows.
func judge(path string, st fs.FileInfo, owner uint32, on bool) error {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return &distrust{"the owner of " + path + " is not known"}
	}
	if sys.Uid != 0 && sys.Uid != owner {
		return &distrust{fmt.Sprintf("%s belongs to user %d and not to root", path, sys.Uid)}
	}
	sticky := on && st.IsDir() && st.Mode()&fs.ModeSticky != 0
	if st.Mode()&fs.ModeSymlink == 0 && st.Mode().Perm()&0o022 != 0 && !sticky {
		return &distrust{fmt.Sprintf("others than root may write to %s (mode %04o)", path, st.Mode().Perm())}
	}
	return nil
}

// readTrusted returns what a file holds. A file that is not there is
// [fs.ErrNotExist], one that is not to be trusted a distrust.
func readTrusted(path string, owner uint32) ([]byte, error) {
	path, err := trusted(path, owner)
	if err != nil {
		return nil, err
	}
	// A FIFO must not block.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	return data, err
}

// readFile reads and parses one file; one that is not there says nothing.
func readFile(path string, owner uint32, parse func(name string, data []byte) Policy) Policy {
	data, err := readTrusted(path, owner)
	if err == nil {
		return parse(path, data)
	}
	return excuse(path, err)
}

// excuse is what is said of a file or folder that could not be read.
func excuse(path string, err error) Policy {
	var no *distrust
	var at *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Policy{}
	case errors.As(err, &no):
		return Policy{Problems: []Problem{{Name: path, Text: "this policy is ignored: " + no.why,
			Hint: "Give it, and every folder on the way, to root alone: chown root, chmod go-w"}}}
	case errors.As(err, &at):
		err = at.Err
	}
	return Policy{Problems: []Problem{{Name: path, Text: fmt.Sprintf("the policy cannot be read: %v", err), Hint: "Make it a file that everybody may read", Broken: true}}}
}
