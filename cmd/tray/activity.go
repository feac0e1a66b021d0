package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"kerbpass/internal/activity"
	"kerbpass/internal/control"
	"kerbpass/internal/peer"
	"kerbpass/internal/proxy"
)

// Bounds of what is known about clients.
const (
	maxClients  = 4096 // connections, latest first
	maxWaiting  = 256  // of them not identified yet
	maxHeld     = 16   // requests of one that wait for its program's name
	maxLongPoll = 30 * time.Second
)

// clients finds out which program is behind each connection, in a goroutine of
// its own, and keeps the requests that have ended together with it. Nothing
// that the proxy calls waits for that: what cannot be identified in time is
// kept without a name. Once a connection's program is settled, its requests
// meet no lock that another connection's could hold.
type clients struct {
	ring     activity.Ring
	identify func(local, remote netip.AddrPort) (peer.Identity, error)
	waiting  chan *client // more than it holds stay unknown

	byPort [256]atomic.Pointer[clientPage] // by the high byte of the client's port
	order  [maxClients]atomic.Pointer[client]
	next   atomic.Uint64 // modulo maxClients, the oldest in order
}

// clientPage has the latest client on each of 256 ports.
type clientPage [256]atomic.Pointer[client]

// client is the program at the other end of one accepted connection.
type client struct {
	local, remote netip.AddrPort

	mu      sync.Mutex // guards what follows until it is settled; no more changes then
	settled atomic.Bool
	id      peer.Identity
	held    []activity.Entry // requests that ended before that
}

func newClients(identify func(local, remote netip.AddrPort) (peer.Identity, error)) *clients {
	return &clients{identify: identify, waiting: make(chan *client, maxWaiting)}
}

// latest is where the client that came last from a port is noted; nil if none
// has come from there or near.
func (c *clients) latest(port uint16) *atomic.Pointer[client] {
	page := c.byPort[port>>8].Load()
	if page == nil {
		return nil
	}
	return &page[port&0xff]
}

// accepted notes a new connection. It takes the place of an earlier one from
// the same port, whose program must not be named for this one.
func (c *clients) accepted(local, remote netip.AddrPort) {
	n := &client{local: local, remote: unmapped(remote)}
	if page := &c.byPort[remote.Port()>>8]; page.Load() == nil {
		page.CompareAndSwap(nil, new(clientPage))
	}
	oldest := &c.order[(c.next.Add(1)-1)%maxClients]
	if old := oldest.Swap(n); old != nil {
		c.latest(old.remote.Port()).CompareAndSwap(old, nil)
	}
	c.latest(remote.Port()).Store(n)
	select {
	case c.waiting <- n:
	default:
		c.settle(n, peer.Identity{})
	}
}

// settle makes id the answer for n, and adds the requests that waited for it.
func (c *clients) settle(n *client, id peer.Identity) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.id = id
	n.settled.Store(true)
	for _, e := range n.held {
		c.ring.Add(n.name(e))
	}
	n.held = nil
}

// guestName is what stands for the program of a gateway's client.
func guestName(client string) string {
	if client == "" {
		return ""
	}
	return "gateway: " + client
}

func (n *client) name(e activity.Entry) activity.Entry {
	if e.Program != "" {
		return e
	}
	e.PID, e.Program = n.id.PID, n.id.Program
	return e
}

// hold keeps e until n is settled, if it is not and has room.
func (n *client) hold(e activity.Entry) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.settled.Load() || len(n.held) == maxHeld {
		return false
	}
	n.held = append(n.held, e)
	return true
}

// add keeps a request that came over the connection from remote; the zero
// remote is unknown.
func (c *clients) add(e activity.Entry, remote netip.AddrPort) {
	if at := c.latest(remote.Port()); at != nil {
		if n := at.Load(); n != nil && n.remote == unmapped(remote) {
			if !n.settled.Load() && n.hold(e) {
				return
			}
			if n.settled.Load() {
				e = n.name(e)
			}
		}
	}
	c.ring.Add(e)
}

// run identifies clients until ctx ends; after that nobody waits for news.
func (c *clients) run(ctx context.Context) error {
	defer c.ring.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case n := <-c.waiting:
			c.settle(n, c.named(ctx, n))
		}
	}
}

// busyPause lets more connections come together for one search.
const busyPause = 20 * time.Millisecond

