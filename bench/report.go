package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A sample is one test of one fresh process.
type sample struct {
	Round  int                `json:"round"`
	Test   string             `json:"test"`
	Row    string             `json:"row"`
	Values map[string]float64 `json:"values,omitempty"`
	Others float64            `json:"others"` // share of the machine that others used meanwhile
	Note   string             `json:"note,omitempty"`
	Err    string             `json:"error,omitempty"`
}

// machine says where and when a comparison ran.
type machine struct {
	CPU     string    `json:"cpu"`
	CPUs    int       `json:"cpus"`
	Kernel  string    `json:"kernel"`
	System  string    `json:"system"`
	Go      string    `json:"go"`
	Date    time.Time `json:"date"`
	Pinned  string    `json:"pinned"`
	Rounds  int       `json:"rounds"`
	Unit    string    `json:"unit"`
	Idle    int       `json:"idleTunnels"`
	Commit  string    `json:"commit,omitempty"`
	Took    string    `json:"took"`
	Quiet   float64   `json:"quiet"`             // share of the machine that others may use
	LeftOut []string  `json:"leftOut,omitempty"` // rows that are not installed
}

type results struct {
	machine machine
	rows    []row
	samples []sample
}

// value is the median of one measure of a row; with added less the direct row's.
func (r *results) value(name, key string, added bool) (float64, bool) {
	v, ok := median(r.values(name, key))
	if added && ok {
		var base float64
		base, ok = median(r.values(direct, key))
		v -= base
		ok = ok && name != direct && v > 0
	}
	return v, ok
}

func (r *results) values(name, key string) (vs []float64) {
	for _, s := range r.samples {
		if s.Row == name && s.Err == "" {
			if v, ok := s.Values[key]; ok && !math.IsNaN(v) && !math.IsInf(v, 0) {
				vs = append(vs, v)
			}
		}
	}
	return vs
}

// steady ends the names of counts and sizes, which do not depend on who else
// is at work.
var steady = []string{"_status", "_posts", "_sent", "_good", "_mib", "_kib", "_fds", "_held", "_dead", "_trips", "_refused", "_conns"}

// mark is put before a value that was taken while others were at work.
const mark = "~"

// noisy reports whether others used more of the machine than the run allowed
// in at least half of the samples behind a value.
func (r *results) noisy(name, key string) bool {
	for _, suffix := range steady {
		if strings.HasSuffix(key, suffix) {
			return false
		}
	}
	var others []float64
	for _, s := range r.samples {
		if _, ok := s.Values[key]; ok && s.Row == name && s.Err == "" {
			others = append(others, s.Others)
		}
	}
	m, _ := median(others)
	return m > r.machine.Quiet
}

// best is the best value of a measure among the peers that count.
func (r *results) best(key string, more, added bool, counts func(row) bool) (best float64, ok bool) {
	for _, w := range r.rows {
		v, has := r.value(w.name, key, added)
		if w.class != peer || !counts(w) || !has {
			continue
		}
		if !ok || (more && v > best) || (!more && v < best) {
			best, ok = v, true
		}
	}
	return best, ok
}

// A column shows one measure, in brackets the ratio to the reference.
type column struct {
	head, key string
	added     bool
	more      bool
	of        string // a row, bestPeer, or "" for no ratio
}

const bestPeer = "best peer"

type table struct {
	title string
	cols  []column
}

