package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// forwarders carry bytes between two connections, both ways, until both
// directions have ended.
var forwarders = map[string]func(a, b net.Conn){
	"tunnel": func(a, b net.Conn) { tunnelled(a, b, func(dst, src net.Conn) (net.Conn, net.Conn) { return dst, src }) },
	"no pipe": func(a, b net.Conn) {
		tunnelled(a, b, func(dst, src net.Conn) (net.Conn, net.Conn) { return hiddenEnd{dst}, src })
	},
	"no wait": func(a, b net.Conn) {
		tunnelled(a, b, func(dst, src net.Conn) (net.Conn, net.Conn) { return dst, hiddenEnd{src} })
	},
}

// tunnelled carries as a tunnel does, whose directions see their ends through
// wrap.
func tunnelled(client, up net.Conn, wrap func(dst, src net.Conn) (net.Conn, net.Conn)) {
	t := &tunnel{s: &Server{obs: noObserver{}}, client: client, up: up}
	t.s.wg.Add(2)
	carry := func(dst, src net.Conn) {
		dst, src = wrap(dst, src)
		_, err := pump(dst, src, nil, nil)
		t.end(dst, err)
	}
	go carry(up, client)
	carry(client, up)
	t.s.wg.Wait()
}

// plainRelay is what they are compared with.
func plainRelay(a, b net.Conn) {
	bothWays(a, b, func(dst, src net.Conn) {
		io.Copy(dst, src)
		closeWrite(dst)
	})
}

// hiddenEnd is a connection of which nothing is known but that it can end one
// direction, as one over TLS.
type hiddenEnd struct{ net.Conn }

func (h hiddenEnd) CloseWrite() error { return h.Conn.(closeWriter).CloseWrite() }

func bothWays(a, b net.Conn, move func(dst, src net.Conn)) {
	var wg sync.WaitGroup
	wg.Go(func() { move(a, b) })
	move(b, a)
	wg.Wait()
	a.Close()
	b.Close()
}

// script is what one end does: it writes segments, reading pieces meanwhile.
type script struct {
	seed     uint64
	segments []int // sizes to write; a negative one is a pause
	piece    int   // size of a read
	slow     bool  // reader pauses
	// after: nothing is written before the other direction has ended.
	after bool
	// reset: everything written has arrived, and so has everything from the
	// other end; then the connection is broken.
	reset bool
}

func (s *script) content() []byte {
	n := 0
	for _, m := range s.segments {
		n += max(m, 0)
	}
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(s.seed), byte(s.seed >> 8), 1}).Read(b)
	return b
}

// outcome is what one end has seen.
type outcome struct {
	got []byte
	end string // how the other direction ended
}

// play performs s on c. expect is how much the other end sends.
func play(c *net.TCPConn, s *script, expect int, otherHasAll <-chan struct{}, hasAll chan<- struct{}) (o outcome, err error) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	ended := make(chan struct{})
	written := make(chan error, 1)
	write := func() error {
		if s.after {
			<-ended
		}
		rest := s.content()
		for _, m := range s.segments {
			if m < 0 {
				time.Sleep(time.Duration(-m) * time.Microsecond)
				continue
			}
			if _, err := c.Write(rest[:m]); err != nil {
				return err
			}
			rest = rest[m:]
		}
		if !s.reset {
			return c.CloseWrite()
		}
		<-otherHasAll
		return nil
	}
	go func() { written <- write() }()
	buf := make([]byte, s.piece)
	told := false
	tell := func() {
		if !told && len(o.got) >= expect {
			told = true
			close(hasAll)
		}
	}
	tell()
	for !s.reset || len(o.got) < expect {
		n, err := c.Read(buf)
		o.got = append(o.got, buf[:n]...)
		tell()
		if err != nil {
			o.end = "end"
			if err != io.EOF {
				o.end = "break"
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				o.end = "never"
			}
			break
		}
		if s.slow {
			time.Sleep(50 * time.Microsecond)
		}
	}
	close(ended)
	err = <-written
	if s.reset {
		c.SetLinger(0)
	}
	return o, err
}

// between plays two scripts at the ends of a forwarder.
func between(t *testing.T, forward func(a, b net.Conn), client, origin *script) (c, o outcome) {
	t.Helper()
	ca, a := tcpPair(t)
	b, ob := tcpPair(t)
	done := make(chan struct{})
	go func() { defer close(done); forward(a, b) }()
	clientHas, originHas := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	var err1, err2 error
	nc, no := len(client.content()), len(origin.content())
	wg.Go(func() { c, err1 = play(ca, client, no, originHas, clientHas) })
	wg.Go(func() { o, err2 = play(ob, origin, nc, clientHas, originHas) })
	wg.Wait()
	if err := errors.Join(err1, err2); err != nil {
		t.Errorf("an end could not write: %v", err)
	}
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Error("the forwarder does not end")
	}
	return c, o
}

