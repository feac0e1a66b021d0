package route

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// An Explanation is a [Decision] in words.
type Explanation struct {
	Decision
	Nearest string // the entry that comes closest without matching, "" for none
	Reason  string // plain sentences
}

// Explain decides as [Table.Decide] does and says why. Where no list decided it
// looks for the entry that its writer may have thought of, and says why that
// one does not match. It walks the lists and is not for every request.
func (t *Table) Explain(h Host, port uint16) Explanation {
	e := Explanation{Decision: t.Decide(h, port)}
	switch {
	case h.text == "":
		e.Reason = "There is no host, so there is nowhere to go."
	case e.Loop:
		e.Reason = fmt.Sprintf("%s port %d is the helper's own listener: the request would go round in circles.", h, port)
	case e.Rule == RuleLoopback:
		e.Reason = fmt.Sprintf("%s is this computer (%s), which never goes through the proxy.", h, e.Entry)
	case e.Rule == RuleExact:
		e.Reason = fmt.Sprintf("%s is on the exact list%s.", h, inBrackets(e.Source))
	case e.Rule == RuleSuffix:
		e.Reason = fmt.Sprintf("The entry %q of the suffix list%s covers %s on port %d.", e.Entry, inBrackets(e.Source), h, port)
	default:
		e.Reason = t.unlisted(e.Decision)
		if near := t.nearest(h, port); near.entry != "" {
			e.Nearest = near.entry
			e.Reason += " " + near.why
		}
	}
	return e
}

func (t *Table) unlisted(d Decision) string {
	if d.Rule == RulePAC {
		return fmt.Sprintf("No list names %s, so the configuration script (PAC%s) decides.", d.Host, strings.TrimSuffix(strings.Replace(inBrackets(d.Source), " (", ", ", 1), ")"))
	}
	if d.Route == Refused {
		return fmt.Sprintf("No list names %s and no upstream proxy is known; a host that is not listed never goes direct.", d.Host)
	}
	kerberos := "without Kerberos"
	if t.Kerberos {
		kerberos = "with Kerberos"
	}
	return fmt.Sprintf("No list names %s, so it goes through %s%s, %s.", d.Host, withoutUserinfo(t.Upstream), inBrackets(d.Source), kerberos)
}

func inBrackets(source string) string {
	if source == "" {
		return ""
	}
	return " (" + source + ")"
}

// withoutUserinfo keeps a password in an upstream URL out of explanations,
// whether or not the URL is a valid one.
func withoutUserinfo(u string) string {
	scheme, rest, found := strings.Cut(u, "://")
	if !found {
		scheme, rest = "", u
	} else {
		scheme += "://"
	}
	return scheme + rest[strings.LastIndexByte(rest, '@')+1:]
}

// A miss is an entry that does not match. The closer it comes, the higher it
// ranks, and rank 0 is not close at all; among equals the longer name wins, then
// the first in the list.
type miss struct {
	rank, length int
	entry, why   string
}

const (
	ownName    = 5 // the same host, but the entry is limited in another way
	sameDomain = 4 // one of the two is below the other
	sameEnd    = 3 // the same letters, but not at a label boundary
	sameStart  = 2
	oneLetter  = 1
)

func (t *Table) nearest(h Host, port uint16) miss {
	var best miss
	consider := func(m miss) {
		if m.rank > best.rank || m.rank > 0 && m.rank == best.rank && m.length > best.length {
			best = m
		}
	}
	if t.Exact != nil {
		for _, entry := range t.Exact.entries {
			consider(missExact(h, entry))
		}
	}
	if t.Suffix != nil {
		for _, r := range t.Suffix.rules {
			consider(missSuffix(h, port, r))
		}
	}
	return best
}

// missExact compares h with an entry of the exact list it is not equal to.
func missExact(h Host, entry string) miss {
	m := miss{entry: entry, length: len(entry)}
	other, _ := canon(entry)
	switch {
	case isMappedTwin(h, other):
		m.rank = ownName
		m.why = fmt.Sprintf("%s is on the exact list, but %s is not the same spelling: IPv4 and IPv6 are kept apart.", entry, h)
	case h.addr.IsValid() || other.addr.IsValid():
	case strings.TrimSuffix(h.text, ".") == strings.TrimSuffix(entry, "."):
		m.rank = ownName
		m.why = fmt.Sprintf("%s is on the exact list, but with a dot at its end a name of one word skips the search domains, so %s is another name.", entry, h)
	case isBelow(h.text, entry):
		m.rank = sameDomain
		m.why = fmt.Sprintf("%s is on the exact list, but exact entries do not cover subdomains: %s is another name.", entry, h)
	case isBelow(entry, h.text):
		m.rank = sameDomain
		m.why = fmt.Sprintf("%s is on the exact list, but it does not stand for the domain it lies in: %s is another name.", entry, h)
	default:
		m.lookAlike(h.text, entry)
	}
	return m
}

