package proxy

import (
	"errors"
	"io"
	"net"
	"strconv"
	"sync"
	"time"
)

var errChunk = errors.New("malformed chunked body")

// bodyReader takes a message body off a reader: payload only, io.EOF after the
// last byte, anything else is a body that did not arrive whole.
type bodyReader struct {
	rd   *reader
	kind framing
	left int64 // of the body (sized) or of the current chunk (chunked)
	// started: the size line of a chunk has been read; its CRLF is still due.
	started bool
	// last: the size line of the last chunk has been read; trailers are due.
	last     bool
	ended    bool
	trailers []byte // checked trailer fields, each with its CRLF
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if b.ended {
		return 0, io.EOF
	}
	switch b.kind {
	case noBody:
		b.ended = true
		return 0, io.EOF
	case untilClose:
		n, err := b.rd.Read(p)
		b.ended = err == io.EOF
		return n, err
	case chunked:
		if b.left == 0 {
			if err := b.nextChunk(); err != nil {
				return 0, err
			}
			if b.ended {
				return 0, io.EOF
			}
		}
	}
	if b.left == 0 {
		b.ended = true
		return 0, io.EOF
	}
	n, err := b.rd.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if b.kind == sized && b.left == 0 {
		b.ended = true
	}
	if err == io.EOF && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// nextChunk reads up to the next chunk's data, or through the trailers (RFC
// 9112 §7.1). Extensions are checked for length and dropped. After a deadline
// it goes on where it was.
func (b *bodyReader) nextChunk() error {
	if b.last {
		return b.readTrailers()
	}
	if b.started {
		crlf, err := b.rd.line(0)
		if err != nil {
			return err
		}
		if len(crlf) != 0 {
			return errChunk
		}
		b.started = false
	}
	line, err := b.rd.line(1 << 10)
	if err != nil {
		return err
	}
	size, digits := int64(0), 0
	for ; digits < len(line); digits++ {
		v := unhex(line[digits])
		if v < 0 {
			break
		}
		size = size<<4 | int64(v)
	}
	if digits == 0 || digits > 15 || !isFieldValue(line) {
		return errChunk
	}
	if ext := trimOWS(line[digits:]); len(ext) > 0 && ext[0] != ';' || len(ext) == 0 && digits != len(line) {
		return errChunk
	}
	if size > 0 {
		b.left, b.started = size, true
		return nil
	}
	b.last = true
	return b.readTrailers()
}

// readTrailers reads through the end of a chunked body. Fields that could
// change framing or routing are dropped (RFC 9110 §6.5.1).
func (b *bodyReader) readTrailers() error {
	for {
		line, err := b.rd.line(maxTrailer)
		if err != nil {
			return err
		}
		if len(line) == 0 {
			b.ended = true
			return nil
		}
		_, fields, err := startAndFields(append(append([]byte("\r\n"), line...), "\r\n\r\n"...), nil)
		if err != nil || len(fields) != 1 {
			return errChunk
		}
		if name := fields[0].name; !hopByHop(name) && !is(name, "authorization") && !is(name, "trailer") {
			if len(b.trailers) > maxTrailer {
				return errHeadTooLarge
			}
			b.trailers = appendField(b.trailers, fields[0])
		}
	}
}

const maxTrailer = 16 << 10

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// chunkRoom is what a chunk's size line can need in front of its data.
const chunkRoom = 16

var copyBufs = sync.Pool{New: func() any { b := make([]byte, chunkRoom+32<<10+2); return &b }}

// copyBody moves a body to w, each piece as soon as it is there, framed as
// chunks or bare, and returns the payload bytes. A readErr is b's, a writeErr
// w's; keep, if not nil, sees each piece before it is written, until it says
// that it wants no more.
func copyBody(w io.Writer, b *bodyReader, asChunks bool, keep func([]byte) (more bool)) (n int64, readErr, writeErr error) {
	var buf []byte
	for {
		if keep == nil && !asChunks {
			if m, readErr, writeErr, ok := spliceBody(w, b); ok {
				return n + m, readErr, writeErr
			}
		}
		if buf == nil { // not before: it would be held while the kernel works
			bp := copyBufs.Get().(*[]byte)
			defer copyBufs.Put(bp)
			buf = *bp
		}
		m, err := b.Read(buf[chunkRoom : len(buf)-2])
		if m > 0 {
			piece := buf[chunkRoom : chunkRoom+m]
			if keep != nil && !keep(piece) {
				keep = nil
			}
			if asChunks {
				piece = frame(buf, m)
			}
			if _, err := w.Write(piece); err != nil {
				return n, nil, err
			}
			n += int64(m)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return n, err, nil
		}
	}
	if asChunks {
		_, writeErr = w.Write(lastChunk(b.trailers))
	}
	return n, nil, writeErr
}

// frame puts a size line in front of the m payload bytes at buf[chunkRoom:]
// and CRLF behind them, in place.
func frame(buf []byte, m int) []byte {
	var size [chunkRoom]byte
	head := append(strconv.AppendInt(size[:0], int64(m), 16), '\r', '\n')
	start := chunkRoom - len(head)
	copy(buf[start:], head)
	buf[chunkRoom+m], buf[chunkRoom+m+1] = '\r', '\n'
	return buf[start : chunkRoom+m+2]
}

func lastChunk(trailers []byte) []byte {
	return append(append([]byte("0\r\n"), trailers...), '\r', '\n')
}

// spliceBody moves a body that needs no framing from one TCP connection to
// another, inside the kernel where the system can. ok is false when it cannot
// apply.
func spliceBody(w io.Writer, b *bodyReader) (n int64, readErr, writeErr error, ok bool) {
	dst, ok1 := w.(*net.TCPConn)
	src, ok2 := b.rd.c.(*net.TCPConn)
	if !ok1 || !ok2 || !movesBodies || b.rd.err != nil || b.ended || b.kind != sized && b.kind != untilClose {
		return 0, nil, nil, false
	}
	if rest := b.rd.buffered(); len(rest) > 0 {
		if b.kind == sized {
			rest = rest[:min(int64(len(rest)), b.left)]
		}
		if _, err := dst.Write(rest); err != nil {
			return 0, nil, err, true
		}
		b.rd.r += len(rest)
		b.left -= int64(len(rest))
		n = int64(len(rest))
	}
	limit := int64(-1)
	if b.kind == sized {
		limit = b.left
	}
	m, readErr, writeErr := moveTCP(dst, src, limit)
	n += m
	b.left -= m
	switch {
	case readErr != nil || writeErr != nil:
	case b.kind == sized && b.left > 0:
		readErr = io.ErrUnexpectedEOF
	default:
		b.ended = true
	}
	return n, readErr, writeErr, true
}

// upload is a request body on its way, with what a repeat would need.
type upload struct {
	bodyReader
	kept []byte // the payload read so far, while keptAll
	lost bool   // more was read than is kept
	sent int64

	done chan struct{} // non-nil while a send runs in its own goroutine

	mu       sync.Mutex // guards answered, and with it the connection's deadline
	answered bool       // the head of the answer is here

	clientErr error // the body did not arrive whole
	writeErr  error
	finished  bool // everything, end mark included, was written
}

func (b *upload) keep(p []byte) (more bool) {
	if b.lost = b.lost || len(b.kept)+len(p) > maxReplay; b.lost {
		b.kept = nil
		return false
	}
	if len(b.kept)+len(p) > cap(b.kept) {
		// In two steps: doubling would leave as much again behind.
		room := firstReplay
		if len(b.kept)+len(p) > room {
			room = maxReplay
		}
		b.kept = append(make([]byte, 0, room), b.kept...)
	}
	b.kept = append(b.kept, p...)
	return true
}

// firstReplay is the room for what is kept of a body at first.
const firstReplay = 64 << 10

// replayable reports whether the body can be sent again from its start.
func (b *upload) replayable() bool { return b == nil || !b.lost && b.clientErr == nil }

// running reports whether a send is under way in its own goroutine.
func (b *upload) running() bool {
	if b == nil || b.done == nil {
		return false
	}
	select {
	case <-b.done:
		return false
	default:
		return true
	}
}

// arm starts the wait for an answer once the body is out, unless the answer
// came first.
func (b *upload) arm(c net.Conn, limit time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.answered {
		c.SetReadDeadline(time.Now().Add(limit))
	}
}

// disarm ends the wait.
func (b *upload) disarm(c net.Conn) {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.answered = true
	}
	c.SetReadDeadline(noDeadline)
}

// send writes the body, from its start, to w. remember keeps it for a repeat.
func (b *upload) send(w io.Writer, remember bool) {
	asChunks := b.kind == chunked
	b.finished = false
	b.sent = int64(len(b.kept))
	if len(b.kept) > 0 {
		piece := b.kept
		if asChunks {
			piece = append(append(strconv.AppendInt(nil, int64(len(piece)), 16), "\r\n"...), piece...)
			piece = append(piece, '\r', '\n')
		}
		if _, err := w.Write(piece); err != nil {
			b.writeErr = err
			return
		}
	}
	keep := b.keep
	if !remember {
		keep = nil
		b.lost = true
	}
	n, readErr, writeErr := copyBody(w, &b.bodyReader, asChunks, keep)
	b.sent += n
	b.clientErr, b.writeErr = readErr, writeErr
	b.finished = readErr == nil && writeErr == nil
}
