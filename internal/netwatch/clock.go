package netwatch

import (
	"context"
	"log/slog"
	"time"
)

const (
	// lookEvery is the only regular wake-up of the package.
	lookEvery = 30 * time.Second
	// jumpMin is far above what NTP slews or a loaded machine delays, and far
	// below the time after which peers give up on connections.
	jumpMin = 10 * time.Second
)

// A reading is the time on two clocks: the one on the wall, and one that only
// counts, from an arbitrary start.
type reading struct {
	wall time.Time // without a monotonic part
	mono time.Duration
}

func systemClock() func() reading {
	start := time.Now()
	return func() reading {
		now := time.Now()
		return reading{now.Round(0), now.Sub(start)}
	}
}

// jumped reports whether the machine slept or its clock was set between two
// readings that were to be after apart. Where the monotonic clock stands
// still during sleep (Linux, macOS), the wall clock runs ahead of it; where it
// does not (Windows), the second reading comes too late.
func jumped(first, second reading, after time.Duration) bool {
	mono := second.mono - first.mono
	drift := second.wall.Sub(first.wall) - mono
	return drift.Abs() >= jumpMin || mono-after >= jumpMin
}

// jumps reports a [Resume] for every jump but those that became known in
// another way, which rebase tells.
type jumps struct {
	now    func() reading
	rebase <-chan struct{}
}

func (j jumps) run(ctx context.Context, log *slog.Logger, report func(string)) error {
	last := j.now()
	look := time.NewTimer(lookEvery)
	defer look.Stop()
	log.Debug("watching")
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-j.rebase:
		case <-look.C:
			if now := j.now(); jumped(last, now, lookEvery) {
				log.Debug("clock jumped", "wall", now.wall.Sub(last.wall), "monotonic", now.mono-last.mono)
				report(Resume)
			}
		}
		last = j.now()
		look.Reset(lookEvery)
	}
}
