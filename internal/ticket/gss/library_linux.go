//go:build linux && !nogss

package gss

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
)

// library is one loaded Kerberos: the GSS functions and the libkrb5 below
// them. It is never closed, because both libraries keep state in threads.
type library struct {
	name  string // gss-mit or gss-heimdal
	creds credLayout

	gssCalls
	acquireCredFrom func(minor *uint32, name handle, timeReq uint32, mechs *oidSet, usage int32, store *keyValueSet, out *handle, actual handle, timeRec handle) uint32 // MIT
	importCred      func(minor *uint32, ccache, keytabPrincipal, keytab handle, out *handle) uint32                                                                     // Heimdal

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

	timeOffsets func(ctx handle, sec, usec *int32) int32 // MIT
	kdcOffset   func(ctx, cc handle, sec *int64) int32   // Heimdal

	storeCalls
	realmCalls
	signInCalls
}

// C structures; LP64 layout as on Linux.
type (
	oid struct {
		length   uint32
		elements unsafe.Pointer
	}
	keyValue    struct{ key, value *byte }
	keyValueSet struct {
		count    uint32
		elements *keyValue
	}
)

// The library may keep pointers to OIDs; package variables never move.
var (
	mechKrb5Bytes    = [9]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02}
	ntPrincipalBytes = [10]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 0x01, 0x02, 0x02, 0x01}
	mechKrb5         = oid{uint32(len(mechKrb5Bytes)), unsafe.Pointer(&mechKrb5Bytes)}
	ntPrincipal      = oid{uint32(len(ntPrincipalBytes)), unsafe.Pointer(&ntPrincipalBytes)}
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
	b := &binder{}
	l.gssCalls.bind(b, gss)
	l.gssCalls.krb5, l.ntPrincipal = oidSet{1, handle(&mechKrb5)}, handle(&ntPrincipal)
	b.bind(krb5, &l.initContext, "krb5_init_context")
	b.bind(krb5, &l.freeContext, "krb5_free_context")
	b.bind(krb5, &l.getErrorMessage, "krb5_get_error_message")
	b.bind(krb5, &l.freeErrorMessage, "krb5_free_error_message")
	b.bind(krb5, &l.timeOfDay, "krb5_timeofday")
	b.bind(krb5, &l.ccDefaultName, "krb5_cc_default_name")
	b.bind(krb5, &l.ccDefault, "krb5_cc_default")
	b.bind(krb5, &l.ccResolve, "krb5_cc_resolve")
	b.bind(krb5, &l.ccClose, "krb5_cc_close")
	b.bind(krb5, &l.ccFullName, "krb5_cc_get_full_name")
	b.bind(krb5, &l.ccPrincipal, "krb5_cc_get_principal")
	b.bind(krb5, &l.ccStart, "krb5_cc_start_seq_get")
	b.bind(krb5, &l.ccNext, "krb5_cc_next_cred")
	b.bind(krb5, &l.ccEnd, "krb5_cc_end_seq_get")
	b.bind(krb5, &l.freeCred, "krb5_free_cred_contents")
	b.bind(krb5, &l.freePrincipal, "krb5_free_principal")
	b.bind(krb5, &l.unparseName, "krb5_unparse_name")
	b.bind(krb5, &l.freeUnparsed, "krb5_free_unparsed_name")
	b.bind(krb5, &l.colNew, "krb5_cccol_cursor_new")
	b.bind(krb5, &l.colNext, "krb5_cccol_cursor_next")
	b.bind(krb5, &l.colFree, "krb5_cccol_cursor_free")
	mit := c.key == "mit"
	l.storeCalls.bind(b, krb5, mit)
	l.realmCalls.bind(b, krb5, mit)
	l.signInCalls.bind(b, krb5, mit)
	switch c.key {
	case "mit":
		b.bind(gss, &l.acquireCredFrom, "gss_acquire_cred_from")
		b.bind(krb5, &l.freeString, "krb5_free_string")
		b.bind(krb5, &l.timeOffsets, "krb5_get_time_offsets")
	case "heimdal":
		b.bind(gss, &l.importCred, "gss_krb5_import_cred")
		b.bind(krb5, &l.kdcOffset, "krb5_cc_get_kdc_offset")
		var xfree func(handle)
		b.bind(krb5, &xfree, "krb5_xfree")
		l.freeString = func(_, s handle) { xfree(s) }
	}
	if err := b.err(c.gss); err != nil {
		return nil, err
	}
	return l, nil
}

// token makes one NegTokenInit for spn with the tickets in cache ("" is the
// default one).
func (l *library) token(cache, spn string) ([]byte, error) {
	return l.gssCalls.token(spn, l.ntPrincipal, func(cred *handle) error { return l.acquire(cache, cred) })
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
	if cache == "" {
		return l.acquireDefault(cred)
	}
	key, value := []byte("ccache\x00"), []byte(cache+"\x00")
	pair := &keyValue{&key[0], &value[0]}
	var pin runtime.Pinner
	pin.Pin(pair.key)
	pin.Pin(pair.value)
	pin.Pin(pair)
	defer pin.Unpin()
	if major := l.acquireCredFrom(&minor, nil, indefinite, &l.krb5, initiate, &keyValueSet{1, pair}, cred, nil, nil); major&errorMask != 0 {
		return l.gssError(major, minor)
	}
	return nil
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
