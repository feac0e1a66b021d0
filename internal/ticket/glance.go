package ticket

import "time"

// A Glance is how some files and folders looked at one moment: cheap to compare
// with how they look now, without reading them. It does not change.
type Glance struct{ files []glanced }

type glanced struct {
	path string
	look look
}

// settled is how long ago a file must have changed for its look to tell every
// later change: the clocks of file systems tick every few milliseconds, and a
// new file may get the number of the one before.
const settled = 50 * time.Millisecond

// settledCoarse is the same where file systems count in seconds, or in pairs of
// them.
const settledCoarse = 2*time.Second + settled

// restless reports whether the file may change again without looking so.
func (l look) restless(now time.Time) bool {
	wait := settled
	if l.changed%int64(time.Second) == 0 { // no fraction: maybe there never is one
		wait = settledCoarse
	}
	return l.changed > now.Add(-wait).UnixNano()
}

// GlanceAt looks at files, and follows links. It returns nil when one of them
// has changed a moment ago, or will do so by this machine's clock: then another
// change might not show.
func GlanceAt(paths []string) *Glance {
	g := &Glance{make([]glanced, len(paths))}
	now := time.Now()
	for i, p := range paths {
		g.files[i] = glanced{p, lookAt(p)}
		if g.files[i].look.restless(now) {
			return nil
		}
	}
	return g
}

// Same reports whether every file still looks as it did. A nil Glance knows
// nothing, and says no.
func (g *Glance) Same() bool {
	if g == nil {
		return false
	}
	for i := range g.files {
		if lookAt(g.files[i].path) != g.files[i].look {
			return false
		}
	}
	return true
}
