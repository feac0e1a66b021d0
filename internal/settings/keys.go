package settings

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Kind is the type of a setting's value.
type Kind string

// The kinds, with the Go type their values have.
const (
	KindList     Kind = "list"     // []string
	KindString   Kind = "string"   // string
	KindBool     Kind = "bool"     // bool
	KindDuration Kind = "duration" // time.Duration; in the file "30m"
)

// KeyInfo describes one setting.
type KeyInfo struct {
	Key     string   // as in the file, "bypass.exact"
	Kind    Kind     // type of the value
	Default any      // of the Go type of Kind
	Doc     string   // one line
	Flag    string   // "--bypass"; "" when there is none
	Env     []string // variables, strongest first
	Choices []string // the only values allowed; nil: no such list
}

// Keys returns every setting there is, in the order of the file. Defaults,
// suggestions and documents derive from it.
func Keys() []KeyInfo {
	all := make([]KeyInfo, len(table))
	for i, k := range table {
		all[i] = k.KeyInfo
		all[i].Default = cloneValue(k.Default)
		all[i].Env, all[i].Choices = slices.Clone(k.Env), slices.Clone(k.Choices)
	}
	return all
}

// knownVersion is the newest file version this program writes and understands.
// Whoever raises it keeps reading older files as they are, upgrades one on its
// first edit only, and adds a file of the new version to testdata.
const knownVersion = 1

// A setting is a KeyInfo with what the package does with it.
type setting struct {
	KeyInfo
	field   func(*Values) any            // pointer to the field
	check   func(string) (string, error) // of a string or list entry; returns it as it is used; nil: any text
	fromEnv func(value string) any       // nil: the text as it is
	emptyOK bool                         // an empty variable counts as set
	noEmpty bool                         // an empty list is a mistake
}

