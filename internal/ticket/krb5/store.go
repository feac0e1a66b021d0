package krb5

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"kerbpass/internal/ticket"
)

// replaceFile puts data at path in one step, owner-only: a reader sees the old
// content or the new one, after a power cut too. What is there is replaced only
// if it could be a cache of this user: no link, which would lead elsewhere, and
// nobody else's.
func replaceFile(path string, data []byte) (err error) {
	if err := replaceable(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func replaceable(path string) error {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !fi.Mode().IsRegular():
		return fmt.Errorf("%s is not replaced: it is not a regular file", path)
	}
	if err := owned(fi); err != nil {
		return fmt.Errorf("%s is not replaced: %w", path, err)
	}
	return nil
}

// write replaces the cache file at path. The caller holds b.writing.
func (b *Backend) write(path string, c *cacheFile) error {
	data, err := c.marshal()
	if err != nil {
		return err
	}
	defer clear(data) // session keys
	if err := replaceFile(path, data); err != nil {
		return fmt.Errorf("write ticket cache: %w", err)
	}
	b.log.Info("ticket cache written", "cache", path, "tickets", len(c.creds))
	return nil
}

// keep stores what a sign-in brought where kinit would, and makes it the
// default of a collection.
func (b *Backend) keep(l location, c conf, got *cacheFile) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	if l.dir == "" {
		return b.write(l.file, got)
	}
	if err := makeFolder(l.dir); err != nil {
		return fmt.Errorf("folder of the ticket caches: %w", err)
	}
	found, err := b.survey(l, c)
	if err != nil {
		return err
	}
	path := found.home(got.client)
	if err := b.write(path, got); err != nil {
		return err
	}
	if path == found.primary {
		return nil
	}
	if err := replaceFile(l.pointer(), []byte(filepath.Base(path)+"\n")); err != nil {
		return fmt.Errorf("make the new ticket cache the default: %w", err)
	}
	return nil
}

// home is the file for this client's tickets: the cache that is already the
// client's, else the default one if that is nobody's, else a new one.
func (f *collection) home(client principal) string {
	nobodys := false
	for _, c := range f.candidates {
		if c.file != nil && c.file.client.String() == client.String() {
			return c.path
		}
		nobodys = nobodys || c.path == f.primary && c.file == nil
	}
	if nobodys {
		return f.primary
	}
	return filepath.Join(f.location.dir, "tkt"+rand.Text()[:8])
}

// makeFolder makes sure that a collection's folder is there and this user's.
func makeFolder(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	fi, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is not a folder", dir)
	}
	if err := owned(fi); err != nil {
		return fmt.Errorf("%s is not used: %w", dir, err)
	}
	return nil
}

// SignOut implements [ticket.Backend].
func (b *Backend) SignOut(ctx context.Context) error {
	name, err := b.signOut(ctx)
	if err != nil {
		return &ticket.OpError{Op: "sign out", Subject: name, Err: err}
	}
	return nil
}

func (b *Backend) signOut(ctx context.Context) (name string, err error) {
	b.writing.Lock()
	defer b.writing.Unlock()
	found, _, err := b.surveyNow(ctx)
	if err != nil {
		return b.cache, err
	}
	path := found.used().path
	name = found.location.full(path)
	if err := replaceable(path); err != nil {
		return name, err
	}
	err = os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return name, fmt.Errorf("%w: %s does not exist", ticket.ErrNoTicket, path)
	}
	return name, err
}