// named finds out who n is. Why it is not known is of no use to anybody: the
// connection is gone, or the program is another user's.
func (c *clients) named(ctx context.Context, n *client) peer.Identity {
	for {
		id, err := c.identify(n.local, n.remote)
		if !errors.Is(err, peer.ErrBusy) {
			return id
		}
		select {
		case <-ctx.Done():
			return id
		case <-time.After(busyPause):
		}
	}
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Accepted implements [proxy.Observer].
func (s *state) Accepted(local, remote netip.AddrPort) { s.clients.accepted(local, remote) }

func entryOf(e *proxy.Event) activity.Entry {
	return activity.Entry{
		Program: guestName(e.Client), Time: e.Time, Method: e.Method, Host: e.Host, Port: e.Port, Route: string(e.Route), Rule: e.Rule, Entry: e.Entry,
		Upstream: e.Upstream, Status: e.Status, Result: result(e), Cause: string(e.Cause), Up: e.Up, Down: e.Down, Took: e.Took,
	}
}

// result is one of ok, aborted (one of the ends broke off), refused (we did
// not try) and failed.
func result(e *proxy.Event) string {
	switch e.Cause {
	case "":
		if e.Err != nil {
			return "aborted"
		}
		return "ok"
	case proxy.CauseBadRequest, proxy.CauseNotYourUser, proxy.CausePolicy, proxy.CauseLoop:
		return "refused"
	}
	if e.Route == proxy.RouteRefused {
		return "refused"
	}
	return "failed"
}

// activityEntry is one request as "activity --json" prints it. Its shape is
// stable.
type activityEntry struct {
	Seq      uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Program  string    `json:"program"`
	PID      int       `json:"pid"`
	Method   string    `json:"method"`
	Host     string    `json:"host"`
	Port     uint16    `json:"port"`
	Route    string    `json:"route"`
	Rule     string    `json:"rule"`
	Entry    string    `json:"entry"`
	Upstream string    `json:"upstream"`
	Status   int       `json:"status"`
	Result   string    `json:"result"`
	Cause    string    `json:"cause"`
	Up       int64     `json:"up"`
	Down     int64     `json:"down"`
	MS       int64     `json:"ms"`
}

// activityPage answers GET /v1/activity. Next is the "after" that asks for
// what follows.
type activityPage struct {
	Entries []activityEntry `json:"entries"`
	Next    uint64          `json:"next"`
}

// serveActivity answers with at most max entries: those after a number, oldest
// first, for which it waits so many seconds; or else the latest.
func (a *app) serveActivity(w http.ResponseWriter, r *http.Request) {
	ring := &a.state.clients.ring
	query, last := r.URL.Query(), ring.Last()
	after, err1 := number(query, "after", 0)
	wait, err2 := number(query, "wait", 0)
	most, err3 := number(query, "max", activity.Size)
	if err := errors.Join(err1, err2, err3); err != nil {
		writeError(w, caused(failf(exitUsage, "", "The request is not understood: %v.", err), errBadRequest))
		return
	}
	most = min(most, activity.Size)
	var found []activity.Entry
	if !query.Has("after") {
		after, wait = last-min(last, most), 0
	}
	if wait > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), min(time.Duration(min(wait, 3600))*time.Second, maxLongPoll))
		defer cancel()
		found = ring.Wait(ctx, after)
		found = found[:min(len(found), int(most))]
	} else {
		found = ring.Since(after, int(most))
	}
	page := activityPage{Entries: []activityEntry{}, Next: after}
	for _, e := range found {
		page.Next = e.Seq
		page.Entries = append(page.Entries, activityEntry{
			e.Seq, e.Time.UTC().Truncate(time.Millisecond), e.Program, e.PID, e.Method, e.Host, e.Port, e.Route, e.Rule, e.Entry,
			e.Upstream, e.Status, e.Result, e.Cause, e.Up, e.Down, e.Took.Milliseconds(),
		})
	}
	control.WriteJSON(w, page)
}

func number(query url.Values, name string, missing uint64) (uint64, error) {
	if !query.Has(name) {
		return missing, nil
	}
	n, err := strconv.ParseUint(query.Get(name), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s is not a number from 0", name)
	}
	return n, nil
}