func randomScripts(seed uint64) (client, origin *script) {
	r := rand.New(rand.NewPCG(seed, 7))
	one := func(salt uint64) *script {
		s := &script{seed: seed<<1 | salt, piece: 1 << (5 + r.IntN(13)), slow: r.IntN(4) == 0}
		for range r.IntN(30) {
			switch r.IntN(5) {
			case 0:
				s.segments = append(s.segments, -r.IntN(2000))
			case 1:
				s.segments = append(s.segments, 1+r.IntN(200<<10))
			default:
				s.segments = append(s.segments, 1+r.IntN(3000))
			}
		}
		if s.slow {
			s.piece = max(s.piece, 4<<10)
		}
		return s
	}
	client, origin = one(0), one(1)
	switch r.IntN(6) {
	case 0:
		client.after = true
	case 1:
		origin.after = true
	case 2:
		client.reset = true
	case 3:
		origin.reset = true
	}
	return client, origin
}

// The same bytes and the same ends as through a plain relay, whatever the ends
// do.
func TestTunnelMovesAsAPlainRelay(t *testing.T) {
	testenv.NoLeaks(t)
	seeds := uint64(40)
	if runtime.GOOS == "windows" {
		seeds = 6 // its pauses are 15 ms at least
	}
	for seed := range seeds {
		client, origin := randomScripts(seed)
		toOrigin, toClient := client.content(), origin.content()
		wantC, wantO := between(t, plainRelay, client, origin)
		if !bytes.Equal(wantC.got, toClient) || !bytes.Equal(wantO.got, toOrigin) {
			t.Fatalf("seed %d: the plain relay itself lost something", seed)
		}
		for name, forward := range forwarders {
			c, o := between(t, forward, client, origin)
			if !bytes.Equal(c.got, toClient) || !bytes.Equal(o.got, toOrigin) {
				t.Errorf("%s, seed %d: the client got %d of %d bytes, the origin %d of %d, or others", name, seed, len(c.got), len(toClient), len(o.got), len(toOrigin))
			}
			if c.end != wantC.end || o.end != wantO.end {
				t.Errorf("%s, seed %d: the client saw %q and the origin %q, with the relay %q and %q", name, seed, c.end, o.end, wantC.end, wantO.end)
			}
		}
	}
}

// Exactly as many bytes as asked for, and none of what comes behind them.
func TestMoveTCPStopsAtTheLimit(t *testing.T) {
	testenv.NoLeaks(t)
	for _, size := range []int{1, 4096, 100_000, 3 << 20} {
		for name, wrap := range map[string]func(net.Conn) net.Conn{
			"pipe":   func(c net.Conn) net.Conn { return c },
			"buffer": func(c net.Conn) net.Conn { return hiddenEnd{c} },
		} {
			sender, src := tcpPair(t)
			dst, receiver := tcpPair(t)
			body := make([]byte, size)
			rand.NewChaCha8([32]byte{9}).Read(body)
			go func() {
				sender.Write(body)
				io.WriteString(sender, "behind")
			}()
			got := make(chan []byte, 1)
			go func() { b, _ := io.ReadAll(receiver); got <- b }()
			n, readErr, writeErr := moveTCP(wrap(dst), src, int64(size))
			dst.CloseWrite()
			if b := <-got; n != int64(size) || readErr != nil || writeErr != nil || !bytes.Equal(b, body) {
				t.Errorf("%s, %d bytes: moved %d, %v, %v; %d arrived", name, size, n, readErr, writeErr, len(b))
			}
			rest := make([]byte, 6)
			if _, err := io.ReadFull(src, rest); err != nil || string(rest) != "behind" {
				t.Errorf("%s, %d bytes: behind them %q, %v", name, size, rest, err)
			}
		}
	}
}

