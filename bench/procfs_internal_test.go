package main

import (
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const tail = " S 1 2 3 4 5 6 7 8 9 10 150 25 30 4 20 0 1 0 99 1000 200\n"
	for _, tt := range []struct {
		name        string
		text        string
		own, reaped time.Duration
		ok          bool
	}{
		{"plain", "42 (squid)" + tail, 1750 * time.Millisecond, 340 * time.Millisecond, true},
		{"a name with brackets and blanks", "42 (a) S (b c))" + tail, 1750 * time.Millisecond, 340 * time.Millisecond, true},
		{"empty", "", 0, 0, false},
		{"no name", "42 squid" + tail, 0, 0, false},
		{"cut off", "42 (squid) S 1 2 3 4 5 6 7 8 9 10 150 25", 0, 0, false},
		{"no number", "42 (squid) S 1 2 3 4 5 6 7 8 9 10 150 x 30 4 20", 0, 0, false},
	} {
		own, reaped, ok := parseStat([]byte(tt.text))
		if own != tt.own || reaped != tt.reaped || ok != tt.ok {
			t.Errorf("%s: got %v, %v, %v, want %v, %v, %v", tt.name, own, reaped, ok, tt.own, tt.reaped, tt.ok)
		}
	}
}

func TestParseKiB(t *testing.T) {
	const text = "00400000-7ffe [rollup]\nRss:   300 kB\nPss:                 123 kB\nPss_Dirty:   7 kB\nBad: x kB\nThreads: 4\n"
	for name, want := range map[string]int64{"Pss": 123 << 10, "Pss_Dirty": 7 << 10, "Rss": 300 << 10, "ss": 0, "Bad": 0, "Threads": 0, "VmHWM": 0} {
		if got := parseKiB([]byte(text), name); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
}

func TestParseBusy(t *testing.T) {
	const text = "cpu  100 1 50 9999 777 3 4 5 6 0\ncpu0 50 1 25 5000 300 1 2 3 0 0\ncpu1 50 0 25 4999 477 2 2 2 0 0\nintr 5 6 7 8 9 10 11 12\n"
	busy, cpus := parseBusy([]byte(text))
	if want := 163 * tick; busy != want || cpus != 2 {
		t.Errorf("got %v on %d CPUs, want %v on 2", busy, cpus, want)
	}
	if busy, cpus := parseBusy(nil); busy != 0 || cpus != 0 {
		t.Errorf("of nothing: got %v on %d CPUs", busy, cpus)
	}
}

func TestLineValue(t *testing.T) {
	const text = "processor\t: 0\nmodel name\t: A CPU @ 2: fast\nmodel name\t: another\nPRETTY_NAME=\"Debian 12\"\n"
	for _, tt := range []struct{ name, sep, want string }{
		{"model name", ":", "A CPU @ 2: fast"}, {"PRETTY_NAME", "=", `"Debian 12"`}, {"model", ":", ""}, {"processor", "=", ""},
	} {
		if got := lineValue([]byte(text), tt.name, tt.sep); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}
