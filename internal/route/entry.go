package route

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An EntryError says why an entry of a list is refused, in words for the person
// who wrote it.
type EntryError struct {
	Entry      string   // as written, without the blanks around it
	Reason     string   // a plain sentence, lower case, without full stop
	Suggestion []string // entries the same list accepts; empty if there is no good guess
}

func (e *EntryError) Error() string {
	text := "entry " + quote(e.Entry) + ": " + e.Reason
	if len(e.Suggestion) > 0 {
		text += "; try " + strings.Join(e.Suggestion, ", ")
	}
	return text
}

// SplitList cuts a list at commas and line ends, trims the parts and drops the
// empty ones. Blanks and semicolons do not separate: [CheckEntry] refuses what
// contains them and offers to split.
func SplitList(s string) []string {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' })
	list := parts[:0]
	for _, p := range parts {
		if p = strings.TrimSpace(p); p != "" {
			list = append(list, p)
		}
	}
	return list
}

// CheckEntry returns the canonical form of one entry of the exact list. Blanks
// around it and brackets round an IPv6 address are taken off; everything else
// is the rule of [ParseHost], so an accepted entry matches at least the host it
// spells. An error is an [*EntryError].
func CheckEntry(s string) (canonical string, err error) {
	host, bad := checkEntry(s)
	if bad != nil {
		return "", bad
	}
	return host.text, nil
}

func isBlank(s string) bool { return strings.TrimSpace(s) == "" }

func checkEntry(s string) (Host, *EntryError) {
	s = strings.TrimSpace(s)
	host, reason := canonEntry(s)
	if reason == "" {
		return host, nil
	}
	bad := &EntryError{Entry: s, Reason: reason}
	if better := exactReason(s); better != "" {
		bad.Reason = better
	}
	for _, part := range pieces(s) {
		if host, reason := canonEntry(part.host); reason == "" && !slices.Contains(bad.Suggestion, host.text) {
			bad.Suggestion = append(bad.Suggestion, host.text)
		}
	}
	return Host{}, bad
}

// canonEntry is canon for what a person types. An IPv6 address may come in
// brackets. Typographic quotation marks and separators, which the conversion of
// international names lets pass, are slips of a keyboard and not names.
func canonEntry(s string) (h Host, reason string) {
	if i := strings.IndexFunc(s, func(r rune) bool { return isQuote(r) || separates(r) }); i >= 0 {
		r, _ := utf8.DecodeRuneInString(s[i:])
		return Host{}, badRune(r)
	}
	inner, bracketed := unbracket(s)
	h, reason = canon(inner)
	if bracketed && reason == "" && !h.addr.Is6() {
		return Host{}, "brackets belong round an IPv6 address only"
	}
	return h, reason
}

func unbracket(s string) (inner string, ok bool) {
	if len(s) > 2 && s[0] == '[' && s[len(s)-1] == ']' {
		return s[1 : len(s)-1], true
	}
	return s, false
}

// exactReason names the mistake behind an entry the exact list refuses, or ""
// where the plain reason of canon says it best.
func exactReason(s string) string {
	if isBlock(s) {
		return "a block of addresses does not work in the exact list; enter each address, or use the suffix list"
	}
	if reason := commonReason(s); reason != "" {
		return reason
	}
	switch {
	case strings.Contains(s, "*"):
		return "wildcards do not work in the exact list; enter each name in full, or use the suffix list"
	case strings.HasPrefix(s, "."):
		return "a leading dot stands for subdomains, which the exact list does not cover; enter each name in full, or use the suffix list"
	case hasPort(s):
		return "the exact list holds hosts without a port; an entry counts for every port"
	}
	return ""
}

