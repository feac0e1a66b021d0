package tickettest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/tickettest"
)

// mutantSwitch names the mutant that a child of TestMutantsAreFound runs.
const mutantSwitch = "KERBPASS_TEST_MUTANT"

// A mutant breaks the fake in one way, which the suite finds in one case.
type mutant struct {
	name, found string
	breaks      func(b *tickettest.Fake, r *tickettest.FakeRealm)
}

func TestMutantsAreFound(t *testing.T) {
	testenv.NoLeaks(t)
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			found := strings.ReplaceAll(m.found, " ", "_") // as package testing writes it
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.timeout=2m",
				"-test.run=^TestMutant$/^"+regexp.QuoteMeta(found)+"$")
			cmd.Env = append(os.Environ(), mutantSwitch+"="+m.name)
			out, err := cmd.CombinedOutput()
			text := string(out)
			if err == nil || !strings.Contains(text, "--- FAIL: TestMutant/"+found) || strings.Contains(text, "panic:") {
				t.Errorf("not found in %q: %v\n%s", m.found, err, text)
			}
		})
	}
}

// TestMutant does nothing outside a child of TestMutantsAreFound.
func TestMutant(t *testing.T) {
	name := os.Getenv(mutantSwitch)
	for _, m := range mutants {
		if m.name != name {
			continue
		}
		r, w := fakeWorld()
		b := r.Backend()
		m.breaks(b, r)
		tickettest.TestBackend(t, func(testing.TB) ticket.Backend { return b }, w)
	}
}

