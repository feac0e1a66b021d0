//go:build linux && !nogss

package gss_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"net/rpc/jsonrpc"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
	"kerbpass/internal/ticket"
	"kerbpass/internal/ticket/gss"
	"kerbpass/internal/ticket/tickettest"
)

// What runs on macOS on GSS.framework runs here on Heimdal's library: Apple's
// is a fork of it and exports the same symbols.
const heimdalGSS = "libgssapi.so.3"

// heimdalTools are Heimdal's klist, kinit and kdestroy as far as these tests
// need them; the program itself uses room kinit, which rooms may not import.
type heimdalTools struct{}

func (heimdalTools) run(ctx context.Context, stdin, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "TZ=UTC0", "LC_ALL=C")
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return string(out), err
}

func (t heimdalTools) List(ctx context.Context) (list []ticket.Cache, err error) {
	for _, name := range strings.Fields(os.Getenv("KERBPASS_TEST_CACHES")) {
		out, err := t.run(ctx, "", os.Getenv("KERBPASS_TEST_KLIST"), "-v", "-c", name)
		if err != nil {
			continue // no such cache
		}
		c := ticket.Cache{Name: name, Default: name == os.Getenv("KRB5CCNAME")}
		var k ticket.Ticket
		for line := range strings.Lines(out) {
			label, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			value = strings.TrimSpace(value)
			when, _ := time.Parse("Jan _2 15:04:05 2006", strings.TrimSuffix(value, " (expired)"))
			switch label {
			case "Principal":
				_, realm, _ := strings.Cut(value, "@")
				c.Principal, c.Realm = value, realm
			case "Server":
				k = ticket.Ticket{Server: value}
			case "Auth time", "Start time":
				k.Start = when
			case "End time":
				k.Expires = when
			case "Renew till":
				k.RenewUntil, k.Flags = when, ticket.FlagRenewable
			case "Ticket etype":
				k.EncType = 18 // aes256-cts-hmac-sha1-96, the KDC's only choice
			case "Ticket flags":
				if strings.Contains(value, "initial") {
					k.Flags |= ticket.FlagInitial
				}
			case "Addresses":
				if !strings.HasPrefix(k.Server, "krbtgt/") {
					c.Services = append(c.Services, k)
					continue
				}
				c.TGTs, c.Expires = append(c.TGTs, k), k.Expires
			}
		}
		list = append(list, c)
	}
	return list, nil
}

func (t heimdalTools) Renew(ctx context.Context, cache string) error {
	out, err := t.run(ctx, "", "kinit.heimdal", "-R", "-c", cache)
	if strings.Contains(out, "unable to reach any KDC") {
		return &ticket.KDCError{Realm: "WORLD.TEST", Text: out, Err: ticket.ErrKDCUnreachable}
	}
	return err
}

func (t heimdalTools) SignIn(ctx context.Context, cache string, l ticket.Login) error {
	answers, err := l.Prompt(ctx, "", []ticket.Prompt{{Kind: ticket.PromptPassword, Text: "Password", Hidden: true}})
	if err != nil {
		return err
	}
	if cache == "" {
		cache = os.Getenv("KRB5CCNAME")
	}
	_, err = t.run(ctx, string(answers[0].Expose())+"\n", "kinit.heimdal", "--password-file=STDIN", "-c", cache, l.Principal)
	return err
}

func (t heimdalTools) SignOut(ctx context.Context, cache string) error {
	_, err := t.run(ctx, "", "kdestroy.heimdal", "-c", cache)
	return err
}

// AppleCall is one call to the backend in the child.
type AppleCall struct {
	Op, Arg, Password string
	Canceled          bool
	Timeout           time.Duration
}

// AppleReply is its outcome.
type AppleReply struct {
	Token  []byte
	Status ticket.Status
	Caches []ticket.Cache
	Err    *wireError
}

// AppleServer serves a backend to the parent.
type AppleServer struct{ b ticket.Backend }

