package peer

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// These lists are built by hand from the headers: no Mac has been asked.

const (
	pcbEstablished = 4
	pcbListening   = 1
	pcbIsIPv6      = 2
)

func pcbRecord(kind, size uint32) []byte {
	b := make([]byte, (size+7)&^7)
	binary.LittleEndian.PutUint32(b, size)
	binary.LittleEndian.PutUint32(b[4:], kind)
	return b
}

// pcbFrame is what a list begins and ends with.
func pcbFrame() []byte { return pcbRecord(3, pcbFrameLen) }

// pcbRecords builds the records of one socket in the order of the system, with
// the sizes of macOS 14.
func pcbRecords(p pcb, flags byte) []byte {
	addrs, socket, tcp := pcbRecord(pcbAddresses, 104), pcbRecord(pcbSocket, 80), pcbRecord(pcbTCP, 204)
	binary.BigEndian.PutUint16(addrs[16:], p.remote.Port())
	binary.BigEndian.PutUint16(addrs[18:], p.local.Port())
	addrs[44] = flags
	for at, a := range map[int]netip.Addr{48: p.remote.Addr(), 64: p.local.Addr()} {
		if a.Is4() {
			b := a.As4()
			copy(addrs[at+12:], b[:])
		} else {
			b := a.As16()
			copy(addrs[at:], b[:])
		}
	}
	if p.closed {
		socket[26] = 1
	}
	binary.LittleEndian.PutUint32(socket[64:], p.uid)
	binary.LittleEndian.PutUint32(socket[68:], uint32(p.pid))
	binary.LittleEndian.PutUint32(tcp[36:], p.state)
	const receiveBuffer, sendBuffer, statistics = 2, 4, 8
	return slices.Concat(addrs, socket, pcbRecord(receiveBuffer, 32), pcbRecord(sendBuffer, 32), pcbRecord(statistics, 136), tcp)
}

func pcbList(records ...[]byte) []byte {
	return slices.Concat(pcbFrame(), slices.Concat(records...), pcbFrame())
}

func TestConnectedPCB(t *testing.T) {
	good := pcb{local: client4, remote: server4, uid: 501, pid: 77, state: pcbEstablished}
	with := func(change func(*pcb)) pcb {
		p := good
		change(&p)
		return p
	}
	other := netip.MustParseAddrPort("127.0.0.1:40001")
	for _, tt := range []struct {
		name  string
		in    pcb
		flags byte
		want  bool
	}{
		{"IPv4", good, pcbIsIPv4, true},
		{"IPv4 on an IPv6 socket", good, pcbIsIPv4 | pcbIsIPv6, true},
		{"half closed", with(func(p *pcb) { p.state = 9 }), pcbIsIPv4, true},
		{"closed", with(func(p *pcb) { p.state, p.closed = 9, true }), pcbIsIPv4, false},
		{"TIME_WAIT", with(func(p *pcb) { p.state = 10 }), pcbIsIPv4, false},
		{"connecting", with(func(p *pcb) { p.state = 2 }), pcbIsIPv4, false},
		{"listener", with(func(p *pcb) { p.state = pcbListening }), pcbIsIPv4, false},
		{"the server's own end", with(func(p *pcb) { p.local, p.remote = server4, client4 }), pcbIsIPv4, false},
		{"other client port", with(func(p *pcb) { p.local = other }), pcbIsIPv4, false},
		{"other server port", with(func(p *pcb) { p.remote = other }), pcbIsIPv4, false},
		{"IPv6", with(func(p *pcb) { p.local, p.remote = client6, server6 }), pcbIsIPv6, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stranger := pcb{local: other, remote: server4, uid: 502, state: pcbEstablished}
			list := pcbList(pcbRecords(stranger, pcbIsIPv4), pcbRecords(tt.in, tt.flags), pcbRecords(stranger, pcbIsIPv4))
			all, err := parsePCBList(list)
			if err != nil || len(all) != 3 {
				t.Fatalf("got %v, %v, want three sockets", all, err)
			}
			p, err := connectedPCB(all, client4, server4)
			if tt.want && (err != nil || p.uid != 501 || p.pid != 77) {
				t.Errorf("got %+v, %v, want user 501 and process 77", p, err)
			}
			if !tt.want && !errors.Is(err, ErrNotFound) {
				t.Errorf("got %+v, %v, want not found", p, err)
			}
		})
	}
	six := with(func(p *pcb) { p.local, p.remote = client6, server6 })
	all, err := parsePCBList(pcbList(pcbRecords(six, pcbIsIPv6)))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := connectedPCB(all, client6, server6); err != nil || p.uid != 501 {
		t.Errorf("IPv6: got %+v, %v, want user 501", p, err)
	}
}

