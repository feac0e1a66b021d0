//go:build unix && !linux

package proxy

// fill is called when src may have something.
func (f *flow) fill(fd uintptr) (done bool) { return f.read(fd) }
