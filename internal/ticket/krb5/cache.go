package krb5

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"kerbpass/internal/ticket"
)

// Bounds on a cache file. Real ones hold a few tickets of at most 64 KB.
const (
	maxCacheSize  = 4 << 20
	maxCreds      = 4096
	maxComponents = 16
)

const tagOffset = 1 // of the header field with the KDC's clock offset

// A principal as a cache spells it.
type principal struct {
	kind  int32
	realm string
	parts []string
}

// A cred is one ticket of a cache. Its slices point into the file's bytes.
type cred struct {
	client, server          principal
	etype                   int32
	key                     []byte
	auth, start, end, renew time.Time // UTC; zero: not given
	flags                   ticket.Flags
	skey                    byte   // the key is another ticket's session key
	addresses, authData     []byte // counted lists, as they lie in the file
	ticket                  []byte // DER
	second                  []byte // another ticket, for user-to-user exchanges
}

// A cacheFile is the checked content of a FILE cache.
type cacheFile struct {
	client principal
	offset time.Duration // the KDC's clock minus this machine's, as noted at sign-in
	creds  []cred        // tickets only: removed entries are left out
	notes  []cred        // what libraries write down for themselves
}

var errEmpty = errors.New("the file is empty")

// parseCache reads a FILE cache of version 3 or 4, as MIT and Heimdal write
// it. Every length is checked against what is left before it is believed, so
// the memory used stays in proportion to b.
func parseCache(b []byte) (*cacheFile, error) {
	if len(b) == 0 {
		return nil, errEmpty
	}
	if len(b) > maxCacheSize {
		return nil, fmt.Errorf("larger than %d bytes", maxCacheSize)
	}
	r := &reader{b: b}
	magic, version := r.u8(), r.u8()
	if r.failed || magic != 5 || version < 3 || version > 4 {
		return nil, errors.New("not a ticket cache of version 3 or 4")
	}
	c := new(cacheFile)
	if version == 4 {
		c.offset = r.header()
	}
	c.client = r.principal()
	if r.failed {
		return nil, fmt.Errorf("cut off or damaged at byte %d, in the header", r.at)
	}
	if !c.client.plain() {
		return nil, errors.New("the header names no usable principal")
	}
	for n := 0; len(r.b) > r.at; n++ {
		if n == maxCreds {
			return nil, fmt.Errorf("more than %d entries", maxCreds)
		}
		begin := r.at
		e := r.cred(version)
		if r.failed {
			return nil, fmt.Errorf("cut off or damaged at byte %d, in entry %d, which begins at %d", r.at, n+1, begin)
		}
		switch {
		case e.isTicket():
			c.creds = append(c.creds, e)
		case e.isNote():
			c.notes = append(c.notes, e)
		}
	}
	return c, nil
}

// isTicket tells a ticket from notes that libraries leave in a cache, from
// entries they have struck out, and from what no KDC would have issued.
func (e *cred) isTicket() bool {
	return !e.struck() && e.client.plain() && e.server.plain() && isDER(e.ticket, 0x61)
}

// isNote reports whether e holds a library's own data, such as which kind of
// pre-authentication the KDC wanted.
func (e *cred) isNote() bool {
	return !e.struck() && e.client.plain() && e.server.realm == "X-CACHECONF:"
}

func (e *cred) struck() bool { return e.auth.Unix() == 0xffffffff && e.end.IsZero() }

// plain reports whether p can be a name on the wire and in a message: it has a
// realm (not the X-CACHECONF: of a note), a part, and no control characters.
func (p principal) plain() bool {
	if p.realm == "" || len(p.parts) == 0 {
		return false
	}
	for _, s := range append([]string{p.realm}, p.parts...) {
		if s == "" || len(s) > 1024 {
			return false
		}
		for i := range len(s) {
			if s[i] < 0x20 || s[i] == 0x7f {
				return false
			}
		}
	}
	return len(p.realm) < 11 || p.realm[:11] != "X-CACHECONF" && p.realm[:11] != "X-RMED-CONF"
}

// isDER reports whether b is exactly one DER element with this tag, of at most
// 64 KB and a definite length.
func isDER(b []byte, tag byte) bool {
	if len(b) < 2 || b[0] != tag {
		return false
	}
	n, head := int(b[1]), 2
	switch b[1] {
	case 0x81:
		if len(b) < 3 {
			return false
		}
		n, head = int(b[2]), 3
	case 0x82:
		if len(b) < 4 {
			return false
		}
		n, head = int(b[2])<<8|int(b[3]), 4
	default:
		if b[1] >= 0x80 {
			return false
		}
	}
	return n == len(b)-head
}

// reader takes big-endian values off a file. After the first value that is not
// all there, failed is set and everything reads as zero.
type reader struct {
	b      []byte
	at     int
	failed bool
}

func (r *reader) bytes(n uint32) []byte {
	if r.failed || uint64(n) > uint64(len(r.b)-r.at) {
		r.failed = true
		return nil
	}
	b := r.b[r.at : r.at+int(n) : r.at+int(n)]
	r.at += int(n)
	return b
}

func (r *reader) u8() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) u16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) u32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) data() []byte { return r.bytes(r.u32()) }

// time reads seconds since 1970. They are unsigned, which carries past 2038.
func (r *reader) time() time.Time {
	if s := r.u32(); s != 0 {
		return time.Unix(int64(s), 0).UTC()
	}
	return time.Time{}
}

// header reads the fields of version 4; the only one known is the KDC's clock
// offset, and unknown ones are passed over.
func (r *reader) header() (offset time.Duration) {
	fields := &reader{b: r.bytes(uint32(r.u16()))}
	for fields.at < len(fields.b) && !fields.failed {
		tag, value := fields.u16(), &reader{b: fields.bytes(uint32(fields.u16()))}
		if tag == tagOffset && len(value.b) == 8 {
			s, us := int32(value.u32()), int32(value.u32())
			offset = time.Duration(s)*time.Second + time.Duration(us%1e6)*time.Microsecond
		}
	}
	r.failed = r.failed || fields.failed
	return offset
}

func (r *reader) principal() principal {
	p := principal{kind: int32(r.u32())}
	n := r.u32()
	if n > maxComponents {
		r.failed = true
		return p
	}
	p.realm = string(r.data())
	for range n {
		p.parts = append(p.parts, string(r.data()))
	}
	return p
}

func (r *reader) cred(version byte) cred {
	e := cred{client: r.principal(), server: r.principal()}
	e.etype = int32(r.u16())
	if version == 3 {
		r.u16() // the same once more
	}
	e.key = r.data()
	e.auth, e.start, e.end, e.renew = r.time(), r.time(), r.time(), r.time()
	if e.start.IsZero() {
		e.start = e.auth // RFC 4120 section 5.3: absent means authtime
	}
	e.skey = r.u8()
	e.flags = ticket.Flags(r.u32())
	e.addresses = r.tagged()
	e.authData = r.tagged()
	e.ticket = r.data()
	e.second = r.data()
	return e
}

// tagged returns the bytes of a counted list of typed values. A false count
// runs into the end of the file; nothing is allocated for it.
func (r *reader) tagged() []byte {
	begin := r.at
	for n := r.u32(); n > 0 && !r.failed; n-- {
		r.u16()
		r.data()
	}
	return r.b[begin:r.at:r.at]
}