// missSuffix compares h with an entry of the suffix list that does not cover it.
func missSuffix(h Host, port uint16, r rule) miss {
	m := miss{entry: r.entry, length: len(r.host.text)}
	name := strings.TrimSuffix(h.text, ".")
	covered := name == r.host.text && r.kind != onlyBelow || isBelow(name, r.host.text)
	switch {
	case r.kind == everything:
	case r.kind == addrBlock:
		if h.addr.Is4In6() && r.block.Contains(h.addr.Unmap()) {
			m.rank = ownName
			m.why = fmt.Sprintf("The entry %s is a block of IPv4 addresses, and %s is an IPv6 spelling.", r.entry, h)
		}
	case isMappedTwin(h, r.host):
		m.rank = ownName
		m.why = fmt.Sprintf("The entry %s is the same address, but not in the same spelling: IPv4 and IPv6 are kept apart.", r.entry)
	case covered && r.port != port: // with a rule for every port it would have matched
		m.rank = ownName
		m.why = fmt.Sprintf("The entry %s is for port %d, and this request is for port %d.", r.entry, r.port, port)
	case h.addr.IsValid() || r.kind == oneAddr:
	case name == r.host.text:
		m.rank = ownName
		m.why = fmt.Sprintf("The entry %s covers only the names below %s, not %s itself.", r.entry, r.host, r.host)
	case isBelow(r.host.text, name):
		m.rank = sameDomain
		m.why = fmt.Sprintf("The entry %s covers %s and what lies below it, but not %s above it.", r.entry, r.host, name)
	default:
		m.lookAlike(name, r.host.text)
	}
	return m
}

// lookAlike covers names that belong to different people but look related.
func (m *miss) lookAlike(name, entry string) {
	switch {
	case strings.HasSuffix(name, entry):
		m.rank = sameEnd
		m.why = fmt.Sprintf("%s only ends in the same letters as %s: without a dot before them it is an unrelated name.", name, entry)
	case strings.HasPrefix(name, entry+"."):
		m.rank = sameStart
		m.why = fmt.Sprintf("%s only begins like %s: who owns a name shows at its end.", name, entry)
	default:
		// Compared as people see them, so that a single foreign letter shows.
		seenName, seenEntry := display(name), display(entry)
		if differInOne([]rune(seenName), []rune(seenEntry)) {
			m.rank = oneLetter
			if seenName != name {
				seenName += " (" + name + ")"
			}
			m.why = fmt.Sprintf("%s differs from %s in one character.", seenName, seenEntry)
		}
	}
}

func isBelow(name, parent string) bool {
	return len(name) > len(parent) && name[len(name)-len(parent)-1] == '.' && strings.HasSuffix(name, parent)
}

// isMappedTwin reports one address in two spellings, IPv4 and IPv4-mapped IPv6.
func isMappedTwin(a, b Host) bool {
	return a.addr.IsValid() && a.addr != b.addr && a.addr.Unmap() == b.addr.Unmap()
}

func display(name string) string {
	if shown, err := idna.Display.ToUnicode(name); err == nil {
		return shown
	}
	return name
}

// differInOne reports texts that one replaced, added or missing character, or
// two swapped ones, keep apart. Very short names are all alike and do not count.
func differInOne(a, b []rune) bool {
	if len(a) < len(b) {
		a, b = b, a
	}
	if len(b) < 5 || len(a)-len(b) > 1 {
		return false
	}
	same := 0
	for same < len(b) && a[same] == b[same] {
		same++
	}
	a, b = a[same:], b[same:]
	switch {
	case len(a) > len(b):
		return slices.Equal(a[1:], b)
	case len(a) == 0:
		return false
	case len(a) > 1 && a[0] == b[1] && a[1] == b[0]:
		return slices.Equal(a[2:], b[2:])
	}
	return slices.Equal(a[1:], b[1:])
}
