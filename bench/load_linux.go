//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A client loads one proxy.
type client struct {
	ctx  context.Context
	addr string
	auth string // Proxy-Authorization line; only where no peer adds one
}

// pause waits, unless the run ends first.
func (c *client) pause(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

func (c *client) dial(limit time.Duration) (*net.TCPConn, error) {
	d, err := net.DialTimeout("tcp4", c.addr, limit)
	if err != nil {
		return nil, err
	}
	d.SetDeadline(time.Now().Add(limit))
	return d.(*net.TCPConn), nil
}

func (c *client) getRequest() []byte {
	return []byte("GET " + pageURL + " HTTP/1.1\r\nHost: " + pageHost + "\r\nUser-Agent: bench\r\nAccept: */*\r\nProxy-Connection: Keep-Alive\r\n" + c.auth + "\r\n")
}

// answer reads one response and drops its body.
func answer(d *net.TCPConn, br *bufio.Reader) (status int, again bool, err error) {
	var h head
	if err := readHead(br, &h); err != nil {
		return 0, false, err
	}
	status, again = h.status(), !h.close
	if h.length == lengthUnknown {
		_, err = io.Copy(io.Discard, br)
		return status, false, err
	}
	_, err = skipBody(d, br, h.length)
	return status, again, err
}

// A lap is the outcome of one load.
type lap struct {
	took   []time.Duration // sorted
	failed int
	last   error // of those that failed
	wall   time.Duration
}

func (l *lap) rate() float64 { return float64(len(l.took)) / l.wall.Seconds() }

// An op is one operation; it returns how long it took. The clock has not
// started when warm is true.
type op func(warm bool) (time.Duration, error)

// load runs n workers for d and keeps the operations that ended in time. Each
// worker does one before the clock starts, so that opening its connection is
// not measured; begin is called at the start.
func (c *client) load(n int, d time.Duration, begin func(), worker func(i int) (do op, end func())) *lap {
	l := &lap{wall: d}
	var mu sync.Mutex // guards l
	var ready, wg sync.WaitGroup
	var until time.Time
	start := make(chan struct{})
	ready.Add(n)
	for i := range n {
		wg.Go(func() {
			do, end := worker(i)
			defer end()
			do(true)
			ready.Done()
			<-start
			took := make([]time.Duration, 0, 4096)
			failed, last := 0, error(nil)
			for c.ctx.Err() == nil && time.Now().Before(until) {
				t, err := do(false)
				switch {
				case err != nil:
					failed, last = failed+1, err
					c.pause(5 * time.Millisecond)
				case time.Now().Before(until):
					took = append(took, t)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			l.took = append(l.took, took...)
			l.failed += failed
			if last != nil {
				l.last = last
			}
		})
	}
	ready.Wait()
	begin()
	until = time.Now().Add(d)
	close(start)
	wg.Wait()
	slices.Sort(l.took)
	return l
}

// gets loads with GETs on n kept connections as fast as they go.
func (c *client) gets(n int, d time.Duration, begin func()) *lap {
	return c.load(n, d, begin, func(int) (op, func()) {
		k := &kept{client: c, request: c.getRequest()}
		return func(bool) (time.Duration, error) {
			t0 := time.Now()
			err := k.get()
			return time.Since(t0), err
		}, k.drop
	})
}

// paced loads with GETs on n kept connections, rate a second in all. Waiting
// behind a slow answer counts; our own oversleeping does not.
func (c *client) paced(n, rate int, d time.Duration, begin func()) *lap {
	var start time.Time
	step := time.Second * time.Duration(n) / time.Duration(rate)
	return c.load(n, d, func() { begin(); start = time.Now() }, func(i int) (op, func()) {
		k := &kept{client: c, request: c.getRequest()}
		turn := 0
		return func(warm bool) (time.Duration, error) {
			if warm {
				return 0, k.get()
			}
			due := start.Add(step*time.Duration(turn) + step*time.Duration(i)/time.Duration(n))
			turn++
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
				due = time.Now()
			}
			err := k.get()
			return time.Since(due), err
		}, k.drop
	})
}

// keptLimit bounds how long a kept connection is used; longer than any load.
const keptLimit = 8 * time.Second

// kept is one kept connection that is opened when needed.
type kept struct {
	*client
	request []byte
	d       *net.TCPConn
	br      *bufio.Reader
}

func (k *kept) drop() {
	if k.d != nil {
		k.d.Close()
		k.d = nil
	}
}

func (k *kept) get() error {
	old := k.d != nil
	status, again, err := k.once()
	if err != nil && old && k.br.Buffered() == 0 && !isTimeout(err) {
		// A kept connection may end at any time: ask again, as browsers do.
		k.drop()
		status, again, err = k.once()
	}
	if err != nil || !again {
		k.drop()
	}
	if err == nil && status != 200 {
		err = fmt.Errorf("status %d", status)
	}
	return err
}

func (k *kept) once() (status int, again bool, err error) {
	if k.d == nil {
		if k.d, err = k.dial(keptLimit); err != nil {
			k.d = nil
			return 0, false, err
		}
		k.br = bufio.NewReaderSize(k.d, 4<<10)
	}
	if _, err := k.d.Write(k.request); err != nil {
		return 0, false, err
	}
	return answer(k.d, k.br)
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// freshGet times one page on a new connection.
func (c *client) freshGet() (time.Duration, error) {
	t0 := time.Now()
	d, err := c.dial(15 * time.Second)
	if err != nil {
		return 0, err
	}
	defer d.Close()
	if _, err := d.Write(c.getRequest()); err != nil {
		return 0, err
	}
	status, _, err := answer(d, bufio.NewReader(d))
	if err == nil && status != 200 {
		err = fmt.Errorf("status %d", status)
	}
	return time.Since(t0), err
}

// connect opens a tunnel.
func (c *client) connect(target string) (*net.TCPConn, *bufio.Reader, error) {
	d, err := c.dial(10 * time.Second)
	if err != nil {
		return nil, nil, err
	}
	br := bufio.NewReaderSize(d, 1<<10)
	var h head
	_, err = io.WriteString(d, "CONNECT "+target+" HTTP/1.1\r\nHost: "+target+"\r\nUser-Agent: bench\r\n"+c.auth+"\r\n")
	if err == nil {
		err = readHead(br, &h)
	}
	if err == nil && h.status() != 200 {
		err = fmt.Errorf("CONNECT: status %d", h.status())
	}
	if err != nil {
		d.Close()
		return nil, nil, err
	}
	return d, br, nil
}

var ping = []byte("sixteen bytes ok")

func echo(d *net.TCPConn, br *bufio.Reader) error {
	got := make([]byte, len(ping))
	if _, err := d.Write(ping); err != nil {
		return err
	}
	if _, err := io.ReadFull(br, got); err != nil {
		return err
	}
	if !bytes.Equal(got, ping) {
		return errors.New("another echo came back")
	}
	return nil
}

// tunnels loads with connect, authenticate, one echo, close. Before each,
// begun is told.
func (c *client) tunnels(n int, d time.Duration, begin func(), begun func(time.Time)) *lap {
	return c.load(n, d, begin, func(int) (op, func()) {
		return func(bool) (time.Duration, error) {
			t0 := time.Now()
			begun(t0)
			d, br, err := c.connect(echoTarget)
			if err != nil {
				return 0, err
			}
			defer d.Close()
			err = echo(d, br)
			return time.Since(t0), err
		}, func() {}
	})
}

// bulk pulls zeros through n tunnels. begin and end bracket the measured part.
func (c *client) bulk(n int, d time.Duration, begin, end func()) (bytes int64, wall time.Duration, err error) {
	var got atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	for range n {
		t, _, err := c.connect(sourceTarget)
		if err != nil {
			return 0, 0, err
		}
		defer closeHard(t)
		t.SetDeadline(time.Now().Add(2*d + 10*time.Second))
		wg.Go(func() { discard(t, 1<<62, &got) })
	}
	if err := c.pause(d / 4); err != nil {
		return 0, 0, err
	}
	begin()
	b0, t0 := got.Load(), time.Now()
	err = c.pause(d)
	bytes, wall = got.Load()-b0, time.Since(t0)
	end()
	return bytes, wall, err
}

// closeHard resets the connection, so that no TIME_WAIT stays.
func closeHard(d *net.TCPConn) {
	d.SetLinger(0)
	d.Close()
}

// hold opens n tunnels, or as many as go in a minute, and leaves them idle.
func (c *client) hold(n int) (tunnels []*net.TCPConn, last error) {
	var mu sync.Mutex // guards the results
	var wg sync.WaitGroup
	var next atomic.Int64
	end := time.Now().Add(time.Minute)
	for range 32 {
		wg.Go(func() {
			for bad := 0; bad < 3 && next.Add(1) <= int64(n) && time.Now().Before(end) && c.ctx.Err() == nil; {
				d, _, err := c.connect(echoTarget)
				mu.Lock()
				if err != nil {
					bad, last = bad+1, err
				} else {
					d.SetDeadline(time.Time{})
					tunnels = append(tunnels, d)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return tunnels, last
}

// upload posts size bytes and reads the answer while it still writes, as a
// careful client does. An answer without a whole body sent is no error.
func (c *client) upload(name, stale string, size int64) (status int, took time.Duration, err error) {
	t0 := time.Now()
	d, err := c.dial(20 * time.Second)
	if err != nil {
		return 0, 0, err
	}
	defer d.Close()
	target := uploadURL + name
	if stale != "" {
		target += "?stale=" + stale
	}
	fmt.Fprintf(d, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n%s\r\n",
		target, pageHost, size, c.auth)
	sent := make(chan error, 1)
	go func() {
		buf := make([]byte, 256<<10)
		var err error
		for left := size; left > 0 && err == nil; {
			var n int
			n, err = d.Write(buf[:min(left, int64(len(buf)))])
			left -= int64(n)
		}
		sent <- err
	}()
	status, _, err = answer(d, bufio.NewReader(d))
	if err == nil && status == 200 {
		err = <-sent
	} else {
		took = time.Since(t0)
		d.Close()
		<-sent
		return status, took, err
	}
	return status, time.Since(t0), err
}
