package doctor

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

// Names are what the caller knows to be a name, beside those that [Redact]
// recognises by their form. Case does not count.
type Names struct {
	Users      []string // account names
	Principals []string // alice@CORP.EXAMPLE
	Hosts      []string // with or without a domain
	Homes      []string // folders that are shown as ~
}

// Note says in a redacted report what was done to it.
const Note = "Names are replaced: the same stand-in (user1, REALM1, host1.example, address1) is the same name throughout. Passwords, tokens, cookies, queries and whatever looks like one are removed. Ports, versions, times and sizes are as they were."

const removed = "[removed]"

// Redact returns a copy of r that can be given to strangers. Secrets are
// removed; names of users, realms, hosts and their addresses are replaced,
// each by the same stand-in wherever it stands, also where it is written in
// base64, in hexadecimal or with percent signs. Names of one letter and what
// the program itself calls so (localhost, kerberos.spn) stay.
func Redact(r Report, n Names) Report {
	x := newRedactor(n)
	out := r
	out.Findings = slices.Clone(r.Findings)
	texts := []*string{&out.Version, &out.System}
	for i := range out.Findings {
		f := &out.Findings[i]
		texts = append(texts, &f.Seen, &f.Action)
	}
	for _, s := range texts { // first all names, so that each is known everywhere
		x.learn(*s)
	}
	x.compile()
	for _, s := range texts {
		*s = x.clean(*s)
	}
	return out
}

type redactor struct {
	homes    []string
	standIns map[string]string // by lower-case name
	counts   map[string]int
	encoded  [][2]string // what to replace by what, longest first
	words    *regexp.Regexp
}