var tables = []table{
	{"GET of 1 KiB on kept connections", []column{
		{"/s, 64 conns", "get64_rate", false, true, haproxyHTTP},
		{"CPU µs", "get64_cpu", false, false, haproxyHTTP},
		{"/s, 512 conns", "get512_rate", false, true, haproxyHTTP},
		{"CPU µs, 512", "get512_cpu", false, false, haproxyHTTP},
		{"upstream conns per request, 512", "get512_conns", false, false, ""},
		{"p50 µs added at 2,000/s", "pace_p50", true, false, bareRelay},
		{"p99 µs added", "pace_p99", true, false, bareRelay},
	}},
	{"New tunnels: connect, authenticate, 16 bytes echoed, close", []column{
		{"/s, 32 at a time", "tun32_rate", false, true, bareRelay},
		{"CPU µs", "tun32_cpu", false, false, bareRelay},
		{"p99 µs", "tun32_p99", false, false, bareRelay},
		{"p50 µs, one at a time", "tun1_p50", false, false, bareRelay},
		{"trips to the upstream", "tun1_trips", false, false, ""},
	}},
	{"An upstream that wants a token with every request", []column{
		{"GET/s, 64 conns", "req_rate", false, true, bestPeer},
		{"CPU µs", "req_cpu", false, false, bestPeer},
		{"407 per request", "req_refused", false, false, ""},
	}},
	{"Bulk through tunnels", []column{
		{"GB/s, 1 tunnel", "bulk1_gbs", false, true, bareRelay},
		{"CPU s/GB", "bulk1_cpu", false, false, bareRelay},
		{"GB/s, 8 tunnels", "bulk8_gbs", false, true, bareRelay},
		{"CPU s/GB, 8", "bulk8_cpu", false, false, bareRelay},
	}},
	{"Idle tunnels", []column{
		{"held", "idle_held", false, true, ""},
		{"dead of 50 tried", "idle_dead", false, false, ""},
		{"KiB each", "idle_kib", false, false, bareRelay},
		{"descriptors each", "idle_fds", false, false, ""},
		{"fresh GET p50 µs before", "idle_before", false, false, bareRelay},
		{"while held", "idle_fresh", false, false, bareRelay},
		{"p99 while held", "idle_fresh99", false, false, bareRelay},
	}},
	{"Start and rest", []column{
		{"ms to the first answer", "start_ms", false, false, bareRelay},
		{"memory MiB", "rss_mib", false, false, bestPeer},
		{"CPU ms in 10 s", "rest_cpu", false, false, ""},
	}},
	{"Upload of 32 MiB", []column{
		{"status", "up_status", false, false, ""},
		{"ms", "up_ms", false, false, bareRelay},
		{"more memory MiB", "up_mib", false, false, ""},
		{"stale, drained: status", "drain_status", false, false, ""},
		{"POSTs carried out", "drain_posts", false, false, ""},
		{"body sent, times", "drain_sent", false, false, ""},
		{"stale, closed: status", "close_status", false, false, ""},
		{"POSTs carried out", "close_posts", false, false, ""},
		{"body sent, times", "close_sent", false, false, ""},
	}},
}

func (r *results) markdown() string {
	var b strings.Builder
	m := r.machine
	fmt.Fprintf(&b, "%s, %d CPUs · %s, Linux %s · %s · %s", m.CPU, m.CPUs, m.System, m.Kernel, m.Go, m.Date.Format("2006-01-02"))
	if m.Commit != "" {
		fmt.Fprintf(&b, " · commit %s", m.Commit)
	}
	fmt.Fprintf(&b, "  \n%d round(s), loads of %s, %d idle tunnels, %s, in %s. Medians; in brackets the ratio to the reference.\n",
		m.Rounds, m.Unit, m.Idle, m.Pinned, m.Took)
	fmt.Fprintf(&b, "Others used %s of the machine during a sample (median; at most %s); %s before a number: more than %.0f%%.", r.others(0.5), r.others(1), mark, 100*m.Quiet)
	if s := r.spread(); s != "" {
		fmt.Fprintf(&b, " Rounds typically differ by %s of the median.", s)
	}
	b.WriteString("\n")
	if len(m.LeftOut) > 0 {
		fmt.Fprintf(&b, "Not installed, so left out: %s.\n", strings.Join(m.LeftOut, ", "))
	}
	for _, t := range tables {
		r.table(&b, t)
	}
	r.verdicts(&b)
	r.notes(&b)
	return b.String()
}

