package krb5

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/etypeID"
)

// Bounds on krb5.conf with everything it includes.
const (
	maxConfSize  = 1 << 20
	maxConfFiles = 64
	maxConfDepth = 10 // of includes within includes, and of blocks within blocks
)

// A node is a line or a block of a profile file.
type node struct {
	name, value string
	kids        []*node
}

// get returns the values of a relation, all of them in order: in a profile,
// sections and blocks of one name add up and the first value wins.
func (n *node) get(path ...string) []string {
	at := []*node{n}
	for _, name := range path {
		var next []*node
		for _, n := range at {
			for _, kid := range n.kids {
				if kid.name == name {
					next = append(next, kid)
				}
			}
		}
		at = next
	}
	var values []string
	for _, n := range at {
		if n.kids == nil {
			values = append(values, n.value)
		}
	}
	return values
}

func (n *node) first(path ...string) string {
	if v := n.get(path...); len(v) > 0 {
		return v[0]
	}
	return ""
}

// A profile is being read from one file or several.
type profile struct {
	root   node
	left   int64    // bytes that may still be read
	files  []string // read so far
	stamps strings.Builder
}

// loadProfile reads a list of krb5.conf files, as KRB5_CONFIG gives them, and
// what they include. It is our own reader: the one in the library panics on a
// block within a realm, does not know newer values and skips includes.
// Missing files are passed over, as MIT does. files tells them all, readAt is
// their stamp.
func loadProfile(list string) (root *node, files []string, readAt string, err error) {
	p := &profile{left: maxConfSize, files: []string{}}
	for _, path := range filepath.SplitList(list) {
		if err := p.load(path, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, p.files, p.stamps.String(), err
		}
	}
	return &p.root, p.files, p.stamps.String(), nil
}

// note records a file that counts, and how it looks before it is read.
func (p *profile) note(path string) {
	p.files = append(p.files, path)
	p.stamps.WriteString(stampFile(path) + ";")
}

func (p *profile) load(path string, depth int) error {
	if depth > maxConfDepth || len(p.files) >= maxConfFiles {
		return fmt.Errorf("%s: too many includes (%d files, %d deep)", path, len(p.files), depth)
	}
	p.note(path)
	b, err := readFile(path, p.left, nil)
	if err != nil {
		return err
	}
	p.left -= int64(len(b))
	return p.parse(path, string(b), depth)
}

// parse adds the lines of one file. A file starts outside any section.
func (p *profile) parse(path, text string, depth int) error {
	var stack []*node // the section and the open blocks in it
	var last *node    // an empty value may turn out to be a block on the next line
	no := 0
	for line := range strings.Lines(text) {
		no++
		line = strings.TrimSpace(line)
		bad := func(what string) error { return fmt.Errorf("%s line %d: %s", path, no, what) }
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
			continue
		case strings.HasPrefix(line, "include ") || strings.HasPrefix(line, "includedir "):
			if err := p.include(line, depth); err != nil {
				return bad(err.Error())
			}
			continue
		case strings.HasPrefix(line, "module "):
			continue // settings from a shared library: nothing we could load
		case line[0] == '[':
			end := strings.IndexByte(line, ']')
			if end < 0 {
				return bad("[ without ]")
			}
			if len(stack) > 1 {
				return bad("a section begins inside a block; a } is missing")
			}
			section := &node{name: strings.TrimSpace(line[1:end]), kids: []*node{}}
			p.root.kids = append(p.root.kids, section)
			stack, last = []*node{section}, nil
			continue
		case line[0] == '}':
			if len(stack) < 2 {
				return bad("} without {")
			}
			stack, last = stack[:len(stack)-1], nil
			continue
		case len(stack) == 0:
			return bad("a setting before the first [section]")
		}
		n := last
		if line != "{" || n == nil {
			name, value, found := strings.Cut(line, "=")
			if name = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(name), "*")); !found || name == "" {
				return bad("neither a [section] nor name = value")
			}
			value = strings.TrimSpace(value)
			n = &node{name: name, value: strings.Trim(value, `"`)}
			top := stack[len(stack)-1]
			top.kids = append(top.kids, n)
			if last = nil; value == "" {
				last = n
			}
			if value != "{" {
				continue
			}
		}
		if len(stack) > maxConfDepth {
			return bad("blocks too deep")
		}
		n.value, n.kids, last = "", []*node{}, nil
		stack = append(stack, n)
	}
	if len(stack) > 1 {
		return fmt.Errorf("%s: the file ends inside a block; a } is missing", path)
	}
	return nil
}