// Do makes one call.
func (s *AppleServer) Do(c AppleCall, r *AppleReply) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if c.Canceled {
		cancel()
	}
	if c.Timeout != 0 {
		ctx, cancel = context.WithTimeout(ctx, c.Timeout)
		defer cancel()
	}
	var err error
	switch c.Op {
	case "status":
		r.Status, err = s.b.Status(ctx)
	case "caches":
		r.Caches, err = s.b.Caches(ctx)
	case "token":
		r.Token, err = s.b.Token(ctx, c.Arg)
	case "renew":
		err = s.b.Renew(ctx, strings.Fields(c.Arg)...)
	case "sign in":
		err = s.b.SignIn(ctx, ticket.Login{Principal: c.Arg, Prompt: func(context.Context, string, []ticket.Prompt) ([]ticket.Secret, error) {
			return []ticket.Secret{ticket.NewSecret([]byte(c.Password))}, nil
		}})
	case "sign out":
		err = s.b.SignOut(ctx)
	default:
		err = errors.New("no such call: " + c.Op)
	}
	r.Err = toWire(err)
	return nil
}

const appleSwitch = "KERBPASS_TEST_APPLE_CHILD"

// pipes are the standard input and output of a child, or of oneself.
type pipes struct {
	io.ReadCloser
	io.WriteCloser
}

func (p pipes) Close() error { return errors.Join(p.WriteCloser.Close(), p.ReadCloser.Close()) }

// TestAppleChild is no test but the child of the others: the library reads its
// environment once per process.
func TestAppleChild(t *testing.T) {
	path, ok := os.LookupEnv(appleSwitch)
	if !ok {
		return
	}
	c := gss.Config{Cache: os.Getenv(appleSwitch + "_CACHE"), Service: os.Getenv(appleSwitch + "_SERVICE")}
	if os.Getenv(appleSwitch+"_TOOLS") != "" {
		c.Tools = heimdalTools{}
	}
	b, err := gss.OpenApple(c, path)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	rpc.Register(&AppleServer{b})
	rpc.ServeCodec(jsonrpc.NewServerCodec(pipes{os.Stdin, os.Stdout}))
	os.Exit(0)
}

// appleChild is a ticket.Backend in a process of its own.
type appleChild struct {
	ticket.Backend // nil: what is not overridden is not called
	client         *rpc.Client
}

func startApple(t testing.TB, path string, env ...string) *appleChild {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestAppleChild$")
	cmd.Env, cmd.Stderr = append(env, appleSwitch+"="+path, "KERBPASS_TEST_KLIST="+heimdalKlist(t)), os.Stderr
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
	c := &appleChild{client: jsonrpc.NewClient(pipes{out, in})}
	t.Cleanup(func() {
		c.client.Close()
		cmd.Process.Kill() // a call may be hanging in it
		cmd.Wait()
	})
	return c
}

func (c *appleChild) do(ctx context.Context, call AppleCall) (AppleReply, error) {
	var r AppleReply
	call.Canceled = ctx.Err() != nil
	if err := c.client.Call("AppleServer.Do", call, &r); err != nil {
		return r, err
	}
	return r, r.Err.error()
}

func (c *appleChild) Name() string  { return "gss-apple" }
func (c *appleChild) Stamp() string { return "" }

func (c *appleChild) Watch(context.Context, func()) error { return errors.ErrUnsupported }

func (c *appleChild) Status(ctx context.Context) (ticket.Status, error) {
	r, err := c.do(ctx, AppleCall{Op: "status"})
	return r.Status, err
}

func (c *appleChild) Caches(ctx context.Context) ([]ticket.Cache, error) {
	r, err := c.do(ctx, AppleCall{Op: "caches"})
	return r.Caches, err
}

func (c *appleChild) Token(ctx context.Context, spn string) ([]byte, error) {
	r, err := c.do(ctx, AppleCall{Op: "token", Arg: spn})
	return r.Token, err
}

func (c *appleChild) Renew(ctx context.Context, services ...string) error {
	_, err := c.do(ctx, AppleCall{Op: "renew", Arg: strings.Join(services, " ")})
	return err
}

func (c *appleChild) SignOut(ctx context.Context) error {
	_, err := c.do(ctx, AppleCall{Op: "sign out"})
	return err
}

// heimdalKlist returns Heimdal's klist under its proper name: Debian's is a part
// of a program that goes by the name it is called by.
func heimdalKlist(t testing.TB) string {
	t.Helper()
	path, err := filepath.EvalSymlinks(testenv.Tool(t, "klist.heimdal"))
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "klist")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	return link
}

