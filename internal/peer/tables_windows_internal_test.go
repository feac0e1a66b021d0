//go:build windows

package peer

import (
	"net"
	"net/netip"
	"slices"
	"testing"
)

// Both ends of a connection stand in the system's tables as the parser reads
// them, in IPv6 too, where Wine names no process.
func TestTablesOfTheSystem(t *testing.T) {
	for i, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		client, server := c.LocalAddr().(*net.TCPAddr).AddrPort(), l.Addr().(*net.TCPAddr).AddrPort()

		b, err := readTable(tables[i].family, connections)
		if err != nil {
			t.Fatal(err)
		}
		rows, err := parseTCPTable(b, tables[i].layout)
		if err != nil {
			t.Fatal(err)
		}
		const established = 5
		for _, ends := range [][2]netip.AddrPort{{client, server}, {server, client}} {
			if !slices.ContainsFunc(rows, func(r tcpRow) bool {
				return r.state == established && r.local == ends[0] && r.remote == ends[1]
			}) {
				t.Errorf("%v is not in the table: %+v", ends, rows)
			}
		}
	}
}
