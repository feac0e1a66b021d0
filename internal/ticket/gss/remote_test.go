//go:build linux && !nogss

package gss_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/gss"
)

// The library reads its environment once per process and only one kind may be
// loaded, so each case runs in a child: this test binary again, serving one
// Backend over its standard input and output.
const childSwitch = "KERBPASS_TEST_GSS_CHILD"

func TestMain(m *testing.M) {
	if library, ok := os.LookupEnv(childSwitch); ok {
		serveChild(library)
		return
	}
	os.Exit(m.Run())
}

// A request asks the child for one call. Op "cancel" ends the context of the
// request Of; "answers" goes to the prompt of Of.
type request struct {
	ID, Of   int
	Op, Arg  string
	Args     []string
	Answers  []string
	Refused  bool
	Canceled bool
}

// A reply is the end of a call, or, with Prompt or Changed, a call back.
type reply struct {
	ID      int
	Prompt  *prompt
	Changed bool

	Text   string
	Token  []byte
	Status ticket.Status
	Caches []wireCache
	Err    *wireError
}

type prompt struct {
	Banner    string
	Questions []ticket.Prompt
}

// wireCache carries the Err of a cache, which JSON cannot.
type wireCache struct {
	ticket.Cache
	Err *wireError
}

type wireError struct {
	Text        string
	Op, Subject string
	KDC         *ticket.KDCError // without its Err
	Kinds       []int
	Minor       int32
}

var errPrompt = errors.New("the person does not answer")

var sentinels = []error{ticket.ErrNoTicket, ticket.ErrExpired, ticket.ErrKDCUnreachable, ticket.ErrSPNUnknown,
	ticket.ErrClockSkew, ticket.ErrCache, errors.ErrUnsupported, context.Canceled, context.DeadlineExceeded, ticket.ErrPassword,
	ticket.ErrPrincipalUnknown, ticket.ErrRevoked, ticket.ErrPasswordExpired, ticket.ErrNotRenewable, errPrompt}

func toWire(err error) *wireError {
	if err == nil {
		return nil
	}
	w := &wireError{Text: err.Error()}
	for i, s := range sentinels {
		if errors.Is(err, s) {
			w.Kinds = append(w.Kinds, i)
		}
	}
	if e, ok := errors.AsType[*gss.Error](err); ok {
		w.Minor = e.Minor
	}
	if e, ok := errors.AsType[*ticket.OpError](err); ok {
		w.Op, w.Subject = e.Op, e.Subject
	}
	if e, ok := errors.AsType[*ticket.KDCError](err); ok {
		w.KDC = &ticket.KDCError{Realm: e.Realm, KDC: e.KDC, Text: e.Text}
	}
	return w
}

func (w *wireError) error() error {
	if w == nil {
		return nil
	}
	e := &remoteError{text: w.Text, minor: w.Minor}
	for _, k := range w.Kinds {
		e.causes = append(e.causes, sentinels[k])
	}
	if w.KDC != nil {
		w.KDC.Err = errors.Join(e.causes...)
		e.causes = append(e.causes, w.KDC)
	}
	if w.Op != "" {
		e.causes = append(e.causes, &ticket.OpError{Op: w.Op, Subject: w.Subject, Err: errors.New(w.Text)})
	}
	return e
}

type remoteError struct {
	text   string
	minor  int32
	causes []error
}

func (e *remoteError) Error() string   { return fmt.Sprintf("%s (minor %d)", e.text, e.minor) }
func (e *remoteError) Unwrap() []error { return e.causes }

// server is the child's side.
type server struct {
	config gss.Config
	b      *gss.Backend

	// Apart from mu, so that a full pipe keeps nobody from reading.
	writing sync.Mutex // guards out
	out     *json.Encoder

	mu      sync.Mutex // guards what follows
	cancel  map[int]context.CancelFunc
	answers map[int]chan request
}

func serveChild(library string) {
	s := &server{out: json.NewEncoder(os.Stdout), cancel: map[int]context.CancelFunc{}, answers: map[int]chan request{}}
	s.config = gss.Config{Flavour: library, Cache: os.Getenv(childSwitch + "_CACHE"), Service: os.Getenv(childSwitch + "_SERVICE")}
	var err error
	s.b, err = gss.New(s.config)
	if err != nil {
		s.send(reply{Err: toWire(err)})
		return
	}
	s.send(reply{Text: s.b.Name()})
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var q request
		if in.Decode(&q) != nil {
			return
		}
		s.take(q)
	}
}

func (s *server) send(r reply) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.out.Encode(r)
}

