package ticket

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A ServiceTicket is a ticket for a service, and the session key that proves
// the right to use it.
type ServiceTicket struct {
	Client     []string // name of the principal, without the realm
	ClientType int32    // RFC 4120 section 6.2
	Realm      string   // the principal's
	DER        []byte   // the Ticket of RFC 4120 section 5.3
	EncType    EncType  // of the session key
	Key        []byte
}

// A Maker makes the tokens of one service ticket. What stays the same from
// token to token, the derived keys too, is made once. It does no I/O, and is
// safe for concurrent use.
type Maker struct {
	fixed      []byte // of the authenticator: version, client, checksum
	ticket     []byte // its field of the AP-REQ
	encType    byte
	block      cipher.Block
	macs       sync.Pool // of *mac
	macSize    int       // bytes of a MAC that are sent
	macOfPlain bool      // as in RFC 3962; else of the ciphertext, as in RFC 8009
}

// A mac is scratch space for one token.
type mac struct {
	hash hash.Hash
	sum  [sha512.Size]byte
}

// maxTicketDER bounds a ticket; Windows' largest have 64 KB.
const maxTicketDER = 128 << 10

// NewMaker prepares t, of which it keeps nothing that the caller may clear. An
// encryption type other than AES is [errors.ErrUnsupported].
func NewMaker(t ServiceTicket) (*Maker, error) {
	m := &Maker{encType: byte(t.EncType)}
	if err := m.derive(t.EncType, t.Key); err != nil {
		return nil, err
	}
	if len(t.Client) == 0 || t.Realm == "" {
		return nil, errors.New("service ticket: no client")
	}
	if _, rest, ok := element(t.DER, 0x61); !ok || len(rest) != 0 || len(t.DER) > maxTicketDER {
		return nil, errors.New("service ticket: not a ticket")
	}
	names := make([][]byte, len(t.Client))
	for i, part := range t.Client {
		names[i] = tlv(0x1b, []byte(part))
	}
	// RFC 4121 section 4.1.1: length and hash of no channel bindings, flags.
	const confidential, integrity = 0x10, 0x20
	sum := make([]byte, 24)
	sum[0], sum[20] = 16, confidential|integrity
	m.fixed = slices.Concat(
		tlv(0xa0, []byte{0x02, 0x01, 0x05}), // version 5
		tlv(0xa1, tlv(0x1b, []byte(t.Realm))),
		tlv(0xa2, tlv(0x30, tlv(0xa0, tlv(0x02, integer(t.ClientType))), tlv(0xa1, tlv(0x30, names...)))),
		tlv(0xa3, tlv(0x30, tlv(0xa0, tlv(0x02, integer(0x8003))), tlv(0xa1, tlv(0x04, sum)))))
	m.ticket = tlv(0xa3, t.DER)
	return m, nil
}

// integer is the shortest two's complement of n (X.690 section 8.3).
func integer(n int32) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(n))
	for len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80) {
		b = b[1:]
	}
	return b
}

// What RFC 3961 section 5.3 folds, to 128 bits, from the key usage of an
// authenticator (11) with 0xaa and with 0x55.
var (
	foldedKe = [16]byte{0xfe, 0x54, 0xaa, 0x55, 0xa5, 0x02, 0x52, 0x2f, 0xbf, 0x5f, 0xaf, 0xd7, 0xea, 0x81, 0x75, 0xfa}
	foldedKi = [16]byte{0xab, 0x80, 0xc0, 0x60, 0xaa, 0xaf, 0xaa, 0x2e, 0x6a, 0xb5, 0x5a, 0xad, 0x55, 0x41, 0x6b, 0x55}
)

