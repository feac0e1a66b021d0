//go:build linux && !nogss

package gss

import (
	"sync"

	"github.com/ebitengine/purego"

	"kerbpass/internal/ticket"
)

// Heimdal's krb5_init_creds_get answers a refused password by sending it once
// more in another wrapping (seen with 7.8), which is a second failed attempt
// and can lock the account. Its single steps are not exported, and no option
// turns that off. What the library asks before every request is a plug-in of
// the type send_to_kdc, so one of ours says no to the request that follows a
// refusal.
type refusalCalls struct {
	registerPlugin func(ctx handle, kind int32, name string, table handle) int32
	lastError      func(ctx, ic handle, e *krbError) int32
	freeError      func(ctx handle, e *krbError)
}

func (c *refusalCalls) bind(b *binder, krb5 uintptr) {
	b.bind(krb5, &c.registerPlugin, "krb5_plugin_register")
	b.bind(krb5, &c.lastError, "krb5_init_creds_get_error")
	b.bind(krb5, &c.freeError, "krb5_free_error_contents")
}

// krbError is Heimdal's KRB_ERROR, LP64.
type krbError struct {
	_    [36]byte
	code int32      // as a com_err code, other than in the message
	_    [28]uint64 // more than there is
}

// pluginTable is a krb5plugin_send_to_kdc_ftable of version 2.
type pluginTable struct {
	version                     int32
	begin, end, toHost, toRealm uintptr
}

const (
	pluginData     = 1           // PLUGIN_TYPE_DATA
	codePluginPass = -1765328135 // KRB5_PLUGIN_NO_HANDLE: let the library do it
)

// sendToKDC is the plug-in. Heimdal keeps a pointer to it; a package variable
// never moves.
var sendToKDC = pluginTable{version: 2}

var preparePlugin = sync.OnceFunc(func() {
	sendToKDC.begin = purego.NewCallback(func(_ handle, _ *handle) int32 { return 0 })
	sendToKDC.end = purego.NewCallback(func(_ handle) uintptr { return 0 })
	sendToKDC.toRealm = purego.NewCallback(func(ctx, _, _ handle, _ int64, _, _ handle) int32 { return beforeRequest(ctx) })
})

// attempts are the exchanges under way, by their krb5_context.
var attempts sync.Map // handle to *attempt

// An attempt is one exchange with a password. Only its own thread uses it.
type attempt struct {
	lib     *library
	ic      handle
	asked   bool // a request has gone out, so an answer is known before the next
	refused bool // the answer was that the password is wrong
}

// once runs the exchange ic and does not let the library try a refused password
// again.
func (l *library) once(ctx, ic handle) (code int32) {
	if l.registerPlugin == nil {
		return l.initCredsGet(ctx, ic) // MIT ends with the refusal
	}
	preparePlugin()
	if code := l.registerPlugin(ctx, pluginData, "send_to_kdc", handle(&sendToKDC)); code != 0 { // no-op when it is known
		return code
	}
	a := &attempt{lib: l, ic: ic}
	attempts.Store(ctx, a)
	defer attempts.Delete(ctx)
	code = l.initCredsGet(ctx, ic)
	if a.refused {
		return codePreauthFailed
	}
	return code
}

// beforeRequest is asked before each request on ctx, those of exchanges that
// are no sign-in included.
func beforeRequest(ctx handle) int32 {
	v, known := attempts.Load(ctx)
	if !known {
		return codePluginPass
	}
	a := v.(*attempt)
	if a.asked && a.lib.refusedLast(ctx, a.ic) {
		a.refused = true
		return codePreauthFailed
	}
	a.asked = true
	return codePluginPass
}

// refusedLast reports whether the KDC's last answer was that the password is
// wrong. There has to be one: the library cannot copy what it does not have.
func (l *library) refusedLast(ctx, ic handle) bool {
	e := new(krbError)
	if l.lastError(ctx, ic, e) != 0 {
		return true // better no ticket than one attempt too many
	}
	defer l.freeError(ctx, e)
	return signInKindOf(e.code) == ticket.ErrPassword
}