// withIterator is Heimdal's library with gss_iter_creds_f added.
func withIterator(t testing.TB) string {
	t.Helper()
	needLibrary(t, "heimdal")
	found, _ := filepath.Glob("/usr/lib/*/" + heimdalGSS)
	krb5, _ := filepath.Glob("/usr/lib/*/libkrb5.so.26")
	if len(found) == 0 || len(krb5) == 0 {
		testenv.Missing(t, "library %s", heimdalGSS)
	}
	path := filepath.Join(t.TempDir(), "iter.so")
	cmd := exec.Command(testenv.Tool(t, "gcc"), "-shared", "-fPIC", "-Wl,--no-as-needed", "-o", path, "testdata/iter_creds.c", found[0], krb5[0], "-lpthread")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// appleWorld is a KDC and a backend on it.
type appleWorld struct {
	*tickettest.KDC
	cache string
	b     *appleChild
}

func beginApple(t *testing.T, path string, env ...string) appleWorld {
	t.Helper()
	w := appleWorld{KDC: tickettest.StartKDC(t)}
	w.cache = "FILE:" + w.Dir + "/tickets"
	w.b = startApple(t, path, w.Env(append([]string{"KRB5CCNAME=" + w.cache, "KERBPASS_TEST_CACHES=" + w.cache, appleSwitch + "_TOOLS=1"}, env...)...)...)
	return w
}

func (w appleWorld) signIn(t testing.TB, life time.Duration) {
	w.Kinit(t, "alice", w.cache, "-l", fmt.Sprint(int(life.Seconds()), "s"))
}

func (w appleWorld) signOut(testing.TB) { os.Remove(strings.TrimPrefix(w.cache, "FILE:")) }

func TestAppleBackend(t *testing.T) {
	testenv.NoLeaks(t)
	needLibrary(t, "heimdal")
	for name, path := range map[string]string{"default only": heimdalGSS, "iterating": withIterator(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := beginApple(t, path)
			never := w.Dir + "/never-renewable.conf"
			conf, err := os.ReadFile(w.Krb5Conf)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(never, []byte(strings.ReplaceAll(string(conf), "renew_lifetime", "unused")), 0o644); err != nil {
				t.Fatal(err)
			}
			tickettest.TestBackend(t, func(testing.TB) ticket.Backend { return w.b }, tickettest.World{
				Principal: "alice@WORLD.TEST", SPN: spn, Unknown: "HTTP/nobody.world.test",
				Accept: tickettest.Acceptor(t, w.HTTPKeytab),
				SignIn: w.signIn, SignOut: w.signOut,
				KDCDown: func(testing.TB) { w.Stop() },
				KDCUp:   w.Start,
				Renewable: func(t testing.TB, life, renewable time.Duration) {
					args := []string{"-l", fmt.Sprint(int(life.Seconds()), "s"), "alice"}
					if renewable != 0 {
						args = append([]string{"-r", fmt.Sprint(int(renewable.Seconds()), "s")}, args...)
					}
					if out, err := w.RunEnv([]string{"KRB5_CONFIG=" + never}, w.cache, w.Password+"\n", "kinit", args...); err != nil {
						t.Fatal(err, out)
					}
				},
				Requests: w.Requests,
				Lacks:    map[string]string{"watch": "macOS tells nobody that tickets have changed"},
			})
		})
	}
}

// Without tools the library alone says who is signed in and until when.
func TestAppleWithoutTools(t *testing.T) {
	testenv.NoLeaks(t)
	needLibrary(t, "heimdal")
	w := beginApple(t, heimdalGSS, appleSwitch+"_TOOLS=")
	if _, err := w.b.Status(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("got %v, want %v", err, ticket.ErrNoTicket)
	}
	w.signIn(t, time.Hour)
	st, err := w.b.Status(t.Context())
	if err != nil || st.Principal != "alice@WORLD.TEST" || st.Left(time.Now()) < 59*time.Minute || st.Cache != "API:alice@WORLD.TEST" {
		t.Errorf("got %+v, %v", st, err)
	}
	if _, err := w.b.Token(t.Context(), spn); err != nil {
		t.Error(err)
	}
	for op, err := range map[string]error{"renew": w.b.Renew(t.Context()), "sign out": w.b.SignOut(t.Context())} {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: got %v, want %v", op, err, errors.ErrUnsupported)
		}
	}
}

