//go:build !unix

package proxy

import "io"

// movesBodies: a read of zero bytes can swallow a break (it does on Wine), and
// the end of a body must not be mistaken. In a tunnel it is the ends that know
// whether they have everything.
const movesBodies = false

// fill says no once: it is called before the wait and after it. On Windows
// RawConn waits by reading zero bytes, which needs no buffer.
func (f *flow) fill(uintptr) (done bool) {
	f.n = 1 - f.n
	return f.n == 0
}

// wait fills the flow as soon as src has something.
func (f *flow) wait(fill func(fd uintptr) bool) error {
	f.n = 0
	if err := f.from.Read(fill); err != nil {
		return err
	}
	f.buf = largeBufs.Get().(*[]byte)
	f.n, f.err = f.src.Read((*f.buf)[:f.atMost(largeBuf)])
	if f.n > 0 {
		f.err = nil // it comes again
	} else if f.err == nil {
		f.err = io.ErrNoProgress
	}
	return nil
}