// commonReason covers the mistakes that neither list accepts.
func commonReason(s string) string {
	switch {
	case s == "":
		return "the entry is empty"
	case !utf8.ValidString(s):
		return "it is not valid UTF-8"
	case strings.ContainsFunc(s, invisible):
		r, _ := utf8.DecodeRuneInString(s[strings.IndexFunc(s, invisible):])
		return badRune(r) + ", so it is not the name it looks like"
	case strings.ContainsFunc(s, isQuote):
		return "quotation marks are not part of a host name"
	case strings.ContainsFunc(s, separates):
		return "it looks like several entries; enter them one by one, or with commas between them"
	case strings.Contains(s, `\`):
		return `a backslash does not occur in host names; programs disagree about what comes after it`
	case strings.Contains(s, "://"), strings.HasPrefix(s, "//"):
		return "this is a URL; enter the host alone"
	case strings.ContainsAny(s, "/?#"):
		return "there is a path behind the host; enter the host alone"
	case strings.Contains(s, "@"):
		return "there is a user name before the host; enter the host alone"
	}
	return ""
}

// isQuote covers the straight marks and the ones word processors make of them.
func isQuote(r rune) bool { return strings.ContainsRune("\"'`´“”„‘’‚«»", r) }

// separates covers what people put between names in one field.
func separates(r rune) bool { return strings.ContainsRune(",;|，；、", r) || unicode.IsSpace(r) }

// isBlock reports an address block, valid or with a length out of range.
func isBlock(s string) bool {
	base, bits, found := strings.Cut(s, "/")
	if !found || bits == "" || strings.Trim(bits, "0123456789") != "" {
		return false
	}
	base, _ = unbracket(base)
	_, err := netip.ParseAddr(base)
	return err == nil
}

func isBlockWithPort(s string) bool {
	i := strings.LastIndexByte(s, ':')
	return i > 0 && isBlock(s[:i])
}

func hasPort(s string) bool {
	_, port, ok := splitPort(s)
	return ok && port != ""
}

// splitPort takes the port off host:port and [address]:port. An address with
// colons and no brackets has none. ok is false where the colons make no sense.
func splitPort(s string) (host, port string, ok bool) {
	if end := strings.LastIndexByte(s, ']'); strings.HasPrefix(s, "[") && end > 0 {
		if rest := s[end+1:]; rest == "" {
			return s, "", true
		} else if rest[0] != ':' || !isDigits(rest[1:]) {
			return "", "", false
		} else {
			return s[:end+1], rest[1:], true
		}
	}
	switch strings.Count(s, ":") {
	case 0:
		return s, "", true
	case 1:
		host, port, _ = strings.Cut(s, ":")
		return host, port, isDigits(port)
	}
	_, err := netip.ParseAddr(s)
	return s, "", err == nil
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

func parsePort(s string) (port uint16, ok bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && n > 0
}

// A piece is what may have been meant by a part of a refused entry.
type piece struct{ host, port string }

// pieces takes a refused entry apart and strips every part of what people add
// to a host. The results are guesses: the list they are meant for checks them.
func pieces(s string) []piece {
	var found []piece
	for _, p := range strings.FieldsFunc(s, separates) {
		p = strings.TrimFunc(strings.Map(func(r rune) rune {
			if invisible(r) {
				return -1
			}
			return r
		}, p), isQuote)
		if strings.Contains(p, `\`) || isBlock(p) || isBlockWithPort(p) {
			continue // no single host can be what was meant
		}
		if _, rest, isURL := strings.Cut(p, "://"); isURL {
			p = rest
		}
		p = strings.TrimPrefix(p, "//")
		if i := strings.IndexAny(p, "/?#"); i >= 0 {
			p = p[:i]
		}
		p = p[strings.LastIndexByte(p, '@')+1:]
		p = strings.TrimPrefix(strings.TrimPrefix(p, "*"), ".")
		host, port, ok := splitPort(strings.TrimSuffix(p, ":"))
		if !ok {
			continue
		}
		host, _ = unbracket(host)
		if strings.Contains(host, ":") {
			host, _, _ = strings.Cut(host, "%")
		}
		found = append(found, piece{host, port})
	}
	return found
}
