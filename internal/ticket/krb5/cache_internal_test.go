package krb5

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/demo/realm"
	"kerbpass/internal/ticket"
)

// minted returns the bytes of a cache with a TGT and two service tickets.
func minted(t testing.TB) []byte {
	t.Helper()
	r, err := realm.Start(realm.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	path, err := r.Mint(realm.MintOptions{Services: []string{"HTTP/localhost", "HTTP/proxy.demo.invalid"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parse reads b, bounds what that costs, and hands what came out to the
// library, as a backend would.
func parse(t *testing.T, b []byte) (*cacheFile, error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c, err := parseCache(b)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20+uint64(16*len(b)) {
		t.Errorf("%d bytes of cache cost %d bytes of memory", len(b), n)
	}
	if (c == nil) == (err == nil) {
		t.Fatalf("parseCache gave %v and %v", c, err)
	}
	if c == nil {
		return nil, err
	}
	if tgt := c.tgt(); tgt != nil {
		if p, err := newPass(tgt); err == nil {
			newToken(p, time.Now()) //nolint:errcheck // it must not panic; it may refuse
		}
	}
	c.describe(new(ticket.Cache))
	return c, nil
}

func TestParseCache(t *testing.T) {
	b := minted(t)
	c, err := parse(t, b)
	if err != nil {
		t.Fatal(err)
	}
	if c.client.String() != "alice@DEMO.INVALID" || len(c.creds) != 3 || c.tgt() != &c.creds[0] || c.creds[2].server.String() != "HTTP/proxy.demo.invalid@DEMO.INVALID" {
		t.Errorf("parsed %+v", c)
	}
	// Cut anywhere but between entries, the file is damaged.
	whole := 0
	for i := range b {
		if _, err := parse(t, b[:i]); err == nil {
			whole++
		}
	}
	if whole != 3 { // no entry, one, two
		t.Errorf("%d cut files were taken for whole ones, want 3", whole)
	}
	for i := range b {
		for _, bit := range []byte{1, 0x80} {
			bad := bytes.Clone(b)
			bad[i] ^= bit
			parse(t, bad) //nolint:errcheck // parse judges; a flipped key bit is no error
		}
	}
	// A giant number wherever one could stand.
	for i := 0; i+4 <= len(b); i++ {
		bad := bytes.Clone(b)
		copy(bad[i:], "\x7f\xff\xff\xff")
		parse(t, bad) //nolint:errcheck // as above
	}
}

func TestParseCacheVersion3(t *testing.T) {
	b := minted(t)
	// Version 3 has no header, and each encryption type twice.
	v3 := append([]byte{5, 3}, b[16:]...)
	at := bytes.Index(v3, append([]byte("krbtgt\x00\x00\x00\x0c"), "DEMO.INVALID"...))
	v3 = append(bytes.Clone(v3[:at+22]), append([]byte{0, 18}, v3[at+22:]...)...)
	v3 = v3[:bytes.LastIndex(v3[:bytes.Index(v3, []byte("HTTP"))], []byte("\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x0cDEMO.INVALID\x00\x00\x00\x05alice"))]
	c, err := parse(t, v3)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.creds) != 1 || len(c.creds[0].key) != 32 || c.tgt() == nil {
		t.Errorf("parsed %+v", c)
	}
}

func TestParseCacheRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty":              "",
		"text":               "hello",
		"version 2":          "\x05\x02\x00",
		"header cut":         "\x05\x04\x00\xff",
		"header field":       "\x05\x04\x00\x06\x00\x01\x00\xff\x00\x00",
		"no principal":       "\x05\x04\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
		"many components":    "\x05\x03\x00\x00\x00\x01\xff\xff\xff\xff\x00\x00\x00\x01A",
		"control characters": "\x05\x03\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01A\x00\x00\x00\x01\n",
	} {
		if c, err := parseCache([]byte(text)); err == nil {
			t.Errorf("%s: taken as %+v", name, c)
		}
	}
}

// Notes of the library and struck-out entries are no tickets.
func TestParseCacheSkips(t *testing.T) {
	b := minted(t)
	note := bytes.Replace(b, []byte("\x00\x00\x00\x0cDEMO.INVALID\x00\x00\x00\x06krbtgt"), []byte("\x00\x00\x00\x0cX-CACHECONF:\x00\x00\x00\x06krbtgt"), 1)
	c, err := parse(t, note)
	if err != nil || len(c.creds) != 2 || c.tgt() != nil {
		t.Errorf("a note: %+v, %v", c, err)
	}
	struck := bytes.Clone(b)
	key := bytes.Index(struck, []byte("\x00\x12\x00\x00\x00\x20")) // encryption type and length of the first key
	binary.BigEndian.PutUint32(struck[key+38:], 0xffffffff)        // authtime
	binary.BigEndian.PutUint32(struck[key+46:], 0)                 // endtime
	c, err = parse(t, struck)
	if err != nil || len(c.creds) != 2 || c.tgt() != nil {
		t.Errorf("a removed entry: %+v, %v", c, err)
	}
}

func TestOffsetFromHeader(t *testing.T) {
	b := minted(t)
	binary.BigEndian.PutUint32(b[8:], uint32(0xffffffff-1199)) // -1200 s
	c, err := parse(t, b)
	if err != nil || c.offset != -20*time.Minute {
		t.Fatalf("offset %v, %v; want -20m", c.offset, err)
	}
	end := c.tgt().end
	if got := c.local(end); !got.Equal(end.Add(20 * time.Minute)) {
		t.Errorf("the KDC's %v is %v here, want 20 minutes later", end, got)
	}
}

func TestTimesyncSwitch(t *testing.T) {
	b := minted(t)
	binary.BigEndian.PutUint32(b[8:], 600)
	path := filepath.Join(t.TempDir(), "cc")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]time.Duration{"1": 10 * time.Minute, "0": 0} {
		c := conf{&node{kids: []*node{{name: "libdefaults", kids: []*node{{name: "kdc_timesync", value: value}}}}}}
		if got, err := readCache(path, c); err != nil || got.offset != want {
			t.Errorf("kdc_timesync = %s: offset %v, %v; want %v", value, got.offset, err, want)
		}
	}
}

// A session key that does not fit its type never reaches the library.
func TestNewPassChecksKey(t *testing.T) {
	c, err := parseCache(minted(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(*cred){
		func(e *cred) { e.key = e.key[:24] },
		func(e *cred) { e.etype = 99 },
		func(e *cred) { e.ticket = []byte{0x61, 0} },
	} {
		e := c.creds[0]
		change(&e)
		if p, err := newPass(&e); err == nil {
			t.Errorf("took %+v", p)
		}
	}
}

func TestPlainPrincipal(t *testing.T) {
	for _, tt := range []struct {
		realm, part string
		want        bool
	}{{"R", "a", true}, {"", "a", false}, {"R", "", false}, {"X-CACHECONF:", "a", false}, {"R", "a\x1b", false}, {"R", strings.Repeat("a", 2000), false}} {
		if got := (principal{realm: tt.realm, parts: []string{tt.part}}).plain(); got != tt.want {
			t.Errorf("%q@%q: got %v, want %v", tt.part, tt.realm, got, tt.want)
		}
	}
}

func FuzzCache(f *testing.F) {
	b := minted(f)
	f.Add(b)
	for _, cut := range []int{0, 1, 2, 16, 17, 60, 200, len(b) - 1} {
		f.Add(b[:cut])
	}
	for i := 0; i < len(b); i += 37 {
		bad := bytes.Clone(b)
		bad[i] ^= 0xff
		f.Add(bad)
	}
	f.Add([]byte("\x05\x03\x00\x00\x00\x01\x7f\xff\xff\xff\x7f\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) { parse(t, b) })
}

// What is written is read back as it was, notes, second tickets and times past
// 2038 included.
func FuzzCacheRoundTrip(f *testing.F) {
	b := minted(f)
	f.Add(b)
	note := bytes.Replace(b, []byte("\x00\x00\x00\x0cDEMO.INVALID\x00\x00\x00\x06krbtgt"), []byte("\x00\x00\x00\x0cX-CACHECONF:\x00\x00\x00\x06krbtgt"), 1)
	f.Add(note)
	skewed := bytes.Clone(b)
	copy(skewed[8:], "\xff\xff\xff\x00\x00\x01\x02\x03")
	f.Add(skewed)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCache(b)
		if err != nil {
			return
		}
		out, err := c.marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseCache(out)
		if err != nil {
			t.Fatalf("not readable: %v", err)
		}
		if !reflect.DeepEqual(again, c) {
			t.Errorf("got  %+v\nwant %+v", again, c)
		}
	})
}

// A minted cache has nothing that a rewrite would lose.
func TestCacheIsRewrittenByteForByte(t *testing.T) {
	b := minted(t)
	c, err := parseCache(b)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := c.marshal(); err != nil || !bytes.Equal(out, b) {
		t.Errorf("got %x, %v; want %x", out, err, b)
	}
}