func TestAppleToolsAtWork(t *testing.T) {
	testenv.NoLeaks(t)
	needLibrary(t, "heimdal")
	w := beginApple(t, heimdalGSS)
	if err := w.b.Renew(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("renew: got %v, want %v", err, ticket.ErrNoTicket)
	}
	if _, err := w.b.do(t.Context(), AppleCall{Op: "sign in", Arg: "alice@WORLD.TEST", Password: w.Password}); err != nil {
		t.Fatal(err)
	}
	st, err := w.b.Status(t.Context())
	if err != nil || st.Cache != w.cache || !st.Renewable || st.RenewUntil.IsZero() {
		t.Errorf("got %+v, %v", st, err)
	}
	if err := w.b.Renew(t.Context(), spn); err != nil {
		t.Error(err)
	}
	list, err := w.b.Caches(t.Context())
	if err != nil || len(list) != 1 || !list[0].Used || len(list[0].Services) != 1 {
		t.Errorf("the service ticket was not fetched: %+v, %v", list, err)
	}
	w.signIn(t, time.Second)
	requests := w.Requests(t)
	time.Sleep(2 * time.Second) // the library's clock cannot be wound
	if err := w.b.Renew(t.Context()); !errors.Is(err, ticket.ErrExpired) || w.Requests(t) != requests {
		t.Errorf("expired: got %v after %d requests, want %v", err, w.Requests(t)-requests, ticket.ErrExpired)
	}
	w.signIn(t, time.Hour)
	if err := w.b.SignOut(t.Context()); err != nil {
		t.Error(err)
	}
	if err := w.b.SignOut(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("sign out: got %v, want %v", err, ticket.ErrNoTicket)
	}
}

// Of two signed-in people the one of the service's realm gets the token, even
// if the other is the default; and the configured cache is used whoever else
// there is.
func TestAppleChooses(t *testing.T) {
	testenv.NoLeaks(t)
	lib := withIterator(t)
	here, there := tickettest.StartKDC(t), tickettest.StartKDC(t, tickettest.WithRealm("OTHER.TEST"))
	a, b := "FILE:"+here.Dir+"/a", "FILE:"+here.Dir+"/b"
	here.Kinit(t, "alice", a)
	there.Kinit(t, "alice", b)
	env := here.Env("KRB5CCNAME="+b, "KERBPASS_TEST_CACHES="+a+" "+b, appleSwitch+"_TOOLS=1",
		"KRB5_CONFIG="+here.Krb5Conf+":"+there.Krb5Conf)
	for _, tt := range []struct{ cache, service, spn, want, status string }{
		{"", "", spn + "@WORLD.TEST", "alice@WORLD.TEST", b},
		{"", "", spn + "@OTHER.TEST", "alice@OTHER.TEST", b},
		{a, "", spn, "alice@WORLD.TEST", a},
		{"", spn + "@WORLD.TEST", spn, "alice@WORLD.TEST", a},
	} {
		child := startApple(t, lib, append(env, appleSwitch+"_CACHE="+tt.cache, appleSwitch+"_SERVICE="+tt.service)...)
		if st, err := child.Status(t.Context()); err != nil || st.Cache != tt.status {
			t.Errorf("%q: got %+v, %v; want %s", tt.cache, st, err, tt.status)
		}
		keytab := here.HTTPKeytab
		if strings.HasSuffix(tt.want, "OTHER.TEST") {
			keytab = there.HTTPKeytab
		}
		token, err := child.Token(t.Context(), tt.spn)
		if err != nil {
			t.Errorf("%s: %v", tt.spn, err)
			continue
		}
		if who, err := tickettest.Acceptor(t, keytab)(token); err != nil || who != tt.want {
			t.Errorf("%s: got %q, %v; want %s", tt.spn, who, err, tt.want)
		}
	}
}

// A list that does not come in time is given up; what it brings later is
// released and does no harm.
func TestAppleLateList(t *testing.T) {
	testenv.NoLeaks(t)
	w := beginApple(t, withIterator(t), "KERBPASS_TEST_STALL=300")
	w.signIn(t, time.Hour)
	for range 20 {
		if _, err := w.b.do(t.Context(), AppleCall{Op: "status", Timeout: 10 * time.Millisecond}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
	}
	if st, err := w.b.Status(t.Context()); err != nil || st.Principal != "alice@WORLD.TEST" {
		t.Errorf("got %+v, %v", st, err)
	}
}
