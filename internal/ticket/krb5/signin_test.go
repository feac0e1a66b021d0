package krb5_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"kerbpass/internal/demo/realm"
	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/krb5"
	"kerbpass/internal/ticket/tickettest"
)

// A typist answers the questions of a sign-in, in order, and remembers them.
type typist struct {
	answers []string
	asked   []ticket.PromptKind
	banners []string
	given   []ticket.Secret
}

func (p *typist) prompt(_ context.Context, banner string, questions []ticket.Prompt) ([]ticket.Secret, error) {
	p.banners = append(p.banners, banner)
	var out []ticket.Secret
	for _, q := range questions {
		if !q.Hidden || q.Text == "" || strings.HasSuffix(q.Text, ":") {
			return nil, fmt.Errorf("a bad question: %+v", q)
		}
		p.asked = append(p.asked, q.Kind)
		if len(p.answers) == 0 {
			return nil, errors.New("one question too many")
		}
		s := ticket.NewSecret([]byte(p.answers[0]))
		p.answers, p.given, out = p.answers[1:], append(p.given, s), append(out, s)
	}
	return out, nil
}

// wiped reports whether no answer can be read any more.
func (p *typist) wiped() bool {
	for _, s := range p.given {
		if len(bytes.Trim(s.Expose(), "\x00")) > 0 {
			return false
		}
	}
	return true
}

func signIn(t testing.TB, b *krb5.Backend, who string, answers ...string) (*typist, error) {
	t.Helper()
	p := &typist{answers: answers}
	err := b.SignIn(t.Context(), ticket.Login{Principal: who, Prompt: p.prompt})
	if !p.wiped() {
		t.Error("an answer was not wiped")
	}
	return p, err
}