// table is the one list of settings. Listen stands before upstream because
// the one is needed to judge the other.
var table = []setting{
	{KeyInfo: KeyInfo{Key: "listen", Kind: KindList, Default: []string{"127.0.0.1:5372", "[::1]:5372"}, Flag: "--listen",
		Doc: "loopback addresses the proxy listens on"},
		field: func(v *Values) any { return &v.Listen }, check: checkListen, noEmpty: true},
	{KeyInfo: KeyInfo{Key: "upstream", Kind: KindList, Default: []string{}, Flag: "--upstream",
		Env: []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"},
		Doc: "upstream proxies in order of preference; empty: environment, then the system's setting"},
		field: func(v *Values) any { return &v.Upstream }, check: checkUpstream,
		fromEnv: func(s string) any { return []string{s} }},
	{KeyInfo: KeyInfo{Key: "upstream_auth", Kind: KindList, Default: []string{},
		Doc: `upstreams that want a password instead of Kerberos: "URL basic|digest|ntlm USER", the password is in the keyring`},
		field: func(v *Values) any { return &v.UpstreamAuth }, check: checkUpstreamAuth},
	{KeyInfo: KeyInfo{Key: "pac", Kind: KindString, Default: "", Flag: "--pac",
		Doc: `proxy auto-configuration: URL or file; "auto" asks the system`},
		field: func(v *Values) any { return &v.PAC }, check: checkPAC},
	{KeyInfo: KeyInfo{Key: "no_proxy", Kind: KindList, Default: []string{}, Flag: "--no-proxy", Env: []string{"NO_PROXY", "no_proxy"},
		Doc: "suffix rules for hosts that are reached directly"},
		field: func(v *Values) any { return &v.NoProxy }, check: checkEntry,
		fromEnv: func(s string) any { return strings.Split(s, ",") }},
	{KeyInfo: KeyInfo{Key: "bypass.exact", Kind: KindList, Default: []string{}, Flag: "--bypass", Env: []string{"JAATO_NO_PROXY"},
		Doc: "exact host names that are reached directly"},
		field: func(v *Values) any { return &v.BypassExact }, check: checkEntry,
		fromEnv: func(s string) any { return splitList(s) }},
	{KeyInfo: KeyInfo{Key: "tunnel", Kind: KindList, Default: []string{},
		Doc: `fixed forwards through the proxy, as "127.0.0.1:2222=git.corp.example:22"`},
		field: func(v *Values) any { return &v.Tunnel }, check: checkTunnel},
	{KeyInfo: KeyInfo{Key: "socks.listen", Kind: KindList, Default: []string{},
		Doc: "loopback addresses that take SOCKS5; empty: none"},
		field: func(v *Values) any { return &v.SocksListen }, check: checkListen},
	{KeyInfo: KeyInfo{Key: "gateway.enabled", Kind: KindBool, Default: false,
		Doc: "let containers and virtual machines use the proxy, each with a secret of its own"},
		field: func(v *Values) any { return &v.GatewayEnabled }},
	{KeyInfo: KeyInfo{Key: "gateway.listen", Kind: KindList, Default: []string{},
		Doc: "addresses the gateway listens on, of a container network for instance"},
		field: func(v *Values) any { return &v.GatewayListen }, check: checkGatewayListen},
	{KeyInfo: KeyInfo{Key: "gateway.allow", Kind: KindList, Default: []string{},
		Doc: "networks whose machines may use the gateway, as 172.17.0.0/16; empty: none"},
		field: func(v *Values) any { return &v.GatewayAllow }, check: checkGatewayAllow},
	{KeyInfo: KeyInfo{Key: "gateway.clients", Kind: KindList, Default: []string{},
		Doc: "who may use the gateway: NAME:SHA-256 of the secret; gateway add sets it"},
		field: func(v *Values) any { return &v.GatewayClients }, check: checkGatewayClient},
	{KeyInfo: KeyInfo{Key: "kerberos.enabled", Kind: KindBool, Default: true, Flag: "--kerberos", Env: []string{"JAATO_KERBEROS_PROXY"},
		Doc: "authenticate at the upstream proxy with the Kerberos ticket"},
		field: func(v *Values) any { return &v.KerberosEnabled }, fromEnv: envSwitch, emptyOK: true},
	{KeyInfo: KeyInfo{Key: "kerberos.upstreams", Kind: KindList, Default: []string{},
		Doc: "further upstream hosts that may be sent a token when a PAC file names them; those of upstream always may"},
		field: func(v *Values) any { return &v.KerberosUpstreams }, check: checkUpstreamHost},
	{KeyInfo: KeyInfo{Key: "kerberos.spn", Kind: KindString, Default: "",
		Doc: "service principal of the upstream; empty: HTTP/<upstream host>"},
		field: func(v *Values) any { return &v.KerberosSPN }, check: checkSPN},
	{KeyInfo: KeyInfo{Key: "kerberos.canonicalize", Kind: KindString, Default: "off", Choices: []string{"off", "cname"},
		Doc: "what to do when the upstream's name is an alias"},
		field: func(v *Values) any { return &v.KerberosCanonicalize }},
	{KeyInfo: KeyInfo{Key: "kerberos.preemptive", Kind: KindBool, Default: true,
		Doc: "send the token with the first request; false: only when challenged"},
		field: func(v *Values) any { return &v.KerberosPreemptive }},
	{KeyInfo: KeyInfo{Key: "kerberos.cache", Kind: KindString, Default: "",
		Doc: "ticket cache to use; empty: the system's default"},
		field: func(v *Values) any { return &v.KerberosCache }, check: checkText},
	{KeyInfo: KeyInfo{Key: "kerberos.remind_before", Kind: KindDuration, Default: 30 * time.Minute,
		Doc: "how long before the ticket ends to remind of it"},
		field: func(v *Values) any { return &v.KerberosRemindBefore }},
	{KeyInfo: KeyInfo{Key: "kerberos.renew", Kind: KindString, Default: "auto", Choices: []string{"auto", "ask", "off"},
		Doc: "whether a ticket that is about to end is renewed"},
		field: func(v *Values) any { return &v.KerberosRenew }},
	{KeyInfo: KeyInfo{Key: "kerberos.remember", Kind: KindString, Default: "",
		Doc: "principal whose password the keyring holds for a silent sign-in; login --remember sets it"},
		field: func(v *Values) any { return &v.KerberosRemember }, check: checkText},
	{KeyInfo: KeyInfo{Key: "access.same_user_only", Kind: KindBool, Default: true,
		Doc: "only this user's own programs may use the proxy"},
		field: func(v *Values) any { return &v.SameUserOnly }},
	{KeyInfo: KeyInfo{Key: "access.allow_users", Kind: KindList, Default: []string{},
		Doc: "further users whose programs may use the proxy"},
		field: func(v *Values) any { return &v.AllowUsers }, check: checkEntry},
	{KeyInfo: KeyInfo{Key: "access.connect_ports", Kind: KindList, Default: []string{},
		Doc: `ports that tunnels may lead to, such as "443" or "8000-8999"; empty: every port`},
		field: func(v *Values) any { return &v.ConnectPorts }, check: checkPorts},
	{KeyInfo: KeyInfo{Key: "ui.notify_valid", Kind: KindBool, Default: false, Doc: "notify when a ticket becomes valid"},
		field: func(v *Values) any { return &v.NotifyValid }},
	{KeyInfo: KeyInfo{Key: "ui.notify_expiring", Kind: KindBool, Default: true, Doc: "notify before a ticket ends"},
		field: func(v *Values) any { return &v.NotifyExpiring }},
	{KeyInfo: KeyInfo{Key: "ui.notify_expired", Kind: KindBool, Default: true, Doc: "notify when a ticket has ended"},
		field: func(v *Values) any { return &v.NotifyExpired }},
	{KeyInfo: KeyInfo{Key: "ui.language", Kind: KindString, Default: "", Doc: "language of the texts; empty: the system's"},
		field: func(v *Values) any { return &v.Language }, check: checkLanguage},
}

