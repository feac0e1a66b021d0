package web

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Bounds of one request.
const (
	maxHeader  = 16 << 10
	maxBody    = 4 << 20 // a pasted list of a hundred thousand hosts
	headerTime = 5 * time.Second
	bodyTime   = 15 * time.Second
	answerTime = 60 * time.Second // above the API's long polls
)

// policy lets the page load what this server serves, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'none'; frame-ancestors 'none'; base-uri 'none'"

// site is the page on one port.
type site struct {
	cfg     *Config
	addr    string
	origin  string
	keys    keys
	usage   *usage
	server  http.Server
	cancel  context.CancelFunc // ends requests under way
	serving sync.WaitGroup     // the accept loop
	conns   sync.WaitGroup     // connections, their handlers included
}

// newSite serves until stop is called, where k says and to its sessions, or
// somewhere and to nobody yet.
func newSite(ctx context.Context, c *Config, unusedFor time.Duration, k kept) (*site, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", k.addr().String())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &site{cfg: c, addr: l.Addr().String(), usage: newUsage(unusedFor), cancel: cancel}
	s.keys.sessions = k.Sessions
	s.origin = "http://" + s.addr
	s.server = http.Server{
		Handler:           s.handler(),
		MaxHeaderBytes:    maxHeader,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       unusedFor,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnState:         s.count,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	s.serving.Go(func() {
		if err := s.server.Serve(newGuard(l, c)); err != http.ErrServerClosed {
			c.Log.Error("settings page", "err", err)
		}
	})
	return s, nil
}

// count lets stop wait for handlers too, which Close does not.
func (s *site) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.conns.Done()
	}
}

// stop ends everything and waits for it.
func (s *site) stop() {
	s.cancel()
	s.server.Close() // its error is of no use: nothing is written any more
	s.serving.Wait()
	s.conns.Wait()
}

// link is where a new window goes.
func (s *site) link(life time.Duration) string {
	token := s.keys.issue(time.Now(), life)
	s.usage.expect(s.keys.latest())
	return s.origin + "/open/" + token
}

// handler puts the checks in front of everything.
func (s *site) handler() http.Handler {
	inside := http.NewServeMux()
	inside.HandleFunc("GET /{$}", servePage)
	inside.HandleFunc("GET /{file}", servePage)
	inside.HandleFunc("GET /texts", s.serveTexts)
	inside.HandleFunc("GET /proof", s.serveProof)
	inside.HandleFunc("GET /cause/{cause}", s.serveCause)
	inside.HandleFunc("POST /painted", func(w http.ResponseWriter, _ *http.Request) {
		s.cfg.Painted()
		w.WriteHeader(http.StatusNoContent)
	})
	inside.HandleFunc("/v1/", s.serveAPI)
	inside.HandleFunc("GET /v1/events", s.serveEvents)

	outside := http.NewServeMux()
	outside.HandleFunc("GET /open/{token}", s.exchange)
	outside.Handle("/", s.sessionOnly(s.pageOnly(s.bounded(inside))))

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setHeaders(w.Header())
		// A name that an attacker's DNS points here must not make this origin theirs.
		if r.Host != s.addr {
			s.refuse(w, r, http.StatusMisdirectedRequest, "refused.host")
			return
		}
		outside.ServeHTTP(w, r)
	})
}

