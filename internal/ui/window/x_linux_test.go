//go:build linux

package window_test

import (
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
)

// An xClient speaks as much X11 as closes a window the way a window manager
// does, which no program at hand can without one.
type xClient struct {
	t    *testing.T
	conn net.Conn
}

// closeWindow sends WM_DELETE_WINDOW to a window, named in decimal.
func closeWindow(t *testing.T, display, window string) {
	t.Helper()
	id, err := strconv.ParseUint(window, 10, 32)
	if err != nil {
		t.Fatalf("no window: %v", err)
	}
	conn, err := net.Dial("unix", "/tmp/.X11-unix/X"+strings.TrimPrefix(display, ":"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	x := xClient{t, conn}
	x.send([]byte{'l', 0, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0}) // little-endian, X11, no password
	greeting := x.receive(8)
	x.receive(4 * int(binary.LittleEndian.Uint16(greeting[6:])))

	const clientMessage, format32 = 33, 32
	event := []byte{clientMessage, format32, 0, 0}
	event = binary.LittleEndian.AppendUint32(event, uint32(id))
	event = binary.LittleEndian.AppendUint32(event, x.atom("WM_PROTOCOLS"))
	event = binary.LittleEndian.AppendUint32(event, x.atom("WM_DELETE_WINDOW"))
	event = append(event, make([]byte, 32-len(event))...)
	request := binary.LittleEndian.AppendUint32([]byte{25, 0, 11, 0}, uint32(id)) // SendEvent
	x.send(append(append(request, 0, 0, 0, 0), event...))
	x.atom("WM_PROTOCOLS") // a round trip: the event has been sent
}

func (x xClient) send(request []byte) {
	x.t.Helper()
	if _, err := x.conn.Write(request); err != nil {
		x.t.Fatal(err)
	}
}

func (x xClient) receive(n int) []byte {
	x.t.Helper()
	reply := make([]byte, n)
	if _, err := io.ReadFull(x.conn, reply); err != nil {
		x.t.Fatalf("X server: %v", err)
	}
	return reply
}

func (x xClient) atom(name string) uint32 {
	x.t.Helper()
	padded := append([]byte(name), make([]byte, (4-len(name)%4)%4)...)
	request := []byte{16, 0, byte(2 + len(padded)/4), 0, byte(len(name)), 0, 0, 0} // InternAtom
	x.send(append(request, padded...))
	return binary.LittleEndian.Uint32(x.receive(32)[8:])
}
