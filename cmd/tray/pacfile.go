package main

import (
	"encoding/json"
	"strings"

	"kerbpass/internal/route"
)

// ownScript is /kerbpass.pac: what sends a browser to the proxy at addr. Names
// on the lists are spared the way through here; for whatever the script does
// not know, such as blocks of addresses, the proxy itself decides by the same
// lists. There is no way round the proxy when it does not answer.
func ownScript(table *route.Table, addr string) string {
	exact, below := map[string]int{}, map[string]int{}
	for _, e := range table.Exact.Entries() {
		exact[e] = 1
	}
	for _, e := range table.Suffix.Entries() {
		name := strings.TrimPrefix(e, "*")
		h, err := route.ParseHost(strings.TrimPrefix(name, "."))
		if _, isAddr := h.Addr(); err != nil || isAddr {
			continue
		}
		if below["."+h.String()] = 1; !strings.HasPrefix(e, "*") {
			exact[h.String()] = 1
		}
	}
	return `// The same lists as in Kerbpass, where "kerbpass why URL" explains them.
var exact = ` + object(exact) + `;
var below = ` + object(below) + `;

function FindProxyForURL(url, host) {
  host = host.toLowerCase();
  if (host.charAt(0) === "[") host = host.slice(1, -1);
  if (host.charAt(host.length - 1) === "." && host.indexOf(".") < host.length - 1) host = host.slice(0, -1);
  if (host === "localhost" || /\.localhost$/.test(host) || /^127\.\d+\.\d+\.\d+$/.test(host) || host === "::1") return "DIRECT";
  if (exact.hasOwnProperty(host)) return "DIRECT";
  for (var at = host.indexOf("."); at >= 0; at = host.indexOf(".", at + 1)) {
    if (below.hasOwnProperty(host.slice(at))) return "DIRECT";
  }
  return "PROXY ` + addr + `";
}
`
}

// object is the literal of a set.
func object(set map[string]int) string {
	b, err := json.Marshal(set) // sorted, and safe in a script
	if err != nil {
		panic(err) // strings and numbers cannot fail
	}
	return string(b)
}