func backend(t testing.TB, cfg krb5.Config) *krb5.Backend {
	t.Helper()
	b, err := krb5.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSignIn(t *testing.T) {
	for _, tt := range []struct {
		name, who string
		offset    time.Duration
	}{{"default realm", "alice", 0}, {"realm given", "alice@DEMO.INVALID", 0}, {"KDC ahead", "alice", time.Hour}, {"KDC behind", "alice", -time.Hour}} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, realm.Config{Clock: func() time.Time { return time.Now().Add(tt.offset) }})
			b := open(t, r)
			p, err := signIn(t, b, tt.who, "wonderland")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(p.asked, []ticket.PromptKind{ticket.PromptPassword}) {
				t.Errorf("asked %v", p.asked)
			}
			st, err := b.Status(t.Context())
			if err != nil || st.Principal != "alice@DEMO.INVALID" || !st.Renewable {
				t.Errorf("got %+v, %v", st, err)
			}
			if left := st.Left(time.Now()); left < 9*time.Hour+59*time.Minute || left > 10*time.Hour+time.Minute {
				t.Errorf("%v left, want ten hours by this machine's clock", left)
			}
			if left := time.Until(st.RenewUntil); left < 167*time.Hour || left > 169*time.Hour {
				t.Errorf("renewable for %v, want seven days", left)
			}
			token, err := b.Token(t.Context(), proxy)
			if err != nil {
				t.Fatal(err)
			}
			if who, err := r.Acceptor().Accept(token); err != nil || who != st.Principal {
				t.Errorf("token of %q, %v", who, err)
			}
			fi, err := os.Stat(r.CachePath())
			if err != nil || fi.Mode().Perm() != 0o600 {
				t.Errorf("cache file %v, %v", fi.Mode(), err)
			}
			left, err := filepath.Glob(filepath.Join(filepath.Dir(r.CachePath()), ".*"))
			if err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestSignInRefused(t *testing.T) {
	r := start(t, realm.Config{})
	b := open(t, r)
	mint(t, r, realm.MintOptions{User: "shorty"})
	before := b.Stamp()
	for _, tt := range []struct {
		who    string
		answer string
		want   error
		asked  int
	}{
		{"alice", "guess", ticket.ErrPassword, 1},
		{"alice", "", ticket.ErrPassword, 1},
		{"nobody", "x", ticket.ErrPrincipalUnknown, 0},
		{"locked", "behind-bars", ticket.ErrRevoked, 0},
	} {
		p, err := signIn(t, b, tt.who, tt.answer)
		if !errors.Is(err, tt.want) || len(p.asked) != tt.asked {
			t.Errorf("%s: got %v after %v, want %v after %d questions", tt.who, err, p.asked, tt.want, tt.asked)
		}
		if tt.answer == "" {
			continue // nothing was sent
		}
		if e, ok := errors.AsType[*ticket.KDCError](err); !ok || e.Realm != r.Name() || e.KDC != r.Addr() || e.Text == "" {
			t.Errorf("%s: %#v does not say who refused", tt.who, err)
		}
	}
	for _, who := range []string{"a b", "a@b@c", "/x", "a@", `a\@b`} {
		if _, err := signIn(t, b, who); err == nil {
			t.Errorf("signed %q in", who)
		}
	}
	if b.Stamp() != before {
		t.Error("a failed sign-in changed the cache")
	}
}

// The prompter's own error is the caller's, and nothing more reaches the KDC.
func TestSignInPrompterGivesUp(t *testing.T) {
	r := start(t, realm.Config{})
	gone := errors.New("the window was closed")
	for name, prompt := range map[string]ticket.Prompter{
		"error": func(context.Context, string, []ticket.Prompt) ([]ticket.Secret, error) { return nil, gone },
		"no answer": func(context.Context, string, []ticket.Prompt) ([]ticket.Secret, error) {
			return nil, nil
		},
		"nobody": nil,
	} {
		err := open(t, r).SignIn(t.Context(), ticket.Login{Principal: "alice", Prompt: prompt})
		if err == nil || name == "error" && !errors.Is(err, gone) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestSignInKDCSilent(t *testing.T) {
	r := start(t, realm.Config{})
	b := open(t, r)
	r.Pause()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	p := &typist{}
	err := b.SignIn(ctx, ticket.Login{Principal: "alice", Prompt: p.prompt})
	if !errors.Is(err, ticket.ErrKDCUnreachable) || !errors.Is(err, context.DeadlineExceeded) || len(p.asked) > 0 {
		t.Errorf("hanging: got %v after %v", err, p.asked)
	}
	r.Resume()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := signIn(t, b, "alice"); !errors.Is(err, ticket.ErrKDCUnreachable) {
		t.Errorf("down: got %v", err)
	}
}

func TestSignInWhoIsMeant(t *testing.T) {
	r := start(t, realm.Config{})
	b := open(t, r)
	mint(t, r, realm.MintOptions{User: "shorty", Start: time.Now().Add(-time.Hour), End: time.Now().Add(-time.Minute)})
	if _, err := signIn(t, b, "", "blink"); err != nil {
		t.Fatal(err)
	}
	if st, err := b.Status(t.Context()); err != nil || st.Principal != "shorty@DEMO.INVALID" || st.Left(time.Now()) == 0 {
		t.Errorf("got %+v, %v", st, err)
	}
}

// The KDC with the primary database is no second chance for a wrong password,
// and a KDC that wants proof gets it once.
func TestOneAttemptPerSignIn(t *testing.T) {
	var log bytes.Buffer
	r := start(t, realm.Config{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	conf, err := os.ReadFile(r.Krb5Conf())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "krb5.conf")
	twice := strings.Replace(string(conf), "kdc = ", "kdc = "+r.Addr()+"\n        kdc = ", 1)
	if err := os.WriteFile(path, []byte(twice), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := signIn(t, backend(t, krb5.Config{ConfigPath: path}), "alice", "guess"); !errors.Is(err, ticket.ErrPassword) {
		t.Errorf("got %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "PREAUTH_FAILED"); n != 1 {
		t.Errorf("%d attempts, want one:\n%s", n, log.String())
	}
}

func TestCollectionIsChosenByService(t *testing.T) {
	r := start(t, realm.Config{})
	other := start(t, realm.Config{Name: "OTHER.INVALID"})
	dir := t.TempDir()
	mint(t, r, realm.MintOptions{Cache: filepath.Join(dir, "tkt")})
	mint(t, other, realm.MintOptions{Cache: filepath.Join(dir, "tktother")})
	for service, want := range map[string]string{
		"":                           "alice@DEMO.INVALID",
		"HTTP/proxy.demo.invalid":    "alice@DEMO.INVALID",
		"HTTP/any@OTHER.INVALID":     "alice@OTHER.INVALID",
		"HTTP/where.nobody.knows":    "alice@DEMO.INVALID",
		"HTTP/any@SOMEWHERE.INVALID": "alice@DEMO.INVALID",
	} {
		b := backend(t, krb5.Config{Cache: "DIR:" + dir, ConfigPath: r.Krb5Conf(), Service: service})
		st, err := b.Status(t.Context())
		if err != nil || st.Principal != want {
			t.Errorf("%q: got %+v, %v; want %s", service, st, err, want)
		}
		list, err := b.Caches(t.Context())
		if err != nil || len(list) != 2 || list[0].Used == list[1].Used {
			t.Errorf("%q: %+v, %v; want one of two in use", service, list, err)
		}
	}
	if _, err := krb5.New(krb5.Config{Service: "nonsense"}); err == nil {
		t.Error("took nonsense for a service")
	}
}

// As kinit does: one cache for each principal, and the newest sign-in is the
// default.
func TestSignInToCollection(t *testing.T) {
	r := start(t, realm.Config{})
	dir := filepath.Join(t.TempDir(), "made", "later")
	if err := os.Mkdir(filepath.Dir(dir), 0o700); err != nil {
		t.Fatal(err)
	}
	b := backend(t, krb5.Config{Cache: "DIR:" + dir, ConfigPath: r.Krb5Conf()})
	for _, step := range []struct{ who, password string }{{"alice", "wonderland"}, {"shorty", "blink"}, {"alice", "wonderland"}} {
		if _, err := signIn(t, b, step.who, step.password); err != nil {
			t.Fatal(err)
		}
		st, err := b.Status(t.Context())
		if err != nil || st.Principal != step.who+"@DEMO.INVALID" {
			t.Errorf("signed in as %s: %+v, %v", step.who, st, err)
		}
	}
	list, err := b.Caches(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("got %+v, %v; want two caches", list, err)
	}
	if err := b.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if st, err := b.Status(t.Context()); err != nil || st.Principal != "shorty@DEMO.INVALID" {
		t.Errorf("after alice has signed out: %+v, %v", st, err)
	}
}

func TestSignOut(t *testing.T) {
	r := start(t, realm.Config{})
	b := open(t, r)
	if err := b.SignOut(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("got %v, want %v", err, ticket.ErrNoTicket)
	}
	mint(t, r, realm.MintOptions{})
	if err := b.SignOut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(r.CachePath()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// What is at the cache's place and is no plain file of this user stays as it is.
func TestReplacesNothingStrange(t *testing.T) {
	r := start(t, realm.Config{})
	for name, make := range map[string]func(path string) error{
		"link":   func(p string) error { return os.Symlink(filepath.Join(t.TempDir(), "target"), p) },
		"folder": func(p string) error { return os.Mkdir(p, 0o700) },
		"somebody else's": func(p string) error {
			testenv.Root(t)
			return errors.Join(os.WriteFile(p, nil, 0o600), os.Chown(p, 12345, 12345))
		},
	} {
		path := filepath.Join(t.TempDir(), "cc")
		if err := make(path); err != nil {
			testenv.Missing(t, "a %s: %v", name, err)
		}
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		b := backend(t, krb5.Config{Cache: path, ConfigPath: r.Krb5Conf()})
		if _, err := signIn(t, b, "alice", "wonderland"); err == nil || !strings.Contains(err.Error(), "is not replaced") {
			t.Errorf("%s: sign-in gave %v", name, err)
		}
		if err := b.SignOut(t.Context()); err == nil {
			t.Errorf("%s: signed out", name)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s: was replaced (%v)", name, err)
		}
	}
}

func TestRenew(t *testing.T) {
	r := start(t, realm.Config{})
	b := open(t, r)
	begin := time.Now().Add(-time.Hour)
	mint(t, r, realm.MintOptions{Start: begin, End: begin.Add(2 * time.Hour), RenewUntil: begin.Add(24 * time.Hour), Services: []string{"HTTP/127.0.0.1"}})
	before, err := b.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Renew(t.Context(), proxy, "HTTP/unknown.demo.invalid", "nonsense"); err != nil {
		t.Fatal(err)
	}
	after, err := b.Status(t.Context())
	if err != nil || !after.Expires.After(before.Expires) || !after.RenewUntil.Equal(before.RenewUntil) {
		t.Errorf("got %+v, %v; before %+v", after, err, before)
	}
	list, err := b.Caches(t.Context())
	if err != nil || len(list) != 1 || len(list[0].TGTs) != 1 {
		t.Fatalf("got %+v, %v", list, err)
	}
	var have []string
	for _, s := range list[0].Services {
		have = append(have, s.Server)
	}
	if want := []string{proxy + "@DEMO.INVALID", "HTTP/127.0.0.1@DEMO.INVALID"}; !slices.Equal(have, want) {
		t.Errorf("service tickets %v, want %v", have, want)
	}
	// What was fetched along needs no KDC now.
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Token(t.Context(), proxy); err != nil {
		t.Error(err)
	}
}

func TestRenewRefusesWithoutKDC(t *testing.T) {
	r := start(t, realm.Config{})
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	b := open(t, r)
	if err := b.Renew(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("no cache: got %v", err)
	}
	for _, tt := range []struct {
		name string
		mint realm.MintOptions
		want error
	}{
		{"no TGT", realm.MintOptions{NoTGT: true}, ticket.ErrNoTicket},
		{"expired", realm.MintOptions{Start: now.Add(-2 * time.Hour), End: now.Add(-time.Hour), RenewUntil: now.Add(time.Hour)}, ticket.ErrExpired},
		{"not renewable", realm.MintOptions{}, ticket.ErrNotRenewable},
		{"no more", realm.MintOptions{Start: now.Add(-2 * time.Hour), RenewUntil: now.Add(-time.Hour)}, ticket.ErrNotRenewable},
		{"KDC down", realm.MintOptions{RenewUntil: now.Add(24 * time.Hour)}, ticket.ErrKDCUnreachable},
	} {
		mint(t, r, tt.mint)
		if err := b.Renew(t.Context()); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
		}
	}
}

func TestTokensDuringRenewals(t *testing.T) {
	for _, kind := range []string{"FILE:", "DIR:"} {
		t.Run(kind, func(t *testing.T) {
			k := tickettest.StartKDC(t)
			testenv.NoLeaks(t)
			b := backend(t, krb5.Config{Cache: kind + filepath.Join(t.TempDir(), "cc"), ConfigPath: k.Krb5Conf})
			if _, err := signIn(t, b, "alice", k.Password); err != nil {
				t.Fatal(err)
			}
			const spn = "HTTP/proxy.world.test"
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			made := make([]int, 8)
			for i := range made {
				wg.Go(func() {
					for ctx.Err() == nil {
						if _, err := b.Token(t.Context(), spn); err != nil {
							t.Errorf("token %d: %v", made[i], err)
							return
						}
						made[i]++
					}
				})
			}
			for i := range 50 {
				if err := b.Renew(t.Context(), spn); err != nil {
					t.Errorf("renewal %d: %v", i, err)
				}
			}
			stop()
			wg.Wait()
			if slices.Min(made) == 0 {
				t.Errorf("tokens made meanwhile: %v", made)
			}
		})
	}
}

func TestKeytab(t *testing.T) {
	k := tickettest.StartKDC(t)
	cache := "FILE:" + filepath.Join(t.TempDir(), "cc")
	b := backend(t, krb5.Config{Cache: cache, ConfigPath: k.Krb5Conf, Keytab: k.UserKeytab})
	nobody := func(context.Context, string, []ticket.Prompt) ([]ticket.Secret, error) {
		t.Error("asked for a password")
		return nil, errors.New("nobody is here")
	}
	for _, who := range []string{"alice", ""} {
		if err := b.SignIn(t.Context(), ticket.Login{Principal: who, Prompt: nobody}); err != nil {
			t.Fatalf("%q: %v", who, err)
		}
		if st, err := b.Status(t.Context()); err != nil || st.Principal != "alice@"+k.Realm {
			t.Errorf("%q: %+v, %v", who, st, err)
		}
		if err := b.SignOut(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.SignIn(t.Context(), ticket.Login{Principal: "shorty", Prompt: nobody}); !errors.Is(err, ticket.ErrPrincipalUnknown) {
		t.Errorf("not in the keytab: got %v", err)
	}
	missing := backend(t, krb5.Config{Cache: cache, ConfigPath: k.Krb5Conf, Keytab: filepath.Join(k.Dir, "none")})
	if err := missing.SignIn(t.Context(), ticket.Login{Principal: "alice", Prompt: nobody}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no keytab: got %v", err)
	}
}

// run runs a client program on the cache and returns what it printed.
func run(t *testing.T, k *tickettest.KDC, cache, program string, args ...string) string {
	t.Helper()
	out, err := k.Run(cache, "", program, args...)
	if err != nil {
		t.Errorf("%s %v: %v\n%s", program, args, err, out)
	}
	return out
}

// MIT's and Heimdal's programs read, use and renew what is written here.
func TestWrittenCacheServesOthers(t *testing.T) {
	k := tickettest.StartKDC(t)
	for _, kind := range []string{"FILE:", "DIR:"} {
		t.Run(kind, func(t *testing.T) {
			cache := kind + filepath.Join(t.TempDir(), "cc")
			b := backend(t, krb5.Config{Cache: cache, ConfigPath: k.Krb5Conf})
			if _, err := signIn(t, b, "alice", k.Password); err != nil {
				t.Fatal(err)
			}
			if out := run(t, k, cache, "klist", "-f"); !strings.Contains(out, "alice@"+k.Realm) || !strings.Contains(out, "Flags: FRIA") {
				t.Errorf("klist: %s", out)
			}
			run(t, k, cache, "kvno", "HTTP/localhost")
			run(t, k, cache, "kinit", "-R")
			if err := b.Renew(t.Context(), "HTTP/proxy.world.test"); err != nil {
				t.Fatal(err)
			}
			run(t, k, cache, "kvno", "HTTP/proxy.world.test", "HTTP/127.0.0.1")
			out := run(t, k, cache, "klist")
			for _, want := range []string{"krbtgt/", "HTTP/proxy.world.test@", "HTTP/127.0.0.1@"} {
				if strings.Count(out, want) != 1 {
					t.Errorf("klist lists %s not once: %s", want, out)
				}
			}
			if out := run(t, k, cache, testenv.Tool(t, "klist.heimdal"), "klist"); !strings.Contains(out, "alice@"+k.Realm) {
				t.Errorf("Heimdal's klist: %s", out)
			}
			run(t, k, cache, "kdestroy")
			if _, err := b.Status(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
				t.Errorf("after kdestroy: %v", err)
			}
		})
	}
}

// Notes that MIT's kinit leaves in a cache survive a renewal.
func TestRenewKeepsNotes(t *testing.T) {
	k := tickettest.StartKDC(t)
	cache := "FILE:" + filepath.Join(t.TempDir(), "cc")
	k.Kinit(t, "alice", cache)
	before := run(t, k, cache, "klist", "-C")
	if !strings.Contains(before, "config: ") {
		t.Fatalf("kinit left no notes: %s", before)
	}
	if err := backend(t, krb5.Config{Cache: cache, ConfigPath: k.Krb5Conf}).Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := run(t, k, cache, "klist", "-C")
	if a, b := strings.Count(after, "config: "), strings.Count(before, "config: "); a != b {
		t.Errorf("%d notes of %d are left: %s", a, b, after)
	}
}

func TestMITRefusals(t *testing.T) {
	k := tickettest.StartKDC(t, tickettest.WithPrimary("127.0.0.2"))
	b := backend(t, krb5.Config{Cache: filepath.Join(t.TempDir(), "cc"), ConfigPath: k.Krb5Conf})
	for who, want := range map[string]error{"alice": ticket.ErrPassword, "nobody": ticket.ErrPrincipalUnknown, "locked": ticket.ErrRevoked} {
		if _, err := signIn(t, b, who, "a wrong password"); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", who, err, want)
		}
	}
	log, err := os.ReadFile(filepath.Join(k.Dir, "kdc.log"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(log), "preauth (encrypted_timestamp) verify failure"); n != 1 {
		t.Errorf("%d attempts, want one:\n%s", n, log)
	}
	if n := strings.Count(string(log), "PREAUTH_FAILED"); n != 1 {
		t.Errorf("%d refusals, want one:\n%s", n, log)
	}
}

func TestExpiredPassword(t *testing.T) {
	k := tickettest.StartKDC(t, tickettest.WithKpasswd())
	b := backend(t, krb5.Config{Cache: filepath.Join(t.TempDir(), "cc"), ConfigPath: k.Krb5Conf})
	const next = "Tr0ub4dor&3-ünï"
	if _, err := signIn(t, b, "expired", "not it"); !errors.Is(err, ticket.ErrPassword) {
		t.Errorf("wrong old password: got %v", err)
	}
	if p, err := signIn(t, b, "expired", k.Password, "short", "short", "short", "short", "short", "short"); !errors.Is(err, ticket.ErrPasswordExpired) {
		t.Errorf("weak: got %v after %v", err, p.banners)
	}
	p, err := signIn(t, b, "expired", k.Password, "one", "another", "short", "short", next, next)
	if err != nil {
		t.Fatalf("%v, after %q", err, p.banners)
	}
	if len(p.banners) != 4 || p.banners[0] != "" || !strings.Contains(p.banners[1], "expired") ||
		!strings.Contains(p.banners[2], "not the same") || !strings.Contains(p.banners[3], "short") {
		t.Errorf("banners %q", p.banners)
	}
	if st, err := b.Status(t.Context()); err != nil || st.Principal != "expired@"+k.Realm {
		t.Errorf("got %+v, %v", st, err)
	}
	if _, err := signIn(t, b, "expired", next); err != nil {
		t.Errorf("with the new password: %v", err)
	}
}

// kinit's own idea of a clock that is wrong is in its cache; ours has to be
// understood by it as well.
func TestOffsetIsUnderstood(t *testing.T) {
	kvno := testenv.Tool(t, "kvno")
	r := start(t, realm.Config{Clock: func() time.Time { return time.Now().Add(3 * time.Hour) }})
	if _, err := signIn(t, open(t, r), "alice", "wonderland"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), kvno, proxy)
	cmd.Env = []string{"KRB5_CONFIG=" + r.Krb5Conf(), "LC_ALL=C"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// kadmin changes the database of k.
func kadmin(t *testing.T, k *tickettest.KDC, script string) {
	t.Helper()
	env := []string{"KRB5_KDC_PROFILE=" + filepath.Join(k.Dir, "kdc.conf")}
	out, err := k.RunEnv(env, "", script, testenv.Tool(t, "kadmin.local"), "-r", k.Realm)
	if err != nil || strings.Count(out, "created.") != strings.Count(script, "addprinc") {
		t.Fatalf("kadmin.local: %v\n%s", err, out)
	}
}

// Keys of every encryption type, salts that only the KDC knows, and a KDC that
// asks for no proof.
func TestMITKeys(t *testing.T) {
	k := tickettest.StartKDC(t)
	accept := tickettest.Acceptor(t, k.HTTPKeytab)
	const password = "Pässwörd-€-7"
	for i, options := range []string{
		"-e aes256-cts-hmac-sha1-96:normal", "-e aes128-cts-hmac-sha1-96:normal", "-e aes256-cts-hmac-sha384-192:normal",
		"-e aes128-cts-hmac-sha256-128:normal", "-e rc4-hmac:normal", "-e aes256-cts-hmac-sha1-96:special",
		"-e aes256-cts-hmac-sha1-96:norealm -requires_preauth",
	} {
		t.Run(options, func(t *testing.T) {
			who := fmt.Sprintf("user%d", i)
			kadmin(t, k, fmt.Sprintf("addprinc %s -pw %s %s\n", "+requires_preauth "+options, password, who))
			b := backend(t, krb5.Config{Cache: filepath.Join(t.TempDir(), "cc"), ConfigPath: k.Krb5Conf})
			if _, err := signIn(t, b, who, "wrong"); !errors.Is(err, ticket.ErrPassword) {
				t.Errorf("wrong password: got %v", err)
			}
			if _, err := signIn(t, b, who, password); err != nil {
				t.Fatal(err)
			}
			token, err := b.Token(t.Context(), "HTTP/localhost")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := accept(token); err != nil || got != who+"@"+k.Realm {
				t.Errorf("token of %q, %v", got, err)
			}
		})
	}
}

func TestKDCWantsMoreThanAPassword(t *testing.T) {
	k := tickettest.StartKDC(t, tickettest.WithOTP("127.0.0.1:9", "secret"))
	b := backend(t, krb5.Config{Cache: filepath.Join(t.TempDir(), "cc"), ConfigPath: k.Krb5Conf})
	p, err := signIn(t, b, "otp")
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "FAST") || len(p.asked) > 0 {
		t.Errorf("got %v after %v", err, p.asked)
	}
	if _, ok := errors.AsType[*ticket.KDCError](err); !ok {
		t.Errorf("got %#v, want a KDCError", err)
	}
}

func TestConfDecidesTheTerms(t *testing.T) {
	r := start(t, realm.Config{})
	conf, err := os.ReadFile(r.Krb5Conf())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "krb5.conf")
	terms := "[libdefaults]\nticket_lifetime = 1h 30m\nrenew_lifetime = 0\nforwardable = no\n"
	if err := os.WriteFile(path, append([]byte(terms), conf...), 0o600); err != nil {
		t.Fatal(err)
	}
	b := backend(t, krb5.Config{ConfigPath: path})
	if _, err := signIn(t, b, "alice", "wonderland"); err != nil {
		t.Fatal(err)
	}
	list, err := b.Caches(t.Context())
	if err != nil || len(list) != 1 || len(list[0].TGTs) != 1 {
		t.Fatalf("got %+v, %v", list, err)
	}
	got := list[0].TGTs[0]
	if life := got.Expires.Sub(got.Start); life != 90*time.Minute || got.Flags&(ticket.FlagRenewable|ticket.FlagForwardable) != 0 {
		t.Errorf("a ticket of %v with %v", life, got.Flags.Names())
	}
}

func TestSignInTellsNoSecrets(t *testing.T) {
	var log bytes.Buffer
	r := start(t, realm.Config{})
	b := backend(t, krb5.Config{ConfigPath: r.Krb5Conf(), Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	_, err := signIn(t, b, "alice", "wonderland ")
	fmt.Fprintf(&log, "%v %+v %#v", err, err, err)
	if _, err := signIn(t, b, "alice", "wonderland"); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "ticket cache written") {
		t.Errorf("nothing was logged: %s", log.String())
	}
	if s := testenv.Secret(log.String(), "wonderland"); s != "" {
		t.Errorf("the log holds %q", s)
	}
}
