package krb5

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"kerbpass/internal/ticket"
)

// A location is a cache name taken apart. Exactly one of file and dir is set.
type location struct {
	file  string // FILE:file or DIR::file
	dir   string // DIR:dir, whose file "primary" names the cache
	whole bool   // spelled DIR::file
}

// parseName reads a cache name. A type that only the system's library can
// open is an error that wraps errors.ErrUnsupported.
func parseName(name string) (location, error) {
	kind, rest, typed := strings.Cut(name, ":")
	if !typed || len(kind) == 1 { // a bare path, perhaps with a drive letter
		kind, rest = "FILE", name
	}
	if strings.ContainsRune(name, 0) {
		return location{}, fmt.Errorf("ticket cache %q: a name holds no NUL", name)
	}
	if rest == "" && (kind == "FILE" || kind == "DIR") {
		return location{}, fmt.Errorf("ticket cache %q names no path; write %s:/path", name, kind)
	}
	switch kind {
	case "FILE":
		return location{file: rest}, nil
	case "DIR":
		if file, ok := strings.CutPrefix(rest, ":"); ok {
			return location{file: file, whole: true}, nil
		}
		return location{dir: rest}, nil
	}
	return location{}, fmt.Errorf("ticket cache %q: type %s needs the system's Kerberos library, which is not in use; "+
		"without it, keep the ticket in a file: set KRB5CCNAME=FILE:/path and sign in again: %w", name, kind, errors.ErrUnsupported)
}

// pointer is the file that says which cache of a DIR collection is the default.
func (l location) pointer() string { return filepath.Join(l.dir, "primary") }

// primary returns the file of the default cache.
func (l location) primary() (string, error) {
	if l.dir == "" {
		return l.file, nil
	}
	b, err := readFile(l.pointer(), 1024, owned)
	if errors.Is(err, fs.ErrNotExist) {
		return filepath.Join(l.dir, "tkt"), nil
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", ticket.ErrCache, err)
	}
	name := strings.TrimRight(string(b), "\r\n")
	if !isSubsidiary(name) {
		return "", fmt.Errorf("%w: %s names %q, which is not a cache beside it", ticket.ErrCache, l.pointer(), name)
	}
	return filepath.Join(l.dir, name), nil
}

// isSubsidiary reports whether name can be a cache in a DIR collection.
func isSubsidiary(name string) bool {
	return strings.HasPrefix(name, "tkt") && !strings.ContainsAny(name, "/\\\x00")
}

// full names the cache in a file the way MIT does.
func (l location) full(file string) string {
	if l.dir != "" || l.whole {
		return "DIR::" + file
	}
	return "FILE:" + file
}

// expand replaces the %{…} of krb5.conf's default_ccache_name.
func expand(s string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(s, "%{")
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		word, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", fmt.Errorf("default_ccache_name: %%{ without }")
		}
		switch word {
		case "uid", "euid", "USERID":
			out.WriteString(userID())
		case "TEMP":
			out.WriteString(os.TempDir())
		case "null":
		default:
			return "", fmt.Errorf("default_ccache_name: %%{%s} is not known here; set KRB5CCNAME", word)
		}
		s = after
	}
}

// readFile reads a regular file of at most limit bytes, provided check (nil:
// none) has nothing against it.
func readFile(path string, limit int64, check func(fs.FileInfo) error) ([]byte, error) {
	f, err := os.OpenFile(path, openFlags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	if check != nil {
		if err := check(fi); err != nil {
			return nil, fmt.Errorf("%s is not used: %w", path, err)
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, nil
}

// stampFile is a fingerprint of a file. One that is not there has a stamp too:
// its coming is a change.
func stampFile(path string) string {
	fi, err := os.Stat(path)
	if err != nil {
		return "none"
	}
	return fmt.Sprintf("%s:%d:%s", fileID(fi), fi.Size(), fi.ModTime().UTC().Format(time.RFC3339Nano))
}