func (c *cli) cmdActivity(ctx context.Context) *cobra.Command {
	var follow bool
	var limit int
	cmd := c.addJSON(&cobra.Command{
		Use: "activity", Short: "Show the last requests: program, host, route, result", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if limit < 0 || limit > activity.Size {
				return failf(exitUsage, "", "--limit is a number from 0 to %d.", activity.Size)
			}
			err := c.activity(ctx, follow, limit)
			switch {
			case errors.Is(err, control.ErrNotRunning):
				return notRunning()
			case follow && ctx.Err() != nil:
				return nil // Ctrl-C is how to end it
			}
			return err
		},
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new requests; with --json one object per line")
	cmd.Flags().IntVar(&limit, "limit", 50, "show the last `n` requests")
	return cmd
}

// followWait is one long poll; it ends before callTimeout does.
const followWait = 10 * time.Second

func (c *cli) activity(ctx context.Context, follow bool, limit int) error {
	page, err := c.activityPage(ctx, url.Values{"max": {strconv.Itoa(limit)}})
	if err != nil {
		return err
	}
	if c.json && !follow {
		return c.printJSON(page.Entries)
	}
	if !c.json {
		fmt.Fprintln(c.out, activityHead)
	}
	for {
		if err := c.printActivity(page.Entries); err != nil || !follow {
			return err
		}
		after := page.Next
		query := url.Values{"after": {strconv.FormatUint(after, 10)}, "wait": {strconv.Itoa(int(followWait.Seconds()))}}
		if page, err = c.activityPage(ctx, query); err != nil {
			// A helper that is just ending may break off; once more, and it is
			// plainly gone.
			page, err = c.activityPage(ctx, query)
		}
		if err != nil {
			return err
		}
		if len(page.Entries) > 0 && page.Entries[0].Seq > after+1 {
			fmt.Fprintf(c.err, "kerbpass: %d requests came too fast to be shown.\n", page.Entries[0].Seq-after-1)
		}
	}
}

func (c *cli) activityPage(ctx context.Context, query url.Values) (page activityPage, err error) {
	err = c.ask(ctx, func(ctx context.Context, cl *control.Client) error {
		return cl.Get(ctx, "/v1/activity", query, &page)
	})
	return page, err
}

// printActivity prints a line for each, JSON or not.
func (c *cli) printActivity(entries []activityEntry) error {
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	for _, e := range entries {
		var err error
		if c.json {
			err = enc.Encode(e)
		} else {
			_, err = fmt.Fprintln(c.out, e.row(time.Local))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const activityFormat = "%-8s  %-20s  %-7s %-34s  %-28s  %-26s  %6s  %6s  %7s"

var activityHead = fmt.Sprintf(activityFormat, "TIME", "PROGRAM", "REQUEST", "", "ROUTE", "RESULT", "UP", "DOWN", "MS")

// row is the entry for people, in columns that do not depend on other entries,
// so that they stay in line when more follow.
func (e activityEntry) row(zone *time.Location) string {
	program, host, outcome := cmp.Or(e.Program, "-"), "-", e.Result
	if e.PID != 0 {
		program = fmt.Sprintf("%s(%d)", e.Program, e.PID)
	} else if e.Program != "" {
		program = e.Program
	}
	if e.Host != "" {
		host = e.Host
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		host += ":" + strconv.Itoa(int(e.Port))
	}
	if e.Cause != "" {
		outcome = e.Cause
	}
	if e.Status != 0 {
		outcome += " " + strconv.Itoa(e.Status)
	}
	route := strings.Join(strings.Fields(e.Route+" "+e.Rule+" "+e.Entry), " ")
	line := fmt.Sprintf(activityFormat, e.Time.In(zone).Format("15:04:05"), program, e.Method, host, route, outcome,
		size(e.Up), size(e.Down), strconv.FormatInt(e.MS, 10))
	// A program's name and a method are what the program says they are; on a
	// terminal they must not be more than text.
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, line)
}

// size is a number of bytes in at most six characters.
func size(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10)
	}
	f, unit := float64(n), 0
	for f >= 999.5 && unit < len("kMGTPE") {
		f /= 1000
		unit++
	}
	format := "%.0f%c"
	if f < 9.95 {
		format = "%.1f%c"
	}
	return fmt.Sprintf(format, f, "kMGTPE"[unit-1])
}