var mutants = []mutant{
	{"tokens without a ticket", "no ticket", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapToken(b, func(token []byte, err error) ([]byte, error) {
			if errors.Is(err, ticket.ErrNoTicket) {
				return []byte("token from a copy"), nil
			}
			return token, err
		})
	}},
	{"stamp stands still", "no ticket", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		b.StampFunc = func() string { return "1" }
	}},
	{"local times", "valid", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapStatus(b, func(st ticket.Status) ticket.Status {
			st.Expires = st.Expires.In(time.FixedZone("elsewhere", 3600))
			return st
		})
	}},
	{"expired tickets last", "about to expire", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapStatus(b, func(st ticket.Status) ticket.Status {
			st.Expires = st.Expires.Add(time.Hour)
			return st
		})
	}},
	{"an expired ticket is none", "expired", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapToken(b, func(token []byte, err error) ([]byte, error) {
			return token, swap(err, ticket.ErrExpired, ticket.ErrNoTicket)
		})
	}},
	{"a service ticket changes the status", "service ticket", func(b *tickettest.Fake, r *tickettest.FakeRealm) {
		mapStatus(b, func(st ticket.Status) ticket.Status {
			if list, err := r.Backend().Caches(context.Background()); err == nil && len(list) > 0 && len(list[0].Services) > 0 {
				st.Start = st.Start.Add(time.Second)
			}
			return st
		})
	}},
	{"an unknown service is a silent KDC", "unknown SPN", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapToken(b, func(token []byte, err error) ([]byte, error) {
			return token, swap(err, ticket.ErrSPNUnknown, ticket.ErrKDCUnreachable)
		})
	}},
	{"same token twice", "1,000 concurrent tokens", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		var last atomic.Value
		mapToken(b, func(token []byte, err error) ([]byte, error) {
			if last.CompareAndSwap(nil, token) || err != nil {
				return token, err
			}
			return last.Load().([]byte), nil
		})
	}},
	{"a new ticket fails one token", "cache replaced during a call", func(b *tickettest.Fake, r *tickettest.FakeRealm) {
		var mu sync.Mutex
		seen := ""
		mapToken(b, func(token []byte, err error) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			if st, e := r.Backend().Status(context.Background()); e == nil && seen != r.Backend().Stamp() {
				seen = r.Backend().Stamp()
				return nil, &ticket.OpError{Op: "token", Subject: spn, Err: fmt.Errorf("%w: %s", ticket.ErrCache, st.Cache)}
			}
			return token, err
		})
	}},
	{"deaf to its context", "hanging KDC, cancelled", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		inner := b.TokenFunc
		b.TokenFunc = func(_ context.Context, spn string) ([]byte, error) { return inner(context.Background(), spn) }
	}},
	{"no cache is used", "caches", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapCaches(b, func(c *ticket.Cache) { c.Used = false })
	}},
	{"no flags", "caches", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapCaches(b, func(c *ticket.Cache) { c.TGTs[0].Flags = 0 })
	}},
	{"TGT among the services", "caches", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapCaches(b, func(c *ticket.Cache) { c.Services = append(c.Services, c.TGTs...) })
	}},
	{"service tickets are not listed", "caches", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapCaches(b, func(c *ticket.Cache) { c.Services = nil })
	}},
	{"damage is no ticket", "corrupt cache", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapToken(b, func(token []byte, err error) ([]byte, error) {
			return token, swap(err, ticket.ErrCache, ticket.ErrNoTicket)
		})
	}},
	{"status of the default cache", "wrong realm beside", func(b *tickettest.Fake, r *tickettest.FakeRealm) {
		mapStatus(b, func(st ticket.Status) ticket.Status {
			list, _ := r.Backend().Caches(context.Background())
			for _, c := range list {
				if c.Default {
					st.Principal, st.Realm, st.Cache, st.Expires = c.Principal, c.Realm, c.Name, c.Expires
				}
			}
			return st
		})
	}},
	{"a token of another realm", "wrong realm only", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapToken(b, func(token []byte, err error) ([]byte, error) {
			if errors.Is(err, ticket.ErrSPNUnknown) {
				return []byte("token for nobody"), nil
			}
			return token, err
		})
	}},
	{"renewing does nothing", "renew", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		b.RenewFunc = func(context.Context, ...string) error { return nil }
	}},
	{"renewing forgets the services", "renew", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		inner := b.RenewFunc
		b.RenewFunc = func(ctx context.Context, _ ...string) error { return inner(ctx) }
	}},
	{"renewing leaves a moment without a ticket", "renew under load", func(b *tickettest.Fake, r *tickettest.FakeRealm) {
		b.RenewFunc = func(ctx context.Context, _ ...string) error {
			r.Clear()
			time.Sleep(10 * time.Millisecond) // long enough for a token to fail
			r.Put(alice, time.Hour, 4*time.Hour)
			return nil
		}
	}},
	{"renews an expired ticket", "renew of expired", func(b *tickettest.Fake, r *tickettest.FakeRealm) {
		inner := b.RenewFunc
		b.RenewFunc = func(ctx context.Context, services ...string) error {
			err := inner(ctx, services...)
			if errors.Is(err, ticket.ErrExpired) {
				r.Put(alice, time.Hour, 4*time.Hour)
				return nil
			}
			return err
		}
	}},
	{"asks the KDC about an expired ticket", "renew of expired", func(b *tickettest.Fake, r *tickettest.FakeRealm) {
		inner := b.RenewFunc
		b.RenewFunc = func(ctx context.Context, services ...string) error {
			r.Backend().SignIn(ctx, ticket.Login{Principal: "nobody@WORLD.TEST"})
			return inner(ctx, services...)
		}
	}},
	{"renews what cannot be", "not renewable", func(b *tickettest.Fake, r *tickettest.FakeRealm) {
		inner := b.RenewFunc
		b.RenewFunc = func(ctx context.Context, services ...string) error {
			if err := inner(ctx, services...); !errors.Is(err, ticket.ErrNotRenewable) {
				return err
			}
			return nil
		}
	}},
	{"answers are not wiped", "sign in, right password", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		wrapPrompt(b, func(answers []ticket.Secret) []ticket.Secret { return copied(answers) })
	}},
	{"asks twice", "sign in, right password", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		inner := b.SignInFunc
		b.SignInFunc = func(ctx context.Context, l ticket.Login) error {
			if err := inner(ctx, l); err != nil {
				return err
			}
			return inner(ctx, l)
		}
	}},
	{"a second attempt after a wrong password", "sign in, wrong password", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		inner := b.SignInFunc
		b.SignInFunc = func(ctx context.Context, l ticket.Login) error {
			var kept []ticket.Secret
			ask := l.Prompt
			l.Prompt = func(ctx context.Context, banner string, questions []ticket.Prompt) ([]ticket.Secret, error) {
				if kept != nil {
					return kept, nil
				}
				answers, err := ask(ctx, banner, questions)
				kept = copied(answers)
				return answers, err
			}
			err := inner(ctx, l)
			if errors.Is(err, ticket.ErrPassword) {
				return inner(ctx, l)
			}
			return err
		}
	}},
	{"a wrong password signs out", "sign in, wrong password", func(b *tickettest.Fake, r *tickettest.FakeRealm) {
		mapSignIn(b, func(err error) error {
			if err != nil {
				r.Clear()
			}
			return err
		})
	}},
	{"nobody says which realm refused", "sign in, wrong password", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapSignIn(b, func(err error) error { return swap(err, ticket.ErrPassword, ticket.ErrPassword) })
	}},
	{"a refusal at the prompt is a wrong password", "sign in, refused prompt", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		mapSignIn(b, func(err error) error {
			if err != nil {
				return &ticket.KDCError{Realm: "WORLD.TEST", Err: ticket.ErrPassword}
			}
			return nil
		})
	}},
	{"the old password goes on working", "sign in, expired password", func(b *tickettest.Fake, r *tickettest.FakeRealm) {
		mapSignIn(b, func(err error) error {
			r.AddAccount("expired@WORLD.TEST", tickettest.FakeAccount{Password: "Correct-horse-7"})
			return err
		})
	}},
	{"new passwords are not compared", "sign in, new passwords differ", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		wrapPrompt(b, func(answers []ticket.Secret) []ticket.Secret {
			if len(answers) == 2 {
				answers[1].Wipe()
				answers[1] = copied(answers[:1])[0]
			}
			return answers
		})
	}},
	{"signing out twice", "sign out", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		inner := b.SignOutFunc
		b.SignOutFunc = func(ctx context.Context) error { return swap(inner(ctx), ticket.ErrNoTicket, nil) }
	}},
	{"nobody watches kdestroy", "watch", func(b *tickettest.Fake, r *tickettest.FakeRealm) {
		inner := b.WatchFunc
		b.WatchFunc = func(ctx context.Context, changed func()) error {
			return inner(ctx, func() {
				if _, err := r.Backend().Status(ctx); err == nil {
					changed()
				}
			})
		}
	}},
	{"the end of a watch is an error", "watch", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		inner := b.WatchFunc
		b.WatchFunc = func(ctx context.Context, changed func()) error {
			return errors.Join(inner(ctx, changed), ctx.Err())
		}
	}},
	{"no way to renew", "renew", func(b *tickettest.Fake, _ *tickettest.FakeRealm) {
		b.RenewFunc = func(context.Context, ...string) error { return errors.ErrUnsupported }
	}},
}

