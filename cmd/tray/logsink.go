package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

const (
	maxLogBuffer = 1 << 20     // bytes waiting to be written; twice that while some are
	logFlush     = time.Second // for what is left at the end
)

// logSink writes log lines from a goroutine of its own, so that whoever logs
// never waits for the terminal, pipe or disk behind w. Lines that find it full
// are dropped and counted; once it can write again, it says how many.
type logSink struct {
	w       io.Writer
	handler func(io.Writer) slog.Handler // words the dropped lines

	mu      sync.Mutex // guards what follows
	buf     []byte
	dropped int
	closed  bool

	wake chan struct{} // capacity 1: there is something to do
	done chan struct{} // closed when the goroutine has ended
}

// newLogSink starts a sink; close ends it.
func newLogSink(w io.Writer, handler func(io.Writer) slog.Handler) *logSink {
	s := &logSink{w: w, handler: handler, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go s.run()
	return s
}

// Write takes one line. It never waits and never fails: a log that cannot be
// written is no reason to stop.
func (s *logSink) Write(line []byte) (int, error) {
	s.mu.Lock()
	if s.closed || len(s.buf)+len(line) > maxLogBuffer {
		s.dropped++
	} else {
		s.buf = append(s.buf, line...)
	}
	s.mu.Unlock()
	s.nudge()
	return len(line), nil
}

func (s *logSink) nudge() {
	select {
	case s.wake <- struct{}{}:
	default: // it knows
	}
}

func (s *logSink) run() {
	defer close(s.done)
	var out []byte
	for range s.wake {
		s.mu.Lock()
		out, s.buf = s.buf, out[:0]
		dropped, closed := s.dropped, s.closed
		s.dropped = 0
		s.mu.Unlock()
		if len(out) > 0 {
			s.w.Write(out)
		}
		if dropped > 0 {
			// Handled, not logged: it is said at every log level.
			text := fmt.Sprintf("%d log lines dropped", dropped)
			s.handler(s.w).Handle(context.Background(), slog.NewRecord(time.Now(), slog.LevelWarn, text, 0))
		}
		if closed {
			return
		}
	}
}

// close writes what is left, waiting no longer than limit; what w has not
// taken by then is lost, and a hanging write is left to the end of the process.
// A nil sink has nothing to close.
func (s *logSink) close(limit time.Duration) {
	if s == nil {
		return
	}
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.nudge()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-s.done:
	case <-timeout.C:
	}
}