func settingFor(key string) *setting {
	for i := range table {
		if table[i].Key == key {
			return &table[i]
		}
	}
	return nil
}

func (k *setting) get(v *Values) any {
	switch p := k.field(v).(type) {
	case *[]string:
		return *p
	case *string:
		return *p
	case *bool:
		return *p
	case *time.Duration:
		return *p
	}
	panic("settings: field of an unknown kind: " + k.Key)
}

func (k *setting) set(v *Values, value any) {
	switch p := k.field(v).(type) {
	case *[]string:
		*p = value.([]string)
	case *string:
		*p = value.(string)
	case *bool:
		*p = value.(bool)
	case *time.Duration:
		*p = value.(time.Duration)
	}
}

// flagName is the flag that sets the key, for messages.
func (k *setting) flagName() string {
	if k.Flag == "" {
		return "--" + k.Key
	}
	return k.Flag
}

// An entryError is about one entry of a list.
type entryError struct {
	index int
	err   error
}

func (e *entryError) Error() string { return e.err.Error() }
func (e *entryError) Unwrap() error { return e.err }

// use turns a raw value (from the file, a flag, …) into the typed one and
// checks it. Of a list the usable entries are returned together with one
// *entryError for each other one; any other error means no value at all, and
// so does a list without a usable entry where an empty one would mean
// something else.
func (k *setting) use(raw any, extra func(any) error) (any, []error) {
	value, err := k.typed(raw)
	if err != nil {
		return nil, []error{err}
	}
	if list, ok := value.([]any); ok {
		return k.useList(list, extra)
	}
	if s, ok := value.(string); ok {
		if len(k.Choices) > 0 && !slices.Contains(k.Choices, s) {
			return nil, []error{fmt.Errorf("%s is not possible: use one of %s", shown(s), strings.Join(k.Choices, ", "))}
		}
		if k.check != nil {
			if s, err = k.check(s); err != nil {
				return nil, []error{err}
			}
			value = s
		}
	}
	if d, ok := value.(time.Duration); ok && (d < 0 || d > 7*24*time.Hour) {
		return nil, []error{errors.New("the duration must lie between 0 and 168h")}
	}
	if extra != nil {
		if err := extra(value); err != nil {
			return nil, []error{err}
		}
	}
	return value, nil
}

