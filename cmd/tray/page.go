package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"kerbpass/internal/autostart"
	"kerbpass/internal/control"
	"kerbpass/internal/proxy"
	"kerbpass/internal/settings"
	"kerbpass/internal/ticket"
)

const (
	pagePing    = 20 * time.Second // keeps an event stream from looking dead
	testLimit   = 30 * time.Second
	doctorLimit = 90 * time.Second
	answerWait  = 5 * time.Minute // for the person to answer one question
	maxSignIns  = 4               // under way at one time
)

// pageAPI is what the settings page may ask for beside the control channel's
// own requests. A password goes from the page to the Kerberos library and is
// wiped; it never goes through the control channel.
func (d *desktop) pageAPI() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/v1/", d.app.handler())
	mux.HandleFunc("GET /v1/events", d.serveEvents)
	mux.HandleFunc("POST /v1/renew", func(w http.ResponseWriter, r *http.Request) { writeResult(w, d.renew(r.Context())) })
	mux.HandleFunc("POST /v1/logout", func(w http.ResponseWriter, r *http.Request) { writeResult(w, d.signOut(r.Context())) })
	mux.HandleFunc("POST /v1/settings", d.serveSetting)
	mux.HandleFunc("GET /v1/autostart", d.serveAutostart)
	mux.HandleFunc("POST /v1/autostart", d.switchesAutostart)
	mux.HandleFunc("POST /v1/test", d.serveTest)
	mux.HandleFunc("GET /v1/found", func(w http.ResponseWriter, r *http.Request) { control.WriteJSON(w, d.app.found(r.Context())) })
	mux.HandleFunc("GET /v1/welcome", d.serveWelcome)
	mux.HandleFunc("POST /v1/welcome", d.endsWelcome)
	mux.HandleFunc("POST /v1/doctor", d.serveDoctor)
	mux.HandleFunc("POST /v1/doctor/report", d.serveDoctorReport)
	mux.HandleFunc("POST /v1/log", func(w http.ResponseWriter, _ *http.Request) { writeResult(w, d.openLog()) })
	mux.HandleFunc("POST /v1/login", d.signIns.begin)
	mux.HandleFunc("GET /v1/login/{id}", d.signIns.ask)
	mux.HandleFunc("POST /v1/login/{id}", d.signIns.answer)
	mux.HandleFunc("DELETE /v1/login/{id}", d.signIns.giveUp)
	return mux
}

// serveEvents tells of changes until the page or the program goes.
func (d *desktop) serveEvents(w http.ResponseWriter, r *http.Request) {
	told, end := d.app.notice.subscribe()
	defer end()
	out := http.NewResponseController(w)
	out.SetWriteDeadline(time.Time{})
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	ping := time.NewTicker(pagePing)
	defer ping.Stop()
	for text := "event: changed\ndata: {}\n\n"; ; {
		if _, err := fmt.Fprint(w, text); err != nil {
			return
		}
		if err := out.Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-d.ctx.Done():
			return
		case <-told:
			text = "event: changed\ndata: {}\n\n"
		case <-ping.C:
			text = ": still here\n\n"
		}
	}
}

func (d *desktop) signOut(ctx context.Context) error {
	cur := d.app.tickets.cur.Load()
	if cur.Manager == nil {
		return noKerberos(cur.err)
	}
	if err := cur.SignOut(ctx); err != nil {
		return caused(loginError(err), err, errSignInElse)
	}
	return nil
}

// settingRequest sets one value; the settings check it.
type settingRequest struct {
	Key   string `json:"key"`
	Value any    `json:"value"`
}

func (d *desktop) serveSetting(w http.ResponseWriter, r *http.Request) {
	var req settingRequest
	if !decode(w, r, &req) {
		return
	}
	value := req.Value
	if list, ok := value.([]any); ok {
		texts := make([]string, len(list))
		for i, v := range list {
			texts[i], _ = v.(string)
		}
		value = texts
	}
	writeResult(w, settingsError(d.app.cfg.store.Edit(func(e *settings.Edit) error { return e.Set(req.Key, value) })))
}

func (d *desktop) serveAutostart(w http.ResponseWriter, _ *http.Request) {
	var st autostart.Status
	if d.autostart != nil {
		var err error
		if st, err = d.autostart.Status(); err != nil {
			writeError(w, caused(autostartError(err), err, errAutostartElse))
			return
		}
	}
	control.WriteJSON(w, autostartReport(st))
}