// include follows an include or includedir line. MIT takes only files of a
// folder whose names cannot be an editor's leavings.
func (p *profile) include(line string, depth int) error {
	word, path, _ := strings.Cut(line, " ")
	path = strings.TrimSpace(path)
	if word == "include" {
		return p.load(path, depth+1)
	}
	p.note(path) // its time stamp tells of files that come and go
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); includable(name) && !e.IsDir() {
			if err := p.load(filepath.Join(path, name), depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func includable(name string) bool {
	if strings.HasSuffix(name, ".conf") && name[0] != '.' {
		return true
	}
	return strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") == ""
}

// A conf is what this backend needs of krb5.conf.
type conf struct {
	root *node
}

// kdcs lists the addresses of a realm's KDCs. Forms that need more than TCP or
// UDP (a KDC behind HTTPS) are left out.
func (c conf) kdcs(realm string) []string { return c.servers(realm, "kdc", "88") }

// kpasswd lists the servers that change passwords. Where none is named, the
// admin_server does, on its usual port.
func (c conf) kpasswd(realm string) []string {
	const port = "464" // RFC 3244 section 1
	if out := c.servers(realm, "kpasswd_server", port); len(out) > 0 {
		return out
	}
	out := c.servers(realm, "admin_server", port)
	for i, addr := range out {
		if host, _, err := net.SplitHostPort(addr); err == nil {
			out[i] = net.JoinHostPort(host, port)
		}
	}
	return out
}

func (c conf) servers(realm, relation, port string) []string {
	var out []string
	for _, v := range c.root.get("realms", realm, relation) {
		word, _, _ := strings.Cut(v, " ")
		word = strings.TrimPrefix(strings.TrimPrefix(strings.TrimSuffix(word, "*"), "tcp/"), "udp/")
		if word != "" && !strings.Contains(word, "/") && len(out) < maxKDCs {
			out = append(out, withPort(word, port))
		}
	}
	return out
}

// withPort adds port to host, host:port, [v6], [v6]:port or v6.
func withPort(s, port string) string {
	switch colons := strings.Count(s, ":"); {
	case strings.HasPrefix(s, "["):
		if strings.HasSuffix(s, "]") {
			return s + ":" + port
		}
	case colons == 0:
		return s + ":" + port
	case colons > 1:
		return "[" + s + "]:" + port
	}
	return s
}

// dnsKDC reports whether SRV records may be asked for KDCs; MIT's default.
func (c conf) dnsKDC() bool { return !no(c.root.first("libdefaults", "dns_lookup_kdc")) }

// timesync reports whether the clock offset noted in a cache counts.
func (c conf) timesync() bool { return !no(c.root.first("libdefaults", "kdc_timesync")) }

// defaultRealm is the realm of principals that name none, or "".
func (c conf) defaultRealm() string { return c.root.first("libdefaults", "default_realm") }

// forwardable reports whether TGTs are asked for that can be passed on, as most
// sites want.
func (c conf) forwardable() bool { return !no(c.root.first("libdefaults", "forwardable")) }

// lifetime reads a duration of [libdefaults]; what is absent or cannot be read
// is standard.
func (c conf) lifetime(name string, standard time.Duration) time.Duration {
	if d, ok := parseDuration(c.root.first("libdefaults", name)); ok {
		return d
	}
	return standard
}

// parseDuration reads the forms that MIT documents: 36000, 10h, 1d12h, 7d 0h,
// 10:30 and 10:30:00.
func parseDuration(s string) (time.Duration, bool) {
	if h, m, ok := strings.Cut(s, ":"); ok {
		if m, sec, ok := strings.Cut(m, ":"); ok {
			s = h + "h" + m + "m" + sec + "s"
		} else {
			s = h + "h" + m + "m"
		}
	}
	s = strings.ReplaceAll(s, " ", "")
	if s == "" {
		return 0, false
	}
	var total time.Duration
	for s != "" {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		n, err := strconv.ParseUint(s[:digits], 10, 31)
		if err != nil {
			return 0, false
		}
		unit := time.Second
		if s = s[digits:]; s != "" {
			var known bool
			if unit, known = units[s[0]]; !known {
				return 0, false
			}
			s = s[1:]
		}
		if total += time.Duration(n) * unit; n > uint64(maxLifetime/unit) || total > maxLifetime {
			return maxLifetime, true
		}
	}
	return total, true
}

const maxLifetime = 10 * 365 * 24 * time.Hour

var units = map[byte]time.Duration{'d': 24 * time.Hour, 'h': time.Hour, 'm': time.Minute, 's': time.Second}

func no(v string) bool {
	return slices.Contains([]string{"0", "n", "no", "f", "false", "off", "nil"}, strings.ToLower(v))
}

// realmOf maps a host to its realm by [domain_realm]: the name itself, then
// each domain above it. "" means that the KDC should know.
func (c conf) realmOf(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for name := host; name != ""; {
		if r := c.root.first("domain_realm", name); r != "" {
			return r
		}
		if name[0] == '.' {
			name = name[1:]
			continue
		}
		i := strings.IndexByte(name, '.')
		if i < 0 {
			break
		}
		name = name[i:]
	}
	return ""
}

// etypes lists the encryption types to offer, best first: those that the
// relation (default_tkt_enctypes, default_tgs_enctypes) names, of those that are
// permitted.
func (c conf) etypes(relation string) []int32 {
	permitted := c.enctypes("permitted_enctypes", supported)
	return c.enctypes(relation, permitted)
}

var supported = []int32{etypeID.AES256_CTS_HMAC_SHA1_96, etypeID.AES128_CTS_HMAC_SHA1_96,
	etypeID.AES256_CTS_HMAC_SHA384_192, etypeID.AES128_CTS_HMAC_SHA256_128, etypeID.RC4_HMAC}

// enctypes lists those of offer that the relation names, in its order; all of
// them where it is absent or names none.
func (c conf) enctypes(relation string, offer []int32) []int32 {
	var out []int32
	add := func(ids ...int32) {
		for _, id := range ids {
			if slices.Contains(offer, id) && !slices.Contains(out, id) {
				out = append(out, id)
			}
		}
	}
	for name := range strings.FieldsFuncSeq(c.root.first("libdefaults", relation), func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
		switch {
		case strings.EqualFold(name, "DEFAULT"):
			return offer
		case strings.EqualFold(name, "aes"):
			add(supported[:4]...)
		default:
			add(etypeID.EtypeSupported(name))
		}
	}
	if len(out) == 0 {
		return offer
	}
	return out
}

// cacheName is the default cache by krb5.conf, or "".
func (c conf) cacheName() (string, error) {
	return expand(c.root.first("libdefaults", "default_ccache_name"))
}
