package netwatch

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
)

var native = binary.NativeEndian

// message makes a netlink message of its parts.
func message(kind, flags uint16, parts ...[]byte) []byte {
	body := slices.Concat(parts...)
	b := native.AppendUint32(nil, uint32(nlHeaderLen+len(body)))
	b = native.AppendUint16(b, kind)
	b = native.AppendUint16(b, flags)
	b = append(b, make([]byte, 8)...) // sequence number and port
	return append(b, pad(body)...)
}

func pad(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }

func attribute(kind uint16, value ...byte) []byte {
	b := native.AppendUint16(nil, uint16(4+len(value)))
	return pad(append(native.AppendUint16(b, kind), value...))
}

func ifinfo(family byte, index, flags uint32) []byte {
	b := native.AppendUint32([]byte{family, 0, 0, 0}, index)
	return append(native.AppendUint32(b, flags), make([]byte, 4)...)
}

func ifaddr(flags byte, index uint32) []byte {
	return native.AppendUint32([]byte{2, 24, flags, 0}, index)
}

func rtmsg(prefix byte, flags uint32) []byte {
	return native.AppendUint32([]byte{2, prefix, 0, 0, 254, 3, 0, 1}, flags)
}

var (
	addr1  = attribute(1, 10, 9, 0, 1)
	addr2  = attribute(1, 10, 9, 0, 2)
	lives  = func(n byte) []byte { return attribute(ifaCacheInfo, n, 0, 0, 0, n, 0, 0, 0) }
	gate1  = attribute(5, 10, 9, 0, 254)
	gate2  = attribute(5, 10, 9, 0, 253)
	up     = uint32(0x10043)
	noCarr = uint32(0x3)
)

const neighbour = 28 // RTM_NEWNEIGH

