package tickettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// KDC is a running MIT KDC with a realm of its own. Its principals are alice
// (renewable), shorty (tickets of one minute, renewable for ten), brief (of
// five seconds, renewable for one minute), expired (the password has), locked
// (may not have tickets), and the services HTTP/localhost, HTTP/127.0.0.1 and
// HTTP/proxy.world.test.
type KDC struct {
	Realm      string
	Dir        string // everything the KDC owns; removed with the test
	Krb5Conf   string // a client's krb5.conf
	HTTPKeytab string // keys of the HTTP services
	UserKeytab string // key of alice
	Port       int    // TCP and UDP on 127.0.0.1
	Password   string // of every user

	config      kdcConfig
	kpasswdPort int // 0 without kadmind, as the next
	adminPort   int
	trusted     []*KDC

	kdc, kadmind *daemon // nil while stopped
}

// A KDCOption changes the realm that [StartKDC] makes.
type KDCOption func(*kdcConfig)

type kdcConfig struct {
	realm       string
	spns        []string
	libdefaults []string
	kpasswd     bool
	primary     string
	otp         *otpServer
}

type otpServer struct{ addr, secret string }

// WithRealm names the realm; the default is WORLD.TEST.
func WithRealm(name string) KDCOption { return func(c *kdcConfig) { c.realm = name } }

// WithSPN adds service principals ("HTTP/host"); their keys are in HTTPKeytab.
func WithSPN(spn ...string) KDCOption {
	return func(c *kdcConfig) { c.spns = append(c.spns, spn...) }
}

// WithLibdefaults adds lines ("kcm_socket = …") to [libdefaults].
func WithLibdefaults(line ...string) KDCOption {
	return func(c *kdcConfig) { c.libdefaults = append(c.libdefaults, line...) }
}

// WithKpasswd also starts kadmind, so that users can change their passwords.
// One of less than [MinPassword] characters, or the present one, is rejected.
func WithKpasswd() KDCOption { return func(c *kdcConfig) { c.kpasswd = true } }

// MinPassword is the length that the realm's policy asks of a new password.
const MinPassword = 8

// WithPrimary makes host, another loopback address such as 127.0.0.2, a second
// way to the same KDC, and calls it the primary in krb5.conf. A library that
// asks the primary again after a refusal then makes two attempts.
func WithPrimary(host string) KDCOption { return func(c *kdcConfig) { c.primary = host } }

// WithOTP adds the user otp, whose one-time passwords the RADIUS server at addr
// judges. The client has to come with FAST armour ("kinit -T").
func WithOTP(addr, secret string) KDCOption {
	return func(c *kdcConfig) { c.otp = &otpServer{addr, secret} }
}

// StartKDC makes a realm and starts its KDC; both are gone when t ends. It
// needs no privilege.
func StartKDC(t testing.TB, opts ...KDCOption) *KDC {
	t.Helper()
	testenv.Tool(t, "krb5kdc")
	testenv.Tool(t, "kinit")
	c := kdcConfig{realm: "WORLD.TEST", spns: []string{"HTTP/localhost", "HTTP/127.0.0.1", "HTTP/proxy.world.test"}}
	for _, o := range opts {
		o(&c)
	}
	if c.kpasswd {
		testenv.Tool(t, "kadmind")
	}
	dir := t.TempDir()
	k := &KDC{
		Realm: c.realm, Dir: dir, Password: "Correct-horse-7",
		Krb5Conf:   filepath.Join(dir, "krb5.conf"),
		HTTPKeytab: filepath.Join(dir, "http.keytab"),
		UserKeytab: filepath.Join(dir, "user.keytab"),
		config:     c,
	}
	k.takePorts(t)
	k.makeDatabase(t)
	t.Cleanup(k.Stop)
	for range 3 { // a port that was free may be taken by now
		if k.start(t) == nil {
			return k
		}
		k.takePorts(t)
	}
	k.Start(t)
	return k
}