// swap is an error of the same service with another cause: nil for none.
func swap(err, from, to error) error {
	if !errors.Is(err, from) {
		return err
	}
	if to == nil {
		return nil
	}
	e := &ticket.OpError{Err: to}
	if was, ok := errors.AsType[*ticket.OpError](err); ok {
		e.Op, e.Subject = was.Op, was.Subject
	}
	return e
}

func copied(secrets []ticket.Secret) []ticket.Secret {
	var out []ticket.Secret
	for _, s := range secrets {
		out = append(out, ticket.NewSecret([]byte(string(s.Expose()))))
	}
	return out
}

// The functions below change what one call of b gives.

func mapToken(b *tickettest.Fake, change func(token []byte, err error) ([]byte, error)) {
	inner := b.TokenFunc
	b.TokenFunc = func(ctx context.Context, spn string) ([]byte, error) { return change(inner(ctx, spn)) }
}

func mapStatus(b *tickettest.Fake, change func(st ticket.Status) ticket.Status) {
	inner := b.StatusFunc
	b.StatusFunc = func(ctx context.Context) (ticket.Status, error) {
		st, err := inner(ctx)
		if err == nil {
			st = change(st)
		}
		return st, err
	}
}

func mapCaches(b *tickettest.Fake, change func(c *ticket.Cache)) {
	inner := b.CachesFunc
	b.CachesFunc = func(ctx context.Context) ([]ticket.Cache, error) {
		list, err := inner(ctx)
		for i := range list {
			change(&list[i])
		}
		return list, err
	}
}

func mapSignIn(b *tickettest.Fake, change func(err error) error) {
	inner := b.SignInFunc
	b.SignInFunc = func(ctx context.Context, l ticket.Login) error { return change(inner(ctx, l)) }
}

// wrapPrompt changes the answers on their way to the backend.
func wrapPrompt(b *tickettest.Fake, change func(answers []ticket.Secret) []ticket.Secret) {
	inner := b.SignInFunc
	b.SignInFunc = func(ctx context.Context, l ticket.Login) error {
		ask := l.Prompt
		l.Prompt = func(ctx context.Context, banner string, questions []ticket.Prompt) ([]ticket.Secret, error) {
			answers, err := ask(ctx, banner, questions)
			return change(answers), err
		}
		return inner(ctx, l)
	}
}