func (d *desktop) switchesAutostart(w http.ResponseWriter, r *http.Request) {
	var req switchRequest
	if !decode(w, r, &req) {
		return
	}
	err := caused(failf(exitFailed, "Use your desktop's own settings.", "Start at login cannot be switched here."), errNoSwitch)
	if d.autostart != nil {
		if err = d.autostart.Disable(); req.Enabled {
			err = d.autostart.Enable()
		}
		err = caused(autostartError(err), err, errAutostartElse)
	}
	d.changed()
	writeResult(w, err)
}

// testReport is what came of one request through the upstream.
type testReport struct {
	Status int         `json:"status"`
	Cause  proxy.Cause `json:"cause"`
	Text   string      `json:"text"`
	Millis int64       `json:"ms"`
}

// testTarget exists nowhere (RFC 6761 section 6.4): the upstream can only say
// so, once it has let us in.
const testTarget = "http://kerbpass-test.invalid/"

// serveTest sends one request through our own listener and the upstream.
// Whatever the upstream itself answers shows that the path works.
func (d *desktop) serveTest(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), testLimit)
	defer cancel()
	began := time.Now()
	report := d.tryPath(ctx)
	report.Millis = time.Since(began).Milliseconds()
	control.WriteJSON(w, report)
}

func (d *desktop) tryPath(ctx context.Context) (t testReport) {
	own := &url.URL{Scheme: "http", Host: d.app.addrs()[0]}
	tr := &http.Transport{Proxy: http.ProxyURL(own), DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, testTarget, nil)
	if err != nil {
		return testReport{Cause: proxy.CauseInternal, Text: err.Error()}
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return testReport{Cause: proxy.CauseTimeout, Text: err.Error()}
	}
	resp.Body.Close()
	t.Status = resp.StatusCode
	if cause := ownCause(resp.Header); cause != "" {
		t.Cause = cause
		t.Text, _, _ = cause.Explain()
	}
	return t
}

// ownCause is the cause in an answer of this program, "" in anybody else's.
func ownCause(h http.Header) proxy.Cause {
	_, cause, _ := strings.Cut(h.Get("Proxy-Status"), `details="`)
	return proxy.Cause(strings.TrimSuffix(cause, `"`))
}

// serveDoctor checks the whole way, for one page at a time.
func (d *desktop) serveDoctor(w http.ResponseWriter, r *http.Request) {
	d.diagnosing.Lock()
	defer d.diagnosing.Unlock()
	ctx, cancel := context.WithTimeout(r.Context(), doctorLimit)
	defer cancel()
	if ctx.Err() != nil {
		return // went while another was at it
	}
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(doctorLimit + callTimeout))
	report, toShare, err := d.app.diagnose(ctx)
	if err != nil {
		writeError(w, caused(failf(exitFailed, "Run it in a terminal: kerbpass doctor", "The check did not work: %v.", err), err, errNoDiagnosis))
		return
	}
	d.diagnosis = &toShare
	control.WriteJSON(w, report)
}