// derive makes the keys for encryption and integrity of an authenticator
// (RFC 4120 section 7.5.1).
func (m *Maker) derive(e EncType, key []byte) error {
	sizes := map[EncType]int{17: 16, 18: 32, 19: 16, 20: 32}
	size, known := sizes[e]
	if !known {
		return fmt.Errorf("tokens with encryption type %v: %w", e, errors.ErrUnsupported)
	}
	if len(key) != size {
		return fmt.Errorf("service ticket: a key of %d bytes with encryption type %v", len(key), e)
	}
	var newHash func() hash.Hash
	var ke, ki []byte
	switch e {
	case 17, 18: // RFC 3962
		newHash, m.macSize, m.macOfPlain = sha1.New, 12, true
		base, err := aes.NewCipher(key)
		if err != nil {
			return err
		}
		ke, ki = dk(base, foldedKe, size), dk(base, foldedKi, size)
	case 19: // RFC 8009
		newHash, m.macSize = sha256.New, 16
		ke, ki = kdf(newHash, key, 0xaa, 16), kdf(newHash, key, 0x55, 16)
	case 20:
		newHash, m.macSize = sha512.New384, 24
		ke, ki = kdf(newHash, key, 0xaa, 32), kdf(newHash, key, 0x55, 24)
	}
	defer clear(ke)
	var err error
	m.block, err = aes.NewCipher(ke)
	m.macs.New = func() any { return &mac{hash: hmac.New(newHash, ki)} }
	return err
}

// dk is the key derivation of RFC 3961 section 5.1 with AES.
func dk(base cipher.Block, folded [16]byte, size int) []byte {
	out, block := make([]byte, 0, 32), folded
	for len(out) < size {
		base.Encrypt(block[:], block[:])
		out = append(out, block[:]...)
	}
	return out
}

// kdf is the key derivation of RFC 8009 section 3 for the key usage of an
// authenticator.
func kdf(newHash func() hash.Hash, key []byte, kind byte, size int) []byte {
	h := hmac.New(newHash, key)
	h.Write([]byte{0, 0, 0, 1, 0, 0, 0, 11, kind, 0})
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(size*8)))
	return h.Sum(nil)[:size]
}

// Token makes one new token (see [Backend]). Offset is the KDC's clock minus
// this machine's. No two tokens have the same time stamp, unless a clock is set
// back.
func (m *Maker) Token(offset time.Duration) []byte {
	var random [aes.BlockSize + 4]byte
	rand.Read(random[:])
	// Below 2^30: some acceptors read the number as signed.
	seq := binary.BigEndian.Uint32(random[aes.BlockSize:]) & 0x3fffffff
	return m.token(NextStamp().Add(offset), seq, random[:aes.BlockSize])
}

func (m *Maker) token(stamp time.Time, seq uint32, confounder []byte) []byte {
	stamp = stamp.UTC()
	const overhead = 256 // more than all that is added to these two
	w := &backwards{make([]byte, overhead+len(m.fixed)+len(m.ticket)), 0}
	w.at = len(w.b) - m.macSize

	// The authenticator (RFC 4120 section 5.5.1), which comes last.
	end := w.at
	w.integer(seq)
	w.wrap(0xa7, end)
	mark := w.at
	w.at -= 15
	stamp.AppendFormat(w.b[w.at:w.at], "20060102150405Z")
	w.wrap(0x18, mark)
	w.wrap(0xa5, mark)
	mark = w.at
	w.integer(uint32(stamp.Nanosecond() / 1000))
	w.wrap(0xa4, mark)
	w.put(m.fixed)
	w.wrap(0x30, end)
	w.wrap(0x62, end)
	w.put(confounder)
	m.seal(w.b[w.at:])

	// The AP-REQ around it, framed as RFC 4121 section 4.1 has it.
	end = len(w.b)
	w.wrap(0x04, end)
	w.wrap(0xa2, end)
	w.put([]byte{0xa0, 0x03, 0x02, 0x01, m.encType}) // no key version: it is a session key
	w.wrap(0x30, end)
	w.wrap(0xa4, end)
	w.put(m.ticket)
	w.put(apReqHead)
	w.wrap(0x30, end)
	w.wrap(0x6e, end)
	w.put(krb5Frame)
	w.wrap(0x60, end)

	// The NegTokenInit, as WrapSPNEGO has it.
	w.wrap(0x04, end)
	w.wrap(0xa2, end)
	w.put(spnegoMechs)
	w.wrap(0x30, end)
	w.wrap(0xa0, end)
	w.put(oidSPNEGO)
	w.wrap(0x60, end)
	return w.b[w.at:]
}

