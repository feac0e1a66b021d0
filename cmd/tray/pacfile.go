package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"kerbpass/internal/route"
)

// ownScript is kerbpass.pac for browsers that come to addr: what the lists send
// direct goes direct in the browser, everything else to the proxy there. What
// the script cannot be sure of goes to the proxy too, which decides by the same
// lists. It never falls back to a direct connection.
func ownScript(t *route.Table, addr string) string {
	return renderScript(t.Exact.Entries(), t.Suffix.Entries(), addr)
}

// scriptRules is what the script looks hosts up in. Keys begin with "=", so
// that none is a property that every object has.
type scriptRules struct {
	All    bool           `json:"all"`    // every host
	Hosts  map[string]int `json:"hosts"`  // exact names and addresses; with ":port" for one port
	Below  map[string]int `json:"below"`  // names whose subdomains go direct; the same
	Blocks [][2]uint32    `json:"blocks"` // IPv4: address, mask
}

// renderScript is pure. An entry that it cannot express is left out.
func renderScript(exact, suffix []string, addr string) string {
	r := scriptRules{Hosts: map[string]int{}, Below: map[string]int{}, Blocks: [][2]uint32{}}
	for _, e := range exact {
		r.Hosts["="+e] = 1
	}
	for _, e := range suffix {
		r.add(e)
	}
	rules, _ := json.Marshal(r) // sorted, so the same lists give the same text
	return fmt.Sprintf(scriptText, rules, "PROXY "+addr)
}

func (r *scriptRules) add(entry string) {
	if entry == "*" {
		r.All = true
		return
	}
	if p, err := netip.ParsePrefix(entry); err == nil {
		if p.Addr().Is4() {
			b := p.Masked().Addr().As4()
			mask := uint32(0)
			if p.Bits() > 0 {
				mask = ^uint32(0) << (32 - p.Bits())
			}
			r.Blocks = append(r.Blocks, [2]uint32{uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), mask})
		}
		return
	}
	name, port := entry, ""
	switch {
	case strings.HasPrefix(name, "["):
		var rest string
		name, rest, _ = strings.Cut(name[1:], "]")
		port = strings.TrimPrefix(rest, ":")
	case strings.Count(name, ":") == 1:
		name, port, _ = strings.Cut(name, ":")
	}
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return
		}
		port = ":" + strconv.FormatUint(n, 10)
	}
	below, wildcard := strings.CutPrefix(name, "*.")
	if !wildcard {
		below = strings.TrimPrefix(name, ".")
	}
	h, err := route.ParseHost(below)
	if err != nil {
		return
	}
	text := strings.TrimSuffix(h.String(), ".")
	_, isAddr := h.Addr()
	if !wildcard {
		r.Hosts["="+text+port] = 2 // 2: a trailing dot does not matter
	}
	if !isAddr {
		r.Below["="+text+port] = 1
	}
}

// scriptText is in the language of the oldest engine around.
const scriptText = `// Made by Kerbpass. Hosts of the bypass lists go direct, all others to Kerbpass.
var rules = %s;
var proxy = %q;

function has(map, key) { return Object.prototype.hasOwnProperty.call(map, key); }

function either(map, name, port) { return has(map, "=" + name) ? map["=" + name] : has(map, "=" + name + ":" + port) ? map["=" + name + ":" + port] : 0; }

function portOf(url) {
  var m = /^([a-z]+):\/\/([^\/?#]*)/i.exec(url);
  if (!m) return 0;
  var p = /:([0-9]+)$/.exec(m[2]);
  if (p) return parseInt(p[1], 10);
  var known = { http: 80, ws: 80, https: 443, wss: 443, ftp: 21 };
  var scheme = m[1].toLowerCase();
  return has(known, scheme) ? known[scheme] : 0;
}

function goesDirect(url, host) {
  var port = portOf(url);
  host = host.toLowerCase();
  if (host.charAt(0) === "[") host = host.substring(1, host.length - 1);
  var dot = host.charAt(host.length - 1) === ".";
  var bare = dot ? host.substring(0, host.length - 1) : host;
  var v4 = /^([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})\.([0-9]{1,3})$/.exec(host);
  var isAddress = v4 || host.indexOf(":") >= 0;
  if (host === "::1" || bare === "localhost" || /\.localhost$/.test(bare) || v4 && v4[1] === "127") return true;
  if (rules.all) return true;
  if (either(rules.hosts, bare, port) === 2) return true;
  // A single name with a dot is another one than without.
  if (has(rules.hosts, "=" + (bare.indexOf(".") >= 0 ? bare : host))) return true;
  if (v4) {
    var n = ((+v4[1] * 256 + +v4[2]) * 256 + +v4[3]) * 256 + +v4[4];
    for (var i = 0; i < rules.blocks.length; i++) {
      if (((n & rules.blocks[i][1]) >>> 0) === rules.blocks[i][0]) return true;
    }
  }
  if (isAddress) return false;
  for (var at = bare.indexOf("."); at >= 0; at = bare.indexOf(".", at + 1)) {
    if (either(rules.below, bare.substring(at + 1), port)) return true;
  }
  return false;
}

function FindProxyForURL(url, host) {
  return goesDirect(url, host) ? "DIRECT" : proxy;
}
`
