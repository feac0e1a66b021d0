package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
)

// Errors of reading a head. A client that sent one gets 400.
var (
	errBareLF       = errors.New("a line does not end in CRLF")
	errHeadTooLarge = errors.New("the head is too large")
	errManyFields   = errors.New("the head has too many fields")
	errFieldSyntax  = errors.New("malformed header field")
	errStartLine    = errors.New("malformed start line")
)

const firstBuf = 4 << 10

var headEnd = []byte("\r\n\r\n")

var bufs = sync.Pool{New: func() any { b := make([]byte, firstBuf); return &b }}

// reader reads heads and bodies from one connection through one buffer that
// grows for a large head and is given back when nothing is in it and release
// is called, so that an idle tunnel holds none.
type reader struct {
	c    io.Reader
	buf  []byte
	own  *[]byte // buf as it came from the pool
	r, w int
	err  error // seen by a look ahead, to be returned when the buffer is empty
}

func (b *reader) buffered() []byte { return b.buf[b.r:b.w] }

// fill reads once, making room first. It keeps what is buffered but moves it,
// so earlier slices are dead afterwards.
func (b *reader) fill() error {
	if b.err != nil {
		return b.err
	}
	if b.buf == nil {
		b.own = bufs.Get().(*[]byte)
		b.buf = *b.own
	}
	if b.r > 0 {
		copy(b.buf, b.buf[b.r:b.w])
		b.w -= b.r
		b.r = 0
	}
	if b.w == len(b.buf) {
		b.buf = append(b.buf, make([]byte, len(b.buf))...)
	}
	n, err := b.c.Read(b.buf[b.w:])
	b.w += n
	if n > 0 {
		if err != nil {
			b.err = err
		}
		return nil
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

// head consumes a message head and returns it with its final empty line. The
// slice is valid until the next fill. Up to a few empty lines in front are
// skipped, as RFC 9112 §2.2 asks; a line that ends in a bare LF is an error.
func (b *reader) head(limit int) ([]byte, error) {
	for skipped := 0; ; skipped++ {
		for b.w-b.r < 2 {
			if b.w-b.r == 1 && b.buf[b.r] == '\n' {
				return nil, errBareLF
			}
			if err := b.fill(); err != nil {
				return nil, err
			}
		}
		if b.buf[b.r] != '\r' || b.buf[b.r+1] != '\n' {
			break
		}
		if skipped == 4 {
			return nil, errStartLine
		}
		b.r += 2
	}
	line, scan := 0, 0 // offsets from b.r: start of the current line, first byte not looked at
	for {
		buf := b.buf[b.r:b.w]
		for {
			i := bytes.IndexByte(buf[scan:], '\n')
			if i < 0 {
				scan = len(buf)
				break
			}
			end := scan + i
			if end == line || buf[end-1] != '\r' {
				return nil, errBareLF
			}
			scan = end + 1
			if end-1 == line {
				if scan > limit {
					return nil, errHeadTooLarge
				}
				b.r += scan
				return buf[:scan], nil
			}
			line = scan
		}
		if len(buf) >= limit {
			return nil, errHeadTooLarge
		}
		if err := b.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// Read implements io.Reader: what is buffered first.
func (b *reader) Read(p []byte) (int, error) {
	if b.r < b.w {
		n := copy(p, b.buf[b.r:b.w])
		b.r += n
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.c.Read(p)
}

// line consumes one CRLF line of at most limit bytes, without its end.
func (b *reader) line(limit int) ([]byte, error) {
	scan := 0
	for {
		buf := b.buf[b.r:b.w]
		if i := bytes.IndexByte(buf[scan:], '\n'); i >= 0 {
			end := scan + i
			if end == 0 || buf[end-1] != '\r' {
				return nil, errBareLF
			}
			b.r += end + 1
			return buf[:end-1], nil
		}
		scan = len(buf)
		if scan > limit+1 { // the CR may be here already
			return nil, errHeadTooLarge
		}
		if err := b.fill(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// take returns and consumes everything buffered; the caller owns it.
func (b *reader) take() []byte {
	rest := bytes.Clone(b.buffered())
	b.r, b.w = 0, 0
	return rest
}

// release gives an empty buffer back.
func (b *reader) release() {
	if b.r != b.w || b.buf == nil {
		return
	}
	if b.own != nil {
		bufs.Put(b.own)
	}
	b.buf, b.own, b.r, b.w = nil, nil, 0, 0
}

// field is one header field; both slices point into the head.
type field struct{ name, value []byte }

// startAndFields splits a head (as reader.head returns it) into its start line
// and its fields, strictly: CRLF only, no folding, no blank before the colon,
// no control character in a value (RFC 9112 §5, RFC 9110 §5.5).
func startAndFields(head []byte, fields []field) (start []byte, _ []field, err error) {
	fields = fields[:0]
	end := bytes.IndexByte(head, '\n')
	start = head[:end-1]
	if bytes.IndexByte(start, '\r') >= 0 {
		return nil, nil, errStartLine
	}
	for rest := head[end+1:]; len(rest) > 2; {
		end := bytes.IndexByte(rest, '\n')
		line := rest[:end-1]
		rest = rest[end+1:]
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !isToken(line[:colon]) {
			return nil, nil, errFieldSyntax
		}
		value := trimOWS(line[colon+1:])
		if !isFieldValue(value) {
			return nil, nil, errFieldSyntax
		}
		if len(fields) == maxFields {
			return nil, nil, errManyFields
		}
		fields = append(fields, field{line[:colon], value})
	}
	return start, fields, nil
}

func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// tchar marks the token characters of RFC 9110 §5.6.2.
var tchar = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if !tchar[c] {
			return false
		}
	}
	return len(b) > 0
}

func isFieldValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// is compares a field name or token with a lower-case word.
func is(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// eachToken calls f for every non-empty member of a comma-separated list
// without quoted strings (Connection, Transfer-Encoding, TE, …).
func eachToken(list []byte, f func(token []byte)) {
	for len(list) > 0 {
		token, rest, _ := bytes.Cut(list, []byte{','})
		if token = trimOWS(token); len(token) > 0 {
			f(token)
		}
		list = rest
	}
}

// closeWriter is what can end one direction of a connection.
type closeWriter interface{ CloseWrite() error }

func closeWrite(c net.Conn) error {
	if cw, ok := c.(closeWriter); ok {
		return cw.CloseWrite()
	}
	return c.Close()
}