func (k *KDC) makeDatabase(t testing.TB) {
	t.Helper()
	k.tool(t, "", testenv.Tool(t, "kdb5_util"), "-r", k.Realm, "create", "-s", "-W", "-P", "master-key-of-a-test")
	var script strings.Builder
	principals := 0
	line := func(format string, args ...any) {
		fmt.Fprintf(&script, format+"\n", args...)
		if strings.HasPrefix(format, "addprinc") {
			principals++
		}
	}
	line("addpol -minlength %d users", MinPassword)
	line("modprinc -maxlife 10h -maxrenewlife 7d +allow_renewable krbtgt/%s", k.Realm)
	line("addprinc -pw %s -maxrenewlife 7d +requires_preauth alice", k.Password)
	line(`addprinc -pw %s -maxlife "1 minute" -maxrenewlife "10 minutes" +requires_preauth shorty`, k.Password)
	line(`addprinc -pw %s -maxlife "5 seconds" -maxrenewlife "1 minute" +requires_preauth brief`, k.Password)
	line(k.addExpired())
	line("addprinc -pw %s -allow_tix locked", k.Password)
	line("ktadd -norandkey -k %s alice", k.UserKeytab)
	for _, spn := range k.config.spns {
		line("addprinc -randkey -maxrenewlife 7d %s", spn)
		line("ktadd -k %s %s", k.HTTPKeytab, spn)
	}
	if k.config.otp != nil {
		line("addprinc -nokey +requires_preauth otp")
		line("setstr otp otp [{}]") // one token of the type DEFAULT
	}
	out := k.kadmin(t, script.String())
	if n := strings.Count(out, "created."); n != principals {
		t.Fatalf("kadmin.local made %d principals, want %d:\n%s", n, principals, out)
	}
}

// kadmin runs a script of kadmin.local on the realm's database, which works
// beside a running KDC, and returns what it printed.
func (k *KDC) kadmin(t testing.TB, script string) string {
	t.Helper()
	return k.tool(t, script, testenv.Tool(t, "kadmin.local"), "-r", k.Realm)
}

// Trust makes k and other trust each other: each gets the keys of the way
// there and back, and the krb5.conf of both name both realms. Hosts below the
// realm's name in lower letters are the realm's.
func (k *KDC) Trust(t testing.TB, other *KDC) {
	t.Helper()
	for _, r := range []*KDC{k, other} {
		r.kadmin(t, fmt.Sprintf("addprinc -pw %[3]s krbtgt/%[1]s@%[2]s\naddprinc -pw %[3]s krbtgt/%[2]s@%[1]s\n",
			k.Realm, other.Realm, "key-of-a-trust-in-a-test"))
	}
	k.trusted, other.trusted = append(k.trusted, other), append(other.trusted, k)
	k.writeKrb5Conf(t, k.Krb5Conf, k.Addr())
	other.writeKrb5Conf(t, other.Krb5Conf, other.Addr())
}

func (k *KDC) takePorts(t testing.TB) {
	t.Helper()
	k.Port = testenv.FreePort(t)
	if k.config.kpasswd {
		k.kpasswdPort, k.adminPort = testenv.FreePort(t), testenv.FreePort(t)
	}
	k.writeKDCConf(t)
	k.writeKrb5Conf(t, k.Krb5Conf, k.Addr())
}

// Addr is the KDC's address, host:port.
func (k *KDC) Addr() string { return loopback(k.Port) }

// Start starts a stopped KDC on the ports it had before. It returns once they
// are open.
func (k *KDC) Start(t testing.TB) {
	t.Helper()
	if err := k.start(t); err != nil {
		t.Fatal(err)
	}
}

func (k *KDC) start(t testing.TB) (err error) {
	t.Helper()
	k.kdc, err = k.startDaemon(t, "krb5kdc", "-n", "-P", filepath.Join(k.Dir, "kdc.pid"))
	if err == nil && k.config.kpasswd {
		k.kadmind, err = k.startDaemon(t, "kadmind", "-nofork", "-P", filepath.Join(k.Dir, "kadmind.pid"))
	}
	if err != nil {
		k.Stop()
	}
	return err
}

