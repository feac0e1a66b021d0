// Package web serves the settings page: one document with its own script and
// style, on a loopback port that exists only while somebody looks at it.
//
// It promises that nobody but the person who was given a fresh link sees the
// page or reaches the API behind it: each connection must come from an allowed
// OS user, each request must name the exact address, carry the cookie that the
// link was exchanged for, and, where it acts or reads data, come from the page
// itself. What fails a check is refused and goes no further.
//
// A page that stays open while the program is started again comes back by
// itself: the next server can be given what this one told, see [Config.Resume].
// The page trusts it only once it has shown that it knows the session, because
// in between any other user's program could take the port.
//
// It refuses to know what the API does. Everything below /v1/ is handed to the
// handler in [Config], which alone validates.
package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// ErrEnded reports that [Server.Run] has ended.
var ErrEnded = errors.New("the settings page's server has ended")

// unusedFor is how long the port stays open without a page.
const unusedFor = 60 * time.Second

// Config holds what a Server needs.
type Config struct {
	// API answers everything below /v1/; required. A request's body is wiped
	// when it returns, so it must not be kept. Responses must end when the
	// request's context does; only GET /v1/events may last longer than a minute.
	API http.Handler

	// Peer returns nil if the program at remote, connected to local, may use
	// the page; required. It must return soon: connections wait for it.
	Peer func(local, remote netip.AddrPort) error

	// Lang names the page's language, "de" or "de-CH"; a language that the page
	// does not speak is English. nil or "" leaves it to the browser.
	Lang func() string

	// Cause words a machine-readable cause of the API: what happened, and what
	// to do. nil: the page shows what the API says.
	Cause func(language, cause string) (sentence, hint string)

	// Painted is called each time a page has been drawn with real data; may be
	// nil.
	Painted func()

	// Keep is told, each time that it changes, what to give as Resume to the
	// program's next server, "" nothing. It holds the keys of pages that may be
	// open: whoever reads it can do what they can. nil: pages do not come back.
	Keep func(text string)
	// Resume is what Keep was told last, "" nothing. What does not fit, or an
	// address that is taken, is as good as nothing.
	Resume string

	Log *slog.Logger // nil discards
}

// Server serves the settings page while there is a page. Its methods are safe
// for concurrent use.
type Server struct {
	cfg       Config
	unusedFor time.Duration
	asks      chan ask      // unbuffered: Run answers each one it takes
	ended     chan struct{} // closed when Run has ended
}

// ask is one call of Open or Invite.
type ask struct {
	life   time.Duration
	answer chan<- opened // capacity 1
}

// opened is the answer to it.
type opened struct {
	url string
	err error
}

// New checks c. Nothing is opened before [Server.Open] is called.
func New(c Config) (*Server, error) {
	switch {
	case c.API == nil:
		return nil, errors.New("settings page: no API")
	case c.Peer == nil:
		return nil, errors.New("settings page: no peer check")
	}
	if c.Lang == nil {
		c.Lang = func() string { return "" }
	}
	if c.Keep == nil {
		c.Keep = func(string) {}
	}
	if c.Painted == nil {
		c.Painted = func() {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{cfg: c, unusedFor: unusedFor, asks: make(chan ask), ended: make(chan struct{})}, nil
}

// Open makes sure that the page is served and returns a link to it, which is
// good for one use within 30 seconds. It opens the settings to whoever has it:
// keep it out of logs, and of argument lists where there is another way. Open
// waits for Run, and returns [ErrEnded] when that has ended.
func (s *Server) Open(ctx context.Context) (url string, err error) {
	return s.Invite(ctx, tokenLife)
}

// Invite is Open for a link that a person has to carry to a browser: it is good
// for life, and the page is served at least as long.
func (s *Server) Invite(ctx context.Context, life time.Duration) (url string, err error) {
	answer := make(chan opened, 1)
	select {
	case s.asks <- ask{life, answer}:
		o := <-answer
		return o.url, o.err
	case <-s.ended:
		return "", ErrEnded
	case <-ctx.Done():
		return "", fmt.Errorf("open settings page: %w", context.Cause(ctx))
	}
}

// Run serves the page when [Server.Open] asks for it, until ctx ends, and at
// once where there is a page to resume. At the end everything that it started
// is gone. Call it once.
func (s *Server) Run(ctx context.Context) error {
	defer close(s.ended)
	if site := s.resumed(ctx); site != nil {
		s.serve(ctx, site)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case a := <-s.asks:
			site, err := newSite(ctx, &s.cfg, s.unusedFor, kept{})
			if err != nil {
				a.answer <- opened{err: fmt.Errorf("settings page: %w", err)}
				continue
			}
			a.answer <- opened{url: site.link(a.life)}
			s.serve(ctx, site)
		}
	}
}

// resumed is the site that the last server had, nil if it cannot be had again.
func (s *Server) resumed(ctx context.Context) *site {
	k, err := readKept(s.cfg.Resume)
	if err != nil {
		return nil
	}
	site, err := newSite(ctx, &s.cfg, s.unusedFor, k)
	if err != nil {
		s.cfg.Log.Info("open settings page not resumed", "err", err)
		s.cfg.Keep("")
		return nil
	}
	return site
}

// serve answers Open from one site until that is unused or ctx ends. Then a
// page may be waiting for us to come back.
func (s *Server) serve(ctx context.Context, site *site) {
	s.cfg.Log.Debug("settings page opened", "addr", site.addr)
	defer s.cfg.Log.Debug("settings page closed", "addr", site.addr)
	defer site.stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-site.usage.unused():
			s.cfg.Keep("")
			return
		case a := <-s.asks:
			a.answer <- opened{url: site.link(a.life)}
		}
	}
}
