package krb5_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
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

const proxy = "HTTP/proxy.demo.invalid"

func start(t testing.TB, cfg realm.Config) *realm.Realm {
	t.Helper()
	testenv.NoLeaks(t)
	cfg.Dir = t.TempDir()
	r, err := realm.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func mint(t testing.TB, r *realm.Realm, o realm.MintOptions) string {
	t.Helper()
	path, err := r.Mint(o)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// open makes a backend on the realm's default cache, which krb5.conf names.
func open(t testing.TB, r *realm.Realm) *krb5.Backend {
	t.Helper()
	b, err := krb5.New(krb5.Config{ConfigPath: r.Krb5Conf()})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestToken(t *testing.T) {
	for _, tt := range []struct {
		name     string
		services []string
		spn      string
	}{
		{"service ticket from the KDC", nil, proxy},
		{"service ticket from the cache", []string{"HTTP/localhost", proxy}, proxy},
		{"realm given", nil, proxy + "@DEMO.INVALID"},
		{"host without a realm", nil, "HTTP/127.0.0.1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, realm.Config{})
			mint(t, r, realm.MintOptions{Services: tt.services})
			if tt.services != nil {
				if err := r.Stop(); err != nil {
					t.Fatal(err)
				}
			}
			token, err := open(t, r).Token(t.Context(), tt.spn)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Acceptor().Inspect(token)
			if err != nil {
				t.Fatal(err)
			}
			service, _, _ := strings.Cut(tt.spn, "@")
			if got.Client != "alice@DEMO.INVALID" || got.Service != service+"@DEMO.INVALID" {
				t.Errorf("token of %s for %s", got.Client, got.Service)
			}
			const delegate, mutual = 1, 2
			if !got.SPNEGO || got.Mutual || got.Flags&(delegate|mutual) != 0 {
				t.Errorf("token %+v, want SPNEGO without mutual authentication and delegation", got)
			}
		})
	}
}

// The KDC is asked once for a service; later tokens come from memory, and the
// user's cache stays as it was.
func TestServiceTicketIsKeptInMemory(t *testing.T) {
	r := start(t, realm.Config{})
	path := mint(t, r, realm.MintOptions{})
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, acc := open(t, r), r.Acceptor()
	for i := range 3 {
		token, err := b.Token(t.Context(), proxy)
		if err != nil {
			t.Fatalf("token %d: %v", i, err)
		}
		if _, err := acc.Accept(token); err != nil {
			t.Errorf("token %d: %v", i, err)
		}
		if err := r.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the cache file was changed (%v)", err)
	}
}

func TestConcurrentTokensDiffer(t *testing.T) {
	var log bytes.Buffer // read after the KDC has ended
	r := start(t, realm.Config{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	mint(t, r, realm.MintOptions{})
	b, acc := open(t, r), r.Acceptor(proxy)
	var wg sync.WaitGroup
	errs := make([]error, 200)
	for i := range errs {
		wg.Go(func() {
			token, err := b.Token(t.Context(), proxy)
			if err == nil {
				_, err = acc.Accept(token) // refuses what it has seen
			}
			errs[i] = err
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "exchange=TGS"); n != 1 {
		t.Errorf("the KDC was asked %d times, want once", n)
	}
}

// A ticket that is over is told from the cache alone, off the network too.
func TestExpiredNeedsNoKDC(t *testing.T) {
	r := start(t, realm.Config{})
	mint(t, r, realm.MintOptions{Start: time.Now().Add(-2 * time.Hour), End: time.Now().Add(-time.Hour)})
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, r).Token(t.Context(), proxy); !errors.Is(err, ticket.ErrExpired) {
		t.Errorf("got %v, want %v", err, ticket.ErrExpired)
	}
}

func TestTokenErrors(t *testing.T) {
	now := time.Now()
	r := start(t, realm.Config{})
	for _, tt := range []struct {
		name string
		mint realm.MintOptions
		spn  string
		want error
	}{
		{"expired", realm.MintOptions{Start: now.Add(-2 * time.Hour), End: now.Add(-time.Hour), Services: []string{proxy}}, proxy, ticket.ErrExpired},
		{"not valid yet", realm.MintOptions{Start: now.Add(time.Hour)}, proxy, ticket.ErrClockSkew},
		{"no TGT", realm.MintOptions{NoTGT: true, Services: []string{proxy}}, proxy, ticket.ErrNoTicket},
		{"unknown service", realm.MintOptions{}, "HTTP/elsewhere.demo.invalid", ticket.ErrSPNUnknown},
		{"unknown realm", realm.MintOptions{}, proxy + "@OTHER.INVALID", ticket.ErrSPNUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mint(t, r, tt.mint)
			token, err := open(t, r).Token(t.Context(), tt.spn)
			if !errors.Is(err, tt.want) || token != nil {
				t.Errorf("got %v, want %v", err, tt.want)
			}
			if op, ok := errors.AsType[*ticket.OpError](err); !ok || op.Op != "token" || op.Subject != tt.spn {
				t.Errorf("error %#v does not say what failed", err)
			}
		})
	}
	for _, spn := range []string{"", "HTTP", "HTTP/", "/host", "HTTP/a b", "HTTP/host@", "HTTP/h@R@S", "HTTP/h/i", "krbtgt/DEMO.INVALID", "HTTP/h\x00"} {
		if _, err := open(t, r).Token(t.Context(), spn); err == nil || !strings.Contains(err.Error(), "is not of the form") {
			t.Errorf("SPN %q: got %v", spn, err)
		}
	}
}

func TestClockSkewFromKDC(t *testing.T) {
	// The cache says nothing of an offset, so the KDC's refusal is the answer.
	r := start(t, realm.Config{Clock: func() time.Time { return time.Now().Add(20 * time.Minute) }})
	mint(t, r, realm.MintOptions{Start: time.Now()})
	if _, err := open(t, r).Token(t.Context(), proxy); !errors.Is(err, ticket.ErrClockSkew) {
		t.Errorf("got %v, want %v", err, ticket.ErrClockSkew)
	}
}

func TestKDCPortClosed(t *testing.T) {
	r := start(t, realm.Config{})
	mint(t, r, realm.MintOptions{})
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	b := open(t, r)
	if _, err := b.Token(t.Context(), proxy); !errors.Is(err, ticket.ErrKDCUnreachable) {
		t.Errorf("got %v, want %v", err, ticket.ErrKDCUnreachable)
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Token(t.Context(), proxy); err != nil {
		t.Errorf("KDC back: %v", err)
	}
}

func TestKDCHangs(t *testing.T) {
	r := start(t, realm.Config{})
	mint(t, r, realm.MintOptions{})
	r.Pause()
	b := open(t, r)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := b.Token(ctx, proxy)
	if !errors.Is(err, ticket.ErrKDCUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want %v and %v", err, ticket.ErrKDCUnreachable, context.DeadlineExceeded)
	}
	// A hanging KDC holds up nobody who does not need it.
	mint(t, r, realm.MintOptions{Services: []string{"HTTP/localhost"}})
	if _, err := b.Token(t.Context(), "HTTP/localhost"); err != nil {
		t.Errorf("cached service while the KDC hangs: %v", err)
	}
	r.Resume()
	if _, err := b.Token(t.Context(), proxy); err != nil {
		t.Errorf("after the KDC came back: %v", err)
	}
}

func TestSecondKDC(t *testing.T) {
	r := start(t, realm.Config{})
	mint(t, r, realm.MintOptions{})
	confText, err := os.ReadFile(r.Krb5Conf())
	if err != nil {
		t.Fatal(err)
	}
	dead := testenv.FreePort(t)
	two := strings.Replace(string(confText), "kdc = ", "kdc = 127.0.0.1:"+strconv.Itoa(dead)+"\n        kdc = ", 1)
	path := filepath.Join(t.TempDir(), "krb5.conf")
	if err := os.WriteFile(path, []byte(two), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := krb5.New(krb5.Config{ConfigPath: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Token(t.Context(), proxy); err != nil {
		t.Error(err)
	}
}

// The state made from a cache goes with it: a new ticket is seen at the next
// call, and a ticket that went away is not used any more.
func TestCacheReplacedWhileRunning(t *testing.T) {
	r := start(t, realm.Config{})
	b := open(t, r)
	if _, err := b.Token(t.Context(), proxy); !errors.Is(err, ticket.ErrNoTicket) {
		t.Fatalf("no cache yet: got %v, want %v", err, ticket.ErrNoTicket)
	}
	stamps := map[string]bool{b.Stamp(): true}
	changed := func(what string) {
		t.Helper()
		if s := b.Stamp(); stamps[s] {
			t.Errorf("%s: the stamp did not change", what)
		} else if s != b.Stamp() {
			t.Errorf("%s: the stamp changed by itself", what)
		} else {
			stamps[s] = true
		}
	}
	mint(t, r, realm.MintOptions{})
	changed("minted")
	for _, user := range []string{"alice", "shorty", "alice"} {
		mint(t, r, realm.MintOptions{User: user})
		changed(user)
		token, err := b.Token(t.Context(), proxy)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := r.Acceptor().Accept(token); err != nil || who != user+"@DEMO.INVALID" {
			t.Errorf("token of %s (%v), want %s", who, err, user)
		}
	}
	if err := os.Remove(r.CachePath()); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Token(t.Context(), proxy); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("cache removed: got %v, want %v", err, ticket.ErrNoTicket)
	}
}

func TestReplacingNeverFailsAToken(t *testing.T) {
	r := start(t, realm.Config{})
	mint(t, r, realm.MintOptions{Services: []string{proxy}})
	b := open(t, r)
	done := make(chan error, 1)
	go func() {
		var err error
		for range 50 {
			if _, e := r.Mint(realm.MintOptions{Services: []string{proxy}}); e != nil {
				err = e
			}
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			return
		default:
			if _, err := b.Token(t.Context(), proxy); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestStatus(t *testing.T) {
	r := start(t, realm.Config{})
	b := open(t, r)
	cache := "FILE:" + r.CachePath()
	st, err := b.Status(t.Context())
	if !errors.Is(err, ticket.ErrNoTicket) || st != (ticket.Status{Cache: cache}) {
		t.Errorf("no cache: %+v, %v", st, err)
	}
	begin := time.Now().Add(-time.Hour).Truncate(time.Second).UTC()
	want := ticket.Status{
		Principal: "alice@DEMO.INVALID", Realm: "DEMO.INVALID", Cache: cache,
		Start: begin, Expires: begin.Add(30 * time.Minute), RenewUntil: begin.Add(24 * time.Hour), Renewable: true,
	}
	mint(t, r, realm.MintOptions{Start: begin, End: want.Expires, RenewUntil: want.RenewUntil})
	if st, err := b.Status(t.Context()); err != nil || st != want {
		t.Errorf("expired ticket:\ngot  %+v, %v\nwant %+v", st, err, want)
	}
	for name, content := range map[string]string{"corrupt": "\x05\x04\x00\x0cgarbage", "text": "hello"} {
		if err := os.WriteFile(r.CachePath(), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if st, err := b.Status(t.Context()); !errors.Is(err, ticket.ErrCache) || st.Cache != cache {
			t.Errorf("%s: %+v, %v; want %v", name, st, err, ticket.ErrCache)
		}
	}
	if err := os.WriteFile(r.CachePath(), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Status(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("empty file: got %v, want %v", err, ticket.ErrNoTicket)
	}
}

func TestCaches(t *testing.T) {
	r := start(t, realm.Config{})
	end := time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	begin := end.Add(-2 * time.Hour)
	dir := t.TempDir()
	mint(t, r, realm.MintOptions{Cache: filepath.Join(dir, "tkt"), Start: begin, End: end, RenewUntil: end.Add(time.Hour), Services: []string{proxy}})
	mint(t, r, realm.MintOptions{Cache: filepath.Join(dir, "tktshorty"), User: "shorty"})
	for name, content := range map[string]string{"primary": "tktshorty\n", "tktbroken": "\x05\x04", "tktempty": "", "other": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := krb5.New(krb5.Config{ConfigPath: r.Krb5Conf(), Getenv: func(name string) string {
		return map[string]string{"KRB5CCNAME": "DIR:" + dir}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Caches(t.Context())
	if err != nil || len(got) != 3 {
		t.Fatalf("got %+v, %v; want three caches", got, err)
	}
	const preAuthent = ticket.Flags(1 << 21)
	want := ticket.Cache{
		Name: "DIR::" + dir + "/tkt", Principal: "alice@DEMO.INVALID", Realm: "DEMO.INVALID", Expires: end,
		TGTs: []ticket.Ticket{{
			Server: "krbtgt/DEMO.INVALID@DEMO.INVALID", Start: begin, Expires: end, RenewUntil: end.Add(time.Hour),
			Flags: ticket.FlagInitial | ticket.FlagRenewable | preAuthent, EncType: 18,
		}},
		Services: []ticket.Ticket{{Server: proxy + "@DEMO.INVALID", Start: begin, Expires: end, Flags: preAuthent, EncType: 18}},
	}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("first cache:\ngot  %+v\nwant %+v", got[0], want)
	}
	if c := got[1]; c.Name != "DIR::"+dir+"/tktbroken" || !errors.Is(c.Err, ticket.ErrCache) || c.Principal != "" {
		t.Errorf("damaged cache %+v", c)
	}
	if c := got[2]; c.Principal != "shorty@DEMO.INVALID" || !c.Default || !c.Used {
		t.Errorf("third cache %+v", c)
	}
	// The primary is what Token and Status use, and switching it is a change.
	token, err := b.Token(t.Context(), proxy)
	if err != nil {
		t.Fatal(err)
	}
	if who, err := r.Acceptor().Accept(token); err != nil || who != "shorty@DEMO.INVALID" {
		t.Errorf("token of %s, %v", who, err)
	}
	before := b.Stamp()
	if err := os.WriteFile(filepath.Join(dir, "primary"), []byte("tkt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b.Stamp() == before {
		t.Error("switching the primary did not change the stamp")
	}
	if st, err := b.Status(t.Context()); err != nil || st.Principal != "alice@DEMO.INVALID" || st.Cache != "DIR::"+dir+"/tkt" {
		t.Errorf("after the switch: %+v, %v", st, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "primary"), []byte("tkt/../../x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Status(t.Context()); !errors.Is(err, ticket.ErrCache) {
		t.Errorf("primary outside the folder: got %v, want %v", err, ticket.ErrCache)
	}
}

func TestUnsupportedCacheTypes(t *testing.T) {
	for _, name := range []string{"KEYRING:persistent:0", "KCM:", "MEMORY:x", "API:x", "MSLSA:"} {
		_, err := krb5.New(krb5.Config{Cache: name})
		kind, _, _ := strings.Cut(name, ":")
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), kind) || !strings.Contains(err.Error(), "KRB5CCNAME=FILE:") {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The same, where krb5.conf names it: known only when it is read.
	path := filepath.Join(t.TempDir(), "krb5.conf")
	if err := os.WriteFile(path, []byte("[libdefaults]\n default_ccache_name = KEYRING:persistent:%{uid}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := krb5.New(krb5.Config{ConfigPath: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Status(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want %v", err, errors.ErrUnsupported)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	r := start(t, realm.Config{})
	for _, tt := range []struct {
		name, want string
		make       func(path string) error
	}{
		{"folder", "not a regular file", func(p string) error { return os.Mkdir(p, 0o700) }},
		{"pipe", "not a regular file", mkfifo},
		{"huge", "larger than", func(p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 5<<20))
		}},
		{"somebody else's", "does not belong", func(p string) error {
			testenv.Root(t)
			_, err := r.Mint(realm.MintOptions{Cache: p})
			return errors.Join(err, os.Chown(p, 12345, 12345))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cc")
			if err := tt.make(path); err != nil {
				testenv.Missing(t, "a %s: %v", tt.name, err)
			}
			b, err := krb5.New(krb5.Config{Cache: path, ConfigPath: r.Krb5Conf()})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Status(t.Context()); !errors.Is(err, ticket.ErrCache) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %v that says %q", err, ticket.ErrCache, tt.want)
			}
		})
	}
}

func TestConfigFileErrorNamesTheLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "krb5.conf")
	if err := os.WriteFile(path, []byte("[realms]\n R = {\n  kdc = x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := krb5.New(krb5.Config{Cache: filepath.Join(t.TempDir(), "none"), ConfigPath: path})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Status(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want it to name %s", err, path)
	}
	// A repaired file is read again.
	if err := os.WriteFile(path, []byte("[realms]\n R = {\n  kdc = x\n }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Status(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
		t.Errorf("repaired: got %v, want %v", err, ticket.ErrNoTicket)
	}
}

func TestLogTellsNoSecrets(t *testing.T) {
	var out bytes.Buffer
	r := start(t, realm.Config{})
	mint(t, r, realm.MintOptions{})
	b, err := krb5.New(krb5.Config{ConfigPath: r.Krb5Conf(), Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Token(t.Context(), proxy); err != nil {
		t.Fatal(err)
	}
	if out.Len() == 0 {
		t.Error("nothing was logged")
	}
	if s := testenv.Secret(out.String()); s != "" {
		t.Errorf("the log holds %q", s)
	}
}

// kinit writes the cache, a skewed KDC included: MIT notes the offset in it,
// and this backend goes by it.
func TestKinitCache(t *testing.T) {
	kinit := testenv.Tool(t, "kinit")
	for _, tt := range []struct {
		name   string
		offset time.Duration
	}{{"clocks agree", 0}, {"KDC ahead", 20 * time.Minute}, {"KDC behind", -20 * time.Minute}} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, realm.Config{Clock: func() time.Time { return time.Now().Add(tt.offset) }})
			cmd := exec.CommandContext(t.Context(), kinit, "-l", "1h", "-r", "2h", "alice")
			cmd.Env = []string{"KRB5_CONFIG=" + r.Krb5Conf(), "LC_ALL=C"}
			cmd.Stdin = strings.NewReader("wonderland\n")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			b := open(t, r)
			st, err := b.Status(t.Context())
			if left := time.Until(st.Expires); err != nil || left < 55*time.Minute || left > 61*time.Minute || !st.Renewable {
				t.Errorf("status %+v, %v; want about an hour left", st, err)
			}
			token, err := b.Token(t.Context(), proxy)
			if err != nil {
				t.Fatal(err)
			}
			if who, err := r.Acceptor().Accept(token); err != nil || who != "alice@DEMO.INVALID" {
				t.Errorf("got %q, %v", who, err)
			}
		})
	}
}

// Squid's own helper judges the token, with MIT's library behind it.
func TestSquidHelperAccepts(t *testing.T) {
	r := start(t, realm.Config{})
	mint(t, r, realm.MintOptions{})
	accept := tickettest.Acceptor(t, r.Keytab())
	b := open(t, r)
	for range 3 {
		token, err := b.Token(t.Context(), proxy)
		if err != nil {
			t.Fatal(err)
		}
		if who, err := accept(token); err != nil || who != "alice@DEMO.INVALID" {
			t.Errorf("got %q, %v", who, err)
		}
		if who, err := accept(token); err == nil {
			t.Errorf("the helper took a token twice, from %q", who)
		}
	}
}

// A real MIT KDC and the cache its kinit wrote.
func TestMITKDC(t *testing.T) {
	testenv.NoLeaks(t)
	k := tickettest.StartKDC(t)
	cache := "FILE:" + filepath.Join(t.TempDir(), "cc")
	k.Kinit(t, "alice", cache)
	b, err := krb5.New(krb5.Config{Cache: cache, ConfigPath: k.Krb5Conf})
	if err != nil {
		t.Fatal(err)
	}
	token, err := b.Token(t.Context(), "HTTP/proxy.world.test")
	if err != nil {
		t.Fatal(err)
	}
	if who, err := tickettest.Acceptor(t, k.HTTPKeytab)(token); err != nil || who != "alice@"+k.Realm {
		t.Errorf("got %q, %v", who, err)
	}
	if _, err := b.Token(t.Context(), "HTTP/elsewhere.world.test"); !errors.Is(err, ticket.ErrSPNUnknown) {
		t.Errorf("got %v, want %v", err, ticket.ErrSPNUnknown)
	}
}

func BenchmarkToken(b *testing.B) {
	r := start(b, realm.Config{})
	mint(b, r, realm.MintOptions{Services: []string{proxy}})
	k := open(b, r)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Token(b.Context(), proxy); err != nil {
			b.Fatal(err)
		}
	}
}

// A ticket of Microsoft's cloud is not taken for the company's, even if it is
// the only one.
func TestCloudTicketIsNone(t *testing.T) {
	kdc := tickettest.StartKDC(t, tickettest.WithRealm(ticket.CloudRealm))
	for _, cache := range []string{"FILE:" + t.TempDir() + "/cc", "DIR:" + t.TempDir()} {
		kdc.Kinit(t, "alice", cache)
		b, err := krb5.New(krb5.Config{Cache: cache, ConfigPath: kdc.Krb5Conf})
		if err != nil {
			t.Fatal(err)
		}
		if st, err := b.Status(t.Context()); !errors.Is(err, ticket.ErrNoTicket) {
			t.Errorf("%s: status %+v, %v", cache, st, err)
		}
		if _, err := b.Token(t.Context(), "HTTP/localhost"); !errors.Is(err, ticket.ErrNoTicket) {
			t.Errorf("%s: token: %v", cache, err)
		}
		list, err := b.Caches(t.Context())
		if err != nil || len(list) != 1 || len(list[0].TGTs) != 1 || !list[0].TGTs[0].Cloud() {
			t.Errorf("%s: caches %+v, %v", cache, list, err)
		}
	}
}
