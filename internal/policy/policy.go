// Package policy reads what the organisation has laid down for this machine
// and this person, and notices when that changes.
//
// It promises to take the word of nobody else: a file counts only if root owns
// it and nobody but root could have put it there, the registry only in the keys
// that Windows keeps for policies. It knows two strengths, locked and preset,
// and says of each value where it stands. What cannot be understood is never
// passed over in silence: [Policy.Broken] says that something which may have
// been meant as a rule is missing.
//
// It refuses to know the settings: which keys there are, and of which type,
// is for whoever uses the values. It writes nothing.
package policy

import (
	"context"
	"slices"
	"time"
)

// Value is one setting as it was found.
type Value struct {
	Key  string // "kerberos.enabled"
	Raw  any    // bool, int64, string or []any; nil where the source's type is none of these
	Name string // where it stands: a file, or a key of the registry
}

// Problem is one thing that the administrator should put right.
type Problem struct {
	Name         string // as of [Value]
	Line, Column int    // from 1; 0 unknown
	Text         string // what is wrong, without a full stop
	Hint         string // what to do, a clause without a full stop
	Broken       bool   // a rule may be missing; false: what was passed over was not the organisation's to say
}

// Policy is everything that was found. Of one key the first value counts.
type Policy struct {
	Locked   []Value // nobody but the organisation changes these
	Preset   []Value // what counts until the person chooses otherwise
	Problems []Problem
}

// Broken reports whether a rule may be missing because its source could not be
// understood.
func (p Policy) Broken() bool {
	return slices.ContainsFunc(p.Problems, func(x Problem) bool { return x.Broken })
}

// add appends what a weaker source says.
func (p *Policy) add(q Policy) {
	p.Locked = append(p.Locked, q.Locked...)
	p.Preset = append(p.Preset, q.Preset...)
	p.Problems = append(p.Problems, q.Problems...)
}

// Source is a place where policies are kept. Its methods are safe for
// concurrent use.
type Source struct {
	read  func() Policy
	watch func(ctx context.Context, report func()) error
}

// System is where this system keeps them: /etc/kerbpass on Linux,
// Software\Policies\Kerbpass of the registry on Windows, the managed
// preferences on macOS. Where there is no such place it holds nothing.
func System() *Source { return systemSource() }

// Read reads everything anew.
func (s *Source) Read() Policy {
	if s.read == nil {
		return Policy{}
	}
	return s.read()
}

const (
	// settle is how long a source must be left alone before it is read: tools
	// take a policy away and write it again in quick succession.
	settle = 200 * time.Millisecond
	// settleMax bounds that for a source which is never left alone.
	settleMax = 2 * time.Second
)

// Watch calls report soon after something may have changed, and once when it
// has begun to watch, until ctx ends. It returns nil then, and at once where
// there is nothing to watch. An error means that changes go unnoticed.
func (s *Source) Watch(ctx context.Context, report func()) error {
	if s.watch == nil {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stirred := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		ended <- s.watch(ctx, func() {
			select {
			case stirred <- struct{}{}:
			default:
			}
		})
	}()
	settled := time.NewTimer(0)
	defer settled.Stop()
	settled.Stop()
	var since time.Time // of the first change not yet reported
	for {
		select {
		case err := <-ended:
			return err
		case <-stirred:
			if since.IsZero() {
				since = time.Now()
			}
			settled.Reset(min(settle, max(0, settleMax-time.Since(since))))
		case <-settled.C:
			since = time.Time{}
			report()
		}
	}
}
