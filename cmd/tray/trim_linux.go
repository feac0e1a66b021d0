//go:build linux

package main

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// unmapProgram gives back the pages of the program's own file that have been
// mapped up to now, most of them read once by the start, or mapped by the
// kernel because a neighbour was. They stay in the system's page cache, and
// what is used again is mapped again from there. It touches only mappings that
// cannot be written and hold no page that differs from the file.
func unmapProgram() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err
	}
	for _, r := range pristine(smaps, exe) {
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, r.from, r.to-r.from, syscall.MADV_DONTNEED); errno != 0 {
			return errno
		}
	}
	return nil
}

type memoryRange struct{ from, to uintptr }

// pristine returns the read-only mappings of the file whose pages are all those
// of the file, out of the text of /proc/PID/smaps.
func pristine(smaps []byte, file string) (all []memoryRange) {
	var r memoryRange
	for lines := bufio.NewScanner(bytes.NewReader(smaps)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) >= 5 && !strings.HasSuffix(f[0], ":"):
			r = memoryRange{}
			from, to, _ := strings.Cut(f[0], "-")
			a, err1 := strconv.ParseUint(from, 16, 64)
			b, err2 := strconv.ParseUint(to, 16, 64)
			if err1 == nil && err2 == nil && len(f) >= 6 && strings.Join(f[5:], " ") == file && (f[1] == "r-xp" || f[1] == "r--p") {
				r = memoryRange{uintptr(a), uintptr(b)}
			}
		case len(f) == 3 && f[0] == "Anonymous:" && r.to > r.from:
			if f[1] == "0" {
				all = append(all, r)
			}
			r = memoryRange{}
		}
	}
	return all
}