// What every token has.
var (
	apReqHead = []byte{
		0xa0, 0x03, 0x02, 0x01, 0x05, // version 5
		0xa1, 0x03, 0x02, 0x01, 0x0e, // AP-REQ
		0xa2, 0x07, 0x03, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, // no options
	}
	krb5Frame   = append(tlv(0x06, oidKrb5), 0x01, 0x00)
	spnegoMechs = tlv(0xa0, tlv(0x30, tlv(0x06, oidKrb5)))
)

// seal encrypts b, a confounder and an authenticator with room for the MAC
// behind them, in place.
func (m *Maker) seal(b []byte) {
	text, tag := b[:len(b)-m.macSize], b[len(b)-m.macSize:]
	h := m.macs.Get().(*mac)
	defer m.macs.Put(h)
	h.hash.Reset()
	if m.macOfPlain {
		h.hash.Write(text)
		encryptCTS(m.block, text)
	} else {
		encryptCTS(m.block, text)
		h.hash.Write(zeroIV)
		h.hash.Write(text)
	}
	copy(tag, h.hash.Sum(h.sum[:0]))
}

var zeroIV = make([]byte, aes.BlockSize)

// encryptCTS is AES in the CBC mode with ciphertext stealing that RFC 3962
// section 5 describes, with an initial vector of zeros, in place. B is longer
// than one block.
func encryptCTS(block cipher.Block, b []byte) {
	const size = aes.BlockSize
	last := (len(b) - 1) / size * size // begin of the last block, which may be short
	before := zeroIV
	for i := 0; i < last; i += size {
		now := b[i : i+size]
		subtle.XORBytes(now, now, before)
		block.Encrypt(now, now)
		before = now
	}
	// The last two blocks change places, and the one now last is cut off.
	var end [size]byte
	copy(end[:], b[last:])
	subtle.XORBytes(end[:], end[:], before)
	copy(b[last:], before)
	block.Encrypt(before, end[:])
}

// backwards writes DER from its end to its beginning, so that each length is
// known when its place comes.
type backwards struct {
	b  []byte
	at int // where what is written begins
}

func (w *backwards) put(b []byte) {
	w.at -= len(b)
	copy(w.b[w.at:], b)
}

// wrap makes what is written, up to end, the value of an element.
func (w *backwards) wrap(tag byte, end int) {
	n, count := end-w.at, byte(0)
	for rest := n; rest > 0 || count == 0; rest >>= 8 {
		w.at--
		w.b[w.at] = byte(rest)
		count++
	}
	if n >= 0x80 {
		w.at--
		w.b[w.at] = 0x80 | count
	}
	w.at--
	w.b[w.at] = tag
}

// integer writes an INTEGER.
func (w *backwards) integer(n uint32) {
	end := w.at
	for {
		w.at--
		w.b[w.at] = byte(n)
		if n < 0x80 {
			break
		}
		n >>= 8
	}
	w.wrap(0x02, end)
}

// NextStamp is the present time, in microseconds, as no call before has returned
// it, unless this machine's clock has been set back: a server may take two
// authenticators with one stamp for a replay (RFC 4120 section 3.2.3).
func NextStamp() time.Time { return stamps.next(time.Now()) }

var stamps ticker

// A ticker holds the last stamp given out, in Unix microseconds.
type ticker struct{ last atomic.Int64 }

// next is now, or a little later.
func (t *ticker) next(now time.Time) time.Time {
	for {
		last, us := t.last.Load(), now.UnixMicro()
		if us <= last && last-us < setBack.Microseconds() {
			us = last + 1
		}
		if t.last.CompareAndSwap(last, us) {
			return time.UnixMicro(us)
		}
	}
}

// setBack is how far behind the last stamp a clock is that has been set back:
// then a token with the right time is worth more than one with a new stamp.
const setBack = time.Second
