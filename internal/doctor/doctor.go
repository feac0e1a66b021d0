// Package doctor runs the chain of checks between a program of this user and
// the world behind the upstream proxy, and says which link is broken first,
// why, and what to do. It knows no other room: each check is a value with a
// function, made by whoever has the part.
//
// It promises to come to an end whatever a check does (hang, panic, answer
// nonsense), to keep the order it was given, and to blame nothing for what an
// earlier link has broken. [Redact] makes a report fit for strangers.
package doctor

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// State is how a check ended.
type State string

// The states, worst last.
const (
	Skip State = "skip" // not asked, because an earlier link is broken or it does not apply
	OK   State = "ok"
	Warn State = "warn"
	Fail State = "fail"
)

// A Finding is the result of one check. Seen and Action are plain sentences
// for people; none holds a token, a password or userinfo of a URL.
type Finding struct {
	ID     string        `json:"id"`    // stable: settings, listener, same_user, upstream, name, tcp, tls, challenge, clock, kerberos, caches, tgt, realm, spn, kdc, token, accepted, requests; certificate if asked for
	Title  string        `json:"title"` // a noun: "Name of the upstream"
	State  State         `json:"state"`
	Seen   string        `json:"seen"`
	Cause  string        `json:"cause"` // of the closed list of causes, "" none
	Action string        `json:"action"`
	Took   time.Duration `json:"-"`
	Millis int64         `json:"ms"`
}

// A Check is one link of the chain.
type Check struct {
	ID, Title string
	// Needs are the IDs of the checks without which this one says nothing: if
	// one of them failed, or was skipped for such a reason, this is skipped. A
	// check that returned Skip itself, because it does not apply, holds nobody
	// up.
	Needs []string
	// Limit is the most time it may take; 0 means five seconds. One that takes
	// longer fails with the cause Late, or "timeout".
	Limit time.Duration
	Late  string
	// Run looks. Only State, Seen, Cause and Action of what it returns are
	// used. It should end when ctx does; it is left behind if it does not.
	Run func(ctx context.Context) Finding
}

// A Report is a finished run.
type Report struct {
	Time     time.Time `json:"time"` // UTC, whole seconds
	Version  string    `json:"version"`
	System   string    `json:"system"`
	Healthy  bool      `json:"healthy"` // nothing failed
	First    string    `json:"first"`   // ID of the first finding that failed, "" none
	Findings []Finding `json:"findings"`
}

// Meta is what a report says beside its findings, and whom a run tells.
type Meta struct {
	Version, System string
	// Progress is told before each check that is run, the n-th of all from 0,
	// by the goroutine of Run. Nil: nobody wants to know.
	Progress func(n, all int, c Check)
}

const (
	defaultLimit = 5 * time.Second
	// grace is what a check gets on top, to say itself what took so long.
	grace = 500 * time.Millisecond
)

// Run runs the checks one after the other, and returns when the last has ended
// or been left behind. Once ctx has ended it runs no more of them.
func Run(ctx context.Context, checks []Check, m Meta) Report {
	r := Report{Time: time.Now().UTC().Truncate(time.Second), Version: m.Version, System: m.System, Findings: make([]Finding, 0, len(checks))}
	broken := map[string]string{} // by ID of a check, the title of the link at fault
	for n, c := range checks {
		began := time.Now()
		f := Finding{State: Skip}
		switch cause := firstOf(c.Needs, broken); {
		case ctx.Err() != nil:
			f.Seen = "The examination was ended before."
			broken[c.ID] = c.Title
		case cause != "":
			f.Seen = "Not asked: see \"" + cause + "\"."
			broken[c.ID] = cause
		default:
			if m.Progress != nil {
				m.Progress(n, len(checks), c)
			}
			if f = c.run(ctx); f.State == Fail {
				broken[c.ID] = c.Title
			}
		}
		f.ID, f.Title, f.Took = c.ID, c.Title, time.Since(began)
		f.Millis = f.Took.Milliseconds()
		f.Seen, f.Action = userinfo().ReplaceAllString(f.Seen, "$1"), userinfo().ReplaceAllString(f.Action, "$1")
		if f.State == Fail && r.First == "" {
			r.First = f.ID
		}
		r.Findings = append(r.Findings, f)
	}
	r.Healthy = r.First == "" && ctx.Err() == nil
	return r
}

func firstOf(needs []string, broken map[string]string) string {
	for _, id := range needs {
		if title, ok := broken[id]; ok {
			return title
		}
	}
	return ""
}

// run asks one check, but no longer than its limit.
func (c Check) run(ctx context.Context) Finding {
	limit := c.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	inner, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found := make(chan Finding, 1)
	go func() { found <- c.safely(inner) }()
	late := time.NewTimer(limit + grace)
	defer late.Stop()
	select {
	case f := <-found:
		return f
	case <-ctx.Done():
		return Finding{State: Skip, Seen: "The examination was ended before there was an answer."}
	case <-late.C:
	}
	cause := c.Late
	if cause == "" {
		cause = "timeout"
	}
	return Finding{State: Fail, Cause: cause, Seen: fmt.Sprintf("There was no answer within %v.", limit),
		Action: "Check the network or VPN connection, then try again."}
}

// safely makes a check that breaks a finding. The value of a panic may hold
// anything, so that only the runtime's own words are shown.
func (c Check) safely(ctx context.Context) (f Finding) {
	const report = "Try again; if it stays so, report it."
	defer func() {
		if v := recover(); v != nil {
			f = Finding{State: Fail, Cause: "internal", Seen: fmt.Sprintf("This check itself broke (%T).", v), Action: report}
			if e, ok := v.(runtime.Error); ok {
				f.Seen = "This check itself broke: " + e.Error() + "."
			}
		}
	}()
	f = c.Run(ctx)
	switch f.State {
	case Skip, OK, Warn, Fail:
		return f
	}
	return Finding{State: Fail, Cause: "internal", Seen: "This check did not come to a result.", Action: report}
}

// Find returns the finding with that ID.
func (r Report) Find(id string) (Finding, bool) {
	for _, f := range r.Findings {
		if f.ID == id {
			return f, true
		}
	}
	return Finding{}, false
}

// Leading is the finding to speak of first: what failed first, else what was
// warned of first; false where all is well.
func (r Report) Leading() (Finding, bool) {
	for _, want := range []State{Fail, Warn} {
		for _, f := range r.Findings {
			if f.State == want {
				return f, true
			}
		}
	}
	return Finding{}, false
}
