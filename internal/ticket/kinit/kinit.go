// Package kinit runs the system's kinit, klist and kdestroy where nothing in
// the process can do their work: on macOS, and for smart cards on Linux.
//
// It promises that a password goes through standard input and nowhere else,
// that a tool has no terminal to ask at, that each call of SignIn runs kinit
// once, and that a tool and all it has started are gone when a call returns.
// It never guesses: an answer it does not understand is an error.
package kinit

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kerbpass/internal/ticket"
)

// Dialect is whose tools they are.
type Dialect string

// The dialects. Apple's tools are Heimdal's.
const (
	Heimdal Dialect = "heimdal"
	MIT     Dialect = "mit"
)

// Config says which tools to run. The zero value of Dir, Limit and Log is good.
type Config struct {
	Dir     string        // folder of the tools, absolute; /usr/bin
	Dialect Dialect       // required
	Env     []string      // what the tools may see a few variables of: os.Environ()
	Limit   time.Duration // longest silence of a tool that works; 60 s
	Log     *slog.Logger  // nil discards
}

// Tools are the programs in one folder. All methods are safe for concurrent
// use. A program that is missing is [errors.ErrUnsupported].
type Tools struct {
	dir     string
	dialect Dialect
	env     []string
	limit   time.Duration
	log     *slog.Logger
}

// New checks c. It does no I/O.
func New(c Config) (*Tools, error) {
	if c.Dir == "" {
		c.Dir = "/usr/bin"
	}
	switch {
	case !canRun:
		return nil, &ticket.OpError{Op: "open", Subject: "kinit", Err: errors.ErrUnsupported}
	case !filepath.IsAbs(c.Dir):
		return nil, errors.New("kinit: the folder of the tools is not absolute: " + c.Dir)
	case c.Dialect != Heimdal && c.Dialect != MIT:
		return nil, errors.New("kinit: unknown dialect " + string(c.Dialect))
	case c.Limit < 0:
		return nil, errors.New("kinit: the limit is negative")
	}
	if c.Limit == 0 {
		c.Limit = time.Minute
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Tools{dir: c.Dir, dialect: c.Dialect, env: environment(c.Env), limit: c.Limit, log: c.Log}, nil
}

// environment keeps what the libraries read, and fixes language and time zone
// of the output: in UTC no hour is ambiguous or missing.
func environment(all []string) []string {
	kept := slices.DeleteFunc(slices.Clone(all), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "HOME", "PATH", "TMPDIR", "USER", "LOGNAME":
			return false
		case "KRB5_TRACE": // would mix with the output
			return true
		}
		return !strings.HasPrefix(name, "KRB5")
	})
	return append(kept, "LC_ALL=C", "TZ=UTC0")
}

// cacheArgs names a cache to any of the tools; "" is the default one.
func (t *Tools) cacheArgs(cache string) []string {
	if cache == "" {
		return nil
	}
	return []string{"-c", cache}
}

// List reads every cache of the collection, and the default one where that lies
// outside. MIT's klist has no output for programs: [errors.ErrUnsupported].
func (t *Tools) List(ctx context.Context) ([]ticket.Cache, error) {
	if t.dialect == MIT {
		return nil, &ticket.OpError{Op: "caches", Subject: "klist", Err: errors.ErrUnsupported}
	}
	caches, err := t.list(ctx)
	if err != nil {
		return nil, &ticket.OpError{Op: "caches", Subject: "klist", Err: err}
	}
	return caches, nil
}

func (t *Tools) list(ctx context.Context) ([]ticket.Cache, error) {
	read := func(parse func([]byte) ([]ticket.Cache, error), args ...string) ([]ticket.Cache, error) {
		out, err := t.run(ctx, "klist", args...)
		if err != nil {
			return nil, err
		}
		return parse(out)
	}
	standard, err := read(parseJSON, "--json")
	if err != nil {
		return nil, err
	}
	caches, err := read(parseJSON, "--json", "-A")
	if err != nil {
		return nil, err
	}
	// The JSON form leaves out flags, renewal and, in Heimdal 7, the end of
	// what has ended.
	details, err := read(parseVerbose, "-A", "-v")
	if err != nil {
		t.log.Debug("klist -v is of no use", "err", err)
	}
	return combine(standard, caches, details), nil
}

// Renew gets a TGT with a later end into cache.
func (t *Tools) Renew(ctx context.Context, cache string) error {
	out, err := t.run(ctx, "kinit", append([]string{"-R"}, t.cacheArgs(cache)...)...)
	return opError("renew", cache, meaning(renewWords, "", out, err))
}

// SignOut destroys cache with all its tickets.
func (t *Tools) SignOut(ctx context.Context, cache string) error {
	out, err := t.converse(ctx, "kdestroy", t.cacheArgs(cache), nil, nil)
	if err == nil && strings.Contains(string(out), "No credentials cache found") {
		err = errNothingThere // MIT's calls it a success
	}
	return opError("sign out", cache, meaning(destroyWords, "", out, err))
}

func opError(op, subject string, err error) error {
	if err == nil {
		return nil
	}
	return &ticket.OpError{Op: op, Subject: subject, Err: err}
}
