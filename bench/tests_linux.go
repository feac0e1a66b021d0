//go:build linux

package main

import (
	"bufio"
	"fmt"
	"slices"
	"time"
)

// A test loads one session and returns what it measured.
type test struct {
	name string
	run  func(*session) (map[string]float64, error)
}

var tests = []test{
	{"get", testGet}, {"pace", testPace}, {"tunnel", testTunnel}, {"request", testRequest},
	{"bulk", testBulk}, {"idle", testIdle}, {"rest", testRest}, {"upload", testUpload},
}

func nothing() {}

// measure runs one load and puts down, under names that begin with key: rate,
// p50 and p99 in µs, the peer's CPU µs, and what the upstream saw of it.
func (s *session) measure(m map[string]float64, key string, f func(begin func()) *lap) {
	var cpu time.Duration
	var conns, refused int64
	l := f(func() {
		cpu, conns, refused = s.proc.cpuTime(), s.up.conns.Load(), s.up.refused.Load()
	})
	cpu = s.proc.cpuTime() - cpu
	n := float64(len(l.took))
	if l.failed > 0 {
		s.note += fmt.Sprintf("%s: %d failed (%v) ", key, l.failed, l.last)
	}
	m[key+"_rate"] = l.rate()
	if n == 0 {
		return
	}
	m[key+"_p50"] = micros(percentile(l.took, .50))
	m[key+"_p99"] = micros(percentile(l.took, .99))
	m[key+"_conns"] = float64(s.up.conns.Load()-conns) / n
	m[key+"_refused"] = float64(s.up.refused.Load()-refused) / n
	if s.proc != nil {
		m[key+"_cpu"] = micros(cpu) / n
	}
}

func testGet(s *session) (map[string]float64, error) {
	m := map[string]float64{}
	s.gets(16, s.r.unit/8, nothing)
	for _, n := range []int{64, 512} {
		s.measure(m, fmt.Sprintf("get%d", n), func(begin func()) *lap { return s.gets(n, s.r.unit, begin) })
	}
	return m, nil
}

func testPace(s *session) (map[string]float64, error) {
	m := map[string]float64{}
	s.gets(16, s.r.unit/8, nothing)
	s.measure(m, "pace", func(begin func()) *lap { return s.paced(32, 2000, s.r.unit, begin) })
	return m, nil
}

func testTunnel(s *session) (map[string]float64, error) {
	m := map[string]float64{}
	forget := func(time.Time) {}
	s.tunnels(8, s.r.unit/8, nothing, forget)
	var trips, asked int64
	accepted := func() int64 { return s.up.requests.Load() - s.up.refused.Load() }
	s.measure(m, "tun1", func(begin func()) *lap {
		return s.tunnels(1, s.r.unit, func() { begin(); trips, asked = s.up.trips.Load(), accepted() },
			func(t time.Time) { s.up.mark.Store(t.UnixNano()) })
	})
	if n := accepted() - asked; n > 0 {
		m["tun1_trips"] = float64(s.up.trips.Load()-trips) / float64(n)
	}
	s.measure(m, "tun32", func(begin func()) *lap { return s.tunnels(32, s.r.unit, begin, forget) })
	return m, nil
}

func testRequest(s *session) (map[string]float64, error) {
	m := map[string]float64{}
	s.gets(16, s.r.unit/8, nothing)
	s.measure(m, "req", func(begin func()) *lap { return s.gets(64, s.r.unit, begin) })
	return m, nil
}

func testBulk(s *session) (map[string]float64, error) {
	m := map[string]float64{}
	for _, n := range []int{1, 8} {
		var before, after time.Duration
		bytes, wall, err := s.bulk(n, s.r.unit, func() { before = s.proc.cpuTime() }, func() { after = s.proc.cpuTime() })
		if err != nil {
			return nil, err
		}
		gb := float64(bytes) / 1e9
		m[fmt.Sprintf("bulk%d_gbs", n)] = gb / wall.Seconds()
		if s.proc != nil && gb > 0 {
			m[fmt.Sprintf("bulk%d_cpu", n)] = (after - before).Seconds() / gb
		}
	}
	return m, nil
}

