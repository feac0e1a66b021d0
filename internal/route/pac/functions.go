package pac

import (
	"context"
	"net"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dop251/goja"
)

// functions are what a script may call. They follow browsers where the
// specification leaves room: a missing or senseless argument is false or null
// and no error; comparisons mind the letter case, and the host that the script
// is given is in lower case.
func (s *Script) functions() map[string]func(goja.FunctionCall) goja.Value {
	return map[string]func(goja.FunctionCall) goja.Value{
		"isPlainHostName":     s.onText(func(host string) any { return !strings.ContainsAny(host, ".:") }, false),
		"dnsDomainIs":         s.onTexts(func(host, domain string) any { return strings.HasSuffix(host, domain) }),
		"localHostOrDomainIs": s.onTexts(func(host, full string) any { return host == full || strings.HasPrefix(full, host+".") }),
		"isResolvable":        s.onText(func(host string) any { return s.first4(host) != "" }, false),
		"isInNet":             s.isInNet,
		"dnsResolve": s.onText(func(host string) any {
			if a := s.first4(host); a != "" {
				return a
			}
			return nil
		}, nil),
		"convert_addr":    s.onText(func(addr string) any { n, _ := dotted(addr); return int32(n) }, 0),
		"myIpAddress":     func(goja.FunctionCall) goja.Value { return s.rt.ToValue(s.own4()) },
		"dnsDomainLevels": s.onText(func(host string) any { return strings.Count(host, ".") }, 0),
		"shExpMatch":      s.onTexts(func(text, pattern string) any { return s.matches(text, pattern) }),
		"weekdayRange":    s.ranged(weekdayRange),
		"dateRange":       s.ranged(dateRange),
		"timeRange":       s.timeRange,

		"isResolvableEx":    s.onText(func(host string) any { return len(s.resolve("ip", host)) > 0 }, false),
		"isInNetEx":         s.onTexts(func(addr, block string) any { return inBlock(addr, block) }),
		"dnsResolveEx":      s.onText(func(host string) any { return joined(s.resolve("ip", host)) }, ""),
		"myIpAddressEx":     func(goja.FunctionCall) goja.Value { return s.rt.ToValue(joined(s.world.Own())) },
		"sortIpAddressList": s.onText(sortAddrs, nil),
		"getClientVersion":  func(goja.FunctionCall) goja.Value { return s.rt.ToValue("1.0") },
	}
}

// text is an argument as text; ok is false if it was not given.
func text(call goja.FunctionCall, i int) (string, bool) {
	v := call.Argument(i)
	if goja.IsUndefined(v) || goja.IsNull(v) {
		return "", false
	}
	return v.String(), true
}

// onText makes a function of one text; without it, it returns missing.
func (s *Script) onText(f func(string) any, missing any) func(goja.FunctionCall) goja.Value {
	return func(call goja.FunctionCall) goja.Value {
		a, ok := text(call, 0)
		if !ok {
			return s.rt.ToValue(missing)
		}
		return s.rt.ToValue(f(a))
	}
}

// onTexts makes one of two texts; without one of them, it returns false.
func (s *Script) onTexts(f func(a, b string) any) func(goja.FunctionCall) goja.Value {
	return func(call goja.FunctionCall) goja.Value {
		a, ok := text(call, 0)
		b, ok2 := text(call, 1)
		if !ok || !ok2 {
			return s.rt.ToValue(false)
		}
		return s.rt.ToValue(f(a, b))
	}
}

func (s *Script) alert(call goja.FunctionCall) goja.Value {
	if a, ok := text(call, 0); ok && s.world.Alert != nil {
		s.world.Alert(short(a, 500))
	}
	return goja.Undefined()
}

func (s *Script) isInNet(call goja.FunctionCall) goja.Value {
	host, ok := text(call, 0)
	network, ok2 := text(call, 1)
	mask, ok3 := text(call, 2)
	base, ok4 := dotted(network)
	bits, ok5 := dotted(mask)
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 {
		return s.rt.ToValue(false)
	}
	addr, ok := dotted(s.first4(host))
	return s.rt.ToValue(ok && addr&bits == base&bits)
}

// dotted reads four decimal numbers. Zeros in front, as people write them to
// align masks, do not make them octal.
func dotted(s string) (n uint32, ok bool) {
	parts := strings.Split(s, ".")
	if len(parts) != 4 {
		return 0, false
	}
	for _, p := range parts {
		b, err := strconv.ParseUint(p, 10, 8)
		if err != nil || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return 0, false
		}
		n = n<<8 | uint32(b)
	}
	return n, true
}

func inBlock(addr, block string) bool {
	a, err := netip.ParseAddr(addr)
	p, err2 := netip.ParsePrefix(block)
	return err == nil && err2 == nil && p.Contains(a)
}

