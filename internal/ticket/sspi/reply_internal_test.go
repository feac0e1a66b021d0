package sspi

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"kerbpass/internal/ticket"
)

// No Windows is at hand, and Wine knows message 1 only, so replies are built
// here, field by field, from the structures that ntsecapi.h declares:
// KERB_TICKET_CACHE_INFO, ..._EX, ..._EX2 and ..._EX3.

const testBase = 0x7ff6_1234_5670 // where the LSA put the reply

// A row is one ticket as Windows holds it.
type row struct {
	client, clientRealm, server, serverRealm string
	start, end, renew                        int64 // FILETIME
	encType                                  int32
	flags                                    uint32
	cacheFlags                               uint32
	kdc                                      string
}

// build lays rows out as the reply to q.
func build(q query, rows ...row) []byte {
	le := binary.LittleEndian
	textAt := testBase + uint64(headerSize+len(rows)*entrySize[q])
	var table, texts []byte
	text := func(s string) {
		units := utf16.Encode([]rune(s))
		table = le.AppendUint16(table, uint16(2*len(units)))
		table = le.AppendUint16(table, uint16(2*len(units)+2))
		table = le.AppendUint32(table, 0xdeadbeef) // padding may hold anything
		table = le.AppendUint64(table, textAt+uint64(len(texts)))
		for _, unit := range append(units, 0) {
			texts = le.AppendUint16(texts, unit)
		}
	}
	for _, r := range rows {
		if q != queryBasic {
			text(r.client)
			text(r.clientRealm)
		}
		text(r.server)
		text(r.serverRealm)
		for _, t := range []int64{r.start, r.end, r.renew} {
			table = le.AppendUint64(table, uint64(t))
		}
		table = le.AppendUint32(table, uint32(r.encType))
		table = le.AppendUint32(table, r.flags)
		if q == queryEx2 || q == queryEx3 {
			table = le.AppendUint32(table, 18) // session key type
			table = le.AppendUint32(table, 1)  // branch
		}
		if q == queryEx3 {
			table = le.AppendUint32(table, r.cacheFlags)
			table = le.AppendUint32(table, 0xdeadbeef)
			text(r.kdc)
		}
	}
	head := le.AppendUint32(nil, uint32(q))
	head = le.AppendUint32(head, uint32(len(rows)))
	return append(append(head, table...), texts...)
}

// 2026-07-01 12:00 UTC, as Windows counts.
const noonFiletime = 134_273_808_000_000_000

var aliceTGT = row{
	client: "alice", clientRealm: "CORP.EXAMPLE", server: "krbtgt/CORP.EXAMPLE", serverRealm: "CORP.EXAMPLE",
	start: noonFiletime, end: noonFiletime + 36_000*10_000_000, renew: noonFiletime + 7*86_400*10_000_000,
	encType: 18, flags: 0x40e10000, cacheFlags: 1, kdc: "dc1.corp.example",
}

var aliceProxy = row{
	client: "alice", clientRealm: "CORP.EXAMPLE", server: "HTTP/proxy.corp.example", serverRealm: "CORP.EXAMPLE",
	start: noonFiletime, end: noonFiletime + 1, encType: 23, flags: 0x40a50000,
}

var allQueries = []query{queryBasic, queryEx, queryEx2, queryEx3}

func TestParseReply(t *testing.T) {
	for _, q := range allQueries {
		list, err := parseReply(q, build(q, aliceTGT, aliceProxy), testBase)
		if err != nil || len(list) != 2 {
			t.Errorf("message %d: got %+v, %v", q, list, err)
			continue
		}
		want := entry{
			client: "alice", clientRealm: "CORP.EXAMPLE", server: "krbtgt/CORP.EXAMPLE", serverRealm: "CORP.EXAMPLE",
			primary: q == queryEx3, start: noon, end: noon.Add(10 * time.Hour), renew: noon.Add(7 * 24 * time.Hour),
			encType: 18, flags: 0x40e10000,
		}
		if q == queryBasic {
			want.client, want.clientRealm = "", ""
		}
		if list[0] != want {
			t.Errorf("message %d:\ngot  %+v\nwant %+v", q, list[0], want)
		}
		if e := list[1]; e.server != "HTTP/proxy.corp.example" || e.encType != 23 || e.primary || !e.renew.IsZero() || !e.end.Equal(noon.Add(100)) {
			t.Errorf("message %d: got %+v", q, e)
		}
		if !list[0].home() || list[1].home() || list[0].flags&ticket.FlagInitial == 0 || list[0].flags&ticket.FlagRenewable == 0 {
			t.Errorf("message %d: got %+v and %+v", q, list[0], list[1])
		}
	}
}

