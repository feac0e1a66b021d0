package netwatch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"kerbpass/internal/testenv"
)

// script is a source that a test drives: what it sends is reported.
type script chan string

func (s script) source() source {
	return source{"script", func(ctx context.Context, _ *slog.Logger, report func(string)) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case reason := <-s:
				report(reason)
			}
		}
	}}
}

// run starts w in a synctest bubble and returns what it has told so far. It
// ends, and is waited for, with the bubble.
func run(t *testing.T, w *Watcher) (told func() []string, stop func()) {
	var mu sync.Mutex
	var reasons []string
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- w.Run(ctx, func(ev Event) {
			mu.Lock()
			defer mu.Unlock()
			reasons = append(reasons, ev.Reason)
		})
	}()
	told = func() []string {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(reasons)
	}
	return told, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	}
}

func mustNew(t *testing.T, cfg Config, sources ...source) *Watcher {
	t.Helper()
	w, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	w.sources = sources
	return w
}

func expect(t *testing.T, told func() []string, want ...string) {
	t.Helper()
	if got := told(); !slices.Equal(got, want) {
		t.Fatalf("told %q, want %q", got, want)
	}
}

func TestNewRefusesNegativeSettle(t *testing.T) {
	if _, err := New(Config{Settle: -1}); err == nil || !strings.Contains(err.Error(), "negative") {
		t.Errorf("got %v, want an error that says negative", err)
	}
}

func TestBurstIsOneEvent(t *testing.T) {
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		s := make(script)
		told, stop := run(t, mustNew(t, Config{}, s.source()))
		defer stop()
		for _, reason := range []string{Link, Resolver, Address, Route, Link} {
			s <- reason
			time.Sleep(defaultSettle - time.Millisecond)
		}
		expect(t, told)
		time.Sleep(time.Millisecond)
		expect(t, told, Address) // what weighs most
		time.Sleep(time.Minute)
		expect(t, told, Address)
		s <- Resolver
		time.Sleep(defaultSettle)
		expect(t, told, Address, Resolver)
	})
}

// A burst that never ends must not keep the news back.
func TestEndlessBurst(t *testing.T) {
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		s := make(script)
		told, stop := run(t, mustNew(t, Config{Settle: time.Second}, s.source()))
		defer stop()
		for range 21 {
			s <- Route
			time.Sleep(500 * time.Millisecond)
		}
		expect(t, told, Route)
	})
}

// What changes while changed is at work must not be lost.
func TestChangeDuringChanged(t *testing.T) {
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		s := make(script)
		w := mustNew(t, Config{}, s.source())
		ctx, cancel := context.WithCancel(t.Context())
		var told []string
		entered, release, done := make(chan bool), make(chan bool), make(chan error, 1)
		go func() {
			done <- w.Run(ctx, func(ev Event) {
				told = append(told, ev.Reason)
				entered <- true
				<-release
			})
		}()
		s <- Link
		<-entered
		s <- Route
		release <- true
		<-entered
		cancel()
		close(release)
		if err := <-done; err != nil || !slices.Equal(told, []string{Link, Route}) {
			t.Errorf("told %q and got %v, want a link, then a route, and nil", told, err)
		}
	})
}

func TestRunWaitsForItsSources(t *testing.T) {
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		gone := false
		slow := source{"slow", func(ctx context.Context, _ *slog.Logger, _ func(string)) error {
			<-ctx.Done()
			time.Sleep(time.Minute)
			gone = true
			return nil
		}}
		_, stop := run(t, mustNew(t, Config{}, slow))
		synctest.Wait()
		if stop(); !gone {
			t.Error("Run returned before its source")
		}
	})
}

