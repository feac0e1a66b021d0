//go:build !unix

package krb5

import (
	"io/fs"
	"os"
)

const openFlags = os.O_RDONLY

// owned has no answer without Unix owners: the folder's access list decides.
func owned(fs.FileInfo) error { return nil }

// fileID has no cheap answer here; size and time must do.
func fileID(fs.FileInfo) string { return "" }

const defaultConfig = `C:\ProgramData\MIT\Kerberos5\krb5.ini`

// defaultCache is empty: on such systems the default is not a file.
func defaultCache() string { return "" }

func userID() string { return "" }
