package krb5

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"kerbpass/internal/ticket"
)

// maxCaches bounds a DIR collection.
const maxCaches = 64

// files lists the caches of a location, in a stable order. A folder that does
// not exist holds none.
func (l location) files() ([]string, error) {
	if l.dir == "" {
		return []string{l.file}, nil
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ticket.ErrCache, err)
	}
	var files []string
	for _, e := range entries {
		if isSubsidiary(e.Name()) && len(files) < maxCaches {
			files = append(files, filepath.Join(l.dir, e.Name()))
		}
	}
	return files, nil
}

// stamp is the fingerprint of all caches of a location and of what chooses
// among them.
func (l location) stamp() string {
	if l.dir == "" {
		return l.file + "|" + stampFile(l.file)
	}
	var s strings.Builder
	s.WriteString(l.pointer() + "|" + stampFile(l.pointer()))
	files, _ := l.files() // an error shows when they are read
	for _, f := range files {
		s.WriteString("|" + filepath.Base(f) + "|" + stampFile(f))
	}
	return s.String()
}

// paths are the files and folders that stamp depends on.
func (l location) paths() []string {
	if l.dir == "" {
		return []string{l.file}
	}
	files, _ := l.files()
	return append(files, l.dir, l.pointer())
}

// A candidate is a cache file of a collection, readable or not.
type candidate struct {
	path string
	file *cacheFile // nil: err says why
	err  error
}

// A collection is what a location holds. The default cache is always among the
// candidates, whether its file exists or not.
type collection struct {
	location   location
	primary    string
	candidates []candidate
	caches     []ticket.Cache // of the candidates
	inUse      int            // index of the one in use
}

// survey reads all caches of a location and chooses the one to use.
func (b *Backend) survey(l location, c conf) (*collection, error) {
	primary, err := l.primary()
	if err != nil {
		return nil, err
	}
	files, err := l.files()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(files, primary) {
		files = append(files, primary)
	}
	found := &collection{location: l, primary: primary}
	for _, path := range files {
		file, err := readCache(path, c)
		found.candidates = append(found.candidates, candidate{path, file, err})
		found.caches = append(found.caches, found.describe(path, file, err))
	}
	found.inUse = ticket.Choose(found.caches, b.realm(c), time.Now())
	if found.inUse < 0 {
		found.inUse = slices.Index(files, primary)
	}
	return found, nil
}

// realm is where the configured service lies, "" where none is configured.
func (b *Backend) realm(c conf) string {
	if b.service.host == "" {
		return ""
	}
	return cmp.Or(b.service.realmBy(c), c.defaultRealm())
}

func (f *collection) used() candidate { return f.candidates[f.inUse] }

func (f *collection) describe(path string, file *cacheFile, err error) ticket.Cache {
	out := ticket.Cache{Name: f.location.full(path), Default: path == f.primary, Err: err}
	if err == nil {
		file.describe(&out)
	}
	return out
}

// describe fills in what a cache holds.
func (c *cacheFile) describe(out *ticket.Cache) {
	out.Principal, out.Realm = c.client.String(), c.client.realm
	if tgt := c.tgt(); tgt != nil {
		out.Expires = c.local(tgt.end)
	}
	for i := range c.creds {
		t := c.describeTicket(&c.creds[i])
		if c.creds[i].server.parts[0] == "krbtgt" {
			out.TGTs = append(out.TGTs, t)
		} else {
			out.Services = append(out.Services, t)
		}
	}
}

// canRenew reports that a later end is to be had: a KDC leaves the flag where
// renew-until is the end itself.
func (e *cred) canRenew() bool {
	return e.flags&ticket.FlagRenewable != 0 && e.renew.After(e.end)
}

func (c *cacheFile) describeTicket(e *cred) ticket.Ticket {
	t := ticket.Ticket{
		Server: e.server.String(), Flags: e.flags, EncType: ticket.EncType(e.etype),
		Start: c.local(e.start), Expires: c.local(e.end),
	}
	if e.canRenew() {
		t.RenewUntil = c.local(e.renew)
	}
	return t
}

// Caches implements [ticket.Backend]: the one file, or all files of a DIR
// collection. The one in use has the service tickets kept in memory as well.
func (b *Backend) Caches(ctx context.Context) ([]ticket.Cache, error) {
	found, _, err := b.surveyNow(ctx)
	if err != nil {
		return nil, &ticket.OpError{Op: "caches", Subject: b.cache, Err: err}
	}
	var out []ticket.Cache
	for i, c := range found.caches {
		switch {
		case errors.Is(c.Err, ticket.ErrNoTicket):
			continue // an empty file, or none
		case c.Err != nil && found.location.dir == "":
			return nil, &ticket.OpError{Op: "caches", Subject: c.Name, Err: c.Err}
		}
		if c.Used = i == found.inUse; c.Used {
			c.Services = append(c.Services, b.remembered(c.Name)...)
		}
		out = append(out, c)
	}
	return out, nil
}

// remembered lists the service tickets that were fetched for the cache of this
// name and are not in it.
func (b *Backend) remembered(name string) []ticket.Ticket {
	b.mu.Lock()
	s := b.last
	b.mu.Unlock()
	if s == nil || s.name != name {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []ticket.Ticket
	for _, as := range slices.Sorted(maps.Keys(s.services)) {
		p := s.services[as].pass
		stored := func(e cred) bool { return bytes.Equal(e.ticket, p.ticket) }
		if p != nil && !slices.ContainsFunc(s.file.creds, stored) {
			out = append(out, s.file.describeTicket(&p.cred))
		}
	}
	return out
}

// surveyNow is survey of the configured location, with the krb5.conf that goes
// with it.
func (b *Backend) surveyNow(ctx context.Context) (*collection, conf, error) {
	if err := ctx.Err(); err != nil {
		return nil, conf{}, err
	}
	b.mu.Lock()
	l, c, err := b.locate()
	b.mu.Unlock()
	if err != nil {
		return nil, c, err
	}
	found, err := b.survey(l, c)
	return found, c, err
}