func sortAddrs(list string) any {
	var all []string
	for part := range strings.SplitSeq(list, ";") {
		part = strings.TrimSpace(part)
		if a, err := netip.ParseAddr(part); err != nil || a.Zone() != "" {
			return false
		}
		all = append(all, part)
	}
	slices.SortStableFunc(all, func(x, y string) int {
		a, b := netip.MustParseAddr(x), netip.MustParseAddr(y)
		if a.Is4() != b.Is4() {
			if a.Is4() {
				return 1 // IPv6 comes first
			}
			return -1
		}
		return a.Compare(b)
	})
	return strings.Join(all, ";")
}

func joined(addrs []netip.Addr) string {
	var all []string
	for _, a := range addrs {
		all = append(all, a.String())
	}
	return strings.Join(all, ";")
}

func (s *Script) own4() string {
	for _, a := range s.world.Own() {
		if a.Is4() {
			return a.String()
		}
	}
	return "127.0.0.1"
}

// first4 is the first IPv4 address of a name, or the literal itself; "" if there
// is none.
func (s *Script) first4(host string) string {
	for _, a := range s.resolve("ip4", host) {
		if a.Is4() {
			return a.String()
		}
	}
	return ""
}

// looked is what became of a lookup.
type looked struct {
	addrs []netip.Addr
	until time.Time
}

const (
	keepFound   = time.Minute
	keepMissing = 10 * time.Second
	maxNames    = 512 // that are remembered
)

// resolve looks a name up, or remembers what came of it.
func (s *Script) resolve(network, host string) []netip.Addr {
	if a, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []netip.Addr{a}
	}
	if host == "" || len(host) > 253 || strings.ContainsAny(host, " \t\r\n/\\@:%*") {
		return nil
	}
	key := network + " " + strings.ToLower(host)
	now := time.Now()
	if l, ok := s.names[key]; ok && now.Before(l.until) {
		return l.addrs
	}
	left := min(lookupLimit, lookupsLimit-s.waits.sum())
	if left <= 0 {
		return nil
	}
	var addrs []netip.Addr
	s.waits.during(func() {
		ctx, cancel := context.WithTimeout(context.Background(), left)
		defer cancel()
		found, _ := s.world.Resolve(ctx, network, host) // an error is a name without addresses
		for _, a := range found {
			addrs = append(addrs, a.Unmap().WithZone(""))
		}
	})
	if len(s.names) >= maxNames {
		clear(s.names)
	}
	keep := keepMissing
	if len(addrs) > 0 {
		keep = keepFound
	}
	s.names[key] = looked{addrs, now.Add(keep)}
	return addrs
}

// A glob is a pattern of shExpMatch that browsers take for more than stars and
// question marks.
type glob struct{ re *regexp.Regexp }

const maxGlobs = 4096

// matches is shExpMatch. Stars and question marks are what the specification
// has; browsers make a regular expression of the pattern and escape nothing but
// dots, and scripts in the wild rely on "(a|b)".
func (s *Script) matches(text, pattern string) bool {
	if !strings.ContainsAny(pattern, `\^$+()[]{}|`) {
		return wild(text, pattern)
	}
	g, ok := s.globs[pattern]
	if !ok {
		if len(s.globs) >= maxGlobs {
			clear(s.globs)
		}
		g = &glob{}
		if len(pattern) <= 4096 {
			g.re, _ = regexp.Compile("^" + strings.NewReplacer(".", `\.`, "*", ".*", "?", ".").Replace(pattern) + "$")
		}
		s.globs[pattern] = g
	}
	if g.re == nil {
		return wild(text, pattern)
	}
	return g.re.MatchString(text)
}

