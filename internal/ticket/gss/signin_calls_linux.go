//go:build linux && !nogss

package gss

import (
	"sync"

	"github.com/ebitengine/purego"
)

// signInCalls are the functions of libkrb5 that ask a KDC for tickets.
type signInCalls struct {
	initCredsInit     func(ctx, client handle, prompter, data uintptr, start int32, opt handle, out *handle) int32
	initCredsService  func(ctx, ic handle, service string) int32
	initCredsPassword func(ctx, ic handle, password *byte) int32
	initCredsGet      func(ctx, ic handle) int32
	initCredsCreds    func(ctx, ic handle, c *cred) int32
	initCredsFree     func(ctx, ic handle)
	optAlloc          func(ctx handle, out *handle) int32
	optFree           func(ctx, opt handle)
	optRenewLife      func(opt handle, seconds int32)
	optTicketLife     func(opt handle, seconds int32)
	optForwardable    func(opt handle, yes int32)
	optProxiable      func(opt handle, yes int32)
	changePassword    func(ctx handle, c *cred, password *byte, result *int32, resultText, serverText *data) int32
	freeData          func(ctx handle, d *data)
	renewedCreds      func(ctx handle, c *cred, client, cc handle, service handle) int32
	credentials       func(ctx handle, options int32, cc handle, in *cred, out *handle) int32
	onlyCached        int32 // option of credentials: ask no KDC
	freeCreds         func(ctx, creds handle)

	promptTypes     func(ctx handle) handle                           // MIT, as the next three
	optOutCache     func(ctx, opt, cc handle) int32                   // MIT
	traceCallback   func(ctx handle, callback, data uintptr) int32    // MIT
	passwordMessage func(ctx handle, server *data, out *handle) int32 // MIT
	optDefaults     func(ctx handle, app, realm string, opt handle)   // Heimdal
	initCredsStore  func(ctx, ic, cc handle) int32                    // Heimdal

	prompts promptLayout
	refusalCalls
}

func (c *signInCalls) bind(b *binder, krb5 uintptr, mit bool) {
	b.bind(krb5, &c.initCredsInit, "krb5_init_creds_init")
	b.bind(krb5, &c.initCredsService, "krb5_init_creds_set_service")
	b.bind(krb5, &c.initCredsPassword, "krb5_init_creds_set_password")
	b.bind(krb5, &c.initCredsGet, "krb5_init_creds_get")
	b.bind(krb5, &c.initCredsCreds, "krb5_init_creds_get_creds")
	b.bind(krb5, &c.initCredsFree, "krb5_init_creds_free")
	b.bind(krb5, &c.optAlloc, "krb5_get_init_creds_opt_alloc")
	b.bind(krb5, &c.optFree, "krb5_get_init_creds_opt_free")
	b.bind(krb5, &c.optRenewLife, "krb5_get_init_creds_opt_set_renew_life")
	b.bind(krb5, &c.optTicketLife, "krb5_get_init_creds_opt_set_tkt_life")
	b.bind(krb5, &c.optForwardable, "krb5_get_init_creds_opt_set_forwardable")
	b.bind(krb5, &c.optProxiable, "krb5_get_init_creds_opt_set_proxiable")
	b.bind(krb5, &c.changePassword, "krb5_change_password")
	b.bind(krb5, &c.freeData, "krb5_free_data_contents")
	b.bind(krb5, &c.renewedCreds, "krb5_get_renewed_creds")
	b.bind(krb5, &c.credentials, "krb5_get_credentials")
	b.bind(krb5, &c.freeCreds, "krb5_free_creds")
	if mit {
		c.prompts = mitPrompts
		c.onlyCached = 2 // KRB5_GC_CACHED, as below
		b.bind(krb5, &c.promptTypes, "krb5_get_prompt_types")
		b.bind(krb5, &c.optOutCache, "krb5_get_init_creds_opt_set_out_ccache")
		b.bind(krb5, &c.traceCallback, "krb5_set_trace_callback")
		b.bind(krb5, &c.passwordMessage, "krb5_chpw_message")
	} else {
		c.prompts = heimdalPrompts
		c.onlyCached = 1
		b.bind(krb5, &c.optDefaults, "krb5_get_init_creds_opt_set_default_flags")
		b.bind(krb5, &c.initCredsStore, "krb5_init_creds_store")
		c.refusalCalls.bind(b, krb5)
	}
}

// data is room for the krb5_data of either library.
type data struct{ words [2]uint64 }

// callbacks are the C functions that call us. They are never freed, so a
// process has one of each.
var callbacks = sync.OnceValue(func() (c struct{ prompter, trace uintptr }) {
	c.prompter = purego.NewCallback(prompted)
	c.trace = purego.NewCallback(traced)
	return c
})