func (k *setting) useList(list []any, extra func(any) error) (any, []error) {
	if len(list) == 0 && k.noEmpty {
		return nil, []error{errors.New("the list needs at least one entry")}
	}
	var errs []error
	good, index := make([]string, 0, len(list)), make([]int, 0, len(list))
	for i, raw := range list {
		entry, ok := raw.(string)
		if !ok {
			errs = append(errs, &entryError{i, fmt.Errorf("the entry is %s, a string is needed", kindName(raw))})
			continue
		}
		if k.check != nil {
			checked, err := k.check(entry)
			if err != nil {
				errs = append(errs, &entryError{i, err})
				continue
			}
			entry = checked
		}
		good, index = append(good, entry), append(index, i)
	}
	if extra != nil && len(good) > 0 {
		if err := extra(good); err != nil {
			kept := make([]string, 0, len(good))
			for i, entry := range good {
				if err := extra([]string{entry}); err != nil {
					errs = append(errs, &entryError{index[i], err})
				} else {
					kept = append(kept, entry)
				}
			}
			if len(kept) == len(good) { // every entry is fine alone, so the fault lies in the whole
				return nil, []error{err}
			}
			good = kept
		}
	}
	slices.SortStableFunc(errs, func(a, b error) int { return a.(*entryError).index - b.(*entryError).index })
	if len(good) == 0 && len(errs) > 0 && (k.noEmpty || k.Key == "upstream") {
		return nil, errs
	}
	return good, errs
}

// typed converts what a decoder, a flag or a variable gives. The entries of a
// list, []any, are left to useList.
func (k *setting) typed(raw any) (any, error) {
	switch k.Kind {
	case KindList:
		switch v := raw.(type) {
		case []string:
			return anyList(v), nil
		case []any:
			return v, nil
		}
	case KindString:
		if s, ok := raw.(string); ok {
			return s, nil
		}
	case KindBool:
		if b, ok := raw.(bool); ok {
			return b, nil
		}
	case KindDuration:
		switch v := raw.(type) {
		case time.Duration:
			return v, nil
		case string:
			d, err := time.ParseDuration(v)
			if err != nil {
				return nil, fmt.Errorf("%s is not a duration: write for example %q or %q", shown(v), "30m", "1h30m")
			}
			return d, nil
		}
	}
	need := map[Kind]string{KindList: `a list of strings, ["…"],`, KindString: "a string", KindBool: "true or false",
		KindDuration: `a duration in quotes, "30m",`}
	return nil, fmt.Errorf("the value is %s, %s is needed", kindName(raw), need[k.Kind])
}

func kindName(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "true or false without quotes"
	case int64, int, float64:
		return "a number"
	case []any, []string:
		return "a list"
	case map[string]any, []map[string]any:
		return "a table"
	case time.Time:
		return "a date"
	}
	return fmt.Sprintf("of an unexpected type (%T)", v)
}

// shown quotes a value for a message, shortened. Nothing that may carry
// credentials passes through here.
func shown(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "…"
	}
	return strconv.Quote(s)
}

func checkText(s string) (string, error) {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return "", errors.New("the text holds control characters")
	}
	return s, nil
}

// checkEntry is what every list entry must pass, before [Config.Check] judges it.
func checkEntry(s string) (string, error) {
	s = strings.TrimSpace(s)
	if s == "" {
		return "", errors.New("the entry is empty: remove it")
	}
	return checkText(s)
}

// checkPorts accepts one port or a range of them.
func checkPorts(s string) (string, error) {
	from, to, isRange := strings.Cut(strings.TrimSpace(s), "-")
	if !isRange {
		to = from
	}
	a, err1 := strconv.ParseUint(from, 10, 16)
	b, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || a == 0 || b < a {
		return "", fmt.Errorf(`%s is neither a port nor a range of ports: write "443" or "8000-8999"`, shown(s))
	}
	return strings.TrimSpace(s), nil
}

func checkListen(s string) (string, error) {
	const want = "write 127.0.0.1:5372 or [::1]:5372"
	ap, err := netip.ParseAddrPort(s)
	switch {
	case err != nil:
		return "", fmt.Errorf("%s is not an address with a port: %s", shown(s), want)
	case ap.Addr().Is4In6() || !ap.Addr().IsLoopback():
		return "", fmt.Errorf("%s is not a loopback address, the proxy would be open to the network: %s", shown(s), want)
	}
	return s, nil
}

// checkTunnel takes LISTEN=HOST:PORT. Whether the host is one is for
// [Config.Check] to say.
func checkTunnel(s string) (string, error) {
	listen, target, ok := strings.Cut(strings.TrimSpace(s), "=")
	if !ok {
		return "", fmt.Errorf("%s does not say where it leads: write 127.0.0.1:2222=git.corp.example:22", shown(s))
	}
	if _, err := checkListen(listen); err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(target)
	if n, e := strconv.ParseUint(port, 10, 16); err != nil || host == "" || e != nil || n == 0 {
		return "", fmt.Errorf("%s is not a host with a port: write 127.0.0.1:2222=git.corp.example:22", shown(target))
	}
	return checkText(listen + "=" + target)
}

