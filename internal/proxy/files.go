package proxy

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
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

// accept gives the file up for a connection that is waiting, if there is one.
// (An accept fails for want of a file also when nobody waits; the file must not
// go to somebody else then.)
func (r *reserve) accept(l net.Listener) (net.Conn, error) {
	r.keep()
	t, ok := l.(interface{ SetDeadline(time.Time) error })
	if !ok || !r.give() {
		return nil, syscall.EMFILE
	}
	t.SetDeadline(time.Now().Add(200 * time.Microsecond))
	c, err := l.Accept()
	t.SetDeadline(noDeadline)
	if err != nil {
		r.keep()
	}
	return c, err
}
