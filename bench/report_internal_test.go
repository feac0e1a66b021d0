package main

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// small is a run of two rounds with one row of each class.
func small() *results {
	r := &results{
		machine: machine{CPU: "A CPU", CPUs: 2, Kernel: "6.1", System: "Debian", Go: "go1", Date: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
			Pinned: "pinned", Rounds: 2, Unit: "1s", Idle: 10, Took: "2m0s", Quiet: 0.08, LeftOut: []string{"cntlm"}},
		rows: []row{
			{name: direct, class: limit}, {name: bareRelay, class: limit}, {name: haproxyHTTP, class: limit},
			{name: "squid", class: peer, auth: authNegotiate}, {name: "tinyproxy", class: peer, auth: authBasic}, {name: kerbpass, class: ours},
		},
	}
	put := func(row, key string, values ...float64) {
		for i, v := range values {
			r.samples = append(r.samples, sample{Round: i, Test: "get", Row: row, Values: map[string]float64{key: v}, Others: 0.01})
		}
	}
	put(direct, "pace_p50", 50, 50)
	put(bareRelay, "pace_p50", 140, 160)
	put(bareRelay, "get64_rate", 60000, 50000)
	put(haproxyHTTP, "get64_rate", 50000, 50000)
	put("squid", "req_rate", 2000, 2200)
	put("tinyproxy", "req_rate", 9000)
	put(kerbpass, "get64_rate", 41000, 39000)
	put(kerbpass, "get512_rate", 28000, 30000)
	put(kerbpass, "pace_p50", 170, 190)
	put(kerbpass, "req_rate", 4000, 4000)
	put(kerbpass, "rss_mib", 8)
	put(kerbpass, "idle_fds", 6)
	r.samples = append(r.samples, sample{Row: "squid", Test: "idle", Err: "ended\nduring the test", Values: map[string]float64{"req_rate": 1e9}})
	return r
}

func TestValuesAreMediansWithoutFailures(t *testing.T) {
	r := small()
	for _, tt := range []struct {
		row, key string
		added    bool
		want     float64
		ok       bool
	}{
		{kerbpass, "get64_rate", false, 40000, true},
		{"squid", "req_rate", false, 2100, true}, // not the sample that failed
		{kerbpass, "pace_p50", true, 130, true},
		{bareRelay, "pace_p50", true, 100, true},
		{direct, "pace_p50", true, 0, false},
		{kerbpass, "get64_rate", true, 0, false}, // the direct row has none
		{kerbpass, "nothing", false, 0, false},
	} {
		if v, ok := r.value(tt.row, tt.key, tt.added); ok != tt.ok || (ok && v != tt.want) {
			t.Errorf("%s %s: got %v, %v, want %v, %v", tt.row, tt.key, v, ok, tt.want, tt.ok)
		}
	}
	if v, ok := r.best("req_rate", true, false, func(row) bool { return true }); !ok || v != 9000 {
		t.Errorf("best of all peers: got %v, %v", v, ok)
	}
	if v, ok := r.best("req_rate", false, false, func(row) bool { return true }); !ok || v != 2100 {
		t.Errorf("lowest of all peers: got %v, %v", v, ok)
	}
	if _, ok := r.best("get64_rate", true, false, func(row) bool { return true }); ok {
		t.Error("a limit counted as a peer")
	}
	r.samples[0].Values["pace_p50"] = math.Inf(1)
	if vs := r.values(direct, "pace_p50"); len(vs) != 1 {
		t.Errorf("infinity counted: %v", vs)
	}
}

