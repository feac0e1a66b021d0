package peer_test

import (
	"errors"
	"math"
	"net/netip"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"kerbpass/internal/peer"
)

func TestNewRefusesNoUser(t *testing.T) {
	if _, err := peer.New(peer.Config{AllowUIDs: []uint32{5, math.MaxUint32}}); err == nil {
		t.Error("user id -1 was taken as a user")
	}
}

func TestParseUser(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want uint32
		err  string
	}{
		{in: "0", want: 0},
		{in: "1001", want: 1001},
		{in: "4294967294", want: 4294967294},
		{in: "4294967295", err: "is not a user"},
		{in: "4294967296", err: "not known"},
		{in: "-1", err: "not known"},
		{in: "", err: "not known"},
		{in: "no such user", err: "numeric user id"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := peer.ParseUser(tt.in)
			if tt.err == "" && (err != nil || got != tt.want) {
				t.Errorf("got %d, %v, want %d", got, err, tt.want)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %d, %v, want an error with %q", got, err, tt.err)
			}
		})
	}

	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	got, err := peer.ParseUser(me.Username)
	if runtime.GOOS == "windows" {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("got %v, want ErrUnsupported", err)
		}
		return
	}
	if err != nil || strconv.FormatUint(uint64(got), 10) != me.Uid {
		t.Errorf("%s: got %d, %v, want %s", me.Username, got, err, me.Uid)
	}
}

// Nothing here has a peer, so nothing may be allowed, on any system.
func TestAllowedFailsClosed(t *testing.T) {
	c, err := peer.New(peer.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct{ name, local, remote string }{
		{"nobody there", "127.0.0.1:1", "127.0.0.1:2"},
		{"two families", "127.0.0.1:1", "[::1]:2"},
		{"not an address", "", "127.0.0.1:2"},
		{"not on this machine", "127.0.0.1:1", "192.0.2.1:2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			local, _ := netip.ParseAddrPort(tt.local)
			remote, _ := netip.ParseAddrPort(tt.remote)
			err := c.Allowed(local, remote)
			var denied *peer.DeniedError
			if !errors.As(err, &denied) || denied.Known {
				t.Errorf("got %v, want a DeniedError about an unknown user", err)
			}
			if runtime.GOOS != "linux" && tt.name == "nobody there" && !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("got %v, want ErrUnsupported", err)
			}
			if id, err := c.Identify(local, remote); err == nil || id != (peer.Identity{}) {
				t.Errorf("identified as %+v, %v", id, err)
			}
		})
	}
}
