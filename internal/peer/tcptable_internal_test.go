package peer

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"
)

// tcpTable builds what Windows returns, in the layout of its headers.
func tcpTable(layout rowLayout, rows ...tcpRow) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(rows)))
	for _, r := range rows {
		row := make([]byte, layout.size)
		binary.LittleEndian.PutUint32(row[layout.state:], r.state)
		binary.LittleEndian.PutUint32(row[layout.processID:], r.pid)
		for _, end := range []struct {
			addr, port int
			is         netip.AddrPort
		}{{layout.laddr, layout.lport, r.local}, {layout.raddr, layout.rport, r.remote}} {
			a := end.is.Addr().As16()
			copy(row[end.addr:end.addr+layout.addrLen], a[16-layout.addrLen:])
			// The upper half of a port is not defined.
			copy(row[end.port:], []byte{byte(end.is.Port() >> 8), byte(end.is.Port()), 0xaa, 0x55})
		}
		b = append(b, row...)
	}
	return b
}

// The rows byte by byte, as the headers define them.
func TestParseTCPTable(t *testing.T) {
	for _, tt := range []struct {
		name   string
		layout rowLayout
		in     []byte
		want   tcpRow
	}{
		{"IPv4", rowIPv4, []byte{1, 0, 0, 0,
			5, 0, 0, 0, 127, 0, 0, 1, 0x9c, 0x40, 0, 0, 127, 0, 0, 1, 0x14, 0xfc, 0, 0, 0x10, 0x27, 0, 0,
		}, tcpRow{5, client4, server4, 10000}},
		{"IPv6", rowIPv6, []byte{1, 0, 0, 0,
			0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9, 9, 9, 9, 0x9c, 0x40, 0, 0,
			0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 9, 9, 9, 9, 0x14, 0xfc, 0, 0,
			5, 0, 0, 0, 0x10, 0x27, 0, 0,
		}, tcpRow{5, client6, server6, 10000}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := parseTCPTable(tt.in, tt.layout)
			if err != nil || len(rows) != 1 || rows[0] != tt.want {
				t.Errorf("got %v, %v, want %v", rows, err, tt.want)
			}
			for cut := range tt.in {
				if rows, err := parseTCPTable(tt.in[:cut], tt.layout); err == nil {
					t.Errorf("cut at %d: got %v, want an error", cut, rows)
				}
			}
			many := binary.LittleEndian.AppendUint32(nil, 1<<32-1)
			if _, err := parseTCPTable(append(many, tt.in[4:]...), tt.layout); err == nil {
				t.Error("four billion rows were read")
			}
		})
	}
}

func TestHeldBy(t *testing.T) {
	const established, synSent, listening, timeWait, finWait2 = 5, 3, 2, 11, 7
	other := netip.MustParseAddrPort("127.0.0.1:40001")
	for _, tt := range []struct {
		name   string
		layout rowLayout
		rows   []tcpRow
		want   uint32
	}{
		{"IPv4", rowIPv4, []tcpRow{{established, server4, client4, 1}, {established, client4, server4, 7}}, 7},
		{"mapped", rowIPv6, []tcpRow{{established, client4, server4, 7}}, 7},
		{"half closed by a living process", rowIPv4, []tcpRow{{finWait2, client4, server4, 7}}, 7},
		{"after one that has ended", rowIPv4, []tcpRow{{timeWait, client4, server4, 0}, {established, client4, server4, 7}}, 7},
		{"nobody's", rowIPv4, []tcpRow{{established, client4, server4, 0}}, 0},
		{"ended", rowIPv4, []tcpRow{{timeWait, client4, server4, 7}}, 0},
		{"connecting", rowIPv4, []tcpRow{{synSent, client4, server4, 7}}, 0},
		{"listener", rowIPv4, []tcpRow{{listening, client4, server4, 7}}, 0},
		{"the server's own end", rowIPv4, []tcpRow{{established, server4, client4, 7}}, 0},
		{"other client port", rowIPv4, []tcpRow{{established, other, server4, 7}}, 0},
		{"other server port", rowIPv4, []tcpRow{{established, client4, other, 7}}, 0},
		{"unknown state", rowIPv4, []tcpRow{{99, client4, server4, 7}}, 0},
		{"empty", rowIPv4, nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rows, err := parseTCPTable(tcpTable(tt.layout, tt.rows...), tt.layout)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := heldBy(rows, client4, server4)
			if pid != tt.want || (tt.want == 0) != errors.Is(err, ErrNotFound) {
				t.Errorf("got process %d, %v, want %d", pid, err, tt.want)
			}
		})
	}
}

func TestListenerIn(t *testing.T) {
	const listening, established = 2, 5
	any4, any6 := netip.MustParseAddrPort("0.0.0.0:5372"), netip.MustParseAddrPort("[::]:5372")
	mapped := netip.AddrPortFrom(netip.AddrFrom16(server4.Addr().As16()), server4.Port())
	for _, tt := range []struct {
		name string
		row  tcpRow
		ask  netip.AddrPort
		want uint32
	}{
		{"the address", tcpRow{listening, server4, any4, 7}, server4, 7},
		{"the address, asked mapped", tcpRow{listening, server4, any4, 7}, mapped, 7},
		{"every address", tcpRow{listening, any4, any4, 7}, server4, 7},
		{"every IPv6 address", tcpRow{listening, any6, any6, 7}, server4, 7},
		{"another address", tcpRow{listening, server6, any6, 7}, server4, 0},
		{"another port", tcpRow{listening, client4, any4, 7}, server4, 0},
		{"a connection", tcpRow{established, server4, client4, 7}, server4, 0},
		{"nobody's", tcpRow{listening, server4, any4, 0}, server4, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pid, err := listenerIn([]tcpRow{tt.row}, tt.ask)
			if pid != tt.want || (tt.want == 0) != errors.Is(err, ErrNotFound) {
				t.Errorf("got process %d, %v, want %d", pid, err, tt.want)
			}
		})
	}
}

func FuzzParseTCPTable(f *testing.F) {
	f.Add(tcpTable(rowIPv4, tcpRow{5, client4, server4, 7}), false)
	f.Add(tcpTable(rowIPv6, tcpRow{5, client6, server6, 7}, tcpRow{5, client4, server4, 8}), true)
	f.Fuzz(func(t *testing.T, b []byte, v6 bool) {
		layout := rowIPv4
		if v6 {
			layout = rowIPv6
		}
		rows, err := parseTCPTable(b, layout)
		if err == nil && len(b) < 4+len(rows)*layout.size {
			t.Errorf("%d rows from %d bytes", len(rows), len(b))
		}
		if pid, err := heldBy(rows, client4, server4); err == nil && pid == 0 {
			t.Error("held by nobody")
		}
	})
}
