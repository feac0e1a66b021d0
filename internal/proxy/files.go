package proxy

import (
	"errors"
	"os"
	"syscall"
)

// noFiles reports whether err says that the process, or the machine, has no
// file descriptor left.
func noFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// reserve is a file that is open for the moment when no other can be: given up,
// it lets one more connection in, which is told why it cannot stay. The zero
// value holds none.
type reserve struct {
	f     *os.File
	given bool
}

// keep opens the file if that is possible.
func (r *reserve) keep() {
	if r.f == nil {
		if f, err := os.Open(os.DevNull); err == nil {
			r.f, r.given = f, false
		}
	}
}

// give closes the file and reports whether there was one.
func (r *reserve) give() bool {
	if r.f == nil {
		return false
	}
	r.f.Close()
	r.f, r.given = nil, true
	return true
}
