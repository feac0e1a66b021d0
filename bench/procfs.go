package main

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: USER_HZ, 100 on every Linux port that
// Go supports.
const tick = 10 * time.Millisecond

// parseStat reads /proc/PID/stat: the CPU time of the process itself, and of
// its children that have ended and were waited for.
func parseStat(text []byte) (own, reaped time.Duration, ok bool) {
	// The program's name, field 2, may hold blanks and brackets.
	i := bytes.LastIndexByte(text, ')')
	if i < 0 {
		return 0, 0, false
	}
	f := bytes.Fields(text[i+1:]) // from field 3 on
	if len(f) < 15 {
		return 0, 0, false
	}
	var n [4]int64
	for k := range n {
		v, err := strconv.ParseInt(string(f[11+k]), 10, 64)
		if err != nil {
			return 0, 0, false
		}
		n[k] = v
	}
	return time.Duration(n[0]+n[1]) * tick, time.Duration(n[2]+n[3]) * tick, true
}

// parseKiB returns the value in bytes of a line "Name:   123 kB", as in
// status, smaps_rollup and meminfo; 0 if it is missing.
func parseKiB(text []byte, name string) int64 {
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte(name+":")); ok {
			f := bytes.Fields(rest)
			if len(f) == 2 && string(f[1]) == "kB" {
				n, _ := strconv.ParseInt(string(f[0]), 10, 64)
				return n << 10
			}
		}
	}
	return 0
}

// parseBusy reads /proc/stat: the time that all CPUs were busy, and how many
// there are.
func parseBusy(text []byte) (busy time.Duration, cpus int) {
	for line := range bytes.Lines(text) {
		f := strings.Fields(string(line))
		switch {
		case len(f) < 8 || !strings.HasPrefix(f[0], "cpu"):
		case f[0] == "cpu":
			// user nice system idle iowait irq softirq steal
			for i, v := range f[1:min(len(f), 9)] {
				if n, _ := strconv.ParseInt(v, 10, 64); i != 3 && i != 4 {
					busy += time.Duration(n) * tick
				}
			}
		default:
			cpus++
		}
	}
	return busy, cpus
}

// lineValue returns what follows the first line that begins with name and a
// separator, as in cpuinfo and os-release; "" if it is missing.
func lineValue(text []byte, name, separator string) string {
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(line, separator)
		if ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
