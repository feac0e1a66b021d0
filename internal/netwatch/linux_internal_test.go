//go:build linux

package netwatch

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

const patience = 20 * time.Second // on a loaded machine

// The reader outlives lost messages, trusts nothing it knew before them, and
// ends with any other error.
func TestNetlinkLostMessages(t *testing.T) {
	link := message(rtmNewLink, 0, ifinfo(0, 2, up))
	script := []func(b []byte) (int, error){
		func(b []byte) (int, error) { return copy(b, link), nil },
		func(b []byte) (int, error) { return copy(b, link), nil }, // known
		func(b []byte) (int, error) {
			return 0, &os.PathError{Op: "read", Path: "rtnetlink", Err: syscall.ENOBUFS}
		},
		func(b []byte) (int, error) { return copy(b, link), nil }, // not known any more
		func(b []byte) (int, error) { return 0, io.ErrClosedPipe },
	}
	read := func(b []byte) (int, error) {
		next := script[0]
		script = script[1:]
		return next(b)
	}
	var got []string
	err := readNetlink(read, slog.New(slog.DiscardHandler), func(reason string) { got = append(got, reason) })
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v, want the error that ended it", err)
	}
	if want := []string{Link, Address, Link}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// signals is a log that a test can wait on.
type signals chan string

func (s signals) Write(b []byte) (int, error) {
	s <- string(b)
	return len(b), nil
}

func (s signals) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// await returns the first line that contains text.
func (s signals) await(t *testing.T, text string) string {
	t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case line := <-s:
			if strings.Contains(line, text) {
				return line
			}
		case <-deadline:
			t.Fatalf("the log does not say %q", text)
		}
	}
}

// start runs one source until the test ends or stop is called.
func start(t *testing.T, run func(context.Context, *slog.Logger, func(string)) error) (reports chan string, log signals, stop func() error) {
	t.Helper()
	reports, log = make(chan string, 1000), make(signals, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, log.log(), func(reason string) { reports <- reason })
		close(done)
	}()
	stop = func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(patience):
			t.Error("the source does not end")
			return nil
		}
	}
	t.Cleanup(func() { stop() })
	return reports, log, stop
}

func awaitReport(t *testing.T, reports <-chan string, want string) {
	t.Helper()
	select {
	case got := <-reports:
		if got != want {
			t.Fatalf("reported %q, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("not reported: %q", want)
	}
}

// do ends the test if a step of its own fails.
func do(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	do(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644))
}

// replace is how every careful program writes.
func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	do(t, os.Rename(path+".new", path))
}

