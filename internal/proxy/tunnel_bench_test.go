package proxy

import (
	"crypto/tls"
	"io"
	"net"
	"net/http/httptest"
	"strconv"
	"testing"
)

// tcpPair returns both ends of a loopback connection.
func tcpPair(t testing.TB) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ca, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cb, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ca.Close(); cb.Close() })
	return ca.(*net.TCPConn), cb.(*net.TCPConn)
}

// through sends n blocks through move, from one connection to another.
func through(b *testing.B, block int, dial func() (net.Conn, net.Conn), move func(dst, src net.Conn) error) {
	b.Helper()
	sender, src := dial()
	dst, receiver := dial()
	b.SetBytes(int64(block))
	b.ReportAllocs()
	done := make(chan error, 3)
	go func() {
		buf := make([]byte, block)
		for range b.N {
			if _, err := sender.Write(buf); err != nil {
				done <- err
				return
			}
		}
		done <- closeWrite(sender)
	}()
	go func() {
		err := move(dst, src)
		closeWrite(dst)
		done <- err
	}()
	go func() {
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{receiver}, make([]byte, 256<<10))
		if err == nil && n != int64(b.N)*int64(block) {
			b.Errorf("%d bytes came, want %d", n, int64(b.N)*int64(block))
		}
		done <- err
	}()
	for range 3 {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

func moved(dst, src net.Conn) error {
	_, readErr, writeErr := move(dst, src)
	if readErr != nil {
		return readErr
	}
	return writeErr
}

// BenchmarkMove compares one direction of a tunnel with a plain io.Copy.
func BenchmarkMove(b *testing.B) {
	pair := func() (net.Conn, net.Conn) { return tcpPair(b) }
	for name, move := range map[string]func(dst, src net.Conn) error{
		"tunnel": moved,
		"relay":  func(dst, src net.Conn) error { _, err := io.Copy(dst, src); return err },
	} {
		for _, block := range []int{1 << 10, 64 << 10, 256 << 10} {
			b.Run(name+"/"+strconv.Itoa(block>>10)+"KiB", func(b *testing.B) { through(b, block, pair, move) })
		}
	}
}

// hidden is a connection that nothing can be spliced to.
type hidden struct{ net.Conn }

// BenchmarkMoveWord moves one word at a time, as a conversation does.
func BenchmarkMoveWord(b *testing.B) {
	for _, size := range []int{16, 1024, 3 << 10, 16 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			sender, src := tcpPair(b)
			dst, receiver := tcpPair(b)
			done := make(chan struct{})
			go func() { defer close(done); move(dst, src) }()
			word, got := make([]byte, size), make([]byte, size)
			b.ReportAllocs()
			for b.Loop() {
				sender.Write(word)
				io.ReadFull(receiver, got)
			}
			sender.Close()
			<-done
		})
	}
}

// BenchmarkCopyBuffer shows what a larger buffer saves where nothing is
// spliced.
func BenchmarkCopyBuffer(b *testing.B) {
	pair := func() (net.Conn, net.Conn) { return tcpPair(b) }
	b.Run("tunnel", func(b *testing.B) {
		through(b, 256<<10, pair, func(dst, src net.Conn) error { return moved(hidden{dst}, src) })
	})
	for _, size := range []int{32 << 10, 64 << 10, 128 << 10, 256 << 10} {
		b.Run(strconv.Itoa(size>>10)+"KiB", func(b *testing.B) {
			through(b, 256<<10, pair, func(dst, src net.Conn) error {
				_, err := io.CopyBuffer(struct{ io.Writer }{dst}, struct{ io.Reader }{src}, make([]byte, size))
				return err
			})
		})
	}
}

// BenchmarkTLSUpstream is a tunnel through an https upstream, up and down.
func BenchmarkTLSUpstream(b *testing.B) {
	srv := httptest.NewUnstartedServer(nil)
	srv.StartTLS()
	cert := srv.TLS.Certificates
	srv.Close()
	secure := func() (client, server net.Conn) {
		x, y := tcpPair(b)
		s := tls.Server(y, &tls.Config{Certificates: cert})
		c := tls.Client(x, &tls.Config{InsecureSkipVerify: true})
		done := make(chan error, 1)
		go func() { done <- s.Handshake() }()
		if err := c.Handshake(); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		return c, s
	}
	b.Run("up", func(b *testing.B) {
		first := true
		through(b, 64<<10, func() (net.Conn, net.Conn) {
			if first = !first; first {
				return secure() // dst and receiver
			}
			return tcpPair(b)
		}, moved)
	})
	b.Run("down", func(b *testing.B) {
		first := true
		through(b, 64<<10, func() (net.Conn, net.Conn) {
			if first = !first; !first {
				x, y := secure()
				return y, x // sender is the upstream
			}
			return tcpPair(b)
		}, moved)
	})
}