func TestNetlinkMessages(t *testing.T) {
	type step struct {
		datagram []byte
		want     string
	}
	cut := func(b []byte, n int) []byte { return b[:n] }
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"link comes, repeats itself, loses its carrier, goes", []step{
			{message(rtmNewLink, 0, ifinfo(0, 2, up)), Link},
			{message(rtmNewLink, 0, ifinfo(0, 2, up), attribute(11, 1)), ""}, // a wireless scan
			{message(rtmNewLink, 0, ifinfo(0, 3, up)), Link},
			{message(rtmNewLink, 0, ifinfo(0, 2, noCarr)), Link},
			{message(rtmNewLink, 0, ifinfo(0, 2, up)), Link},
			{message(rtmNewLink+1, 0, ifinfo(0, 2, up)), Link},
		}},
		{"bridge port", []step{
			{message(rtmNewLink, 0, ifinfo(familyBridge, 2, up)), ""},
			{message(rtmNewLink+1, 0, ifinfo(familyBridge, 2, up)), ""},
		}},
		{"address comes, renews its lifetime, goes, comes", []step{
			{message(rtmNewAddr, 0, ifaddr(0, 2), addr1, lives(9)), Address},
			{message(rtmNewAddr, 0, ifaddr(0, 2), addr1, lives(8)), ""},
			{message(rtmNewAddr, nlReplace, ifaddr(0, 2), addr1, lives(7)), ""},
			{message(rtmNewAddr, 0, ifaddr(0, 3), addr1, lives(7)), Address},
			{message(rtmNewAddr, 0, ifaddr(0, 2), addr2, lives(7)), Address},
			{message(rtmNewAddr+1, 0, ifaddr(0, 2), addr1, lives(6)), Address},
			{message(rtmNewAddr, 0, ifaddr(0, 2), addr1, lives(6)), Address},
		}},
		{"address becomes usable, then deprecated", []step{
			{message(rtmNewAddr, 0, ifaddr(0x40, 2), addr1), Address},
			{message(rtmNewAddr, 0, ifaddr(0, 2), addr1), Address},
			{message(rtmNewAddr, 0, ifaddr(0, 2), addr1, attribute(ifaFlags, 0x80, 2, 0, 0)), ""}, // permanent, no prefix route
			{message(rtmNewAddr, 0, ifaddr(0, 2), addr1, attribute(ifaFlags, native.AppendUint32(nil, 0x20)...)), Address},
		}},
		{"route comes, is renewed, goes", []step{
			{message(rtmNewRoute, 0, rtmsg(16, 0), gate1, attribute(rtaExpires, 9, 0, 0, 0)), Route},
			{message(rtmNewRoute, 0, rtmsg(16, 0), gate1, attribute(rtaExpires, 8, 0, 0, 0), attribute(rtaCacheInfo, 1)), ""},
			{message(rtmNewRoute, 0, rtmsg(17, 0), gate1), Route},
			{message(rtmNewRoute, 0, rtmsg(16, 0x10), gate1), Route}, // its link is down
			{message(rtmNewRoute+1, 0, rtmsg(16, 0), gate1), Route},
			{message(rtmNewRoute, 0, rtmsg(16, 0), gate1), Route},
		}},
		{"route is replaced and replaced back", []step{
			{message(rtmNewRoute, 0, rtmsg(16, 0), gate1), Route},
			{message(rtmNewRoute, nlReplace, rtmsg(16, 0), gate2), Route},
			{message(rtmNewRoute, nlReplace, rtmsg(16, 0), gate2), ""},
			{message(rtmNewRoute, nlReplace, rtmsg(16, 0), gate1), Route},
		}},
		{"two routers for the same prefix take turns", []step{
			{message(rtmNewRoute, 0, rtmsg(0, 0), gate1), Route},
			{message(rtmNewRoute, 0, rtmsg(0, 0), gate2), Route},
			{message(rtmNewRoute, 0, rtmsg(0, 0), gate1), ""},
			{message(rtmNewRoute, 0, rtmsg(0, 0), gate2), ""},
		}},
		{"cached route", []step{{message(rtmNewRoute, 0, rtmsg(32, routeCloned), gate1), ""}}},
		{"neighbours, and what else is of no concern", []step{
			{message(neighbour, 0, make([]byte, 12)), ""},
			{message(neighbour+1, 0, make([]byte, 12)), ""},
			{message(2, 0, make([]byte, 20)), ""}, // NLMSG_ERROR
			{message(3, 0), ""},                   // NLMSG_DONE
			{nil, ""},
			{make([]byte, 15), ""},
			{make([]byte, 16), ""},
		}},
		{"several in one datagram", []step{
			{slices.Concat(message(rtmNewLink, 0, ifinfo(0, 2, up)), message(rtmNewAddr, 0, ifaddr(0, 2), addr1), message(rtmNewRoute, 0, rtmsg(16, 0))), Address},
			{slices.Concat(message(neighbour, 0, []byte{1}), message(rtmNewLink, 0, ifinfo(0, 2, up)), message(rtmNewRoute, 0, rtmsg(17, 0))), Route},
		}},
		{"cut short", []step{
			{message(rtmNewAddr, 0, ifaddr(0, 2), addr1), Address},
			{cut(message(rtmNewAddr, 0, ifaddr(0, 2), addr1), 20), Address},
			{cut(message(rtmNewRoute, 0, rtmsg(16, 0)), 16), Route},
			{cut(message(rtmNewLink, 0, ifinfo(0, 2, up)), 31), Link},
			{cut(message(neighbour, 0, make([]byte, 12)), 20), ""},
			{message(rtmNewAddr, 0, ifaddr(0, 2), addr1), Address}, // what was lost may have been its end
		}},
		{"too small for what it says it is", []step{
			{message(rtmNewAddr, 0, make([]byte, 4)), Address},
			{message(rtmNewRoute, 0), Route},
			{message(rtmNewLink, 0, make([]byte, 15)), Link},
		}},
		{"attribute longer than its message", []step{
			{message(rtmNewAddr, 0, ifaddr(0, 2), []byte{200, 0, 1, 0}), Address},
			{message(rtmNewAddr, 0, ifaddr(0, 2), []byte{200, 0, 1, 0}), Address},
			{message(rtmNewAddr, 0, ifaddr(0, 2), []byte{0, 0, 0, 0}), Address},
		}},
		{"the kernel lost some", []step{
			{message(rtmNewLink, 0, ifinfo(0, 2, up)), Link},
			{message(nlOverrun, 0), Address},
			{message(rtmNewLink, 0, ifinfo(0, 2, up)), Link},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var l links
			for i, s := range tt.steps {
				if got := l.read(s.datagram); got != s.want {
					t.Errorf("step %d: got %q, want %q", i, got, s.want)
				}
			}
		})
	}
}

func TestNetlinkMemoryIsBounded(t *testing.T) {
	var l links
	for i := range uint32(3 * maxKnown) {
		if got := l.read(message(rtmNewLink, 0, ifinfo(0, i, up))); got != Link {
			t.Fatalf("link %d: got %q, want %q", i, got, Link)
		}
		if n := len(l.known[rtmNewLink]); n > maxKnown {
			t.Fatalf("%d links are remembered, want at most %d", n, maxKnown)
		}
	}
}

