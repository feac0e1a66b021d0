//go:build linux && !nogss

package gss

import (
	"encoding/binary"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAnswered(t *testing.T) {
	for line, want := range map[string]string{
		"[12] 1795457337.5: Received answer (734 bytes) from stream 127.0.0.1:88\n": "127.0.0.1:88",
		"Received answer (1 bytes) from dgram [::1]:88":                             "[::1]:88",
		"[12] 1.5: Sending request (1 bytes) to CORP.EXAMPLE":                       "",
		"Received answer (": "", "": "", "Received answer (1 bytes) from stream": "",
	} {
		if got := answered(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

func FuzzTidy(f *testing.F) {
	f.Add("Password for alice@R: ")
	f.Add("a\nb\x00\xff:")
	f.Fuzz(func(t *testing.T, text string) {
		got := tidy(text)
		if len(got) > maxText || !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\x00\t") || strings.HasSuffix(got, ":") {
			t.Errorf("%q: got %q", text, got)
		}
		answered(text)
	})
}

// event is one inotify event as the kernel writes it.
func event(mask uint32, name string) []byte {
	buf := make([]byte, 16, 64)
	binary.NativeEndian.PutUint32(buf[4:], mask)
	if name != "" {
		buf = append(buf, make([]byte, 32)...)
		copy(buf[16:], name)
		binary.NativeEndian.PutUint32(buf[12:], 32)
	}
	return buf
}

func TestJudge(t *testing.T) {
	file, collection := spot{"/f", "cc"}, spot{"/f", ""}
	for name, c := range map[string]struct {
		s         spot
		buf       []byte
		hit, gone bool
	}{
		"its file":         {file, event(0x80, "cc"), true, false},
		"another":          {file, event(0x80, "other"), false, false},
		"another, its":     {file, append(event(0x80, "other"), event(0x80, "cc")...), true, false},
		"a cache":          {collection, event(0x80, "tktABC"), true, false},
		"primary":          {collection, event(0x80, "primary"), true, false},
		"not a cache":      {collection, event(0x80, "notes"), false, false},
		"the folder":       {file, event(0x400, ""), true, true},
		"events were lost": {file, event(0x4000, ""), true, false},
		"cut short":        {file, event(0x80, "cc")[:20], false, false},
	} {
		if hit, gone := c.s.judge(c.buf); hit != c.hit || gone != c.gone {
			t.Errorf("%s: got %v, %v; want %v, %v", name, hit, gone, c.hit, c.gone)
		}
	}
}

func FuzzJudge(f *testing.F) {
	f.Add(event(0x80, "cc"))
	f.Fuzz(func(_ *testing.T, buf []byte) { spot{"/f", "cc"}.judge(buf) })
}

func TestSingle(t *testing.T) {
	for name, want := range map[string]bool{
		"FILE:/x": true, "DIR:/x": false, "DIR::/x/tkt": true, "KCM:": false, "KCM:0:1": true,
		"KEYRING:session:x": false, "KEYRING:session:x:y": true, "KEYRING:old": true, "MEMORY:x": true,
	} {
		if got := single(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

func TestParentDomain(t *testing.T) {
	got := ""
	for name := "a.b.c"; name != ""; name = parentDomain(name) {
		got += " " + name
	}
	if want := " a.b.c .b.c b.c .c c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
