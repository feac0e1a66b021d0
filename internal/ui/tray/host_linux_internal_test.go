//go:build linux

package tray

import "testing"

func TestListed(t *testing.T) {
	for _, c := range []struct {
		entry string
		want  bool
	}{
		{":1.5", true},
		{":1.5/StatusNotifierItem", true},
		{":1.5@/StatusNotifierItem", true},
		{"org.kde.StatusNotifierItem-7-1/StatusNotifierItem", true},
		{":1.55/StatusNotifierItem", false},
		{"org.kde.StatusNotifierItem-7-12", false},
		{"/StatusNotifierItem", false},
		{"", false},
	} {
		if got := listed([]string{"other", c.entry}, "org.kde.StatusNotifierItem-7-1", ":1.5"); got != c.want {
			t.Errorf("%q: got %t, want %t", c.entry, got, c.want)
		}
	}
}
