//go:build linux && !nogss

package gss_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/tickettest"
)

const spn = "HTTP/proxy.world.test"

// needLibrary ends the test where the library is not installed.
func needLibrary(t testing.TB, library string) {
	t.Helper()
	so := map[string]string{"mit": "libgssapi_krb5.so.2", "heimdal": "libgssapi.so.3"}[library]
	for _, pattern := range []string{"/usr/lib/*/", "/usr/lib64/", "/usr/lib/", "/lib/*/"} {
		if found, _ := filepath.Glob(pattern + so); len(found) > 0 {
			return
		}
	}
	testenv.Missing(t, "library %s", so)
}

// A place is one kind of cache under one library. Byname says whether the
// backend is told the name or finds it in KRB5CCNAME.
type place struct {
	flavour, kind string
	byName        bool
}

func (p place) String() string {
	how := "default"
	if p.byName {
		how = "by name"
	}
	return fmt.Sprintf("%s %s %s", p.flavour, p.kind, how)
}

// world is a KDC, a cache, and a backend in a child on it.
type world struct {
	*tickettest.KDC
	cache string
	child *child
	extra []tickettest.KDCOption // what every krb5.conf of this world has
}

// begin starts the KDC and, if the place asks for it, KCM.
func begin(t testing.TB, p place, env ...string) world {
	t.Helper()
	needLibrary(t, p.flavour)
	opts := []tickettest.KDCOption{tickettest.WithKpasswd(), tickettest.WithPrimary("127.0.0.2")}
	var extra []tickettest.KDCOption
	if p.kind == "KCM" {
		extra = append(extra, tickettest.WithLibdefaults("kcm_socket = "+tickettest.StartKCM(t)))
	}
	w := world{KDC: tickettest.StartKDC(t, append(opts, extra...)...), extra: extra}
	switch p.kind {
	case "FILE":
		w.cache = "FILE:" + w.Dir + "/tickets"
	case "DIR":
		if err := os.Mkdir(w.Dir+"/tickets", 0o700); err != nil {
			t.Fatal(err)
		}
		w.cache = "DIR:" + w.Dir + "/tickets"
	case "KEYRING":
		w.cache = fmt.Sprintf("KEYRING:session:kerbpass-test-%d-%d", os.Getpid(), w.Port)
		if out, err := w.Run(w.cache, w.Password+"\n", "kinit", "alice"); err != nil {
			testenv.Missing(t, "kernel keyring: %s", out)
		}
		t.Cleanup(func() { w.Run(w.cache, "", "kdestroy", "-A") })
	case "KCM":
		w.cache = "KCM:"
	}
	if p.byName {
		w.child = startChild(t, p.flavour, w.cache, w.Env(env...))
	} else {
		w.child = startChild(t, p.flavour, "", w.Env(append(env, "KRB5CCNAME="+w.cache)...))
	}
	return w
}

func (w world) signIn(t testing.TB, life time.Duration) {
	w.Kinit(t, "alice", w.cache, "-l", fmt.Sprint(int(life.Seconds()), "s"))
}

func (w world) signOut(testing.TB) {
	w.Run(w.cache, "", "kdestroy") // an error says that there was nothing
	if file, ok := strings.CutPrefix(w.cache, "FILE:"); ok {
		os.Remove(file) // kdestroy leaves a damaged one
	}
}

func TestBackend(t *testing.T) {
	testenv.NoLeaks(t)
	for _, p := range []place{
		{"mit", "FILE", false}, {"mit", "FILE", true},
		{"mit", "DIR", false}, {"mit", "DIR", true},
		{"mit", "KEYRING", false}, {"mit", "KEYRING", true},
		{"mit", "KCM", false}, {"mit", "KCM", true},
		{"heimdal", "FILE", false}, {"heimdal", "FILE", true},
		{"heimdal", "DIR", false}, {"heimdal", "DIR", true},
	} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			w := begin(t, p)
			other := tickettest.StartKDC(t, append(w.extra, tickettest.WithRealm("OTHER.TEST"))...)
			tw := w.World(t, w.cache, other)
			tw.Lacks = p.lacks()
			if p.kind == "KEYRING" {
				tw.Expired = ticket.ErrNoTicket
			}
			if p.copied() {
				w.noticing(&tw)
			}
			tickettest.TestBackend(t, func(testing.TB) ticket.Backend { return w.child }, tw)
		})
	}
}

// copied reports whether tokens come from a copy, which is trusted for a second.
func (p place) copied() bool { return p.kind == "KEYRING" || p.kind == "KCM" }

// noticing makes the backend see new tickets at once, as the manager's poll
// does a little later.
func (w world) noticing(tw *tickettest.World) {
	signIn, renewable := tw.SignIn, tw.Renewable
	tw.SignIn = func(t testing.TB, life time.Duration) {
		t.Helper()
		signIn(t, life)
		w.child.Status(t.Context())
	}
	tw.Renewable = func(t testing.TB, life, until time.Duration) {
		t.Helper()
		renewable(t, life, until)
		w.child.Status(t.Context())
	}
}