func setHeaders(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// refuse says why in one plain sentence.
func (s *site) refuse(w http.ResponseWriter, r *http.Request, status int, key string) {
	s.cfg.Log.Info("request to the settings page refused", "method", r.Method, "reason", key)
	http.Error(w, catalogues()[s.language(r)].texts[key], status)
}

// exchange turns a link into a session. The clean address that follows keeps
// the token out of the history and of what the person may copy.
func (s *site) exchange(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet { // the pattern takes HEAD too, which must not use up a link
		s.refuse(w, r, http.StatusMethodNotAllowed, "refused.request")
		return
	}
	session, ok := s.keys.redeem(r.PathValue("token"), time.Now())
	if !ok {
		s.refuse(w, r, http.StatusForbidden, "refused.link")
		return
	}
	s.usage.expect(s.keys.latest())
	s.cfg.Keep(keep(s.addr, s.keys.all()))
	http.SetCookie(w, &http.Cookie{Name: session.Name, Value: session.Value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
	w.Header().Set("Location", "/")
	w.WriteHeader(http.StatusSeeOther)
}

// sessionOnly lets requests of a session through.
func (s *site) sessionOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := s.keys.open(r); !ok {
			s.refuse(w, r, http.StatusForbidden, "refused.link")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// pageOnly refuses what other pages send: everything that acts must carry our
// origin, which a browser never leaves out there, and nothing may carry
// another. Reading data is for the page itself too; only the document may be
// asked for by whoever leads here.
func (s *site) pageOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin, named := r.Header["Origin"]
		reads := r.Method == http.MethodGet
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case named && (len(origin) != 1 || origin[0] != s.origin),
			!named && !reads,
			r.URL.Path != "/" && site != "" && site != "same-origin",
			!reads && r.Method != http.MethodPost && r.Method != http.MethodDelete,
			r.Method == http.MethodPost && r.Header.Get("Content-Type") != "application/json":
			s.refuse(w, r, http.StatusForbidden, "refused.request")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// bounded reads a request's body before it is handled, within bounds, and
// wipes it after: it may hold a password.
func (s *site) bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.ContentLength < 0:
			s.refuse(w, r, http.StatusLengthRequired, "refused.request")
			return
		case r.ContentLength > maxBody:
			s.refuse(w, r, http.StatusRequestEntityTooLarge, "refused.size")
			return
		}
		control := http.NewResponseController(w)
		control.SetReadDeadline(time.Now().Add(bodyTime))
		body := make([]byte, r.ContentLength)
		defer clear(body)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			s.refuse(w, r, http.StatusBadRequest, "refused.request")
			return
		}
		control.SetReadDeadline(time.Time{})
		control.SetWriteDeadline(time.Now().Add(answerTime))
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

// serveProof answers what only this session's server knows, for the page to
// recognise it by after it was away. The page never says it.
func (s *site) serveProof(w http.ResponseWriter, r *http.Request) {
	session, _ := s.keys.open(r)
	w.Header().Set("Content-Type", jsonType)
	json.NewEncoder(w).Encode(map[string]string{"proof": session.Proof}) // a page that has gone is not our error
}

func (s *site) serveAPI(w http.ResponseWriter, r *http.Request) { s.cfg.API.ServeHTTP(w, r) }

// serveEvents is the API's stream, which stays open as long as the page.
func (s *site) serveEvents(w http.ResponseWriter, r *http.Request) {
	http.NewResponseController(w).SetWriteDeadline(time.Time{})
	s.usage.begin()
	defer s.usage.end()
	s.cfg.API.ServeHTTP(w, r)
}

// serveCause answers {"text","hint"}, empty where nobody words causes.
func (s *site) serveCause(w http.ResponseWriter, r *http.Request) {
	var answer struct {
		Text string `json:"text"`
		Hint string `json:"hint"`
	}
	if s.cfg.Cause != nil {
		answer.Text, answer.Hint = s.cfg.Cause(s.language(r), r.PathValue("cause"))
	}
	w.Header().Set("Content-Type", jsonType)
	json.NewEncoder(w).Encode(answer) // a page that has gone is not our error
}

func (s *site) serveTexts(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", jsonType)
	w.Write(catalogues()[s.language(r)].file)
}

// language is the page's for a request.
func (s *site) language(r *http.Request) string {
	if lang := s.cfg.Lang(); lang != "" {
		return chooseLanguage(lang)
	}
	return chooseLanguage(strings.Split(r.Header.Get("Accept-Language"), ",")...)
}
