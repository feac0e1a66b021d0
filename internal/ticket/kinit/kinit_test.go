package kinit_test

import (
	"bytes"
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
	"kerbpass/internal/ticket/kinit"
	"kerbpass/internal/ticket/tickettest"
)

// folder returns one with the tools of a dialect under their proper names.
// Debian calls Heimdal's kinit.heimdal, and its klist is a part of a program
// that goes by the name it is called by, which must be klist.
func folder(t testing.TB, d kinit.Dialect) string {
	t.Helper()
	from := map[string]string{"kinit": "kinit.heimdal", "klist": "klist.heimdal", "kdestroy": "kdestroy.heimdal"}
	if d == kinit.MIT {
		from = map[string]string{"kinit": "kinit", "klist": "klist", "kdestroy": "kdestroy"}
	}
	dir := t.TempDir()
	for name, tool := range from {
		path, err := filepath.EvalSymlinks(testenv.Tool(t, tool))
		if err != nil {
			t.Fatal(err)
		}
		if d == kinit.MIT && strings.Contains(path, "heim") {
			testenv.Missing(t, "program %s of MIT", name)
		}
		if err := os.Symlink(path, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// world is a KDC and the tools of one dialect.
type world struct {
	*tickettest.KDC
	tools *kinit.Tools
	cache string
}

func begin(t testing.TB, d kinit.Dialect, limit time.Duration, env []string, opts ...tickettest.KDCOption) world {
	t.Helper()
	w := world{KDC: tickettest.StartKDC(t, opts...)}
	w.cache = "FILE:" + w.Dir + "/tickets"
	w.tools = w.with(t, d, limit, env...)
	return w
}

func (w world) with(t testing.TB, d kinit.Dialect, limit time.Duration, env ...string) *kinit.Tools {
	t.Helper()
	return newTools(t, kinit.Config{Dir: folder(t, d), Dialect: d, Env: w.Env(env...), Limit: limit})
}

func newTools(t testing.TB, c kinit.Config) *kinit.Tools {
	t.Helper()
	tools, err := kinit.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return tools
}

// answers gives the same words to every question and keeps what was asked.
type answers struct {
	words   map[ticket.PromptKind]string
	asked   []ticket.Prompt
	banners []string
	given   []ticket.Secret
}

func (a *answers) prompt(_ context.Context, banner string, questions []ticket.Prompt) ([]ticket.Secret, error) {
	a.banners = append(a.banners, banner)
	var list []ticket.Secret
	for _, q := range questions {
		a.asked = append(a.asked, q)
		list = append(list, ticket.NewSecret([]byte(a.words[q.Kind])))
	}
	a.given = append(a.given, list...)
	return list, nil
}

func password(word string) *answers {
	return &answers{words: map[ticket.PromptKind]string{ticket.PromptPassword: word}}
}

func bothDialects(t *testing.T, test func(t *testing.T, d kinit.Dialect)) {
	testenv.NoLeaks(t)
	for _, d := range []kinit.Dialect{kinit.Heimdal, kinit.MIT} {
		t.Run(string(d), func(t *testing.T) {
			t.Parallel()
			test(t, d)
		})
	}
}

func TestSignIn(t *testing.T) {
	bothDialects(t, func(t *testing.T, d kinit.Dialect) {
		w := begin(t, d, 0, nil)
		for _, tt := range []struct {
			name, principal, password string
			want                      error
			attempts                  int
		}{
			{"right", "alice@WORLD.TEST", w.Password, nil, 0},
			{"default realm", "alice", w.Password, nil, 0},
			{"wrong", "alice@WORLD.TEST", "Wrong-horse-1", ticket.ErrPassword, 1},
			{"empty", "alice@WORLD.TEST", "", ticket.ErrPassword, 0},
			{"unknown", "nobody@WORLD.TEST", w.Password, ticket.ErrPrincipalUnknown, 0},
			{"locked", "locked@WORLD.TEST", w.Password, ticket.ErrRevoked, 0},
			{"expired, none given", "expired@WORLD.TEST", w.Password, ticket.ErrPasswordExpired, 0},
			{"an option", "-V", w.Password, ticket.ErrPrincipalUnknown, 0},
			{"realm elsewhere", "alice@NOWHERE.INVALID", w.Password, ticket.ErrKDCUnreachable, 0},
		} {
			before := w.Attempts(t)
			a := password(tt.password)
			err := w.tools.SignIn(t.Context(), w.cache, ticket.Login{Principal: tt.principal, Prompt: func(ctx context.Context, banner string, q []ticket.Prompt) ([]ticket.Secret, error) {
				if q[0].Kind == ticket.PromptNewPassword {
					return nil, fmt.Errorf("no: %w", ticket.ErrPasswordExpired)
				}
				return a.prompt(ctx, banner, q)
			}})
			if !errors.Is(err, tt.want) {
				t.Errorf("%s: got %v, want %v", tt.name, err, tt.want)
			}
			var refused *ticket.KDCError
			if tt.want != nil && d == kinit.Heimdal && !errors.As(err, &refused) {
				t.Errorf("%s: %T is no KDCError", tt.name, err)
			}
			// Heimdal 7 repeats what was refused without FAST, in the library,
			// where nothing can stop it.
			if n := w.Attempts(t) - before; n != tt.attempts && (d != kinit.Heimdal || n != 2*tt.attempts) {
				t.Errorf("%s: %d refused attempts at the KDC, want %d", tt.name, n, tt.attempts)
			}
			if err != nil && tt.password != "" && testenv.Secret(err.Error(), tt.password) != "" {
				t.Errorf("%s: the error carries the password", tt.name)
			}
			for _, s := range a.given {
				if len(bytes.Trim(s.Expose(), "\x00")) != 0 {
					t.Errorf("%s: an answer was not wiped", tt.name)
				}
			}
			if _, err := os.Stat(strings.TrimPrefix(w.cache, "FILE:")); (err == nil) != (tt.want == nil) {
				t.Errorf("%s: cache: %v", tt.name, err)
			}
			os.Remove(strings.TrimPrefix(w.cache, "FILE:"))
		}
	})
}

// The person is asked before kinit runs, or as kinit asks.
func TestQuestions(t *testing.T) {
	bothDialects(t, func(t *testing.T, d kinit.Dialect) {
		w := begin(t, d, 0, nil)
		a := password(w.Password)
		if err := w.tools.SignIn(t.Context(), w.cache, ticket.Login{Principal: "alice@WORLD.TEST", Prompt: a.prompt}); err != nil {
			t.Fatal(err)
		}
		want := ticket.Prompt{Kind: ticket.PromptPassword, Text: "Password for alice@WORLD.TEST", Hidden: true}
		if len(a.asked) != 1 || a.asked[0] != want || a.banners[0] != "" {
			t.Errorf("got %+v under %q, want %+v", a.asked, a.banners, want)
		}
		refused := errors.New("not now")
		before := w.Requests(t)
		err := w.tools.SignIn(t.Context(), w.cache, ticket.Login{Principal: "alice@WORLD.TEST", Prompt: func(context.Context, string, []ticket.Prompt) ([]ticket.Secret, error) { return nil, refused }})
		if !errors.Is(err, refused) {
			t.Errorf("got %v, want %v", err, refused)
		}
		if n := w.Requests(t) - before; d == kinit.Heimdal && n != 0 {
			t.Errorf("%d requests to the KDC after the person said no", n)
		}
		for _, bad := range []string{"two\nlines", "nul\x00", strings.Repeat("x", 1001)} {
			before := w.Attempts(t)
			if err := w.tools.SignIn(t.Context(), w.cache, ticket.Login{Principal: "alice", Prompt: password(bad).prompt}); err == nil || w.Attempts(t) != before {
				t.Errorf("%.12q: got %v, %d attempts", bad, err, w.Attempts(t)-before)
			}
		}
	})
}

func TestExpiredPasswordIsChanged(t *testing.T) {
	testenv.NoLeaks(t)
	w := begin(t, kinit.MIT, 0, nil, tickettest.WithKpasswd())
	a := &answers{words: map[ticket.PromptKind]string{
		ticket.PromptPassword: w.Password, ticket.PromptNewPassword: "Another-horse-8", ticket.PromptNewAgain: "Another-horse-8",
	}}
	if err := w.tools.SignIn(t.Context(), w.cache, ticket.Login{Principal: "expired@WORLD.TEST", Prompt: a.prompt}); err != nil {
		t.Fatal(err)
	}
	if len(a.asked) != 3 || len(a.banners) != 2 || !strings.Contains(a.banners[1], "expired") {
		t.Errorf("asked %+v under %q", a.asked, a.banners)
	}
	if err := w.tools.SignIn(t.Context(), w.cache, ticket.Login{Principal: "expired@WORLD.TEST", Prompt: password("Another-horse-8").prompt}); err != nil {
		t.Errorf("with the new password: %v", err)
	}
}

func TestKDCDown(t *testing.T) {
	bothDialects(t, func(t *testing.T, d kinit.Dialect) {
		w := begin(t, d, 0, nil)
		w.Stop()
		err := w.tools.SignIn(t.Context(), w.cache, ticket.Login{Principal: "alice@WORLD.TEST", Prompt: password(w.Password).prompt})
		var refused *ticket.KDCError
		if !errors.Is(err, ticket.ErrKDCUnreachable) || !errors.As(err, &refused) || refused.Realm != "WORLD.TEST" {
			t.Errorf("got %v, want %v", err, ticket.ErrKDCUnreachable)
		}
	})
}

func TestHangingKDC(t *testing.T) {
	bothDialects(t, func(t *testing.T, d kinit.Dialect) {
		w := begin(t, d, 0, nil)
		silent := w.ConfFor(t, tickettest.HangingKDC(t))

		t.Run("limit", func(t *testing.T) {
			tools := w.with(t, d, time.Second, "KRB5_CONFIG="+silent)
			err := tools.SignIn(t.Context(), w.cache, ticket.Login{Principal: "alice@WORLD.TEST", Prompt: password(w.Password).prompt})
			if !errors.Is(err, ticket.ErrKDCUnreachable) {
				t.Errorf("got %v, want %v", err, ticket.ErrKDCUnreachable)
			}
			gone(t, silent)
		})
		t.Run("cancelled, and nobody can read the password", func(t *testing.T) {
			tools := w.with(t, d, 0, "KRB5_CONFIG="+silent)
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- tools.SignIn(ctx, w.cache, ticket.Login{Principal: "alice@WORLD.TEST", Prompt: password(w.Password).prompt})
			}()
			var seen []string
			for end := time.Now().Add(20 * time.Second); len(seen) == 0 && time.Now().Before(end); {
				seen = processes(silent)
			}
			if len(seen) == 0 {
				t.Error("kinit was never seen")
			}
			for _, text := range seen {
				if strings.Contains(text, w.Password) {
					t.Errorf("the password is visible: %q", text)
				}
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want %v", err, context.Canceled)
			}
			gone(t, silent)
		})
	})
}

// processes returns arguments and environment of all that have word in them.
func processes(word string) (list []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		args, _ := os.ReadFile(dir + "/cmdline")
		env, _ := os.ReadFile(dir + "/environ")
		if text := string(args) + string(env); strings.Contains(text, word) && strings.Contains(string(args), "kinit") && !strings.Contains(string(args), ".test") {
			list = append(list, text)
		}
	}
	return list
}

func gone(t *testing.T, word string) {
	t.Helper()
	if left := processes(word); len(left) != 0 {
		t.Errorf("still running: %q", left)
	}
}

func TestRenew(t *testing.T) {
	bothDialects(t, func(t *testing.T, d kinit.Dialect) {
		w := begin(t, d, 0, nil)
		signIn := func(principal string) {
			t.Helper()
			if err := w.tools.SignIn(t.Context(), w.cache, ticket.Login{Principal: principal, Prompt: password(w.Password).prompt}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.tools.Renew(t.Context(), w.cache); !errors.Is(err, ticket.ErrNoTicket) {
			t.Errorf("without a ticket: got %v, want %v", err, ticket.ErrNoTicket)
		}
		signIn("alice")
		before := w.Requests(t)
		if err := w.tools.Renew(t.Context(), w.cache); err != nil {
			t.Error(err)
		}
		if w.Requests(t) == before {
			t.Error("the KDC saw no request")
		}
		w.Stop()
		if err := w.tools.Renew(t.Context(), w.cache); !errors.Is(err, ticket.ErrKDCUnreachable) {
			t.Errorf("KDC down: got %v, want %v", err, ticket.ErrKDCUnreachable)
		}
		w.Start(t)
		if out, err := w.RunEnv([]string{"KRB5_CONFIG=" + withoutRenewal(t, w.Krb5Conf)}, w.cache, w.Password+"\n", "kinit", "alice"); err != nil {
			t.Fatal(err, out)
		}
		if err := w.tools.Renew(t.Context(), w.cache); !errors.Is(err, ticket.ErrNotRenewable) {
			t.Errorf("not renewable: got %v, want %v", err, ticket.ErrNotRenewable)
		}
		// MIT's asks the KDC, which allows for its clock skew.
		w.Kinit(t, "alice", w.cache, "-l", "1s")
		time.Sleep(2 * time.Second) // the clock of a library cannot be wound
		if err := w.tools.Renew(t.Context(), w.cache); d == kinit.Heimdal && !errors.Is(err, ticket.ErrExpired) {
			t.Errorf("expired: got %v, want %v", err, ticket.ErrExpired)
		}
		if err := w.tools.SignOut(t.Context(), w.cache); err != nil {
			t.Error(err)
		}
		if err := w.tools.SignOut(t.Context(), w.cache); !errors.Is(err, ticket.ErrNoTicket) {
			t.Errorf("signed out twice: got %v, want %v", err, ticket.ErrNoTicket)
		}
	})
}

// withoutRenewal copies a krb5.conf that then asks for no renewable tickets.
func withoutRenewal(t *testing.T, conf string) string {
	t.Helper()
	text, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "krb5.conf")
	if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte("renew_lifetime"), []byte("unused")), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestListAgreesWithTheKDC(t *testing.T) {
	testenv.NoLeaks(t)
	// Where local time is ambiguous or missing must not matter.
	w := begin(t, kinit.Heimdal, 0, []string{"TZ=America/New_York"})
	tools := w.with(t, kinit.Heimdal, 0, "TZ=America/New_York", "KRB5CCNAME="+w.cache)
	if list, err := tools.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("before: got %+v, %v", list, err)
	}
	if err := tools.SignIn(t.Context(), "", ticket.Login{Principal: "alice", Prompt: password(w.Password).prompt}); err != nil {
		t.Fatal(err)
	}
	if out, err := w.Run(w.cache, "", "kvno", "HTTP/proxy.world.test"); err != nil {
		t.Fatal(err, out)
	}
	list, err := tools.List(t.Context())
	if err != nil || len(list) != 1 {
		t.Fatalf("got %+v, %v; want one cache", list, err)
	}
	c := list[0]
	if c.Name != w.cache || c.Principal != "alice@WORLD.TEST" || c.Realm != "WORLD.TEST" || !c.Default || len(c.TGTs) != 1 || len(c.Services) != 1 {
		t.Fatalf("got %+v", c)
	}
	tgt := c.TGTs[0]
	if left := time.Until(c.Expires); left < 9*time.Hour+50*time.Minute || left > 10*time.Hour+time.Minute {
		t.Errorf("expires %v", c.Expires)
	}
	if left := time.Until(tgt.RenewUntil); left < 6*24*time.Hour || left > 7*24*time.Hour+time.Minute {
		t.Errorf("renewable until %v", tgt.RenewUntil)
	}
	if tgt.Flags&(ticket.FlagRenewable|ticket.FlagInitial) != ticket.FlagRenewable|ticket.FlagInitial || tgt.EncType != 18 {
		t.Errorf("flags %v, encryption %v", tgt.Flags.Names(), tgt.EncType)
	}
	if s := c.Services[0]; s.Server != "HTTP/proxy.world.test@WORLD.TEST" || s.Flags&ticket.FlagInitial != 0 || !s.Expires.Equal(c.Expires) {
		t.Errorf("service: %+v", s)
	}

	if err := os.WriteFile(strings.TrimPrefix(w.cache, "FILE:"), []byte("no cache"), 0o600); err != nil {
		t.Fatal(err)
	}
	if list, err := tools.List(t.Context()); err == nil && len(list) != 0 {
		t.Errorf("damaged: got %+v", list)
	}
}

// script makes a folder in which every tool is this shell script.
func script(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"kinit", "klist", "kdestroy"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestBadTools(t *testing.T) {
	testenv.NoLeaks(t)
	for name, tt := range map[string]struct {
		script string
		want   string
	}{
		"never ends":         {"sleep 1000 & echo $! >$KRB5_TEST; wait", "nothing came in time"},
		"ignores signals":    {"trap '' TERM INT HUP; while :; do sleep 1; done", "nothing came in time"},
		"prints megabytes":   {"trap '' PIPE; while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done", "bytes of output"},
		"ends by signal":     {"kill -SEGV $$", "segmentation fault"},
		"fails without word": {"exit 3", "exit status 3"},
		"control characters": {`printf '\033[31mred\007\n' >&2; exit 1`, "exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := filepath.Join(t.TempDir(), "child")
			tools := newTools(t, kinit.Config{Dir: script(t, tt.script), Dialect: kinit.Heimdal, Limit: time.Second, Env: append(os.Environ(), "KRB5_TEST="+child)})
			err := tools.SignIn(t.Context(), "", ticket.Login{Principal: "alice@R", Prompt: password("secret-word").prompt})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("sign in: got %v, want %q", err, tt.want)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x1b\x07\n") {
				t.Errorf("not fit for a log: %q", err)
			}
			if _, err := tools.List(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("list: got %v, want %q", err, tt.want)
			}
			ended(t, child)
		})
	}
}