func checkGatewayListen(s string) (string, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Addr().Is4In6() || ap.Addr().IsMulticast() {
		return "", fmt.Errorf("%s is not an address with a port: write for example 172.17.0.1:5380", shown(s))
	}
	return s, nil
}

// checkGatewayAllow takes a network or one address, and no network of
// everybody.
func checkGatewayAllow(s string) (string, error) {
	s = strings.TrimSpace(s)
	if a, err := netip.ParseAddr(s); err == nil && !a.Is4In6() && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()).String(), nil
	}
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil || p.Addr().Is4In6():
		return "", fmt.Errorf("%s is not a network: write for example 172.17.0.0/16", shown(s))
	case p.Bits() == 0:
		return "", fmt.Errorf("%s is every machine there is: write the network of your containers, for example 172.17.0.0/16", shown(s))
	}
	return p.Masked().String(), nil
}

// checkGatewayClient takes NAME:SHA-256 in hexadecimal. What is shown of a
// wrong entry is not what could be a secret.
func checkGatewayClient(s string) (string, error) {
	name, sum, _ := strings.Cut(strings.TrimSpace(s), ":")
	raw, err := hex.DecodeString(sum)
	if err != nil || len(raw) != 32 || name == "" || len(name) > 64 ||
		strings.ContainsFunc(name, func(r rune) bool {
			return !(r == '-' || r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
		}) {
		return "", errors.New("the entry is no name with a checksum: make one with kerbpass gateway add NAME")
	}
	return name + ":" + strings.ToLower(sum), nil
}

// checkUpstream returns the URL with its scheme and without a path.
func checkUpstream(s string) (string, error) {
	s = strings.TrimSpace(s)
	// First of all, so that no message below can print a password.
	if strings.Contains(s, "@") {
		return "", errors.New("the upstream URL carries a user name or password: remove everything up to the @, the ticket authenticates")
	}
	if s == "" {
		return "", errors.New("the upstream is empty: remove it")
	}
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || strings.ContainsFunc(u.Host, unicode.IsSpace) {
		return "", fmt.Errorf("%s is not a proxy URL: write http://proxy.corp.example:8080", shown(s))
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("the scheme %q of the upstream is not supported: use http or https", u.Scheme)
	}
	if port := u.Port(); port != "" || strings.HasSuffix(u.Host, ":") {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("the upstream %s needs a port from 1 to 65535 after the colon", shown(s))
		}
	}
	return u.Scheme + "://" + u.Host, nil
}

