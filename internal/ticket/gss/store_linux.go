//go:build linux && !nogss

package gss

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// storeCalls are the functions of libkrb5 that write caches.
type storeCalls struct {
	ccSetDefaultName func(ctx handle, name string) int32
	ccNewUnique      func(ctx handle, kind string, hint handle, out *handle) int32
	ccInit           func(ctx, cc, principal handle) int32
	ccStore          func(ctx, cc handle, c *cred) int32
	ccDestroy        func(ctx, cc handle) int32
	ccSwitch         func(ctx, cc handle) int32
	ccCanSwitch      func(ctx handle, kind string) int32
	ccCopy           func(ctx, from, to handle) int32 // Heimdal: also initializes to
	ccMove           func(ctx, from, to handle) int32 // MIT
}

func (c *storeCalls) bind(b *binder, krb5 uintptr, mit bool) {
	b.bind(krb5, &c.ccSetDefaultName, "krb5_cc_set_default_name")
	b.bind(krb5, &c.ccNewUnique, "krb5_cc_new_unique")
	b.bind(krb5, &c.ccInit, "krb5_cc_initialize")
	b.bind(krb5, &c.ccStore, "krb5_cc_store_cred")
	b.bind(krb5, &c.ccDestroy, "krb5_cc_destroy")
	b.bind(krb5, &c.ccSwitch, "krb5_cc_switch")
	b.bind(krb5, &c.ccCanSwitch, "krb5_cc_support_switch")
	if mit {
		b.bind(krb5, &c.ccCopy, "krb5_cc_copy_creds")
		b.bind(krb5, &c.ccMove, "krb5_cc_move")
	} else {
		b.bind(krb5, &c.ccCopy, "krb5_cc_copy_cache")
	}
}

// inMemory lends f a new cache in the library's memory and destroys it.
func (l *library) inMemory(ctx handle, f func(mem handle) error) error {
	var mem handle
	if code := l.ccNewUnique(ctx, "MEMORY", nil, &mem); code != 0 {
		return l.krb5Error(ctx, code)
	}
	defer l.ccDestroy(ctx, mem)
	return f(mem)
}

// replace puts what is in mem into the cache called name, in one step where
// the type of that cache has one. Mem stays.
func (l *library) replace(ctx, mem handle, name string) error {
	if l.ccMove != nil {
		return l.moveInto(ctx, mem, name)
	}
	return l.renameInto(ctx, mem, name)
}

// moveInto moves a second copy, because krb5_cc_move destroys what it moves
// when it succeeds and only then.
func (l *library) moveInto(ctx, mem handle, name string) error {
	principal, err := l.principalOf(ctx, mem)
	if err != nil {
		return err
	}
	defer l.freePrincipal(ctx, principal)
	var to, second handle
	code := l.ccResolve(ctx, name, &to)
	if code != 0 {
		return l.krb5Error(ctx, code)
	}
	defer l.ccClose(ctx, to)
	if code = l.ccNewUnique(ctx, "MEMORY", nil, &second); code != 0 {
		return l.krb5Error(ctx, code)
	}
	if code = l.ccInit(ctx, second, principal); code == 0 {
		if code = l.ccCopy(ctx, mem, second); code == 0 {
			if code = l.ccMove(ctx, second, to); code == 0 {
				return nil
			}
		}
	}
	failed := l.krb5Error(ctx, code)
	l.ccDestroy(ctx, second)
	return failed
}

// renameInto is for Heimdal, which moves between caches of one type only, and
// whose FILE and DIR caches are plain files.
func (l *library) renameInto(ctx, mem handle, name string) error {
	path, ok := cacheFile(name)
	if !ok {
		return errors.New("cannot be written with this library: " + name)
	}
	temporary := filepath.Join(filepath.Dir(path), ".kerbpass-"+rand.Text())
	var to handle
	code := l.ccResolve(ctx, "FILE:"+temporary, &to)
	if code != 0 {
		return l.krb5Error(ctx, code)
	}
	code = l.ccCopy(ctx, mem, to)
	if code != 0 {
		failed := l.krb5Error(ctx, code)
		l.ccDestroy(ctx, to)
		return failed
	}
	l.ccClose(ctx, to)
	if err := os.Rename(temporary, path); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// switchTo makes the cache called name the default of its collection.
func (l *library) switchTo(ctx handle, name string) error {
	if l.ccMove == nil {
		return switchFolder(name)
	}
	var cc handle
	code := l.ccResolve(ctx, name, &cc)
	if code == 0 {
		defer l.ccClose(ctx, cc)
		code = l.ccSwitch(ctx, cc)
	}
	if code != 0 {
		return l.krb5Error(ctx, code)
	}
	return nil
}

// switchFolder does it for a DIR collection. Heimdal's own switch refuses every
// name (seen with 7.8).
func switchFolder(name string) error {
	path, ok := cacheFile(name)
	if !ok {
		return errors.New("cannot be made the default with this library: " + name)
	}
	folder, file := filepath.Split(path)
	temporary := folder + ".kerbpass-" + rand.Text()
	if err := os.WriteFile(temporary, []byte(file+"\n"), 0o600); err != nil {
		return err
	}
	if err := os.Rename(temporary, folder+"primary"); err != nil {
		return errors.Join(err, os.Remove(temporary))
	}
	return nil
}

// cacheFile is the file of a FILE cache or of one cache in a DIR collection.
func cacheFile(name string) (path string, ok bool) {
	kind, rest, _ := strings.Cut(name, ":")
	switch kind {
	case "FILE", "WRFILE":
		return rest, true
	case "DIR":
		return strings.CutPrefix(rest, ":")
	}
	return "", false
}

// principalOf is whose cache cc is; the caller frees it.
func (l *library) principalOf(ctx, cc handle) (principal handle, err error) {
	if code := l.ccPrincipal(ctx, cc, &principal); code != 0 {
		return nil, l.krb5Error(ctx, code)
	}
	return principal, nil
}

// fullName is the name of cc with its type.
func (l *library) fullName(ctx, cc handle) (string, error) {
	var s handle
	if code := l.ccFullName(ctx, cc, &s); code != 0 {
		return "", l.krb5Error(ctx, code)
	}
	defer l.freeString(ctx, s)
	return goString(s), nil
}