// pattern is compiled when it is first used, not at every start.
func pattern(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

var (
	// Userinfo goes in one piece: a password may hold any character but a blank.
	// Greedy, because it may hold an @ too.
	userinfo  = pattern(`(?i)\b([a-z][a-z0-9+.-]*://)[^\s/?#"]*@`)
	query     = pattern(`([?#])[^\s"'<>]*[=&%+/A-Za-z0-9_-]`)
	scheme    = pattern(`(?i)\b(negotiate|ntlm|basic|digest|bearer)([\s:]+)([A-Za-z0-9+/=_.~-]{6,})`)
	field     = pattern(`(?i)\b((?:set-)?cookie2?|(?:proxy-)?authorization|x-[a-z-]*(?:token|key|secret)[a-z-]*)\s*[:=]\s*[^\r\n]*`)
	assigned  = pattern(`(?i)\b([a-z_-]*(?:passw(?:or)?d|passphrase|pwd|secret|token|api[_-]?key))(\s*[:=]\s*)("[^"]*"|'[^']*'|[^\s,;]+)`)
	percent   = pattern(`[^\s"'()<>]*%[0-9A-Fa-f]{2}[^\s"'()<>]*`)
	run       = pattern(`[A-Za-z0-9+/_=-]{16,}`)
	principal = pattern(`([\pL\pN._$+-]+)((?:/[\pL\pN._-]+)?)@([\pL\pN][\pL\pN.-]*[\pL\pN]|[\pL\pN])`)
	service   = pattern(`\b([A-Za-z][A-Za-z0-9]*)/([\pL\pN][\pL\pN.-]*[\pL\pN])@`)
	spn       = pattern(`\b(HTTP|krbtgt|host|cifs|ldap)/([\pL\pN][\pL\pN.-]*[\pL\pN])`)
	dotted    = pattern(`[\pL\pN_][\pL\pN_-]*(?:\.[\pL\pN_][\pL\pN_-]*)+`)
	authority = pattern(`(?i)\b[a-z][a-z0-9+.-]*://(\[[^\]\s]*\]|[^\s/:?#"'<>]+)`)
	ipv6      = pattern(`[0-9A-Fa-f]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*`)
	word      = pattern(`^[a-z]{1,15}[.,;]?$`)
	number    = pattern(`^v?[0-9]+(?:\.[0-9]+)*$`)
)

// ours are words that look like names and are the program's own, or nobody's.
var ours = pattern(`(?i)^(?:localhost|kerbpass|root|administrator|system|proxy|server|gateway|kerbpass-test\.invalid|config\.toml|krb5\.conf|resolv\.conf|(?:kerberos|bypass|access|ui|connect|gateway)\.[a-z_]+|lib[a-z0-9_+-]+\.(?:so|dylib|dll)(?:\.[0-9.]+)?|gss\.framework|user[0-9]+|realm[0-9]+|host[0-9]+\.example|address[0-9]+|http|https|krbtgt|e\.g|i\.e)$`)

func newRedactor(n Names) *redactor {
	x := &redactor{standIns: map[string]string{}, counts: map[string]int{}, homes: n.Homes}
	for _, p := range n.Principals {
		x.learn(p)
	}
	for _, u := range n.Users {
		// DOMAIN\name, as Windows spells it.
		for part := range strings.SplitSeq(u, `\`) {
			x.user(part)
		}
	}
	for _, h := range n.Hosts {
		x.host(h)
	}
	return x
}

// add gives name a stand-in, unless it has one or is to stay.
func (x *redactor) add(kind, name, format string) {
	key := strings.ToLower(name)
	if utf8.RuneCountInString(key) < 2 || x.standIns[key] != "" || ours().MatchString(key) {
		return
	}
	x.counts[kind]++
	x.standIns[key] = fmt.Sprintf(format, x.counts[kind])
}

func (x *redactor) user(s string) {
	if !number().MatchString(s) {
		x.add("user", s, "user%d")
	}
}

func (x *redactor) realm(s string) { x.add("realm", s, "REALM%d") }

func (x *redactor) host(s string) {
	s = strings.TrimSuffix(strings.Trim(s, "[]"), ".")
	if a, err := netip.ParseAddr(s); err == nil {
		if !a.IsLoopback() && !a.IsUnspecified() {
			x.add("address", s, "address%d")
		}
		return
	}
	if !number().MatchString(s) {
		x.add("host", s, "host%d.example")
	}
}

// learn takes note of every name that can be told by its form.
func (x *redactor) learn(text string) {
	text = userinfo().ReplaceAllString(text, "$1")
	for _, m := range service().FindAllStringSubmatch(text, -1) {
		x.spnHost(m[1], m[2])
	}
	for _, m := range spn().FindAllStringSubmatch(text, -1) {
		x.spnHost(m[1], m[2])
	}
	for _, m := range principal().FindAllStringSubmatch(text, -1) {
		before := m[1]
		if x.standIns[strings.ToLower(before)] == "" { // else the host of HTTP/host@REALM
			x.user(before)
		}
		if m[2] != "" {
			x.host(m[2][1:])
		}
		x.realm(m[3])
	}
	for _, m := range authority().FindAllStringSubmatch(text, -1) {
		x.host(m[1])
	}
	for _, m := range ipv6().FindAllString(text, -1) {
		if a, err := netip.ParseAddr(m); err == nil && a.Is6() {
			x.host(m)
		}
	}
	for _, m := range dotted().FindAllString(text, -1) {
		switch {
		case m == strings.ToUpper(m) && m != strings.ToLower(m):
			x.realm(m)
		default:
			x.host(m)
		}
	}
}

func (x *redactor) spnHost(kind, name string) {
	if strings.EqualFold(kind, "krbtgt") {
		x.realm(name)
		return
	}
	x.host(name)
}

// compile prepares for replacing: longer names first, because one may hold
// another.
func (x *redactor) compile() {
	names := make([]string, 0, len(x.standIns))
	for name := range x.standIns {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = regexp.QuoteMeta(name)
		for _, spelling := range []string{name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:]} {
			for _, e := range encodings(spelling) {
				x.encoded = append(x.encoded, [2]string{e, removed})
			}
		}
	}
	slices.SortStableFunc(x.encoded, func(a, b [2]string) int { return len(b[0]) - len(a[0]) })
	if len(quoted) > 0 {
		x.words = regexp.MustCompile(`(?i)` + strings.Join(quoted, "|"))
	}
}

// encodings are other ways to write a name, as far as they are long enough to
// be told from chance. In base64 a name looks different at each of three
// offsets; what of it does not depend on its neighbours is what counts.
func encodings(name string) (all []string) {
	if len(name) < 4 {
		return nil
	}
	b := []byte(name)
	for offset := range 3 {
		padded := append(make([]byte, offset), b...)
		for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := enc.EncodeToString(padded)
			from := (offset*8 + 5) / 6
			to := len(padded) * 8 / 6
			if piece := text[from:to]; len(piece) >= 4 && !slices.Contains(all, piece) {
				all = append(all, piece)
			}
		}
	}
	h := hex.EncodeToString(b)
	return append(all, h, strings.ToUpper(h))
}

func (x *redactor) clean(s string) string {
	if s == "" {
		return s
	}
	s = field().ReplaceAllString(s, "$1: "+removed)
	s = userinfo().ReplaceAllString(s, "$1")
	s = query().ReplaceAllString(s, "$1"+removed)
	s = assigned().ReplaceAllStringFunc(s, func(m string) string {
		parts := assigned().FindStringSubmatch(m)
		if v := strings.Trim(parts[3], `"'`); v == "true" || v == "false" || strings.HasPrefix(parts[3], removed) {
			return m
		}
		return parts[1] + parts[2] + removed
	})
	s = scheme().ReplaceAllStringFunc(s, func(m string) string {
		parts := scheme().FindStringSubmatch(m)
		if word().MatchString(parts[3]) {
			return m // "NTLM instead of Kerberos"
		}
		return parts[1] + parts[2] + removed
	})
	for _, home := range x.homes {
		if len(home) > 1 {
			s = strings.ReplaceAll(s, home, "~")
		}
	}
	s = percent().ReplaceAllStringFunc(s, func(m string) string {
		if plain, err := url.PathUnescape(m); err == nil && plain == m {
			return m
		}
		return removed
	})
	if x.words != nil {
		s = x.replaceNames(s)
	}
	for _, e := range x.encoded {
		s = strings.ReplaceAll(s, e[0], e[1])
	}
	return run().ReplaceAllStringFunc(s, func(m string) string {
		if randomLooking(m) {
			return removed
		}
		return m
	})
}

