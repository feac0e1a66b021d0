//go:build windows

package sspi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"time"

	api "github.com/alexbrainman/sspi"

	"kerbpass/internal/ticket"
)

// maxCalls may hang in Windows at one time.
const maxCalls = 32

// Backend uses the tickets of the Windows session that this program runs in.
// An elevated program is another session, with another cache.
type Backend struct {
	realm string // of Config.Service, "" where that does not say
	log   *slog.Logger
	free  slots
}

// New makes sure that this Windows has what is needed. It does no I/O beyond
// loading system libraries.
func New(c Config) (*Backend, error) {
	if c.Service != "" {
		if err := checkSPN(c.Service); err != nil {
			return nil, &ticket.OpError{Op: "open", Subject: c.Service, Err: err}
		}
	}
	if err := findAll(lsaRequirements); err != nil {
		return nil, &ticket.OpError{Op: "open", Subject: "secur32.dll", Err: err}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	_, realm, _ := strings.Cut(c.Service, "@")
	return &Backend{realm: realm, log: c.Log, free: make(slots, maxCalls)}, nil
}

// Name implements [ticket.Backend].
func (*Backend) Name() string { return "sspi" }

// Stamp implements [ticket.Backend]: the LSA's cache has none.
func (*Backend) Stamp() string { return "" }

// look reads the LSA's cache.
func (b *Backend) look(ctx context.Context) (view, error) {
	if err := ctx.Err(); err != nil {
		return view{}, err
	}
	var list []entry
	err := withLSA(func(l *lsa) (err error) {
		list, err = l.tickets()
		return err
	})
	if err != nil {
		return view{}, cacheError(err)
	}
	return viewOf(list, b.realm, whoami), nil
}

// Status implements [ticket.Backend].
func (b *Backend) Status(ctx context.Context) (ticket.Status, error) {
	v, err := b.look(ctx)
	if err == nil {
		err = v.none
	}
	if err != nil {
		return ticket.Status{Cache: cacheName}, &ticket.OpError{Op: "status", Subject: cacheName, Err: err}
	}
	return v.status, nil
}

// Caches implements [ticket.Backend]: there is one.
func (b *Backend) Caches(ctx context.Context) ([]ticket.Cache, error) {
	v, err := b.look(ctx)
	if err != nil {
		return nil, &ticket.OpError{Op: "caches", Subject: cacheName, Err: err}
	}
	return []ticket.Cache{v.cache}, nil
}

// Token implements [ticket.Backend]. A call that hangs in Windows is left
// behind when ctx ends.
func (b *Backend) Token(ctx context.Context, spn string) ([]byte, error) {
	token, err := await(ctx, b.free, func() ([]byte, error) { return makeToken(spn) })
	if err != nil {
		if e, ok := errors.AsType[*Error](err); ok && e.Code == statusInternal {
			err = b.explain(ctx, err)
		}
		return nil, &ticket.OpError{Op: "token", Subject: spn, Err: err}
	}
	return token, nil
}

func makeToken(spn string) ([]byte, error) {
	if err := checkSPN(spn); err != nil {
		return nil, err
	}
	token, err := initialToken(spn, usualToken)
	if err != nil {
		return nil, err
	}
	if err := checkToken(token); err != nil {
		return nil, err
	}
	return ticket.WrapSPNEGO(token), nil
}

// explain looks at the tickets for the reason that Windows did not give.
func (b *Backend) explain(ctx context.Context, refusal error) error {
	v, err := b.look(ctx)
	switch {
	case err != nil:
		return refusal
	case v.none != nil:
		return fmt.Errorf("%w: %w", v.none, refusal)
	case v.status.Left(time.Now()) == 0:
		return fmt.Errorf("%w: %w", ticket.ErrExpired, refusal)
	}
	return refusal
}

const (
	usualToken   = 16 << 10  // a ticket with the groups of a large company
	largestToken = 256 << 10 // Windows itself stops at 64 KiB
)

// initialToken makes a raw krb5 token. size is the first buffer's.
func initialToken(spn string, size int) ([]byte, error) {
	target, err := syscall.UTF16PtrFromString(spn)
	if err != nil {
		return nil, err
	}
	cred, err := api.AcquireCredentials("", api.MICROSOFT_KERBEROS_NAME, api.SECPKG_CRED_OUTBOUND, nil)
	if code, ok := errors.AsType[syscall.Errno](err); ok {
		return nil, statusError(uint32(code))
	}
	if err != nil {
		return nil, err
	}
	defer cred.Release()
	for ; ; size *= 2 {
		token, code := firstLeg(cred, target, size)
		if !tooSmall(code) || size >= largestToken {
			return token, statusError(code)
		}
	}
}

// firstLeg makes a token of at most size bytes. Windows may want a second leg,
// which no proxy gives; the token is complete without it.
func firstLeg(cred *api.Credentials, target *uint16, size int) (token []byte, code uint32) {
	buf := make([]byte, size)
	out := []api.SecBuffer{{BufferSize: uint32(size), BufferType: api.SECBUFFER_TOKEN, Buffer: &buf[0]}}
	const flags = 0 // no delegation, no mutual authentication
	c := api.NewClientContext(cred, flags)
	switch status := c.Update(target, api.NewSecBufferDesc(out), nil); status {
	case api.SEC_E_OK, api.SEC_I_CONTINUE_NEEDED:
		c.Release()
		return buf[:min(int(out[0].BufferSize), size)], 0
	default: // there is no context then
		return nil, uint32(status)
	}
}

// Renew implements [ticket.Backend]. Windows renews by itself as long as it
// can; this asks it to do so now, and takes nothing away.
func (b *Backend) Renew(ctx context.Context, services ...string) error {
	st, err := b.Status(ctx)
	if err == nil && st.Left(time.Now()) == 0 {
		err = ticket.ErrExpired
	}
	if err == nil {
		err = b.renew(ctx, st, services)
	}
	if err != nil {
		return &ticket.OpError{Op: "renew", Subject: cacheName, Err: err}
	}
	return nil
}

func (b *Backend) renew(ctx context.Context, before ticket.Status, services []string) error {
	_, refusal := await(ctx, b.free, func() (struct{}, error) {
		return struct{}{}, withLSA(func(l *lsa) error { return l.refresh(before.Realm) })
	})
	for _, spn := range services {
		if _, err := b.Token(ctx, spn); err != nil {
			b.log.Debug("no ticket for a service", "err", err)
		}
	}
	after, err := b.Status(ctx)
	if err != nil {
		return err
	}
	if after.Expires.After(before.Expires) {
		return nil
	}
	return notRenewed(before.Realm, refusal)
}

// SignIn implements [ticket.Backend].
func (*Backend) SignIn(_ context.Context, l ticket.Login) error {
	return &ticket.OpError{Op: "sign in", Subject: l.Principal, Err: fmt.Errorf("%w: %s", errors.ErrUnsupported, howToSignIn)}
}

// SignOut implements [ticket.Backend]: it throws away all tickets of the
// session. Windows gets new ones as long as it holds the sign-in's secret.
func (b *Backend) SignOut(ctx context.Context) error {
	v, err := b.look(ctx)
	if err == nil && len(v.cache.TGTs)+len(v.cache.Services) == 0 {
		err = ticket.ErrNoTicket
	}
	if err == nil {
		err = withLSA((*lsa).purge)
	}
	if err != nil {
		return &ticket.OpError{Op: "sign out", Subject: cacheName, Err: err}
	}
	return nil
}

// tooSmall reports that a token may fit in a larger buffer. Windows documents
// one code for that and packages use others: Wine's says that the message is
// incomplete.
func tooSmall(code uint32) bool {
	return code == statusTooSmall || code == statusIncomplete || code == statusNoMemory
}
