//go:build linux || darwin

package policy

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Folder is the source of policy.toml in dir and of the *.toml files in its
// policy.d. Of those the last in lexical order is the strongest, and
// policy.toml the weakest. Owner is who may write them beside root; give 0
// except in tests.
func Folder(dir string, owner uint32) *Source {
	parse := func(name string, data []byte) Policy { return parseTOML(name, string(data)) }
	parts := filepath.Join(dir, "policy.d")
	read := func() (p Policy) {
		names, err := listTrusted(parts, owner)
		if err != nil {
			p.add(excuse(parts, err))
		}
		slices.Reverse(names)
		for _, name := range names {
			p.add(readFile(filepath.Join(parts, name), owner, parse))
		}
		p.add(readFile(filepath.Join(dir, "policy.toml"), owner, parse))
		return p
	}
	return &Source{read: read, watch: watchFiles(func() []string {
		all := []string{filepath.Join(dir, "policy.toml"), parts}
		names, _ := listTrusted(parts, owner)
		for _, name := range names {
			all = append(all, filepath.Join(parts, name))
		}
		return all
	})}
}

// listTrusted returns the names of a folder's *.toml files, sorted. A folder
// that is not there has none.
func listTrusted(dir string, owner uint32) (names []string, err error) {
	path, err := trusted(dir, owner)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".toml") && !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, err
}