func TestMissingSourceIsLeftOut(t *testing.T) {
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := make(script)
		missing := source{"missing", func(context.Context, *slog.Logger, func(string)) error { return errors.ErrUnsupported }}
		cfg := Config{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
		told, stop := run(t, mustNew(t, cfg, missing, s.source()))
		s <- Link
		time.Sleep(time.Minute)
		expect(t, told, Link)
		stop()
		if got := log.String(); strings.Count(got, "source=missing") != 1 || strings.Count(got, "left out") != 1 || strings.Contains(got, "level=WARN") {
			t.Errorf("want one debug line about the missing source and none about the other:\n%s", got)
		}
	})
}

// A clock is a clock that a test can set and count the looks at. It runs with
// the bubble's time.
type fakeClock struct {
	mu    sync.Mutex // guards all below
	start time.Time
	wall  time.Duration // ahead of the bubble's
	looks int
}

func (c *fakeClock) now() reading {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.looks++
	return reading{time.Now().Round(0).Add(c.wall), time.Since(c.start)}
}

func (c *fakeClock) set(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall += by
}

func TestClockJump(t *testing.T) {
	testenv.NoLeaks(t)
	for _, tt := range []struct {
		name string
		by   time.Duration
		want []string
	}{
		{"slept", 8 * time.Hour, []string{Resume}},
		{"slept for a minute", time.Minute, []string{Resume}},
		{"just enough", jumpMin, []string{Resume}},
		{"set back", -time.Hour, []string{Resume}},
		{"not enough", jumpMin - 1, nil},
		{"not enough, back", -jumpMin + 1, nil},
		{"set right by a network time server", 2 * time.Second, nil},
		{"untouched", 0, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &fakeClock{start: time.Now()}
				w := mustNew(t, Config{})
				w.now = c.now
				told, stop := run(t, w)
				defer stop()
				synctest.Wait()
				c.set(tt.by)
				time.Sleep(lookEvery + defaultSettle)
				expect(t, told, tt.want...)
				time.Sleep(time.Hour) // and not again
				expect(t, told, tt.want...)
			})
		})
	}
}

// Where the monotonic clock goes on during sleep, the timer comes late.
func TestLateTimerIsAJump(t *testing.T) {
	at := func(d time.Duration) reading { return reading{time.Unix(0, 0).Add(d), d} }
	for late, want := range map[time.Duration]bool{0: false, jumpMin - 1: false, jumpMin: true, 8 * time.Hour: true} {
		if got := jumped(at(time.Minute), at(time.Minute+lookEvery+late), lookEvery); got != want {
			t.Errorf("late by %v: got %v, want %v", late, got, want)
		}
	}
}

func TestClockIsLookedAtRarely(t *testing.T) {
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		c := &fakeClock{start: time.Now()}
		w := mustNew(t, Config{})
		w.now = c.now
		_, stop := run(t, w)
		time.Sleep(time.Hour + time.Second)
		stop()
		// Two looks a wake-up, and one before the first.
		if most := 2*int(time.Hour/(30*time.Second)) + 1; c.looks > most || c.looks < most/2 {
			t.Errorf("%d looks at the clock in an hour, want at most %d", c.looks, most)
		}
	})
}

// The system said so already; the clock must not say it again.
func TestResumeIsToldOnce(t *testing.T) {
	testenv.NoLeaks(t)
	synctest.Test(t, func(t *testing.T) {
		c := &fakeClock{start: time.Now()}
		s := make(script)
		w := mustNew(t, Config{}, s.source())
		w.now = c.now
		told, stop := run(t, w)
		defer stop()
		time.Sleep(20 * time.Second)
		c.set(8 * time.Hour)
		s <- Resume
		time.Sleep(time.Hour)
		expect(t, told, Resume)
		c.set(8 * time.Hour) // a second sleep still counts
		time.Sleep(time.Minute)
		expect(t, told, Resume, Resume)
	})
}

func TestSystemClockRuns(t *testing.T) {
	now := systemClock()
	first := now()
	second := now()
	if jumped(first, second, 0) || second.mono < first.mono || first.wall != first.wall.Round(0) {
		t.Errorf("got %v, then %v", first, second)
	}
}