// The sizes that a C compiler gives the structures.
func TestReplySizes(t *testing.T) {
	for q, want := range map[query]int{queryBasic: 64, queryEx: 96, queryEx2: 104, queryEx3: 128} {
		text := 0 // aliceProxy without its names, but for their NULs
		if q != queryBasic {
			text = 2 * 2
		}
		text += 2 * 2
		if q == queryEx3 {
			text += 2
		}
		if got := len(build(q, row{})) - headerSize - text; got != want {
			t.Errorf("message %d: got %d, want %d", q, got, want)
		}
	}
}

func TestParseReplyOfNothing(t *testing.T) {
	for _, q := range allQueries {
		if list, err := parseReply(q, build(q), testBase); err != nil || len(list) != 0 {
			t.Errorf("message %d: got %+v, %v; want no tickets", q, list, err)
		}
	}
}

func TestParseReplyNames(t *testing.T) {
	odd := row{server: "HTTP/bücher.example/\U0001f511", serverRealm: strings.Repeat("R", 2000)}
	list, err := parseReply(queryEx, build(queryEx, odd), testBase)
	if err != nil || list[0].server != odd.server || list[0].serverRealm != odd.serverRealm || list[0].client != "" {
		t.Errorf("got %+v, %v", list, err)
	}
	// A lone surrogate is not a character; it must not become another name's.
	buf := build(queryEx, row{server: "x"})
	binary.LittleEndian.PutUint16(buf[len(buf)-4-2:], 0xd800) // "x", NUL, NUL of the empty realm
	if list, err := parseReply(queryEx, buf, testBase); err != nil || list[0].server != "\ufffd" {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestParseReplyRefuses(t *testing.T) {
	le := binary.LittleEndian
	for _, q := range allQueries {
		server := headerSize // where the first row's ServerName is
		if q != queryBasic {
			server += 2 * textHeader
		}
		texts := headerSize + entrySize[q] // where the texts begin
		for _, tt := range []struct {
			name  string
			spoil func(buf []byte) []byte
			want  string
		}{
			{"empty", func([]byte) []byte { return nil }, "too short"},
			{"half a header", func(b []byte) []byte { return b[:7] }, "too short"},
			{"another message", func(b []byte) []byte { le.PutUint32(b, uint32(q)+1); return b }, "answers message"},
			{"table cut short", func(b []byte) []byte { return b[:texts-1] }, "do not fit"},
			{"more rows than bytes", func(b []byte) []byte { le.PutUint32(b[4:], 1000); return b }, "do not fit"},
			{"as many rows as can be said", func(b []byte) []byte { le.PutUint32(b[4:], 1<<32-1); return b }, "do not fit"},
			{"texts cut short", func(b []byte) []byte { return b[:texts+4] }, "outside the reply"},
			{"no text at all", func(b []byte) []byte { return b[:texts] }, "outside the reply"},
			{"length beyond the end", func(b []byte) []byte { le.PutUint16(b[server:], 0xfffe); return b }, "outside the reply"},
			{"odd length", func(b []byte) []byte { le.PutUint16(b[server:], 3); return b }, "within a character"},
			{"null pointer", func(b []byte) []byte { le.PutUint64(b[server+8:], 0); return b }, "outside the reply"},
			{"pointer below", func(b []byte) []byte { le.PutUint64(b[server+8:], testBase-2); return b }, "outside the reply"},
			{"pointer into the header", func(b []byte) []byte { le.PutUint64(b[server+8:], testBase); return b }, "outside the reply"},
			{"pointer into the table", func(b []byte) []byte { le.PutUint64(b[server+8:], testBase+headerSize); return b }, "outside the reply"},
			{"text over the table's end", func(b []byte) []byte {
				le.PutUint64(b[server+8:], testBase+uint64(texts)-2)
				return b
			}, "outside the reply"},
			{"pointer above", func(b []byte) []byte { le.PutUint64(b[server+8:], testBase+uint64(len(b))); return b }, "outside the reply"},
			{"last character over the end", func(b []byte) []byte {
				le.PutUint16(b[server:], 4)
				le.PutUint64(b[server+8:], testBase+uint64(len(b))-2)
				return b
			}, "outside the reply"},
			{"pointer at the end of memory", func(b []byte) []byte { le.PutUint64(b[server+8:], 1<<64-2); return b }, "outside the reply"},
			{"NUL inside", func(b []byte) []byte {
				at := bytes.Index(b, []byte("k\x00r\x00b\x00"))
				b[at+2] = 0
				return b
			}, "NUL"},
		} {
			list, err := parseReply(q, tt.spoil(build(q, aliceTGT)), testBase)
			if err == nil || !strings.Contains(err.Error(), tt.want) || list != nil {
				t.Errorf("message %d, %s: got %+v, %v; want %q", q, tt.name, list, err, tt.want)
			}
		}
	}
	if _, err := parseReply(99, build(queryEx), testBase); err == nil {
		t.Error("message 99: want an error")
	}
}

// Texts may share bytes: nothing is written to them.
func TestParseReplySharedText(t *testing.T) {
	buf := build(queryEx, aliceTGT)
	row := buf[headerSize:]
	copy(row[3*textHeader:4*textHeader], row[textHeader:2*textHeader]) // server's realm is the client's
	if list, err := parseReply(queryEx, buf, testBase); err != nil || list[0].serverRealm != "CORP.EXAMPLE" {
		t.Errorf("got %+v, %v", list, err)
	}
}

func TestFiletime(t *testing.T) {
	never := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	for n, want := range map[int64]time.Time{
		0: {}, -1: {}, -1 << 63: {},
		noonFiletime:              noon,
		noonFiletime + 10_000_001: noon.Add(time.Second + 100),
		116_444_736_000_000_000:   time.Unix(0, 0).UTC(),
		1:                         time.Date(1601, 1, 1, 0, 0, 0, 100, time.UTC),
		1<<63 - 1:                 never,
		2_650_467_744_000_000_000: never, // the year 10000
		2_650_467_743_990_000_000: never,
		2_650_467_743_980_000_000: never.Add(-time.Second),
	} {
		if got := filetime(n); !got.Equal(want) || got.Location() != time.UTC {
			t.Errorf("%d: got %v, want %v", n, got, want)
		}
	}
}

func TestRequests(t *testing.T) {
	const name = "krbtgt/CORP.EXAMPLE"
	buf := retrieval(name, testBase)
	le := binary.LittleEndian
	if len(buf) != 64+2*len(name) || le.Uint32(buf) != 8 || le.Uint64(buf[4:]) != 0 {
		t.Errorf("head: got %d bytes, % x", len(buf), buf)
	}
	if n := int(le.Uint16(buf[16:])); n != 2*len(name) || le.Uint16(buf[18:]) != le.Uint16(buf[16:]) || le.Uint64(buf[24:]) != testBase+64 {
		t.Errorf("name: got % x", buf[16:32])
	}
	if le.Uint32(buf[32:]) != 0 || le.Uint32(buf[36:]) != 0x21 || le.Uint32(buf[40:]) != 0 || !bytes.Equal(buf[44:64], make([]byte, 20)) {
		t.Errorf("options: got % x", buf[32:64])
	}
	if want := []byte("k\x00r\x00b\x00"); !bytes.HasPrefix(buf[64:], want) {
		t.Errorf("text: got % x", buf[64:])
	}
	if got := listing(queryEx3); !bytes.Equal(got, append([]byte{25}, make([]byte, 11)...)) {
		t.Errorf("list: got % x", got)
	}
	if got := purging(); !bytes.Equal(got, append([]byte{6}, make([]byte, 47)...)) {
		t.Errorf("purge: got % x", got)
	}
}

func FuzzReply(f *testing.F) {
	for _, q := range allQueries {
		f.Add(uint32(q), build(q, aliceTGT, aliceProxy), uint64(testBase))
		f.Add(uint32(q), build(q), uint64(0))
		f.Add(uint32(q), build(q, aliceTGT), uint64(testBase-2))
	}
	f.Add(uint32(queryEx), build(queryEx, aliceTGT), ^uint64(0))
	f.Fuzz(func(t *testing.T, q uint32, buf []byte, base uint64) {
		before := bytes.Clone(buf)
		list, err := parseReply(query(q), buf, base)
		if err != nil && list != nil {
			t.Errorf("both %+v and %v", list, err)
		}
		if !bytes.Equal(buf, before) {
			t.Error("the reply was written to")
		}
		for _, e := range list {
			for _, name := range []string{e.client, e.clientRealm, e.server, e.serverRealm} {
				if strings.Contains(name, "\x00") || len(name) > 3*len(buf) {
					t.Errorf("name: %q", name)
				}
			}
			if y := e.end.Year(); y < 1 || y > 9999 {
				t.Errorf("end: %v", e.end)
			}
		}
		v := viewOf(list, "", func() account { return account{sam: `CORP\alice`} })
		if len(v.cache.TGTs)+len(v.cache.Services) != len(list) || v.none == nil && (v.status.Principal == "" || own(list, "").cloud()) {
			t.Errorf("got %+v of %+v", v, list)
		}
	})
}