func TestListeningPCB(t *testing.T) {
	everywhere := netip.MustParseAddrPort("[::]:5372")
	all, err := parsePCBList(pcbList(
		pcbRecords(pcb{local: server4, remote: client4, pid: 1, state: pcbEstablished}, pcbIsIPv4),
		pcbRecords(pcb{local: client4, pid: 2, state: pcbListening}, pcbIsIPv4),
		pcbRecords(pcb{local: everywhere, pid: 3, state: pcbListening}, pcbIsIPv6)))
	if err != nil {
		t.Fatal(err)
	}
	if p, err := listeningPCB(all, server4); err != nil || p.pid != 3 {
		t.Errorf("got %+v, %v, want process 3", p, err)
	}
	if p, err := listeningPCB(all, netip.MustParseAddrPort("127.0.0.1:1")); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %+v, %v, want not found", p, err)
	}
}

func TestParsePCBListBroken(t *testing.T) {
	p := pcb{local: client4, remote: server4, uid: 501, state: pcbEstablished}
	records := pcbRecords(p, pcbIsIPv4)
	list := pcbList(records)
	for cut := range len(list) - pcbFrameLen + 1 {
		if all, err := parsePCBList(list[:cut]); err == nil {
			t.Errorf("cut at %d: got %v, want an error", cut, all)
		}
	}
	tooLong := slices.Clone(list)
	binary.LittleEndian.PutUint32(tooLong[pcbFrameLen:], 1<<31)
	noLength := slices.Clone(list)
	binary.LittleEndian.PutUint32(noLength[pcbFrameLen:], 0)
	for name, in := range map[string][]byte{
		"record beyond the end": tooLong,
		"record without length": noLength,
		"short addresses":       pcbList(pcbRecord(pcbAddresses, 79)),
		"short socket":          pcbList(pcbRecord(pcbSocket, 71)),
		"short state":           pcbList(pcbRecord(pcbTCP, 39)),
	} {
		if all, err := parsePCBList(in); err == nil {
			t.Errorf("%s: got %v, want an error", name, all)
		}
	}
	// A socket that lacks a record must not lend another one its own.
	const addresses, tcp = 104, 208
	lacking := slices.Concat(records[:addresses], records[len(records)-tcp:])
	next := pcb{local: server6, remote: client6, uid: 502, state: pcbListening}
	all, err := parsePCBList(pcbList(lacking, pcbRecords(next, pcbIsIPv6)))
	if err != nil || len(all) != 1 || all[0].uid != 502 || all[0].local != server6 || all[0].state != pcbListening {
		t.Errorf("got %+v, %v, want the second socket only", all, err)
	}
}

func FuzzParsePCBList(f *testing.F) {
	f.Add(pcbList(pcbRecords(pcb{local: client4, remote: server4, uid: 501, state: pcbEstablished}, pcbIsIPv4)))
	f.Add(pcbList())
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parsePCBList(b)
		if need := pcbAddressesLen + pcbSocketLen + pcbTCPLen; err == nil && len(all)*need > len(b) {
			t.Errorf("%d sockets from %d bytes", len(all), len(b))
		}
	})
}