// lacks names the cases that cannot pass in p.
func (p place) lacks() map[string]string {
	lacks := map[string]string{
		"hanging KDC, cancelled": "no library can be called off, and a call left behind would not be counted by the manager",
	}
	if p.copied() {
		lacks["watch"] = "the manager polls"
		lacks["watch, switch"] = "the manager polls"
	}
	return lacks
}

func TestManagerAndHangingKDC(t *testing.T) {
	testenv.NoLeaks(t)
	for _, library := range []string{"mit", "heimdal"} {
		t.Run(library, func(t *testing.T) {
			t.Parallel()
			w := begin(t, place{library, "FILE", true})
			w.signIn(t, time.Hour)
			if out, err := w.Run(w.cache, "", "kvno", spn); err != nil {
				t.Fatalf("kvno: %v\n%s", err, out)
			}
			silent := w.ConfFor(t, tickettest.HangingKDC(t))
			b := startChild(t, library, w.cache, w.Env("KRB5_CONFIG="+silent))
			m, err := ticket.NewManager(ticket.Config{Backend: b, Deadline: 3 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Token(t.Context(), spn); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			hung := make(chan error, 1)
			go func() {
				_, err := m.Token(t.Context(), "HTTP/localhost")
				hung <- err
			}()
			made := 0
			for {
				select {
				case err := <-hung:
					if !errors.Is(err, ticket.ErrKDCUnreachable) || !strings.Contains(err.Error(), "HTTP/localhost") {
						t.Errorf("got %v, want %v naming the service", err, ticket.ErrKDCUnreachable)
					}
					if waited := time.Since(began); waited < 3*time.Second || waited > 10*time.Second {
						t.Errorf("waited %v, want a little more than 3s", waited)
					}
					if made < 10 {
						t.Errorf("%d tokens for the other service meanwhile", made)
					}
					return
				default:
					if _, err := m.Token(t.Context(), spn); err != nil {
						t.Fatalf("beside the hanging call: %v", err)
					}
					made++
				}
			}
		})
	}
}

func TestManagerSeesTicketsChange(t *testing.T) {
	testenv.NoLeaks(t)
	for _, p := range []place{{"mit", "FILE", false}, {"mit", "DIR", false}, {"mit", "KCM", false}, {"heimdal", "FILE", false}} {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			w := begin(t, p)
			m, err := ticket.NewManager(ticket.Config{Backend: w.child, Poll: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- m.Run(ctx) }()
			defer func() { cancel(); <-ended }()

			epoch := m.Epoch()
			differs := func(what string) {
				t.Helper()
				now := m.Epoch()
				// Without a stamp the poll has to come round.
				for end := time.Now().Add(5 * time.Second); w.child.Stamp() == "" && now == epoch && time.Now().Before(end); now = m.Epoch() {
					time.Sleep(10 * time.Millisecond)
				}
				if now == epoch {
					t.Errorf("%s: the epoch stays %d", what, now)
				}
				epoch = now
			}
			state := func(want ticket.State) {
				t.Helper()
				if s := m.Status(t.Context()); s.State != want {
					t.Errorf("got %+v, want %s", s, want)
				}
			}
			state(ticket.StateNone)
			w.signIn(t, time.Hour)
			differs("sign in")
			state(ticket.StateValid)

			for _, service := range []string{spn, "HTTP/localhost", "HTTP/127.0.0.1"} {
				if _, err := m.Token(t.Context(), service); err != nil {
					t.Errorf("%s: %v", service, err)
				}
			}
			m.Status(t.Context())
			if now := m.Epoch(); now != epoch {
				t.Errorf("service tickets change the epoch from %d to %d", epoch, now)
			}

			w.signIn(t, 2*time.Hour)
			differs("renewal")
			w.signIn(t, time.Minute)
			differs("shorter")
			state(ticket.StateExpiring)
			w.signOut(t)
			differs("sign out")
			state(ticket.StateNone)
			if _, err := m.Token(t.Context(), spn); !errors.Is(err, ticket.ErrNoTicket) && p.kind != "KCM" {
				t.Errorf("got %v, want %v", err, ticket.ErrNoTicket)
			}
		})
	}
}

func TestClockSkew(t *testing.T) {
	testenv.NoLeaks(t)
	for _, library := range []string{"mit", "heimdal"} {
		for _, minutes := range []int{+10, -10} {
			t.Run(fmt.Sprintf("%s %+d min", library, minutes), func(t *testing.T) {
				t.Parallel()
				w := begin(t, place{library, "FILE", true})
				skewed := faketime(t, minutes)
				w.signIn(t, time.Hour)
				if out, err := w.Run(w.cache, "", "kvno", spn); err != nil {
					t.Fatalf("kvno: %v\n%s", err, out)
				}
				b := startChild(t, library, w.cache, w.Env(skewed...))
				_, err := b.Token(t.Context(), spn)
				if library == "mit" && minutes < 0 { // MIT looks at the start time
					if !errors.Is(err, ticket.ErrClockSkew) {
						t.Errorf("with a service ticket from the future: got %v, want %v", err, ticket.ErrClockSkew)
					}
				} else if err != nil {
					t.Errorf("with the service ticket at hand: %v", err)
				}
				if _, err := b.Token(t.Context(), "HTTP/localhost"); !errors.Is(err, ticket.ErrClockSkew) {
					t.Errorf("without: got %v, want %v", err, ticket.ErrClockSkew)
				}

				// A ticket got with the wrong clock carries the KDC's offset.
				if out, err := w.RunEnv(skewed, w.cache, w.Password+"\n", "kinit", "-l", "1h", "alice"); err != nil {
					t.Fatalf("kinit: %v\n%s", err, out)
				}
				if _, err := b.Token(t.Context(), "HTTP/localhost"); err != nil {
					t.Errorf("after signing in with the same clock: %v", err)
				}
				st, err := b.Status(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				there := time.Now().Add(time.Duration(minutes) * time.Minute)
				if left := st.Left(there); left < 58*time.Minute || left > time.Hour+time.Minute {
					t.Errorf("left by the wrong clock: got %v, want about 1h", left)
				}
			})
		}
	}
}

// faketime is the environment of a program whose C library has a clock that is
// wrong by so many minutes.
func faketime(t testing.TB, minutes int) []string {
	t.Helper()
	found, _ := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if len(found) == 0 {
		testenv.Missing(t, "libfaketime")
	}
	return []string{"LD_PRELOAD=" + found[0], fmt.Sprintf("FAKETIME=%+d", minutes*60), "FAKETIME_DONT_FAKE_MONOTONIC=1"}
}

// Tokens on KCM come from a copy, so a daemon that restarts stops nobody.
func TestKCMDaemonAway(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t, place{"mit", "KCM", false})
	w.signIn(t, time.Hour)
	if _, err := w.child.Token(t.Context(), spn); err != nil {
		t.Fatal(err)
	}
	conf, err := os.ReadFile(w.Krb5Conf)
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(conf), "kcm_socket = ")
	socket, _, _ := strings.Cut(after, "\n")
	if err := os.Rename(socket, socket+".away"); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); { // longer than a copy is trusted
		if _, err := w.child.Token(t.Context(), spn); err != nil {
			t.Fatalf("while the daemon is away: %v", err)
		}
	}
	if _, err := w.child.Status(t.Context()); !errors.Is(err, ticket.ErrCache) {
		t.Errorf("status while the daemon is away: got %v, want %v", err, ticket.ErrCache)
	}
	if err := os.Rename(socket+".away", socket); err != nil {
		t.Fatal(err)
	}
	if st, err := w.child.Status(t.Context()); err != nil || st.Principal == "" {
		t.Errorf("status afterwards: %+v, %v", st, err)
	}
}

