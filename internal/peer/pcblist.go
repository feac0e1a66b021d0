package peer

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// macOS' list of TCP sockets, sysctl net.inet.tcp.pcblist_n (struct xinpgen of
// netinet/in_pcb.h and the records of bsd/sys/socketvar.h), decoded without a
// system call so that it is tested on every system. Records say their own
// length and kind; those of one socket follow each other, the addresses first.
// Records have grown with the system, so only the beginning of each is read.
// Numbers are little-endian, addresses and ports in network order.
const (
	pcbSocket    = 0x01
	pcbAddresses = 0x10
	pcbTCP       = 0x20

	pcbFrameLen     = 24 // of the first and the last entry, which are no records
	pcbSocketLen    = 72
	pcbAddressesLen = 80
	pcbTCPLen       = 40

	pcbIsIPv4 = 1 // flag: IPv4, on an IPv6 socket too
)

// A pcb is one socket.
type pcb struct {
	local, remote netip.AddrPort // IPv4 not mapped
	uid           uint32         // who made it
	pid           int            // who used it last
	closed        bool           // by all processes that had it
	state         uint32
	kinds         uint32 // records seen of it
}

// complete reports whether all that a pcb holds was in the list.
func (p pcb) complete() bool { return p.kinds == pcbSocket|pcbAddresses|pcbTCP }

// parsePCBList returns the sockets of a list. One that ends early or holds a
// record too short for what we need is an error.
func parsePCBList(b []byte) (all []pcb, err error) {
	_, rest, err := nextPCBRecord(b) // how many there are; they say so themselves
	if err != nil {
		return nil, err
	}
	var p pcb
	for {
		var record []byte
		if record, rest, err = nextPCBRecord(rest); err != nil {
			return nil, err
		}
		if len(record) <= pcbFrameLen {
			return all, nil
		}
		if err := p.read(record); err != nil {
			return nil, err
		}
		if p.complete() {
			all = append(all, p)
			p = pcb{}
		}
	}
}

// nextPCBRecord splits the first record off b. Each begins at a multiple of
// eight bytes.
func nextPCBRecord(b []byte) (record, rest []byte, err error) {
	if len(b) < 8 {
		return nil, nil, fmt.Errorf("list of TCP sockets ends with %d bytes", len(b))
	}
	size := uint64(binary.LittleEndian.Uint32(b))
	if size < 8 || size > uint64(len(b)) {
		return nil, nil, fmt.Errorf("list of TCP sockets: record of %d bytes in %d", size, len(b))
	}
	return b[:size], b[min(uint64(len(b)), (size+7)&^7):], nil
}

// read adds what a record tells.
func (p *pcb) read(record []byte) error {
	kind := binary.LittleEndian.Uint32(record[4:])
	if kind == pcbAddresses {
		*p = pcb{} // of the next socket, whatever the one before still lacks
	}
	need := map[uint32]int{pcbSocket: pcbSocketLen, pcbAddresses: pcbAddressesLen, pcbTCP: pcbTCPLen}[kind]
	if len(record) < need {
		return fmt.Errorf("list of TCP sockets: record of kind %#x with %d bytes", kind, len(record))
	}
	switch kind {
	case pcbAddresses:
		p.remote = pcbAddr(record[44], record[48:64], record[16:18])
		p.local = pcbAddr(record[44], record[64:80], record[18:20])
	case pcbSocket:
		const noFile = 1
		p.closed = record[26]&noFile != 0
		p.uid = binary.LittleEndian.Uint32(record[64:])
		p.pid = int(int32(binary.LittleEndian.Uint32(record[68:])))
	case pcbTCP:
		p.state = binary.LittleEndian.Uint32(record[36:])
	default: // buffers and statistics
		return nil
	}
	p.kinds |= kind
	return nil
}

func pcbAddr(flags byte, addr, port []byte) netip.AddrPort {
	a := netip.AddrFrom16([16]byte(addr)).Unmap()
	if flags&pcbIsIPv4 != 0 {
		a = netip.AddrFrom4([4]byte(addr[12:]))
	}
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

// connectedPCB returns the socket bound to client and connected to server.
func connectedPCB(all []pcb, client, server netip.AddrPort) (pcb, error) {
	for _, p := range all {
		if p.local == client && p.remote == server && p.isHeld() {
			return p, nil
		}
	}
	return pcb{}, ErrNotFound
}

// isHeld is [held] for macOS.
func (p pcb) isHeld() bool {
	switch p.state {
	case 4, 5, 6, 7, 8, 9: // ESTABLISHED, CLOSE_WAIT, FIN_WAIT_1, CLOSING, LAST_ACK, FIN_WAIT_2
		return !p.closed
	}
	return false
}

// listeningPCB returns the socket that listens on addr, or on every address
// with that port.
func listeningPCB(all []pcb, addr netip.AddrPort) (pcb, error) {
	const listening = 1
	for _, p := range all {
		if p.state == listening && covers(p.local, addr) {
			return p, nil
		}
	}
	return pcb{}, ErrNotFound
}
