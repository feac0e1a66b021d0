package main

import (
	"slices"
	"time"
)

// percentile returns the smallest value that share p (0 to 1) of the sorted
// values does not exceed; 0 without values.
func percentile(sorted []time.Duration, p float64) time.Duration {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	i := int(p * float64(n))
	if float64(i) == p*float64(n) {
		i-- // exactly p of the values are at or below the one before
	}
	return sorted[max(0, min(n-1, i))]
}

// median returns the middle value, of an even number the mean of the middle
// two. ok is false without values.
func median(values []float64) (m float64, ok bool) {
	n := len(values)
	if n == 0 {
		return 0, false
	}
	s := slices.Sorted(slices.Values(values))
	return (s[(n-1)/2] + s[n/2]) / 2, true
}

// spread is how far values lie apart, as a share of their median: 0 for fewer
// than two.
func spread(values []float64) float64 {
	m, _ := median(values)
	if len(values) < 2 || m == 0 {
		return 0
	}
	return (slices.Max(values) - slices.Min(values)) / m
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