// fresh times pages on new connections, one after the other.
func (s *session) fresh() (took []time.Duration, err error) {
	n := 300
	if s.r.unit < 200*time.Millisecond {
		n = 60
	}
	for range n {
		d, err := s.freshGet()
		if err != nil {
			return nil, err
		}
		took = append(took, d)
	}
	slices.Sort(took)
	return took, nil
}

// settle is how long a program may need to come to rest after its start.
const settle = time.Second

func testIdle(s *session) (map[string]float64, error) {
	m := map[string]float64{}
	s.tunnels(8, s.r.unit/8, nothing, func(time.Time) {})
	// What a start leaves behind is given back by then, and not taken for what
	// tunnels give back.
	if err := s.pause(max(s.r.unit/4, settle)); err != nil {
		return nil, err
	}
	took, err := s.fresh()
	if err != nil {
		return nil, err
	}
	m["idle_before"] = micros(percentile(took, .5))
	var pss int64
	var files int
	if s.proc != nil {
		pss, files = s.proc.memory()
	}
	held, last := s.hold(s.r.idle)
	defer func() {
		for _, d := range held {
			closeHard(d)
		}
	}()
	m["idle_held"] = float64(len(held))
	if len(held) < s.r.idle {
		s.note += fmt.Sprintf("held only %d: %v ", len(held), last)
	}
	if err := s.pause(s.r.unit); err != nil {
		return nil, err
	}
	if s.proc != nil && len(held) > 0 {
		pss1, files1 := s.proc.memory()
		m["idle_kib"] = float64(pss1-pss) / float64(len(held)) / 1024
		m["idle_fds"] = float64(files1-files) / float64(len(held))
	}
	if took, err = s.fresh(); err != nil {
		s.note += fmt.Sprintf("fresh GET while held: %v ", err)
	} else {
		m["idle_fresh"], m["idle_fresh99"] = micros(percentile(took, .5)), micros(percentile(took, .99))
	}
	dead := 0
	for i := 0; i < len(held); i += max(1, len(held)/50) {
		held[i].SetDeadline(time.Now().Add(2 * time.Second))
		if echo(held[i], bufio.NewReaderSize(held[i], 64)) != nil {
			dead++
		}
	}
	m["idle_dead"] = float64(dead)
	return m, nil
}

func testRest(s *session) (map[string]float64, error) {
	m := map[string]float64{"start_ms": millis(s.cold)}
	if err := s.pause(min(time.Second, s.r.rest)); err != nil {
		return nil, err
	}
	pss, _ := s.proc.memory()
	m["rss_mib"] = float64(pss) / (1 << 20)
	before := s.proc.ownTime()
	if err := s.pause(s.r.rest); err != nil {
		return nil, err
	}
	m["rest_cpu"] = millis(s.proc.ownTime()-before) * (10 * time.Second).Seconds() / s.r.rest.Seconds()
	return m, nil
}

const uploadSize = 32 << 20

func testUpload(s *session) (map[string]float64, error) {
	m := map[string]float64{}
	s.gets(4, s.r.unit/8, nothing)
	kinds := []string{"up", "drain", "close"}
	if s.row.auth == authNone {
		kinds = kinds[:1]
	}
	for _, kind := range kinds {
		stale := kind
		if kind == "up" {
			stale = ""
		}
		var peak int64
		if s.proc != nil {
			s.proc.resetPeak()
			peak = s.proc.peak()
		}
		sent, posts := s.up.uploaded.Load(), s.up.posts.Load()
		status, took, err := s.upload(fmt.Sprintf("%s-%d", kind, time.Now().UnixNano()), stale, uploadSize)
		if err != nil {
			s.note += fmt.Sprintf("%s: status %d, %v ", kind, status, err)
		}
		m[kind+"_status"] = float64(status)
		m[kind+"_ms"] = millis(took)
		m[kind+"_sent"] = float64(s.up.uploaded.Load()-sent) / uploadSize
		m[kind+"_posts"] = float64(s.up.posts.Load() - posts)
		if s.proc != nil {
			m[kind+"_mib"] = float64(s.proc.peak()-peak) / (1 << 20)
		}
		if stale != "" {
			m[kind+"_good"] = uploadOutcome(status, m[kind+"_posts"], m[kind+"_sent"])
		}
	}
	return m, nil
}
