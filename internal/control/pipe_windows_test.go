//go:build windows

package control_test

import (
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"kerbpass/internal/control"
)

var pipes atomic.Int32

// channelPath is the name of a pipe that no other test and no other run has.
func channelPath(*testing.T) string {
	return fmt.Sprintf(`\\.\pipe\kerbpass-test-%d-%d`, os.Getpid(), pipes.Add(1))
}

// leftByCrash: the system takes pipe and mutex away with their process.
func leftByCrash(*testing.T, string) {}

func TestPath(t *testing.T) {
	path, err := control.Path(func(string) (string, bool) { return "elsewhere", true })
	if err != nil || !strings.HasPrefix(path, `\\.\pipe\kerbpass-S-1-5-`) {
		t.Errorf("got %q, %v, want a pipe named after the user", path, err)
	}
}

func TestNoPipe(t *testing.T) {
	for _, path := range []string{
		"", `\\.\pipe\`, `\\.\pipe\a\b`, `\\server\pipe\kerbpass`, `C:\windows\win.ini`, `\\.\pipe\` + strings.Repeat("x", 250),
	} {
		_, err := control.Listen(path)
		for name, err := range map[string]error{
			"listen": err,
			"call":   control.NewClient(path, anyone).Get(t.Context(), "/", nil, nil),
		} {
			if err == nil || !strings.Contains(err.Error(), "not the name of a pipe") {
				t.Errorf("%s %q: got %v, want a refusal", name, path, err)
			}
		}
	}
}

// A client that has gone before it was accepted costs the next one nothing.
func TestGoneBeforeAccept(t *testing.T) {
	path := channelPath(t)
	l, err := control.Listen(path)
	must(t, err)
	defer l.Close()
	gone, err := control.Dial(t.Context(), path)
	must(t, err)
	must(t, gone.Close())

	got := make(chan string, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				got <- err.Error()
				return
			}
			text, _ := io.ReadAll(c)
			c.Close()
			if len(text) > 0 {
				got <- string(text)
				return
			}
		}
	}()
	next, err := control.Dial(t.Context(), path)
	must(t, err)
	_, err = io.WriteString(next, "here")
	must(t, err)
	must(t, next.Close())
	if text := <-got; text != "here" {
		t.Errorf("got %q", text)
	}
}

// The first 500 connections bring what the runtime keeps, the next 500 nothing.
func TestNoHandleLeaks(t *testing.T) {
	// Or it would close what we forget.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	path := channelPath(t)
	before := 0
	for round := range 2 {
		l, err := control.Listen(path)
		must(t, err)
		for range 500 {
			client, err := control.Dial(t.Context(), path)
			must(t, err)
			server, err := l.Accept()
			must(t, err)
			must(t, client.Close())
			must(t, server.Close())
		}
		must(t, l.Close())
		if round == 0 {
			before = handles() // what the runtime keeps is there by now
		}
	}
	const others = 20 // threads, which come and go
	if after := handles(); before == 0 || after > before+others {
		t.Errorf("500 connections made %d handles %d", before, after)
	}
}

// handles counts what is open among the first handles, which are given out
// again as soon as they are free. GetProcessHandleCount says 0 under Wine.
func handles() (n int) {
	information := syscall.NewLazyDLL("kernel32.dll").NewProc("GetHandleInformation")
	for h := uintptr(4); h < 4*8192; h += 4 {
		var flags uint32
		if ok, _, _ := information.Call(h, uintptr(unsafe.Pointer(&flags))); ok != 0 {
			n++
		}
	}
	return n
}
