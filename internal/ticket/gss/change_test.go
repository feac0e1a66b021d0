//go:build linux && !nogss

package gss_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/tickettest"
)

// Whoever renews, we or kinit -R, no token fails meanwhile.
func TestRenewalsDuringTokens(t *testing.T) {
	testenv.NoLeaks(t)
	for _, p := range []place{
		{"mit", "FILE", true}, {"mit", "DIR", true}, {"mit", "KEYRING", true}, {"mit", "KCM", false}, {"heimdal", "FILE", true},
	} {
		for _, foreign := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s foreign=%v", p, foreign), func(t *testing.T) {
				w := begin(t, p)
				w.signIn(t, time.Hour)
				if _, err := w.child.Token(t.Context(), spn); err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				type result struct {
					made string
					err  error
				}
				done := make(chan result)
				go func() {
					r, err := w.child.ask(ctx, request{Op: "tokens", Arg: spn}, nil)
					done <- result{r.Text, err}
				}()
				for i := range 50 {
					var err error
					if foreign {
						var out string
						out, err = w.Run(w.cache, "", "kinit", "-R")
						if err != nil {
							err = fmt.Errorf("%w: %s", err, out)
						}
					} else {
						err = w.child.Renew(t.Context(), spn)
					}
					if err != nil {
						t.Errorf("renewal %d: %v", i+1, err)
						break
					}
				}
				stop()
				r := <-done
				if r.err != nil {
					t.Errorf("of %s tokens: %v", r.made, r.err)
				}
				t.Logf("%s tokens", r.made)
			})
		}
	}
}

// A program that reads the cache while we renew always finds a ticket.
func TestRenewalsBesideReaders(t *testing.T) {
	testenv.NoLeaks(t)
	for _, p := range []place{{"mit", "FILE", true}, {"mit", "DIR", true}, {"heimdal", "FILE", true}, {"heimdal", "DIR", true}} {
		t.Run(p.String(), func(t *testing.T) {
			w := begin(t, p)
			w.signIn(t, time.Hour)
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error)
			go func() {
				var failed error
				for ctx.Err() == nil && failed == nil {
					failed = w.child.Renew(t.Context())
				}
				done <- failed
			}()
			for range 150 {
				if out, err := w.Run(w.cache, "", "klist", "-s"); err != nil {
					t.Errorf("klist: %v %s", err, out)
					break
				}
			}
			stop()
			if err := <-done; err != nil {
				t.Errorf("renewal: %v", err)
			}
		})
	}
}

// When krb5.conf names a kind of cache that shows no changes, Watch says so and
// the caller can poll.
func TestWatchEndsWithKrb5Conf(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t, place{"mit", "FILE", true})
	named := "FILE:" + w.Dir + "/cc" // by krb5.conf
	b := startChild(t, "mit", "", w.Env())
	w.Kinit(t, "alice", named)
	watching := make(chan struct{}, 1)
	ended := make(chan error)
	go func() {
		ended <- b.Watch(t.Context(), func() {
			select {
			case watching <- struct{}{}:
			default:
			}
		})
	}()
	<-watching
	conf, err := os.ReadFile(w.Krb5Conf)
	if err != nil {
		t.Fatal(err)
	}
	conf = bytes.Replace(conf, []byte("default_ccache_name = "+named), []byte("default_ccache_name = KCM:"), 1)
	if err := os.WriteFile(w.Krb5Conf, conf, 0o644); err != nil {
		t.Fatal(err)
	}
	st, _ := b.Status(t.Context())
	if st.Cache != "KCM:" {
		t.Fatalf("the cache is %s, want KCM:", st.Cache)
	}
	if b.Stamp() != "" {
		t.Errorf("a stamp on KCM: %s", b.Stamp())
	}
	w.Kinit(t, "alice", named) // wakes the watch, which would look by itself a little later
	if err := <-ended; !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
}

// The names, times, flags and encryption types that klist shows.
func TestCachesAgreeWithKlist(t *testing.T) {
	testenv.NoLeaks(t)
	for _, library := range []string{"mit", "heimdal"} {
		t.Run(library, func(t *testing.T) {
			w := begin(t, place{library, "FILE", true})
			w.Kinit(t, "alice", w.cache, "-l", "1h", "-r", "2h", "-f", "-p")
			if _, err := w.child.Token(t.Context(), spn); err != nil {
				t.Fatal(err)
			}
			list, err := w.child.Caches(t.Context())
			if err != nil || len(list) == 0 || len(list[0].TGTs) != 1 || len(list[0].Services) != 1 {
				t.Fatalf("got %+v, %v; want one TGT and one service ticket", list, err)
			}
			out, err := w.Run(w.cache, "", "klist", "-f", "-e")
			if err != nil {
				t.Fatal(out)
			}
			for _, tk := range []ticket.Ticket{list[0].TGTs[0], list[0].Services[0]} {
				_, after, found := strings.Cut(out, tk.Server+"\n")
				about, _, _ := strings.Cut(after, "\n\n")
				if !found {
					t.Fatalf("klist does not name %s:\n%s", tk.Server, out)
				}
				if !strings.Contains(about, "skey) "+tk.EncType.String()) && !strings.Contains(about, tk.EncType.String()) {
					t.Errorf("%s: encryption type %v, klist says\n%s", tk.Server, tk.EncType, about)
				}
				_, letters, _ := strings.Cut(about, "Flags: ")
				letters, _, _ = strings.Cut(letters, "\n")
				letters, _, _ = strings.Cut(letters, ",")
				if got := klistLetters(tk.Flags); got != strings.TrimSpace(letters) {
					t.Errorf("%s: flags %q (%v), klist says %q", tk.Server, got, tk.Flags.Names(), letters)
				}
			}
		})
	}
}

