package sysproxy

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

var errSOCKS = errors.New("a SOCKS proxy cannot be used, only an HTTP proxy")

// proxyURL makes scheme://host:port of an address as people and programs write
// it. Without a scheme it is http. Credentials are dropped, and stripped tells
// so; no error shows them.
func proxyURL(raw string) (clean string, stripped bool, err error) {
	s := strings.TrimSpace(raw)
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		scheme, rest = "http", s
	}
	switch scheme = strings.ToLower(scheme); {
	case strings.HasPrefix(scheme, "socks"):
		return "", false, errSOCKS
	case scheme != "http" && scheme != "https":
		return "", false, fmt.Errorf("%s has a scheme other than http and https", shown(s))
	}
	authority := rest
	if i := strings.IndexAny(rest, `/?#\`); i >= 0 {
		if strings.Contains(rest[i:], "@") { // where the password ends cannot be told
			return "", true, fmt.Errorf("%s is not the address of a proxy", shown(s))
		}
		authority = rest[:i]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority, stripped = authority[i+1:], true
	}
	bad := func() (string, bool, error) {
		return "", stripped, fmt.Errorf("%s is not the address of a proxy", shown(s))
	}
	if strings.ContainsRune(authority, '%') || strings.ContainsFunc(authority, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return bad()
	}
	u, err := url.Parse(scheme + "://" + authority)
	if err != nil || u.Hostname() == "" || u.Host != authority {
		return bad()
	}
	port := u.Port()
	switch {
	case port == "" && strings.HasSuffix(authority, ":"):
		return bad()
	case port == "" && scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", stripped, fmt.Errorf("%s needs a port from 1 to 65535", shown(s))
	}
	clean = scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), strconv.FormatUint(n, 10))
	if again, err := url.Parse(clean); err != nil || again.Port() != strconv.FormatUint(n, 10) || !strings.EqualFold(again.Hostname(), u.Hostname()) {
		return bad()
	}
	return clean, stripped, nil
}

// joined makes one address of a host and a port kept apart. The host may carry
// a scheme, and be an IPv6 address without brackets.
func joined(host string, port string) string {
	prefix, host := cutScheme(strings.TrimSpace(host))
	host = strings.TrimSuffix(host, "/")
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	return prefix + host + ":" + port
}

func cutScheme(s string) (prefix, rest string) {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		return scheme + "://", rest
	}
	return "", s
}

// pacURL checks the address of a script and drops credentials from it.
func pacURL(raw string) (clean string, stripped bool, err error) {
	s := strings.TrimSpace(raw)
	if strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") {
		return (&url.URL{Scheme: "file", Path: s}).String(), false, nil
	}
	bad := fmt.Errorf("%s is not the address of a configuration script", shown(s))
	u, err := url.Parse(s)
	if err != nil {
		return "", false, bad
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" {
			return "", false, bad
		}
	case "file":
	default:
		return "", false, bad
	}
	if u.User != nil {
		u.User, stripped = nil, true
	}
	// What is left of credentials that were not escaped.
	if strings.Contains(u.Host+u.EscapedPath(), "@") {
		return "", false, bad
	}
	return u.String(), stripped, nil
}

// shown is s for a message: short, in one line, and hidden where it may hold a
// password.
func shown(s string) string {
	if strings.Contains(s, "@") {
		return "the address (not shown, it carries a user name or password)"
	}
	if r := []rune(s); len(r) > 60 {
		s = string(r[:60]) + "…"
	}
	return strconv.Quote(s)
}

// A finding is a Setting that is being put together.
type finding struct {
	Setting
	c        Config
	socks    bool
	problems []string
}

func (c Config) finding(of Source, name string) *finding {
	return &finding{Setting: Setting{Source: of, Name: name}, c: c}
}

func (f *finding) problem(format string, args ...any) {
	if p := fmt.Sprintf(format, args...); !slices.Contains(f.problems, p) {
		f.problems = append(f.problems, p)
	}
}

// failed reports that a program could not be asked.
func (f *finding) failed(program string, err error) {
	f.problem("%s: %v", program, err)
	f.Late = errors.Is(err, errLate)
}

// proxy adds an upstream, or what is wrong with it.
func (f *finding) proxy(raw string) {
	if strings.TrimSpace(raw) == "" {
		return
	}
	u, stripped, err := proxyURL(raw)
	switch {
	case errors.Is(err, errSOCKS):
		f.socks = true
	case err != nil:
		f.problem("%v", err)
	case f.c.isOwn(u):
		f.problem("%s is this program itself and is left out", u)
	case !slices.Contains(f.Upstreams, u):
		f.Upstreams = append(f.Upstreams, u)
	}
	if stripped && err == nil {
		f.problem("the user name and password are left out")
	}
}

// serve adds the proxies for https, or else those for http: one upstream serves
// every scheme, and the first to be named does so in the environment too.
func (f *finding) serve(https, http []string) {
	for _, raw := range https {
		f.proxy(raw)
	}
	for _, raw := range http {
		if u, _, err := proxyURL(raw); len(f.Upstreams) == 0 || slices.Contains(https, raw) {
			f.proxy(raw)
		} else if err == nil && !slices.Contains(f.Upstreams, u) && !f.c.isOwn(u) {
			f.problem("%s, for http only, is left out: one proxy serves everything", u)
		}
	}
}

// script sets the address of the configuration script.
func (f *finding) script(raw string) {
	u, stripped, err := pacURL(raw)
	if err != nil {
		f.problem("%v", err)
		return
	}
	if f.PAC = u; stripped {
		f.problem("the user name and password of the script's address are left out")
	}
}

// done returns the Setting, none if it says nothing at all.
func (f *finding) done() []Setting {
	if f.socks && len(f.Upstreams) == 0 && f.PAC == "" {
		f.problem("%v", errSOCKS)
	}
	f.Problem = strings.Join(f.problems, "; ")
	if !f.Off && len(f.Upstreams) == 0 && f.PAC == "" && !f.AutoDetect && f.Problem == "" {
		return nil
	}
	return []Setting{f.Setting}
}

// fields splits a list of exceptions.
func fields(s, separators string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(separators, r) })
}

// isOwn reports whether u, as proxyURL makes it, leads to one of our own
// listeners. It resolves no name.
func (c Config) isOwn(u string) bool {
	parsed, err := url.Parse(u)
	if err != nil {
		return false
	}
	host := strings.ToLower(strings.TrimSuffix(parsed.Hostname(), "."))
	addr, err := netip.ParseAddr(host)
	for _, own := range c.Own {
		if parsed.Port() != strconv.Itoa(int(own.Port())) {
			continue
		}
		switch addr, mine := addr.Unmap(), own.Addr().Unmap(); {
		case err != nil:
			if isOwnName(host) {
				return true
			}
		case addr == mine, addr.IsUnspecified(), mine.IsUnspecified() && (addr.IsLoopback() || isOwnAddr(addr)):
			return true
		}
	}
	return false
}

var loopbackNames = []string{"localhost", "localhost.localdomain", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback", "loopback"}

// isOwnName reports whether a name in lower case is this machine's.
func isOwnName(name string) bool {
	if slices.Contains(loopbackNames, name) || strings.HasSuffix(name, ".localhost") {
		return true
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		return false
	}
	host = strings.ToLower(host)
	short, _, _ := strings.Cut(host, ".")
	return name == host || name == cmp.Or(short, host)
}

func isOwnAddr(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(all, func(x net.Addr) bool {
		p, err := netip.ParsePrefix(x.String())
		return err == nil && p.Addr().Unmap() == a
	})
}
