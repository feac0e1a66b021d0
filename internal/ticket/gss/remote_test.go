//go:build linux && !nogss

package gss_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
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

type request struct {
	ID       int
	Op, Arg  string
	Canceled bool
}

type reply struct {
	ID     int
	Text   string
	Token  []byte
	Status ticket.Status
	Caches []ticket.Cache
	Err    string
	Kinds  []int
	Minor  int32
}

var sentinels = []error{ticket.ErrNoTicket, ticket.ErrExpired, ticket.ErrKDCUnreachable, ticket.ErrSPNUnknown,
	ticket.ErrClockSkew, ticket.ErrCache, errors.ErrUnsupported, context.Canceled}

func serveChild(library string) {
	b, err := gss.New(gss.Config{Flavour: library, Cache: os.Getenv(childSwitch + "_CACHE")})
	out := json.NewEncoder(os.Stdout)
	var mu sync.Mutex
	answer := func(r reply, err error) {
		if err != nil {
			r.Err = err.Error()
			for i, s := range sentinels {
				if errors.Is(err, s) {
					r.Kinds = append(r.Kinds, i)
				}
			}
			if e, ok := errors.AsType[*gss.Error](err); ok {
				r.Minor = e.Minor
			}
		}
		mu.Lock()
		defer mu.Unlock()
		out.Encode(r)
	}
	if err != nil {
		answer(reply{}, err)
		return
	}
	answer(reply{Text: b.Name()}, nil)
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	for {
		var q request
		if in.Decode(&q) != nil {
			return
		}
		go func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if q.Canceled {
				cancel()
			}
			r := reply{ID: q.ID}
			var err error
			switch q.Op {
			case "token":
				r.Token, err = b.Token(ctx, q.Arg)
			case "status":
				r.Status, err = b.Status(ctx)
			case "caches":
				r.Caches, err = b.Caches(ctx)
			case "stamp":
				r.Text = b.Stamp()
			case "second":
				_, err = gss.New(gss.Config{Flavour: q.Arg})
			}
			answer(r, err)
		}()
	}
}

// child is a ticket.Backend in a process of its own.
type child struct {
	name string
	in   *json.Encoder

	mu      sync.Mutex // guards in and what follows
	next    int
	waiting map[int]chan reply
}

var _ ticket.Backend = (*child)(nil)

// startChild runs a Backend on library ("mit", "heimdal") and cache with the
// environment given.
func startChild(t testing.TB, library, cache string, env []string) *child {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(env, childSwitch+"="+library, childSwitch+"_CACHE="+cache)
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
	c := &child{in: json.NewEncoder(in), waiting: map[int]chan reply{}}
	dec := json.NewDecoder(out)
	var hello reply
	if err := dec.Decode(&hello); err != nil || hello.Err != "" {
		in.Close()
		cmd.Wait()
		t.Fatalf("child: %v %s", err, hello.Err)
	}
	c.name = hello.Text
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			var r reply
			err := dec.Decode(&r)
			c.mu.Lock()
			if err != nil {
				for id, ch := range c.waiting {
					ch <- reply{Err: "the child is gone: " + err.Error()}
					delete(c.waiting, id)
				}
				c.waiting = nil
				c.mu.Unlock()
				return
			}
			if ch := c.waiting[r.ID]; ch != nil {
				ch <- r
				delete(c.waiting, r.ID)
			}
			c.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill() // a call may be hanging in it
		reading.Wait()
		cmd.Wait()
	})
	return c
}

func (c *child) ask(op, arg string, canceled bool) (reply, error) {
	ch := make(chan reply, 1)
	c.mu.Lock()
	if c.waiting == nil {
		c.mu.Unlock()
		return reply{}, io.ErrUnexpectedEOF
	}
	c.next++
	id := c.next
	c.waiting[id] = ch
	err := c.in.Encode(request{ID: id, Op: op, Arg: arg, Canceled: canceled})
	c.mu.Unlock()
	if err != nil {
		return reply{}, err
	}
	r := <-ch
	if r.Err == "" {
		return r, nil
	}
	e := &remoteError{text: r.Err, minor: r.Minor}
	for _, k := range r.Kinds {
		e.kinds = append(e.kinds, sentinels[k])
	}
	return r, e
}

type remoteError struct {
	text  string
	minor int32
	kinds []error
}

func (e *remoteError) Error() string   { return fmt.Sprintf("%s (minor %d)", e.text, e.minor) }
func (e *remoteError) Unwrap() []error { return e.kinds }

func (c *child) Name() string { return c.name }

func (c *child) Status(ctx context.Context) (ticket.Status, error) {
	r, err := c.ask("status", "", ctx.Err() != nil)
	return r.Status, err
}

func (c *child) Caches(ctx context.Context) ([]ticket.Cache, error) {
	r, err := c.ask("caches", "", ctx.Err() != nil)
	return r.Caches, err
}

func (c *child) Token(ctx context.Context, spn string) ([]byte, error) {
	r, err := c.ask("token", spn, ctx.Err() != nil)
	return r.Token, err
}

func (c *child) Stamp() string {
	r, _ := c.ask("stamp", "", false)
	return r.Text
}

func (b *child) Watch(context.Context, func()) error { return errors.ErrUnsupported }

// Renew implements [ticket.Backend].
func (b *child) Renew(context.Context, ...string) error { return errors.ErrUnsupported }

// SignIn implements [ticket.Backend].
func (b *child) SignIn(context.Context, ticket.Login) error { return errors.ErrUnsupported }

// SignOut implements [ticket.Backend].
func (b *child) SignOut(context.Context) error { return errors.ErrUnsupported }
