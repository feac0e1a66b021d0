package route

// Route is where a request goes.
type Route string

// The routes.
const (
	Direct  Route = "direct"  // straight to the target
	Proxy   Route = "proxy"   // through the upstream proxy
	Refused Route = "refused" // nowhere
)

// Rule is what decided.
type Rule string

// The rules. [Table.Decide] itself gives all but the last.
const (
	RuleLoopback Rule = "loopback"
	RuleExact    Rule = "exact"
	RuleSuffix   Rule = "suffix"
	RulePAC      Rule = "pac"
	RuleDefault  Rule = "default"
	RulePolicy   Rule = "policy"
)

// A Table is everything a decision rests on, one immutable snapshot of the
// settings. Once in use it is not changed but replaced; then all its methods
// are safe for concurrent use. The zero Table refuses all but loopback targets.
type Table struct {
	Exact        *Exact
	ExactSource  string // where the list came from, for explanations
	Suffix       *Suffix
	SuffixSource string

	// Self reports whether a target is one of the helper's own listeners. It is
	// asked for every request and must not block. Nil: nothing is.
	Self func(Host, uint16) bool

	// PAC says that a configuration script decides about what no list names; its
	// caller asks it. PACSource is where its address came from.
	PAC       bool
	PACSource string

	Upstream       string // URL of the upstream proxy, "" for none
	UpstreamSource string
	Kerberos       bool // whether the upstream gets tokens, for explanations
}

// A Decision is the route of one request with its reason.
type Decision struct {
	Route  Route
	Rule   Rule
	Entry  string // the list entry or address block that decided, "" for the default
	Source string // where that entry, or the upstream, came from
	Host   Host
	Port   uint16
	Loop   bool // refused because the target is the helper itself
}

// Decide routes one request: loopback targets go direct, then hosts on the
// exact list, then hosts on the suffix list; all others take the way that a
// configuration script will say, or else the upstream proxy, and where none is
// known they are refused. The helper's own listeners
// are refused before anything else, whatever address they have. The zero Host
// is refused. Decide does not allocate.
func (t *Table) Decide(h Host, port uint16) Decision {
	d := Decision{Route: Direct, Host: h, Port: port}
	if t.Self != nil && h.text != "" && t.Self(h, port) {
		d.Route, d.Rule, d.Loop = Refused, RuleLoopback, true
		return d
	}
	if block := h.loopbackRule(); block != "" {
		d.Rule, d.Entry, d.Source = RuleLoopback, block, "built in"
		return d
	}
	if entry, ok := t.Exact.Match(h); ok {
		d.Rule, d.Entry, d.Source = RuleExact, entry, t.ExactSource
		return d
	}
	if entry, ok := t.Suffix.Match(h, port); ok {
		d.Rule, d.Entry, d.Source = RuleSuffix, entry, t.SuffixSource
		return d
	}
	if t.PAC && h.text != "" {
		d.Route, d.Rule, d.Source = Proxy, RulePAC, t.PACSource
		return d
	}
	d.Route, d.Rule, d.Source = Proxy, RuleDefault, t.UpstreamSource
	if t.Upstream == "" || h.text == "" {
		d.Route, d.Source = Refused, ""
	}
	return d
}
