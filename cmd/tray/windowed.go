package main

import (
	"os"
	"path/filepath"
)

// Windows decides by a program's file whether it gets a console. So there are
// two, otherwise the same: kerbpass.exe for terminals, and kerbpassw.exe for
// the start at login, the Start menu and a double click, where a black window
// would stand until the helper ends.
const (
	consoleProgram  = "kerbpass.exe"
	windowedProgram = "kerbpassw.exe"
)

// twin is the windowed program beside exe, or exe where there is none, as on
// every system but Windows.
func twin(exe string) string {
	path := filepath.Join(filepath.Dir(exe), windowedProgram)
	if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
		return path
	}
	return exe
}