// take starts a call, or passes q on to one that is under way.
func (s *server) take(q request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch q.Op {
	case "cancel":
		if cancel := s.cancel[q.Of]; cancel != nil {
			cancel()
		}
		return
	case "answers":
		if ch := s.answers[q.Of]; ch != nil {
			ch <- q
		}
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	if q.Canceled {
		cancel()
	}
	s.cancel[q.ID], s.answers[q.ID] = cancel, make(chan request, 1)
	go func() {
		r, err := s.call(ctx, q)
		r.ID, r.Err = q.ID, toWire(err)
		s.send(r)
		s.mu.Lock()
		defer s.mu.Unlock()
		cancel()
		delete(s.cancel, q.ID)
		delete(s.answers, q.ID)
	}()
}

func (s *server) call(ctx context.Context, q request) (r reply, err error) {
	switch q.Op {
	case "token":
		r.Token, err = s.b.Token(ctx, q.Arg)
	case "ready":
		r.Token = s.b.Ready(q.Arg)
	case "tokens":
		r.Text, err = s.tokens(ctx, q.Arg)
	case "status":
		r.Status, err = s.b.Status(ctx)
	case "caches":
		var list []ticket.Cache
		list, err = s.b.Caches(ctx)
		for _, c := range list {
			w := wireCache{Cache: c, Err: toWire(c.Err)}
			w.Cache.Err = nil
			r.Caches = append(r.Caches, w)
		}
	case "stamp":
		r.Text = s.b.Stamp()
	case "renew":
		err = s.b.Renew(ctx, q.Args...)
	case "sign in":
		err = s.b.SignIn(ctx, ticket.Login{Principal: q.Arg, Prompt: s.prompter(q.ID)})
	case "sign out":
		err = s.b.SignOut(ctx)
	case "watch":
		err = s.b.Watch(ctx, func() { s.send(reply{ID: q.ID, Changed: true}) })
	case "bench":
		r.Text, err = s.bench(ctx, q.Arg, q.Of)
	case "parallel":
		r.Text, err = s.parallel(ctx, q.Of)
	case "second":
		_, err = gss.New(gss.Config{Flavour: q.Arg})
	}
	return r, err
}

// bench calls op n times and says how much processor time that took.
func (s *server) bench(ctx context.Context, op string, n int) (cpu string, err error) {
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for range n {
		switch op {
		case "status":
			_, err = s.b.Status(ctx)
		case "parallel":
			_, err = s.parallel(ctx, 30)
		case "ready":
			if s.b.Ready(spn) == nil {
				_, err = s.b.Token(ctx, spn)
			}
		case "stamp":
			s.b.Stamp()
		default:
			_, err = s.b.Token(ctx, spn)
		}
		if err != nil {
			return "", err
		}
	}
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	return fmt.Sprint(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()), nil
}

// A counter is a slog.Handler that counts the records with one message.
type counter struct {
	message string
	seen    atomic.Int32
}

func (c *counter) Enabled(context.Context, slog.Level) bool { return true }
func (c *counter) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *counter) WithGroup(string) slog.Handler            { return c }

func (c *counter) Handle(_ context.Context, r slog.Record) error {
	if r.Message == c.message {
		c.seen.Add(1)
	}
	return nil
}

// parallel has a new Backend make n tokens at once and says how many copies of
// the cache that took.
func (s *server) parallel(ctx context.Context, n int) (copies string, err error) {
	count := &counter{message: "ticket cache copied to memory"}
	config := s.config
	config.Log = slog.New(count)
	b, err := gss.New(config)
	if err != nil {
		return "", err
	}
	errs := make([]error, n)
	start := make(chan struct{})
	var load sync.WaitGroup
	for i := range errs {
		load.Go(func() {
			<-start
			_, errs[i] = b.Token(ctx, spn)
		})
	}
	close(start)
	load.Wait()
	return fmt.Sprint(count.seen.Load()), errors.Join(errs...)
}

// tokens makes tokens from 8 goroutines until it is cancelled, and says how
// many. The error is the first failure.
func (s *server) tokens(ctx context.Context, spn string) (made string, failed error) {
	var mu sync.Mutex
	var load sync.WaitGroup
	n := 0
	for range 8 {
		load.Go(func() {
			for ctx.Err() == nil {
				_, err := s.b.Token(context.Background(), spn)
				mu.Lock()
				n++
				if err != nil && failed == nil {
					failed = fmt.Errorf("token %d: %w", n, err)
				}
				mu.Unlock()
			}
		})
	}
	load.Wait()
	return fmt.Sprint(n), failed
}

func (s *server) prompter(id int) ticket.Prompter {
	s.mu.Lock()
	answers := s.answers[id]
	s.mu.Unlock()
	return func(ctx context.Context, banner string, questions []ticket.Prompt) ([]ticket.Secret, error) {
		s.send(reply{ID: id, Prompt: &prompt{banner, questions}})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case q := <-answers:
			if q.Refused {
				return nil, errPrompt
			}
			var secrets []ticket.Secret
			for _, text := range q.Answers {
				secrets = append(secrets, ticket.NewSecret([]byte(text)))
			}
			return secrets, nil
		}
	}
}

