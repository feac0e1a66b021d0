package main

import (
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	of := func(n int) (ds []time.Duration) {
		for i := range n {
			ds = append(ds, time.Duration(i+1))
		}
		return ds
	}
	for _, tt := range []struct {
		n    int
		p    float64
		want time.Duration
	}{
		{0, .5, 0},
		{1, .5, 1}, {1, .99, 1}, {1, 0, 1}, {1, 1, 1},
		{2, .5, 1}, {3, .5, 2}, {4, .5, 2},
		{100, .5, 50}, {100, .99, 99}, {100, 1, 100}, {100, 0, 1},
		{101, .5, 51}, {300, .99, 297}, {1000, .999, 999},
	} {
		if got := percentile(of(tt.n), tt.p); got != tt.want {
			t.Errorf("percentile %v of 1…%d: got %d, want %d", tt.p, tt.n, got, tt.want)
		}
	}
}

func TestMedianAndSpread(t *testing.T) {
	for _, tt := range []struct {
		values       []float64
		want, spread float64
		ok           bool
	}{
		{nil, 0, 0, false},
		{[]float64{7}, 7, 0, true},
		{[]float64{9, 1, 4}, 4, 2, true},
		{[]float64{10, 1, 3, 4}, 3.5, 9 / 3.5, true},
		{[]float64{-1, 0, 1}, 0, 0, true},
	} {
		given := append([]float64(nil), tt.values...)
		got, ok := median(tt.values)
		if got != tt.want || ok != tt.ok {
			t.Errorf("median of %v: got %v, %v, want %v, %v", given, got, ok, tt.want, tt.ok)
		}
		if got := spread(tt.values); got != tt.spread {
			t.Errorf("spread of %v: got %v, want %v", given, got, tt.spread)
		}
		for i := range given {
			if tt.values[i] != given[i] {
				t.Errorf("the values were put in another order: got %v, want %v", tt.values, given)
				break
			}
		}
	}
}

func TestPlanKeepsTheBudget(t *testing.T) {
	for _, tt := range []struct {
		budget       time.Duration
		rounds, idle int
	}{
		{30 * time.Second, 1, 1000}, {2 * time.Minute, 1, 1000}, {15 * time.Minute, 3, 3000}, {time.Hour, 5, 3000},
	} {
		o := options{budget: tt.budget}
		o.plan()
		if o.rounds != tt.rounds || o.idle != tt.idle {
			t.Errorf("%v: got %d rounds, %d idle tunnels, want %d, %d", tt.budget, o.rounds, o.idle, tt.rounds, tt.idle)
		}
		if all := time.Duration(9*o.rounds) * (14*o.unit + o.rest + 8*time.Second); tt.budget >= 2*time.Minute && all > tt.budget {
			t.Errorf("%v: the plan takes %v (unit %v, rest %v)", tt.budget, all, o.unit, o.rest)
		}
		if o.unit < 100*time.Millisecond || o.rest < time.Second {
			t.Errorf("%v: unit %v and rest %v are too short to say anything", tt.budget, o.unit, o.rest)
		}
	}
	o := options{budget: time.Hour, unit: time.Millisecond, rest: 2, rounds: 7, idle: 9}
	if o.plan(); o.unit != time.Millisecond || o.rest != 2 || o.rounds != 7 || o.idle != 9 {
		t.Errorf("what was given was changed: %+v", o)
	}
}
