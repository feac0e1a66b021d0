package web

import (
	"encoding/json"
	"errors"
	"net/netip"
)

// kept is what a server leaves for the next one, so that open pages come back:
// where it was, and to whom it listened.
type kept struct {
	Addr     netip.AddrPort `json:"addr"`
	Sessions []session      `json:"sessions"`
}

// keep is text for [readKept].
func keep(addr string, sessions []session) string {
	b, _ := json.Marshal(kept{netip.MustParseAddrPort(addr), sessions}) // nothing in it can fail
	return string(b)
}

var errNotKept = errors.New("nothing was kept")

// readKept refuses what cannot be from keep.
func readKept(text string) (k kept, err error) {
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		return kept{}, err
	}
	if k.Addr.Addr() != netip.AddrFrom4([4]byte{127, 0, 0, 1}) || k.Addr.Port() == 0 || len(k.Sessions) == 0 || len(k.Sessions) > maxSessions {
		return kept{}, errNotKept
	}
	for _, s := range k.Sessions {
		if s.Name == "" || len(s.Value) != len(random()) || len(s.Proof) != len(s.Value) {
			return kept{}, errNotKept
		}
	}
	return k, nil
}

// addr is where to listen, any port if nothing is kept.
func (k kept) addr() netip.AddrPort {
	if !k.Addr.IsValid() {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0)
	}
	return k.Addr
}
