package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"kerbpass/internal/control"
	"kerbpass/internal/proxy"
)

const openMetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"

var (
	meterRoutes  = [...]string{string(proxy.RouteDirect), string(proxy.RouteProxy), string(proxy.RouteRefused)}
	meterResults = [...]string{"ok", "aborted", "refused", "failed"}
	meterCauses  = proxy.Causes()
	meterAuth    = [...]proxy.AuthResult{proxy.AuthAccepted, proxy.AuthRefused, proxy.AuthNotChallenged, proxy.AuthFailed}
)

// meter counts since the start. Counting takes no lock and allocates nothing;
// no host, user or program is a label, so there are never more series than
// these. The zero meter is ready.
type meter struct {
	requests   [len(meterRoutes)][len(meterResults)]atomic.Int64
	failures   [32]atomic.Int64 // by meterCauses
	up, down   atomic.Int64
	auth       [len(meterAuth)]atomic.Int64
	tokens     atomic.Int64
	tokenNanos atomic.Int64
}

func indexOf[T comparable](list []T, v T) int {
	for i := range list {
		if list[i] == v {
			return i
		}
	}
	return -1
}

func (m *meter) request(e *proxy.Event) {
	route, res := indexOf(meterRoutes[:], string(e.Route)), indexOf(meterResults[:], result(e))
	if route < 0 {
		route = len(meterRoutes) - 1 // it was refused before there was one
	}
	m.requests[route][res].Add(1)
	if e.Cause != "" {
		if i := indexOf(meterCauses, e.Cause); i >= 0 {
			m.failures[i].Add(1)
		}
	}
	m.up.Add(e.Up)
	m.down.Add(e.Down)
}

func (m *meter) authenticated(r proxy.AuthResult) {
	if i := indexOf(meterAuth[:], r); i >= 0 {
		m.auth[i].Add(1)
	}
}

func (m *meter) token(took time.Duration) {
	m.tokens.Add(1)
	m.tokenNanos.Add(int64(took))
}

// metrics is everything as OpenMetrics 1.0 text.
func (a *app) metrics(ctx context.Context) string {
	var b strings.Builder
	family := func(name, kind, unit, help string) {
		fmt.Fprintf(&b, "# TYPE kerbpass_%s %s\n", name, kind)
		if unit != "" {
			fmt.Fprintf(&b, "# UNIT kerbpass_%s %s\n", name, unit)
		}
		fmt.Fprintf(&b, "# HELP kerbpass_%s %s\n", name, help)
	}
	seconds := func(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }
	m := &a.meter
	family("build", "info", "", "The program.")
	fmt.Fprintf(&b, "kerbpass_build_info{version=%q,go=%q} 1\n", version(), runtime.Version())
	family("start_time_seconds", "gauge", "seconds", "When the program started, in Unix time.")
	fmt.Fprintf(&b, "kerbpass_start_time_seconds %s\n", strconv.FormatFloat(float64(started.UnixMilli())/1000, 'f', 3, 64))
	family("requests", "counter", "", "Requests and tunnels that have ended.")
	for i, route := range meterRoutes {
		for j, res := range meterResults {
			fmt.Fprintf(&b, "kerbpass_requests_total{route=%q,result=%q} %d\n", route, res, m.requests[i][j].Load())
		}
	}
	family("failures", "counter", "", "Requests and tunnels that got nowhere, by cause.")
	for i, cause := range meterCauses {
		fmt.Fprintf(&b, "kerbpass_failures_total{cause=%q} %d\n", cause, m.failures[i].Load())
	}
	family("bytes", "counter", "bytes", "Bodies and what went through tunnels, from (up) and to (down) programs.")
	fmt.Fprintf(&b, "kerbpass_bytes_total{direction=\"up\"} %d\nkerbpass_bytes_total{direction=\"down\"} %d\n", m.up.Load(), m.down.Load())
	family("authentications", "counter", "", "Authentications of connections at the upstream.")
	for i, res := range meterAuth {
		fmt.Fprintf(&b, "kerbpass_authentications_total{result=%q} %d\n", res, m.auth[i].Load())
	}
	family("token_seconds", "summary", "seconds", "How long Kerberos tokens took to make.")
	fmt.Fprintf(&b, "kerbpass_token_seconds_count %d\nkerbpass_token_seconds_sum %s\n", m.tokens.Load(), seconds(time.Duration(m.tokenNanos.Load())))
	family("connections", "gauge", "", "Connections of programs that are open.")
	fmt.Fprintf(&b, "kerbpass_connections %d\n", a.proxy.Open())
	family("tunnels", "gauge", "", "Tunnels among them.")
	fmt.Fprintf(&b, "kerbpass_tunnels %d\n", a.proxy.Tunnels())
	family("ticket_left_seconds", "gauge", "seconds", "How long the ticket is valid still; 0 without one.")
	left := a.tickets.cur.Load().snapshot(ctx).Status.Left(time.Now())
	fmt.Fprintf(&b, "kerbpass_ticket_left_seconds %s\n", seconds(left.Round(time.Second)))
	family("kerberos_enabled", "gauge", "", "1 while connections are authenticated with the ticket; 0 while that is off or paused.")
	fmt.Fprintf(&b, "kerbpass_kerberos_enabled %d\n", map[bool]int{true: 1}[a.now.Load().kerberos])
	b.WriteString("# EOF\n")
	return b.String()
}

func (a *app) serveMetrics(w http.ResponseWriter, r *http.Request) {
	text := a.metrics(r.Context())
	if r.URL.Query().Get("as") == "json" {
		control.WriteJSON(w, metricsAnswer{text})
		return
	}
	w.Header().Set("Content-Type", openMetrics)
	io.WriteString(w, text)
}

type metricsAnswer struct {
	Text string `json:"text"`
}

func (c *cli) cmdMetrics(ctx context.Context) *cobra.Command {
	return &cobra.Command{
		Use: "metrics", Short: "Print counters of the running helper as OpenMetrics text, for a monitoring system", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var m metricsAnswer
			err := c.ask(ctx, func(ctx context.Context, cl *control.Client) error {
				return cl.Get(ctx, "/v1/metrics", map[string][]string{"as": {"json"}}, &m)
			})
			if errors.Is(err, control.ErrNotRunning) {
				return notRunning()
			}
			fmt.Fprint(c.out, m.Text)
			return err
		},
	}
}