// serveDoctorReport answers the last report as a file, without what is nobody
// else's business.
func (d *desktop) serveDoctorReport(w http.ResponseWriter, _ *http.Request) {
	d.diagnosing.Lock()
	defer d.diagnosing.Unlock()
	if d.diagnosis == nil {
		writeError(w, caused(failf(exitFailed, "Check first.", "There is no report yet."), errNoReport))
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Content-Disposition", `attachment; filename="kerbpass-report.txt"`)
	io.WriteString(w, shareText(*d.diagnosis))
}

// openLog shows the log file with the person's own program.
func (d *desktop) openLog() error {
	if d.logFile == "" {
		return caused(failf(exitFailed, "Look where Kerbpass was started, or in the system's journal.", "There is no log file: the log goes to standard error."), errNoLog)
	}
	return openFile(d.logFile)
}

// signIns are the sign-ins that pages have begun.
type signIns struct {
	ctx    context.Context
	signIn func(ctx context.Context, l ticket.Login) error
	jobs   sync.WaitGroup // those under way

	mu   sync.Mutex // guards open, and what the conversations hold
	open map[string]*conversation
}

// A conversation is one sign-in: the library asks, the page answers.
type conversation struct {
	cancel    context.CancelFunc
	answers   chan []ticket.Secret // capacity 1
	changed   chan struct{}        // closed, and made anew, when what follows changes
	state     string               // asking, working, done, failed
	banner    string
	questions []ticket.Prompt
	err       error
}

// questionReport is what the page shows.
type questionReport struct {
	Kind   ticket.PromptKind `json:"kind"`
	Text   string            `json:"text"`
	Hidden bool              `json:"hidden"`
}

// conversationReport is where a sign-in stands.
type conversationReport struct {
	State     string           `json:"state"`
	Banner    string           `json:"banner"`
	Questions []questionReport `json:"questions"`
	refusal                    // when it has failed
}

func (s *signIns) begin(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Principal string `json:"principal"`
	}
	if !decode(w, r, &req) {
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	c := &conversation{cancel: cancel, answers: make(chan []ticket.Secret, 1), changed: make(chan struct{}), state: "working"}
	id := rand.Text()
	s.mu.Lock()
	crowded := len(s.open) >= maxSignIns
	if !crowded {
		s.open[id] = c
	}
	s.mu.Unlock()
	if crowded {
		cancel()
		writeError(w, caused(failf(exitFailed, "Finish or close the others first.", "Too many sign-ins are under way."), errManySignIns))
		return
	}
	s.jobs.Go(func() { s.run(ctx, id, c, req.Principal) })
	control.WriteJSON(w, map[string]string{"id": id})
}

// run signs in. What became of it stays to be asked for a while.
func (s *signIns) run(ctx context.Context, id string, c *conversation, who string) {
	defer c.cancel()
	err := s.signIn(ctx, ticket.Login{Principal: who, Prompt: func(ctx context.Context, banner string, questions []ticket.Prompt) ([]ticket.Secret, error) {
		s.set(c, func() { c.state, c.banner, c.questions = "asking", printable(banner), questions })
		timeout := time.NewTimer(answerWait)
		defer timeout.Stop()
		select {
		case answers := <-c.answers:
			s.set(c, func() { c.state, c.banner, c.questions = "working", "", nil })
			return answers, nil
		case <-timeout.C:
			return nil, context.Canceled
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}})
	select {
	case late := <-c.answers: // to a question that was given up
		for _, a := range late {
			a.Wipe()
		}
	default:
	}
	s.set(c, func() {
		c.state, c.questions = "done", nil
		if err != nil {
			c.state, c.err = "failed", caused(loginError(err), err, errSignInElse)
		}
	})
	forget := time.AfterFunc(time.Minute, func() { s.drop(id) })
	context.AfterFunc(s.ctx, func() { forget.Stop() })
}

// set changes c and wakes the page.
func (s *signIns) set(c *conversation, change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(c.changed)
	c.changed = make(chan struct{})
}

func (s *signIns) drop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, id)
}

// find returns the conversation that a request is about.
func (s *signIns) find(w http.ResponseWriter, r *http.Request) *conversation {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.open[r.PathValue("id")]
	if c == nil {
		writeRefusal(w, http.StatusNotFound, caused(failf(exitFailed, "Begin again.", "This sign-in has ended."), errSignInEnded))
	}
	return c
}

// ask answers at once when the page has something to show, else as soon as it
// has, or after a while.
func (s *signIns) ask(w http.ResponseWriter, r *http.Request) {
	c := s.find(w, r)
	if c == nil {
		return
	}
	wait := time.NewTimer(25 * time.Second)
	defer wait.Stop()
	for {
		s.mu.Lock()
		report, changed := c.report(), c.changed
		s.mu.Unlock()
		if report.State != "working" {
			control.WriteJSON(w, report)
			return
		}
		select {
		case <-changed:
		case <-wait.C:
			control.WriteJSON(w, report)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func (c *conversation) report() conversationReport {
	r := conversationReport{State: c.state, Banner: c.banner, Questions: []questionReport{}}
	for _, q := range c.questions {
		r.Questions = append(r.Questions, questionReport{q.Kind, printable(q.Text), q.Hidden})
	}
	if c.err != nil {
		r.refusal = refusalIn(c.err)
	}
	return r
}

func (s *signIns) answer(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Answers []string `json:"answers"`
	}
	c := s.find(w, r)
	if c == nil || !decode(w, r, &req) {
		return
	}
	s.mu.Lock()
	wanted := len(c.questions)
	asking := c.state == "asking"
	if asking && len(req.Answers) == wanted {
		c.state = "working"
	}
	s.mu.Unlock()
	if !asking || len(req.Answers) != wanted {
		writeError(w, caused(failf(exitFailed, "Close the window and begin again.", "These answers fit no open question."), errNoQuestion))
		return
	}
	secrets := make([]ticket.Secret, wanted)
	for i, a := range req.Answers {
		secrets[i] = ticket.NewSecret([]byte(a))
	}
	c.answers <- secrets // one at a time, see state
	control.WriteJSON(w, struct{}{})
}

func (s *signIns) giveUp(w http.ResponseWriter, r *http.Request) {
	if c := s.find(w, r); c != nil {
		c.cancel()
		control.WriteJSON(w, struct{}{})
	}
}
