package main

import (
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"kerbpass/internal/proxy"
	"kerbpass/internal/route"
	"kerbpass/internal/settings"
)

// doors are the ways in besides the plain proxy: SOCKS5, fixed forwards and the
// gateway. They are opened at the start, like the plain listeners; whom the
// gateway admits follows the settings at once. One that cannot be opened does
// not keep the others from working.
type doors struct {
	list   []net.Listener // as the proxy serves them
	gate   *proxy.Gate
	asked  map[string][]string // what the settings said at the start, by key
	stale  []string            // the keys that say something else by now
	report doorsReport
}

// doorsReport is the part of the status that tells of them.
type doorsReport struct {
	Socks    []string        `json:"socks"`
	Forwards []forwardReport `json:"forwards"`
	Gateway  *gatewayReport  `json:"gateway"`       // null: no other machine is admitted
	Closed   []closedReport  `json:"closed"`        // those that could not be opened
	Restart  []string        `json:"needs_restart"` // settings that count from the next start
}

type forwardReport struct {
	Listen string `json:"listen"`
	To     string `json:"to"`
}

type gatewayReport struct {
	Listen  []string `json:"listen"`
	Allow   []string `json:"allow"`
	Clients []string `json:"clients"` // their names
}

type closedReport struct {
	Listen string `json:"listen"`
	Key    string `json:"key"`
	Error  string `json:"error"`
}

// listenKeys are the settings that count at the start.
func listenKeys(snap *settings.Snapshot) map[string][]string {
	all := map[string][]string{"listen": snap.Listen, "socks.listen": snap.SocksListen, "tunnel": snap.Tunnel, "gateway.listen": nil}
	if snap.GatewayEnabled {
		all["gateway.listen"] = snap.GatewayListen
	}
	return all
}

func openDoors(snap *settings.Snapshot, log *slog.Logger) *doors {
	d := &doors{gate: proxy.NewGate(log), asked: listenKeys(snap), report: doorsReport{Socks: []string{}, Forwards: []forwardReport{}, Closed: []closedReport{}, Restart: []string{}}}
	open := func(key, addr string, wrap func(net.Listener) net.Listener) string {
		l, err := listen([]string{addr}, log)
		if err != nil {
			log.Error("not listening", "setting", key, "addr", addr, "err", err)
			d.report.Closed = append(d.report.Closed, closedReport{addr, key, err.Error()})
			return ""
		}
		d.list = append(d.list, wrap(l[0]))
		return l[0].Addr().String()
	}
	for _, addr := range snap.SocksListen {
		if at := open("socks.listen", addr, proxy.SOCKS); at != "" {
			d.report.Socks = append(d.report.Socks, at)
		}
	}
	for _, line := range snap.Tunnel {
		f, err := parseForward(line)
		if err != nil {
			d.report.Closed = append(d.report.Closed, closedReport{line, "tunnel", err.Error()})
			continue
		}
		if at := open("tunnel", f.listen, func(l net.Listener) net.Listener { return proxy.Forward(l, f.host, f.port) }); at != "" {
			d.report.Forwards = append(d.report.Forwards, forwardReport{at, net.JoinHostPort(f.host, f.portText)})
		}
	}
	if snap.GatewayEnabled {
		g := &gatewayReport{Listen: []string{}}
		for _, addr := range snap.GatewayListen {
			if at := open("gateway.listen", addr, func(l net.Listener) net.Listener { return proxy.Guarded(l, d.gate) }); at != "" {
				g.Listen = append(g.Listen, at)
			}
		}
		if len(g.Listen) > 0 {
			d.report.Gateway = g
			log.Warn("other machines can use your ticket through the gateway", "listen", g.Listen)
		}
	}
	return d
}

// adopt lets the gateway admit whom snap says, and returns the keys that newly
// say something that counts only after a restart.
func (d *doors) adopt(snap *settings.Snapshot) (news []string) {
	rules, _ := gateRules(snap)
	d.gate.Set(rules)
	now := listenKeys(snap)
	was := d.stale
	d.stale = []string{}
	for _, key := range slices.Sorted(maps.Keys(now)) {
		if !slices.Equal(now[key], d.asked[key]) && !(key == "gateway.listen" && len(now[key]) == 0) {
			d.stale = append(d.stale, key)
			if !slices.Contains(was, key) {
				news = append(news, key)
			}
		}
	}
	return news
}

// gateRules are what the settings say about guests, and their names.
func gateRules(snap *settings.Snapshot) (r proxy.GateRules, names []string) {
	r.Open, names = snap.GatewayEnabled && !snap.Withheld, []string{} // a broken policy may have locked it off
	for _, s := range snap.GatewayAllow {
		if p, err := netip.ParsePrefix(s); err == nil {
			r.Allow = append(r.Allow, p)
		}
	}
	for _, s := range snap.GatewayClients {
		name, sum, _ := strings.Cut(s, ":")
		raw, err := hex.DecodeString(sum)
		if err != nil || len(raw) != sha256.Size {
			continue
		}
		r.Clients, names = append(r.Clients, proxy.GateClient{Name: name, Sum: [sha256.Size]byte(raw)}), append(names, name)
	}
	return r, names
}

// now is what the status says, given the settings in force.
func (d *doors) now(snap *settings.Snapshot) doorsReport {
	r := d.report
	r.Restart = d.stale
	if r.Gateway != nil {
		if !snap.GatewayEnabled {
			r.Gateway = nil
			return r
		}
		_, names := gateRules(snap)
		r.Gateway = &gatewayReport{r.Gateway.Listen, append([]string{}, snap.GatewayAllow...), names}
	}
	return r
}

// A fixedForward is one line of tunnel.
type fixedForward struct {
	listen, host, portText string
	port                   uint16
}

// parseForward reads a line, already validated by the settings, but for the
// host.
func parseForward(line string) (f fixedForward, err error) {
	listen, target, _ := strings.Cut(line, "=")
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return f, err
	}
	h, err := route.ParseHost(host)
	if err != nil {
		return f, err
	}
	at, err := netip.ParseAddrPort("127.0.0.1:" + port)
	return fixedForward{listen, h.String(), port, at.Port()}, err
}

// checkForwards judges what the settings cannot: the hosts.
func checkForwards(v any) error {
	for _, line := range v.([]string) {
		if _, err := parseForward(line); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) doorsNow(snap *settings.Snapshot) doorsReport {
	a.adopting.Lock() // guards what is stale
	defer a.adopting.Unlock()
	return a.doors.now(snap)
}
