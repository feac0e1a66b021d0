package tickettest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"kerbpass/internal/testenv"
)

// KDC is a running MIT KDC with a realm of its own. Its principals are alice
// (renewable), shorty (tickets of one minute, renewable for ten), expired (the
// password has), locked (may not have tickets), and the services
// HTTP/localhost, HTTP/127.0.0.1 and HTTP/proxy.world.test.
type KDC struct {
	Realm      string
	Dir        string // everything the KDC owns; removed with the test
	Krb5Conf   string // a client's krb5.conf
	HTTPKeytab string // keys of the HTTP services
	UserKeytab string // key of alice
	Port       int    // TCP and UDP on 127.0.0.1
	Password   string // of every user

	libdefaults []string
	cmd         *exec.Cmd
}

// A KDCOption changes the realm that [StartKDC] makes.
type KDCOption func(*kdcConfig)

type kdcConfig struct {
	realm       string
	spns        []string
	libdefaults []string
}

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

// StartKDC makes a realm and starts its KDC; both are gone when t ends. It
// needs no privilege.
func StartKDC(t testing.TB, opts ...KDCOption) *KDC {
	t.Helper()
	kdb5, kadmin := testenv.Tool(t, "kdb5_util"), testenv.Tool(t, "kadmin.local")
	testenv.Tool(t, "krb5kdc")
	testenv.Tool(t, "kinit")

	c := kdcConfig{realm: "WORLD.TEST", spns: []string{"HTTP/localhost", "HTTP/127.0.0.1", "HTTP/proxy.world.test"}}
	for _, o := range opts {
		o(&c)
	}
	dir := t.TempDir()
	k := &KDC{
		Realm: c.realm, Dir: dir, Password: "Correct-horse-7",
		Krb5Conf:    filepath.Join(dir, "krb5.conf"),
		HTTPKeytab:  filepath.Join(dir, "http.keytab"),
		UserKeytab:  filepath.Join(dir, "user.keytab"),
		libdefaults: c.libdefaults,
	}
	k.takePort(t)

	k.tool(t, "", kdb5, "-r", k.Realm, "create", "-s", "-W", "-P", "master-key-of-a-test")
	var script strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&script, format+"\n", args...) }
	line("modprinc -maxlife 10h -maxrenewlife 7d +allow_renewable krbtgt/%s", k.Realm)
	line("addprinc -pw %s -maxrenewlife 7d +requires_preauth alice", k.Password)
	line(`addprinc -pw %s -maxlife "1 minute" -maxrenewlife "10 minutes" +requires_preauth shorty`, k.Password)
	line("addprinc -pw %s -pwexpire yesterday +requires_preauth expired", k.Password)
	line("addprinc -pw %s -allow_tix locked", k.Password)
	line("ktadd -norandkey -k %s alice", k.UserKeytab)
	for _, spn := range c.spns {
		line("addprinc -randkey -maxrenewlife 7d %s", spn)
		line("ktadd -k %s %s", k.HTTPKeytab, spn)
	}
	out := k.tool(t, script.String(), kadmin, "-r", k.Realm)
	if n := strings.Count(out, "created."); n != 4+len(c.spns) {
		t.Fatalf("kadmin.local made %d principals, want %d:\n%s", n, 4+len(c.spns), out)
	}

	t.Cleanup(k.Stop)
	for range 3 { // a port that was free may be taken by now
		if k.start(t) == nil {
			return k
		}
		k.takePort(t)
	}
	k.Start(t)
	return k
}

func (k *KDC) takePort(t testing.TB) {
	t.Helper()
	k.Port = testenv.FreePort(t)
	k.writeKDCConf(t)
	k.writeKrb5Conf(t, k.Krb5Conf, k.Addr())
}

// Addr is the KDC's address, host:port.
func (k *KDC) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(k.Port)) }

// Start starts a stopped KDC on the port it had before. It returns once the
// port is open.
func (k *KDC) Start(t testing.TB) {
	t.Helper()
	if err := k.start(t); err != nil {
		t.Fatal(err)
	}
}

func (k *KDC) start(t testing.TB) error {
	t.Helper()
	path := filepath.Join(k.Dir, "kdc.out")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	k.cmd = exec.Command(testenv.Tool(t, "krb5kdc"), "-r", k.Realm, "-P", filepath.Join(k.Dir, "kdc.pid"), "-n")
	k.cmd.Env = k.serverEnv()
	k.cmd.Stdout, k.cmd.Stderr = log, log
	if err := k.cmd.Start(); err != nil {
		k.cmd = nil
		t.Fatal(err)
	}
	said := ""
	waitFor(10*time.Second, func() bool {
		b, _ := os.ReadFile(path)
		said = string(b)
		// An open port alone could be somebody else's.
		return strings.Contains(said, "starting...") || strings.Contains(said, "Error") || strings.Contains(said, "annot")
	})
	if strings.Contains(said, "starting...") {
		return nil
	}
	k.Stop()
	return fmt.Errorf("the KDC did not open %s: %s", k.Addr(), said)
}

// Stop ends the KDC, so that its port is closed. It may be called twice.
func (k *KDC) Stop() {
	if k.cmd == nil {
		return
	}
	k.cmd.Process.Signal(syscall.SIGTERM)
	stopped := time.AfterFunc(5*time.Second, func() { k.cmd.Process.Kill() })
	k.cmd.Wait()
	stopped.Stop()
	k.cmd = nil
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

func (k *KDC) writeKrb5Conf(t testing.TB, path, addr string) {
	t.Helper()
	// No DNS, no canonicalisation, TCP first: nothing but loopback is asked.
	text := fmt.Sprintf(`[libdefaults]
    default_realm = %[1]s
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    forwardable = true
    ticket_lifetime = 10h
    renew_lifetime = 7d
    default_ccache_name = FILE:%[2]s/cc
    udp_preference_limit = 1
    %[4]s
[realms]
    %[1]s = {
        kdc = %[3]s
    }
[domain_realm]
    .world.test = %[1]s
    world.test = %[1]s
    localhost = %[1]s
`, k.Realm, k.Dir, addr, strings.Join(k.libdefaults, "\n    "))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (k *KDC) writeKDCConf(t testing.TB) {
	t.Helper()
	text := fmt.Sprintf(`[kdcdefaults]
    kdc_listen = 127.0.0.1:%[3]d
    kdc_tcp_listen = 127.0.0.1:%[3]d
[realms]
    %[1]s = {
        database_name = %[2]s/principal
        key_stash_file = %[2]s/stash
        acl_file = %[2]s/kadm5.acl
        max_life = 10h
        max_renewable_life = 7d
        supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
        default_principal_flags = +renewable +forwardable
    }
[logging]
    kdc = FILE:%[2]s/kdc.log
`, k.Realm, k.Dir, k.Port)
	if err := os.WriteFile(filepath.Join(k.Dir, "kdc.conf"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
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
