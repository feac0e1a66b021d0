package netwatch

import "encoding/binary"

// Numbers from macOS's net/route.h.
const (
	bsdAdd        = 0x1 // RTM_ADD
	bsdDelete     = 0x2
	bsdChange     = 0x3
	bsdNewAddress = 0xc
	bsdDelAddress = 0xd
	bsdInterface  = 0xe // RTM_IFINFO

	// Routes to neighbours and clones of routes come and go with traffic.
	bsdNeighbour = 0x400 | 0x20000 // RTF_LLINFO, RTF_WASCLONED
)

// routeMessages returns the reason of the change that weighs most in what one
// read from a routing socket returned, "" if nothing changed (route(4)). A
// message that is cut short counts if its type does.
func routeMessages(b []byte) (reason string) {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b)) // then a version and a type, one byte each
		switch b[3] {
		case bsdNewAddress, bsdDelAddress:
			reason = heavier(reason, Address)
		case bsdAdd, bsdDelete, bsdChange:
			// struct rt_msghdr has its flags at 8.
			if len(b) < 12 || binary.NativeEndian.Uint32(b[8:])&bsdNeighbour == 0 {
				reason = heavier(reason, Route)
			}
		case bsdInterface:
			reason = heavier(reason, Link)
		}
		if size < 4 || size > len(b) {
			break
		}
		b = b[size:]
	}
	return reason
}
