package netwatch

import "encoding/binary"

// Numbers from linux/netlink.h, rtnetlink.h, if.h, if_addr.h and if_link.h.
// They live here rather than in package syscall's Linux half so that the
// parser is built and tested everywhere.
const (
	nlHeaderLen = 16
	nlOverrun   = 4     // NLMSG_OVERRUN
	nlReplace   = 0x100 // NLM_F_REPLACE

	rtmNewLink  = 16
	rtmNewAddr  = 20
	rtmNewRoute = 24

	familyBridge = 7 // AF_BRIDGE: a port's state, not the interface's

	ifUseful    = 0x1 | 0x40 | 0x10000 // IFF_UP, IFF_RUNNING, IFF_LOWER_UP
	ifaUseful   = 0x08 | 0x20 | 0x40   // IFA_F_DADFAILED, _DEPRECATED, _TENTATIVE
	routeUseful = 0x1 | 0x10           // RTNH_F_DEAD, RTNH_F_LINKDOWN
	routeCloned = 0x200                // RTM_F_CLONED: a cache entry

	ifaCacheInfo = 6 // lifetimes and time stamps
	ifaFlags     = 8
	rtaCacheInfo = 12
	rtaExpires   = 23
)

// maxKnown bounds each of [links]' memories. A machine with more routes than
// that is told of repetitions too.
const maxKnown = 4096

// links tells changes from repetitions in a stream of rtnetlink messages
// (RFC 3549). Routers repeat themselves every few seconds, and each time the
// kernel or its network manager announces the same address and the same route
// with a new lifetime. So it remembers each as it was last announced, without
// what runs by itself. It starts empty: the first word about a thing counts.
// The zero value is ready.
type links struct {
	known map[uint16]map[string]uint32 // by message type: what it is about → its useful flags
}

// forget is for when messages were lost.
func (l *links) forget() { l.known = nil }

// read returns the reason of the change that weighs most in one datagram, ""
// if nothing changed. A message that is cut short or malformed counts as a
// change if its type concerns us, and ends the datagram.
func (l *links) read(b []byte) (reason string) {
	for len(b) >= nlHeaderLen {
		size := int(binary.NativeEndian.Uint32(b))
		kind := binary.NativeEndian.Uint16(b[4:])
		flags := binary.NativeEndian.Uint16(b[6:])
		whole := size >= nlHeaderLen && size <= len(b)
		var body []byte // none if it is cut short
		if whole {
			body = b[nlHeaderLen:size]
		}
		switch kind &^ 1 { // each "new" is even, its "del" follows
		case rtmNewLink:
			if l.changed(kind, flags, body, linkOf) {
				reason = heavier(reason, Link)
			}
		case rtmNewRoute:
			if l.changed(kind, flags, body, routeOf) {
				reason = heavier(reason, Route)
			}
		case rtmNewAddr:
			if l.changed(kind, flags, body, addressOf) {
				reason = heavier(reason, Address)
			}
		case nlOverrun:
			l.forget()
			reason = Address
		}
		if !whole {
			break
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return reason
}

// A subject is what a message is about.
type subject struct {
	key    string // what it is, without what may change or run by itself
	state  uint32 // flags that decide whether it can be used
	ignore bool   // concerns nobody
}

func (l *links) changed(kind, flags uint16, body []byte, parse func([]byte) (subject, bool)) bool {
	s, ok := parse(body)
	if ok && s.ignore {
		return false
	}
	class := kind &^ 1
	known := l.known[class]
	was, seen := known[s.key]
	switch {
	case !ok, kind != class:
		// Something is gone, or who knows: whatever is announced next is news.
		delete(l.known, class)
		return true
	case seen && was == s.state:
		return false
	case known == nil, len(known) >= maxKnown, flags&nlReplace != 0:
		// What was replaced is not named. It must be news when it returns.
		known = map[string]uint32{}
		if l.known == nil {
			l.known = map[uint16]map[string]uint32{}
		}
		l.known[class] = known
	}
	known[s.key] = s.state
	return true
}

// linkOf reads a struct ifinfomsg. Its attributes are left alone: wireless
// cards announce every scan in them.
func linkOf(b []byte) (subject, bool) {
	if len(b) < 16 {
		return subject{}, false
	}
	return subject{
		key:    string(b[4:8]), // the interface's index
		state:  binary.NativeEndian.Uint32(b[8:]) & ifUseful,
		ignore: b[0] == familyBridge,
	}, true
}

// addressOf reads a struct ifaddrmsg and its attributes.
func addressOf(b []byte) (subject, bool) {
	if len(b) < 8 {
		return subject{}, false
	}
	flags := uint32(b[2])
	key := append([]byte{b[0], b[1], b[3]}, b[4:8]...) // family, prefix length, scope, interface
	ok := attributes(b[8:], func(kind uint16, attr []byte) {
		switch {
		case kind == ifaCacheInfo:
		case kind == ifaFlags && len(attr) == 8:
			flags = binary.NativeEndian.Uint32(attr[4:])
		default:
			key = append(key, attr...)
		}
	})
	return subject{key: string(key), state: flags & ifaUseful}, ok
}

// routeOf reads a struct rtmsg and its attributes.
func routeOf(b []byte) (subject, bool) {
	if len(b) < 12 {
		return subject{}, false
	}
	flags := binary.NativeEndian.Uint32(b[8:])
	key := append([]byte(nil), b[:8]...)
	ok := attributes(b[12:], func(kind uint16, attr []byte) {
		if kind != rtaCacheInfo && kind != rtaExpires {
			key = append(key, attr...)
		}
	})
	return subject{key: string(key), state: flags & routeUseful, ignore: flags&routeCloned != 0}, ok
}

// attributes calls each with every attribute in b, header included, and
// reports whether all were whole.
func attributes(b []byte, each func(kind uint16, attr []byte)) bool {
	for len(b) >= 4 {
		size := int(binary.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			return false
		}
		each(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[:size]) // without NLA_F_NESTED and _NET_BYTEORDER
		b = b[min((size+3)&^3, len(b)):]
	}
	return true
}