func TestResolverFiles(t *testing.T) {
	testenv.NoLeaks(t)
	for _, tt := range []struct {
		name   string
		before func(t *testing.T, etc, run string)
		steps  []func(t *testing.T, etc, run string) // each one change
	}{
		{"written in place", func(t *testing.T, etc, run string) {
			write(t, etc+"/resolv.conf", "a")
		}, []func(t *testing.T, etc, run string){
			func(t *testing.T, etc, run string) { write(t, etc+"/resolv.conf", "b") },
			func(t *testing.T, etc, run string) { write(t, etc+"/resolv.conf", "c") },
		}},
		{"replaced, removed, made again", func(t *testing.T, etc, run string) {
			write(t, etc+"/resolv.conf", "a")
		}, []func(t *testing.T, etc, run string){
			func(t *testing.T, etc, run string) { replace(t, etc+"/resolv.conf", "b") },
			func(t *testing.T, etc, run string) { replace(t, etc+"/resolv.conf", "c") },
			func(t *testing.T, etc, run string) { do(t, os.Remove(etc+"/resolv.conf")) },
			func(t *testing.T, etc, run string) { replace(t, etc+"/resolv.conf", "d") },
			func(t *testing.T, etc, run string) { write(t, etc+"/resolv.conf", "e") },
		}},
		{"link, its target and its target's folder", func(t *testing.T, etc, run string) {
			write(t, run+"/systemd/resolv.conf", "a")
			do(t, os.Symlink("../run/systemd/resolv.conf", etc+"/resolv.conf"))
		}, []func(t *testing.T, etc, run string){
			func(t *testing.T, etc, run string) { replace(t, run+"/systemd/resolv.conf", "b") },
			func(t *testing.T, etc, run string) { do(t, os.RemoveAll(run+"/systemd")) },
			func(t *testing.T, etc, run string) { replace(t, run+"/systemd/resolv.conf", "c") },
			func(t *testing.T, etc, run string) {
				// A tunnel's program turns the link elsewhere.
				write(t, run+"/vpn/resolv.conf", "d")
				do(t, os.Symlink(run+"/vpn/resolv.conf", etc+"/resolv.conf.new"), os.Rename(etc+"/resolv.conf.new", etc+"/resolv.conf"))
			},
			func(t *testing.T, etc, run string) { replace(t, run+"/vpn/resolv.conf", "e") },
			func(t *testing.T, etc, run string) { do(t, os.Rename(run+"/vpn", run+"/vpn.old")) },
		}},
		{"target does not exist yet", func(t *testing.T, etc, run string) {
			do(t, os.Symlink(run+"/a/b/resolv.conf", etc+"/resolv.conf"))
		}, []func(t *testing.T, etc, run string){
			func(t *testing.T, etc, run string) { write(t, run+"/a/b/resolv.conf", "a") },
			func(t *testing.T, etc, run string) { replace(t, run+"/a/b/resolv.conf", "b") },
		}},
		{"behind a stub", func(t *testing.T, etc, run string) {
			write(t, etc+"/resolv.conf", "nameserver 127.0.0.53")
		}, []func(t *testing.T, etc, run string){
			func(t *testing.T, etc, run string) { replace(t, run+"/real.conf", "a") },
			func(t *testing.T, etc, run string) { replace(t, run+"/real.conf", "b") },
		}},
		{"written through another name", func(t *testing.T, etc, run string) {
			write(t, etc+"/resolv.conf", "a")
			do(t, os.Link(etc+"/resolv.conf", run+"/same"))
		}, []func(t *testing.T, etc, run string){
			func(t *testing.T, etc, run string) { write(t, run+"/same", "b") },
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			etc, runDir := filepath.Join(dir, "etc"), filepath.Join(dir, "run")
			do(t, os.Mkdir(etc, 0o755), os.Mkdir(runDir, 0o755))
			tt.before(t, etc, runDir)
			files := resolverFiles{etc + "/resolv.conf", runDir + "/real.conf"}
			reports, log, stop := start(t, files.run)
			log.await(t, "watching")
			for _, step := range tt.steps {
				step(t, etc, runDir)
				awaitReport(t, reports, Resolver)
			}
			// Another file, and the same text again, are no news: with these
			// counted, more than one report would come.
			write(t, etc+"/hosts", "x")
			replace(t, runDir+"/real.conf", "last")
			awaitReport(t, reports, Resolver)
			replace(t, runDir+"/real.conf", "last")
			replace(t, runDir+"/real.conf", "very last")
			awaitReport(t, reports, Resolver)
			if err := stop(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("got %v, want that its descriptor was closed", err)
			}
			if n := len(reports); n > 0 {
				t.Errorf("%d reports too many", n)
			}
		})
	}
}

// A loop of links, or something that is no file, is no reason to hang.
func TestResolverFilesThatAreNone(t *testing.T) {
	testenv.NoLeaks(t)
	dir := t.TempDir()
	do(t, os.Symlink("b", dir+"/a"), os.Symlink("a", dir+"/b"), syscall.Mkfifo(dir+"/fifo", 0o600), os.Mkdir(dir+"/dir", 0o700))
	reports, log, stop := start(t, resolverFiles{dir + "/a", dir + "/fifo", dir + "/dir"}.run)
	log.await(t, "watching")
	do(t, os.Remove(dir+"/fifo"))
	write(t, dir+"/fifo", "a file after all")
	awaitReport(t, reports, Resolver)
	stop()
}

// A queue that ran over tells nothing but that: look again, watch again.
func TestResolverLostEvents(t *testing.T) {
	w := watches{names: map[int32]map[string]bool{1: {"resolv.conf": true}}}
	for _, tt := range []struct {
		event     fileEvent
		concerned bool
		lost      bool
	}{
		{fileEvent{1, syscall.IN_MOVED_TO, "resolv.conf"}, true, false},
		{fileEvent{1, syscall.IN_MOVED_TO, "hosts"}, false, false},
		{fileEvent{2, syscall.IN_MOVED_TO, "resolv.conf"}, false, false},
		{fileEvent{2, syscall.IN_IGNORED, ""}, false, false}, // a watch we ended
		{fileEvent{1, syscall.IN_IGNORED, ""}, true, true},
		{fileEvent{-1, syscall.IN_Q_OVERFLOW, ""}, true, true},
	} {
		w.lost = false
		if got := w.concerned([]fileEvent{tt.event}); got != tt.concerned || w.lost != tt.lost {
			t.Errorf("%+v: concerned %v, lost %v; want %v, %v", tt.event, got, w.lost, tt.concerned, tt.lost)
		}
	}
}