// child is a ticket.Backend in a process of its own.
type child struct {
	name string
	pid  int

	writing sync.Mutex // guards in; apart from mu, as in server
	in      *json.Encoder

	mu      sync.Mutex // guards what follows
	next    int
	waiting map[int]chan reply
}

var (
	_ ticket.Backend = (*child)(nil)
	_ ticket.Readier = (*child)(nil)
)

// startChild runs a Backend on library ("mit", "heimdal") and cache with the
// environment given. It serves spn.
func startChild(t testing.TB, library, cache string, env []string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(env, childSwitch+"="+library, childSwitch+"_CACHE="+cache, childSwitch+"_SERVICE="+spn)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{pid: cmd.Process.Pid, in: json.NewEncoder(in), waiting: map[int]chan reply{}}
	dec := json.NewDecoder(out)
	var hello reply
	if err := dec.Decode(&hello); err != nil || hello.Err != nil {
		in.Close()
		cmd.Wait()
		t.Fatalf("child: %v %+v", err, hello.Err)
	}
	c.name = hello.Text
	var reading sync.WaitGroup
	reading.Go(func() { c.read(dec) })
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill() // a call may be hanging in it
		reading.Wait()
		cmd.Wait()
	})
	return c
}

// read hands replies to those who wait for them until the child is gone.
func (c *child) read(dec *json.Decoder) {
	for {
		var r reply
		err := dec.Decode(&r)
		c.mu.Lock()
		if err != nil {
			for _, ch := range c.waiting {
				ch <- reply{Err: &wireError{Text: "the child is gone: " + err.Error()}}
			}
			c.waiting = nil
			c.mu.Unlock()
			return
		}
		ch := c.waiting[r.ID]
		if r.Prompt == nil && !r.Changed {
			delete(c.waiting, r.ID)
		}
		c.mu.Unlock()
		if ch != nil {
			ch <- r
		}
	}
}

func (c *child) send(q request) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.in.Encode(q)
}

// ask makes one call in the child. Back is told of what the call calls back.
func (c *child) ask(ctx context.Context, q request, back func(r reply, id int)) (reply, error) {
	ch := make(chan reply, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return reply{}, io.ErrUnexpectedEOF
	}
	c.next++
	q.ID = c.next
	q.Canceled = ctx.Err() != nil
	c.waiting[q.ID] = ch
	c.mu.Unlock()
	if err := c.send(q); err != nil {
		return reply{}, err
	}
	stop := context.AfterFunc(ctx, func() { c.send(request{Op: "cancel", Of: q.ID}) })
	defer stop()
	for {
		r := <-ch
		if r.Prompt == nil && !r.Changed {
			return r, r.Err.error()
		}
		back(r, q.ID)
	}
}

func (c *child) Name() string { return c.name }

func (c *child) Status(ctx context.Context) (ticket.Status, error) {
	r, err := c.ask(ctx, request{Op: "status"}, nil)
	return r.Status, err
}

func (c *child) Caches(ctx context.Context) ([]ticket.Cache, error) {
	r, err := c.ask(ctx, request{Op: "caches"}, nil)
	var list []ticket.Cache
	for _, w := range r.Caches {
		w.Cache.Err = w.Err.error()
		list = append(list, w.Cache)
	}
	return list, err
}

func (c *child) Token(ctx context.Context, spn string) ([]byte, error) {
	r, err := c.ask(ctx, request{Op: "token", Arg: spn}, nil)
	return r.Token, err
}

func (c *child) Ready(spn string) []byte {
	r, _ := c.ask(context.Background(), request{Op: "ready", Arg: spn}, nil)
	return r.Token
}

func (c *child) Stamp() string {
	r, _ := c.ask(context.Background(), request{Op: "stamp"}, nil)
	return r.Text
}

func (c *child) Watch(ctx context.Context, changed func()) error {
	_, err := c.ask(ctx, request{Op: "watch"}, func(reply, int) { changed() })
	return err
}

func (c *child) Renew(ctx context.Context, services ...string) error {
	_, err := c.ask(ctx, request{Op: "renew", Args: services}, nil)
	return err
}

// SignIn asks l.Prompt here what the library asks there.
func (c *child) SignIn(ctx context.Context, l ticket.Login) error {
	var refusal error
	_, err := c.ask(ctx, request{Op: "sign in", Arg: l.Principal}, func(r reply, id int) {
		q := request{Op: "answers", Of: id}
		var secrets []ticket.Secret
		secrets, refusal = l.Prompt(ctx, r.Prompt.Banner, r.Prompt.Questions)
		q.Refused = refusal != nil
		for _, s := range secrets {
			q.Answers = append(q.Answers, string(s.Expose()))
			s.Wipe()
		}
		c.send(q)
	})
	if errors.Is(err, errPrompt) {
		return errors.Join(err, refusal)
	}
	return err
}

func (c *child) SignOut(ctx context.Context) error {
	_, err := c.ask(ctx, request{Op: "sign out"}, nil)
	return err
}