// checkUpstreamHost accepts one exact host name or address literal, with or
// without a port, and returns it in lower case. Whatever is not plainly a name
// is refused: the entry opens the way for tokens.
func checkUpstreamHost(s string) (string, error) {
	const want = "write proxy.corp.example or proxy.corp.example:8080"
	s = strings.TrimSpace(s)
	if strings.Contains(s, "@") { // first, so that no message below can print a password
		return "", errors.New("the host carries a user name or password: " + want)
	}
	host := s
	if at := strings.LastIndexByte(s, ':'); at >= 0 && !strings.HasSuffix(s, "]") {
		if n, err := strconv.ParseUint(s[at+1:], 10, 16); err != nil || n == 0 || s[at+1] == '0' {
			return "", fmt.Errorf("%s is not a host with a port: %s", shown(s), want)
		}
		host = s[:at]
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if a, err := netip.ParseAddr(inner); !ok || err != nil || !a.Is6() || a.Zone() != "" {
			return "", fmt.Errorf("%s is not an address: write for example [fd00::1]:8080", shown(s))
		}
		return strings.ToLower(s), nil
	}
	if len(host) > 253 {
		return "", fmt.Errorf("%s is too long for a host", shown(s))
	}
	for label := range strings.SplitSeq(host, ".") {
		bad := func(r rune) bool {
			return !(r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z')
		}
		if label == "" || len(label) > 63 || strings.ContainsFunc(label, bad) {
			return "", fmt.Errorf("%s is not an exact host name: %s", shown(s), want)
		}
	}
	if last := host[strings.LastIndexByte(host, '.')+1:]; last[0] >= '0' && last[0] <= '9' {
		// A resolver may read 010.1 or 0x7f as an address.
		if a, err := netip.ParseAddr(host); err != nil || !a.Is4() {
			return "", fmt.Errorf("%s is neither a host name nor an address: %s", shown(s), want)
		}
	}
	return strings.ToLower(s), nil
}

// checkUpstreamAuth returns "URL scheme USER", the URL as in upstream and the
// scheme in lower case.
func checkUpstreamAuth(s string) (string, error) {
	const want = "write http://proxy.corp.example:8080 ntlm CORP\\alice"
	address, rest, _ := strings.Cut(strings.TrimSpace(s), " ")
	scheme, user, _ := strings.Cut(strings.TrimSpace(rest), " ")
	scheme, user = strings.ToLower(scheme), strings.TrimSpace(user)
	address, err := checkUpstream(address)
	switch {
	case err != nil:
		return "", err
	case scheme != "basic" && scheme != "digest" && scheme != "ntlm": // not shown: it may be a password
		return "", fmt.Errorf("the way to log in must be basic, digest or ntlm: %s", want)
	case user == "":
		return "", fmt.Errorf("the user name is missing: %s", want)
	case scheme != "ntlm" && strings.Contains(user, ":"):
		return "", errors.New("the user name holds a colon: a password does not belong here, but into the keyring")
	case len(user) > 256:
		return "", errors.New("the user name is too long")
	}
	if _, err := checkText(user); err != nil {
		return "", err
	}
	return address + " " + scheme + " " + user, nil
}

func checkPAC(s string) (string, error) {
	if scheme, rest, ok := strings.Cut(s, "://"); ok {
		host, _, _ := strings.Cut(rest, "/")
		if strings.Contains(host, "@") {
			return "", errors.New("the PAC URL carries a user name or password: remove it")
		}
		switch strings.ToLower(scheme) {
		case "http", "https", "file":
		default:
			return "", fmt.Errorf("a PAC file cannot be fetched over %s: use http, https, a file or auto", shown(scheme))
		}
		if _, err := url.Parse(s); err != nil {
			return "", fmt.Errorf("%s is not a URL", shown(s))
		}
	}
	return checkText(s)
}

func checkSPN(s string) (string, error) {
	if s == "" {
		return s, nil
	}
	service, host, _ := strings.Cut(s, "/")
	if service == "" || host == "" || strings.HasPrefix(host, "@") || strings.ContainsFunc(s, unicode.IsSpace) {
		return "", fmt.Errorf("%s is not a service principal: write HTTP/proxy.corp.example", shown(s))
	}
	return checkText(s)
}

func checkLanguage(s string) (string, error) {
	for _, r := range s {
		if !(r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return "", fmt.Errorf("%s is not a language: write for example en or de", shown(s))
		}
	}
	return s, nil
}

// splitList splits a list as it is typed or pasted: at commas and line ends.
func splitList(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == '\n' || r == '\r' })
}

// trimList trims entries and drops empty ones.
func trimList(list []string) []string {
	kept := make([]string, 0, len(list))
	for _, s := range list {
		if s = strings.TrimSpace(s); s != "" {
			kept = append(kept, s)
		}
	}
	return kept
}

func envSwitch(s string) any {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "true", "1", "yes":
		return true
	}
	return false
}

// formatDuration renders 30 minutes as 30m, not as 30m0s.
func formatDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func cloneValue(v any) any {
	if list, ok := v.([]string); ok {
		return append([]string{}, list...)
	}
	return v
}

func equalValue(a, b any) bool {
	la, ok := a.([]string)
	lb, _ := b.([]string)
	if ok {
		return slices.Equal(la, lb)
	}
	return a == b
}

// nearest returns the candidate most like name, or the one that bears the same
// name in another table; "" when none does.
func nearest(name string, candidates []string) string {
	best, distance := "", len(name)/3+2
	for _, c := range candidates {
		if d := levenshtein(name, c); d < distance {
			best, distance = c, d
		}
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	for _, c := range candidates {
		if best == "" && strings.HasSuffix(c, "."+last) {
			best = c
		}
	}
	return best
}

func levenshtein(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
