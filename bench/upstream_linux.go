//go:build linux

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Names that no resolver knows (RFC 6761): a peer that insists on resolving
// targets shows itself.
const (
	pageURL      = "http://origin.bench.invalid/page"
	uploadURL    = "http://origin.bench.invalid/upload/"
	pageHost     = "origin.bench.invalid"
	echoTarget   = "echo.bench.invalid:443"
	sourceTarget = "source.bench.invalid:443"

	pageSize = 1024
)

var page = append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n%s\r\n", pageSize, keepAlive), make([]byte, pageSize)...)

const (
	keepAlive = "Connection: keep-alive\r\nProxy-Connection: keep-alive\r\n"
	connClose = "Connection: close\r\nProxy-Connection: close\r\n"
)

// An upstream is the proxy that demands credentials and, to save a hop that
// would only cost this process's core, the origin too. It serves GET of one
// page, POST of any body, and tunnels that echo or send zeros.
//
// An upload with ?stale=drain or ?stale=close has its first attempt refused,
// as if the credentials had just gone stale: with drain the body is read and
// the connection kept, as Squid does; with close it ends, as many appliances do.
type upstream struct {
	check checker
	l     net.Listener
	wg    sync.WaitGroup

	conns    atomic.Int64 // accepted
	requests atomic.Int64 // heads read
	refused  atomic.Int64 // answered with 407
	trips    atomic.Int64 // round trips, see trip
	mark     atomic.Int64 // when the one client began its tunnel, in ns
	uploaded atomic.Int64 // bytes of bodies, wasted ones included
	posts    atomic.Int64 // uploads that the origin carried out

	mu    sync.Mutex // guards what follows
	stale map[string]bool
	open  map[net.Conn]bool
}

func startUpstream(check checker) (*upstream, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{check: check, l: l, stale: map[string]bool{}, open: map[net.Conn]bool{}}
	u.wg.Go(u.accept)
	return u, nil
}

func (u *upstream) port() int { return u.l.Addr().(*net.TCPAddr).Port }

// close ends the listener and all connections, and waits for them.
func (u *upstream) close() {
	u.l.Close()
	u.mu.Lock()
	for c := range u.open {
		c.Close()
	}
	u.mu.Unlock()
	u.wg.Wait()
}

func (u *upstream) accept() {
	for {
		c, err := u.l.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		u.open[c] = true
		u.mu.Unlock()
		u.conns.Add(1)
		u.wg.Go(func() {
			u.serve(c.(*net.TCPConn), time.Now())
			c.Close()
			u.mu.Lock()
			delete(u.open, c)
			u.mu.Unlock()
		})
	}
}

// trip counts what one tunnel waits for: each request is a trip, and so is a
// connection made after the client began. One made in advance costs none.
func (u *upstream) trip(first bool, accepted time.Time) {
	n := int64(1)
	if first && accepted.UnixNano() > u.mark.Load() {
		n++
	}
	u.trips.Add(n)
}

func (u *upstream) serve(c *net.TCPConn, accepted time.Time) {
	br := bufio.NewReaderSize(c, 8<<10)
	var l login
	var h head
	for first := true; ; first = false {
		if readHead(br, &h) != nil {
			return
		}
		u.requests.Add(1)
		u.trip(first, accepted)
		if h.length == lengthUnknown {
			h.length = 0 // RFC 9112 section 6.3: a request without framing has no body
		}
		if ok, challenge := u.check.check(&l, h.auth); !ok {
			if !u.refuse(c, br, &h, challenge, false) {
				return
			}
			continue
		}
		again := false
		switch string(h.word[0]) {
		case "CONNECT":
			u.tunnel(c, br, string(h.word[1]))
		case "GET":
			_, err := c.Write(page)
			again = err == nil
		case "POST":
			again = u.upload(c, br, &h, &l)
		}
		if !again || h.close {
			return
		}
	}
}

