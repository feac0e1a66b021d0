//go:build !windows

package peer_test

import (
	"strings"
	"testing"

	"kerbpass/internal/peer"
)

func TestParseUser(t *testing.T) {
	for _, tt := range []struct {
		in   string
		want peer.User
		err  string
	}{
		{in: "0", want: "0"},
		{in: "1001", want: "1001"},
		{in: "01001", want: "1001"},
		{in: "root", want: "0"},
		{in: "4294967294", want: "4294967294"},
		{in: "4294967295", err: "is not a user"},
		{in: "4294967296", err: "not known"},
		{in: "-1", err: "not known"},
		{in: "", err: "not known"},
		{in: "no such user", err: "numeric user id"},
	} {
		t.Run(tt.in, func(t *testing.T) {
			got, err := peer.ParseUser(tt.in)
			if tt.err == "" && (err != nil || got != tt.want) {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %s, %v, want an error with %q", got, err, tt.err)
			}
		})
	}
}