// ended checks that the process whose number is in file, if there is one, is
// gone or a zombie.
func ended(t *testing.T, file string) {
	t.Helper()
	pid, err := os.ReadFile(file)
	if err != nil {
		return
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		stat, err := os.ReadFile("/proc/" + strings.TrimSpace(string(pid)) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("what the tool started is still there: %s", pid)
}

// A tool that leaves a child behind has ended all the same, and the child ends
// with it.
func TestLeftBehind(t *testing.T) {
	testenv.NoLeaks(t)
	for name, text := range map[string]string{
		"with the output": "sleep 1000 & echo $! >$KRB5_TEST", "without": "sleep 1000 >/dev/null 2>&1 & echo $! >$KRB5_TEST",
	} {
		child := filepath.Join(t.TempDir(), "child")
		tools := newTools(t, kinit.Config{Dir: script(t, text), Dialect: kinit.Heimdal, Env: append(os.Environ(), "KRB5_TEST="+child)})
		if err := tools.Renew(t.Context(), ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(child); err != nil {
			t.Error(err)
		}
		ended(t, child)
	}
}

// A tool sees few variables, and writes in English and in UTC.
func TestEnvironment(t *testing.T) {
	testenv.NoLeaks(t)
	out := filepath.Join(t.TempDir(), "env")
	tools := newTools(t, kinit.Config{Dir: script(t, "/usr/bin/env >$KRB5_OUT; tty >>$KRB5_OUT"), Dialect: kinit.MIT, Env: []string{
		"KRB5_OUT=" + out, "KRB5_TRACE=/dev/stderr", "HOME=/h", "LD_PRELOAD=/x", "TZ=Europe/Berlin", "LC_ALL=de_DE", "HTTP_PROXY=http://u:p@x", "PATH=" + os.Getenv("PATH"),
	}})
	if err := tools.Renew(t.Context(), ""); err == nil {
		t.Log("tty says that there is a terminal") // its exit status
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"HOME=/h", "TZ=UTC0", "LC_ALL=C", "not a tty"} {
		if !strings.Contains(string(text), want+"\n") {
			t.Errorf("%s is missing in %s", want, text)
		}
	}
	for _, bad := range []string{"KRB5_TRACE", "LD_PRELOAD", "HTTP_PROXY", "Berlin", "de_DE"} {
		if strings.Contains(string(text), bad) {
			t.Errorf("%s is in %s", bad, text)
		}
	}
}

func TestNoTool(t *testing.T) {
	testenv.NoLeaks(t)
	tools := newTools(t, kinit.Config{Dir: t.TempDir(), Dialect: kinit.Heimdal})
	if _, err := tools.List(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
	if err := tools.SignIn(t.Context(), "", ticket.Login{Prompt: password("x").prompt}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
	mit := newTools(t, kinit.Config{Dir: t.TempDir(), Dialect: kinit.MIT})
	if _, err := mit.List(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("MIT: got %v, want %v", err, errors.ErrUnsupported)
	}
	for name, c := range map[string]kinit.Config{"dialect": {}, "relative": {Dir: "bin", Dialect: kinit.MIT}, "limit": {Dialect: kinit.MIT, Limit: -1}} {
		if _, err := kinit.New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
