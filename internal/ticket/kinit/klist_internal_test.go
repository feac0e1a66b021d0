package kinit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
)

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func at(t testing.TB, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.DateTime, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestRecorded(t *testing.T) {
	begin, end, renew := at(t, "2026-11-23 18:00:40"), at(t, "2026-11-24 04:00:40"), at(t, "2026-11-30 18:00:40")
	tgt := ticket.Ticket{Server: "krbtgt/WORLD.TEST@WORLD.TEST", Start: begin, Expires: end}
	http := ticket.Ticket{Server: "HTTP/proxy.world.test@WORLD.TEST", Start: begin, Expires: end}
	heimdal := ticket.Cache{Name: "FILE:/tmp/krb5cc_test", Principal: "alice@WORLD.TEST", Realm: "WORLD.TEST", Expires: end,
		TGTs: []ticket.Ticket{tgt}, Services: []ticket.Ticket{http}}

	detailed := heimdal
	tgt.RenewUntil, tgt.EncType, tgt.Flags = renew, 18, 0x40e10000
	http.RenewUntil, http.EncType, http.Flags = renew, 18, 0x40a90000
	detailed.TGTs, detailed.Services = []ticket.Ticket{tgt}, []ticket.Ticket{http}

	over := heimdal
	over.Expires, over.Services = time.Time{}, nil
	over.TGTs = []ticket.Ticket{{Server: tgt.Server, Start: begin}}
	overDetailed := over
	tgt.Expires = begin.Add(time.Second)
	overDetailed.Expires, overDetailed.TGTs = tgt.Expires, []ticket.Ticket{tgt}

	// 02:30 in Berlin on the night in which that hour comes twice: in UTC it is
	// plain which of the two is meant.
	alice := ticket.Cache{Name: "API:8A2F1C3E-0B4D-4E5F-9A6B-7C8D9E0F1A2B", Principal: "alice@CORP.EXAMPLE", Realm: "CORP.EXAMPLE",
		Expires: at(t, "2026-10-25 01:30:00"),
		TGTs: []ticket.Ticket{{Server: "krbtgt/CORP.EXAMPLE@CORP.EXAMPLE", Start: at(t, "2026-10-25 00:30:00"),
			Expires: at(t, "2026-10-25 01:30:00")}},
		Services: []ticket.Ticket{{Server: "HTTP/proxy.corp.example@CORP.EXAMPLE", Start: at(t, "2026-10-25 00:30:01"),
			Expires: at(t, "2026-10-25 01:30:00")}}}
	// And 02:30 on the night without that hour.
	spring := func(server string) ticket.Ticket {
		return ticket.Ticket{Server: server, Start: at(t, "2026-03-29 01:30:00"), Expires: at(t, "2026-03-29 02:30:00")}
	}
	bob := ticket.Cache{Name: "KCM:501:2", Principal: `bob\@home@HOME.EXAMPLE`, Realm: "HOME.EXAMPLE", Expires: at(t, "2026-03-29 02:30:00"),
		TGTs: []ticket.Ticket{spring("krbtgt/HOME.EXAMPLE@HOME.EXAMPLE"),
			spring("krbtgt/KERBEROS.MICROSOFTONLINE.COM@KERBEROS.MICROSOFTONLINE.COM")}}

	for _, tt := range []struct {
		file  string
		parse func([]byte) ([]ticket.Cache, error)
		want  []ticket.Cache
	}{
		{"heimdal-one.json", parseJSON, []ticket.Cache{heimdal}},
		{"heimdal-all.json", parseJSON, []ticket.Cache{heimdal}},
		{"heimdal-verbose.txt", parseVerbose, []ticket.Cache{detailed}},
		{"heimdal-expired.json", parseJSON, []ticket.Cache{over}},
		{"heimdal-expired.txt", parseVerbose, []ticket.Cache{overDetailed}},
		{"heimdal-none.json", parseJSON, []ticket.Cache{}},
		{"apple-one.json", parseJSON, []ticket.Cache{alice}},
		{"apple-all.json", parseJSON, []ticket.Cache{alice, bob}},
	} {
		got, err := tt.parse(recorded(t, tt.file))
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", tt.file, got, err, tt.want)
		}
	}

	detailed.Default = true
	got := combine([]ticket.Cache{heimdal}, []ticket.Cache{heimdal}, []ticket.Cache{detailed})
	if !reflect.DeepEqual(got, []ticket.Cache{detailed}) {
		t.Errorf("combined: got %+v", got)
	}
	got = combine([]ticket.Cache{over}, []ticket.Cache{over}, []ticket.Cache{overDetailed})
	if len(got) != 1 || got[0].Expires.IsZero() {
		t.Errorf("combined, expired: got %+v", got)
	}
	got = combine([]ticket.Cache{heimdal}, []ticket.Cache{alice}, []ticket.Cache{overDetailed})
	if len(got) != 2 || got[0].Default || !got[1].Default || got[1].TGTs[0].Flags != 0 {
		t.Errorf("a default outside, renewed between two looks: got %+v", got)
	}
}

