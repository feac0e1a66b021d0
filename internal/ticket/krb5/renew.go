package krb5

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/iana/flags"

	"kerbpass/internal/ticket"
)

const (
	maxPrefetch = 16              // services whose tickets are fetched with a renewal
	prefetch    = 5 * time.Second // for all of them: the new TGT must not wait long
)

// Renew implements [ticket.Backend].
func (b *Backend) Renew(ctx context.Context, services ...string) error {
	name, err := b.renew(ctx, services)
	if err != nil {
		return &ticket.OpError{Op: "renew", Subject: name, Err: err}
	}
	return nil
}

func (b *Backend) renew(ctx context.Context, services []string) (name string, err error) {
	s, name, err := b.load(ctx)
	if err != nil {
		return name, err
	}
	if err := s.renewable(); err != nil {
		return name, err
	}
	tgt, err := s.tgs(ctx, s.tgt.client.realm, s.tgt, krbtgt(s.tgt.client.realm), s.tgt.renewOptions()...)
	if isCode(err, errorcode.KDC_ERR_BADOPTION) {
		return name, fmt.Errorf("%w: %w", ticket.ErrNotRenewable, err)
	}
	if err != nil {
		return name, err
	}
	if !tgt.isTGT(s.tgt.client) {
		return name, fmt.Errorf("KDC of %s renewed the TGT into a ticket for %s", s.tgt.client.realm, tgt.server)
	}
	return name, b.replaceTGT(s, append([]cred{tgt.cred}, s.prefetch(ctx, tgt, services)...))
}

// renewable reports what keeps the TGT from being renewed.
func (s *state) renewable() error {
	if err := s.usable(); err != nil {
		return err
	}
	switch {
	case s.tgtAt.flags&ticket.FlagRenewable == 0:
		return fmt.Errorf("%w: the KDC gave it without that right", ticket.ErrNotRenewable)
	case !s.tgtAt.canRenew():
		return fmt.Errorf("%w: it lasts until %s and no longer", ticket.ErrNotRenewable, s.file.local(s.tgtAt.renew).Format(time.RFC3339))
	}
	return nil
}

// renewOptions asks for the rights the TGT has.
func (p *pass) renewOptions() []int {
	options := []int{flags.Renew, flags.Renewable}
	if p.flags&ticket.FlagForwardable != 0 {
		options = append(options, flags.Forwardable)
	}
	return options
}

// prefetch gets tickets for services with a TGT that is not in the cache yet.
// What cannot be had is left to the first request that needs it.
func (s *state) prefetch(ctx context.Context, tgt *pass, services []string) []cred {
	ctx, cancel := context.WithTimeout(ctx, prefetch)
	defer cancel()
	next := &state{conf: s.conf, file: s.file, tgt: tgt}
	var got []cred
	for _, service := range services[:min(len(services), maxPrefetch)] {
		name, err := parseSPN(service)
		if err != nil {
			continue
		}
		if p, err := next.fetch(ctx, name.wire(), name.realmBy(s.conf)); err == nil {
			got = append(got, p.cred)
		}
	}
	return got
}

// replaceTGT puts the new tickets, a TGT first, into the cache that s was read
// from, provided that its TGT is still the one that was renewed. Notes and other
// valid tickets stay.
func (b *Backend) replaceTGT(s *state, tickets []cred) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	now, err := readCache(s.path, s.conf) // libraries may have added to it
	if err != nil {
		return err
	}
	switch tgt := now.tgt(); {
	case tgt == nil || now.client.String() != s.file.client.String():
		return errReplaced
	case bytes.Equal(tgt.ticket, s.tgtAt.ticket):
	case tgt.end.After(s.tgtAt.end):
		return nil // somebody else has renewed it
	default:
		return errReplaced
	}
	for _, e := range now.creds {
		known := slices.ContainsFunc(tickets, func(t cred) bool { return t.server.String() == e.server.String() })
		if !known && e.end.After(s.now()) {
			tickets = append(tickets, e)
		}
	}
	now.creds = tickets
	return b.write(s.path, now)
}

var errReplaced = fmt.Errorf("%w: it was replaced while its ticket was being renewed", ticket.ErrCache)
