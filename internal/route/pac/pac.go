// Package pac runs proxy auto-configuration scripts (PAC): it fetches the
// script, asks it which way a request takes, and reads its answer.
//
// What it promises: the whole function set of the PAC specification and
// Microsoft's extensions for IPv6, in Go, for scripts in ECMAScript 5 and most
// of what came after; the script runs in a process of its own, so that one that
// does not end, or eats memory, costs the request that asked and nothing else;
// of a script that cannot be fetched again the last good one stays in use; an
// answer is kept for a moment only, and not at all if the time or chance had a
// part in it.
//
// What it refuses: to say "direct" because something broke. A script that is
// missing or fails, or gives an answer in which nothing can be used, is an
// error. So is an answer that is empty, null or no string, where browsers
// differ: some go direct then. It fetches nothing through a proxy, tells the
// script no path or query of a request, and passes no credentials on.
//
// One script instance serves many requests, as in browsers: what it keeps in
// global variables stays until its process ends, which is after a while without
// requests, and with every new version of the script.
package pac

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Limits of one script and of one evaluation.
const (
	maxScript    = 1 << 20          // bytes, as fetched
	maxHeap      = 96 << 20         // bytes, of the process that runs it
	maxLine      = 4 << 10          // bytes of an answer
	maxHops      = 16               // of one answer that are used
	ownLimit     = 2 * time.Second  // the script's own time, without what it waits for
	lookupLimit  = 2 * time.Second  // one lookup of a name
	lookupsLimit = 4 * time.Second  // all lookups of one evaluation
	killAfter    = 15 * time.Second // no word from the process: it is ended
)

// Errors of a script that callers test for with [errors.Is].
var (
	ErrNoScript = errors.New("the script could not be fetched")
	ErrScript   = errors.New("the script failed")
	ErrTooLong  = errors.New("the script did not end in time")
	ErrTooLarge = errors.New("the script took too much memory")
	ErrAnswer   = errors.New("nothing in the script's answer can be used")
	errBusy     = errors.New("too many requests wait for the script")
)

// A Kind says how a hop is spoken to.
type Kind string

// The kinds.
const (
	Direct Kind = "DIRECT"
	HTTP   Kind = "PROXY"
	HTTPS  Kind = "HTTPS"
	SOCKS5 Kind = "SOCKS5"
)

// A Hop is one entry of an answer. Direct has neither host nor port.
type Hop struct {
	Kind Kind
	Host string // lower case, IPv6 without brackets
	Port uint16
}

func (h Hop) String() string {
	if h.Kind == Direct {
		return string(Direct)
	}
	return string(h.Kind) + " " + net.JoinHostPort(h.Host, strconv.Itoa(int(h.Port)))
}

// An Answer is what the script says about one target. It is shared and not
// changed.
type Answer struct {
	Line    string   // as the script gave it, for people
	Hops    []Hop    // in order of preference, at least one
	Skipped []string // what of it is not used, and why
	Varies  bool     // the time or chance had a part in it
}

// Parse reads an answer: entries with semicolons between them, each a kind in
// any letter case with host and port. Without a port a kind's usual one counts.
// SOCKS, which does not say the version, is spoken to as SOCKS5; SOCKS4 and what
// is no entry at all is left out, with the reason.
func Parse(line string) (hops []Hop, skipped []string) {
	for entry := range strings.SplitSeq(line, ";") {
		entry = strings.TrimFunc(entry, unicode.IsSpace)
		if entry == "" {
			continue
		}
		hop, err := parseHop(entry)
		switch {
		case err != nil:
			skipped = append(skipped, fmt.Sprintf("%s: %v", shown(entry), err))
		case len(hops) == maxHops:
			skipped = append(skipped, fmt.Sprintf("%s: it is one of too many", shown(entry)))
		default:
			hops = append(hops, hop)
		}
		if len(skipped) > maxHops {
			return hops, skipped
		}
	}
	return hops, skipped
}

func parseHop(entry string) (hop Hop, err error) {
	i := strings.IndexFunc(entry, unicode.IsSpace)
	if i < 0 {
		i = len(entry)
	}
	kind, rest := strings.ToUpper(entry[:i]), strings.TrimFunc(entry[i:], unicode.IsSpace)
	usual := uint16(80)
	switch kind {
	case "DIRECT":
		if rest != "" {
			return hop, errors.New("DIRECT stands alone")
		}
		return Hop{Kind: Direct}, nil
	case "PROXY", "HTTP":
		hop.Kind = HTTP
	case "HTTPS":
		hop.Kind, usual = HTTPS, 443
	case "SOCKS", "SOCKS5":
		hop.Kind, usual = SOCKS5, 1080
	case "SOCKS4":
		return hop, errors.New("SOCKS4 is not spoken here")
	default:
		return hop, errors.New("it begins with no kind of proxy")
	}
	hop.Host, hop.Port, err = hostPort(rest, usual)
	return hop, err
}

func hostPort(s string, usual uint16) (host string, port uint16, err error) {
	errHost := errors.New("it names no host")
	digits := ""
	switch end := strings.LastIndexByte(s, ']'); {
	case strings.HasPrefix(s, "[") && end > 0:
		host = s[1:end]
		if rest, ok := strings.CutPrefix(s[end+1:], ":"); ok || s[end+1:] == "" {
			digits = rest
		} else {
			return "", 0, errHost
		}
		if a, err := netip.ParseAddr(host); err != nil || !a.Is6() || a.Zone() != "" {
			return "", 0, errHost
		}
	default:
		var found bool
		if host, digits, found = strings.Cut(s, ":"); found && digits == "" {
			return "", 0, errors.New("its port is none")
		}
		if strings.Contains(digits, ":") { // an IPv6 address without brackets
			return "", 0, errHost
		}
	}
	bad := func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`/\@?#%[]"<>|^{},;*`, r)
	}
	if host == "" || len(host) > 253 || strings.ContainsFunc(host, bad) {
		return "", 0, errHost
	}
	if digits != "" {
		n, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || n == 0 || strings.Trim(digits, "0123456789") != "" {
			return "", 0, errors.New("its port is none")
		}
		port = uint16(n)
	}
	return strings.ToLower(host), cmp.Or(port, usual), nil
}

// shown is s for a message: short, in one line, and hidden where it may hold a
// password.
func shown(s string) string {
	if strings.Contains(s, "@") {
		return "an entry that is not shown, for it carries a user name or password"
	}
	return strconv.Quote(short(s, 80))
}

// short makes one line of s, of n characters at most.
func short(s string, n int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar || unicode.Is(unicode.Cf, r) {
			return ' '
		}
		return r
	}, s)
	if r := []rune(s); len(r) > n {
		s = string(r[:n]) + "…"
	}
	return s
}