// wild matches stars and question marks, in time that does not explode.
func wild(text, pattern string) bool {
	t, p := []rune(text), []rune(pattern)
	i, j, star, mark := 0, 0, -1, 0
	for i < len(t) {
		switch {
		case j < len(p) && p[j] == '*':
			star, mark = j, i
			j++
		case j < len(p) && (p[j] == '?' || p[j] == t[i]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = mark, star+1
		default:
			return false
		}
	}
	for j < len(p) && p[j] == '*' {
		j++
	}
	return j == len(p)
}

var (
	weekdays = []string{"SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"}
	months   = []string{"JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"}
)

// clock is the time of this evaluation, one for all its questions, in the zone
// that the last argument asks for. It returns the other arguments.
func (s *Script) clock(call goja.FunctionCall) (time.Time, []goja.Value) {
	s.varies = true
	if s.now.IsZero() {
		s.now = s.world.Now()
	}
	args := call.Arguments
	if n := len(args); n > 0 && args[n-1].String() == "GMT" {
		return s.now.UTC(), args[:n-1]
	}
	return s.now, args
}

func (s *Script) ranged(f func(time.Time, []goja.Value) bool) func(goja.FunctionCall) goja.Value {
	return func(call goja.FunctionCall) goja.Value {
		now, args := s.clock(call)
		return s.rt.ToValue(f(now, args))
	}
}

// between reports whether now lies from a to b, both included. Where a comes
// after b the range goes over the end: from Friday to Monday.
func between(a, now, b []int) bool {
	after, before := slices.Compare(now, a) >= 0, slices.Compare(now, b) <= 0
	if slices.Compare(a, b) <= 0 {
		return after && before
	}
	return after || before
}

func weekdayRange(now time.Time, args []goja.Value) bool {
	if len(args) < 1 || len(args) > 2 {
		return false
	}
	from := slices.Index(weekdays, args[0].String())
	to := slices.Index(weekdays, args[len(args)-1].String())
	return from >= 0 && to >= 0 && between([]int{from}, []int{int(now.Weekday())}, []int{to})
}

// number reads an argument as parseInt does, so that "08" is a number too.
func number(v goja.Value) (int, bool) {
	if f, ok := v.Export().(float64); ok {
		return int(f), f >= 0 && f < 1e6
	}
	s := strings.TrimSpace(v.String())
	end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(s)
	}
	n, err := strconv.Atoi(s[:end])
	return n, err == nil && n < 1e6
}

// dateRange compares what both ends name: a day, a month, a year, or any of
// them together.
func dateRange(now time.Time, args []goja.Value) bool {
	n := len(args)
	if n == 0 || n > 6 || n > 1 && n%2 == 1 {
		return false
	}
	half := max(1, n/2)
	from, fromKind, ok := dateOf(args[:half])
	to, toKind, ok2 := dateOf(args[n-half:])
	if !ok || !ok2 || fromKind != toKind {
		return false
	}
	var at []int
	for i, part := range []int{now.Year(), int(now.Month()), now.Day()} {
		if fromKind[i] {
			at = append(at, part)
		}
	}
	return between(from, at, to)
}

// dateOf returns year, month and day, as far as they are named.
func dateOf(args []goja.Value) (parts []int, kind [3]bool, ok bool) {
	var all [3]int
	for _, arg := range args {
		at, n := 0, 1+slices.Index(months, arg.String())
		if n > 0 {
			at = 1
		} else if n, ok = number(arg); !ok || n == 0 {
			return nil, kind, false
		} else if n < 32 {
			at = 2
		}
		if kind[at] {
			return nil, kind, false
		}
		all[at], kind[at] = n, true
	}
	for i, named := range kind {
		if named {
			parts = append(parts, all[i])
		}
	}
	return parts, kind, true
}

// timeRange counts the last hour, minute or second that is named in.
func (s *Script) timeRange(call goja.FunctionCall) goja.Value {
	now, args := s.clock(call)
	var n []int
	for _, arg := range args {
		x, ok := number(arg)
		if !ok {
			return s.rt.ToValue(false)
		}
		n = append(n, x)
	}
	at := []int{now.Hour(), now.Minute(), now.Second()}
	half := len(n) / 2
	switch len(n) {
	case 0:
		return s.rt.ToValue(false)
	case 1:
		return s.rt.ToValue(n[0] == at[0])
	case 2, 4, 6:
		return s.rt.ToValue(between(n[:half], at[:half], n[half:]))
	}
	panic(s.rt.NewTypeError("timeRange: bad number of arguments"))
}

func (w World) filled() World {
	if w.Now == nil {
		w.Now = time.Now
	}
	if w.Resolve == nil {
		w.Resolve = net.DefaultResolver.LookupNetIP
	}
	if w.Own == nil {
		w.Own = ownAddrs
	}
	return w
}

// ownAddrs are this machine's addresses: first those that the way to the
// internet begins with, then the others. No packet is sent to find out.
func ownAddrs() (all []netip.Addr) {
	add := func(a netip.Addr) {
		if a = a.Unmap().WithZone(""); a.IsGlobalUnicast() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	for _, to := range []string{"8.8.8.8:53", "[2001:4860:4860::8888]:53"} {
		if c, err := net.Dial("udp", to); err == nil {
			if l, err := netip.ParseAddrPort(c.LocalAddr().String()); err == nil {
				add(l.Addr())
			}
			c.Close()
		}
	}
	if len(all) == 0 {
		if name, err := os.Hostname(); err == nil {
			ctx, cancel := context.WithTimeout(context.Background(), lookupLimit)
			defer cancel()
			found, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
			for _, a := range found {
				add(a)
			}
		}
	}
	if addrs, err := net.InterfaceAddrs(); err == nil {
		for _, x := range addrs {
			if p, err := netip.ParsePrefix(x.String()); err == nil {
				add(p.Addr())
			}
		}
	}
	return all
}