// replaceNames finds names inside words as well, so that none hides behind a
// letter; short ones only by themselves, or nothing could be read any more.
func (x *redactor) replaceNames(s string) string {
	var b strings.Builder
	done := 0
	for _, at := range x.words.FindAllStringIndex(s, -1) {
		m := s[at[0]:at[1]]
		before, _ := utf8.DecodeLastRuneInString(s[:at[0]])
		after, _ := utf8.DecodeRuneInString(s[at[1]:])
		if utf8.RuneCountInString(m) < 4 && (alphanumeric(before) || alphanumeric(after)) {
			continue
		}
		in, ok := x.standIns[strings.ToLower(m)]
		if !ok {
			in = removed // a letter whose case is not one to one
		}
		b.WriteString(s[done:at[0]] + in)
		done = at[1]
	}
	return b.String() + s[done:]
}

func alphanumeric(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// randomLooking tells a token, a key or a digest from words and paths.
func randomLooking(s string) bool {
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '/' || r == '-' || r == '_' || r == '=' }) {
		var lower, upper, digit, turns int
		last := 0
		for _, r := range part {
			kind := 0
			switch {
			case r >= 'a' && r <= 'z':
				lower++
				kind = 1
			case r >= 'A' && r <= 'Z':
				upper++
				kind = 2
			default:
				digit++
				kind = 3
			}
			if last != 0 && kind != last {
				turns++
			}
			last = kind
		}
		switch n := lower + upper + digit; {
		case n >= 8 && upper > 0 && lower > 0 && (digit > 0 || turns > 4):
			return true
		case n >= 24 && digit > 0:
			return true
		}
	}
	return false
}