// refuse answers 407 at once and reports whether the connection goes on.
func (u *upstream) refuse(c *net.TCPConn, br *bufio.Reader, h *head, challenge string, hangUp bool) bool {
	u.refused.Add(1)
	conn := keepAlive
	if hangUp || h.close {
		conn = connClose
	}
	fmt.Fprintf(c, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: %s\r\nContent-Length: 0\r\n%s\r\n", challenge, conn)
	if hangUp {
		// Unread data resets the connection; let the answer arrive first.
		c.CloseWrite()
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		n, _ := io.CopyN(io.Discard, br, 1<<20)
		u.uploaded.Add(n)
		return false
	}
	n, err := skipBody(c, br, h.length)
	u.uploaded.Add(n)
	return err == nil && !h.close
}

func (u *upstream) upload(c *net.TCPConn, br *bufio.Reader, h *head, l *login) bool {
	target := string(h.word[1])
	if name, kind, ok := strings.Cut(target, "?stale="); ok {
		u.mu.Lock()
		seen := u.stale[name]
		u.stale[name] = true
		u.mu.Unlock()
		if !seen {
			*l = login{}
			_, challenge := u.check.check(l, nil)
			return u.refuse(c, br, h, challenge, kind == "close")
		}
	}
	if h.expect {
		io.WriteString(c, "HTTP/1.1 100 Continue\r\n\r\n")
	}
	n, err := skipBody(c, br, h.length)
	u.uploaded.Add(n)
	if err != nil {
		return false
	}
	u.posts.Add(1)
	size := strconv.FormatInt(n, 10)
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s", len(size), keepAlive, size)
	return true
}

func (u *upstream) tunnel(c *net.TCPConn, br *bufio.Reader, target string) {
	if target != echoTarget && target != sourceTarget {
		io.WriteString(c, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		return
	}
	io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	if target == sourceTarget {
		sendZeros(c)
		return
	}
	buf := make([]byte, 512)
	for {
		n, err := br.Read(buf)
		if n > 0 {
			_, err = c.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// skipBody reads a body of this length, or chunked, and returns its size.
func skipBody(c *net.TCPConn, br *bufio.Reader, length int64) (n int64, err error) {
	if length >= 0 {
		early := min(length, int64(br.Buffered()))
		br.Discard(int(early))
		if early == length {
			return length, nil
		}
		rest, err := discard(c, length-early, nil)
		return early + rest, err
	}
	for {
		line, err := br.ReadSlice('\n')
		if err != nil {
			return n, err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 62)
		if err != nil {
			return n, err
		}
		m, err := io.CopyN(io.Discard, br, int64(size))
		n += m
		if err == nil {
			_, err = br.Discard(2)
		}
		if err != nil || size == 0 {
			return n, err
		}
	}
}

const zeroSize = 1 << 20

// zeros is a file in memory that sendfile can read.
var zeros = sync.OnceValues(func() (int, error) {
	fd, err := unix.MemfdCreate("zeros", unix.MFD_CLOEXEC)
	if err == nil {
		err = unix.Ftruncate(fd, zeroSize)
	}
	return fd, err
})

// sendZeros sends without copying until the other side goes away.
func sendZeros(c *net.TCPConn) {
	file, err := zeros()
	if err != nil {
		return
	}
	rc, err := c.SyscallConn()
	if err != nil {
		return
	}
	for off := int64(0); ; {
		var failed error
		err := rc.Write(func(fd uintptr) bool {
			off %= zeroSize
			_, failed = unix.Sendfile(int(fd), file, &off, int(zeroSize-off))
			return failed != unix.EAGAIN
		})
		if err != nil || (failed != nil && failed != unix.EINTR) {
			return
		}
	}
}

// dropped is never written to: with MSG_TRUNC the kernel drops what a TCP
// socket received instead of copying it (tcp(7)).
var dropped = make([]byte, 1<<20)

// discard drops up to limit bytes inside the kernel, and adds them to count if
// it is not nil. It returns early with io.ErrUnexpectedEOF.
func discard(c *net.TCPConn, limit int64, count *atomic.Int64) (n int64, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	for n < limit {
		var got int
		var failed error
		err := rc.Read(func(fd uintptr) bool {
			got, _, failed = unix.Recvfrom(int(fd), dropped[:min(limit-n, int64(len(dropped)))], unix.MSG_TRUNC|unix.MSG_DONTWAIT)
			return failed != unix.EAGAIN
		})
		switch {
		case err != nil:
			return n, err
		case failed == unix.EINTR:
			continue
		case failed != nil:
			return n, failed
		case got == 0:
			return n, io.ErrUnexpectedEOF
		}
		n += int64(got)
		if count != nil {
			count.Add(int64(got))
		}
	}
	return n, nil
}