// The two ends' errors are told apart: an upload's end depends on it.
func TestMoveTCPSaysWhoFailed(t *testing.T) {
	testenv.NoLeaks(t)
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"pipe":   func(c net.Conn) net.Conn { return c },
		"buffer": func(c net.Conn) net.Conn { return hiddenEnd{c} },
	} {
		t.Run(name, func(t *testing.T) {
			type result struct{ read, write error }
			start := func() (sender, src, dst, receiver *net.TCPConn, done chan result) {
				sender, src = tcpPair(t)
				dst, receiver = tcpPair(t)
				done = make(chan result, 1)
				go func() {
					_, r, w := moveTCP(wrap(dst), src, -1)
					done <- result{r, w}
				}()
				return
			}
			sender, _, _, receiver, done := start()
			receiver.SetLinger(0)
			receiver.Close()
			go io.Copy(sender, neverending{}) // the break shows at a later byte
			if r := <-done; r.read != nil || r.write == nil {
				t.Errorf("the destination broke: %v, %v", r.read, r.write)
			}
			sender.Close()

			_, src, _, _, done := start()
			src.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if r := <-done; !isTimeout(r.read) || r.write != nil {
				t.Errorf("nothing came in time: %v, %v", r.read, r.write)
			}

			sender, _, dst, _, done := start()
			go io.Copy(sender, neverending{}) // nobody reads it
			dst.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			if r := <-done; r.read != nil || !isTimeout(r.write) {
				t.Errorf("nothing was taken in time: %v, %v", r.read, r.write)
			}
			sender.Close()

			_, src, _, _, done = start()
			src.Close()
			if r := <-done; !errors.Is(r.read, net.ErrClosed) || r.write != nil {
				t.Errorf("the source was closed: %v, %v", r.read, r.write)
			}
		})
	}
}

// A break is not an end. (Not run under Wine, which forgets a break that a read
// of zero bytes has seen.)
func TestBrokenSourceIsNoEnd(t *testing.T) {
	testenv.NoLeaks(t)
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"pipe":   func(c net.Conn) net.Conn { return c },
		"buffer": func(c net.Conn) net.Conn { return hiddenEnd{c} },
	} {
		sender, src := tcpPair(t)
		dst, _ := tcpPair(t)
		time.AfterFunc(10*time.Millisecond, func() { sender.SetLinger(0); sender.Close() })
		if n, readErr, writeErr := moveTCP(wrap(dst), src, -1); n != 0 || readErr == nil || writeErr != nil {
			t.Errorf("%s: moved %d, %v, %v", name, n, readErr, writeErr)
		}
	}
}

type neverending struct{}

func (neverending) Read(p []byte) (int, error) { return len(p), nil }

// asked is a connection that answers each read from a list and remembers how
// much each one asked for.
type asked struct {
	net.Conn
	answers []any // bytes to give, or an error
	sizes   []int
}

func (a *asked) SetReadDeadline(time.Time) error { return nil }

func (a *asked) Read(p []byte) (int, error) {
	a.sizes = append(a.sizes, len(p))
	if len(a.answers) == 0 {
		return 0, io.EOF
	}
	next := a.answers[0]
	a.answers = a.answers[1:]
	if err, ok := next.(error); ok {
		return 0, err
	}
	n := min(next.(int), len(p))
	if more := next.(int) - n; more > 0 {
		a.answers = append([]any{more}, a.answers...)
	}
	return n, nil
}

// Where readiness cannot be waited for, a stream that pauses waits with a small
// buffer.
func TestMoveAnyWaitsWithASmallBuffer(t *testing.T) {
	c := &asked{answers: []any{10, 300_000, os.ErrDeadlineExceeded, 10, 5000, 100, 7}}
	var got bytes.Buffer
	n, readErr, writeErr := moveAny(&got, c)
	if want := int64(10 + 300_000 + 10 + 5000 + 100 + 7); n != want || int64(got.Len()) != want || readErr != nil || writeErr != nil {
		t.Errorf("moved %d, %v, %v; want %d", n, readErr, writeErr, want)
	}
	s, l := smallBuf, largeBuf
	want := []int{s, s, l, l, l, l, s, s, l, l, s, s}
	if fmt.Sprint(c.sizes) != fmt.Sprint(want) {
		t.Errorf("reads asked for %v, want %v", c.sizes, want)
	}
}

// While nothing comes nothing is held: the wait itself takes no buffer.
func TestWaitHoldsNoBuffer(t *testing.T) {
	testenv.NoLeaks(t)
	taken := 0
	old := largeBufs.New
	largeBufs.New = func() any { taken++; return old() }
	defer func() { largeBufs.New = old }()
	for largeBufs.Get(); taken == 0; largeBufs.Get() { // until the pool is empty
	}
	taken = 0
	_, src := tcpPair(t)
	dst, _ := tcpPair(t)
	src.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, readErr, _ := moveTCP(hiddenEnd{dst}, src, -1); !isTimeout(readErr) {
		t.Errorf("got %v, want a timeout", readErr)
	}
	// On Unix one is tried first, and given back when nothing is there.
	if taken > 1 {
		t.Errorf("%d buffers were taken for a connection on which nothing came", taken)
	}
}
