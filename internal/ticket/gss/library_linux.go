//go:build linux && !nogss

package gss

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"

	"kerbpass/internal/ticket"
)

// handle is an opaque pointer of the C library.
type handle = unsafe.Pointer

// library is one loaded Kerberos: the GSS functions and the libkrb5 below
// them. It is never closed, because both libraries keep state in threads.
type library struct {
	name  string // gss-mit or gss-heimdal
	creds credLayout

	importName       func(minor *uint32, in *buffer, nameType *oid, out *handle) uint32
	releaseName      func(minor *uint32, name *handle) uint32
	acquireCred      func(minor *uint32, name handle, timeReq uint32, mechs *oidSet, usage int32, out *handle, actual handle, timeRec handle) uint32
	acquireCredFrom  func(minor *uint32, name handle, timeReq uint32, mechs *oidSet, usage int32, store *keyValueSet, out *handle, actual handle, timeRec handle) uint32 // MIT
	importCred       func(minor *uint32, ccache, keytabPrincipal, keytab handle, out *handle) uint32                                                                     // Heimdal
	releaseCred      func(minor *uint32, cred *handle) uint32
	initSecContext   func(minor *uint32, cred handle, ctx *handle, name handle, mech *oid, flags, timeReq uint32, bindings handle, in handle, actual handle, out *buffer, retFlags handle, timeRec handle) uint32
	deleteSecContext func(minor *uint32, ctx *handle, out handle) uint32
	releaseBuffer    func(minor *uint32, b *buffer) uint32
	displayStatus    func(minor *uint32, code uint32, kind int32, mech *oid, msgCtx *uint32, out *buffer) uint32

	initContext      func(out *handle) int32
	freeContext      func(ctx handle)
	getErrorMessage  func(ctx handle, code int32) handle
	freeErrorMessage func(ctx, msg handle)
	timeOfDay        func(ctx handle, now *int64) int32
	ccDefaultName    func(ctx handle) handle
	ccDefault        func(ctx handle, out *handle) int32
	ccResolve        func(ctx handle, name string, out *handle) int32
	ccClose          func(ctx, cc handle) int32
	ccFullName       func(ctx, cc handle, out *handle) int32
	ccPrincipal      func(ctx, cc handle, out *handle) int32
	ccStart          func(ctx, cc handle, cursor *handle) int32
	ccNext           func(ctx, cc handle, cursor *handle, cred *cred) int32
	ccEnd            func(ctx, cc handle, cursor *handle) int32
	freeCred         func(ctx handle, cred *cred)
	freePrincipal    func(ctx, principal handle)
	unparseName      func(ctx, principal handle, out *handle) int32
	freeUnparsed     func(ctx, name handle)
	freeString       func(ctx, s handle)
	colNew           func(ctx handle, cursor *handle) int32
	colNext          func(ctx, cursor handle, cc *handle) int32
	colFree          func(ctx handle, cursor *handle) int32

	timeOffsets func(ctx handle, sec, usec *int32) int32                      // MIT
	kdcOffset   func(ctx, cc handle, sec *int64) int32                        // Heimdal
	ccNewUnique func(ctx handle, kind string, hint handle, out *handle) int32 // MIT, as all below
	ccInit      func(ctx, cc, principal handle) int32
	ccCopy      func(ctx, from, to handle) int32
	ccDestroy   func(ctx, cc handle) int32
}

// C structures; LP64 layout.
type (
	buffer struct {
		length uintptr
		value  unsafe.Pointer
	}
	oid struct {
		length   uint32
		elements unsafe.Pointer
	}
	oidSet struct {
		count    uintptr
		elements *oid
	}
	keyValue    struct{ key, value *byte }
	keyValueSet struct {
		count    uint32
		elements *keyValue
	}
)

// The library may keep pointers to OIDs; package variables never move.
var (
	// The Kerberos V5 mechanism (RFC 4121), and its principal names.
	oidKrb5            = [9]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}
	principalNameBytes = [10]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01} // RFC 1964 section 2.1.1
	mechKrb5           = oid{uint32(len(oidKrb5)), unsafe.Pointer(&oidKrb5)}
	ntPrincipal        = oid{uint32(len(principalNameBytes)), unsafe.Pointer(&principalNameBytes)}
	onlyKrb5           = oidSet{1, &mechKrb5}
)

// Values of RFC 2744 appendix A.
const (
	initiate    = 1          // GSS_C_INITIATE
	indefinite  = 0xffffffff // GSS_C_INDEFINITE
	minorStatus = 2          // GSS_C_MECH_CODE
	errorMask   = 0xffff0000 // calling and routine errors
)

