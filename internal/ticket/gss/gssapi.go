//go:build (linux || darwin) && !nogss

package gss

import (
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"github.com/ebitengine/purego"

	"kerbpass/internal/ticket"
)

// handle is an opaque pointer of the C library.
type handle = unsafe.Pointer

// gssCalls are the functions of RFC 2744 that every library has.
type gssCalls struct {
	krb5        oidSet // of one: the Kerberos V5 mechanism (RFC 4121)
	ntPrincipal handle // OID of its principal names (RFC 1964 section 2.1.1)

	importName       func(minor *uint32, in *buffer, nameType handle, out *handle) uint32
	releaseName      func(minor *uint32, name *handle) uint32
	acquireCred      func(minor *uint32, name handle, timeReq uint32, mechs *oidSet, usage int32, out *handle, actual handle, timeRec handle) uint32
	releaseCred      func(minor *uint32, cred *handle) uint32
	initSecContext   func(minor *uint32, cred handle, ctx *handle, name handle, mech handle, flags, timeReq uint32, bindings handle, in handle, actual handle, out *buffer, retFlags handle, timeRec handle) uint32
	deleteSecContext func(minor *uint32, ctx *handle, out handle) uint32
	releaseBuffer    func(minor *uint32, b *buffer) uint32
	displayStatus    func(minor *uint32, code uint32, kind int32, mech handle, msgCtx *uint32, out *buffer) uint32
}

// C structures whose layout is the same on every 64-bit system. That of an OID
// is not: Apple packs it on x86-64.
type (
	buffer struct {
		length uintptr
		value  unsafe.Pointer
	}
	oidSet struct {
		count    uintptr
		elements handle // of an OID
	}
)

// Values of RFC 2744 appendix A.
const (
	initiate    = 1          // GSS_C_INITIATE
	indefinite  = 0xffffffff // GSS_C_INDEFINITE
	minorStatus = 2          // GSS_C_MECH_CODE
	errorMask   = 0xffff0000 // calling and routine errors
)

// A binder looks symbols up by hand, because RegisterLibFunc panics on a
// missing one, and remembers what is missing.
type binder struct{ missing []string }

// bind makes fn, a pointer to a func, call symbol.
func (b *binder) bind(from uintptr, fn any, symbol string) {
	if p := b.symbol(from, symbol); p != 0 {
		purego.RegisterFunc(fn, p)
	}
}

func (b *binder) symbol(from uintptr, symbol string) uintptr {
	p, err := purego.Dlsym(from, symbol)
	if err != nil {
		b.missing = append(b.missing, symbol)
		return 0
	}
	return p
}

func (b *binder) err(library string) error {
	if b.missing == nil {
		return nil
	}
	return fmt.Errorf("%s: not usable, it lacks %s", library, strings.Join(b.missing, ", "))
}

// bind fills in the functions. The OIDs are the caller's; the library may keep
// pointers to them, and to g.
func (g *gssCalls) bind(b *binder, lib uintptr) {
	b.bind(lib, &g.importName, "gss_import_name")
	b.bind(lib, &g.releaseName, "gss_release_name")
	b.bind(lib, &g.acquireCred, "gss_acquire_cred")
	b.bind(lib, &g.releaseCred, "gss_release_cred")
	b.bind(lib, &g.initSecContext, "gss_init_sec_context")
	b.bind(lib, &g.deleteSecContext, "gss_delete_sec_context")
	b.bind(lib, &g.releaseBuffer, "gss_release_buffer")
	b.bind(lib, &g.displayStatus, "gss_display_status")
}

// token makes one NegTokenInit for the service called name, which is of
// nameType, with the credential that acquire opens. Acquire runs on the locked
// OS thread; the credential is released.
func (g *gssCalls) token(name string, nameType handle, acquire func(cred *handle) error) ([]byte, error) {
	// The text behind a minor code lives in thread-local storage.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var minor, ignored uint32
	var service, cred, ctx handle
	text := []byte(name)
	var pin runtime.Pinner
	pin.Pin(&text[0])
	defer pin.Unpin()
	if major := g.importName(&minor, &buffer{uintptr(len(text)), unsafe.Pointer(&text[0])}, nameType, &service); major&errorMask != 0 {
		return nil, g.gssError(major, minor)
	}
	defer g.releaseName(&ignored, &service)

	if err := acquire(&cred); err != nil {
		return nil, err
	}
	defer g.releaseCred(&ignored, &cred)

	// No flags: no delegation, and without mutual authentication the krb5
	// mechanism is complete after this one call.
	var out buffer
	major := g.initSecContext(&minor, cred, &ctx, service, g.krb5.elements, 0, 0, nil, nil, nil, &out, nil, nil)
	defer g.deleteSecContext(&ignored, &ctx, nil)
	defer g.releaseBuffer(&ignored, &out)
	if major&errorMask != 0 {
		return nil, g.gssError(major, minor)
	}
	if major != 0 || out.length == 0 {
		return nil, &Error{Major: major, Text: "the library wants a second leg, which no proxy offers"}
	}
	raw := unsafe.Slice((*byte)(out.value), out.length)
	defer clear(raw)
	return ticket.WrapSPNEGO(raw), nil
}

// acquireDefault opens the default credential for initiating. The caller holds
// the OS thread.
func (g *gssCalls) acquireDefault(cred *handle) error {
	var minor uint32
	if major := g.acquireCred(&minor, nil, indefinite, &g.krb5, initiate, cred, nil, nil); major&errorMask != 0 {
		return g.gssError(major, minor)
	}
	return nil
}

// gssError must run on the thread of the failed call.
func (g *gssCalls) gssError(major, minor uint32) *Error {
	e := &Error{Kind: kindOf(int32(minor)), Major: major, Minor: int32(minor)}
	var ignored, more uint32
	var out buffer
	if g.displayStatus(&ignored, minor, minorStatus, g.krb5.elements, &more, &out)&errorMask == 0 {
		e.Text = strings.TrimRight(g.take(&out), "\x00\n ")
	}
	return e
}

// take copies a buffer of the library and releases it.
func (g *gssCalls) take(b *buffer) string {
	var ignored uint32
	defer g.releaseBuffer(&ignored, b)
	return string(unsafe.Slice((*byte)(b.value), b.length))
}

func openError(subject string, err error) error {
	return &ticket.OpError{Op: "open", Subject: subject, Err: err}
}
