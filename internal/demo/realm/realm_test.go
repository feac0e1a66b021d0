package realm_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/spnego"

	"kerbpass/internal/demo/realm"
	"kerbpass/internal/testenv"
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
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func conf(t testing.TB, r *realm.Realm) *config.Config {
	t.Helper()
	c, err := config.Load(r.Krb5Conf())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signIn runs the library's own client against the KDC.
func signIn(t testing.TB, r *realm.Realm, user, password string, c *config.Config) (*client.Client, error) {
	t.Helper()
	cl := client.NewWithPassword(user, r.Name(), password, c, client.DisablePAFXFAST(true))
	t.Cleanup(cl.Destroy)
	return cl, cl.Login()
}

// token makes a SPNEGO token with the library's own code.
func token(t testing.TB, cl *client.Client, spn string) []byte {
	t.Helper()
	tkt, key, err := cl.GetServiceTicket(spn)
	if err != nil {
		t.Fatal(err)
	}
	init, err := spnego.NewNegTokenInitKRB5(cl, tkt, key)
	if err != nil {
		t.Fatal(err)
	}
	st := spnego.SPNEGOToken{Init: true, NegTokenInit: init}
	b, err := st.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func fromCache(t testing.TB, r *realm.Realm, path string) *client.Client {
	t.Helper()
	cc, err := credentials.LoadCCache(path)
	if err != nil {
		t.Fatal(err)
	}
	cl, err := client.NewFromCCache(cc, conf(t, r), client.DisablePAFXFAST(true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Destroy)
	return cl
}

func TestLibraryClient(t *testing.T) {
	for _, tt := range []struct {
		name     string
		udpLimit int
	}{{"tcp", 1}, {"udp", 32700}} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, realm.Config{})
			c := conf(t, r)
			c.LibDefaults.UDPPreferenceLimit = tt.udpLimit
			cl, err := signIn(t, r, "alice", "wonderland", c)
			if err != nil {
				t.Fatal(err)
			}
			got, err := r.Acceptor().Inspect(token(t, cl, proxy))
			if err != nil {
				t.Fatal(err)
			}
			if got.Client != "alice@DEMO.INVALID" || got.Service != proxy+"@DEMO.INVALID" || !got.SPNEGO || got.Mutual {
				t.Errorf("accepted %+v", got)
			}
			if left := time.Until(got.Expires); left < 9*time.Hour || left > 10*time.Hour {
				t.Errorf("ticket ends in %v, want just under 10h", left)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	r := start(t, realm.Config{})
	for _, tt := range []struct{ user, password, want string }{
		{"alice", "looking-glass", "KDC_ERR_PREAUTH_FAILED"},
		{"nobody", "x", "KDC_ERR_C_PRINCIPAL_UNKNOWN"},
		{"expired", "yesterday", "KDC_ERR_KEY_EXPIRED"},
		{"locked", "behind-bars", "KDC_ERR_CLIENT_REVOKED"},
	} {
		t.Run(tt.user, func(t *testing.T) {
			_, err := signIn(t, r, tt.user, tt.password, conf(t, r))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
	t.Run("service", func(t *testing.T) {
		cl, err := signIn(t, r, "alice", "wonderland", conf(t, r))
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = cl.GetServiceTicket("HTTP/elsewhere.demo.invalid")
		if err == nil || !strings.Contains(err.Error(), "KDC_ERR_S_PRINCIPAL_UNKNOWN") {
			t.Errorf("got %v, want KDC_ERR_S_PRINCIPAL_UNKNOWN", err)
		}
	})
	t.Run("other cipher", func(t *testing.T) {
		c := conf(t, r)
		c.LibDefaults.DefaultTktEnctypeIDs = []int32{17}
		_, err := signIn(t, r, "alice", "wonderland", c)
		if err == nil || !strings.Contains(err.Error(), "KDC_ERR_ETYPE_NOSUPP") {
			t.Errorf("got %v, want KDC_ERR_ETYPE_NOSUPP", err)
		}
	})
	t.Run("KDC clock", func(t *testing.T) {
		r := start(t, realm.Config{Clock: func() time.Time { return time.Now().Add(20 * time.Minute) }})
		_, err := signIn(t, r, "alice", "wonderland", conf(t, r))
		if err == nil || !strings.Contains(err.Error(), "KRB_AP_ERR_SKEW") {
			t.Errorf("got %v, want KRB_AP_ERR_SKEW", err)
		}
	})
	t.Run("expired TGT", func(t *testing.T) {
		path, err := r.Mint(realm.MintOptions{Start: time.Now().Add(-2 * time.Hour), End: time.Now().Add(-time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		err = exchange(t, r, fromCache(t, r, path), path, "HTTP/localhost", false)
		if err == nil || !strings.Contains(err.Error(), "KRB_AP_ERR_TKT_EXPIRED") {
			t.Errorf("got %v, want KRB_AP_ERR_TKT_EXPIRED", err)
		}
	})
}

// exchange sends one TGS request with the TGT found in a cache.
func exchange(t testing.TB, r *realm.Realm, cl *client.Client, path, sname string, renew bool) error {
	t.Helper()
	_, err := tgs(t, r, cl, path, sname, renew, nil)
	return err
}

func tgs(t testing.TB, r *realm.Realm, cl *client.Client, path, sname string, renew bool, change func(*messages.TGSReq)) (messages.TGSRep, error) {
	t.Helper()
	cc, err := credentials.LoadCCache(path)
	if err != nil {
		t.Fatal(err)
	}
	cred := cc.GetEntries()[0]
	var tgt messages.Ticket
	if err := tgt.Unmarshal(cred.Ticket); err != nil {
		t.Fatal(err)
	}
	name := cc.DefaultPrincipal.PrincipalName
	name.NameString = strings.Split(sname, "/")
	req, err := messages.NewTGSReq(cc.DefaultPrincipal.PrincipalName, r.Name(), conf(t, r), tgt, cred.Key, name, renew)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&req)
	}
	_, rep, err := cl.TGSExchange(req, r.Name(), tgt, cred.Key, 0)
	return rep, err
}

func TestRenew(t *testing.T) {
	r := start(t, realm.Config{})
	begin := time.Now().Add(-30 * time.Minute)
	path, err := r.Mint(realm.MintOptions{Start: begin, End: begin.Add(time.Hour), RenewUntil: begin.Add(5 * time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	cl := fromCache(t, r, path)
	rep, err := tgs(t, r, cl, path, "krbtgt/DEMO.INVALID", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	// A renewed ticket lives as long again as the old one did.
	if left := time.Until(rep.DecryptedEncPart.EndTime); left < 59*time.Minute || left > time.Hour {
		t.Errorf("renewed ticket ends in %v, want an hour", left)
	}
	if got, want := rep.DecryptedEncPart.RenewTill.Unix(), begin.Add(5*time.Hour).Unix(); got != want {
		t.Errorf("renewable until %d, want %d", got, want)
	}

	if path, err = r.Mint(realm.MintOptions{}); err != nil {
		t.Fatal(err)
	}
	err = exchange(t, r, fromCache(t, r, path), path, "krbtgt/DEMO.INVALID", true)
	if err == nil || !strings.Contains(err.Error(), "KDC_ERR_BADOPTION") {
		t.Errorf("renewing a ticket that is not renewable: got %v, want KDC_ERR_BADOPTION", err)
	}
}

// A request whose body was changed on the way carries the wrong checksum.
func TestBodyChecksum(t *testing.T) {
	r := start(t, realm.Config{})
	path, err := r.Mint(realm.MintOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = tgs(t, r, fromCache(t, r, path), path, proxy, false, func(req *messages.TGSReq) {
		req.ReqBody.SName.NameString = []string{"HTTP", "localhost"}
	})
	if err == nil || !strings.Contains(err.Error(), "KRB_AP_ERR_MODIFIED") {
		t.Errorf("got %v, want KRB_AP_ERR_MODIFIED", err)
	}
}

func TestMintedCacheNeedsNoKDC(t *testing.T) {
	r := start(t, realm.Config{})
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	path, err := r.Mint(realm.MintOptions{Cache: filepath.Join(t.TempDir(), "cc"), Services: []string{proxy}})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("cache mode %v (%v), want 0600", st.Mode(), err)
	}
	if who, err := r.Acceptor().Accept(token(t, fromCache(t, r, path), proxy)); err != nil || who != "alice@DEMO.INVALID" {
		t.Errorf("got %q, %v", who, err)
	}
	if _, err := r.Mint(realm.MintOptions{User: "mallory"}); err == nil {
		t.Error("minted a ticket for a user that does not exist")
	}
	if _, err := r.Mint(realm.MintOptions{Services: []string{"HTTP/elsewhere"}}); err == nil {
		t.Error("minted a ticket for a service that does not exist")
	}
}

func TestAcceptor(t *testing.T) {
	var offset time.Duration
	var mu sync.Mutex
	r := start(t, realm.Config{Clock: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(offset)
	}})
	shift := func(d time.Duration) { mu.Lock(); offset = d; mu.Unlock() }
	path, err := r.Mint(realm.MintOptions{Services: []string{proxy, "HTTP/localhost"}})
	if err != nil {
		t.Fatal(err)
	}
	cl := fromCache(t, r, path)
	other := start(t, realm.Config{})
	otherPath, err := other.Mint(realm.MintOptions{Services: []string{proxy}})
	if err != nil {
		t.Fatal(err)
	}
	acc := r.Acceptor(proxy)

	good := token(t, cl, proxy)
	if _, err := acc.Accept(good); err != nil {
		t.Fatal(err)
	}
	flip := func(b []byte, at int) []byte {
		b = bytes.Clone(b)
		b[at] ^= 1
		return b
	}
	second := token(t, cl, proxy)
	// A raw token and a bare AP-REQ are the inner parts of a SPNEGO token.
	raw := second[bytes.LastIndex(second, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x12, 1, 2, 2, 1, 0})+11:]
	for _, tt := range []struct {
		name  string
		token []byte
		shift time.Duration
		want  error
	}{
		{"replay", good, 0, realm.ErrReplay},
		{"bare AP-REQ", raw, 0, nil},
		{"replay in another wrapping", second, 0, realm.ErrReplay},
		{"other service", token(t, cl, "HTTP/localhost"), 0, realm.ErrWrongService},
		{"other realm of the same name", token(t, fromCache(t, other, otherPath), proxy), 0, realm.ErrMalformed},
		{"client clock ahead", token(t, cl, proxy), -6 * time.Minute, realm.ErrSkew},
		{"client clock behind", token(t, cl, proxy), 6 * time.Minute, realm.ErrSkew},
		{"client clock four minutes off", token(t, cl, proxy), 4 * time.Minute, nil},
		{"empty", nil, 0, realm.ErrMalformed},
		{"cut", good[:len(good)-1], 0, realm.ErrMalformed},
		{"flipped", flip(token(t, cl, proxy), len(good)-1), 0, realm.ErrMalformed},
		{"ntlm", []byte("NTLMSSP\x00\x01\x00\x00\x00"), 0, realm.ErrMalformed},
		{"too large", make([]byte, 1<<20), 0, realm.ErrMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			shift(tt.shift)
			defer shift(0)
			if _, err := acc.Accept(tt.token); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	for _, tt := range []struct {
		name string
		mint realm.MintOptions
		want error
	}{
		{"expired", realm.MintOptions{Start: time.Now().Add(-2 * time.Hour), End: time.Now().Add(-time.Hour)}, realm.ErrExpired},
		{"future", realm.MintOptions{Start: time.Now().Add(time.Hour)}, realm.ErrSkew},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.mint.Services = []string{proxy}
			path, err := r.Mint(tt.mint)
			if err != nil {
				t.Fatal(err)
			}
			cc, err := credentials.LoadCCache(path)
			if err != nil {
				t.Fatal(err)
			}
			var tkt messages.Ticket
			cred := cc.GetEntries()[1]
			if err := tkt.Unmarshal(cred.Ticket); err != nil {
				t.Fatal(err)
			}
			init, err := spnego.NewNegTokenInitKRB5(cl, tkt, cred.Key)
			if err != nil {
				t.Fatal(err)
			}
			st := spnego.SPNEGOToken{Init: true, NegTokenInit: init}
			b, err := st.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := acc.Accept(b); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// One of many at once with the same token is let in, the rest are replays.
func TestAcceptorConcurrentReplay(t *testing.T) {
	r := start(t, realm.Config{})
	path, err := r.Mint(realm.MintOptions{Services: []string{proxy}})
	if err != nil {
		t.Fatal(err)
	}
	tok, acc := token(t, fromCache(t, r, path), proxy), r.Acceptor()
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Go(func() { _, errs[i] = acc.Accept(tok) })
	}
	wg.Wait()
	accepted := 0
	for _, err := range errs {
		if err == nil {
			accepted++
		} else if !errors.Is(err, realm.ErrReplay) {
			t.Error(err)
		}
	}
	if accepted != 1 {
		t.Errorf("accepted %d times, want once", accepted)
	}
}

func TestPauseResume(t *testing.T) {
	r := start(t, realm.Config{})
	r.Pause()
	r.Pause()
	done := make(chan error, 1)
	cl := client.NewWithPassword("alice", r.Name(), "wonderland", conf(t, r), client.DisablePAFXFAST(true))
	t.Cleanup(cl.Destroy)
	go func() { done <- cl.Login() }()
	select {
	case err := <-done:
		t.Fatalf("a paused KDC answered: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	r.Resume()
	if err := <-done; err != nil {
		t.Errorf("after Resume: %v", err)
	}
}

func TestStopRestart(t *testing.T) {
	r := start(t, realm.Config{})
	addr := r.Addr()
	hang, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer hang.Close()
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("a stopped KDC accepts connections")
	}
	if err := r.Restart(); err != nil {
		t.Fatal(err)
	}
	if _, err := signIn(t, r, "alice", "wonderland", conf(t, r)); err != nil {
		t.Errorf("after Restart: %v", err)
	}
	if err := r.Restart(); err == nil {
		t.Error("a running KDC was started a second time")
	}
}

// A length that promises more than a request can hold ends the connection.
func TestTCPLengthCap(t *testing.T) {
	r := start(t, realm.Config{})
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte{0x7f, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes, %v; want a closed connection", n, err)
	}
}

func TestConfigErrors(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name string
		cfg  realm.Config
		want string
	}{
		{"no folder", realm.Config{}, "Config.Dir"},
		{"folder missing", realm.Config{Dir: filepath.Join(dir, "x")}, "x"},
		{"realm name", realm.Config{Dir: dir, Name: "a b"}, "realm name"},
		{"user twice", realm.Config{Dir: dir, Users: []realm.User{{Name: "a", Password: "b"}, {Name: "a", Password: "b"}}}, `user "a"`},
		{"service", realm.Config{Dir: dir, Services: []realm.Service{{Name: "proxy"}}}, `service "proxy"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := realm.Start(tt.cfg)
			if err == nil {
				r.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want it to name %q", err, tt.want)
			}
		})
	}
}

func TestLogTellsNoSecrets(t *testing.T) {
	var out bytes.Buffer
	r := start(t, realm.Config{Log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	cl, err := signIn(t, r, "alice", "wonderland", conf(t, r))
	if err != nil {
		t.Fatal(err)
	}
	token(t, cl, proxy)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), proxy) {
		t.Errorf("the log does not name the service: %s", &out)
	}
	if s := testenv.Secret(out.String(), "wonderland"); s != "" {
		t.Errorf("the log holds %q", s)
	}
}

func TestKeytabFile(t *testing.T) {
	r := start(t, realm.Config{})
	kt, err := keytab.Load(r.Keytab())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(kt.Entries), len(realm.DemoServices()); got != want {
		t.Errorf("keytab has %d entries, want %d", got, want)
	}
}

// mit runs an MIT program against the realm.
func mit(t *testing.T, r *realm.Realm, cache, stdin, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testenv.Tool(t, name), args...)
	cmd.Env = []string{"KRB5_CONFIG=" + r.Krb5Conf(), "KRB5CCNAME=" + cache, "LC_ALL=C", "TZ=UTC", "PATH=" + os.Getenv("PATH")}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestMITClients(t *testing.T) {
	r := start(t, realm.Config{})
	cache := filepath.Join(t.TempDir(), "cc")
	steps := []struct {
		name, stdin, want string
		argv              []string
	}{
		{"kinit", "wonderland\n", "", []string{"kinit", "-r", "7d", "alice"}},
		{"renew", "", "", []string{"kinit", "-R"}},
		{"kvno", "", "kvno = 1", []string{"kvno", proxy}},
		{"klist", "", proxy + "@DEMO.INVALID", []string{"klist"}},
	}
	for _, s := range steps {
		out, err := mit(t, r, cache, s.stdin, s.argv[0], s.argv[1:]...)
		if err != nil || !strings.Contains(out, s.want) {
			t.Fatalf("%s: %v\n%s", s.name, err, out)
		}
	}
	if who, err := r.Acceptor().Accept(token(t, fromCache(t, r, cache), proxy)); err != nil || who != "alice@DEMO.INVALID" {
		t.Errorf("token from kinit's cache: %q, %v", who, err)
	}
	for _, tt := range []struct {
		name, stdin, want string
		argv              []string
	}{
		{"wrong password", "x\n", "Password incorrect", []string{"kinit", "alice"}},
		{"unknown user", "x\n", "not found in Kerberos database", []string{"kinit", "nobody"}},
		{"locked", "x\n", "credentials have been revoked", []string{"kinit", "locked"}},
		{"expired", "yesterday\n", "Password has expired", []string{"kinit", "expired"}},
		{"unknown service", "", "not found in Kerberos database", []string{"kvno", "HTTP/elsewhere.demo.invalid"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := mit(t, r, cache, tt.stdin, tt.argv[0], tt.argv[1:]...)
			if err == nil || !strings.Contains(out, tt.want) {
				t.Errorf("%v: %v\n%s", tt.argv, err, out)
			}
		})
	}
}

func TestMITMintedCache(t *testing.T) {
	r := start(t, realm.Config{})
	for _, tt := range []struct {
		name string
		mint realm.MintOptions
		code int // klist -s: 0 for a usable TGT
	}{
		{"fresh", realm.MintOptions{Services: []string{proxy}}, 0},
		{"expired", realm.MintOptions{Start: time.Now().Add(-2 * time.Hour), End: time.Now().Add(-time.Hour)}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path, err := r.Mint(tt.mint)
			if err != nil {
				t.Fatal(err)
			}
			out, err := mit(t, r, path, "", "klist", "-s")
			code := 0
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				code = exit.ExitCode()
			}
			if code != tt.code {
				t.Errorf("klist -s: exit %d, want %d\n%s", code, tt.code, out)
			}
		})
	}
	// MIT learns the KDC's clock from its answer.
	skewed := start(t, realm.Config{Clock: func() time.Time { return time.Now().Add(20 * time.Minute) }})
	cache := filepath.Join(t.TempDir(), "cc")
	if out, err := mit(t, skewed, cache, "wonderland\n", "kinit", "alice"); err != nil {
		t.Errorf("kinit with a skewed KDC: %v\n%s", err, out)
	}
	if out, err := mit(t, skewed, cache, "", "kvno", proxy); err != nil {
		t.Errorf("kvno with a skewed KDC: %v\n%s", err, out)
	}
}