// After Status has said that there is no ticket, no token comes from the copy:
// it would belong to a ticket that is gone.
func TestKCMCopyEndsWithTheTicket(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t, place{"mit", "KCM", false})
	w.signIn(t, time.Hour)
	if _, err := w.child.Token(t.Context(), spn); err != nil {
		t.Fatal(err)
	}
	if out, err := w.Run(w.cache, "", "kdestroy"); err != nil {
		t.Fatal(err, out)
	}
	if _, err := w.child.Status(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
		t.Fatalf("status: got %v, want %v", err, ticket.ErrNoTicket)
	}
	if _, err := w.child.Token(t.Context(), spn); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("token: got %v, want %v", err, ticket.ErrNoTicket)
	}
}

// A cache that another program is replacing is tried again.
func TestCacheBeingReplaced(t *testing.T) {
	testenv.NoLeaks(t)
	for _, library := range []string{"mit", "heimdal"} {
		t.Run(library, func(t *testing.T) {
			w := begin(t, place{library, "FILE", true})
			w.signIn(t, time.Hour)
			file := strings.TrimPrefix(w.cache, "FILE:")
			var err error
			for range 5 { // on a busy machine the new file may come too late
				if err := os.Rename(file, file+".good"); err != nil {
					t.Fatal(err)
				}
				done := make(chan error)
				time.AfterFunc(15*time.Millisecond, func() { done <- os.Rename(file+".good", file) })
				_, err = w.child.Token(t.Context(), spn)
				if e := <-done; e != nil {
					t.Fatal(e)
				}
				if err == nil {
					return
				}
			}
			t.Errorf("not tried again: %v", err)
		})
	}
}

func TestOneLibraryPerProcess(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t, place{"mit", "FILE", true})
	for library, want := range map[string]string{"heimdal": "already uses gss-mit", "": "", "mit": ""} {
		_, err := w.child.ask(t.Context(), request{Op: "second", Arg: library}, nil)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q beside mit: got %v, want %q", library, err, want)
		}
	}
}