// Stop ends the KDC, so that its ports are closed. It may be called twice.
func (k *KDC) Stop() {
	k.kdc.stop()
	k.kadmind.stop()
	k.kdc, k.kadmind = nil, nil
}

// Pause makes the KDC silent: its ports stay open and nothing is answered until
// Resume, which lets it answer what came in between.
func (k *KDC) Pause(t testing.TB) {
	t.Helper()
	if err := k.kdc.pause(); err != nil {
		t.Fatal(err)
	}
}

// Resume ends Pause. It may be called without it.
func (k *KDC) Resume(t testing.TB) {
	t.Helper()
	if err := k.kdc.resume(); err != nil {
		t.Fatal(err)
	}
}

// ExpirePassword makes the user expired anew: the password is Password again,
// and has expired.
func (k *KDC) ExpirePassword(t testing.TB) {
	t.Helper()
	k.kadmin(t, "delprinc -force expired\n"+k.addExpired())
}

func (k *KDC) addExpired() string {
	return "addprinc -pw " + k.Password + " -policy users -pwexpire yesterday +requires_preauth expired"
}

// Attempts is the number of times that a password, or what stands in for one,
// was wrong at this KDC.
func (k *KDC) Attempts(t testing.TB) int {
	t.Helper()
	return strings.Count(k.log(t), ": PREAUTH_FAILED: ")
}

// Requests is the number of requests that this KDC has answered.
func (k *KDC) Requests(t testing.TB) int {
	t.Helper()
	log := k.log(t)
	return strings.Count(log, ": AS_REQ (") + strings.Count(log, ": TGS_REQ (")
}

func (k *KDC) log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(k.Dir, "kdc.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Env is the environment of a client of this realm: the caller's own without
// any KRB5 variable, then KRB5_CONFIG, then extra.
func (k *KDC) Env(extra ...string) []string {
	return append(append(cleanEnv(), "KRB5_CONFIG="+k.Krb5Conf), extra...)
}

// Kinit signs principal in with its password and stores the ticket in the
// cache named cacheName ("" is the library's default). Args are kinit's own,
// such as "-l", "30s".
func (k *KDC) Kinit(t testing.TB, principal, cacheName string, args ...string) {
	t.Helper()
	if out, err := k.Run(cacheName, k.Password+"\n", "kinit", append(args, principal)...); err != nil {
		t.Fatalf("kinit %s: %v\n%s", principal, err, out)
	}
}

// Run runs a client program (kdestroy, kvno, klist, …) of this realm on the
// cache named cacheName and returns all it printed.
func (k *KDC) Run(cacheName, stdin, program string, args ...string) (string, error) {
	return k.RunEnv(nil, cacheName, stdin, program, args...)
}

// RunEnv is Run with more environment, such as libfaketime's.
func (k *KDC) RunEnv(env []string, cacheName, stdin, program string, args ...string) (string, error) {
	cmd := exec.Command(program, args...)
	cmd.Env = k.Env(env...)
	if cacheName != "" {
		cmd.Env = append(cmd.Env, "KRB5CCNAME="+cacheName)
	}
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// ConfFor writes another krb5.conf of this realm, whose KDC is at addr, and
// returns its path: a client that uses it sees the KDC being down or hanging
// while others still reach the real one.
func (k *KDC) ConfFor(t testing.TB, addr string) string {
	t.Helper()
	path := filepath.Join(k.Dir, "krb5-"+strings.ReplaceAll(addr, ":", "-")+".conf")
	k.writeKrb5Conf(t, path, addr)
	return path
}

func (k *KDC) serverEnv() []string {
	return k.Env("KRB5_KDC_PROFILE=" + filepath.Join(k.Dir, "kdc.conf"))
}

func (k *KDC) tool(t testing.TB, stdin, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = k.serverEnv()
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", filepath.Base(program), err, out)
	}
	return string(out)
}

// cleanEnv is this process's environment without the KRB5 variables, which
// would let the machine's own Kerberos set-up leak into the test.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "KRB5") || strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG")
	})
}

// waitFor asks ok until it says yes or patience ends.
func waitFor(patience time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if ok() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}
