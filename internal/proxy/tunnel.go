package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// tunnel is all that an open tunnel keeps: two connections and what will be
// told about it in the end. The session that opened it has gone, with its
// buffers and its stack.
type tunnel struct {
	s          *Server
	client, up net.Conn
	ev         Event
	ended      atomic.Int32 // directions
}

// tunnel moves bytes both ways until both directions have ended. The end of
// one direction is passed on as such and leaves the other open (F4); a broken
// connection ends both. Nothing is looked at. It returns at once: from here on
// the tunnel owns both connections, and the client's place among the open ones.
func (c *session) tunnel(u *upConn, ev *Event) {
	c.c.SetReadDeadline(noDeadline)
	t := &tunnel{s: c.s, client: c.c, up: u.Conn, ev: *ev}
	t.ev.Local, t.ev.Remote = c.local, c.remote
	toUp, toClient := c.rd.take(), u.rd.take()
	c.rd.release()
	u.rd.release()
	c.handedOver = true
	// Two new goroutines: this one's stack has grown with parsing, and would
	// stay as large for as long as the tunnel lives.
	t.s.tunnels.Add(1)
	t.s.wg.Add(2)
	go t.upward(toUp, c.rd.err)
	go t.downward(toClient)
}

func (t *tunnel) upward(first []byte, srcErr error) {
	var err error
	t.ev.Up, err = pump(t.up, t.client, first, srcErr)
	t.end(t.up, err)
}

func (t *tunnel) downward(first []byte) {
	var err error
	t.ev.Down, err = pump(t.client, t.up, first, nil)
	t.end(t.client, err)
}

// end is called by each direction with where it led to. The first one passes
// its end on, or ends both when it broke; the second one closes, which is an
// end as well.
func (t *tunnel) end(dst net.Conn, err error) {
	if t.ended.Add(1) == 1 {
		if err != nil || closeWrite(dst) != nil {
			t.up.Close()
			t.client.Close()
		}
	} else {
		t.s.untrack(t.up)
		t.ev.Took = time.Since(t.ev.Time)
		t.s.obs.Request(t.ev)
		t.s.untrack(t.client)
		t.s.tunnels.Add(-1)
		t.s.open.Add(-1)
	}
	t.s.wg.Done()
}

// pump copies src to dst behind first until src ends. srcErr is what an earlier
// look ahead saw at the end of src.
func pump(dst, src net.Conn, first []byte, srcErr error) (n int64, err error) {
	if len(first) > 0 {
		if _, err := dst.Write(first); err != nil {
			return 0, err
		}
	}
	if srcErr != nil {
		if srcErr == io.EOF {
			srcErr = nil
		}
		return int64(len(first)), srcErr
	}
	n, err, writeErr := move(dst, src)
	if err == nil {
		err = writeErr
	}
	return n + int64(len(first)), err
}

// move copies src to dst until src ends, and holds no more than a small buffer
// while nothing comes. A readErr is src's, nil at its end; a writeErr dst's. It
// moves src's read deadline.
func move(dst, src net.Conn) (n int64, readErr, writeErr error) {
	if s, ok := src.(*net.TCPConn); ok {
		return moveTCP(dst, s, -1)
	}
	return moveAny(dst, src)
}

// moveTCP moves limit bytes, or with limit < 0 all until src ends. A few bytes
// go through a small buffer, more inside the kernel where the system can, and
// through a large buffer otherwise. It holds nothing while nothing comes. A readErr is src's,
// nil when it ended early; a writeErr is dst's.
func moveTCP(dst net.Conn, src *net.TCPConn, limit int64) (n int64, readErr, writeErr error) {
	from, err := src.SyscallConn()
	if err != nil {
		return 0, err, nil
	}
	f := flow{from: from, src: src, limit: limit, bulk: limit > firstBuf}
	if d, ok := dst.(*net.TCPConn); ok {
		if f.to, err = d.SyscallConn(); err != nil {
			return 0, nil, err
		}
	}
	return f.run(dst)
}

// flow is the state of moveTCP.
type flow struct {
	from, to syscall.RawConn // to is nil where dst is no TCP connection
	src      *net.TCPConn
	limit    int64   // bytes still to move; < 0: until the end
	bulk     bool    // there is more to come than a small buffer takes
	p        *pipe   // holds n bytes; nil while nothing has come
	buf      *[]byte // the same, where there is no pipe, or for a few bytes
	n        int
	err      error
}

