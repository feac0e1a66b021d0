package peer

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
)

func TestFindInProc(t *testing.T) {
	for _, tt := range []struct {
		name, file, client, server string
		uid                        uint32
		err                        error
	}{
		{"established", "tcp", "127.0.0.1:41234", "127.0.0.1:5372", 1001, nil},
		{"half closed", "tcp", "127.0.0.1:41236", "127.0.0.1:5372", 1002, nil},
		{"last line without newline", "tcp", "127.0.0.1:41299", "127.0.0.1:5372", 1003, nil},
		{"server's end is not the client's", "tcp", "127.0.0.1:5372", "127.0.0.1:41234", 0, nil},
		{"TIME_WAIT", "tcp", "127.0.0.1:41235", "127.0.0.1:5372", 0, ErrNotFound},
		{"orphan", "tcp", "127.0.0.1:41237", "127.0.0.1:5372", 0, ErrNotFound},
		{"connecting", "tcp", "127.0.0.1:41238", "127.0.0.1:5372", 0, ErrNotFound},
		{"other server port", "tcp", "127.0.0.1:41234", "127.0.0.1:5373", 0, ErrNotFound},
		{"user is no number", "tcp", "127.0.0.1:41240", "127.0.0.1:5372", 0, ErrNotFound},
		{"inode is no number", "tcp", "127.0.0.1:41241", "127.0.0.1:5372", 0, ErrNotFound},
		{"line cut before the inode", "tcp", "127.0.0.1:41242", "127.0.0.1:5372", 0, ErrNotFound},
		{"port too large", "tcp", "127.0.0.1:41243", "127.0.0.1:5372", 0, ErrNotFound},
		{"address too long", "tcp", "127.0.0.1:41244", "127.0.0.1:5372", 0, ErrNotFound},
		{"IPv6", "tcp6", "[::1]:41500", "[::1]:5372", 1001, nil},
		{"mapped", "tcp6", "127.0.0.1:41501", "127.0.0.1:5372", 1002, nil},
		{"words of an IPv6 address", "tcp6", "[2001:db8::1:2]:41502", "[2001:db8::3]:5372", 1003, nil},
		{"nobody", "tcp6", "[::1]:41501", "[::1]:5372", 0, ErrNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := os.Open("testdata/proc-net-" + tt.file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			s, err := findInProc(f, netip.MustParseAddrPort(tt.client), netip.MustParseAddrPort(tt.server))
			if s.uid != tt.uid || !errors.Is(err, tt.err) {
				t.Errorf("got %d, %v, want %d, %v", s.uid, err, tt.uid, tt.err)
			}
			if (s.inode != 0) != (err == nil) {
				t.Errorf("got inode %d with error %v", s.inode, err)
			}
		})
	}
}

func TestFindInProcEndlessLine(t *testing.T) {
	_, err := findInProc(strings.NewReader(strings.Repeat("x", 1<<20)), client4, server4)
	if err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want an error of its own", err)
	}
}

func FuzzFindInProc(f *testing.F) {
	for _, name := range []string{"testdata/proc-net-tcp", "testdata/proc-net-tcp6"} {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
	}
	f.Fuzz(func(t *testing.T, text string) {
		// Whatever the text, only a line with both ports can name a user.
		s, err := findInProc(strings.NewReader(text), client4, server4)
		if err == nil && !strings.Contains(strings.ToUpper(text), "9C40") {
			t.Errorf("user %d from a text without the client's port", s.uid)
		}
	})
}
