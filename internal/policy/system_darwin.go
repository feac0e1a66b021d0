//go:build darwin

package policy

import (
	"os/user"
	"path/filepath"
)

const (
	preferences = "/Library/Managed Preferences"
	// domain is the payload type of the profile.
	domain = "io.github.kerbpass.kerbpass"
)

func systemSource() *Source {
	files := []string{filepath.Join(preferences, domain+".plist")}
	if u, err := user.Current(); err == nil && filepath.Base(u.Username) == u.Username {
		files = append(files, filepath.Join(preferences, u.Username, domain+".plist"))
	}
	read := func() (p Policy) {
		for _, file := range files { // the machine's before the person's
			p.add(readFile(file, 0, parsePlist))
		}
		return p
	}
	return &Source{read: read, watch: watchFiles(func() []string { return files })}
}