// klistLetters writes flags as klist does, in its order.
func klistLetters(f ticket.Flags) string {
	text := ""
	for _, l := range []struct {
		bit    int
		letter string
	}{{1, "F"}, {2, "f"}, {3, "P"}, {4, "p"}, {5, "D"}, {6, "d"}, {7, "i"}, {8, "R"}, {9, "I"}, {11, "H"}, {10, "A"}, {12, "T"}, {13, "O"}, {16, "a"}} {
		if f&(1<<(31-l.bit)) != 0 {
			text += l.letter
		}
	}
	return text
}

func answer(text string) ticket.Prompter {
	return func(_ context.Context, _ string, questions []ticket.Prompt) ([]ticket.Secret, error) {
		var answers []ticket.Secret
		for range questions {
			answers = append(answers, ticket.NewSecret([]byte(text)))
		}
		return answers, nil
	}
}

// A KDC that does not answer keeps nobody waiting who has gone, and only a few
// such sign-ins pile up.
func TestSignInAtHangingKDC(t *testing.T) {
	testenv.NoLeaks(t)
	for _, library := range []string{"mit", "heimdal"} {
		t.Run(library, func(t *testing.T) {
			w := begin(t, place{library, "FILE", true})
			b := startChild(t, library, w.cache, w.Env("KRB5_CONFIG="+w.ConfFor(t, tickettest.HangingKDC(t))))
			l := ticket.Login{Principal: "alice", Prompt: answer(w.Password)}
			for i := range 5 {
				want := context.Canceled
				if i == 4 {
					want = ticket.ErrKDCUnreachable
				}
				ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
				if err := b.SignIn(ctx, l); !errors.Is(err, want) {
					t.Errorf("sign-in %d: got %v, want %v", i+1, err, want)
				}
				cancel()
			}
			if _, err := b.Status(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
				t.Errorf("status: got %v, want %v", err, ticket.ErrNoTicket)
			}
		})
	}
}

// What a person cannot have meant is no attempt.
func TestAnswersRefused(t *testing.T) {
	testenv.NoLeaks(t)
	for _, library := range []string{"mit", "heimdal"} {
		w := begin(t, place{library, "FILE", true})
		for what, text := range map[string]string{"NUL": "a\x00b", "empty": "", "too long": strings.Repeat("x", 5000)} {
			err := w.child.SignIn(t.Context(), ticket.Login{Principal: "alice", Prompt: answer(text)})
			if err == nil || errors.Is(err, ticket.ErrPassword) {
				t.Errorf("%s, %s: got %v, want it refused here", library, what, err)
			}
		}
		if n := w.Attempts(t); n != 0 && library == "mit" {
			t.Errorf("the KDC has seen %d attempts", n)
		}
	}
}

// A wrong password is told with the KDC that answered.
func TestSignInNamesTheKDC(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t, place{"mit", "FILE", true})
	err := w.child.SignIn(t.Context(), ticket.Login{Principal: "alice", Prompt: answer("Wrong-horse-1")})
	if e, ok := errors.AsType[*ticket.KDCError](err); !ok || e.KDC != w.Addr() {
		t.Errorf("got %v, want the answer of %s", err, w.Addr())
	}
}

// BenchmarkStatus also tells the processor time of one reading, which the
// manager's poll repeats.
func BenchmarkStatus(b *testing.B) { benchmarkPlaces(b, "status") }

func BenchmarkToken(b *testing.B) { benchmarkPlaces(b, "token") }

func BenchmarkReady(b *testing.B) { benchmarkPlaces(b, "ready") }

func BenchmarkStamp(b *testing.B) { benchmarkPlaces(b, "stamp") }

// BenchmarkThirtyTokensKCM is a browser that opens 30 connections, the copy of
// the cache included.
func BenchmarkThirtyTokensKCM(b *testing.B) { benchmark(b, place{"mit", "KCM", false}, "parallel") }

func benchmarkPlaces(b *testing.B, op string) {
	for _, p := range []place{{"mit", "FILE", true}, {"mit", "DIR", true}, {"mit", "KEYRING", true}, {"mit", "KCM", false}, {"heimdal", "FILE", true}} {
		b.Run(p.String(), func(b *testing.B) { benchmark(b, p, op) })
	}
}

// benchmark runs the loop in the child.
func benchmark(b *testing.B, p place, op string) {
	w := begin(b, p)
	w.signIn(b, time.Hour)
	b.ResetTimer()
	r, err := w.child.ask(b.Context(), request{Op: "bench", Arg: op, Of: b.N}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	var cpu float64
	fmt.Sscan(r.Text, &cpu)
	b.ReportMetric(cpu/float64(b.N), "cpu-ns/op")
}
