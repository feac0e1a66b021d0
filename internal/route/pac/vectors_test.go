package pac_test

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/route/pac"
)

// names is what the vectors' resolver knows.
var names = map[string][]string{
	"www.corp.example":  {"10.1.2.3"},
	"two.corp.example":  {"192.168.7.9", "10.9.9.9"},
	"dual.corp.example": {"2001:db8::5", "172.16.0.5"},
	"six.corp.example":  {"2001:db8::6"},
	"short":             {"10.0.0.1"},
}

func resolve(_ context.Context, network, host string) (all []netip.Addr, err error) {
	for _, a := range names[strings.ToLower(host)] {
		if addr := netip.MustParseAddr(a); network == "ip" || addr.Is4() {
			all = append(all, addr)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no such host")
	}
	return all, nil
}

func own() []netip.Addr {
	return []netip.Addr{netip.MustParseAddr("2001:db8::77"), netip.MustParseAddr("10.7.7.7"), netip.MustParseAddr("192.168.1.7")}
}

// asked is a script that works out the expression it is given as a URL.
func asked(t testing.TB, w pac.World) *pac.Script {
	t.Helper()
	if w.Resolve == nil {
		w.Resolve = resolve
	}
	if w.Own == nil {
		w.Own = own
	}
	s, err := pac.Load("test.pac", `function FindProxyForURL(u, h) { return String(eval(u)) }`, w)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type vector struct{ expr, want string }

// What browsers do, in the corners that scripts meet. The expressions are our
// own; the behaviour is that of Chromium's, Firefox's and pactester's tests,
// and of Microsoft's description for the extensions.
var vectors = []vector{
	// isPlainHostName
	{`isPlainHostName("www")`, "true"},
	{`isPlainHostName("www.corp.example")`, "false"},
	{`isPlainHostName("www.")`, "false"},
	{`isPlainHostName("")`, "true"},
	{`isPlainHostName("::1")`, "false"},
	{`isPlainHostName("2001:db8::1")`, "false"},
	{`isPlainHostName("10.0.0.1")`, "false"},
	{`isPlainHostName("a-b_c")`, "true"},
	{`isPlainHostName()`, "false"},

	// dnsDomainIs
	{`dnsDomainIs("www.corp.example", ".corp.example")`, "true"},
	{`dnsDomainIs("corp.example", ".corp.example")`, "false"},
	{`dnsDomainIs("corp.example", "corp.example")`, "true"},
	{`dnsDomainIs("evilcorp.example", "corp.example")`, "true"}, // only letters are compared
	{`dnsDomainIs("www", ".corp.example")`, "false"},
	{`dnsDomainIs("www.corp.example", "www.corp.example.org")`, "false"},
	{`dnsDomainIs("www.corp.example.", ".corp.example")`, "false"},
	{`dnsDomainIs("WWW.CORP.EXAMPLE", ".corp.example")`, "false"},
	{`dnsDomainIs("www.corp.example", "")`, "true"},
	{`dnsDomainIs("www.corp.example")`, "false"},
	{`dnsDomainIs("10.1.2.3", ".3")`, "true"},

	// localHostOrDomainIs
	{`localHostOrDomainIs("www.corp.example", "www.corp.example")`, "true"},
	{`localHostOrDomainIs("www", "www.corp.example")`, "true"},
	{`localHostOrDomainIs("www.other.example", "www.corp.example")`, "false"},
	{`localHostOrDomainIs("home.corp.example", "www.corp.example")`, "false"},
	{`localHostOrDomainIs("ww", "www.corp.example")`, "false"},
	{`localHostOrDomainIs("www.corp", "www.corp.example")`, "true"},
	{`localHostOrDomainIs("www.corp.example", "www")`, "false"},
	{`localHostOrDomainIs("www")`, "false"},

	// isResolvable, dnsResolve
	{`isResolvable("www.corp.example")`, "true"},
	{`isResolvable("WWW.corp.example")`, "true"},
	{`isResolvable("short")`, "true"},
	{`isResolvable("missing.corp.example")`, "false"},
	{`isResolvable("six.corp.example")`, "false"}, // IPv4 alone counts
	{`isResolvable("dual.corp.example")`, "true"},
	{`isResolvable("10.1.2.3")`, "true"},
	{`isResolvable("")`, "false"},
	{`isResolvable("no good")`, "false"},
	{`isResolvable("http://www.corp.example/")`, "false"},
	{`isResolvable()`, "false"},
	{`dnsResolve("www.corp.example")`, "10.1.2.3"},
	{`dnsResolve("two.corp.example")`, "192.168.7.9"},
	{`dnsResolve("dual.corp.example")`, "172.16.0.5"},
	{`dnsResolve("six.corp.example")`, "null"},
	{`dnsResolve("missing.corp.example")`, "null"},
	{`dnsResolve("10.1.2.3")`, "10.1.2.3"},
	{`dnsResolve("2001:db8::1")`, "null"},
	{`dnsResolve("")`, "null"},
	{`dnsResolve()`, "null"},
	{`dnsResolve("missing") == null`, "true"},
	{`dnsResolve("1.2.3.256")`, "null"},

	// isInNet
	{`isInNet("10.1.2.3", "10.0.0.0", "255.0.0.0")`, "true"},
	{`isInNet("11.1.2.3", "10.0.0.0", "255.0.0.0")`, "false"},
	{`isInNet("www.corp.example", "10.1.0.0", "255.255.0.0")`, "true"},
	{`isInNet("two.corp.example", "10.0.0.0", "255.0.0.0")`, "false"}, // the first address counts
	{`isInNet("two.corp.example", "192.168.0.0", "255.255.0.0")`, "true"},
	{`isInNet("missing.corp.example", "0.0.0.0", "0.0.0.0")`, "false"},
	{`isInNet("10.1.2.3", "0.0.0.0", "0.0.0.0")`, "true"},
	{`isInNet("198.95.249.79", "198.95.249.79", "255.255.255.255")`, "true"},
	{`isInNet("198.95.249.78", "198.95.249.79", "255.255.255.255")`, "false"},
	{`isInNet("10.1.2.3", "10.1.9.9", "255.255.0.0")`, "true"}, // bits outside the mask do not count
	{`isInNet("10.1.2.3", "10.000.000.000", "255.000.000.000")`, "true"},
	{`isInNet("10.1.2.3", "010.0.0.0", "255.0.0.0")`, "true"}, // not octal
	{`isInNet("10.1.2.130", "10.1.2.128", "255.255.255.128")`, "true"},
	{`isInNet("10.1.2.127", "10.1.2.128", "255.255.255.128")`, "false"},
	{`isInNet("10.1.2.3", "10.0.0.0", "255.0.255.0")`, "false"}, // a mask with holes
	{`isInNet("10.9.0.3", "10.1.0.0", "255.0.255.0")`, "true"},
	{`isInNet("10.1.2.3", "10.0.0", "255.0.0.0")`, "false"},
	{`isInNet("10.1.2.3", "10.0.0.0", "255.0.0")`, "false"},
	{`isInNet("10.1.2.3", "10.0.0.0/8", "255.0.0.0")`, "false"},
	{`isInNet("10.1.2.3", "10.0.0.0", "8")`, "false"},
	{`isInNet("10.1.2.3", "300.0.0.0", "255.0.0.0")`, "false"},
	{`isInNet("10.1.2.3", "10.0.0.0")`, "false"},
	{`isInNet("10.1.2.3")`, "false"},
	{`isInNet(null, "10.0.0.0", "255.0.0.0")`, "false"},
	{`isInNet("2001:db8::1", "10.0.0.0", "255.0.0.0")`, "false"},
	{`isInNet("six.corp.example", "10.0.0.0", "255.0.0.0")`, "false"},
	{`isInNet(myIpAddress(), "10.7.0.0", "255.255.0.0")`, "true"},

	// convert_addr
	{`convert_addr("104.16.41.2")`, "1745889538"},
	{`convert_addr("0.0.0.1")`, "1"},
	{`convert_addr("127.255.255.255")`, "2147483647"},
	{`convert_addr("192.168.0.1")`, "-1062731775"}, // the sign bit, as in browsers
	{`convert_addr("255.255.255.255")`, "-1"},
	{`convert_addr("www")`, "0"},
	{`convert_addr()`, "0"},

	// myIpAddress
	{`myIpAddress()`, "10.7.7.7"},
	{`typeof myIpAddress()`, "string"},

	// dnsDomainLevels
	{`dnsDomainLevels("www")`, "0"},
	{`dnsDomainLevels("www.corp.example")`, "2"},
	{`dnsDomainLevels("www.")`, "1"},
	{`dnsDomainLevels("")`, "0"},
	{`dnsDomainLevels("10.1.2.3")`, "3"},
	{`dnsDomainLevels()`, "0"},

	// shExpMatch
	{`shExpMatch("http://home.corp.example/people/index.html", "*/people/*")`, "true"},
	{`shExpMatch("http://home.corp.example/people/index.html", "*/other/*")`, "false"},
	{`shExpMatch("www.corp.example", "*.corp.example")`, "true"},
	{`shExpMatch("corp.example", "*.corp.example")`, "false"},
	{`shExpMatch("www.corp.example.org", "*.corp.example")`, "false"}, // to the end
	{`shExpMatch("xwww.corp.example", "www.*")`, "false"},             // from the beginning
	{`shExpMatch("wwwXcorpXexample", "www.corp.example")`, "false"},   // a dot is a dot
	{`shExpMatch("a1", "a?")`, "true"},
	{`shExpMatch("a", "a?")`, "false"},
	{`shExpMatch("a12", "a?")`, "false"},
	{`shExpMatch("", "*")`, "true"},
	{`shExpMatch("", "")`, "true"},
	{`shExpMatch("a", "")`, "false"},
	{`shExpMatch("abc", "*")`, "true"},
	{`shExpMatch("abc", "a**c")`, "true"},
	{`shExpMatch("abcbc", "*bc")`, "true"},
	{`shExpMatch("abcb", "*bc")`, "false"},
	{`shExpMatch("WWW.corp.example", "www.*")`, "false"},
	{`shExpMatch("a.corp.example", "(a|b).corp.example")`, "true"}, // as regular expressions do in browsers
	{`shExpMatch("c.corp.example", "(a|b).corp.example")`, "false"},
	{`shExpMatch("www.b.example", "(*.a.example|*.b.example)")`, "true"},
	{`shExpMatch("www5.corp.example", "www[0-9].*")`, "true"},
	{`shExpMatch("wwwx.corp.example", "www[0-9].*")`, "false"},
	{`shExpMatch("a(b", "a(b")`, "true"}, // no regular expression: taken as it stands
	{`shExpMatch("a[b.example", "a[b.*")`, "true"},
	{`shExpMatch("http://x/?a=b", "http://x/?a=b")`, "true"},
	{`shExpMatch("a+b", "a+b")`, "false"}, // a plus repeats, in browsers too
	{`shExpMatch("aab", "a+b")`, "true"},
	{`shExpMatch("bücher.example", "b?cher.example")`, "true"},
	{`shExpMatch("abc")`, "false"},
	{`shExpMatch(null, "*")`, "false"},
	{`shExpMatch(123, "1?3")`, "true"},

	// Microsoft's extensions
	{`isResolvableEx("six.corp.example")`, "true"},
	{`isResolvableEx("www.corp.example")`, "true"},
	{`isResolvableEx("missing.corp.example")`, "false"},
	{`isResolvableEx("2001:db8::1")`, "true"},
	{`isResolvableEx()`, "false"},
	{`dnsResolveEx("dual.corp.example")`, "2001:db8::5;172.16.0.5"},
	{`dnsResolveEx("two.corp.example")`, "192.168.7.9;10.9.9.9"},
	{`dnsResolveEx("missing.corp.example")`, ""},
	{`dnsResolveEx("2001:DB8::1")`, "2001:db8::1"},
	{`dnsResolveEx()`, ""},
	{`myIpAddressEx()`, "2001:db8::77;10.7.7.7;192.168.1.7"},
	{`isInNetEx("198.95.249.79", "198.95.249.79/32")`, "true"},
	{`isInNetEx("198.95.115.1", "198.95.0.0/16")`, "true"},
	{`isInNetEx("198.96.115.1", "198.95.0.0/16")`, "false"},
	{`isInNetEx("3ffe:8311:ffff:abcd::1", "3ffe:8311:ffff::/48")`, "true"},
	{`isInNetEx("3ffe:8312:ffff:abcd::1", "3ffe:8311:ffff::/48")`, "false"},
	{`isInNetEx("10.1.2.3", "::/0")`, "false"}, // families are kept apart
	{`isInNetEx("10.1.2.3", "0.0.0.0/0")`, "true"},
	{`isInNetEx("www.corp.example", "10.0.0.0/8")`, "false"}, // names are not looked up
	{`isInNetEx("10.1.2.3", "10.0.0.0/33")`, "false"},
	{`isInNetEx("10.1.2.3", "10.0.0.0")`, "false"},
	{`isInNetEx("10.1.2.3", "10.9.9.9/8")`, "true"},
	{`isInNetEx("10.1.2.3")`, "false"},
	{`sortIpAddressList("10.2.3.9;2001:4898:28:1::1;::1;127.0.0.1;::9")`, "::1;::9;2001:4898:28:1::1;10.2.3.9;127.0.0.1"},
	{`sortIpAddressList("10.2.3.9")`, "10.2.3.9"},
	{`sortIpAddressList(" 10.2.3.9 ; 9.2.3.9 ")`, "9.2.3.9;10.2.3.9"},
	{`sortIpAddressList("10.10.0.1;10.9.0.1")`, "10.9.0.1;10.10.0.1"}, // as numbers
	{`sortIpAddressList("")`, "false"},
	{`sortIpAddressList("10.2.3.9;")`, "false"},
	{`sortIpAddressList("10.2.3.9;www")`, "false"},
	{`sortIpAddressList()`, "null"},
	{`getClientVersion()`, "1.0"},

	// alert, and the language around it
	{`alert("a word")`, "undefined"},
	{`alert()`, "undefined"},
	{`"PROXY a:1; DIRECT".split(";").length`, "2"},
	{`/^(www|git)\./.test("git.corp.example")`, "true"},
	{`var o = {a: [1, 2]}; o.a.indexOf(2)`, "1"},
	{`(function () { try { throw new Error("x") } catch (e) { return e.message } })()`, "x"},
	{`let f = (a, b = 2) => a + b; f(1)`, "3"},
	{`typeof window + typeof require + typeof setTimeout + typeof XMLHttpRequest`, "undefinedundefinedundefinedundefined"},
	{`"ok".startsWith("o") && [..."ab"].includes("b")`, "true"},
}

func TestVectors(t *testing.T) {
	if len(vectors)+len(timeVectors) < 150 {
		t.Errorf("got %d vectors, want 150 and more", len(vectors)+len(timeVectors))
	}
	s := asked(t, pac.World{})
	for _, v := range vectors {
		got, varies, err := s.Find(v.expr, "www.corp.example")
		if err != nil || got != v.want || varies {
			t.Errorf("%s: got %q, varies %v, %v; want %q", v.expr, got, varies, err, v.want)
		}
	}
}

// at is Wednesday, 25 February 2026, 23:30:15 where the script runs, which is
// Thursday the 26th, 04:30:15 in Greenwich.
var at = time.Date(2026, time.February, 25, 23, 30, 15, 0, time.FixedZone("EST", -5*3600))

var timeVectors = []vector{
	{`weekdayRange("WED")`, "true"},
	{`weekdayRange("THU")`, "false"},
	{`weekdayRange("WED", "GMT")`, "false"},
	{`weekdayRange("THU", "GMT")`, "true"},
	{`weekdayRange("MON", "FRI")`, "true"},
	{`weekdayRange("THU", "SAT")`, "false"},
	{`weekdayRange("WED", "WED")`, "true"},
	{`weekdayRange("FRI", "MON")`, "false"}, // over the weekend
	{`weekdayRange("SAT", "WED")`, "true"},
	{`weekdayRange("THU", "WED")`, "true"},
	{`weekdayRange("THU", "FRI", "GMT")`, "true"},
	{`weekdayRange("wed")`, "false"},
	{`weekdayRange("WEDNESDAY")`, "false"},
	{`weekdayRange("XYZ", "WED")`, "false"},
	{`weekdayRange()`, "false"},
	{`weekdayRange("GMT")`, "false"},

	{`dateRange(25)`, "true"},
	{`dateRange(26)`, "false"},
	{`dateRange(26, "GMT")`, "true"},
	{`dateRange("25")`, "true"},
	{`dateRange("FEB")`, "true"},
	{`dateRange("MAR")`, "false"},
	{`dateRange("feb")`, "false"},
	{`dateRange(2026)`, "true"},
	{`dateRange(2025)`, "false"},
	{`dateRange(1, 25)`, "true"},
	{`dateRange(1, 24)`, "false"},
	{`dateRange(20, 5)`, "true"}, // over the end of the month
	{`dateRange(26, 5)`, "false"},
	{`dateRange("JAN", "MAR")`, "true"},
	{`dateRange("MAR", "DEC")`, "false"},
	{`dateRange("NOV", "FEB")`, "true"}, // over the end of the year
	{`dateRange("NOV", "JAN")`, "false"},
	{`dateRange(2025, 2027)`, "true"},
	{`dateRange(2027, 2030)`, "false"},
	{`dateRange(1, "FEB", 25, "FEB")`, "true"},
	{`dateRange(26, "FEB", 1, "MAR")`, "false"},
	{`dateRange(26, "FEB", 1, "MAR", "GMT")`, "true"},
	{`dateRange(24, "DEC", 25, "FEB")`, "true"},
	{`dateRange(24, "DEC", 6, "JAN")`, "false"},
	{`dateRange("OCT", 2025, "MAR", 2026)`, "true"},
	{`dateRange("MAR", 2026, "OCT", 2026)`, "false"},
	{`dateRange(1, "JUN", 2025, 25, "FEB", 2026)`, "true"},
	{`dateRange(1, "JUN", 2025, 24, "FEB", 2026)`, "false"},
	{`dateRange(25, "FEB", 2026, 25, "FEB", 2026)`, "true"},
	{`dateRange(1, "FEB", "MAR")`, "false"}, // two ends that do not name the same
	{`dateRange(1, 2026)`, "false"},
	{`dateRange("XYZ")`, "false"},
	{`dateRange(0)`, "false"},
	{`dateRange()`, "false"},

	{`timeRange(23)`, "true"},
	{`timeRange(4)`, "false"},
	{`timeRange(4, "GMT")`, "true"},
	{`timeRange("23")`, "true"},
	{`timeRange("08")`, "false"},
	{`timeRange(22, 23)`, "true"}, // the whole of the last hour
	{`timeRange(21, 22)`, "false"},
	{`timeRange(22, 6)`, "true"}, // over midnight
	{`timeRange(6, 22)`, "false"},
	{`timeRange(0, 23)`, "true"},
	{`timeRange(23, 30, 23, 30)`, "true"}, // the whole of the last minute
	{`timeRange(23, 31, 23, 59)`, "false"},
	{`timeRange(8, 30, 17, 0)`, "false"},
	{`timeRange(17, 0, 8, 30)`, "true"},
	{`timeRange(4, 0, 5, 0, "GMT")`, "true"},
	{`timeRange(23, 30, 15, 23, 30, 15)`, "true"},
	{`timeRange(23, 30, 16, 23, 59, 59)`, "false"},
	{`timeRange(0, 0, 0, 23, 30, 14)`, "false"},
	{`timeRange(0, 0, 0, 0, 0, 30, "GMT")`, "false"},
	{`timeRange("x", 5)`, "false"},
	{`timeRange()`, "false"},
	{`timeRange("GMT")`, "false"},
	{`new Date().getTime()`, "1772080215000"},
	{`Date.now() - new Date().valueOf()`, "0"},
}

func TestTimeVectors(t *testing.T) {
	s := asked(t, pac.World{Now: func() time.Time { return at }})
	for _, v := range timeVectors {
		got, varies, err := s.Find(v.expr, "www.corp.example")
		if err != nil || got != v.want || !varies {
			t.Errorf("%s: got %q, varies %v, %v; want %q that varies", v.expr, got, varies, err, v.want)
		}
	}
	// A Date that is made of numbers asks nobody, and chance is seen too.
	for expr, want := range map[string]bool{"new Date(2026, 1, 1).getMonth()": false, "Math.floor(Math.random())": true, "1": false} {
		if _, varies, err := s.Find(expr, ""); varies != want || err != nil {
			t.Errorf("%s: got varies %v, %v; want %v", expr, varies, err, want)
		}
	}
	if _, _, err := s.Find("timeRange(1, 2, 3)", ""); !errors.Is(err, pac.ErrScript) || !strings.Contains(err.Error(), "number of arguments") {
		t.Errorf("three arguments of timeRange: got %v, want an error that says so", err)
	}
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		line, want string
		skipped    int
	}{
		{"DIRECT", "DIRECT", 0},
		{"direct", "DIRECT", 0},
		{"PROXY proxy.example:8080", "PROXY proxy.example:8080", 0},
		{"proxy Proxy.Example:8080", "PROXY proxy.example:8080", 0},
		{"PROXY proxy.example", "PROXY proxy.example:80", 0},
		{"HTTP proxy.example:8080", "PROXY proxy.example:8080", 0},
		{"HTTPS proxy.example", "HTTPS proxy.example:443", 0},
		{"HTTPS proxy.example:8443", "HTTPS proxy.example:8443", 0},
		{"SOCKS5 socks.example", "SOCKS5 socks.example:1080", 0},
		{"SOCKS socks.example:1081", "SOCKS5 socks.example:1081", 0},
		{"SOCKS4 socks.example:1081", "", 1},
		{"SOCKS4 s:1; PROXY p:2", "PROXY p:2", 1},
		{"PROXY a:1; PROXY b:2 ;DIRECT", "PROXY a:1, PROXY b:2, DIRECT", 0},
		{" ;; PROXY a:1 ; ", "PROXY a:1", 0},
		{"\tPROXY\t a:1\r\n;\nDIRECT", "PROXY a:1, DIRECT", 0},
		{"PROXY [2001:DB8::1]:3128", "PROXY [2001:db8::1]:3128", 0},
		{"PROXY [2001:db8::1]", "PROXY [2001:db8::1]:80", 0},
		{"PROXY 2001:db8::1:3128", "", 1},
		{"PROXY [proxy.example]:1", "", 1},
		{"PROXY [::1", "", 1},
		{"PROXY [::1]x:2", "", 1},
		{"PROXY 10.1.2.3:3128", "PROXY 10.1.2.3:3128", 0},
		{"PROXY", "", 1},
		{"PROXY :8080", "", 1},
		{"PROXY a:", "", 1},
		{"PROXY a:0", "", 1},
		{"PROXY a:65536", "", 1},
		{"PROXY a:80x", "", 1},
		{"PROXY a:+80", "", 1},
		{"PROXY a b:80", "", 1},
		{"PROXY http://a:80", "", 1},
		{"PROXY user:secret@a:80; DIRECT", "DIRECT", 1},
		{"DIRECT a:80", "", 1},
		{"FTP a:80; PROXY b:80", "PROXY b:80", 1},
		{"a:80", "", 1},
		{"PROXY bücher.example:80", "", 1},
		{"PROXY a\x00b:80", "", 1},
		{"", "", 0},
		{";", "", 0},
		{strings.Repeat("PROXY a:1;", 40), strings.TrimSuffix(strings.Repeat("PROXY a:1, ", 16), ", "), 17},
	} {
		hops, skipped := pac.Parse(tt.line)
		var got []string
		for _, h := range hops {
			got = append(got, h.String())
		}
		if strings.Join(got, ", ") != tt.want || len(skipped) != tt.skipped {
			t.Errorf("%q: got %q and %q left out; want %q and %d", tt.line, got, skipped, tt.want, tt.skipped)
		}
		if strings.Contains(strings.Join(skipped, " "), "secret") {
			t.Errorf("%q: a password in %q", tt.line, skipped)
		}
		_, err := pac.NewAnswer(tt.line, false)
		if (err == nil) != (tt.want != "") || err != nil && !errors.Is(err, pac.ErrAnswer) {
			t.Errorf("%q: got %v as an answer", tt.line, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"PROXY a:1; DIRECT", "SOCKS5 [::1]:1080", "HTTPS x", ";;", "PROXY user:pw@a:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		hops, _ := pac.Parse(line)
		for _, h := range hops { // what is written of a hop reads as the same hop
			if again, bad := pac.Parse(h.String()); len(bad) > 0 || len(again) != 1 || again[0] != h {
				t.Errorf("%q: %v reads as %v, %q", line, h, again, bad)
			}
		}
	})
}
