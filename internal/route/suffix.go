package route

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Suffix is the list known as NO_PROXY. A nil *Suffix is empty.
//
// An entry is one of
//
//   - everything
//     corp.com      the name and all names below it
//     .corp.com     the same
//     *.corp.com    the names below it only
//     10.1.2.3      an address, by value; IPv6 with or without brackets
//     10.0.0.0/8    the addresses in a block
//
// and, except for * and a block, may end in :port, which limits it to that
// port. Names match at label boundaries, in canonical form, and with one
// trailing dot ignored on either side. A name is never resolved: no address
// matches it, and no name matches an address. IPv4-mapped IPv6 addresses are
// IPv6 addresses.
type Suffix struct {
	names  map[string]nameEntries   // entries for every port
	ported map[namePort]nameEntries // entries for one port
	addrs  map[netip.AddrPort]string
	blocks map[netip.Prefix]string
	// The prefix lengths in blocks, longest first: one lookup for each of them
	// replaces a walk through the list.
	bits4, bits6 []int
	all          bool

	rules []rule // in the order of the list, for explanations
}

type namePort struct {
	name string
	port uint16
}

// nameEntries are the entries for one name: what the name itself matches and
// what the names below it match, "" for nothing.
type nameEntries struct{ itself, below string }

type ruleKind int

const (
	everything ruleKind = iota
	nameAndBelow
	onlyBelow
	oneAddr
	addrBlock
)

// A rule is one entry, parsed.
type rule struct {
	entry string // as written
	kind  ruleKind
	host  Host         // for names (without a trailing dot) and addresses
	block netip.Prefix // for blocks, masked
	port  uint16       // 0: every port
}

// ParseSuffix reads a comma-separated list. Nothing else separates. An entry
// that could never match is left out and reported once, with the reason.
// The Suffix is never nil.
func ParseSuffix(list string) (*Suffix, []EntryError) {
	s := &Suffix{
		names:  map[string]nameEntries{},
		ported: map[namePort]nameEntries{},
		addrs:  map[netip.AddrPort]string{},
		blocks: map[netip.Prefix]string{},
	}
	var bad []EntryError
	seen := map[string]bool{}
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if entry == "" || seen[entry] {
			continue
		}
		seen[entry] = true
		r, reason := parseRule(entry)
		if reason != "" {
			bad = append(bad, EntryError{Entry: entry, Reason: reason, Suggestion: suffixSuggestions(entry)})
			continue
		}
		s.add(r)
	}
	for _, bits := range []*[]int{&s.bits4, &s.bits6} {
		slices.Sort(*bits)
		slices.Reverse(*bits)
		*bits = slices.Compact(*bits)
	}
	return s, bad
}

// add files a rule. Where two rules say the same, the first one keeps its place.
func (s *Suffix) add(r rule) {
	s.rules = append(s.rules, r)
	switch r.kind {
	case everything:
		s.all = true
	case oneAddr:
		key := netip.AddrPortFrom(r.host.addr, r.port)
		if _, taken := s.addrs[key]; !taken {
			s.addrs[key] = r.entry
		}
	case addrBlock:
		if _, taken := s.blocks[r.block]; !taken {
			s.blocks[r.block] = r.entry
		}
		if r.block.Addr().Is4() {
			s.bits4 = append(s.bits4, r.block.Bits())
		} else {
			s.bits6 = append(s.bits6, r.block.Bits())
		}
	default:
		if r.port == 0 {
			s.names[r.host.text] = s.names[r.host.text].with(r)
		} else {
			key := namePort{r.host.text, r.port}
			s.ported[key] = s.ported[key].with(r)
		}
	}
}

func (n nameEntries) with(r rule) nameEntries {
	if n.below == "" {
		n.below = r.entry
	}
	if n.itself == "" && r.kind == nameAndBelow {
		n.itself = r.entry
	}
	return n
}

// Match returns the entry, as written, that covers h on port, which the caller
// fills in from the scheme where the target names none. Of several the most
// specific one is returned. The cost depends on the number of labels in h, not
// on the length of the list; nothing is allocated.
func (s *Suffix) Match(h Host, port uint16) (entry string, ok bool) {
	if s == nil || h.text == "" {
		return "", false
	}
	if h.addr.IsValid() {
		entry = s.matchAddr(h.addr, port)
	} else {
		entry = s.matchName(h.text, port)
	}
	if entry == "" && s.all {
		entry = "*"
	}
	return entry, entry != ""
}

