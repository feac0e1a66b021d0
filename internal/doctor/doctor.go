// Package doctor runs the chain of checks between a program of this user and
// the world behind the upstream proxy, and says which link is broken first,
// why, and what to do. It knows no other room: each check is a value with a
// function, made by whoever has the part.
package doctor

import (
	"context"
	"time"
)

// State is how a check ended.
type State string

// The states, worst last.
const (
	Skip State = "skip" // not asked, because an earlier link is broken or does not apply
	OK   State = "ok"
	Warn State = "warn"
	Fail State = "fail"
)

// A Finding is the result of one check. Seen, Action and Detail are plain
// sentences for people; none holds a token, a password or userinfo of a URL.
type Finding struct {
	ID     string        `json:"id"`    // stable: settings, listener, same_user, upstream, name, tcp, tls, challenge, clock, backend, caches, tgt, realm, spn, kdc, token, accepted, requests
	Title  string        `json:"title"` // "The upstream's name resolves"
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
	// one of them failed or was skipped, this is skipped.
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
	Time     time.Time `json:"time"`
	Version  string    `json:"version"`
	System   string    `json:"system"`
	Healthy  bool      `json:"healthy"` // nothing failed
	First    string    `json:"first"`   // ID of the first finding that failed, "" none
	Findings []Finding `json:"findings"`
}
