package krb5

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/jcmturner/gokrb5/v8/types"

	"kerbpass/internal/ticket"
)

// Bounds on a keytab.
const (
	maxKeytabSize = 1 << 20
	maxKeys       = 1024
)

// A keyTable holds the long-term keys of a keytab, in the file's order.
type keyTable []tableKey

type tableKey struct {
	client  principal
	version uint32
	etype   int32
	key     []byte // points into the file's bytes
}

// readKeytab reads the file at path; no path is an empty keytab.
func readKeytab(path string) (keyTable, error) {
	if path == "" {
		return nil, nil
	}
	b, err := readFile(path, maxKeytabSize, owned)
	if err != nil {
		return nil, fmt.Errorf("keytab: %w", err)
	}
	keys, err := parseKeytab(b)
	if err != nil {
		return nil, fmt.Errorf("keytab %s: %w", path, err)
	}
	return keys, nil
}

// parseKeytab reads the version that MIT and Heimdal have written since 1990,
// each length checked before it is believed. Removed entries and keys that
// cannot be used are left out.
func parseKeytab(b []byte) (keyTable, error) {
	if !bytes.HasPrefix(b, []byte{5, 2}) {
		return nil, errors.New("not a keytab of version 2")
	}
	r := &reader{b: b, at: 2}
	var keys keyTable
	for n := 0; len(b)-r.at >= 4; n++ {
		if n == maxKeys {
			return nil, fmt.Errorf("more than %d entries", maxKeys)
		}
		size := int32(r.u32())
		if size == 0 {
			break
		}
		if size < 0 { // the hole that a removed entry left
			r.bytes(uint32(-int64(size)))
			continue
		}
		k, ok := parseTableKey(r.bytes(uint32(size)))
		if r.failed || !ok {
			return nil, fmt.Errorf("cut off or damaged in entry %d, before byte %d", n+1, r.at)
		}
		if k.client.plain() && keySize[k.etype] == len(k.key) && len(k.key) > 0 {
			keys = append(keys, k)
		}
	}
	if r.failed || len(keys) == 0 {
		return nil, errors.New("it holds no usable key")
	}
	return keys, nil
}

func parseTableKey(b []byte) (k tableKey, ok bool) {
	r := &reader{b: b}
	text := func() string { return string(r.bytes(uint32(r.u16()))) }
	parts := r.u16()
	if parts > maxComponents {
		return k, false
	}
	k.client.realm = text()
	for range parts {
		k.client.parts = append(k.client.parts, text())
	}
	k.client.kind = int32(r.u32())
	r.u32() // when it was added
	k.version = uint32(r.u8())
	k.etype = int32(r.u16())
	k.key = r.bytes(uint32(r.u16()))
	ok = !r.failed
	if rest := b[r.at:]; len(rest) >= 4 { // versions that do not fit a byte
		if v := binary.BigEndian.Uint32(rest); v != 0 {
			k.version = v
		}
	}
	return k, ok
}

// source returns those of etypes that the keytab has keys of for this client,
// and the [keySource] of the newest ones.
func (t keyTable) source(client principal, etypes []int32) ([]int32, keySource, error) {
	newest := map[int32]tableKey{}
	for _, k := range t {
		if old, ok := newest[k.etype]; k.client.String() == client.String() && (!ok || k.version >= old.version) {
			newest[k.etype] = k
		}
	}
	have := slices.DeleteFunc(slices.Clone(etypes), func(e int32) bool { return newest[e].key == nil })
	if len(have) == 0 {
		return nil, nil, fmt.Errorf("%w: the keytab has no key for %s of an encryption type that is allowed here", ticket.ErrPrincipalUnknown, client)
	}
	return have, func(_ context.Context, h hint) (longTermKey, error) {
		return longTermKey{types.EncryptionKey{KeyType: h.etype, KeyValue: bytes.Clone(newest[h.etype].key)}}, nil
	}, nil
}