func FuzzNetlink(f *testing.F) {
	f.Add(slices.Concat(message(rtmNewLink, 0, ifinfo(0, 2, up)), message(rtmNewAddr, 0, ifaddr(0, 2), addr1, lives(3))))
	f.Add(slices.Concat(message(rtmNewRoute, nlReplace, rtmsg(16, 0), gate1), message(rtmNewRoute+1, 0, rtmsg(16, 0), gate2)))
	f.Add(message(rtmNewAddr, 0, ifaddr(0, 2), []byte{200, 0, 1, 0}))
	f.Add(message(nlOverrun, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		var l links
		first := l.read(b)
		l.read(b)
		if first != "" && !slices.Contains(rank, first) {
			t.Errorf("unknown reason %q", first)
		}
		// Nothing can be known of a stream that said nothing yet.
		l.forget()
		if again := l.read(b); again != first {
			t.Errorf("got %q, and %q after forgetting", first, again)
		}
		// A change in front is never hidden by what follows it.
		if l.forget(); l.read(append(message(rtmNewLink, 0, ifinfo(0, 2, up)), b...)) == "" {
			t.Error("the link in front was overlooked")
		}
	})
}

func fileEventBytes(watch int32, mask uint32, name string, room int) []byte {
	b := native.AppendUint32(nil, uint32(watch))
	b = native.AppendUint32(b, mask)
	b = native.AppendUint32(b, 0)
	b = native.AppendUint32(b, uint32(room))
	return append(append(b, name...), make([]byte, max(0, room-len(name)))...)
}

func TestFileEvents(t *testing.T) {
	b := slices.Concat(fileEventBytes(1, 8, "resolv.conf", 16), fileEventBytes(2, 0x400, "", 0), fileEventBytes(-1, 0x4000, "", 0))
	want := []fileEvent{{1, 8, "resolv.conf"}, {2, 0x400, ""}, {-1, 0x4000, ""}}
	if got := fileEvents(b); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := fileEvents(append(b, fileEventBytes(3, 8, "cut", 0xfff0)[:18]...)); !slices.Equal(got, want) {
		t.Errorf("with a cut event behind: got %+v, want %+v", got, want)
	}
}

func FuzzFileEvents(f *testing.F) {
	f.Add(fileEventBytes(1, 8, "resolv.conf", 16))
	f.Add(fileEventBytes(-1, 0x4000, "", 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		events := fileEvents(b)
		if len(events) > len(b)/16 {
			t.Errorf("%d events in %d bytes", len(events), len(b))
		}
		for _, e := range events {
			if strings.ContainsRune(e.name, 0) {
				t.Errorf("a NUL in the name %q", e.name)
			}
		}
	})
}

func routeMessage(kind byte, flags uint32) []byte {
	b := append(native.AppendUint16(nil, 92), 5, kind, 0, 0, 0, 0)
	return append(native.AppendUint32(b, flags), make([]byte, 80)...)
}

func TestRouteMessages(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    []byte
		want string
	}{
		{"route", routeMessage(bsdAdd, 0x803), Route},
		{"route gone", routeMessage(bsdDelete, 0x803), Route},
		{"route changed", routeMessage(bsdChange, 0x803), Route},
		{"neighbour", routeMessage(bsdAdd, 0x405), ""},
		{"clone", routeMessage(bsdDelete, 0x20005), ""},
		{"address", routeMessage(bsdNewAddress, 0x405), Address},
		{"address gone", routeMessage(bsdDelAddress, 0), Address},
		{"interface", routeMessage(bsdInterface, 0x8863), Link},
		{"look-up that missed", routeMessage(7, 0), ""},
		{"several", slices.Concat(routeMessage(7, 0), routeMessage(bsdInterface, 0), routeMessage(bsdAdd, 0)), Route},
		{"cut short", routeMessage(bsdAdd, 0)[:6], Route},
		{"length zero", []byte{0, 0, 5, bsdAdd, 0, 0}, Route},
		{"nothing", nil, ""},
	} {
		if got := routeMessages(tt.b); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func FuzzRouteMessages(f *testing.F) {
	f.Add(routeMessage(bsdAdd, 0x803))
	f.Add(append(routeMessage(bsdInterface, 0), 1, 0, 0, bsdDelAddress))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got := routeMessages(append(routeMessage(bsdNewAddress, 0), b...)); got != Address {
			t.Errorf("got %q, want the address in front", got)
		}
		routeMessages(b)
	})
}
