//go:build unix

package proxy

import (
	"io"
	"os"
	"syscall"
)

// movesBodies: moveTCP may carry a body, whose end must not be mistaken.
const movesBodies = true

// wait fills the flow as soon as src has something.
func (f *flow) wait(fill func(fd uintptr) bool) error { return f.from.Read(fill) }

// read takes a buffer and reads; false means that nothing is there, and that
// the buffer has gone back.
func (f *flow) read(fd uintptr) (done bool) {
	pool := &bufs
	if f.bulk {
		pool = &largeBufs
	}
	f.buf = pool.Get().(*[]byte)
	for {
		n, err := syscall.Read(int(fd), (*f.buf)[:f.atMost(len(*f.buf))])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			f.giveBack()
			return false
		case err != nil:
			f.n, f.err = 0, os.NewSyscallError("read", err)
		case n == 0:
			f.n, f.err = 0, io.EOF
		default:
			f.n, f.err = n, nil
		}
		return true
	}
}
