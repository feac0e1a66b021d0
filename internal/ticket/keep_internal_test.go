package ticket

import (
	"testing"
	"time"
)

func TestRenewAt(t *testing.T) {
	start := time.Date(2026, 1, 2, 8, 0, 0, 0, time.UTC)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	const h = time.Hour
	for _, tt := range []struct {
		name   string
		st     Status
		remind time.Duration
		want   time.Time
	}{
		{"half of its life", Status{Start: at(0), Expires: at(10 * h), RenewUntil: at(70 * h), Renewable: true}, h / 2, at(5 * h)},
		{"before the reminder", Status{Start: at(0), Expires: at(h), RenewUntil: at(7 * h), Renewable: true}, 50 * time.Minute, at(10 * time.Minute)},
		{"a life shorter than the reminder", Status{Start: at(0), Expires: at(time.Minute), RenewUntil: at(h), Renewable: true}, h / 2, at(30 * time.Second)},
		{"start not known", Status{Expires: at(10 * h), RenewUntil: at(70 * h), Renewable: true}, h, at(9 * h)},
		{"start after the end", Status{Start: at(11 * h), Expires: at(10 * h), RenewUntil: at(70 * h), Renewable: true}, h, at(9 * h)},
		{"a little to gain", Status{Start: at(0), Expires: at(10 * h), RenewUntil: at(11 * h), Renewable: true}, h / 2, at(5 * h)},
		{"nothing to gain", Status{Start: at(0), Expires: at(10 * h), RenewUntil: at(10 * h), Renewable: true}, h / 2, time.Time{}},
		{"not renewable", Status{Start: at(0), Expires: at(10 * h)}, h / 2, time.Time{}},
		{"no ticket", Status{}, h / 2, time.Time{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := renewAt(tt.st, tt.remind); !got.Equal(tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