func (s *Suffix) matchAddr(addr netip.Addr, port uint16) (entry string) {
	if entry := s.addrs[netip.AddrPortFrom(addr, port)]; entry != "" {
		return entry
	}
	if entry := s.addrs[netip.AddrPortFrom(addr, 0)]; entry != "" {
		return entry
	}
	lengths := s.bits6
	if addr.Is4() {
		lengths = s.bits4
	}
	for _, bits := range lengths {
		if block, err := addr.Prefix(bits); err == nil {
			if entry := s.blocks[block]; entry != "" {
				return entry
			}
		}
	}
	return ""
}

func (s *Suffix) matchName(name string, port uint16) (entry string) {
	name = strings.TrimSuffix(name, ".")
	for at := name; ; {
		found := s.names[at]
		if len(s.ported) > 0 {
			found = s.ported[namePort{at, port}].or(found)
		}
		if len(at) == len(name) {
			entry = found.itself
		} else {
			entry = found.below
		}
		dot := strings.IndexByte(at, '.')
		if entry != "" || dot < 0 {
			return entry
		}
		at = at[dot+1:]
	}
}

func (n nameEntries) or(other nameEntries) nameEntries {
	if n.itself == "" {
		n.itself = other.itself
	}
	if n.below == "" {
		n.below = other.below
	}
	return n
}

// Len returns the number of different entries that can match.
func (s *Suffix) Len() int {
	if s == nil {
		return 0
	}
	return len(s.rules)
}

// Entries returns the entries that can match, as written, in the order of the
// list.
func (s *Suffix) Entries() []string {
	if s == nil {
		return nil
	}
	list := make([]string, len(s.rules))
	for i, r := range s.rules {
		list[i] = r.entry
	}
	return list
}

// parseRule reads one trimmed entry. A reason means that it never matches.
func parseRule(entry string) (r rule, reason string) {
	r = rule{entry: entry}
	if entry == "*" {
		return r, "" // kind everything
	}
	if isBlock(entry) {
		block, err := netip.ParsePrefix(entry)
		if err != nil {
			return r, "this is not an address block; write it as 10.0.0.0/8 or 2001:db8::/32"
		}
		r.kind, r.block = addrBlock, block.Masked()
		return r, ""
	}
	if isBlockWithPort(entry) {
		return r, "an address block cannot have a port"
	}
	if reason := commonReason(entry); reason != "" {
		return r, reason
	}

	name, port, ok := splitPort(entry)
	if !ok {
		return r, `what follows ":" is neither a port nor the rest of an IPv6 address`
	}
	if port != "" {
		if r.port, ok = parsePort(port); !ok {
			return r, "the port is not between 1 and 65535"
		}
	}
	r.kind = nameAndBelow
	below, wildcard := strings.CutPrefix(name, "*.")
	if wildcard {
		r.kind = onlyBelow
	} else {
		below = strings.TrimPrefix(name, ".")
	}
	if strings.Contains(below, "*") {
		return r, "a * works alone or as the first label, as in *.corp.example"
	}
	if r.host, reason = canonEntry(below); reason != "" {
		return r, reason
	}
	if r.host.addr.IsValid() {
		if below != name {
			return r, "an address has no names below it"
		}
		r.kind = oneAddr
		return r, ""
	}
	r.host.text = strings.TrimSuffix(r.host.text, ".")
	return r, ""
}

// suffixSuggestions offers what the person may have meant. A port is kept, so
// that the suggestion does not cover other ports than what was written.
func suffixSuggestions(entry string) (list []string) {
	if block := unfinishedBlock(entry); block != "" {
		return []string{block}
	}
	for _, p := range pieces(entry) {
		guess := p.host
		if strings.Contains(guess, ":") && p.port != "" {
			guess = "[" + guess + "]"
		}
		if p.port != "" {
			guess += ":" + p.port
		}
		if _, reason := parseRule(guess); reason == "" && !slices.Contains(list, guess) {
			list = append(list, guess)
		}
	}
	return list
}

// unfinishedBlock reads 10.1, 10.1. and 10.* as the block their writer had in
// mind, or returns "".
func unfinishedBlock(entry string) string {
	start := entry
	for strings.HasSuffix(start, ".*") {
		start = strings.TrimSuffix(start, ".*")
	}
	octets := strings.Count(strings.TrimSuffix(start, "."), ".") + 1
	if octets > 3 || octets == 1 && start == entry && !strings.HasSuffix(entry, ".") {
		return ""
	}
	block, err := netip.ParsePrefix(fmt.Sprintf("%s%s/%d", strings.TrimSuffix(start, "."), strings.Repeat(".0", 4-octets), 8*octets))
	if err != nil {
		return ""
	}
	return block.String()
}
