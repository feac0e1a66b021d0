package realm

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// MintOptions says what to write into a cache. The zero value is a fresh TGT
// of ten hours for alice, not renewable, in the realm's default cache.
type MintOptions struct {
	User       string    // a user of the realm; "" means alice
	Cache      string    // path of the file; "" means CachePath
	Start      time.Time // zero means now, by the realm's clock
	End        time.Time // zero means ten hours after Start; may be past
	RenewUntil time.Time // zero: not renewable
	Services   []string  // service tickets to add: "HTTP/proxy.demo.invalid"
	ServiceEnd time.Time // of these; zero means End
	NoTGT      bool      // leave the TGT out
}

// Mint writes a FILE ticket cache (version 4) without asking the KDC, in one
// step and readable by the owner only. It returns the cache's path. Every
// state of a ticket is one call: expired, ends in 30 seconds, not yet valid.
func (r *Realm) Mint(o MintOptions) (string, error) {
	o.User = cmp.Or(o.User, "alice")
	o.Cache = cmp.Or(o.Cache, r.CachePath())
	if _, ok := r.users[o.User]; !ok {
		return "", fmt.Errorf("mint: realm %s has no user %q", r.name, o.User)
	}
	if o.Start.IsZero() {
		o.Start = r.now()
	}
	if o.End.IsZero() {
		o.End = o.Start.Add(10 * time.Hour)
	}
	if o.ServiceEnd.IsZero() {
		o.ServiceEnd = o.End
	}
	client := principal(o.User)
	t := grant{client: client, auth: seconds(o.Start), start: seconds(o.Start), end: seconds(o.End), flags: []int{flags.Initial, flags.PreAuthent}}
	if !o.RenewUntil.IsZero() {
		t.renew = seconds(o.RenewUntil)
		t.flags = append(t.flags, flags.Renewable)
	}

	// The only header field is a clock offset of zero, as MIT writes it.
	b := []byte{5, 4, 0, 12, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0}
	b = appendPrincipal(b, client, r.name)
	var err error
	if !o.NoTGT {
		if b, err = r.appendCred(b, t, r.tgs(), r.tgsKeys); err != nil {
			return "", fmt.Errorf("mint: %w", err)
		}
	}
	t.end, t.renew, t.flags = seconds(o.ServiceEnd), time.Time{}, []int{flags.PreAuthent}
	for _, s := range o.Services {
		if _, ok := r.services[s]; !ok {
			return "", fmt.Errorf("mint: realm %s has no service %q", r.name, s)
		}
		if b, err = r.appendCred(b, t, s, r.svcKeys); err != nil {
			return "", fmt.Errorf("mint: %w", err)
		}
	}
	if err := replaceFile(o.Cache, b); err != nil {
		return "", fmt.Errorf("mint: %w", err)
	}
	return o.Cache, nil
}

func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// appendCred adds one ticket in the layout of cache version 4.
func (r *Realm) appendCred(b []byte, t grant, service string, keys *keytab.Keytab) ([]byte, error) {
	sname := principal(service)
	bits := types.NewKrbFlags()
	types.SetFlags(&bits, t.flags)
	ticket, session, err := messages.NewTicket(t.client, r.name, sname, r.name, bits, keys, etype, kvno, t.auth, t.start, t.end, t.renew)
	if err != nil {
		return nil, err
	}
	raw, err := ticket.Marshal()
	if err != nil {
		return nil, err
	}
	b = appendPrincipal(b, t.client, r.name)
	b = appendPrincipal(b, sname, r.name)
	b = binary.BigEndian.AppendUint16(b, uint16(session.KeyType))
	b = appendData(b, session.KeyValue)
	for _, at := range []time.Time{t.auth, t.start, t.end, t.renew} {
		stamp := uint32(0)
		if !at.IsZero() {
			stamp = uint32(at.Unix())
		}
		b = binary.BigEndian.AppendUint32(b, stamp)
	}
	b = append(b, 0) // is_skey
	b = append(b, bits.Bytes...)
	b = binary.BigEndian.AppendUint32(b, 0) // addresses
	b = binary.BigEndian.AppendUint32(b, 0) // authorization data
	b = appendData(b, raw)
	return appendData(b, nil), nil // no second ticket
}

func appendPrincipal(b []byte, name types.PrincipalName, realm string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(name.NameType))
	b = binary.BigEndian.AppendUint32(b, uint32(len(name.NameString)))
	b = appendData(b, []byte(realm))
	for _, s := range name.NameString {
		b = appendData(b, []byte(s))
	}
	return b
}

func appendData(b, data []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(data))), data...)
}
