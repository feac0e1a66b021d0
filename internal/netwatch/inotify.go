package netwatch

import (
	"bytes"
	"encoding/binary"
)

// A fileEvent is one struct inotify_event (inotify(7)).
type fileEvent struct {
	watch int32 // -1: events were lost
	mask  uint32
	name  string // in the folder watched; "" is the watched thing itself
}

// fileEvents splits what one read from an inotify descriptor returned. The
// kernel cuts nothing short; should it, the rest is left out.
func fileEvents(b []byte) (events []fileEvent) {
	for len(b) >= 16 {
		size := uint64(binary.NativeEndian.Uint32(b[12:])) + 16
		if size > uint64(len(b)) {
			break
		}
		name, _, _ := bytes.Cut(b[16:size], []byte{0}) // padded with NULs
		events = append(events, fileEvent{
			watch: int32(binary.NativeEndian.Uint32(b)),
			mask:  binary.NativeEndian.Uint32(b[4:]),
			name:  string(name),
		})
		b = b[size:]
	}
	return events
}
