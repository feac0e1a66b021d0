package route

import "slices"

// Exact is the list of hosts that go direct, each one by its full name. It
// knows neither subdomains, ports nor schemes. A nil *Exact is empty.
type Exact struct {
	entries []string
	index   map[string]int // canonical text to its place in entries
}

// ParseExact reads the entries by the rule of [CheckEntry]. Good ones are kept,
// each bad one is reported, blank ones and repetitions are dropped. The Exact
// is never nil.
func ParseExact(entries []string) (*Exact, []EntryError) {
	e := &Exact{index: make(map[string]int, len(entries))}
	var bad []EntryError
	for _, entry := range entries {
		if isBlank(entry) {
			continue
		}
		host, err := checkEntry(entry)
		if err != nil {
			bad = append(bad, *err)
			continue
		}
		if _, known := e.index[host.text]; !known {
			e.index[host.text] = len(e.entries)
			e.entries = append(e.entries, host.text)
		}
	}
	return e, bad
}

// Match returns the entry that is h, in one lookup and without allocating. The
// text alone decides: no name has the text of an address.
func (e *Exact) Match(h Host) (entry string, ok bool) {
	if e == nil {
		return "", false
	}
	i, ok := e.index[h.text]
	if !ok {
		return "", false
	}
	return e.entries[i], true
}

// Len returns the number of entries.
func (e *Exact) Len() int {
	if e == nil {
		return 0
	}
	return len(e.entries)
}

// Entries returns a copy of the canonical entries in the order of the list.
func (e *Exact) Entries() []string {
	if e == nil {
		return nil
	}
	return slices.Clone(e.entries)
}