// A candidate is one library that can be loaded.
type candidate struct {
	key, name, gss, krb5 string
	creds                credLayout
}

var candidates = []candidate{
	{"mit", "gss-mit", "libgssapi_krb5.so.2", "libkrb5.so.3", mitCreds},
	{"heimdal", "gss-heimdal", "libgssapi.so.3", "libkrb5.so.26", heimdalCreds},
}

var (
	loadMu sync.Mutex
	loaded *library // guarded by loadMu
)

// load opens the library asked for, once per process. Both in one process
// would mix their symbols and their thread state, so a second kind is refused.
func load(key string) (*library, error) {
	loadMu.Lock()
	defer loadMu.Unlock()
	if loaded != nil {
		if key == "" || loaded.name == "gss-"+key {
			return loaded, nil
		}
		return nil, fmt.Errorf("this process already uses %s; restart it to use %q", loaded.name, key)
	}
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return nil, fmt.Errorf("on %s: %w", runtime.GOARCH, errors.ErrUnsupported)
	}
	var failed error
	known := false
	for _, c := range candidates {
		if key != "" && key != c.key {
			continue
		}
		known = true
		lib, err := c.open()
		if err == nil {
			loaded = lib
			return lib, nil
		}
		failed = errors.Join(failed, err)
	}
	if !known {
		return nil, fmt.Errorf(`unknown Kerberos library %q; use "mit", "heimdal" or ""`, key)
	}
	return nil, fmt.Errorf("no Kerberos library (install libgssapi-krb5-2, krb5-libs or the like): %w: %w", errors.ErrUnsupported, failed)
}

