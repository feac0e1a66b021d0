package ticket

import (
	"testing"
	"time"
)

// Where a file system counts in seconds, a file that was changed within the
// last ones may change again and look the same.
func TestRestless(t *testing.T) {
	now := time.Unix(1_000_000, 900_000_000)
	for _, c := range []struct {
		changed time.Time // zero: the file is not there
		want    bool
	}{
		{now.Add(-40 * time.Millisecond), true},
		{now.Add(-60 * time.Millisecond), false},
		{now.Add(time.Hour), true},
		{now.Truncate(time.Second), true},
		{now.Truncate(time.Second).Add(-time.Second), true},
		{now.Truncate(time.Second).Add(-2 * time.Second), false},
		{time.Time{}, false},
	} {
		var l look
		if !c.changed.IsZero() {
			l.changed = c.changed.UnixNano()
		}
		if got := l.restless(now); got != c.want {
			t.Errorf("changed %v before: restless %v, want %v", now.Sub(c.changed), got, c.want)
		}
	}
}
