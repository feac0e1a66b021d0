package control

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// scarce is a listener that has no descriptors for a while, twice.
type scarce struct {
	net.Listener
	answers []error // nil: a connection
}

func (l *scarce) Accept() (net.Conn, error) {
	err := l.answers[0]
	l.answers = l.answers[1:]
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: "unix", Err: os.NewSyscallError("accept4", err)}
	}
	c, _ := net.Pipe()
	return c, nil
}

func TestWaitsForDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := &checked{
			Listener: &scarce{answers: []error{syscall.EMFILE, syscall.EMFILE, nil, nil, syscall.EMFILE, nil, syscall.EINVAL}},
			config:   Config{Allow: func(net.Conn) error { return nil }, Log: slog.New(slog.NewTextHandler(&log, nil))},
		}
		began := time.Now()
		for range 3 {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
		if took := time.Since(began); took != 3*shortagePause {
			t.Errorf("waited %v, want %v", took, 3*shortagePause)
		}
		if wait, again := strings.Count(log.String(), "have to wait"), strings.Count(log.String(), "accepted again"); wait != 2 || again != 2 {
			t.Errorf("got %d and %d lines, want two each:\n%s", wait, again, &log)
		}
		if _, err := l.Accept(); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("got %v, want what the listener said", err)
		}
	})
}
