//go:build linux && !nogss

package gss

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"kerbpass/internal/ticket"
)

// retryAfter is how long another program takes to replace a cache.
const retryAfter = 50 * time.Millisecond

// Backend is the system's Kerberos library on one cache or on its default.
// Many may exist; all share the one loaded library.
type Backend struct {
	lib   *library
	cache string // as configured
	log   *slog.Logger

	where atomic.Pointer[string] // name of the cache or collection in use
	kcm   memoryCopy
}

// New loads the library and reads no ticket. A system without one is
// [errors.ErrUnsupported].
func New(c Config) (*Backend, error) {
	if strings.ContainsRune(c.Cache, 0) {
		return nil, openError("", errors.New("the cache name contains a NUL byte"))
	}
	lib, err := load(c.Flavour)
	if err != nil {
		return nil, openError(c.Flavour, err)
	}
	b := &Backend{lib: lib, cache: c.Cache, log: c.Log}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
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
	name := b.locate()
	c, err := b.lib.status(b.cache)
	b.kcm.compare(b.lib, c.Status, err)
	if c.Cache == "" {
		c.Cache = name
	}
	if err != nil {
		return ticket.Status{Cache: c.Cache}, &ticket.OpError{Op: "status", Subject: c.Cache, Err: err}
	}
	return c.Status, nil
}

// Caches implements [ticket.Backend].
func (b *Backend) Caches(ctx context.Context) ([]ticket.Cache, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	list, err := b.lib.caches(b.cache)
	if err != nil {
		return nil, &ticket.OpError{Op: "caches", Subject: *b.where.Load(), Err: err}
	}
	return list, nil
}

// Token implements [ticket.Backend]. A name without a realm gets the default
// realm of krb5.conf.
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
	token, err := b.try(spn)
	if !errors.Is(err, ticket.ErrCache) && !errors.Is(err, ticket.ErrNoTicket) {
		return token, err
	}
	// kinit -R and sssd empty a cache before they fill it again.
	select {
	case <-ctx.Done():
		return nil, err
	case <-time.After(retryAfter):
	}
	return b.try(spn)
}

// try asks once and finds out what a failure means.
func (b *Backend) try(spn string) ([]byte, error) {
	cache := b.cache
	if strings.HasPrefix(*b.where.Load(), "KCM:") && b.lib.ccCopy != nil {
		c, err := b.kcm.borrow(b.lib, b.cache)
		if err != nil {
			return nil, err
		}
		defer b.kcm.giveBack(b.lib, c)
		cache = c.name
	}
	token, err := b.lib.token(cache, spn)
	var e *Error
	if err == nil || !errors.As(err, &e) {
		return token, err
	}
	if e.Kind == nil || aboutCache(e.Minor) {
		b.kcm.drop(b.lib)
		b.explain(e)
	}
	return nil, e
}

// explain looks at the cache itself: the libraries use the same code for a
// missing cache, a damaged one, and an expired ticket.
func (b *Backend) explain(e *Error) {
	c, err := b.lib.status(b.cache)
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
	kind, rest, _ := strings.Cut(*b.where.Load(), ":")
	switch kind {
	case "FILE", "WRFILE":
		return fileStamp(rest)
	case "DIR":
		if file, single := strings.CutPrefix(rest, ":"); single {
			return fileStamp(file)
		}
		primary := filepath.Join(rest, "primary")
		current := "tkt" // without a primary file
		if text, err := os.ReadFile(primary); err == nil {
			if line, _, _ := strings.Cut(string(text), "\n"); line != "" {
				current = filepath.Base(line)
			}
		}
		return fileStamp(primary) + " " + current + " " + fileStamp(filepath.Join(rest, current))
	}
	return ""
}

func fileStamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "absent"
	}
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprint(st.Dev, st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
}

// Watch implements [ticket.Backend].
func (b *Backend) Watch(context.Context, func()) error { return errors.ErrUnsupported }

// Renew implements [ticket.Backend].
func (b *Backend) Renew(context.Context, ...string) error { return errors.ErrUnsupported }

// SignIn implements [ticket.Backend].
func (b *Backend) SignIn(context.Context, ticket.Login) error { return errors.ErrUnsupported }

// SignOut implements [ticket.Backend].
func (b *Backend) SignOut(context.Context) error { return errors.ErrUnsupported }
