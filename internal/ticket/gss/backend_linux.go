//go:build linux && !nogss

package gss

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"kerbpass/internal/ticket"
)

// retryAfter is how long another program takes to replace a cache.
const retryAfter = 50 * time.Millisecond

// How often a look is repeated where there was a ticket a moment ago. Whoever
// waits for a token would rather wait a second than fail because kinit was not
// given the processor in between; a look is repeated by itself.
const (
	patientLook  = 4
	patientToken = 20
)

// Backend is the system's Kerberos library on one cache or on its default.
// Many may exist; all share the one loaded library.
type Backend struct {
	lib            *library
	cache, service string // as configured
	log            *slog.Logger

	where   atomic.Pointer[string] // name of the cache or collection in use
	looking sync.Mutex             // held by whoever reads the caches to choose one
	choice  atomic.Pointer[choice] // nil: no ticket is known
	stamped atomic.Pointer[stamped]
	good    atomic.Int64 // when a ticket was last seen, in Unix nanoseconds
	gate    gate
	copies  memoryCopy
	signIns chan struct{} // one for each that is under way
}

// New loads the library and reads no ticket. A system without one is
// [errors.ErrUnsupported].
func New(c Config) (*Backend, error) {
	if strings.ContainsRune(c.Cache, 0) {
		return nil, openError("", errors.New("the cache name contains a NUL byte"))
	}
	if c.Service != "" {
		if err := checkSPN(c.Service); err != nil {
			return nil, openError("", err)
		}
	}
	lib, err := load(c.Flavour)
	if err != nil {
		return nil, openError(c.Flavour, err)
	}
	b := &Backend{lib: lib, cache: c.Cache, service: c.Service, log: c.Log, signIns: make(chan struct{}, maxSignIns)}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	b.copies.log = b.log
	b.locate()
	b.log.Debug("kerberos library opened", "backend", lib.name, "cache", *b.where.Load())
	return b, nil
}

// locate notes which cache is in use; krb5.conf may name another default later.
func (b *Backend) locate() string {
	name := b.cache
	if name == "" {
		name = b.lib.defaultName()
	}
	if !strings.Contains(name, ":") || strings.HasPrefix(name, "/") {
		name = "FILE:" + name // both libraries: no type means FILE
	}
	b.where.Store(&name)
	return name
}

// Name implements [ticket.Backend].
func (b *Backend) Name() string { return b.lib.name }

// Status implements [ticket.Backend].
func (b *Backend) Status(ctx context.Context) (ticket.Status, error) {
	if err := ctx.Err(); err != nil {
		return ticket.Status{}, err
	}
	var c contents
	err := b.retrying(ctx, 0, patientLook, func() (err error) {
		b.gate.enter()
		defer b.gate.leave()
		c, err = b.look()
		return err
	})
	if err != nil {
		return ticket.Status{Cache: c.Name}, &ticket.OpError{Op: "status", Subject: c.Name, Err: err}
	}
	return c.status(), nil
}

// Token implements [ticket.Backend]. A name without a realm gets the one that
// krb5.conf gives its host, else that of the ticket.
func (b *Backend) Token(ctx context.Context, spn string) ([]byte, error) {
	token, err := b.token(ctx, spn)
	if err != nil {
		return nil, &ticket.OpError{Op: "token", Subject: spn, Err: err}
	}
	return token, nil
}

func (b *Backend) token(ctx context.Context, spn string) ([]byte, error) {
	if err := checkSPN(spn); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var token []byte
	err := b.retrying(ctx, 1, patientToken, func() (err error) {
		token, err = b.try(spn)
		return err
	})
	return token, err
}

// try asks once and finds out what a failure means.
func (b *Backend) try(spn string) ([]byte, error) {
	b.gate.enter()
	defer b.gate.leave()
	ch, err := b.current()
	if err != nil {
		return nil, err
	}
	cache, service, makers := ch.cache, b.qualified(ch, spn), ch.makers
	if b.copied() {
		c, err := b.copies.borrow(b.lib, cache, service)
		if err != nil {
			b.choice.Store(nil) // it may be gone, and another one be there
			return nil, err
		}
		defer b.copies.giveBack(b.lib, c)
		cache, makers = c.name, &c.makers
	}
	if token := makers.token(service); token != nil {
		return token, nil
	}
	token, err := b.lib.token(cache, service)
	var e *Error
	if err == nil && (ch.quiet || b.copied()) {
		makers.learn(b.lib, cache, service)
	}
	if err == nil || !errors.As(err, &e) {
		return token, err
	}
	if e.Kind == nil || aboutCache(e.Minor) {
		b.copies.drop(b.lib)
		b.explain(e)
	}
	return nil, e
}

// copied reports whether tokens come from a copy of the cache.
func (b *Backend) copied() bool {
	kind := kindOfCache(*b.where.Load())
	return kind == "KCM" || kind == "KEYRING"
}

// explain looks at the caches anew: the libraries use the same code for a
// missing cache, a damaged one, and an expired ticket.
func (b *Backend) explain(e *Error) {
	c, err := b.look()
	var seen *Error
	switch {
	case errors.As(err, &seen):
		e.Kind, e.Text = seen.Kind, seen.Text
	case c.expired:
		e.Kind = ticket.ErrExpired
	case aboutCache(e.Minor):
		e.Kind = ticket.ErrCache
	}
}

// Stamp implements [ticket.Backend] for FILE and DIR caches.
func (b *Backend) Stamp() string {
	stamp, _ := b.stampNow()
	return stamp
}

// A stamped is a stamp that was once made, and is the stamp while the files
// that it tells of look the same.
type stamped struct {
	where string
	files *ticket.Glance
	stamp string
}

// stampNow is quiet when the files have not changed just before: then the
// stamp tells every later change.
func (b *Backend) stampNow() (stamp string, quiet bool) {
	where := *b.where.Load()
	if s := b.stamped.Load(); s != nil && s.where == where && s.files.Same() {
		return s.stamp, true
	}
	kind, rest, _ := strings.Cut(where, ":")
	file, single := cacheFile(where)
	var files *ticket.Glance
	switch {
	case single:
		files = ticket.GlanceAt([]string{file})
		stamp = fileStamp(file)
	case kind == "DIR":
		files = ticket.GlanceAt(dirPaths(rest))
		stamp = dirStamp(rest)
	}
	quiet = files.Same() // still, so stamp is of what was looked at
	if quiet {
		b.stamped.Store(&stamped{where, files, stamp})
	}
	return stamp, quiet
}

// dirPaths are the files and folders that dirStamp depends on.
func dirPaths(dir string) []string {
	paths := []string{dir}
	for _, name := range collectionFiles(dir) {
		paths = append(paths, filepath.Join(dir, name))
	}
	return paths
}

// dirStamp covers every cache of the collection, because a change in one that
// is not in use may make it the one.
func dirStamp(dir string) string {
	stamp := fileStamp(dir)
	for _, name := range collectionFiles(dir) {
		stamp += " " + name + " " + fileStamp(filepath.Join(dir, name))
	}
	return stamp
}

// collectionFiles are the files of a DIR collection, in order: caches, and the
// one that names the default.
func collectionFiles(dir string) []string {
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	names, _ := d.Readdirnames(2 * maxCaches)
	names = slices.DeleteFunc(names, func(name string) bool { return !inCollection(name) })
	slices.Sort(names)
	return names[:min(len(names), maxCaches)]
}

// inCollection reports whether a file of a DIR collection's folder is one of
// them.
func inCollection(name string) bool {
	return name == "primary" || strings.HasPrefix(name, "tkt")
}

func fileStamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "absent"
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprint(st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
}