func (r *results) table(b *strings.Builder, t table) {
	var lines []string
	for _, w := range r.rows {
		cells, any := []string{title(w)}, false
		for _, c := range t.cols {
			cell := r.cell(w, c)
			any = any || cell != ""
			cells = append(cells, cell)
		}
		if any {
			lines = append(lines, "| "+strings.Join(cells, " | ")+" |\n")
		}
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n### %s\n\n|", t.title)
	for _, c := range t.cols {
		of := ""
		if c.of != "" {
			of = " (of " + c.of + ")"
		}
		fmt.Fprintf(b, " | %s%s", c.head, of)
	}
	b.WriteString(" |\n|---|" + strings.Repeat("---:|", len(t.cols)) + "\n" + strings.Join(lines, ""))
}

func title(w row) string {
	switch w.class {
	case ours:
		return "**" + w.name + "**"
	case limit:
		return "*" + w.name + "*"
	}
	return w.name + " (" + w.auth + ")"
}

func (r *results) cell(w row, c column) string {
	v, ok := r.value(w.name, c.key, c.added)
	if !ok {
		return ""
	}
	text := number(v)
	if r.noisy(w.name, c.key) {
		text = mark + text
	}
	var ref float64
	switch c.of {
	case "":
		return text
	case bestPeer:
		ref, ok = r.best(c.key, c.more, c.added, func(row) bool { return true })
	default:
		ref, ok = r.value(c.of, c.key, c.added)
	}
	if !ok {
		return text
	}
	return text + ratio(v, ref)
}

// ratio is " (v/ref)", nothing where it would mean nothing.
func ratio(v, ref float64) string {
	switch q := v / ref; {
	case ref <= 0 || v <= 0:
		return ""
	case q >= 10:
		return fmt.Sprintf(" (%.0f)", q)
	default:
		return fmt.Sprintf(" (%.2f)", q)
	}
}

// number writes a value with three digits that count, thousands apart.
func number(v float64) string {
	abs := math.Abs(v)
	switch {
	case v == math.Trunc(v) && abs < 1000, abs >= 100 && abs < 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs < 0.005:
		return "0"
	case abs < 10:
		return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 2, 64), ".00")
	case abs < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	s := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// judgements are all goals of all rows of ours.
func (r *results) judgements() (all []judgement) {
	for _, g := range goals {
		for _, w := range r.rows {
			if w.class == ours {
				all = append(all, g.judge(r, w.name))
			}
		}
	}
	return all
}

func (r *results) verdicts(b *strings.Builder) {
	all := r.judgements()
	if len(all) == 0 {
		return
	}
	b.WriteString("\n### Goals\n\n| measure | | value | aim | must | |\n|---|---|---:|---|---|---|\n")
	count := map[verdict]int{}
	for _, j := range all {
		count[j.Verdict]++
		value, v := strings.TrimSpace(number(j.Value)+" "+j.Unit), string(j.Verdict)
		switch j.Verdict {
		case unjudged:
			value = ""
		case missed:
			v = "**missed**"
		}
		if j.Noisy {
			v += " " + mark
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", j.Measure, j.Row, value, j.Aim, j.Must, v)
	}
	fmt.Fprintf(b, "\n%d met, %d must met, %d missed, %d not measured. Outcomes of an upload after a stale 407: 2 one whole POST carried out, 1 a clear 502 and none, 0 anything else. %s: others were at work while it or its reference was measured, so measure again.\n",
		count[met], count[mustMet], count[missed], count[unjudged], mark)
}

// notes lists what went wrong on the way, each thing once.
func (r *results) notes(b *strings.Builder) {
	var all []string
	for _, s := range r.samples {
		text := s.Err
		if text == "" {
			text = s.Note
		}
		if text == "" {
			continue
		}
		if line := fmt.Sprintf("- %s, %s: %s\n", s.Row, s.Test, strings.ReplaceAll(text, "\n", " ")); !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	if len(all) > 0 {
		b.WriteString("\n### Notes\n\n" + strings.Join(all, ""))
	}
}

func (r *results) others(p float64) string {
	var vs []float64
	for _, s := range r.samples {
		vs = append(vs, s.Others)
	}
	v, ok := median(vs)
	if !ok {
		return "0%"
	}
	if p == 1 {
		v = slices.Max(vs)
	}
	return fmt.Sprintf("%.0f%%", 100*v)
}

// spread is the typical difference between rounds over all measures shown.
func (r *results) spread() string {
	var all []float64
	for _, t := range tables {
		for _, c := range t.cols {
			for _, w := range r.rows {
				if vs := r.values(w.name, c.key); c.of != "" && len(vs) > 1 {
					all = append(all, spread(vs))
				}
			}
		}
	}
	if m, ok := median(all); ok {
		return fmt.Sprintf("%.0f%%", 100*m)
	}
	return ""
}

// An export is what -json prints.
type export struct {
	Machine machine                       `json:"machine"`
	Medians map[string]map[string]float64 `json:"medians"` // row, measure
	Goals   []judgement                   `json:"goals"`
	Samples []sample                      `json:"samples"`
}

func (r *results) export() export {
	e := export{Machine: r.machine, Medians: map[string]map[string]float64{}, Goals: r.judgements(), Samples: r.samples}
	for _, s := range r.samples {
		for key := range s.Values {
			if v, ok := r.value(s.Row, key, false); ok {
				if e.Medians[s.Row] == nil {
					e.Medians[s.Row] = map[string]float64{}
				}
				e.Medians[s.Row][key] = v
			}
		}
	}
	return e
}
