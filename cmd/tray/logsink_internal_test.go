package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kerbpass/internal/testenv"
)

// stuck is a terminal that takes nothing until it is released. It tells when a
// write has begun.
type stuck struct {
	begun   chan struct{}
	release chan struct{}
	once    sync.Once

	mu  sync.Mutex // guards got
	got bytes.Buffer
}

func newStuck() *stuck { return &stuck{begun: make(chan struct{}), release: make(chan struct{})} }

func (s *stuck) Write(p []byte) (int, error) {
	s.once.Do(func() { close(s.begun) })
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

func textLog(w io.Writer) slog.Handler {
	return slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelError})
}

func jsonLog(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) }

// While the terminal hangs, every line is taken at once; afterwards each is
// either there, whole and in order, or counted.
func TestLogSinkNeverWaits(t *testing.T) {
	testenv.NoLeaks(t)
	for name, handler := range map[string]func(io.Writer) slog.Handler{"text": textLog, "json": jsonLog} {
		t.Run(name, func(t *testing.T) {
			w := newStuck()
			s := newLogSink(w, handler)
			s.Write([]byte("first\n"))
			<-w.begun
			const lines = 100_000
			var want []string
			for i := range lines {
				line := fmt.Sprintf("line %d %s\n", i, strings.Repeat("x", 20+i%7))
				want = append(want, line)
				if n, err := s.Write([]byte(line)); n != len(line) || err != nil {
					t.Fatalf("got %d, %v, want %d", n, err, len(line))
				}
			}
			if n := len(s.buf); n > maxLogBuffer {
				t.Errorf("%d bytes are waiting", n)
			}
			close(w.release)
			s.close(time.Minute)
			got := strings.SplitAfter(strings.TrimPrefix(w.got.String(), "first\n"), "\n")
			note := got[len(got)-2]
			got = got[:len(got)-2]
			if len(got) < 1000 || strings.Join(got, "") != strings.Join(want[:len(got)], "") {
				t.Errorf("%d lines came, not as they were written", len(got))
			}
			if text := fmt.Sprintf(`"%d log lines dropped"`, lines-len(got)); !strings.Contains(note, text) {
				t.Errorf("the last line is %q, want %s", note, text)
			}
		})
	}
}

// Once it has recovered, it says so right away and is as before.
func TestLogSinkRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStuck()
		s := newLogSink(w, textLog)
		s.Write([]byte("first\n"))
		<-w.begun
		s.Write(make([]byte, maxLogBuffer+1))
		s.Write([]byte("second\n"))
		close(w.release)
		synctest.Wait()
		if got := w.got.String(); !strings.HasPrefix(got, "first\nsecond\n") || !strings.Contains(got, `msg="1 log lines dropped"`) {
			t.Errorf("got %q", got)
		}
		w.got.Reset()
		s.Write([]byte("third\n"))
		synctest.Wait()
		if got := w.got.String(); got != "third\n" {
			t.Errorf("afterwards: got %q", got)
		}
		s.close(time.Second)
		s.Write([]byte("too late\n"))
		synctest.Wait()
		if got := w.got.String(); got != "third\n" {
			t.Errorf("after closing: got %q", got)
		}
	})
}

func TestLogSinkCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStuck()
		s := newLogSink(w, textLog)
		s.Write([]byte("first\n"))
		<-w.begun
		began := time.Now()
		s.close(time.Second)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v, want a second", took)
		}
		close(w.release)
		<-s.done
	})
	(*logSink)(nil).close(time.Hour) // a command that logs nothing
}

// What is still waiting when the program ends is written before run returns.
func TestLogIsFlushedAtTheEnd(t *testing.T) {
	testenv.NoLeaks(t)
	for format, said := range map[string]string{"text": `level=INFO msg=listening`, "json": `"level":"INFO","msg":"listening"`} {
		u := newUser(t)
		t.Setenv("KRB5CCNAME", "FILE:"+filepath.Join(u.home, "none"))
		var errs bytes.Buffer
		c := &cli{args: []string{"--config", u.config(), "--log-format", format, "run", "--listen", "127.0.0.1:0"}, out: io.Discard, err: &errs,
			lookupEnv: func(k string) (string, bool) { v, ok := u.env[k]; return v, ok }}
		ctx, end := context.WithCancel(t.Context())
		end()
		if err := c.run(ctx); err != nil || !strings.Contains(errs.String(), said) {
			t.Errorf("got %v and the log %q, want %s in it", err, &errs, said)
		}
	}
}
