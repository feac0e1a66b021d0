//go:build windows

package sspi_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"testing"

	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/sspi"
)

func TestMain(m *testing.M) {
	if os.Getenv(childSwitch) != "" {
		serve()
		return
	}
	os.Exit(m.Run())
}

// serve answers requests, side by side, until its input ends.
func serve() {
	b, err := sspi.New(sspi.Config{})
	c := conversation{out: json.NewEncoder(os.Stdout), calls: map[int]context.CancelFunc{}}
	c.answer(reply{}, err)
	if err != nil {
		return
	}
	for in := json.NewDecoder(os.Stdin); ; {
		var q request
		if in.Decode(&q) != nil {
			return
		}
		if q.Op == "cancel" {
			c.cancel(q.ID)
			continue
		}
		ctx := c.begin(q.ID)
		if q.Canceled {
			c.cancel(q.ID)
		}
		go func() {
			defer c.cancel(q.ID)
			c.answer(perform(ctx, b, q))
		}()
	}
}

type conversation struct {
	writing sync.Mutex // guards out; reading requests never waits for it
	out     *json.Encoder

	mu    sync.Mutex // guards calls
	calls map[int]context.CancelFunc
}

func (c *conversation) begin(id int) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	c.calls[id] = cancel
	return ctx
}

func (c *conversation) cancel(id int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cancel := c.calls[id]; cancel != nil { // not ended by itself
		cancel()
		delete(c.calls, id)
	}
}

func (c *conversation) answer(r reply, err error) {
	if err != nil {
		r.Err = err.Error()
		for i, s := range sentinels {
			if errors.Is(err, s) {
				r.Kinds = append(r.Kinds, i)
			}
		}
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.out.Encode(r)
}

func perform(ctx context.Context, b *sspi.Backend, q request) (r reply, err error) {
	r.ID = q.ID
	switch q.Op {
	case "name":
		r.Text = b.Name()
	case "stamp":
		r.Text = b.Stamp()
	case "token":
		r.Token, err = b.Token(ctx, q.Arg)
	case "status":
		r.Status, err = b.Status(ctx)
	case "caches":
		r.Caches, err = b.Caches(ctx)
	case "renew":
		err = b.Renew(ctx, q.Services...)
	case "signin":
		err = b.SignIn(ctx, ticket.Login{Principal: q.Arg})
	case "signout":
		err = b.SignOut(ctx)
	default:
		err = errors.New("unknown request " + q.Op)
	}
	return r, err
}
