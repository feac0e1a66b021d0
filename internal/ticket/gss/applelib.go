//go:build (linux || darwin) && !nogss

package gss

import (
	"context"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
)

// appleLibrary is GSS.framework: GSS-API with Heimdal's extensions, of which
// only public ones are used. It is never closed.
type appleLibrary struct {
	gssCalls
	ntHostbased handle // OID of names like HTTP@host (RFC 2743 section 4.1)

	inquireCred func(minor *uint32, cred handle, name *handle, lifetime *uint32, usage handle, mechs handle) uint32
	displayName func(minor *uint32, name handle, out *buffer, nameType handle) uint32

	// iterCreds hands every credential to each, with user; a NULL one ends the
	// list. It may go on after it has returned, on other threads. Nil: this
	// library knows the default credential only, as Heimdal 7 does.
	iterCreds func(minor *uint32, flags uint32, mech handle, user, each uintptr) uint32
}

// openApple loads the library at path.
func openApple(path string) (*appleLibrary, error) {
	lib, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	l, b := &appleLibrary{}, &binder{}
	l.gssCalls.bind(b, lib)
	b.bind(lib, &l.inquireCred, "gss_inquire_cred")
	b.bind(lib, &l.displayName, "gss_display_name")
	// OIDs are taken from the library, because their layout differs between
	// Apple's two processors.
	l.krb5 = oidSet{1, b.variable(lib, "__gss_krb5_mechanism_oid_desc")}
	l.ntPrincipal = b.variable(lib, "__gss_krb5_nt_principal_name_oid_desc")
	l.ntHostbased = b.variable(lib, "__gss_c_nt_hostbased_service_oid_desc")
	if err := b.err(path); err != nil {
		return nil, err
	}
	if p, err := purego.Dlsym(lib, "gss_iter_creds_f"); err == nil {
		purego.RegisterFunc(&l.iterCreds, p)
	}
	return l, nil
}

// variable is the address of an exported variable.
func (b *binder) variable(from uintptr, symbol string) handle {
	p := b.symbol(from, symbol)
	return *(*handle)(unsafe.Pointer(&p)) // not Go's memory, so it cannot move
}

// A credential is one of the library's, which whoever holds it releases.
type credential struct {
	cred      handle
	principal string
	expires   time.Time // zero: over, or unknown
}

// credentials lists all that the library knows, with the default alone where
// it cannot list. That there is none is an *Error or an empty list.
func (l *appleLibrary) credentials(ctx context.Context) ([]credential, error) {
	// The text behind a minor code lives in thread-local storage.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handles, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]credential, 0, len(handles))
	for _, h := range handles {
		c, err := l.inquire(h)
		if err != nil {
			// It has expired, or went away since.
			l.release([]credential{{cred: h}})
			continue
		}
		list = append(list, c)
	}
	return list, nil
}

// open returns credentials as the library hands them out.
func (l *appleLibrary) open(ctx context.Context) ([]handle, error) {
	if l.iterCreds != nil {
		return l.iterate(ctx)
	}
	var cred handle
	if err := l.acquireDefault(&cred); err != nil {
		return nil, err
	}
	return []handle{cred}, nil
}

// inquire says whose h is and how long it lasts.
func (l *appleLibrary) inquire(h handle) (credential, error) {
	var minor, ignored uint32
	var name handle
	expires, err := l.end(h)
	if err != nil {
		return credential{}, err
	}
	if major := l.inquireCred(&minor, h, &name, nil, nil, nil); major&errorMask != 0 {
		return credential{}, l.gssError(major, minor)
	}
	defer l.releaseName(&ignored, &name)
	var out buffer
	if major := l.displayName(&minor, name, &out, nil); major&errorMask != 0 {
		return credential{}, l.gssError(major, minor)
	}
	return credential{cred: h, principal: l.take(&out), expires: expires}, nil
}

// clockLag is how far the second that C's time() returns may lag behind the
// precise clock.
const clockLag = 20 * time.Millisecond

// end is when h ends, to the second, and the same each time it is asked for.
// The library counts whole seconds from now, so now has to be the same second
// before and after.
func (l *appleLibrary) end(h handle) (time.Time, error) {
	for tries := 1; ; tries++ {
		before := time.Now()
		if early := clockLag - time.Duration(before.Nanosecond()); early > 0 {
			time.Sleep(early)
			before = time.Now()
		}
		var minor, lifetime uint32
		if major := l.inquireCred(&minor, h, nil, &lifetime, nil, nil); major&errorMask != 0 {
			return time.Time{}, l.gssError(major, minor)
		}
		if lifetime == 0 || lifetime == indefinite {
			return time.Time{}, nil
		}
		if time.Now().Unix() == before.Unix() || tries == 5 {
			return time.Unix(before.Unix()+int64(lifetime), 0).UTC(), nil
		}
	}
}

func (l *appleLibrary) release(list []credential) {
	var ignored uint32
	for _, c := range list {
		if c.cred != nil {
			l.releaseCred(&ignored, &c.cred)
		}
	}
}

// maxCredentials bounds what one listing may hold.
const maxCredentials = 1000

// An iteration collects what gss_iter_creds_f hands over.
type iteration struct {
	lib   *appleLibrary
	creds []handle      // guarded by iterations.mu
	done  chan struct{} // closed at the end of the list
}

// iterations are those under way. C gets their number, never a Go pointer.
var iterations = struct {
	mu   sync.Mutex // guards what follows
	last uintptr
	open map[uintptr]*iteration
	lib  *appleLibrary // of the newest; releases what comes too late
}{open: map[uintptr]*iteration{}}

// eachCredential is the C function for gss_iter_creds_f. It is made once,
// because callbacks are never freed.
var eachCredential = sync.OnceValue(func() uintptr { return purego.NewCallback(onCredential) })

func onCredential(user uintptr, _ handle, cred handle) {
	iterations.mu.Lock()
	defer iterations.mu.Unlock()
	it := iterations.open[user]
	switch {
	case it == nil || cred != nil && len(it.creds) == maxCredentials:
		iterations.lib.release([]credential{{cred: cred}})
	case cred == nil:
		delete(iterations.open, user)
		close(it.done)
	default:
		it.creds = append(it.creds, cred)
	}
}

// iterate waits for the end of the list, or of ctx.
func (l *appleLibrary) iterate(ctx context.Context) ([]handle, error) {
	it := &iteration{lib: l, done: make(chan struct{})}
	iterations.mu.Lock()
	iterations.last++
	id := iterations.last
	iterations.open[id], iterations.lib = it, l
	iterations.mu.Unlock()

	var minor uint32
	if major := l.iterCreds(&minor, 0, l.krb5.elements, id, eachCredential()); major&errorMask != 0 {
		it.abandon(id)
		return nil, l.gssError(major, minor)
	}
	select {
	case <-it.done:
		return it.creds, nil
	case <-ctx.Done():
		it.abandon(id)
		return nil, context.Cause(ctx)
	}
}

// abandon releases what has come and lets the callback release the rest.
func (it *iteration) abandon(id uintptr) {
	iterations.mu.Lock()
	defer iterations.mu.Unlock()
	delete(iterations.open, id)
	for _, h := range it.creds {
		it.lib.release([]credential{{cred: h}})
	}
}