func TestJudge(t *testing.T) {
	r := small()
	rate := func(aim, must float64, of string) goal {
		return goal{measure: "m", key: "get64_rate", more: true, aim: bound{aim, of, ""}, must: bound{must, of, ""}}
	}
	for _, tt := range []struct {
		name string
		goal goal
		want verdict
		aim  string
	}{
		{"just met", rate(0.8, 0.5, haproxyHTTP), met, "≥ 0.80 × haproxy http = 40,000"},
		{"must met", rate(0.81, 0.8, haproxyHTTP), mustMet, "≥ 0.81 × haproxy http = 40,500"},
		{"missed", rate(0.9, 0.81, haproxyHTTP), missed, "≥ 0.90 × haproxy http = 45,000"},
		{"no reference", rate(0.9, 0.8, "cntlm"), unjudged, "≥ 0.90 × cntlm"},
		{"absolute", rate(40000, 1, ""), met, "≥ 40,000"},
		{"less is better", goal{key: "rss_mib", aim: bound{factor: 8}, must: bound{factor: 9}}, met, "≤ 8"},
		{"less is better, missed", goal{key: "idle_fds", aim: bound{factor: 2}, must: bound{factor: 2}}, missed, "≤ 2"},
		{"zero bound", goal{key: "idle_fds"}, missed, "≤ 0"},
		{"own measure", goal{key: "get512_rate", more: true, aim: bound{0.8, own, "get64_rate"}, must: bound{0.7, own, "get64_rate"}}, mustMet, "≥ 0.80 × own at 64 = 32,000"},
		{"added", goal{key: "pace_p50", added: true, aim: bound{1.1, bareRelay, ""}, must: bound{1.3, bareRelay, ""}}, mustMet, "≤ 1.10 × relay = 110"},
		{"best Negotiate peer, not best peer", goal{key: "req_rate", more: true, aim: bound{1.5, bestNegotiate, ""}, must: bound{1, bestNegotiate, ""}}, met, "≥ 1.50 × best Negotiate peer = 3,150"},
		{"no value", goal{key: "up_ms", aim: bound{factor: 1}, must: bound{factor: 1}}, unjudged, "≤ 1"},
		{"only the aim can be told, and is missed", goal{key: "get64_rate", more: true, aim: bound{factor: 50000}, must: bound{1, "cntlm", ""}}, unjudged, "≥ 50,000"},
		{"only the must can be told, and is met", goal{key: "get64_rate", more: true, aim: bound{1, "cntlm", ""}, must: bound{factor: 1}}, mustMet, "≥ 1 × cntlm"},
	} {
		if j := tt.goal.judge(r, kerbpass); j.Verdict != tt.want || j.Aim != tt.aim {
			t.Errorf("%s: got %q, %q, want %q, %q", tt.name, j.Verdict, j.Aim, tt.want, tt.aim)
		}
	}
}

// Every goal and column must speak of a measure that some test makes, of a row
// that exists, and a goal's must may not be harder than its aim.
func TestGoalsAndColumnsAreSound(t *testing.T) {
	names := []string{"", own, bestNegotiate, bestPeer}
	for _, w := range debianRows {
		names = append(names, w.name)
	}
	shown := map[string]bool{"drain_good": true, "close_good": true}
	for _, tab := range tables {
		for _, c := range tab.cols {
			shown[c.key] = true
			if !slices.Contains(names, c.of) {
				t.Errorf("column %q refers to %q, which is no row", c.head, c.of)
			}
		}
	}
	for _, g := range goals {
		if !shown[g.key] {
			t.Errorf("goal %q judges %q, which no table shows", g.measure, g.key)
		}
		for _, b := range []bound{g.aim, g.must} {
			if !slices.Contains(names, b.of) || (b.of == own) != (b.key != "") {
				t.Errorf("goal %q has the bound %+v", g.measure, b)
			}
		}
		if g.aim.of == g.must.of && g.aim != g.must && (g.aim.factor > g.must.factor) != g.more {
			t.Errorf("goal %q: its must %v is harder than its aim %v", g.measure, g.must.factor, g.aim.factor)
		}
	}
	if len(goals) < 20 {
		t.Errorf("only %d goals", len(goals))
	}
}

func TestNoiseIsMarked(t *testing.T) {
	r := small()
	noisy := func(row string) {
		for i := range r.samples {
			if _, ok := r.samples[i].Values["get64_rate"]; ok && r.samples[i].Row == row {
				r.samples[i].Others = 0.3
			}
		}
	}
	g := goals[0]
	if g.key != "get64_rate" || g.aim.of != haproxyHTTP || g.judge(r, kerbpass).Noisy {
		t.Fatalf("got %+v, %+v", g, g.judge(r, kerbpass))
	}
	noisy(haproxyHTTP)
	if !g.judge(r, kerbpass).Noisy || !strings.Contains(r.markdown(), "| *haproxy http* | ~50,000 (1.00) |") || !strings.Contains(r.markdown(), "| met ~ |") {
		t.Errorf("a noisy reference is not marked:\n%s", r.markdown())
	}
	if strings.Contains(r.markdown(), "~40,000") {
		t.Error("a quiet value is marked")
	}
	noisy(kerbpass)
	if !strings.Contains(r.markdown(), "| **kerbpass** | ~40,000 (0.80) |") {
		t.Errorf("a noisy value is not marked:\n%s", r.markdown())
	}
	r.samples = append(r.samples, r.samples[0]) // another row's does not count
	r.samples[len(r.samples)-1].Others = 1
	if r.noisy(kerbpass, "req_rate") {
		t.Error("another row's and measure's noise counts")
	}
	for i := range r.samples {
		r.samples[i].Others = 1
	}
	if r.noisy(kerbpass, "idle_fds") || !r.noisy(kerbpass, "pace_p50") {
		t.Error("a count must not be marked, a time must")
	}
}

