package sspi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf16"

	"kerbpass/internal/ticket"
)

// A query is one of the LSA messages that list the ticket cache
// (KERB_PROTOCOL_MESSAGE_TYPE in ntsecapi.h).
type query uint32

const (
	queryBasic query = 1 // KerbQueryTicketCacheMessage: who the tickets belong to is not said
	queryEx    query = 14
	queryEx2   query = 20
	queryEx3   query = 25 // says which TGT is the primary one
)

// entrySize is the size of one ticket in the reply, with 64-bit pointers.
var entrySize = map[query]int{queryBasic: 64, queryEx: 96, queryEx2: 104, queryEx3: 128}

// An entry is one ticket of the LSA's cache.
type entry struct {
	client, clientRealm string // "" in a reply to queryBasic
	server, serverRealm string
	primary             bool // marked so by Windows; never in a reply before Ex3
	start, end, renew   time.Time
	encType             ticket.EncType
	flags               ticket.Flags
}

const (
	headerSize = 8 // message type, number of tickets
	textHeader = 16
	maxEntries = 10000
)

// parseReply reads the LSA's reply to q: a header, a table of tickets, and
// behind it the texts that the table points to. buf is a copy of the reply, base
// the address where the LSA had put it. The layout is the one that amd64 and
// arm64 share. Whatever points outside, overlaps the table, or cannot be a
// name is an error.
func parseReply(q query, buf []byte, base uint64) ([]entry, error) {
	size := entrySize[q]
	if size == 0 {
		return nil, fmt.Errorf("no ticket list: message %d", q)
	}
	if len(buf) < headerSize {
		return nil, fmt.Errorf("ticket list of %d bytes is too short", len(buf))
	}
	if got := query(binary.LittleEndian.Uint32(buf)); got != q {
		return nil, fmt.Errorf("ticket list answers message %d, not %d", got, q)
	}
	count := int64(binary.LittleEndian.Uint32(buf[4:]))
	if count > maxEntries || count > int64((len(buf)-headerSize)/size) {
		return nil, fmt.Errorf("%d tickets do not fit in %d bytes", count, len(buf))
	}
	texts := headerSize + int(count)*size
	list := make([]entry, 0, count)
	for row := range slices.Chunk(buf[headerSize:texts], size) {
		r := reader{q: q, row: row, texts: buf[texts:], base: base + uint64(texts)}
		e, err := r.entry()
		if err != nil {
			return nil, fmt.Errorf("ticket %d of %d: %w", len(list)+1, count, err)
		}
		list = append(list, e)
	}
	return list, nil
}

// A reader takes one row of the table apart, from its beginning.
type reader struct {
	q     query
	row   []byte // what is left of it
	texts []byte
	base  uint64 // where the LSA had texts
}

func (r *reader) entry() (e entry, err error) {
	names := []*string{&e.client, &e.clientRealm, &e.server, &e.serverRealm}
	if r.q == queryBasic {
		names = names[2:]
	}
	for _, name := range names {
		if *name, err = r.text(); err != nil {
			return entry{}, err
		}
	}
	for _, t := range []*time.Time{&e.start, &e.end, &e.renew} {
		*t = filetime(int64(r.number64()))
	}
	e.encType = ticket.EncType(r.number32())
	e.flags = ticket.Flags(r.number32())
	if r.q == queryEx3 {
		r.number64() // session key type, branch
		const primary = 1
		e.primary = r.number32()&primary != 0
	}
	return e, nil
}

// text follows a UNICODE_STRING: length in bytes, capacity, padding, address.
func (r *reader) text() (string, error) {
	length := int(binary.LittleEndian.Uint16(r.row))
	address := binary.LittleEndian.Uint64(r.row[8:])
	r.row = r.row[textHeader:]
	if length == 0 {
		return "", nil
	}
	room := uint64(len(r.texts))
	offset := address - r.base // wraps round to a large number below base
	if offset > room || uint64(length) > room-offset {
		return "", errors.New("a name lies outside the reply")
	}
	if length%2 != 0 {
		return "", errors.New("a name ends within a character")
	}
	units := make([]uint16, length/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(r.texts[int(offset)+2*i:])
	}
	if slices.Contains(units, 0) {
		return "", errors.New("a name contains a NUL")
	}
	return string(utf16.Decode(units)), nil
}

func (r *reader) number32() uint32 {
	n := binary.LittleEndian.Uint32(r.row)
	r.row = r.row[4:]
	return n
}

func (r *reader) number64() uint64 {
	n := binary.LittleEndian.Uint64(r.row)
	r.row = r.row[8:]
	return n
}

// filetime converts a count of 100 ns since 1601, UTC. What is not set is the
// zero time; "never", and whatever else lies beyond the years that can be
// written down, is the end of the year 9999.
func filetime(n int64) time.Time {
	const (
		perSecond = 10_000_000
		epoch     = 11_644_473_600 // seconds from 1601 to 1970
	)
	if n <= 0 {
		return time.Time{}
	}
	t := time.Unix(n/perSecond-epoch, n%perSecond*100).UTC()
	if never := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC); t.After(never) {
		return never
	}
	return t
}

// A retrieval is the KERB_RETRIEVE_TKT_REQUEST of a message that lies at
// address base: 64 bytes, and behind them the name it points to.
func retrieval(target string, base uint64) []byte {
	const (
		message      = 8 // KerbRetrieveEncodedTicketMessage
		size         = 64
		dontUseCache = 0x1
		cacheTicket  = 0x20
	)
	name := utf16.Encode([]rune(target))
	le := binary.LittleEndian
	buf := le.AppendUint32(nil, message)
	buf = append(buf, make([]byte, 12)...) // LogonId 0: our own; padding
	buf = le.AppendUint16(buf, uint16(2*len(name)))
	buf = le.AppendUint16(buf, uint16(2*len(name)))
	buf = le.AppendUint32(buf, 0) // padding
	buf = le.AppendUint64(buf, base+size)
	buf = le.AppendUint32(buf, 0) // flags and encryption type as the KDC likes
	buf = le.AppendUint32(buf, dontUseCache|cacheTicket)
	buf = append(buf, make([]byte, size-len(buf))...)
	for _, unit := range name {
		buf = le.AppendUint16(buf, unit)
	}
	return buf
}

// listing is the KERB_QUERY_TKT_CACHE_REQUEST for q, about our own session.
func listing(q query) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(q)), make([]byte, 8)...)
}

// purging is the KERB_PURGE_TKT_CACHE_REQUEST for all tickets of our session.
func purging() []byte {
	const message, size = 6, 48 // KerbPurgeTicketCacheMessage; no names: all
	return append(binary.LittleEndian.AppendUint32(nil, message), make([]byte, size-4)...)
}