func (c candidate) open() (*library, error) {
	gss, err := purego.Dlopen(c.gss, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	krb5, err := purego.Dlopen(c.krb5, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, err
	}
	l := &library{name: c.name, creds: c.creds}
	var missing []string
	// Dlsym by hand, because RegisterLibFunc panics on a missing symbol.
	bind := func(from uintptr, fn any, symbol string) {
		p, err := purego.Dlsym(from, symbol)
		if err != nil {
			missing = append(missing, symbol)
			return
		}
		purego.RegisterFunc(fn, p)
	}
	bind(gss, &l.importName, "gss_import_name")
	bind(gss, &l.releaseName, "gss_release_name")
	bind(gss, &l.acquireCred, "gss_acquire_cred")
	bind(gss, &l.releaseCred, "gss_release_cred")
	bind(gss, &l.initSecContext, "gss_init_sec_context")
	bind(gss, &l.deleteSecContext, "gss_delete_sec_context")
	bind(gss, &l.releaseBuffer, "gss_release_buffer")
	bind(gss, &l.displayStatus, "gss_display_status")

	bind(krb5, &l.initContext, "krb5_init_context")
	bind(krb5, &l.freeContext, "krb5_free_context")
	bind(krb5, &l.getErrorMessage, "krb5_get_error_message")
	bind(krb5, &l.freeErrorMessage, "krb5_free_error_message")
	bind(krb5, &l.timeOfDay, "krb5_timeofday")
	bind(krb5, &l.ccDefaultName, "krb5_cc_default_name")
	bind(krb5, &l.ccDefault, "krb5_cc_default")
	bind(krb5, &l.ccResolve, "krb5_cc_resolve")
	bind(krb5, &l.ccClose, "krb5_cc_close")
	bind(krb5, &l.ccFullName, "krb5_cc_get_full_name")
	bind(krb5, &l.ccPrincipal, "krb5_cc_get_principal")
	bind(krb5, &l.ccStart, "krb5_cc_start_seq_get")
	bind(krb5, &l.ccNext, "krb5_cc_next_cred")
	bind(krb5, &l.ccEnd, "krb5_cc_end_seq_get")
	bind(krb5, &l.freeCred, "krb5_free_cred_contents")
	bind(krb5, &l.freePrincipal, "krb5_free_principal")
	bind(krb5, &l.unparseName, "krb5_unparse_name")
	bind(krb5, &l.freeUnparsed, "krb5_free_unparsed_name")
	bind(krb5, &l.colNew, "krb5_cccol_cursor_new")
	bind(krb5, &l.colNext, "krb5_cccol_cursor_next")
	bind(krb5, &l.colFree, "krb5_cccol_cursor_free")
	switch c.key {
	case "mit":
		bind(gss, &l.acquireCredFrom, "gss_acquire_cred_from")
		bind(krb5, &l.freeString, "krb5_free_string")
		bind(krb5, &l.timeOffsets, "krb5_get_time_offsets")
		bind(krb5, &l.ccNewUnique, "krb5_cc_new_unique")
		bind(krb5, &l.ccInit, "krb5_cc_initialize")
		bind(krb5, &l.ccCopy, "krb5_cc_copy_creds")
		bind(krb5, &l.ccDestroy, "krb5_cc_destroy")
	case "heimdal":
		bind(gss, &l.importCred, "gss_krb5_import_cred")
		bind(krb5, &l.kdcOffset, "krb5_cc_get_kdc_offset")
		var xfree func(handle)
		bind(krb5, &xfree, "krb5_xfree")
		l.freeString = func(_, s handle) { xfree(s) }
	}
	if missing != nil {
		return nil, fmt.Errorf("%s: not usable, it lacks %s", c.gss, strings.Join(missing, ", "))
	}
	return l, nil
}

// token makes one NegTokenInit for spn with the tickets in cache ("" is the
// default one).
func (l *library) token(cache, spn string) ([]byte, error) {
	// The text behind a minor code lives in thread-local storage.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	var minor, ignored uint32
	var name, cred, ctx handle
	text := []byte(spn)
	var pin runtime.Pinner
	pin.Pin(&text[0])
	defer pin.Unpin()
	if major := l.importName(&minor, &buffer{uintptr(len(text)), unsafe.Pointer(&text[0])}, &ntPrincipal, &name); major&errorMask != 0 {
		return nil, l.gssError(major, minor)
	}
	defer l.releaseName(&ignored, &name)

	if err := l.acquire(cache, &cred); err != nil {
		return nil, err
	}
	defer l.releaseCred(&ignored, &cred)

	// No flags: no delegation, and without mutual authentication the krb5
	// mechanism is complete after this one call.
	var out buffer
	major := l.initSecContext(&minor, cred, &ctx, name, &mechKrb5, 0, 0, nil, nil, nil, &out, nil, nil)
	defer l.deleteSecContext(&ignored, &ctx, nil)
	defer l.releaseBuffer(&ignored, &out)
	if major&errorMask != 0 {
		return nil, l.gssError(major, minor)
	}
	if major != 0 || out.length == 0 {
		return nil, &Error{Major: major, Text: "the library wants a second leg, which no proxy offers"}
	}
	raw := unsafe.Slice((*byte)(out.value), out.length)
	defer clear(raw)
	return ticket.WrapSPNEGO(raw), nil
}

// acquire opens a credential for initiating. The caller holds the OS thread.
func (l *library) acquire(cache string, cred *handle) error {
	var minor uint32
	if l.acquireCredFrom == nil {
		// Heimdal 7 lacks acquire_cred_from. Its import takes the name out of
		// the cache handle, so the handle may go at once.
		return l.withCache(cache, func(ctx, cc handle) error {
			if major := l.importCred(&minor, cc, nil, nil, cred); major&errorMask != 0 {
				return l.gssError(major, minor)
			}
			return nil
		})
	}
	var major uint32
	if cache == "" {
		major = l.acquireCred(&minor, nil, indefinite, &onlyKrb5, initiate, cred, nil, nil)
	} else {
		key, value := []byte("ccache\x00"), []byte(cache+"\x00")
		pair := &keyValue{&key[0], &value[0]}
		var pin runtime.Pinner
		pin.Pin(pair.key)
		pin.Pin(pair.value)
		pin.Pin(pair)
		defer pin.Unpin()
		major = l.acquireCredFrom(&minor, nil, indefinite, &onlyKrb5, initiate, &keyValueSet{1, pair}, cred, nil, nil)
	}
	if major&errorMask != 0 {
		return l.gssError(major, minor)
	}
	return nil
}

// gssError must run on the thread of the failed call.
func (l *library) gssError(major, minor uint32) *Error {
	e := &Error{Kind: kindOf(int32(minor)), Major: major, Minor: int32(minor)}
	var ignored, more uint32
	var out buffer
	if l.displayStatus(&ignored, minor, minorStatus, &mechKrb5, &more, &out)&errorMask == 0 {
		e.Text = strings.TrimRight(string(unsafe.Slice((*byte)(out.value), out.length)), "\x00\n ")
		l.releaseBuffer(&ignored, &out)
	}
	return e
}

// goString copies a C string.
func goString(p handle) string {
	if p == nil {
		return ""
	}
	n := 0
	for *(*byte)(unsafe.Add(p, n)) != 0 {
		n++
	}
	return string(unsafe.Slice((*byte)(p), n))
}

func openError(subject string, err error) error {
	return &ticket.OpError{Op: "open", Subject: subject, Err: err}
}