// A folder that was deleted or moved away, and made again, looks the same, but
// nobody watches it any more.
func TestResolverFolderMadeAgain(t *testing.T) {
	for name, away := range map[string]func(dir string) error{
		"deleted": os.Remove,
		"moved":   func(dir string) error { return os.Rename(dir, dir+".old") },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "etc")
			p := resolverFiles{dir + "/resolv.conf"}
			fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
			do(t, err, os.Mkdir(dir, 0o700))
			w := watches{file: os.NewFile(uintptr(fd), "inotify")}
			defer w.file.Close()
			do(t, w.follow(p), w.file.SetReadDeadline(time.Now().Add(patience)))

			do(t, away(dir), os.Mkdir(dir, 0o700))
			buf := make([]byte, 4096)
			n, err := w.file.Read(buf)
			do(t, err)
			if !w.concerned(fileEvents(buf[:n])) || !w.lost {
				t.Fatal("the end of the watch went unnoticed")
			}
			do(t, w.follow(p))
			write(t, p[0], "a")
			n, err = w.file.Read(buf)
			do(t, err)
			if !w.concerned(fileEvents(buf[:n])) {
				t.Error("a file in the new folder went unnoticed")
			}
		})
	}
}

// busAt makes the system bus the socket at path.
func busAt(t *testing.T, path string) { t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path) }

func TestNoBus(t *testing.T) {
	testenv.NoLeaks(t)
	busAt(t, filepath.Join(t.TempDir(), "none"))
	err := logind{setUp: patience}.run(t.Context(), slog.New(slog.DiscardHandler), nil)
	if err == nil || !strings.Contains(err.Error(), "connect to the system bus") {
		t.Errorf("got %v, want an error that says what was tried", err)
	}
}

// An address may name a program to run, or a machine far away.
func TestBusAddressIsASocket(t *testing.T) {
	testenv.NoLeaks(t)
	for _, addr := range []string{"unixexec:path=touch,argv1=%s", "tcp:host=192.0.2.1,port=1", "unix:path=%s;unixexec:path=touch,argv1=%s", "autolaunch:"} {
		trace := filepath.Join(t.TempDir(), "trace")
		t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", strings.ReplaceAll(addr, "%s", trace))
		err := logind{setUp: patience}.run(t.Context(), slog.New(slog.DiscardHandler), nil)
		if err == nil || !strings.Contains(err.Error(), "only unix: addresses") {
			t.Errorf("%s: got %v, want it refused", addr, err)
		}
		if _, err := os.Stat(trace); err == nil {
			t.Errorf("%s: it was run", addr)
		}
	}
}

// A bus that accepts and says nothing costs its time limit, and no more than
// that when asked to stop.
func TestSilentBus(t *testing.T) {
	testenv.NoLeaks(t)
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	do(t, err)
	defer l.Close()
	busAt(t, path)

	began := time.Now()
	err = logind{setUp: 50 * time.Millisecond}.run(t.Context(), slog.New(slog.DiscardHandler), nil)
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > patience {
		t.Errorf("got %v after %v, want that the time was up", err, took)
	}
	first, err := l.Accept()
	do(t, err)
	first.Close()

	_, _, stop := start(t, logind{setUp: time.Hour}.run)
	conn, err := l.Accept()
	do(t, err)
	defer conn.Close()
	_, err = io.ReadFull(conn, make([]byte, len("\x00AUTH"))) // it waits for the answer now
	do(t, err)
	if err := stop(); err == nil {
		t.Error("got no error from a bus that never answered")
	}
}

// A bus that refuses leaves no connection behind.
func TestRefusingBus(t *testing.T) {
	testenv.NoLeaks(t)
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	do(t, err)
	defer l.Close()
	busAt(t, path)
	closed := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			defer conn.Close()
			_, err = io.WriteString(conn, "REJECTED NOTHING_WE_KNOW\r\n")
		}
		if err == nil {
			conn.SetReadDeadline(time.Now().Add(patience))
			_, err = io.Copy(io.Discard, conn) // until the other side closes
		}
		closed <- err
	}()
	if err := (logind{setUp: patience}).run(t.Context(), slog.New(slog.DiscardHandler), nil); err == nil || !strings.Contains(err.Error(), "subscribe") {
		t.Errorf("got %v, want an error that says what was tried", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("the connection was not closed: %v", err)
	}
}
