package sysproxy

import (
	"net/netip"
	"slices"
	"strings"
)

// WPAD returns where a configuration script is by the rules of WPAD over DNS:
// at the name wpad in each of the domains that this computer searches for
// names, in their order. A domain of one label is left out: wpad.com belongs to
// somebody. Nor is the domain shortened to find more, as other programs do.
// Whoever answers to that name in that domain decides about the way out, so
// nobody should look there unasked. DHCP, WPAD's other half, is not asked.
func WPAD() []string { return wpadURLs(searchDomains()) }

func wpadURLs(domains []string) (all []string) {
	for _, d := range domains {
		d = strings.ToLower(strings.Trim(strings.TrimSpace(d), "."))
		if _, err := netip.ParseAddr(d); err == nil || !strings.Contains(d, ".") || len(d) > 240 || strings.Trim(d, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" {
			continue
		}
		if u := "http://wpad." + d + "/wpad.dat"; !slices.Contains(all, u) {
			all = append(all, u)
		}
	}
	return all
}

// resolvDomains are the search domains of a resolv.conf: those of its last
// search or domain line (resolv.conf(5)).
func resolvDomains(text string) (domains []string) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) > 1 && (f[0] == "search" || f[0] == "domain") {
			domains = f[1:]
		}
	}
	return domains
}