func TestUploadOutcome(t *testing.T) {
	for _, tt := range []struct {
		status      int
		posts, sent float64
		want        float64
	}{
		{200, 1, 1, carriedOut},
		{200, 1, 1.1, carriedOut},
		{200, 1, 2, wrong}, // right, but sent twice
		{200, 2, 1, wrong}, // an empty POST came first
		{200, 0, 1, wrong}, // success told, nothing carried out
		{502, 0, 0.1, clearError},
		{502, 1, 1, wrong}, // failure told, carried out nonetheless
		{407, 0, 0, wrong}, // the client cannot know what to do
		{0, 0, 0, wrong},
	} {
		if got := uploadOutcome(tt.status, tt.posts, tt.sent); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

func TestNumberAndRatio(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 2: "2", 2.004: "2", 2.05: "2.05", 0.004: "0", 0.52: "0.52", 9.996: "10.00", 11.62: "11.6", 99.96: "100.0", 123.4: "123", 999.4: "999",
		1234: "1,234", 54600.4: "54,600", 1234567: "1,234,567", -0.5: "-0.50", -1234: "-1,234", -123.4: "-123",
	} {
		if got := number(v); got != want && !(v == 9.996 && got == "10") {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
	for _, tt := range []struct {
		v, ref float64
		want   string
	}{{1, 2, " (0.50)"}, {30, 2, " (15)"}, {1, 0, ""}, {0, 1, ""}, {-1, 1, ""}, {2, 2, " (1.00)"}} {
		if got := ratio(tt.v, tt.ref); got != tt.want {
			t.Errorf("%v of %v: got %q, want %q", tt.v, tt.ref, got, tt.want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	text := small().markdown()
	for _, want := range []string{
		"A CPU, 2 CPUs · Debian, Linux 6.1 · go1 · 2026-01-02",
		"2 round(s), loads of 1s, 10 idle tunnels, pinned, in 2m0s.",
		"Others used 1% of the machine during a sample (median; at most 1%); ~ before a number: more than 8%.",
		"Not installed, so left out: cntlm.",
		"| **kerbpass** | 40,000 (0.80) |",
		"| *relay* | 55,000 (1.10) |",
		"| *haproxy http* | 50,000 (1.00) |  |",
		"| squid (negotiate) | 2,100 (0.23) |",
		"| GET, 64 connections | kerbpass | 40,000 /s | ≥ 0.80 × haproxy http = 40,000 | ≥ 0.42 × relay = 23,100 | met |",
		"| idle tunnel: descriptors | kerbpass | 6 | ≤ 2.05 | ≤ 2.05 | **missed** |",
		"- squid, idle: ended during the test\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "Upload of 32 MiB\n") {
		t.Error("a table without values was printed")
	}
	// A table whose lines have different numbers of cells is not drawn.
	columns := 0
	for line := range strings.Lines(text) {
		n := strings.Count(line, "|")
		switch {
		case n == 0:
			columns = 0
		case columns == 0:
			columns = n
		case n != columns:
			t.Errorf("%d bars, %d above: %s", n, columns, line)
		}
	}
}

func TestExportIsJSON(t *testing.T) {
	b, err := json.Marshal(small().export())
	if err != nil {
		t.Fatal(err)
	}
	var e export
	if err := json.Unmarshal(b, &e); err != nil {
		t.Fatal(err)
	}
	if v := e.Medians[kerbpass]["get64_rate"]; v != 40000 {
		t.Errorf("got a median of %v, want 40000", v)
	}
	if len(e.Goals) != len(goals) || len(e.Samples) == 0 {
		t.Errorf("got %d goals and %d samples", len(e.Goals), len(e.Samples))
	}
}

func TestCommandLine(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-tests", "get,spin"}, `no test "spin"`},
		{[]string{"now"}, `unexpected argument "now"`},
		{[]string{"-ours", "path"}, "want NAME=PATH"},
		{[]string{"-for", "soon"}, "invalid value"},
	} {
		var out, log strings.Builder
		if err := command(t.Context(), tt.args, &out, &log); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got error %v, want %q", tt.args, err, tt.want)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	p := place{"port": "1", "upstream": "2", "dir": "/d", "self": "/s", "krb5conf": "/k", "cache": "/c", "user": "u", "password": "p", "basic": "b"}
	for _, w := range append(slices.Clone(debianRows), ourRow("x", "/x")) {
		texts := append(slices.Clone(w.argv), w.env...)
		for _, f := range w.files {
			texts = append(texts, f)
		}
		for _, text := range p.fillAll(texts) {
			if strings.ContainsAny(text, "{}") {
				t.Errorf("%s: a placeholder has no value: %s", w.name, text)
			}
		}
	}
	if got := p.fill("{port}{other}{"); got != "1{other}{" {
		t.Errorf("got %q", got)
	}
}
