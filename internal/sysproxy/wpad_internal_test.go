package sysproxy

import (
	"slices"
	"testing"
)

func TestWPAD(t *testing.T) {
	const conf = "# search no.example\nnameserver 127.0.0.53\ndomain old.example\nsearch Corp.Example. corp.example example sub.corp.example 10.0.0.1 ev/il.example\noptions edns0\n"
	want := []string{"http://wpad.corp.example/wpad.dat", "http://wpad.sub.corp.example/wpad.dat"}
	if got := wpadURLs(resolvDomains(conf)); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := wpadURLs(resolvDomains("nameserver ::1\nsearch\n")); got != nil {
		t.Errorf("got %q of a file without domains", got)
	}
}
