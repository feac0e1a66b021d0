package tickettest

import (
	"net"
	"strconv"
	"sync"
	"testing"
)

// HangingKDC returns the address of a KDC that never answers: its TCP side
// accepts and stays silent, its UDP side swallows.
func HangingKDC(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	u, err := net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		l.Close()
		t.Fatal(err)
	}
	var (
		accepting sync.WaitGroup
		held      []net.Conn
	)
	accepting.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			held = append(held, c)
		}
	})
	t.Cleanup(func() {
		l.Close()
		u.Close()
		accepting.Wait()
		for _, c := range held {
			c.Close()
		}
	})
	return l.Addr().String()
}