func (f *flow) run(dst net.Conn) (total int64, readErr, writeErr error) {
	fill, drain := f.fill, f.drain // one allocation each, not one per call
	for f.limit != 0 {
		if err := f.wait(fill); err != nil {
			f.giveBack()
			return total, err, nil
		}
		if f.n == 0 || f.err != nil {
			f.giveBack()
			if f.err == io.EOF {
				f.err = nil
			}
			return total, f.err, nil
		}
		n := f.n
		f.bulk = n >= firstBuf
		if f.p != nil {
			if writeErr = f.to.Write(drain); writeErr == nil {
				writeErr = f.err
			}
			n -= f.n
		} else {
			n, writeErr = dst.Write((*f.buf)[:n])
			f.n -= n
		}
		total += int64(n)
		if writeErr != nil {
			f.giveBack()
			return total, nil, writeErr
		}
		if f.limit > 0 {
			f.limit -= int64(n)
		}
		if f.buf != nil {
			f.giveBack()
		}
	}
	f.giveBack()
	return total, nil, nil
}

// atMost is how much the next step may take.
func (f *flow) atMost(n int) int {
	if f.limit >= 0 && f.limit < int64(n) {
		return int(f.limit)
	}
	return n
}

// giveBack returns what the flow holds.
func (f *flow) giveBack() {
	if f.p != nil {
		pipes.put(f.p, f.n == 0)
		f.p = nil
	}
	if f.buf != nil {
		if len(*f.buf) == firstBuf {
			bufs.Put(f.buf)
		} else {
			largeBufs.Put(f.buf)
		}
		f.buf = nil
	}
	f.n = 0
}

// largeBuf is what one read takes at most where the kernel does not move bytes
// itself: larger ones stop being faster (see BenchmarkCopyBuffer).
const largeBuf = 128 << 10

var largeBufs = sync.Pool{New: func() any { b := make([]byte, largeBuf); return &b }}

const (
	smallBuf = 1 << 10
	// pauseTime is how long a large buffer waits for more.
	pauseTime = 500 * time.Millisecond
)

// moveAny is move where nobody can tell, without reading, whether something has
// come (TLS). While nothing comes it holds a small buffer only.
func moveAny(dst io.Writer, src net.Conn) (n int64, readErr, writeErr error) {
	small := make([]byte, smallBuf)
	for {
		m, err := src.Read(small)
		if m > 0 {
			k, writeErr := dst.Write(small[:m])
			n += int64(k)
			if writeErr != nil {
				return n, nil, writeErr
			}
		}
		if err == nil && m == len(small) {
			var k int64
			k, err, writeErr = moveWhileBusy(dst, src)
			n += k
			if writeErr != nil {
				return n, nil, writeErr
			}
		}
		if err == io.EOF {
			return n, nil, nil
		}
		if err != nil {
			return n, err, nil
		}
	}
}

// moveWhileBusy copies through a large buffer until the stream pauses, which is
// nil, or ends.
func moveWhileBusy(dst io.Writer, src net.Conn) (n int64, readErr, writeErr error) {
	bp := largeBufs.Get().(*[]byte)
	defer largeBufs.Put(bp)
	defer src.SetReadDeadline(noDeadline)
	for {
		src.SetReadDeadline(time.Now().Add(pauseTime))
		m, err := src.Read(*bp)
		if m > 0 {
			k, writeErr := dst.Write((*bp)[:m])
			n += int64(k)
			if writeErr != nil {
				return n, nil, writeErr
			}
		}
		switch {
		case isTimeout(err):
			return n, nil, nil
		case err != nil:
			return n, err, nil
		case m < smallBuf:
			return n, nil, nil
		}
	}
}

// stream copies an answer's body for as long as it takes. When nothing has
// come for IdleTimeout it looks whether the client is still there: one that
// has left would not be noticed before the next byte for it.
func (c *session) stream(u *upConn, b *upload, body *bodyReader, asChunks bool) (n int64, readErr, writeErr error) {
	for {
		u.SetReadDeadline(time.Now().Add(c.s.cfg.IdleTimeout))
		var m int64
		m, readErr, writeErr = copyBody(c.c, body, asChunks, nil)
		n += m
		if !errors.Is(readErr, os.ErrDeadlineExceeded) {
			return n, readErr, writeErr
		}
		// An upload that still runs reads the client itself.
		if m == 0 && !b.running() && c.left() {
			return n, readErr, writeErr
		}
	}
}