func TestDamagedListings(t *testing.T) {
	for _, file := range []string{"heimdal-all.json", "apple-all.json"} {
		text := strings.TrimSpace(string(recorded(t, file)))
		for n := range len(text) {
			if list, err := parseJSON([]byte(text[:n])); !errors.Is(err, ticket.ErrCache) {
				t.Fatalf("%s cut to %d: got %+v, %v", file, n, list, err)
			}
		}
	}
	for name, text := range map[string]string{
		"usage":      "Usage: klist [-f]",
		"wrong type": `{"cache":"FILE:x","principal":7}`,
		"no list":    `{"cache":"FILE:x","tickets":{"Issued":"x"}}`,
		"bad time":   `{"cache":"FILE:x","tickets":[{"Issued":"yesterday","Expires":"20260101000000","Principal":"a"}]}`,
		"no end":     `{"cache":"FILE:x","tickets":[{"Issued":"20260101000000","Principal":"a"}]}`,
		"verbose":    `{"cache":"FILE:x","tickets":[ { "verbose-supported" : false } ]}`,
		"month 13":   `{"cache":"FILE:x","tickets":[{"Issued":"20261301000000","Expires":"20260101000000","Principal":"a"}]}`,
		"two values": `{"cache":"FILE:x"}{"cache":"FILE:y"}`,
		"caches":     "[" + strings.Repeat(`{"cache":"FILE:x"},`, maxCaches) + "{}]",
	} {
		if list, err := parseJSON([]byte(text)); !errors.Is(err, ticket.ErrCache) {
			t.Errorf("%s: got %+v, %v", name, list, err)
		}
	}
	if list, err := parseVerbose([]byte("Credentials cache: x\n" + strings.Repeat("Server: a\n", maxTickets+1))); !errors.Is(err, ticket.ErrCache) {
		t.Errorf("too many tickets: got %d caches, %v", len(list), err)
	}
	if list, err := parseVerbose([]byte("Server: a\nEnd time: never\n")); err != nil || len(list) != 0 {
		t.Errorf("before any cache: got %+v, %v", list, err)
	}
}

// Klist runs in UTC whatever the system's time zone is, on both sides of the
// hours that come twice or never. The date program stands in for klist, and
// the script for a system of that zone.
func TestTimeZones(t *testing.T) {
	testenv.NoLeaks(t)
	date := testenv.Tool(t, "date")
	for _, zone := range []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"} {
		for _, unix := range []int64{1792888200, 1792891800, 1774747800, 1774751400, 1793511000, 1793514600} {
			dir := t.TempDir()
			script := fmt.Sprintf(`#!/bin/sh
TZ=${TZ:-%s}
export TZ
t=$(%s -d @%d +%%Y%%m%%d%%H%%M%%S)
echo '{"cache":"API:x","principal":"a@R","tickets":[{"Issued":"'$t'","Expires":"'$t'","Principal":"krbtgt/R@R"}]}'
`, zone, date, unix)
			if err := os.WriteFile(filepath.Join(dir, "klist"), []byte(script), 0o755); err != nil {
				t.Fatal(err)
			}
			tools, err := New(Config{Dir: dir, Dialect: Heimdal, Env: os.Environ()})
			if err != nil {
				t.Fatal(err)
			}
			out, err := tools.run(t.Context(), "klist")
			if err != nil {
				t.Fatal(err)
			}
			if list, err := parseJSON(out); err != nil || len(list) != 1 || list[0].Expires.Unix() != unix {
				t.Errorf("%d in %s: got %+v, %v", unix, zone, list, err)
			}
		}
	}
}

func FuzzKlist(f *testing.F) {
	files, err := filepath.Glob("testdata/*-*.*")
	if err != nil || len(files) == 0 {
		f.Fatal("no recorded output", err)
	}
	for _, name := range files {
		f.Add(recorded(f, filepath.Base(name)))
	}
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, parse := range []func([]byte) ([]ticket.Cache, error){parseJSON, parseVerbose} {
			list, err := parse(out)
			if err != nil && (list != nil || !errors.Is(err, ticket.ErrCache)) {
				t.Fatalf("got %+v, %v", list, err)
			}
			for _, c := range list {
				for _, k := range append(c.TGTs, c.Services...) {
					if k.Server == "" || k.Expires.Location() != time.UTC {
						t.Fatalf("got %+v", k)
					}
				}
			}
			combine(list, list, list)
		}
	})
}
