package web

import (
	"strings"
	"testing"
)

func TestReadKept(t *testing.T) {
	good := keep("127.0.0.1:4711", []session{{"kerbpass-1", random(), random()}})
	k, err := readKept(good)
	if err != nil || k.addr().String() != "127.0.0.1:4711" || len(k.Sessions) != 1 {
		t.Fatalf("got %+v, %v", k, err)
	}
	if got := (kept{}).addr().String(); got != "127.0.0.1:0" {
		t.Errorf("nothing kept: got %s", got)
	}
	many := make([]session, maxSessions+1)
	for i := range many {
		many[i] = k.Sessions[0]
	}
	for name, text := range map[string]string{
		"nothing":            "",
		"no JSON":            good[1:],
		"another address":    strings.Replace(good, "127.0.0.1", "0.0.0.0", 1),
		"no port":            strings.Replace(good, ":4711", ":0", 1),
		"nobody":             keep("127.0.0.1:4711", nil),
		"too many":           keep("127.0.0.1:4711", many),
		"a cookie of no use": keep("127.0.0.1:4711", []session{{"kerbpass-1", "", random()}}),
		"no proof":           keep("127.0.0.1:4711", []session{{"kerbpass-1", random(), ""}}),
	} {
		if k, err := readKept(text); err == nil {
			t.Errorf("%s: got %+v", name, k)
		}
	}
}
