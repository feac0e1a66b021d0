//go:build linux

package policy

import "strconv"

// Where the policies are, and whose: a test builds the program with others.
var (
	systemFolder = "/etc/kerbpass"
	systemOwner  = "0"
)

func systemSource() *Source {
	owner, err := strconv.ParseUint(systemOwner, 10, 32)
	if err != nil {
		owner = 0
	}
	return Folder(systemFolder, uint32(owner))
}
